#include "coordinator/state_import.h"

#include "coordinator/database.h"
#include "coordinator/serve.h"
#include "coordinator/state_folder.h"
#include "coordinator/state_manifest.h"
#include "coordinator/store/store_backup.h"
#include "core/encode.h"
#include "core/zip.h"
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct state_import {
	struct state_folder folder;
	struct zip_reader *zip;
	struct state_manifest manifest;
	bool has_manifest, arrived[STATE_FILES_MAX];
	struct buf text; /* state.json */
	struct {
		size_t len;
		char bytes[STATE_SECRET_MAX];
	} secrets[STATE_KEY_FILES];
	/* the file that comes */
	int at; /* in the manifest; -1 = state.json */
	int fd; /* -1: it goes to memory */
	struct sha256_state hash;
	int64_t bytes;
};

/* --- the archive's files --- */

static int secret_of(const struct state_import *import)
{
	const char *name = import->manifest.files[import->at].name;
	for (int i = 0; i < STATE_KEY_FILES; i++)
		if (str_starts(str_of(name), STR(STATE_KEYS)) && strcmp(name + strlen(STATE_KEYS), state_key_files[i]) == 0)
			return i;
	return -1;
}

static enum db_err begin_listed(struct state_import *import, const struct zip_entry *entry, struct error *error)
{
	char path[STATE_PATH_SIZE];
	import->at = state_manifest_find(&import->manifest, str_of(entry->name));
	if (import->at < 0 || import->arrived[import->at] || entry->size != (uint64_t)import->manifest.files[import->at].bytes)
		return error_set(error, DB_E_INVALID, "The export holds what its manifest does not name: %s.", entry->name);
	sha256_begin(&import->hash);
	if (secret_of(import) >= 0)
		return DB_OK;
	int len = snprintf(path, sizeof path, "%s/%s", import->folder.path, entry->name);
	if (len < 0 || (size_t)len >= sizeof path)
		return error_set(error, DB_E_LIMIT, "The path of the data folder is too long.");
	(void)mkdir(import->folder.database, 0700);
	import->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return import->fd >= 0 ? DB_OK : error_set(error, DB_E_IO, "%s cannot be made: %s.", path, strerror(errno));
}

static enum db_err on_begin(void *user, const struct zip_entry *entry, struct error *error)
{
	struct state_import *import = user;
	import->at = -1;
	import->bytes = 0;
	if (import->has_manifest)
		return begin_listed(import, entry, error);
	if (strcmp(entry->name, STATE_MANIFEST) != 0)
		return error_set(error, DB_E_UNSUPPORTED, "This is no export of a coordinator's state.");
	return DB_OK;
}

static enum db_err on_content(void *user, struct str bytes, struct error *error)
{
	struct state_import *import = user;
	if (import->at < 0)
		return buf_append_str(&import->text, bytes) ? error_set(error, DB_E_LIMIT, "The export's manifest is too long.")
		                                            : DB_OK;
	int secret = secret_of(import);
	sha256_update(&import->hash, bytes.at, bytes.len);
	if (secret >= 0) {
		memcpy(import->secrets[secret].bytes + import->bytes, bytes.at, bytes.len); /* the manifest's length was checked */
		import->secrets[secret].len += bytes.len;
	} else {
		for (struct str rest = bytes; rest.len > 0;) {
			ssize_t len = write(import->fd, rest.at, rest.len);
			if (len <= 0)
				return error_set(error, DB_E_IO, "The copy of the database cannot be written: %s.", strerror(errno));
			rest = str_sub(rest, (size_t)len, rest.len - (size_t)len);
		}
	}
	import->bytes += (int64_t)bytes.len;
	return DB_OK;
}

static enum db_err on_end(void *user, struct error *error)
{
	struct state_import *import = user;
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX_SIZE];
	if (import->at < 0) {
		import->has_manifest = true;
		return state_manifest_read(&import->manifest, buf_str(&import->text), error);
	}
	sha256_end(&import->hash, digest);
	hex_encode(digest, sizeof digest, hex);
	bool closed = import->fd < 0 || (fsync(import->fd) == 0 && close(import->fd) == 0);
	import->fd = -1;
	if (!closed)
		return error_set(error, DB_E_IO, "The copy of the database cannot be written: %s.", strerror(errno));
	if (strcmp(hex, import->manifest.files[import->at].sha256) != 0)
		return error_set(error, DB_E_CRYPTO, "The export's file %s is not what its manifest says.",
		                 import->manifest.files[import->at].name);
	import->arrived[import->at] = true;
	return DB_OK;
}

