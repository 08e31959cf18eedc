#include "provider/models/models.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/encode.h"
#include "core/log.h"
#include "provider/models/folder.h"

#define HASH_BLOCK_BYTES (1u << 20)

void models_default_dir(char *out, size_t size)
{
	const char *given = getenv("DARKBLOOM_MODELS_DIR"), *home = getenv("HOME");
	int n = given && given[0] ? snprintf(out, size, "%s", given)
	                          : snprintf(out, size, "%s/.local/share/darkbloom/models", home && home[0] ? home : ".");
	if (n < 0 || (size_t)n >= size)
		out[0] = '\0';
}

/* --- folders --- */

enum db_err model_folder(const char *dir, struct str id, char out[MODEL_PATH_SIZE], struct error *error)
{
	bool good = id.len > 0 && id.len < MODEL_ID_SIZE && id.at[0] != '.' && id.at[0] != '/';
	for (size_t i = 0; good && i < id.len; i++) {
		unsigned char c = (unsigned char)id.at[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		good = letter || c == '.' || c == '_' || c == '/' || (c == '-' && (i == 0 || id.at[i - 1] != '-')) || c == ':';
	}
	if (!good)
		return error_set(error, DB_E_INVALID,
		                 "\"%.*s\" is not a model id: use letters, digits, '.', '_', ':', '/' and single '-'", STR_ARG(id));
	int n = snprintf(out, MODEL_PATH_SIZE, "%s/", dir);
	size_t at = n > 0 ? (size_t)n : MODEL_PATH_SIZE;
	for (size_t i = 0; i < id.len; i++) {
		if (at + 3 >= MODEL_PATH_SIZE)
			return error_set(error, DB_E_LIMIT, "the path of the models folder is too long");
		out[at++] = id.at[i] == '/' ? '-' : id.at[i];
		if (id.at[i] == '/')
			out[at++] = '-';
	}
	out[at] = '\0';
	return DB_OK;
}

enum db_err make_folders(const char *path, struct error *error)
{
	char folder[MODEL_PATH_SIZE];
	if (!str_copy(str_of(path), folder, sizeof folder))
		return error_set(error, DB_E_LIMIT, "the path is too long");
	for (char *slash = strchr(folder + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		if (mkdir(folder, 0755) != 0 && errno != EEXIST)
			return error_set(error, DB_E_IO, "the folder %s could not be made: %s", folder, strerror(errno));
		if (!slash)
			return DB_OK;
		*slash = '/';
	}
}

enum db_err read_manifest(const char *folder, struct arena *arena, struct manifest *out, struct error *error)
{
	char path[MODEL_PATH_SIZE + 16];
	struct buf text;
	enum db_err err = DB_OK;
	buf_init(&text, MANIFEST_MAX_BYTES + 1);
	snprintf(path, sizeof path, "%s/manifest.json", folder);
	FILE *file = fopen(path, "rbe");
	if (!file) {
		err = error_set(error, errno == ENOENT ? DB_E_NOT_FOUND : DB_E_IO, "%s could not be read: %s", path, strerror(errno));
		goto out;
	}
	for (size_t n = 1; n && !buf_reserve(&text, 4096);) {
		n = fread(text.at + text.len, 1, 4096, file);
		text.len += n;
	}
	fclose(file);
	struct str kept = arena_str(arena, buf_str(&text));
	err = kept.at ? manifest_parse(kept, arena, out, error) : error_set(error, DB_E_NOMEM, "out of memory");
out:
	buf_free(&text);
	return err;
}

enum db_err write_manifest(const char *folder, const struct manifest *manifest, struct error *error)
{
	char path[MODEL_PATH_SIZE + 16];
	struct buf text;
	buf_init(&text, MANIFEST_MAX_BYTES);
	snprintf(path, sizeof path, "%s/manifest.json", folder);
	enum db_err err = manifest_write(manifest, &text);
	FILE *file = err ? NULL : fopen(path, "wbe");
	bool ok = file && fwrite(text.at, 1, text.len, file) == text.len;
	if (file)
		ok = fclose(file) == 0 && ok;
	buf_free(&text);
	return ok ? DB_OK : error_set(error, err ? err : DB_E_IO, "%s could not be written: %s", path, strerror(errno));
}

enum db_err describe_folder(const char *folder, struct model_entry *out, struct error *error)
{
	struct manifest manifest;
	struct arena *arena = arena_new(0);
	*out = (struct model_entry){0};
	enum db_err err = arena ? read_manifest(folder, arena, &manifest, error) : error_set(error, DB_E_NOMEM, "out of memory");
	if (err)
		goto out;
	for (size_t i = 0; i < manifest.file_count && !out->weights[0]; i++) {
		struct str path = manifest.files[i].path;
		if (!str_ends(path, STR(".gguf")))
			continue;
		int n = snprintf(out->weights, sizeof out->weights, "%s/%.*s", folder, STR_ARG(path));
		if (n < 0 || (size_t)n >= sizeof out->weights)
			out->weights[0] = '\0';
		manifest_quantization(path, out->quantization, sizeof out->quantization);
	}
	if (!out->weights[0] || !str_copy(manifest.model_id, out->id, sizeof out->id) ||
	    !str_copy(str_of(folder), out->folder, sizeof out->folder)) {
		err = error_set(error, DB_E_INVALID, "%s holds no GGUF file", folder);
		goto out;
	}
	str_copy((struct str){manifest.aggregate_sha256, 64}, out->weight_hash, sizeof out->weight_hash);
	out->size_bytes = manifest.total_size_bytes;
out:
	arena_free(arena);
	return err;
}

/* --- finding --- */

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct model_entry *)a)->id, ((const struct model_entry *)b)->id);
}

