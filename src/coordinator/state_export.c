#include "coordinator/state_export.h"

#include "coordinator/database.h"
#include "coordinator/gateway/sealed_keys.h"
#include "coordinator/state_folder.h"
#include "coordinator/state_manifest.h"
#include "coordinator/store/store_backup.h"
#include "core/clock.h"
#include "core/encode.h"
#include "core/zip.h"
#include "crypto/age.h"
#include "crypto/secret.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP_BYTES (256u << 10)
#define PLAIN_MAX  (STATE_TEXT_MAX + STEP_BYTES + 65536)

struct state_export {
	struct state_folder folder;
	struct state_manifest manifest;
	uint32_t crcs[STATE_FILES_MAX];
	struct buf text; /* state.json */
	char secrets[STATE_KEY_FILES][STATE_SECRET_MAX];
	size_t secret_count; /* they are the first files */
	struct age_writer *age;
	struct zip_writer zip;
	struct buf plain;  /* of one step */
	struct buf header; /* of the age file, until the first step */
	size_t next;       /* entry: 0 is state.json, i is file i - 1 */
	int fd;            /* of the file that is being read; -1 */
	int64_t left;      /* of it */
	int64_t total, done;
};

/* --- what goes in --- */

static void hash_bytes(struct state_export *export, size_t at, const void *bytes, size_t len)
{
	sha256_hex(bytes, len, export->manifest.files[at].sha256);
	export->crcs[at] = zip_crc32(0, bytes, len);
	export->manifest.files[at].bytes = (int64_t)len;
}

static enum db_err add_name(struct state_export *export, const char *folder, const char *name, struct error *error)
{
	struct state_manifest *manifest = &export->manifest;
	int len = manifest->count == STATE_FILES_MAX
	              ? -1
	              : snprintf(manifest->files[manifest->count].name, STATE_NAME_SIZE, "%s%s", folder, name);
	if (len < 0 || len >= STATE_NAME_SIZE)
		return error_set(error, DB_E_LIMIT, "The state has too many files, or one with too long a name.");
	manifest->count++;
	return DB_OK;
}

/* A secret that was never made is none of the state. */
static enum db_err add_secret(struct state_export *export, const char *dir, const char *name, struct error *error)
{
	char path[STATE_PATH_SIZE], *secret = export->secrets[export->secret_count];
	int n = snprintf(path, sizeof path, "%s/%s", dir, name);
	if (n < 0 || (size_t)n >= sizeof path)
		return error_set(error, DB_E_LIMIT, "The path of the data folder is too long.");
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return DB_OK;
	ssize_t len = fd >= 0 ? read(fd, secret, STATE_SECRET_MAX) : -1;
	char more;
	bool whole = len > 0 && read(fd, &more, 1) == 0;
	if (fd >= 0)
		close(fd);
	if (!whole)
		return error_set(error, DB_E_IO, "%s cannot be read, or is no key.", path);
	enum db_err err = add_name(export, STATE_KEYS, name, error);
	if (err)
		return err;
	hash_bytes(export, export->manifest.count - 1, secret, (size_t)len);
	export->secret_count++;
	return DB_OK;
}

static int open_copy(const struct state_export *export, const char *name)
{
	char path[STATE_PATH_SIZE];
	int n = snprintf(path, sizeof path, "%s/%s", export->folder.path, name);
	return n > 0 && (size_t)n < sizeof path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
}

static enum db_err look_at_copy(struct state_export *export, size_t at, struct error *error)
{
	const char *name = export->manifest.files[at].name;
	struct sha256_state state;
	uint8_t digest[SHA256_BYTES], chunk[65536];
	int64_t bytes = 0;
	ssize_t len;
	int fd = open_copy(export, name);
	if (fd < 0)
		return error_set(error, DB_E_IO, "The copy's file %s cannot be read: %s.", name, strerror(errno));
	sha256_begin(&state);
	while ((len = read(fd, chunk, sizeof chunk)) > 0) {
		sha256_update(&state, chunk, (size_t)len);
		export->crcs[at] = zip_crc32(export->crcs[at], chunk, (size_t)len);
		bytes += len;
	}
	close(fd);
	sha256_end(&state, digest);
	hex_encode(digest, sizeof digest, export->manifest.files[at].sha256);
	export->manifest.files[at].bytes = bytes;
	return len == 0 ? DB_OK : error_set(error, DB_E_IO, "The copy's file %s cannot be read: %s.", name, strerror(errno));
}

static enum db_err add_database(struct state_export *export, struct error *error)
{
	enum db_err err = DB_OK;
	DIR *dir = opendir(export->folder.database);
	if (!dir)
		return error_set(error, DB_E_IO, "%s cannot be read: %s.", export->folder.database, strerror(errno));
	for (struct dirent *entry; !err && (entry = readdir(dir));) {
		if (entry->d_name[0] == '.')
			continue;
		err = add_name(export, STATE_DATABASE, entry->d_name, error);
		if (!err)
			err = look_at_copy(export, export->manifest.count - 1, error);
	}
	closedir(dir);
	return err;
}

/* The key of the sealed transport comes of a mnemonic in the environment: the export says which it was. */
static enum db_err note_kid(struct state_export *export, struct error *error)
{
	struct sealed_options options = {0};
	sealed_options_from_environment(&options);
	options.previous_mnemonics = NULL;
	struct sealed_keys *keys = sealed_keys_new(&options, error);
	if (!keys)
		return error->code;
	if (keys->count > 0)
		(void)str_copy(str_of(keys->at[0].kid), export->manifest.kid, sizeof export->manifest.kid);
	secret_free(keys);
	return DB_OK;
}

