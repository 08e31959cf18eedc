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

/* A folder beside the final one, with links to the files and the manifest in it. The paths of the manifest are the ends of the
 * targets' texts. */
static enum db_err stage_links(const char *staging, const struct manifest *manifest, char targets[][PATH_MAX],
                               struct error *error)
{
	char link[2 * MODEL_PATH_SIZE];
	folder_remove(staging);
	enum db_err err = folder_make(staging, error);
	for (size_t i = 0; !err && i < manifest->file_count; i++) {
		const char *name = manifest->files[i].path.at;
		size_t target = 0;
		while (strrchr(targets[target], '/') + 1 != name)
			target++;
		snprintf(link, sizeof link, "%s/%s", staging, name);
		if (symlink(targets[target], link) != 0)
			err = error_set(error, DB_E_IO, "%s could not be linked: %s", link, strerror(errno));
	}
	return err ? err : folder_write_manifest(staging, manifest, error);
}

struct added {
	const char *path, *ending, *what, *role;
};

/* Where the file really is, and its size. */
static enum db_err find_file(const char *path, const char *ending, const char *what, char target[PATH_MAX], struct stat *info,
                             struct error *error)
{
	if (!realpath(path, target) || stat(target, info) != 0 || !S_ISREG(info->st_mode))
		return error_set(error, DB_E_NOT_FOUND, "%s is not a file", path);
	struct str name = str_of(strrchr(target, '/') + 1);
	if (!str_ends(name, str_of(ending)) || !manifest_path_is_good(name))
		return error_set(error, DB_E_INVALID, "%s is not a %s: its name must end in %s and not begin with a dot", path, what,
		                 ending);
	return DB_OK;
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

#define ADDED_MOST 4

/* The files of the model: its weights, and what was given beside them. */
static size_t list_files(const char *gguf_path, const struct models_extras *extras, struct added out[ADDED_MOST])
{
	const struct added all[ADDED_MOST] = {
	    {gguf_path, ".gguf", "GGUF file", "weight"},
	    {extras ? extras->chat_template : NULL, ".jinja", "chat template", MODEL_TEMPLATE_ROLE},
	    {extras ? extras->draft : NULL, ".gguf", "GGUF file", MODEL_DRAFT_ROLE},
	    {extras ? extras->public_prompts : NULL, ".json", "list of prompts", MODEL_PROMPTS_ROLE},
	};
	size_t count = 0;
	for (size_t i = 0; i < ADDED_MOST; i++)
		if (all[i].path)
			out[count++] = all[i];
	return count;
}

static enum db_err find_files(const struct added *added, size_t count, char targets[ADDED_MOST][PATH_MAX], uint64_t *total,
                              struct error *error)
{
	struct stat info = {0};
	enum db_err err = DB_OK;
	*total = 0;
	for (size_t i = 0; !err && i < count; i++) {
		err = find_file(added[i].path, added[i].ending, added[i].what, targets[i], &info, error);
		if (!err && strcmp(added[i].ending, ".gguf") == 0 && !begins_as_gguf(targets[i]))
			err = error_set(error, DB_E_INVALID, "%s is not a GGUF file: it does not begin as one", added[i].path);
		for (size_t other = 0; !err && other < i; other++)
			if (strcmp(strrchr(targets[i], '/'), strrchr(targets[other], '/')) == 0)
				err = error_set(error, DB_E_INVALID, "%s has the name of another file of the model", added[i].path);
		*total += (uint64_t)info.st_size;
	}
	return err;
}

enum db_err models_add_file(const char *dir, struct str id, const char *gguf_path, const struct models_extras *extras,
                            models_progress progress, void *user, struct model_entry *out, struct error *error)
{
	char folder[MODEL_PATH_SIZE], staging[MODEL_PATH_SIZE + 16], created[CLOCK_RFC3339_SIZE];
	char targets[ADDED_MOST][PATH_MAX];
	struct added added[ADDED_MOST];
	struct manifest_file files[ADDED_MOST] = {{.size_bytes = 0}};
	size_t count = list_files(gguf_path, extras, added);
	struct hash_progress hashing = {.show = progress, .user = user};
	enum db_err err = folder_path(dir, id, folder, error);
	if (!err)
		err = find_files(added, count, targets, &hashing.total, error);
	for (size_t i = 0; !err && i < count; i++) {
		files[i].role = str_of(added[i].role);
		files[i].path = str_of(strrchr(targets[i], '/') + 1);
		err = folder_hash_file(targets[i], &hashing, files[i].sha256, &files[i].size_bytes, error);
	}
	if (err)
		return err;
	clock_format_rfc3339(clock_wall_us(), created);
	struct manifest manifest = {
	    .model_id = id, .version = STR("local"), .created_at = str_of(created), .files = files, .file_count = count};
	manifest_seal(&manifest);
	snprintf(staging, sizeof staging, "%s/.adding-%s", dir, strrchr(folder, '/') + 1);
	err = stage_links(staging, &manifest, targets, error);
	if (!err)
		err = folder_publish(staging, folder, error);
	if (err)
		folder_remove(staging);
	return err ? err : folder_describe(folder, out, error);
}
