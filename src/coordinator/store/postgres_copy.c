#include "coordinator/store/postgres_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "coordinator/store/migrate.h"
#include "coordinator/store/postgres_db.h"

#define NAME_SIZE 64
#define SUFFIX    ".copy"

/* Ours are made in the order in which they refer to each other. */
#define TABLES "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY oid"

struct table_names {
	char names[MANIFEST_FILES_MAX][NAME_SIZE];
	size_t count;
};

static enum db_err said(const struct sql *db, struct error *error)
{
	if (db->failed && error)
		*error = db->why;
	return db->failed;
}

static void list_tables(struct sql *db, struct table_names *tables)
{
	struct sql_stmt *stmt = sql_say(db, TABLES);
	tables->count = 0;
	while (tables->count < MANIFEST_FILES_MAX && sql_row(stmt))
		sql_copy(stmt, 0, tables->names[tables->count++], NAME_SIZE);
	sql_done(stmt);
}

static FILE *open_file(const char *folder, const char *name, const char *mode, struct error *error)
{
	char path[MANIFEST_PATH_SIZE];
	if (backup_manifest_path(folder, name, path, error))
		return NULL;
	bool writes = mode[0] == 'w';
	int fd = open(path, writes ? O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0600);
	FILE *file = fd >= 0 ? fdopen(fd, mode) : NULL;
	if (!file)
		error_set(error, DB_E_IO, "%s cannot be %s: %s.", path, writes ? "made" : "read", strerror(errno));
	if (!file && fd >= 0)
		close(fd);
	return file;
}

static enum db_err table_out(struct sql *db, const char *table, struct manifest *manifest, const char *folder,
                             struct error *error)
{
	char name[NAME_SIZE + sizeof SUFFIX], statement[NAME_SIZE + 40];
	snprintf(name, sizeof name, "%s" SUFFIX, table);
	snprintf(statement, sizeof statement, "COPY \"%s\" TO STDOUT", table);
	FILE *file = open_file(folder, name, "w", error);
	if (!file)
		return DB_E_IO;
	postgres_copy_out(db, statement, file);
	enum db_err err = said(db, error);
	bool synchronised = fflush(file) == 0 && fsync(fileno(file)) == 0;
	if ((fclose(file) != 0 || !synchronised) && !err)
		err = error_set(error, DB_E_IO, "The backup's file %s cannot be written: %s.", name, strerror(errno));
	return err ? err : backup_manifest_add(manifest, folder, name, error);
}

enum db_err postgres_tables_out(struct manifest *manifest, const char *address, const char *folder, struct error *error)
{
	struct table_names tables;
	struct sql *db = postgres_db_open(address, SQL_READ, error);
	if (!db)
		return DB_E_IO;
	enum db_err err = schema_check(db, error);
	if (!err) {
		postgres_db_statement_limit(db, 0);
		sql_exec(db, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
		list_tables(db, &tables);
		err = said(db, error);
	}
	for (size_t i = 0; !err && i < tables.count; i++)
		err = table_out(db, tables.names[i], manifest, folder, error);
	sql_close(db);
	return err;
}

/* --- back --- */

/* Append-only tables refuse to be emptied, and migrations put rows of their own into some. */
static void empty_tables(struct sql *db)
{
	sql_exec(db, "DO $$ DECLARE t record; BEGIN FOR t IN " TABLES " LOOP"
	             " EXECUTE format('ALTER TABLE %I DISABLE TRIGGER USER', t.relname);"
	             " EXECUTE format('TRUNCATE %I CASCADE', t.relname); END LOOP; END $$");
}

/* The triggers again, and numbers that go on behind those that were copied. */
static void finish_tables(struct sql *db)
{
	sql_exec(db, "DO $$ DECLARE t record; top bigint; BEGIN FOR t IN " TABLES " LOOP"
	             " EXECUTE format('ALTER TABLE %I ENABLE TRIGGER USER', t.relname); END LOOP;"
	             " FOR t IN SELECT table_name, column_name FROM information_schema.columns"
	             " WHERE table_schema = current_schema() AND is_identity = 'YES' LOOP"
	             " EXECUTE format('SELECT coalesce(max(%I), 0) FROM %I', t.column_name, t.table_name) INTO top;"
	             " PERFORM setval(pg_get_serial_sequence(quote_ident(t.table_name), t.column_name), top + 1, false);"
	             " END LOOP; END $$");
}

static enum db_err table_in(struct sql *db, const char *name, const char *folder, struct error *error)
{
	char statement[120];
	struct str table = str_of(name);
	if (!str_ends(table, STR(SUFFIX)) || memchr(name, '"', table.len))
		return error_set(error, DB_E_INVALID, "The backup's manifest is damaged.");
	table.len -= sizeof SUFFIX - 1;
	snprintf(statement, sizeof statement, "COPY \"%.*s\" FROM STDIN", STR_ARG(table));
	FILE *file = open_file(folder, name, "r", error);
	if (!file)
		return DB_E_IO;
	postgres_copy_in(db, statement, file);
	fclose(file);
	return said(db, error);
}

enum db_err postgres_tables_in(const struct manifest *manifest, const char *folder, const char *address, struct error *error)
{
	int version;
	struct sql *db = postgres_db_open(address, SQL_WRITE, error);
	if (!db)
		return DB_E_IO;
	enum db_err err = schema_version(db, &version, error);
	if (!err && version > 0)
		err = error_set(error, DB_E_EXISTS, "The database has tables already: a backup is restored to an empty one only.");
	if (!err)
		err = migrate(db, migrations, migrations_count, error);
	if (!err) {
		postgres_db_statement_limit(db, 0);
		sql_exec(db, "BEGIN");
		empty_tables(db);
		err = said(db, error);
	}
	for (size_t i = 0; !err && i < manifest->count; i++)
		err = table_in(db, manifest->files[i].name, folder, error);
	if (!err) {
		finish_tables(db);
		sql_exec(db, "COMMIT");
		err = said(db, error);
	}
	sql_close(db);
	return err;
}
