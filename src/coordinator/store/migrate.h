/* Numbered forward migrations of the SQLite file. Inside store/ only. Thread: the caller's; blocks. */
#ifndef COORDINATOR_STORE_MIGRATE_H
#define COORDINATOR_STORE_MIGRATE_H

#include <sqlite3.h>
#include <stddef.h>

#include "core/error.h"

struct migration {
	int version; /* 1, 2, 3... */
	const char *name;
	const char *sql; /* statements; run inside one transaction together with the note in schema_version */
};

/* migrations/NNNN_name.sql, compiled in. */
extern const struct migration migrations[];
extern const size_t migrations_count;

/* The highest version noted in the file, 0 for an empty one. */
enum db_err schema_version(sqlite3 *db, int *version, struct error *error);
/* Brings the file to the last migration of the list. DB_E_UNSUPPORTED when the file is newer than that. */
enum db_err migrate(sqlite3 *db, const struct migration *list, size_t count, struct error *error);

#endif