enum db_err models_scan(const char *dir, struct model_entry **list, size_t *count, struct error *error)
{
	size_t room = 16;
	*count = 0;
	*list = calloc(room, sizeof **list);
	if (!*list)
		return error_set(error, DB_E_NOMEM, "out of memory");
	DIR *folder = opendir(dir);
	if (!folder && errno == ENOENT)
		return DB_OK;
	if (!folder) {
		free(*list);
		*list = NULL;
		return error_set(error, DB_E_IO, "%s could not be read: %s", dir, strerror(errno));
	}
	for (struct dirent *entry; (entry = readdir(folder));) {
		char path[MODEL_PATH_SIZE];
		struct error why;
		int n = snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
		if (entry->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof path)
			continue;
		if (*count == room) {
			struct model_entry *more = realloc(*list, room * 2 * sizeof *more);
			if (!more)
				break;
			*list = more;
			room *= 2;
		}
		if (describe_folder(path, &(*list)[*count], &why) == DB_OK)
			++*count;
		else
			log_warn("models.skipped", "why=\"%s\"", why.text);
	}
	closedir(folder);
	qsort(*list, *count, sizeof **list, by_id);
	return DB_OK;
}

enum db_err models_find(const char *dir, struct str id, struct model_entry *out, struct error *error)
{
	char folder[MODEL_PATH_SIZE];
	enum db_err err = model_folder(dir, id, folder, error);
	if (!err)
		err = describe_folder(folder, out, error);
	if (err == DB_E_NOT_FOUND)
		error_set(error, err, "the model \"%.*s\" is not in %s: get it with `darkbloom models pull`", STR_ARG(id), dir);
	return err;
}

/* --- hashing --- */

