#include "coordinator/store/migrate.h"

#include <unistd.h>

#include "coordinator/store/postgres_db.h"
#include "coordinator/store/sqlite_file.h"
#include "coordinator/store/store.h"
#include "core/clock.h"
#include "core/log.h"

#define TEXT_MAX (1u << 20)

static enum db_err said(const struct sql *db, struct error *error)
{
	if (db->failed && error)
		*error = db->why;
	return db->failed;
}

static bool has_versions(struct sql *db)
{
	return sql_number(sql_say(db, db->kind == SQL_SQLITE ? "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'"
	                                                     : "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
	                                                       " AND tablename = 'schema_version'")) > 0;
}

enum db_err schema_version(struct sql *db, int *version, struct error *error)
{
	*version = 0;
	sql_clear(db);
	if (has_versions(db))
		*version = (int)sql_number(sql_say(db, "SELECT coalesce(max(version), 0) FROM schema_version"));
	return said(db, error);
}

static int newest_of(const struct migration *list, size_t count)
{
	return count ? list[count - 1].version : 0;
}

static enum db_err refuse_newer(int version, int newest, struct error *error)
{
	return error_set(error, DB_E_UNSUPPORTED,
	                 "The database has schema version %d, but this program knows only up to %d: start the newer program "
	                 "that wrote it, or restore a backup made before the upgrade.",
	                 version, newest);
}

/* --- one migration --- */

struct application {
	const struct migration *migration;
	const char *text;
	bool applied; /* by this process */
};

static bool is_applied(struct sql *db, int version)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT 1 FROM schema_version WHERE version = ?");
	sql_put_i64(stmt, 1, version);
	return sql_exists(stmt);
}

/* SQLite's transaction has the only write lock; PostgreSQL's takes this one. */
static void lock_schema(struct sql *db)
{
	if (db->kind == SQL_POSTGRES)
		sql_exec(db, "SELECT pg_advisory_xact_lock(7306081423)");
}

static void make_versions(struct sql *db, void *user)
{
	(void)user;
	lock_schema(db);
	if (db->kind == SQL_SQLITE)
		sql_exec(db, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL,"
		             " applied_us INTEGER NOT NULL) STRICT");
	else
		sql_exec(db, "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, name TEXT NOT NULL,"
		             " applied_us BIGINT NOT NULL)");
}

static void apply(struct sql *db, void *user)
{
	struct application *application = user;
	lock_schema(db);
	application->applied = !is_applied(db, application->migration->version);
	if (!application->applied)
		return;
	sql_exec(db, application->text);
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO schema_version (version, name, applied_us) VALUES (?, ?, ?)");
	sql_put_i64(stmt, 1, application->migration->version);
	sql_put_text(stmt, 2, application->migration->name);
	sql_put_i64(stmt, 3, clock_wall_us());
	sql_run(stmt);
}

static enum db_err apply_one(struct sql *db, const struct migration *migration, struct error *error)
{
	struct buf text;
	buf_init(&text, TEXT_MAX);
	enum db_err err = migration_text(migration->sql, db->kind, &text);
	if (err) {
		error_set(error, err, "There is no memory to migrate the database.");
	} else {
		struct application application = {migration, (const char *)text.at, false};
		sql_atomically(db, apply, &application);
		err = said(db, error);
		if (!err && application.applied)
			log_info("store.migrated", "version=%d name=%s", migration->version, migration->name);
	}
	buf_free(&text);
	return err;
}

/* --- all of them --- */

enum db_err migrate(struct sql *db, const struct migration *list, size_t count, struct error *error)
{
	int newest = newest_of(list, count), version;
	enum db_err err = schema_version(db, &version, error);
	if (err)
		return err;
	if (version > newest)
		return refuse_newer(version, newest, error);
	sql_atomically(db, make_versions, NULL);
	err = said(db, error);
	for (size_t i = 0; i < count && !err; i++)
		if (!is_applied(db, list[i].version))
			err = apply_one(db, &list[i], error);
	return err ? err : said(db, error);
}

static bool all_applied(struct sql *db)
{
	bool all = true;
	for (size_t i = 0; i < migrations_count && all; i++)
		all = is_applied(db, migrations[i].version);
	return all;
}

enum db_err schema_check(struct sql *db, struct error *error)
{
	int newest = newest_of(migrations, migrations_count), version;
	enum db_err err = schema_version(db, &version, error);
	if (err)
		return err;
	if (version > newest)
		return refuse_newer(version, newest, error);
	if (version > 0 && all_applied(db))
		return DB_OK;
	if (db->failed)
		return said(db, error);
	return error_set(error, DB_E_UNSUPPORTED,
	                 "The database has schema version %d and this program needs %d: make a backup, then run "
	                 "`darkbloom-coordinator migrate`.",
	                 version, newest);
}

enum db_err migrate_or_check(struct sql *db, bool may_migrate, struct error *error)
{
	int version;
	enum db_err err = schema_version(db, &version, error);
	if (!err && (version == 0 || may_migrate))
		return migrate(db, migrations, migrations_count, error);
	return err ? err : schema_check(db, error);
}

enum db_err store_migrate(const char *place, int *from, int *to, struct error *error)
{
	bool is_file = !sql_is_postgres(place);
	int lock = is_file ? sqlite_file_lock(place, error) : -1;
	if (is_file && (lock < 0 || sqlite_file_make(place, error))) {
		if (lock >= 0)
			close(lock);
		return DB_E_IO;
	}
	struct sql *db = sql_open(place, SQL_WRITE, error);
	if (db && !is_file)
		postgres_db_statement_limit(db, 0); /* a migration may take its time, and wait for another's */
	enum db_err err = db ? schema_version(db, from, error) : DB_E_IO;
	if (!err)
		err = migrate(db, migrations, migrations_count, error);
	if (!err)
		err = schema_version(db, to, error);
	sql_close(db);
	if (lock >= 0)
		close(lock);
	return err;
}
