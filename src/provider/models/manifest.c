#include "provider/models/manifest.h"

#include <stdlib.h>

#include "core/encode.h"
#include "core/json.h"

static int by_path(const void *a, const void *b)
{
	const struct manifest_file *left = a, *right = b;
	size_t shared = left->path.len < right->path.len ? left->path.len : right->path.len;
	int order = memcmp(left->path.at, right->path.at, shared);
	return order ? order : left->path.len < right->path.len ? -1 : left->path.len > right->path.len;
}

static void aggregate(const struct manifest *manifest, char out[SHA256_HEX_SIZE])
{
	struct sha256_state state;
	uint8_t digest[SHA256_BYTES];
	sha256_begin(&state);
	for (size_t i = 0; i < manifest->file_count; i++) {
		if (hex_decode((struct str){manifest->files[i].sha256, 64}, digest, sizeof digest))
			memset(digest, 0, sizeof digest);
		sha256_update(&state, digest, sizeof digest);
	}
	sha256_end(&state, digest);
	hex_encode(digest, sizeof digest, out);
}

void manifest_seal(struct manifest *manifest)
{
	qsort(manifest->files, manifest->file_count, sizeof *manifest->files, by_path);
	manifest->total_size_bytes = 0;
	for (size_t i = 0; i < manifest->file_count; i++)
		manifest->total_size_bytes += manifest->files[i].size_bytes;
	aggregate(manifest, manifest->aggregate_sha256);
}

bool manifest_path_is_good(struct str path)
{
	if (!path.len || path.len > MANIFEST_MAX_PATH || str_is(path, "manifest.json"))
		return false;
	for (size_t i = 0; i < path.len; i++)
		if ((unsigned char)path.at[i] < 0x20 || path.at[i] == 0x7f || path.at[i] == '\\')
			return false;
	for (struct str rest = path, part; rest.at;) {
		rest = str_cut(rest, '/', &part);
		if (!part.len || part.at[0] == '.') /* also hidden files: they are never part of a model */
			return false;
	}
	return true;
}

static bool lower_hex64(const json_val *value, char out[SHA256_HEX_SIZE])
{
	struct str text;
	uint8_t digest[SHA256_BYTES];
	if (!json_as_str(value, &text) || hex_decode(text, digest, sizeof digest))
		return false;
	hex_encode(digest, sizeof digest, out);
	return true;
}

static bool count_of(const json_val *value, uint64_t *out)
{
	int64_t number;
	if (!json_as_i64(value, &number) || number < 0 || number > MANIFEST_MAX_SIZE)
		return false;
	*out = (uint64_t)number;
	return true;
}

static bool read_file(const json_val *value, struct manifest_file *out)
{
	out->role = STR_NONE;
	json_as_str(json_get(value, "role"), &out->role);
	return json_as_str(json_get(value, "path"), &out->path) && manifest_path_is_good(out->path) &&
	       count_of(json_get(value, "size_bytes"), &out->size_bytes) && lower_hex64(json_get(value, "sha256"), out->sha256);
}

enum db_err manifest_parse(struct str text, struct arena *arena, struct manifest *out, struct error *error)
{
	struct json_doc *doc = text.len <= MANIFEST_MAX_BYTES ? json_parse(text, arena, NULL) : NULL;
	const json_val *root = doc ? json_root(doc) : NULL, *files = json_get(root, "files");
	int64_t schema = 0;
	uint64_t count = 0, total = 0;
	*out = (struct manifest){0};
	json_as_i64(json_get(root, "schema_version"), &schema);
	if (schema != 1)
		return error_set(error, DB_E_INVALID, "this is not a model manifest of schema version 1");
	json_as_str(json_get(root, "version"), &out->version);
	json_as_str(json_get(root, "created_at"), &out->created_at);
	char claimed[SHA256_HEX_SIZE];
	if (!json_as_str(json_get(root, "model_id"), &out->model_id) || !out->model_id.len ||
	    !count_of(json_get(root, "file_count"), &count) || !count_of(json_get(root, "total_size_bytes"), &total) ||
	    !lower_hex64(json_get(root, "aggregate_sha256"), claimed))
		return error_set(error, DB_E_INVALID, "the manifest lacks model_id, file_count, total_size_bytes or aggregate_sha256");
	if (!count || count > MANIFEST_MAX_FILES || json_len(files) != count)
		return error_set(error, DB_E_INVALID, "the manifest's file_count does not match its files");
	out->files = arena_alloc(arena, (size_t)count * sizeof *out->files);
	if (!out->files)
		return error_set(error, DB_E_NOMEM, "out of memory");
	struct json_iter each = json_iter(files);
	for (json_val *file; (file = json_next(&each, NULL));)
		if (!read_file(file, &out->files[out->file_count++]))
			return error_set(error, DB_E_INVALID, "file %zu of the manifest has no good path, size_bytes or sha256",
			                 out->file_count);
	manifest_seal(out);
	for (size_t i = 1; i < out->file_count; i++)
		if (str_eq(out->files[i - 1].path, out->files[i].path))
			return error_set(error, DB_E_INVALID, "the manifest names %.*s twice", STR_ARG(out->files[i].path));
	if (out->total_size_bytes != total || memcmp(out->aggregate_sha256, claimed, 64) != 0)
		return error_set(error, DB_E_INVALID, "the manifest's total size or aggregate hash does not match its files");
	return DB_OK;
}

enum db_err manifest_write(const struct manifest *manifest, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_i64(&w, "schema_version", 1);
	json_put_str(&w, "model_id", manifest->model_id);
	json_put_str(&w, "version", manifest->version);
	json_put_cstr(&w, "aggregate_sha256", manifest->aggregate_sha256);
	json_put_i64(&w, "total_size_bytes", (int64_t)manifest->total_size_bytes);
	json_put_i64(&w, "file_count", (int64_t)manifest->file_count);
	json_key(&w, "files");
	json_begin_array(&w);
	for (size_t i = 0; i < manifest->file_count; i++) {
		const struct manifest_file *file = &manifest->files[i];
		json_begin_object(&w);
		json_put_str(&w, "path", file->path);
		json_put_i64(&w, "size_bytes", (int64_t)file->size_bytes);
		json_put_cstr(&w, "sha256", file->sha256);
		json_put_str(&w, "role", file->role);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_put_str(&w, "created_at", manifest->created_at);
	json_end_object(&w);
	buf_append_byte(out, '\n');
	return out->failed ? DB_E_NOMEM : DB_OK;
}

/* Quantisation names of GGUF files start with Q, IQ or are float formats. */
static bool looks_quantised(struct str part)
{
	static const char *const floats[] = {"F16", "BF16", "F32", "MXFP4"};
	for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
		if (str_eq_nocase(part, str_of(floats[i])))
			return true;
	if (part.len && (part.at[0] == 'I' || part.at[0] == 'i'))
		part = str_sub(part, 1, part.len);
	return part.len >= 2 && (part.at[0] == 'Q' || part.at[0] == 'q') && part.at[1] >= '1' && part.at[1] <= '8';
}

void manifest_quantization(struct str file_name, char *out, size_t size)
{
	out[0] = '\0';
	if (str_ends(file_name, STR(".gguf")))
		file_name.len -= 5;
	size_t start = 0;
	for (size_t i = 0; i <= file_name.len; i++) {
		if (i < file_name.len && file_name.at[i] != '.' && file_name.at[i] != '-')
			continue;
		struct str part = str_sub(file_name, start, i - start);
		if (looks_quantised(part))
			str_copy(part, out, size);
		start = i + 1;
	}
}
