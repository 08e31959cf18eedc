#include "coordinator/database.h"

#include "coordinator/serve.h"
#include "coordinator/store/store_backup.h"
#include "core/cli.h"
#include "core/id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

const char *database_place(const struct coordinator_config *config)
{
	return config->store_url[0] ? config->store_url : config->database;
}

struct store_options database_options(const struct coordinator_config *config)
{
	return (struct store_options){.path = database_place(config),
	                              .group_commit_us = (uint32_t)config->group_commit_us,
	                              .lost_after_us = config->store_lost_after_s * 1000000,
	                              .readers = (uint32_t)config->store_connections,
	                              .migrate = config->store_migrate};
}

/* --- the name --- */

static bool read_name(int fd, char out[STORE_ID_SIZE])
{
	ssize_t len = pread(fd, out, ID_UUID_SIZE - 1, 0);
	out[len > 0 ? len : 0] = '\0';
	return len == ID_UUID_SIZE - 1;
}

static bool write_name(int fd, char out[STORE_ID_SIZE])
{
	id_uuid4(out);
	return ftruncate(fd, 0) == 0 && pwrite(fd, out, ID_UUID_SIZE - 1, 0) == ID_UUID_SIZE - 1 && fsync(fd) == 0;
}

enum db_err database_name(const struct coordinator_config *config, char out[STORE_ID_SIZE], struct error *error)
{
	char path[4096];
	out[0] = '\0';
	if (!config->store_url[0])
		return DB_OK; /* the file has a lock of its own, and nobody to share it with */
	int len = snprintf(path, sizeof path, "%s/instance", config->dir);
	if (len < 0 || (size_t)len >= sizeof path)
		return error_set(error, DB_E_INVALID, "The path of the data folder is too long.");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* stays open: the lock ends with the process */
	if (fd < 0)
		return error_set(error, DB_E_IO, "%s cannot be made: %s. Check the data folder.", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		return error_set(error, DB_E_EXISTS,
		                 "Another coordinator runs with the data folder %s. Stop that one first, or give this one its own.",
		                 config->dir);
	}
	if (!read_name(fd, out) && !write_name(fd, out))
		return error_set(error, DB_E_IO, "%s cannot be written: %s.", path, strerror(errno));
	return DB_OK;
}

/* --- commands --- */

static int refuse(const struct error *error)
{
	fprintf(stderr, "darkbloom-coordinator: %s\n", error->text);
	return CLI_FAILED;
}

int database_migrate(const struct coordinator_config *config)
{
	struct error error;
	int from, to;
	if (serve_make_dir(config->dir, &error) || store_migrate(database_place(config), &from, &to, &error))
		return refuse(&error);
	if (from == to)
		printf("The database has the schema of this program: version %d.\n", to);
	else
		printf("The database was brought from schema version %d to %d.\n", from, to);
	return CLI_OK;
}

static void tell(const char *what, const struct store_backup *backup)
{
	printf("%s: %zu file%s, %lld bytes, schema version %d. The books add up.\n", what, backup->files,
	       backup->files == 1 ? "" : "s", (long long)backup->bytes, backup->schema_version);
}

int database_backup(const struct coordinator_config *config, const char *folder)
{
	struct store_backup backup;
	struct error error;
	if (store_backup_make(database_place(config), folder, &backup, &error))
		return refuse(&error);
	tell("Backed up", &backup);
	return CLI_OK;
}

int database_restore(const struct coordinator_config *config, const char *folder)
{
	struct store_backup backup;
	struct error error;
	if (serve_make_dir(config->dir, &error) || store_backup_restore(folder, database_place(config), &backup, &error))
		return refuse(&error);
	tell("Restored", &backup);
	return CLI_OK;
}
