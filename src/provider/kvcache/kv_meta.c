#include "provider/kvcache/kv_meta.h"

#include "core/encode.h"
#include "core/json.h"

#include <stdlib.h>

#define SCHEMA     "darkbloom.kv.v1"
#define MAX_CHUNKS (1u << 17)

static void put_hex(struct json_writer *w, const char *key, const uint8_t bytes[SHA256_BYTES])
{
	char hex[SHA256_HEX_SIZE];
	hex_encode(bytes, SHA256_BYTES, hex);
	json_put_cstr(w, key, hex);
}

enum db_err kv_meta_write(const struct kv_place *place, const struct kv_file_facts *facts, const struct kv_chunks *chunks,
                          struct buf *out)
{
	const struct kv_shape *shape = place->shape;
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_key(&w, "chunkPlaintextSizes");
	json_begin_array(&w);
	for (size_t i = 0; i < chunks->count; i++)
		json_u64(&w, chunks->plain[i]);
	json_end_array(&w);
	json_put_cstr(&w, "contextFlags", shape->context_flags);
	json_put_i64(&w, "createdAt", facts->created_us);
	json_put_cstr(&w, "engine", shape->engine);
	json_put_cstr(&w, "engineVersion", shape->engine_version);
	json_put_i64(&w, "formatVersion", KV_FILE_VERSION);
	json_put_i64(&w, "fromToken", (int64_t)facts->from);
	json_put_i64(&w, "headDim", shape->head_dim);
	json_put_i64(&w, "kvHeads", shape->kv_heads);
	json_put_cstr(&w, "kvType", shape->kv_type);
	json_put_cstr(&w, "magic", "DBKV");
	json_put_cstr(&w, "modelArch", shape->model_arch);
	json_put_cstr(&w, "modelDtype", shape->model_dtype);
	json_put_cstr(&w, "modelHash", shape->model_hash);
	json_put_i64(&w, "numLayers", shape->layers);
	if (facts->from)
		put_hex(&w, "parentName", facts->parent.bytes);
	json_put_cstr(&w, "schema", SCHEMA);
	put_hex(&w, "scope", place->tag.bytes);
	json_put_i64(&w, "tokenCount", (int64_t)facts->tokens);
	put_hex(&w, "tokenPrefixName", place->name.bytes);
	json_put_i64(&w, "vocabSize", shape->vocab_size);
	json_end_object(&w);
	return out->failed ? DB_E_NOMEM : DB_OK;
}

/* --- reading --- */

static bool text_is(const json_val *root, const char *key, const char *wanted)
{
	struct str text;
	return json_as_str(json_get(root, key), &text) && str_is(text, wanted);
}

static bool number_is(const json_val *root, const char *key, int64_t wanted)
{
	int64_t number;
	return json_as_i64(json_get(root, key), &number) && number == wanted;
}

static bool hex_of(const json_val *root, const char *key, uint8_t out[SHA256_BYTES])
{
	struct str text;
	return json_as_str(json_get(root, key), &text) && !hex_decode(text, out, SHA256_BYTES);
}

static bool count_of(const json_val *root, const char *key, uint64_t max, uint64_t *out)
{
	int64_t number;
	if (!json_as_i64(json_get(root, key), &number) || number < 0 || (uint64_t)number > max)
		return false;
	*out = (uint64_t)number;
	return true;
}

static bool same_shape(const json_val *root, const struct kv_shape *shape)
{
	return text_is(root, "engine", shape->engine) && text_is(root, "engineVersion", shape->engine_version) &&
	       text_is(root, "kvType", shape->kv_type) && text_is(root, "contextFlags", shape->context_flags) &&
	       text_is(root, "modelArch", shape->model_arch) && text_is(root, "modelDtype", shape->model_dtype) &&
	       number_is(root, "vocabSize", shape->vocab_size) && number_is(root, "numLayers", shape->layers) &&
	       number_is(root, "kvHeads", shape->kv_heads) && number_is(root, "headDim", shape->head_dim);
}

static enum kv_why read_chunks(const json_val *root, struct kv_file_facts *facts, struct kv_chunks *chunks)
{
	const json_val *sizes = json_get(root, "chunkPlaintextSizes");
	size_t count = json_len(sizes);
	if (count < 1 || count > MAX_CHUNKS)
		return KV_DAMAGED;
	chunks->plain = malloc(count * sizeof *chunks->plain);
	if (!chunks->plain)
		return KV_NO_MEMORY;
	struct json_iter each = json_iter(sizes);
	for (json_val *size; (size = json_next(&each, NULL));) {
		int64_t number;
		if (!json_as_i64(size, &number) || number < 1 || number > KV_FILE_CHUNK_MAX)
			return KV_DAMAGED;
		if (chunks->count)
			facts->state_bytes += (uint64_t)number;
		chunks->plain[chunks->count++] = (uint64_t)number;
	}
	uint64_t points = chunks->plain[0];
	if (points % SHA256_BYTES || points / SHA256_BYTES > KV_FILE_POINTS_MAX || facts->state_bytes > KV_FILE_STATE_MAX)
		return KV_DAMAGED;
	facts->point_count = points / SHA256_BYTES;
	return KV_GOOD;
}

static enum kv_why read_facts(const json_val *root, struct kv_file_facts *facts)
{
	uint64_t created, most = (uint64_t)KV_FILE_POINTS_MAX * KV_GRID;
	if (!count_of(root, "tokenCount", most, &facts->tokens) || !count_of(root, "fromToken", most, &facts->from) ||
	    !count_of(root, "createdAt", INT64_MAX, &created) || facts->tokens == 0 || facts->from >= facts->tokens ||
	    (facts->from && !hex_of(root, "parentName", facts->parent.bytes)))
		return KV_DAMAGED;
	facts->created_us = (int64_t)created;
	return KV_GOOD;
}

enum kv_why kv_meta_read(struct str json, const struct kv_place *place, struct kv_file_facts *facts, struct kv_chunks *chunks)
{
	struct error error = {0};
	uint8_t name[SHA256_BYTES], tag[SHA256_BYTES];
	*facts = (struct kv_file_facts){0};
	*chunks = (struct kv_chunks){NULL, 0};
	struct json_doc *doc = json_parse(json, NULL, &error);
	if (!doc)
		return error.code == DB_E_NOMEM ? KV_NO_MEMORY : KV_DAMAGED;
	const json_val *root = json_root(doc);
	enum kv_why why = KV_DAMAGED;
	if (!text_is(root, "magic", "DBKV") || !text_is(root, "schema", SCHEMA) ||
	    !number_is(root, "formatVersion", KV_FILE_VERSION) || !hex_of(root, "tokenPrefixName", name) ||
	    !hex_of(root, "scope", tag))
		goto out;
	why = !text_is(root, "modelHash", place->shape->model_hash) ? KV_OTHER_MODEL
	      : !same_shape(root, place->shape)                     ? KV_OTHER_SHAPE
	      : memcmp(tag, place->tag.bytes, sizeof tag) != 0      ? KV_OTHER_SCOPE
	      : memcmp(name, place->name.bytes, sizeof name) != 0   ? KV_OTHER_NAME
	                                                            : KV_GOOD;
	if (why == KV_GOOD)
		why = read_facts(root, facts);
	if (why == KV_GOOD)
		why = read_chunks(root, facts, chunks);
out:
	json_free(doc);
	return why;
}
