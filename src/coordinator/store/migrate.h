/* Numbered forward migrations. Inside store/ only. Thread: the caller's; blocks.
 *
 * migrations/NNNN_name.sql, one file for both back ends, in the words of SQLite. For PostgreSQL INTEGER PRIMARY KEY becomes an
 * identity, INTEGER becomes BIGINT, REAL becomes DOUBLE PRECISION, BLOB becomes BYTEA, and STRICT and WITHOUT ROWID are left
 * out. What differs more stands between lines `-- only sqlite`, `-- only postgres` and `-- both`. Numbers may have gaps; what a
 * database has not seen yet is applied in the order of the numbers. A migration that was released is never changed. */
#ifndef COORDINATOR_STORE_MIGRATE_H
#define COORDINATOR_STORE_MIGRATE_H

#include <stddef.h>

#include "coordinator/store/sql.h"
#include "core/buf.h"

struct migration {
	int version; /* ascending */
	const char *name;
	const char *sql; /* statements; run inside one transaction together with the note in schema_version */
};

/* migrations/NNNN_name.sql, compiled in. */
extern const struct migration migrations[];
extern const size_t migrations_count;

/* The highest version noted in the database, 0 for an empty one. */
enum db_err schema_version(struct sql *db, int *version, struct error *error);
/* Applies what the database has not seen. One process at a time: others wait, and find it done. DB_E_UNSUPPORTED when the
 * database is newer than the list. */
enum db_err migrate(struct sql *db, const struct migration *list, size_t count, struct error *error);
/* At start: brings an empty database to the newest version, an older one only when it may. DB_E_UNSUPPORTED for every other. */
enum db_err migrate_or_check(struct sql *db, bool may_migrate, struct error *error);
/* DB_E_UNSUPPORTED unless the database has exactly this program's version. */
enum db_err schema_check(struct sql *db, struct error *error);

/* The statements of a migration for one back end, NUL-terminated. */
enum db_err migration_text(const char *text, enum sql_kind kind, struct buf *out);

#endif
