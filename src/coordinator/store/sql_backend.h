/* What a back end of sql.h provides. Inside store/ only: sql.c, sqlite_db.c, postgres_db.c. */
#ifndef COORDINATOR_STORE_SQL_BACKEND_H
#define COORDINATOR_STORE_SQL_BACKEND_H

#include "coordinator/store/sql.h"

/* Both are the head of a back end's own struct. */
struct sql_stmt {
	struct sql *db;
	const char *text;
};

enum sql_bytes {
	SQL_BLOB,
	SQL_TEXT, /* a NUL byte follows */
	SQL_PART, /* of a longer text, perhaps */
};

struct sql_backend {
	struct sql_stmt *(*prepare)(struct sql *db, const char *text); /* NULL after noting a failure */
	void (*finalize)(struct sql_stmt *stmt);
	void (*put_i64)(struct sql_stmt *stmt, int at, int64_t value);
	void (*put_double)(struct sql_stmt *stmt, int at, double value);
	void (*put_null)(struct sql_stmt *stmt, int at);
	void (*put_bytes)(struct sql_stmt *stmt, int at, struct str bytes, enum sql_bytes kind);
	bool (*row)(struct sql_stmt *stmt);
	void (*post)(struct sql_stmt *stmt); /* NULL = run at once */
	void (*done)(struct sql_stmt *stmt);
	void (*stream)(struct sql_stmt *stmt); /* NULL = rows come one by one anyway */
	int64_t (*i64)(struct sql_stmt *stmt, int column);
	double (*real)(struct sql_stmt *stmt, int column);
	bool (*is_null)(struct sql_stmt *stmt, int column);
	struct str (*bytes)(struct sql_stmt *stmt, int column, bool is_blob);
	void (*exec)(struct sql *db, const char *text);
	void (*rollback)(struct sql *db);
	void (*close)(struct sql *db);
};

#endif
