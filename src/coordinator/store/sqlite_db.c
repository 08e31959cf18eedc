#include "coordinator/store/sqlite_db.h"

#include <pthread.h>
#include <stdlib.h>

struct sqlite_other {
	struct sqlite_other *next;
	const char *sql;
	sqlite3_stmt *stmt;
};

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

static enum db_err set_up(struct sqlite_db *db, enum sqlite_mode mode, struct error *error)
{
	/* Checkpoints are made at quiet moments (sqlite_writer_checkpoint), never inside a commit. The cache is small because
	 * SQLite looks through all of it after a commit that split a page. */
	static const char write_settings[] = "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
	                                     "PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192;"
	                                     "PRAGMA wal_autocheckpoint=0;";
	static const char read_settings[] = "PRAGMA query_only=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192;";

	sqlite3_busy_timeout(db->handle, 5000);
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DQS_DML, 0, (int *)NULL);
	if (sqlite3_exec(db->handle, mode == SQLITE_DB_WRITE ? write_settings : read_settings, NULL, NULL, NULL) != SQLITE_OK)
		return sqlite_error(db->handle, error);
	return DB_OK;
}

/* Counting memory takes a lock at every allocation, and nobody reads the counts. */
static void configure_library(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

enum db_err sqlite_db_open(struct sqlite_db *db, const char *path, enum sqlite_mode mode, struct error *error)
{
	int flags = SQLITE_OPEN_NOMUTEX | (mode == SQLITE_DB_WRITE ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	enum db_err err;

	pthread_once(&once, configure_library);
	*db = (struct sqlite_db){0};
	int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
	err = rc == SQLITE_OK ? set_up(db, mode, error) : sqlite_error(db->handle, error);
	if (err)
		sqlite_db_close(db);
	return err;
}

void sqlite_db_statements(struct sqlite_db *db, const char *const *sql, int count)
{
	db->sql = sql;
	db->kept = calloc((size_t)count, sizeof *db->kept);
	db->count = db->kept ? count : 0;
}

void sqlite_db_close(struct sqlite_db *db)
{
	for (int i = 0; i < db->count; i++)
		sqlite3_finalize(db->kept[i]);
	while (db->others) {
		struct sqlite_other *other = db->others;
		db->others = other->next;
		sqlite3_finalize(other->stmt);
		free(other);
	}
	free(db->kept);
	sqlite3_close(db->handle);
	db->handle = NULL;
	db->kept = NULL;
	db->count = 0;
}

void sqlite_db_clear(struct sqlite_db *db)
{
	db->failed = DB_OK;
}

static void fail(struct sqlite_db *db)
{
	if (!db->failed)
		db->failed = sqlite_error(db->handle, &db->why);
}

sqlite3_stmt *sqlite_use(struct sqlite_db *db, int statement)
{
	if (db->failed)
		return NULL;
	if (statement >= db->count) {
		db->failed = error_set(&db->why, DB_E_IO, "The database ran out of memory.");
		return NULL;
	}
	sqlite3_stmt **kept = &db->kept[statement];
	if (!*kept && sqlite3_prepare_v3(db->handle, db->sql[statement], -1, SQLITE_PREPARE_PERSISTENT, kept, NULL) != SQLITE_OK) {
		fail(db);
		return NULL;
	}
	return *kept;
}

sqlite3_stmt *sqlite_say(struct sqlite_db *db, const char *sql)
{
	struct sqlite_other *other = db->others;
	if (db->failed)
		return NULL;
	while (other && other->sql != sql)
		other = other->next;
	if (other)
		return other->stmt;
	other = calloc(1, sizeof *other);
	if (!other) {
		db->failed = error_set(&db->why, DB_E_IO, "The database ran out of memory.");
		return NULL;
	}
	if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &other->stmt, NULL) != SQLITE_OK) {
		fail(db);
		free(other);
		return NULL;
	}
	*other = (struct sqlite_other){.next = db->others, .sql = sql, .stmt = other->stmt};
	db->others = other;
	return other->stmt;
}

void sqlite_i64(sqlite3_stmt *stmt, int at, int64_t value)
{
	if (stmt)
		sqlite3_bind_int64(stmt, at, value);
}

void sqlite_double(sqlite3_stmt *stmt, int at, double value)
{
	if (stmt)
		sqlite3_bind_double(stmt, at, value);
}

void sqlite_null(sqlite3_stmt *stmt, int at)
{
	if (stmt)
		sqlite3_bind_null(stmt, at);
}

void sqlite_text(sqlite3_stmt *stmt, int at, const char *text)
{
	if (stmt)
		sqlite3_bind_text(stmt, at, text, (int)strlen(text), SQLITE_STATIC);
}

bool sqlite_row(struct sqlite_db *db, sqlite3_stmt *stmt)
{
	if (!stmt)
		return false;
	int rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		return true;
	if (rc != SQLITE_DONE)
		fail(db);
	sqlite3_reset(stmt);
	return false;
}

bool sqlite_run(struct sqlite_db *db, sqlite3_stmt *stmt)
{
	while (sqlite_row(db, stmt))
		;
	return !db->failed;
}

void sqlite_done(sqlite3_stmt *stmt)
{
	sqlite3_reset(stmt);
}

bool sqlite_exec(struct sqlite_db *db, const char *sql)
{
	if (!db->failed && sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail(db);
	return !db->failed;
}

void sqlite_copy(sqlite3_stmt *stmt, int column, char *out, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);
	size_t len = text ? (size_t)sqlite3_column_bytes(stmt, column) : 0;
	if (len >= size)
		len = size - 1;
	if (len)
		memcpy(out, text, len);
	out[len] = '\0';
}