enum db_err hash_model_file(const char *path, struct hash_progress *progress, char out[SHA256_HEX_SIZE], uint64_t *size,
                            struct error *error)
{
	struct sha256_state state;
	uint8_t digest[SHA256_BYTES];
	enum db_err err = DB_OK;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *block = malloc(HASH_BLOCK_BYTES);
	*size = 0;
	if (fd < 0 || !block) {
		err = error_set(error, fd < 0 ? DB_E_IO : DB_E_NOMEM, "%s could not be read: %s", path, strerror(errno));
		goto out;
	}
	sha256_begin(&state);
	for (;;) {
		ssize_t n = read(fd, block, HASH_BLOCK_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = error_set(error, DB_E_IO, "%s could not be read: %s", path, strerror(errno));
		if (n <= 0)
			break;
		sha256_update(&state, block, (size_t)n);
		*size += (uint64_t)n;
		progress->done += (uint64_t)n;
		if (progress->show && !progress->show(progress->done, progress->total, progress->user)) {
			err = error_set(error, DB_E_CLOSED, "stopped");
			break;
		}
	}
	sha256_end(&state, digest);
	hex_encode(digest, sizeof digest, out);
out:
	free(block);
	if (fd >= 0)
		close(fd);
	return err;
}

enum db_err models_verify(const struct model_entry *entry, models_progress progress, void *user, struct error *error)
{
	struct manifest manifest;
	struct arena *arena = arena_new(0);
	enum db_err err =
	    arena ? read_manifest(entry->folder, arena, &manifest, error) : error_set(error, DB_E_NOMEM, "out of memory");
	struct hash_progress hashing = {.total = err ? 0 : manifest.total_size_bytes, .show = progress, .user = user};
	for (size_t i = 0; !err && i < manifest.file_count; i++) {
		const struct manifest_file *file = &manifest.files[i];
		char path[2 * MODEL_PATH_SIZE], hash[SHA256_HEX_SIZE];
		uint64_t size;
		snprintf(path, sizeof path, "%s/%.*s", entry->folder, STR_ARG(file->path));
		err = hash_model_file(path, &hashing, hash, &size, error);
		if (!err && (size != file->size_bytes || memcmp(hash, file->sha256, 64) != 0))
			err = error_set(error, DB_E_INVALID, "%s of %s differs from its manifest: remove the model and pull it again", path,
			                entry->id);
	}
	arena_free(arena);
	return err;
}

/* --- adding a file of this machine --- */

enum db_err models_add_file(const char *dir, struct str id, const char *gguf_path, models_progress progress, void *user,
                            struct model_entry *out, struct error *error)
{
	char folder[MODEL_PATH_SIZE], target[PATH_MAX], link[2 * MODEL_PATH_SIZE], created[CLOCK_RFC3339_SIZE];
	struct stat info;
	enum db_err err = model_folder(dir, id, folder, error);
	if (err)
		return err;
	if (!realpath(gguf_path, target) || stat(target, &info) != 0 || !S_ISREG(info.st_mode))
		return error_set(error, DB_E_NOT_FOUND, "%s is not a file", gguf_path);
	const char *name = strrchr(target, '/') + 1;
	if (!str_ends(str_of(name), STR(".gguf")))
		return error_set(error, DB_E_INVALID, "%s is not a GGUF file", gguf_path);
	struct manifest_file file = {.path = str_of(name), .role = STR("weight")};
	struct hash_progress hashing = {.total = (uint64_t)info.st_size, .show = progress, .user = user};
	err = hash_model_file(target, &hashing, file.sha256, &file.size_bytes, error);
	if (err)
		return err;
	clock_format_rfc3339(clock_wall_us(), created);
	struct manifest manifest = {
	    .model_id = id, .version = STR("local"), .created_at = str_of(created), .files = &file, .file_count = 1};
	manifest_seal(&manifest);
	err = make_folders(folder, error);
	if (err)
		return err;
	snprintf(link, sizeof link, "%s/%s", folder, name);
	if (unlink(link) != 0 && errno != ENOENT)
		return error_set(error, DB_E_IO, "%s could not be replaced: %s", link, strerror(errno));
	if (symlink(target, link) != 0)
		return error_set(error, DB_E_IO, "%s could not be linked: %s", link, strerror(errno));
	err = write_manifest(folder, &manifest, error);
	return err ? err : describe_folder(folder, out, error);
}
