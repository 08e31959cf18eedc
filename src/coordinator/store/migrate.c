#include "coordinator/store/migrate.h"

#include "coordinator/store/sqlite_db.h"
#include "core/clock.h"
#include "core/log.h"

static enum db_err run(sqlite3 *db, const char *sql, struct error *error)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return DB_OK;
	return sqlite_error(db, error);
}

enum db_err schema_version(sqlite3 *db, int *version, struct error *error)
{
	sqlite3_stmt *stmt = NULL;
	enum db_err err = DB_OK;
	*version = 0;
	if (sqlite3_table_column_metadata(db, "main", "schema_version", "version", NULL, NULL, NULL, NULL, NULL) != SQLITE_OK) {
		/* No such table, or not a database at all: only reading tells. */
		return run(db, "SELECT count(*) FROM sqlite_schema", error);
	}
	if (sqlite3_prepare_v2(db, "SELECT coalesce(max(version), 0) FROM schema_version", -1, &stmt, NULL) != SQLITE_OK ||
	    sqlite3_step(stmt) != SQLITE_ROW)
		err = sqlite_error(db, error);
	else
		*version = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return err;
}

static enum db_err note_version(sqlite3 *db, const struct migration *migration, struct error *error)
{
	sqlite3_stmt *stmt = NULL;
	enum db_err err = DB_OK;
	if (sqlite3_prepare_v2(db, "INSERT INTO schema_version (version, name, applied_us) VALUES (?, ?, ?)", -1, &stmt, NULL) !=
	        SQLITE_OK ||
	    sqlite3_bind_int(stmt, 1, migration->version) || sqlite3_bind_text(stmt, 2, migration->name, -1, SQLITE_STATIC) ||
	    sqlite3_bind_int64(stmt, 3, clock_wall_us()) || sqlite3_step(stmt) != SQLITE_DONE)
		err = sqlite_error(db, error);
	sqlite3_finalize(stmt);
	return err;
}

static enum db_err apply(sqlite3 *db, const struct migration *migration, struct error *error)
{
	enum db_err err = run(db, "BEGIN IMMEDIATE", error);
	if (err)
		return err;
	err = run(db, migration->sql, error);
	if (!err)
		err = note_version(db, migration, error);
	if (!err)
		err = run(db, "COMMIT", error);
	if (err && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	if (!err)
		log_info("store.migrated", "version=%d name=%s", migration->version, migration->name);
	return err;
}

enum db_err migrate(sqlite3 *db, const struct migration *list, size_t count, struct error *error)
{
	int newest = count ? list[count - 1].version : 0, version;
	enum db_err err = schema_version(db, &version, error);
	if (err)
		return err;
	if (version > newest)
		return error_set(error, DB_E_UNSUPPORTED,
		                 "The database has schema version %d, but this program knows only up to %d: start the newer program "
		                 "that wrote it, or restore a backup made before the upgrade.",
		                 version, newest);
	if (version == newest)
		return DB_OK;
	err = run(db,
	          "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL,"
	          " applied_us INTEGER NOT NULL) STRICT",
	          error);
	for (size_t i = 0; i < count && !err; i++)
		if (list[i].version > version)
			err = apply(db, &list[i], error);
	return err;
}
