#include "provider/models/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/encode.h"
#include "core/log.h"

#define HASH_BLOCK_BYTES (1u << 20)
#define MAX_OPEN_FOLDERS 16

/* --- names --- */

static bool is_id_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' ||
	       c == '-' || c == '/';
}

static bool is_joint(char c)
{
	return c == '-' || c == '/';
}

/* '-' and '/' stand alone and between others: otherwise two ids could share a folder. */
static bool id_is_good(struct str id)
{
	bool good = id.len > 0 && id.len < MODEL_ID_SIZE && id.at[0] != '.' && !is_joint(id.at[0]) && !is_joint(id.at[id.len - 1]);
	for (size_t i = 0; good && i < id.len; i++)
		good = is_id_byte(id.at[i]) && !(i && is_joint(id.at[i]) && is_joint(id.at[i - 1]));
	return good;
}

enum db_err folder_path(const char *dir, struct str id, char out[MODEL_PATH_SIZE], struct error *error)
{
	if (!id_is_good(id))
		return error_set(error, DB_E_INVALID,
		                 "\"%.*s\" is not a model id: use letters, digits, '.', '_', ':' and between them single '-' and '/'",
		                 STR_ARG(str_sub(id, 0, 80)));
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

enum db_err folder_make(const char *path, struct error *error)
{
	char folder[MODEL_PATH_SIZE];
	if (!path[0] || !str_copy(str_of(path), folder, sizeof folder))
		return error_set(error, DB_E_LIMIT, "the path of a model folder is too long");
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

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
	(void)info;
	(void)kind;
	(void)where;
	return remove(path);
}

void folder_remove(const char *path)
{
	if (nftw(path, remove_one, MAX_OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		log_warn("models.not_removed", "path=%s why=\"%s\"", path, strerror(errno));
}

/* --- manifests --- */

enum db_err folder_read_manifest(const char *folder, struct arena *arena, struct manifest *out, struct error *error)
{
	char path[MODEL_PATH_SIZE + 16];
	struct buf text;
	enum db_err err = DB_OK;
	buf_init(&text, MANIFEST_MAX_BYTES + 4096);
	snprintf(path, sizeof path, "%s/manifest.json", folder);
	FILE *file = fopen(path, "rbe");
	if (!file)
		return error_set(error, errno == ENOENT || errno == ENOTDIR ? DB_E_NOT_FOUND : DB_E_IO, "%s could not be read: %s",
		                 path, strerror(errno));
	for (size_t n = 1; n && !buf_reserve(&text, 4096);) {
		n = fread(text.at + text.len, 1, 4096, file);
		text.len += n;
	}
	bool broken = ferror(file) != 0;
	fclose(file);
	struct str kept = broken ? STR_NONE : arena_str(arena, buf_str(&text));
	buf_free(&text);
	if (broken)
		err = error_set(error, DB_E_IO, "%s could not be read", path);
	else
		err = kept.at ? manifest_parse(kept, arena, out, error) : error_set(error, DB_E_NOMEM, "out of memory");
	return err;
}

enum db_err folder_write_manifest(const char *folder, const struct manifest *manifest, struct error *error)
{
	char path[MODEL_PATH_SIZE + 16];
	struct buf text;
	buf_init(&text, 2 * MANIFEST_MAX_BYTES); /* ours may be longer than the one that was read */
	snprintf(path, sizeof path, "%s/manifest.json", folder);
	enum db_err err = manifest_write(manifest, &text);
	FILE *file = err ? NULL : fopen(path, "wbe");
	bool ok = file && fwrite(text.at, 1, text.len, file) == text.len;
	if (file)
		ok = fclose(file) == 0 && ok;
	buf_free(&text);
	return ok ? DB_OK : error_set(error, err ? err : DB_E_IO, "%s could not be written: %s", path, strerror(errno));
}

/* The folder's name is the one that the id would get. */
static bool is_named_after(const char *folder, struct str id)
{
	char expected[MODEL_PATH_SIZE];
	const char *name = strrchr(folder, '/');
	return name && folder_path("", id, expected, NULL) == DB_OK && strcmp(expected, name) == 0;
}

static bool name_file(const char *folder, struct str path, char out[MODEL_PATH_SIZE])
{
	int n = snprintf(out, MODEL_PATH_SIZE, "%s/%.*s", folder, STR_ARG(path));
	bool fits = n >= 0 && n < MODEL_PATH_SIZE;
	if (!fits)
		out[0] = '\0';
	return fits;
}

/* Where the path of a file that stands beside the weights is kept; NULL: it is none of those. */
static char *extra_of(struct model_entry *entry, struct str role)
{
	if (str_is(role, MODEL_TEMPLATE_ROLE))
		return entry->chat_template;
	if (str_is(role, MODEL_DRAFT_ROLE))
		return entry->draft;
	return str_is(role, MODEL_PROMPTS_ROLE) ? entry->public_prompts : NULL;
}

enum db_err folder_describe(const char *folder, struct model_entry *out, struct error *error)
{
	struct manifest manifest;
	struct arena *arena = arena_new(0);
	*out = (struct model_entry){0};
	enum db_err err =
	    arena ? folder_read_manifest(folder, arena, &manifest, error) : error_set(error, DB_E_NOMEM, "out of memory");
	if (err)
		goto out;
	if (!is_named_after(folder, manifest.model_id) || !str_copy(manifest.model_id, out->id, sizeof out->id) ||
	    !str_copy(str_of(folder), out->folder, sizeof out->folder)) {
		err = error_set(error, DB_E_INVALID, "%s holds the manifest of another model", folder);
		goto out;
	}
	for (size_t i = 0; i < manifest.file_count; i++) {
		struct str path = manifest.files[i].path, role = manifest.files[i].role;
		char *extra = extra_of(out, role);
		if (extra && !name_file(folder, path, extra)) {
			err = error_set(error, DB_E_LIMIT, "the path of the %.*s in %s is too long", STR_ARG(role), folder);
			goto out;
		}
		if (extra || out->weights[0] || !str_ends(path, STR(".gguf")))
			continue;
		name_file(folder, path, out->weights);
		manifest_quantization(path, out->quantization, sizeof out->quantization);
	}
	if (!out->weights[0])
		err = error_set(error, DB_E_INVALID, "%s holds no GGUF file", folder);
	str_copy((struct str){manifest.aggregate_sha256, 64}, out->weight_hash, sizeof out->weight_hash);
	out->size_bytes = manifest.total_size_bytes;
out:
	arena_free(arena);
	return err;
}

enum db_err folder_publish(const char *staging, const char *folder, struct error *error)
{
	char old[MODEL_PATH_SIZE + 16]; /* hidden: a scan must not find it, should we be killed between the renames */
	const char *name = strrchr(folder, '/') + 1;
	snprintf(old, sizeof old, "%.*s.old-%s", (int)(name - folder), folder, name);
	folder_remove(old);
	bool replaced = rename(folder, old) == 0;
	if (rename(staging, folder) != 0) {
		int why = errno;
		if (replaced && rename(old, folder) != 0)
			log_error("models.not_put_back", "path=%s why=\"%s\"", old, strerror(errno));
		return error_set(error, DB_E_IO, "%s could not be put in place: %s", folder, strerror(why));
	}
	folder_remove(old);
	return DB_OK;
}

/* --- hashing --- */

enum db_err folder_hash_file(const char *path, struct hash_progress *progress, char out[SHA256_HEX_SIZE], uint64_t *size,
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
	while (!err) {
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
		if (progress->show && !progress->show(progress->done, progress->total, progress->user))
			err = error_set(error, DB_E_CLOSED, "stopped");
	}
	sha256_end(&state, digest);
	hex_encode(digest, sizeof digest, out);
out:
	free(block);
	if (fd >= 0)
		close(fd);
	return err;
}
