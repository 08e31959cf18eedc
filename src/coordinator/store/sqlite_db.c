#include "coordinator/store/sqlite_db.h"

#include <pthread.h>
#include <stdlib.h>

#include "coordinator/store/sql_backend.h"

struct sqlite_db {
	struct sql sql;
	sqlite3 *handle;
};

struct sqlite_stmt {
	struct sql_stmt head;
	sqlite3_stmt *stmt;
};

static sqlite3_stmt *inner(struct sql_stmt *stmt)
{
	return ((struct sqlite_stmt *)stmt)->stmt;
}

sqlite3 *sqlite_handle(struct sql *db)
{
	return ((struct sqlite_db *)db)->handle;
}

enum db_err sqlite_error(sqlite3 *db, struct error *error)
{
	int code = db ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM;
	const char *text = db ? sqlite3_errmsg(db) : "out of memory";
	switch (code) {
	case SQLITE_FULL:
		return error_set(error, DB_E_IO, "The database cannot grow: its disk is full. Free space and restart the coordinator.");
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return error_set(error, DB_E_IO, "The database file is damaged (%s). Restore it from a backup.", text);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN:
		return error_set(error, DB_E_IO,
		                 "The database file cannot be opened for writing (%s). Check that its folder exists and belongs to "
		                 "the user the coordinator runs as.",
		                 text);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return error_set(error, DB_E_IO, "The database is locked by another program (%s). Close that program.", text);
	case SQLITE_IOERR:
		return error_set(error, DB_E_IO, "The disk failed under the database (%s). Check the disk, then restart.", text);
	case SQLITE_NOMEM:
		return error_set(error, DB_E_IO, "The database ran out of memory.");
	default:
		return error_set(error, DB_E_INTERNAL, "The database refused a statement: %s.", text);
	}
}

static void fail(struct sql *db)
{
	if (!db->failed)
		db->failed = sqlite_error(sqlite_handle(db), &db->why);
}

/* --- statements --- */

static struct sql_stmt *prepare(struct sql *db, const char *text)
{
	struct sqlite_stmt *stmt = calloc(1, sizeof *stmt);
	if (!stmt) {
		sql_fail(db, DB_E_IO, "The database ran out of memory.");
		return NULL;
	}
	stmt->head = (struct sql_stmt){db, text};
	if (sqlite3_prepare_v3(sqlite_handle(db), text, -1, SQLITE_PREPARE_PERSISTENT, &stmt->stmt, NULL) != SQLITE_OK) {
		fail(db);
		free(stmt);
		return NULL;
	}
	return &stmt->head;
}

static void finalize(struct sql_stmt *stmt)
{
	sqlite3_finalize(inner(stmt));
	free(stmt);
}

static void put_i64(struct sql_stmt *stmt, int at, int64_t value)
{
	sqlite3_bind_int64(inner(stmt), at, value);
}

static void put_double(struct sql_stmt *stmt, int at, double value)
{
	sqlite3_bind_double(inner(stmt), at, value);
}

static void put_null(struct sql_stmt *stmt, int at)
{
	sqlite3_bind_null(inner(stmt), at);
}

static void put_bytes(struct sql_stmt *stmt, int at, struct str bytes, enum sql_bytes kind)
{
	const char *start = bytes.len ? bytes.at : "";
	if (kind == SQL_BLOB)
		sqlite3_bind_blob64(inner(stmt), at, start, bytes.len, SQLITE_STATIC);
	else
		sqlite3_bind_text64(inner(stmt), at, start, bytes.len, SQLITE_STATIC, SQLITE_UTF8);
}

static bool row(struct sql_stmt *stmt)
{
	int rc = sqlite3_step(inner(stmt));
	if (rc == SQLITE_ROW)
		return true;
	if (rc == SQLITE_DONE)
		stmt->db->changes = sqlite3_changes(sqlite_handle(stmt->db));
	else
		fail(stmt->db);
	sqlite3_reset(inner(stmt));
	return false;
}

static void done(struct sql_stmt *stmt)
{
	sqlite3_reset(inner(stmt));
}

static int64_t column_i64(struct sql_stmt *stmt, int column)
{
	return sqlite3_column_int64(inner(stmt), column);
}

static double column_double(struct sql_stmt *stmt, int column)
{
	return sqlite3_column_double(inner(stmt), column);
}

static bool column_is_null(struct sql_stmt *stmt, int column)
{
	return sqlite3_column_type(inner(stmt), column) == SQLITE_NULL;
}

static struct str column_bytes(struct sql_stmt *stmt, int column, bool is_blob)
{
	sqlite3_stmt *in = inner(stmt);
	const char *at = is_blob ? sqlite3_column_blob(in, column) : (const char *)sqlite3_column_text(in, column);
	return (struct str){at ? at : "", at ? (size_t)sqlite3_column_bytes(in, column) : 0};
}

static void exec(struct sql *db, const char *text)
{
	if (sqlite3_exec(sqlite_handle(db), text, NULL, NULL, NULL) != SQLITE_OK)
		fail(db);
}

static void rollback(struct sql *db)
{
	if (!sqlite3_get_autocommit(sqlite_handle(db)))
		sqlite3_exec(sqlite_handle(db), "ROLLBACK", NULL, NULL, NULL);
}

static void close_db(struct sql *db)
{
	sqlite3_close(sqlite_handle(db));
	free(db);
}

static const struct sql_backend sqlite_backend = {
    .prepare = prepare,
    .finalize = finalize,
    .put_i64 = put_i64,
    .put_double = put_double,
    .put_null = put_null,
    .put_bytes = put_bytes,
    .row = row,
    .done = done,
    .i64 = column_i64,
    .real = column_double,
    .is_null = column_is_null,
    .bytes = column_bytes,
    .exec = exec,
    .rollback = rollback,
    .close = close_db,
};

/* --- opening --- */

static enum db_err set_up(sqlite3 *handle, enum sql_mode mode, struct error *error)
{
	/* The write-ahead log is moved into the file at quiet moments (sqlite_file.h), never inside a commit. The cache is small
	 * because SQLite looks through all of it after a commit that split a page. A log that had to grow beside a long reader,
	 * such as a backup, gives its room back (128 MB, more than it takes else) when it is begun anew. */
	static const char write_settings[] = "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
	                                     "PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192;"
	                                     "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=134217728;";
	static const char read_settings[] = "PRAGMA query_only=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192;";

	sqlite3_busy_timeout(handle, 5000);
	sqlite3_extended_result_codes(handle, 1);
	sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DML, 0, (int *)NULL);
	if (sqlite3_exec(handle, mode == SQL_WRITE ? write_settings : read_settings, NULL, NULL, NULL) != SQLITE_OK)
		return sqlite_error(handle, error);
	return DB_OK;
}

/* Counting memory takes a lock at every allocation, and nobody reads the counts. */
static void configure_library(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

struct sql *sqlite_db_open(const char *path, enum sql_mode mode, struct error *error)
{
	int flags = SQLITE_OPEN_NOMUTEX | (mode == SQL_WRITE ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sqlite_db *db = calloc(1, sizeof *db);

	pthread_once(&once, configure_library);
	if (!db) {
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	db->sql.backend = &sqlite_backend;
	db->sql.kind = SQL_SQLITE;
	int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
	enum db_err err = rc == SQLITE_OK ? set_up(db->handle, mode, error) : sqlite_error(db->handle, error);
	if (!err)
		return &db->sql;
	sql_close(&db->sql);
	return NULL;
}