static enum db_err gather(struct state_export *export, const struct coordinator_config *config, struct error *error)
{
	struct store_backup backup;
	export->manifest.created_us = clock_wall_us();
	enum db_err err = note_kid(export, error);
	for (size_t i = 0; !err && i < STATE_KEY_FILES; i++)
		err = add_secret(export, config->dir, state_key_files[i], error);
	if (!err)
		err = store_backup_make(database_place(config), export->folder.database, &backup, error);
	if (!err)
		err = add_database(export, error);
	if (err)
		return err;
	state_manifest_write(&export->manifest, &export->text);
	if (export->text.failed)
		return error_set(error, DB_E_NOMEM, "There is no memory for the export's manifest.");
	export->total = (int64_t) export->text.len;
	for (size_t i = 0; i < export->manifest.count; i++)
		export->total += export->manifest.files[i].bytes;
	return DB_OK;
}

struct state_export *state_export_new(const struct coordinator_config *config, struct str recipient, struct error *error)
{
	struct age_recipient key;
	struct state_export *export = calloc(1, sizeof *export);
	if (!export) {
		error_set(error, DB_E_NOMEM, "There is no memory for an export.");
		return NULL;
	}
	export->fd = -1;
	export->folder.lock = -1;
	buf_init(&export->text, STATE_TEXT_MAX);
	buf_init(&export->plain, PLAIN_MAX);
	buf_init(&export->header, AGE_HEADER_MAX);
	zip_writer_init(&export->zip);
	enum db_err err = DB_OK;
	if (age_recipient_parse(recipient, &key))
		err = error_set(error, DB_E_INVALID, "The recipient of an export is a public key of age: age1...");
	if (!err)
		err = state_folder_open(&export->folder, config->dir, error);
	if (!err)
		err = gather(export, config, error);
	if (!err && !(export->age = age_writer_new(&key, NULL, &export->header)))
		err = error_set(error, DB_E_INVALID, "Nothing can be encrypted to this recipient.");
	if (!err)
		return export;
	state_export_free(export);
	return NULL;
}

void state_export_free(struct state_export *export)
{
	if (!export)
		return;
	if (export->fd >= 0)
		close(export->fd);
	state_folder_close(&export->folder);
	age_writer_free(export->age);
	zip_writer_free(&export->zip);
	buf_free(&export->text);
	buf_free(&export->plain);
	buf_free(&export->header);
	secret_wipe(export, sizeof *export);
	free(export);
}

/* --- the file --- */

static enum db_err begin_entry(struct state_export *export, struct error *error)
{
	struct zip_entry entry = {.mode = 0600};
	size_t at = export->next;
	if (at == 0) {
		(void)str_copy(STR(STATE_MANIFEST), entry.name, sizeof entry.name);
		entry.size = export->text.len;
		entry.crc = zip_crc32(0, export->text.at, export->text.len);
	} else {
		(void)str_copy(str_of(export->manifest.files[at - 1].name), entry.name, sizeof entry.name);
		entry.size = (uint64_t) export->manifest.files[at - 1].bytes;
		entry.crc = export->crcs[at - 1];
	}
	export->next++;
	if (zip_write_head(&export->zip, &entry, &export->plain))
		return error_set(error, DB_E_NOMEM, "There is no memory for the archive.");
	if (at > 0 && at <= export->secret_count)
		return buf_append(&export->plain, export->secrets[at - 1], (size_t)entry.size);
	if (at == 0)
		return buf_append_str(&export->plain, buf_str(&export->text));
	export->left = (int64_t)entry.size;
	export->fd = open_copy(export, entry.name);
	return export->fd >= 0 ? DB_OK : error_set(error, DB_E_IO, "The copy's file %s is gone.", entry.name);
}

static enum db_err read_more(struct state_export *export, struct error *error)
{
	size_t wanted = export->left < (int64_t)STEP_BYTES ? (size_t) export->left : STEP_BYTES;
	struct buf *plain = &export->plain;
	if (buf_reserve(plain, wanted))
		return error_set(error, DB_E_NOMEM, "There is no memory for the archive.");
	ssize_t len = wanted > 0 ? read(export->fd, plain->at + plain->len, wanted) : 0;
	if (len < 0 || (wanted > 0 && len == 0))
		return error_set(error, DB_E_IO, "The copy of the database cannot be read to its end.");
	plain->len += (size_t)len;
	export->left -= len;
	if (export->left == 0) {
		close(export->fd);
		export->fd = -1;
	}
	return DB_OK;
}

enum db_err state_export_next(struct state_export *export, struct buf *out, bool *is_last, struct error *error)
{
	enum db_err err = DB_OK;
	*is_last = false;
	*error = (struct error){0};
	buf_clear(&export->plain);
	while (!err && !*is_last && export->plain.len < STEP_BYTES) {
		if (export->fd >= 0)
			err = read_more(export, error);
		else if (export->next <= export->manifest.count)
			err = begin_entry(export, error);
		else
			*is_last = true;
	}
	export->done += (int64_t) export->plain.len;
	if (!err && *is_last)
		err = zip_write_end(&export->zip, &export->plain);
	if (!err && export->header.len > 0)
		err = buf_append_str(out, buf_str(&export->header));
	buf_clear(&export->header);
	if (!err)
		err = age_write(export->age, buf_str(&export->plain), out);
	if (!err && *is_last)
		err = age_write_end(export->age, out);
	buf_clear(&export->plain);
	return err && !error->text[0] ? error_set(error, err, "There is no memory for the archive.") : err;
}

size_t state_export_files(const struct state_export *export)
{
	return export->manifest.count;
}

int64_t state_export_bytes(const struct state_export *export)
{
	return export->total;
}

int64_t state_export_done(const struct state_export *export)
{
	return export->done < export->total ? export->done : export->total;
}

const char *state_export_kid(const struct state_export *export)
{
	return export->manifest.kid;
}
