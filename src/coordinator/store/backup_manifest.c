#include "coordinator/store/backup_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "crypto/hash.h"

#define FORMAT_VERSION 1
#define TEXT_MAX       (1u << 20)

enum db_err backup_manifest_path(const char *folder, const char *name, char out[MANIFEST_PATH_SIZE], struct error *error)
{
	int len = snprintf(out, MANIFEST_PATH_SIZE, "%s/%s", folder, name);
	if (len < 0 || len >= MANIFEST_PATH_SIZE)
		return error_set(error, DB_E_LIMIT, "The path of the backup is too long.");
	return DB_OK;
}

static enum db_err look_at(const char *folder, const char *name, int64_t *bytes, char sha256[65], struct error *error)
{
	char path[MANIFEST_PATH_SIZE];
	struct stat info;
	enum db_err err = backup_manifest_path(folder, name, path, error);
	if (!err && stat(path, &info) != 0)
		err = error_set(error, DB_E_IO, "The backup's file %s cannot be read: %s.", name, strerror(errno));
	if (!err)
		err = sha256_file(path, sha256, error);
	if (!err)
		*bytes = info.st_size;
	return err;
}

enum db_err backup_manifest_add(struct manifest *manifest, const char *folder, const char *name, struct error *error)
{
	if (manifest->count == MANIFEST_FILES_MAX || strlen(name) >= sizeof manifest->files[0].name)
		return error_set(error, DB_E_LIMIT, "The database has too many tables for a backup.");
	size_t at = manifest->count;
	(void)str_copy(str_of(name), manifest->files[at].name, sizeof manifest->files[at].name);
	enum db_err err = look_at(folder, name, &manifest->files[at].bytes, manifest->files[at].sha256, error);
	manifest->count += !err;
	return err;
}

void store_backup_list(struct json_writer *w, const char *name, int64_t bytes, const char *sha256)
{
	json_begin_object(w);
	json_put_cstr(w, "name", name);
	json_put_i64(w, "bytes", bytes);
	json_put_cstr(w, "sha256", sha256);
	json_end_object(w);
}

static void write_json(const struct manifest *manifest, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_i64(&w, "format_version", FORMAT_VERSION);
	json_put_cstr(&w, "kind", manifest->is_postgres ? "postgres" : "sqlite");
	json_put_i64(&w, "schema_version", manifest->schema_version);
	json_put_i64(&w, "created_us", manifest->created_us);
	json_key(&w, "files");
	json_begin_array(&w);
	for (size_t i = 0; i < manifest->count; i++)
		store_backup_list(&w, manifest->files[i].name, manifest->files[i].bytes, manifest->files[i].sha256);
	json_end_array(&w);
	json_end_object(&w);
	(void)buf_append_byte(out, '\n');
}

enum db_err backup_manifest_write(const struct manifest *manifest, const char *folder, struct error *error)
{
	char path[MANIFEST_PATH_SIZE];
	struct buf out;
	enum db_err err = backup_manifest_path(folder, "manifest.json", path, error);
	if (err)
		return err;
	buf_init(&out, TEXT_MAX);
	write_json(manifest, &out);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	bool written = fd >= 0 && !out.failed && write(fd, out.at, out.len) == (ssize_t)out.len && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	buf_free(&out);
	return written ? DB_OK : error_set(error, DB_E_IO, "%s cannot be written: %s.", path, strerror(errno));
}

/* A name in a manifest is a file's beside it, and nothing else. */
static bool is_plain(struct str name)
{
	return name.len > 0 && name.at[0] != '.' && !memchr(name.at, '/', name.len) && !memchr(name.at, '\0', name.len);
}

static enum db_err read_file(struct manifest *manifest, const json_val *file)
{
	struct str name, hash;
	int64_t bytes;
	size_t at = manifest->count;
	if (at == MANIFEST_FILES_MAX || !json_as_str(json_get(file, "name"), &name) || !is_plain(name) ||
	    !json_as_str(json_get(file, "sha256"), &hash) || hash.len != 64 || memchr(hash.at, '\0', hash.len) ||
	    !json_as_i64(json_get(file, "bytes"), &bytes) || bytes < 0 ||
	    !str_copy(name, manifest->files[at].name, sizeof manifest->files[at].name) ||
	    !str_copy(hash, manifest->files[at].sha256, sizeof manifest->files[at].sha256))
		return DB_E_INVALID;
	manifest->files[at].bytes = bytes;
	manifest->count++;
	return DB_OK;
}

static enum db_err read_json(struct manifest *manifest, const json_val *root, struct error *error)
{
	int64_t format = 0, version = 0;
	struct str kind = STR_NONE, key;
	struct json_iter iter = json_iter(json_get(root, "files"));
	json_val *file;
	*manifest = (struct manifest){0};
	if (!json_as_i64(json_get(root, "format_version"), &format) || format != FORMAT_VERSION)
		return error_set(error, DB_E_UNSUPPORTED, "This is no backup, or one of a newer program: its manifest has format %lld.",
		                 (long long)format);
	if (!json_as_i64(json_get(root, "schema_version"), &version) || version < 1 || version > 1000000 ||
	    !json_as_str(json_get(root, "kind"), &kind) || (!str_is(kind, "sqlite") && !str_is(kind, "postgres")))
		return error_set(error, DB_E_INVALID, "The backup's manifest is damaged.");
	manifest->is_postgres = str_is(kind, "postgres");
	manifest->schema_version = (int)version;
	while ((file = json_next(&iter, &key)))
		if (read_file(manifest, file))
			return error_set(error, DB_E_INVALID, "The backup's manifest is damaged.");
	return DB_OK;
}

enum db_err backup_manifest_read(struct manifest *manifest, const char *folder, struct error *error)
{
	char path[MANIFEST_PATH_SIZE];
	struct error why = {0};
	enum db_err err = backup_manifest_path(folder, "manifest.json", path, error);
	if (err)
		return err;
	char *text = malloc(TEXT_MAX);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = text && fd >= 0 ? read(fd, text, TEXT_MAX) : -1;
	if (len < 0) {
		err = error_set(error, DB_E_IO, "%s cannot be read: is this the folder of a backup that was finished?", path);
	} else {
		struct json_doc *doc = json_parse((struct str){text, (size_t)len}, NULL, &why);
		err = doc ? read_json(manifest, json_root(doc), error)
		          : error_set(error, DB_E_INVALID, "The backup's manifest is damaged: %s", why.text);
		json_free(doc);
	}
	if (fd >= 0)
		close(fd);
	free(text);
	return err;
}

enum db_err backup_manifest_check(const struct manifest *manifest, const char *folder, struct error *error)
{
	for (size_t i = 0; i < manifest->count; i++) {
		int64_t bytes;
		char hash[65];
		enum db_err err = look_at(folder, manifest->files[i].name, &bytes, hash, error);
		if (err)
			return err;
		if (bytes != manifest->files[i].bytes || strcmp(hash, manifest->files[i].sha256) != 0)
			return error_set(error, DB_E_CRYPTO, "The backup's file %s is not what was written: take another backup.",
			                 manifest->files[i].name);
	}
	return DB_OK;
}
