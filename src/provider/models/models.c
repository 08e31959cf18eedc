#include "provider/models/models.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "provider/models/folder.h"

void models_default_dir(char *out, size_t size)
{
	const char *given = getenv("DARKBLOOM_MODELS_DIR"), *home = getenv("HOME");
	int n = given && given[0] ? snprintf(out, size, "%s", given)
	                          : snprintf(out, size, "%s/.local/share/darkbloom/models", home && home[0] ? home : ".");
	if (n < 0 || (size_t)n >= size)
		out[0] = '\0';
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
		if (folder_describe(path, &(*list)[*count], &why) == DB_OK)
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
	enum db_err err = folder_path(dir, id, folder, error);
	if (!err)
		err = folder_describe(folder, out, error);
	if (err == DB_E_NOT_FOUND)
		error_set(error, err, "the model \"%.*s\" is not in %s: get it with `darkbloom models pull`", STR_ARG(id), dir);
	return err;
}

enum db_err models_verify(const struct model_entry *entry, models_progress progress, void *user, struct error *error)
{
	struct manifest manifest;
	struct arena *arena = arena_new(0);
	enum db_err err =
	    arena ? folder_read_manifest(entry->folder, arena, &manifest, error) : error_set(error, DB_E_NOMEM, "out of memory");
	struct hash_progress hashing = {.total = err ? 0 : manifest.total_size_bytes, .show = progress, .user = user};
	for (size_t i = 0; !err && i < manifest.file_count; i++) {
		const struct manifest_file *file = &manifest.files[i];
		char path[2 * MODEL_PATH_SIZE], hash[SHA256_HEX_SIZE];
		uint64_t size;
		snprintf(path, sizeof path, "%s/%.*s", entry->folder, STR_ARG(file->path));
		err = folder_hash_file(path, &hashing, hash, &size, error);
		if (!err && (size != file->size_bytes || memcmp(hash, file->sha256, 64) != 0))
			err = error_set(error, DB_E_INVALID, "%s of %s differs from its manifest: remove the model and pull it again", path,
			                entry->id);
	}
	arena_free(arena);
	return err;
}

/* --- adding a file of this machine --- */

/* A folder beside the final one, with a link to the file and the manifest in it. */
static enum db_err stage_link(const char *staging, const char *target, const struct manifest *manifest, struct error *error)
{
	char link[2 * MODEL_PATH_SIZE];
	folder_remove(staging);
	enum db_err err = folder_make(staging, error);
	if (err)
		return err;
	snprintf(link, sizeof link, "%s/%.*s", staging, STR_ARG(manifest->files[0].path));
	if (symlink(target, link) != 0)
		return error_set(error, DB_E_IO, "%s could not be linked: %s", link, strerror(errno));
	return folder_write_manifest(staging, manifest, error);
}

static bool begins_as_gguf(const char *path)
{
	char magic[4] = {0};
	FILE *file = fopen(path, "rb");
	bool good = file && fread(magic, 1, sizeof magic, file) == sizeof magic && memcmp(magic, "GGUF", sizeof magic) == 0;
	if (file)
		fclose(file);
	return good;
}

enum db_err models_add_file(const char *dir, struct str id, const char *gguf_path, models_progress progress, void *user,
                            struct model_entry *out, struct error *error)
{
	char folder[MODEL_PATH_SIZE], staging[MODEL_PATH_SIZE + 16], target[PATH_MAX], created[CLOCK_RFC3339_SIZE];
	struct stat info;
	enum db_err err = folder_path(dir, id, folder, error);
	if (err)
		return err;
	if (!realpath(gguf_path, target) || stat(target, &info) != 0 || !S_ISREG(info.st_mode))
		return error_set(error, DB_E_NOT_FOUND, "%s is not a file", gguf_path);
	struct str name = str_of(strrchr(target, '/') + 1);
	if (!str_ends(name, STR(".gguf")) || !manifest_path_is_good(name))
		return error_set(error, DB_E_INVALID, "%s is not a GGUF file: its name must end in .gguf and not begin with a dot",
		                 gguf_path);
	if (!begins_as_gguf(target))
		return error_set(error, DB_E_INVALID, "%s is not a GGUF file: it does not begin as one", gguf_path);
	struct manifest_file file = {.path = name, .role = STR("weight")};
	struct hash_progress hashing = {.total = (uint64_t)info.st_size, .show = progress, .user = user};
	err = folder_hash_file(target, &hashing, file.sha256, &file.size_bytes, error);
	if (err)
		return err;
	clock_format_rfc3339(clock_wall_us(), created);
	struct manifest manifest = {
	    .model_id = id, .version = STR("local"), .created_at = str_of(created), .files = &file, .file_count = 1};
	manifest_seal(&manifest);
	snprintf(staging, sizeof staging, "%s/.adding-%s", dir, strrchr(folder, '/') + 1);
	err = stage_link(staging, target, &manifest, error);
	if (!err)
		err = folder_publish(staging, folder, error);
	if (err)
		folder_remove(staging);
	return err ? err : folder_describe(folder, out, error);
}
