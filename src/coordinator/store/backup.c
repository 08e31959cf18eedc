#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/store/backup_manifest.h"
#include "coordinator/store/migrate.h"
#include "coordinator/store/postgres_copy.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/sqlite_file.h"
#include "core/clock.h"

#define FILE_NAME "coordinator.db"

/* --- SQLite --- */

static enum db_err check_pages(struct sql *db, struct error *error)
{
	struct sql_stmt *stmt = sql_say(db, "PRAGMA integrity_check(1)");
	bool sound = sql_row(stmt) && str_is(sql_text(stmt, 0), "ok");
	sql_done(stmt);
	if (db->failed && error)
		*error = db->why;
	if (!db->failed && !sound)
		return error_set(error, DB_E_IO, "The database file is damaged. Restore it from a backup.");
	return db->failed;
}

/* One go: a read transaction of the source, beside which its coordinator goes on writing. */
static enum db_err copy_pages(struct sql *from, struct sql *to, struct error *error)
{
	sqlite3_backup *backup = sqlite3_backup_init(sqlite_handle(to), "main", sqlite_handle(from), "main");
	int rc = backup ? sqlite3_backup_step(backup, -1) : SQLITE_ERROR;
	if (backup)
		sqlite3_backup_finish(backup);
	if (rc == SQLITE_DONE)
		return DB_OK;
	enum db_err err = sqlite_error(sqlite_handle(to), error);
	return err ? err : DB_E_IO;
}

/* The file at `to` as a copy of the one at `from`, whole and synchronised. */
static enum db_err copy_file(const char *from, const char *to, struct error *error)
{
	struct sql *source = NULL, *copy = NULL;
	enum db_err err = sqlite_file_make(to, error);
	if (!err && !(source = sql_open(from, SQL_READ, error)))
		err = DB_E_IO;
	if (!err && !(copy = sql_open(to, SQL_WRITE, error)))
		err = DB_E_IO;
	if (!err)
		err = schema_check(source, error);
	if (!err)
		err = copy_pages(source, copy, error);
	if (!err)
		err = check_pages(copy, error);
	if (!err && !sql_exec(copy, "PRAGMA journal_mode=DELETE")) { /* one file, without a log beside it */
		*error = copy->why;
		err = copy->failed;
	}
	sql_close(copy);
	sql_close(source);
	return err;
}

static enum db_err make_of_file(struct manifest *manifest, const char *place, const char *folder, struct error *error)
{
	char path[MANIFEST_PATH_SIZE];
	struct store_audit audit;
	enum db_err err = backup_manifest_path(folder, FILE_NAME, path, error);
	if (!err)
		err = copy_file(place, path, error);
	if (!err)
		err = store_audit(path, &audit, error);
	if (!err && !store_audit_clean(&audit))
		err =
		    error_set(error, DB_E_INTERNAL, "The books of the copy do not add up: see `darkbloom-coordinator ledger verify`.");
	return err ? err : backup_manifest_add(manifest, folder, FILE_NAME, error);
}

static enum db_err restore_file(const char *folder, const char *place, struct error *error)
{
	char from[MANIFEST_PATH_SIZE], part[MANIFEST_PATH_SIZE];
	enum db_err err = backup_manifest_path(folder, FILE_NAME, from, error);
	int len = snprintf(part, sizeof part, "%s.restored", place);
	if (!err && (len < 0 || (size_t)len >= sizeof part))
		err = error_set(error, DB_E_LIMIT, "The path of the database is too long.");
	if (err)
		return err;
	if (access(place, F_OK) == 0)
		return error_set(error, DB_E_EXISTS,
		                 "The database %s exists: move it away first. A backup is restored to nothing else.", place);
	int lock = sqlite_file_lock(place, error);
	if (lock < 0)
		return DB_E_EXISTS;
	(void)unlink(part);
	err = copy_file(from, part, error);
	if (!err && rename(part, place) != 0)
		err = error_set(error, DB_E_IO, "%s cannot be made: %s.", place, strerror(errno));
	if (err)
		(void)unlink(part);
	close(lock);
	return err;
}

/* --- either --- */

static enum db_err make_folder(const char *folder, struct error *error)
{
	if (mkdir(folder, 0700) == 0)
		return DB_OK;
	if (errno != EEXIST)
		return error_set(error, DB_E_IO, "The folder %s cannot be made: %s.", folder, strerror(errno));
	if (rmdir(folder) == 0 && mkdir(folder, 0700) == 0)
		return DB_OK;
	return error_set(error, DB_E_EXISTS, "The folder %s is not empty: a backup gets a folder of its own.", folder);
}

static void tell(const struct manifest *manifest, struct store_backup *out)
{
	*out = (struct store_backup){.files = manifest->count, .schema_version = manifest->schema_version};
	for (size_t i = 0; i < manifest->count; i++)
		out->bytes += manifest->files[i].bytes;
}

enum db_err store_backup_make(const char *place, const char *folder, struct store_backup *out, struct error *error)
{
	struct manifest *manifest = calloc(1, sizeof *manifest);
	if (!manifest)
		return error_set(error, DB_E_NOMEM, "There is no memory for a backup.");
	manifest->is_postgres = sql_is_postgres(place);
	manifest->created_us = clock_wall_us();
	manifest->schema_version = migrations[migrations_count - 1].version;
	enum db_err err = make_folder(folder, error);
	if (!err && manifest->is_postgres)
		err = postgres_tables_out(manifest, place, folder, error);
	else if (!err)
		err = make_of_file(manifest, place, folder, error);
	if (!err)
		err = backup_manifest_write(manifest, folder, error);
	if (!err)
		tell(manifest, out);
	free(manifest);
	return err;
}

static enum db_err check_kind(const struct manifest *manifest, const char *place, struct error *error)
{
	int newest = migrations[migrations_count - 1].version;
	if (manifest->is_postgres != sql_is_postgres(place))
		return error_set(error, DB_E_UNSUPPORTED, "This backup is one of %s, and is restored to that only.",
		                 manifest->is_postgres ? "PostgreSQL" : "SQLite");
	if (manifest->schema_version != newest)
		return error_set(error, DB_E_UNSUPPORTED,
		                 "The backup has schema version %d and this program has %d: restore it with the program that made it, "
		                 "then migrate.",
		                 manifest->schema_version, newest);
	return DB_OK;
}

enum db_err store_backup_restore(const char *folder, const char *place, struct store_backup *out, struct error *error)
{
	struct store_audit audit;
	struct manifest *manifest = calloc(1, sizeof *manifest);
	if (!manifest)
		return error_set(error, DB_E_NOMEM, "There is no memory for a backup.");
	enum db_err err = backup_manifest_read(manifest, folder, error);
	if (!err)
		err = check_kind(manifest, place, error);
	if (!err)
		err = backup_manifest_check(manifest, folder, error);
	if (!err)
		err = manifest->is_postgres ? postgres_tables_in(manifest, folder, place, error) : restore_file(folder, place, error);
	if (!err)
		err = store_audit(place, &audit, error);
	if (!err && !store_audit_clean(&audit))
		err = error_set(error, DB_E_INTERNAL, "The restored books do not add up: see `darkbloom-coordinator ledger verify`.");
	if (!err)
		tell(manifest, out);
	free(manifest);
	return err;
}