struct state_import *state_import_new(const char *data_dir, struct error *error)
{
	struct state_import *import = calloc(1, sizeof *import);
	struct zip_handler handler = {on_begin, on_content, on_end, import};
	if (import) {
		import->fd = import->folder.lock = -1;
		buf_init(&import->text, STATE_TEXT_MAX);
		import->zip = zip_reader_new(&handler);
	}
	if (import && import->zip && state_folder_open(&import->folder, data_dir, error) == DB_OK)
		return import;
	if (!import || !import->zip)
		error_set(error, DB_E_NOMEM, "There is no memory for an import.");
	state_import_free(import);
	return NULL;
}

void state_import_free(struct state_import *import)
{
	if (!import)
		return;
	if (import->fd >= 0)
		close(import->fd);
	state_folder_close(&import->folder);
	zip_reader_free(import->zip);
	buf_free(&import->text);
	secret_wipe(import, sizeof *import);
	free(import);
}

enum db_err state_import_read(struct state_import *import, struct str bytes, struct error *error)
{
	return zip_read(import->zip, bytes, error);
}

enum db_err state_import_check(struct state_import *import, struct error *error)
{
	enum db_err err = zip_read_end(import->zip, error);
	if (!err && !import->has_manifest)
		err = error_set(error, DB_E_UNSUPPORTED, "This is no export of a coordinator's state.");
	for (size_t i = 0; !err && i < import->manifest.count; i++)
		if (!import->arrived[i])
			err = error_set(error, DB_E_INVALID, "The export lacks its file %s.", import->manifest.files[i].name);
	return err;
}

size_t state_import_files(const struct state_import *import)
{
	return import->manifest.count;
}

const char *state_import_kid(const struct state_import *import)
{
	return import->manifest.kid;
}

/* --- their places --- */

static bool path_in(const char *dir, const char *name, char out[STATE_PATH_SIZE])
{
	int len = snprintf(out, STATE_PATH_SIZE, "%s/%s", dir, name);
	return len > 0 && len < STATE_PATH_SIZE;
}

static enum db_err refuse_used(const char *dir, struct error *error)
{
	char path[STATE_PATH_SIZE];
	for (size_t i = 0; i < STATE_KEY_FILES; i++)
		if (!path_in(dir, state_key_files[i], path) || access(path, F_OK) == 0)
			return error_set(error, DB_E_EXISTS,
			                 "%s exists: a state is imported into an empty data folder only. Move what is there away first.",
			                 path);
	return DB_OK;
}

static void take_back(const struct state_import *import, const char *dir)
{
	char path[STATE_PATH_SIZE];
	for (size_t i = 0; i < STATE_KEY_FILES; i++)
		if (import->secrets[i].len > 0 && path_in(dir, state_key_files[i], path))
			(void)unlink(path);
	if (path_in(dir, STATE_DRAIN_GUARD, path))
		(void)unlink(path);
}

/* The database comes last, in one step: without it nothing of an import that was interrupted passes for a coordinator's state.
 */
enum db_err state_import_place(struct state_import *import, const struct coordinator_config *config, struct error *error)
{
	char path[STATE_PATH_SIZE];
	struct store_backup backup;
	enum db_err err = refuse_used(config->dir, error);
	if (err)
		return err;
	for (size_t i = 0; !err && i < STATE_KEY_FILES; i++)
		if (import->secrets[i].len > 0 && path_in(config->dir, state_key_files[i], path))
			err = serve_write_secret(path, (struct str){import->secrets[i].bytes, import->secrets[i].len}, error);
	if (!err && path_in(config->dir, STATE_DRAIN_GUARD, path))
		err = serve_write_secret(path, STR("imported\n"), error);
	if (!err)
		err = store_backup_restore(import->folder.database, database_place(config), &backup, error);
	if (err)
		take_back(import, config->dir);
	return err;
}

bool state_starts_draining(const struct coordinator_config *config)
{
	char path[STATE_PATH_SIZE];
	return path_in(config->dir, STATE_DRAIN_GUARD, path) && access(path, F_OK) == 0;
}

void state_gate_opened(const struct coordinator_config *config)
{
	char path[STATE_PATH_SIZE];
	if (path_in(config->dir, STATE_DRAIN_GUARD, path))
		(void)unlink(path);
}
