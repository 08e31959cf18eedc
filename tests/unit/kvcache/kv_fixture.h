/* Shared by the tests of the prefix cache: folders, prompts, states that look like a model's. */
#ifndef TEST_KV_FIXTURE_H
#define TEST_KV_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"
#include "crypto/secret.h"
#include "provider/kvcache/kv_cache.h"
#include "provider/kvcache/kv_folder.h"

static const uint8_t device_secret[KV_SECRET_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};

static inline int kv_setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	return crypto_init() ? -1 : 0;
}

static inline void make_root(char root[KV_PATH_SIZE])
{
	const char *folder = getenv("TMPDIR");
	snprintf(root, KV_PATH_SIZE, "%s/test-kv-XXXXXX", folder && folder[0] ? folder : "/var/tmp");
	assert_non_null(mkdtemp(root));
}

static inline struct kv_shape shape_of(const char *weights)
{
	struct kv_shape shape = {.vocab_size = 100, .layers = 2, .kv_heads = 1, .head_dim = 4};
	snprintf(shape.engine, sizeof shape.engine, "test");
	snprintf(shape.engine_version, sizeof shape.engine_version, "1");
	snprintf(shape.kv_type, sizeof shape.kv_type, "f16");
	snprintf(shape.model_arch, sizeof shape.model_arch, "fake");
	snprintf(shape.model_hash, sizeof shape.model_hash, "%s", weights);
	return shape;
}

/* --- states: 8 bytes for each token, whose value tells the token and its place --- */

static inline uint64_t token_state(int32_t token, size_t at)
{
	return ((uint64_t)(uint32_t)token << 32) | (uint32_t)at;
}

static inline struct kv_blob *state_of(const int32_t *tokens, size_t from, size_t to)
{
	struct kv_blob *blob = kv_blob_new((to - from) * 8);
	for (size_t i = from; blob && i < to; i++) {
		uint64_t value = token_state(tokens[i], i);
		memcpy(blob->bytes + (i - from) * 8, &value, 8);
	}
	return blob;
}

static inline bool state_is(const struct kv_blob *blob, const int32_t *tokens, size_t count)
{
	if (!blob || blob->len != count * 8)
		return false;
	for (size_t i = 0; i < count; i++) {
		uint64_t value;
		memcpy(&value, blob->bytes + i * 8, 8);
		if (value != token_state(tokens[i], i))
			return false;
	}
	return true;
}

static inline struct kv_blob *fake_cut(const struct kv_blob *state, size_t from, size_t to)
{
	uint64_t first;
	memcpy(&first, state->bytes, 8);
	size_t start = (uint32_t)first;
	if (from < start || to > start + state->len / 8 || from >= to)
		return NULL;
	struct kv_blob *blob = kv_blob_new((to - from) * 8);
	if (blob)
		memcpy(blob->bytes, state->bytes + (from - start) * 8, blob->len);
	return blob;
}

static inline struct kv_blob *fake_join(struct kv_blob *const *parts, size_t count)
{
	size_t len = 0;
	for (size_t i = 0; i < count; i++)
		len += parts[i]->len;
	struct kv_blob *blob = kv_blob_new(len);
	len = 0;
	for (size_t i = 0; blob && i < count; i++) {
		memcpy(blob->bytes + len, parts[i]->bytes, parts[i]->len);
		len += parts[i]->len;
	}
	return blob;
}

static const struct kv_codec fake_codec = {fake_cut, fake_join};

/* --- prompts --- */

#define MAX_PROMPT 4096

/* `seed` gives the tokens; prompts of the same seed begin alike. */
static inline void prompt_tokens(int32_t seed, int32_t *out, size_t count)
{
	for (size_t i = 0; i < count; i++)
		out[i] = (int32_t)((uint32_t)seed * 2654435761u + (uint32_t)i * 40503u) & 0xffff;
}

struct world {
	char root[KV_PATH_SIZE];
	struct kv_cache *cache;
	struct kv_model *model;
};

struct world_options {
	uint64_t ram_bytes, disk_bytes;
	int64_t ttl_us;
	uint32_t tick_ms;
	bool whole_only; /* states cannot be cut */
	bool always_read;
	uint32_t max_writes, min_persist_tokens;
	const struct kv_codec *codec; /* NULL: fake_codec */
	const char *weights;
};

static inline void world_open(struct world *world, const struct world_options *options)
{
	struct error error = {.text = ""};
	struct kv_cache_options cache = {.root = world->root,
	                                 .secret = device_secret,
	                                 .ram_bytes = options->ram_bytes,
	                                 .disk_bytes = options->disk_bytes ? options->disk_bytes : 1 << 28,
	                                 .ttl_us = options->ttl_us,
	                                 .tick_ms = options->tick_ms,
	                                 .always_read = options->always_read,
	                                 .min_persist_tokens = options->min_persist_tokens,
	                                 .max_writes = options->max_writes ? options->max_writes : 64};
	world->cache = kv_cache_open(&cache, &error);
	if (!world->cache)
		fail_msg("%s", error.text);
	struct kv_model_options model = {.model_id = "fake/model",
	                                 .shape = shape_of(options->weights ? options->weights : "weights-1"),
	                                 .codec = options->whole_only ? NULL
	                                          : options->codec    ? options->codec
	                                                              : &fake_codec};
	world->model = kv_model_open(world->cache, &model, &error);
	if (!world->model)
		fail_msg("%s", error.text);
	/* computing is dear here: reading always pays */
	for (int i = 0; i < 30; i++)
		kv_model_prefilled(world->model, 1, 1000000);
}

static inline void world_close(struct world *world)
{
	kv_model_close(world->model);
	kv_cache_close(world->cache);
}

static inline struct kv_stats stats_of(struct world *world)
{
	struct kv_stats stats;
	kv_cache_stats(world->cache, &stats);
	return stats;
}

/* Its folder goes too. */
static inline void world_end(struct world *world)
{
	world_close(world);
	kv_folder_remove(world->root);
}

/* What an engine does with a prompt: looks it up, computes the rest, keeps it. Returns how many tokens it did not compute. */
static inline size_t serve(struct world *world, const char *tenant, const int32_t *tokens, size_t count, struct kv_taken *seen)
{
	struct kv_prompt prompt;
	struct kv_taken taken = {NULL, 0, 0, false};
	size_t found = 0;
	if (kv_prompt_make(world->model, STR_NONE, str_of(tenant), tokens, count, &prompt))
		return 0;
	struct kv_fetch *fetch = kv_fetch_begin(world->model, &prompt, NULL, NULL);
	while (fetch && !kv_fetch_done(fetch))
		usleep(200);
	kv_take(world->model, &prompt, fetch, &taken);
	if (taken.state) {
		assert_true(taken.tokens < count);
		assert_true(state_is(taken.state, tokens, taken.state_tokens) || taken.state_tokens > taken.tokens);
		struct kv_blob *prefix = state_of(tokens, 0, taken.tokens);
		assert_true(taken.state->len >= prefix->len);
		assert_memory_equal(taken.state->bytes, prefix->bytes, prefix->len);
		kv_blob_release(prefix);
		kv_restored(world->model, &taken, 1);
		found = taken.tokens;
	}
	size_t last = prompt.count * KV_GRID;
	if (kv_wants(world->model, &prompt, last)) {
		struct kv_blob *state = state_of(tokens, 0, last);
		if (state)
			kv_store(world->model, &prompt, last, found, state, true);
		kv_blob_release(state);
	}
	if (seen)
		*seen = taken;
	kv_blob_release(taken.state);
	kv_fetch_end(fetch);
	kv_prompt_free(&prompt);
	return found;
}

static inline size_t serve_seed(struct world *world, const char *tenant, int32_t seed, size_t count)
{
	int32_t tokens[MAX_PROMPT];
	prompt_tokens(seed, tokens, count);
	return serve(world, tenant, tokens, count, NULL);
}

/* --- the disk alone --- */

static inline uint64_t fake_free(const char *path, void *user)
{
	(void)path;
	return *(uint64_t *)user;
}

static inline struct kv_disk *open_disk(const char *root, uint64_t max_bytes, int64_t ttl_us, uint64_t *free_bytes)
{
	struct error error;
	struct kv_disk_options options = {.root = root,
	                                  .secret = device_secret,
	                                  .max_bytes = max_bytes,
	                                  .ttl_us = ttl_us,
	                                  .free_bytes = free_bytes ? fake_free : NULL,
	                                  .user = free_bytes};
	struct kv_disk *disk = kv_disk_open(&options, &error);
	if (!disk)
		fail_msg("%s", error.text);
	struct kv_shape shape = shape_of("weights-1");
	struct kv_disk_model_options model = {1, "fake/model", &shape, &fake_codec};
	assert_int_equal(kv_disk_model_open(disk, &model, &error), DB_OK);
	return disk;
}

static inline enum db_err write_seed(struct kv_disk *disk, int32_t seed, size_t count)
{
	int32_t tokens[MAX_PROMPT];
	struct kv_digest points[MAX_PROMPT / KV_GRID];
	prompt_tokens(seed, tokens, count);
	struct kv_snapshot snapshot = {.model = 1, .cuttable = true, .points = points};
	kv_keys_tag(kv_disk_keys(disk), STR("a"), &snapshot.tag);
	snapshot.point_count = kv_points(STR("a"), tokens, count, points);
	snapshot.blob = state_of(tokens, 0, snapshot.point_count * KV_GRID);
	enum db_err err = kv_disk_write(disk, &snapshot, NULL, NULL);
	kv_blob_release(snapshot.blob);
	return err;
}

static inline size_t find_seed(struct kv_disk *disk, int32_t seed, size_t count)
{
	int32_t tokens[MAX_PROMPT];
	struct kv_digest points[MAX_PROMPT / KV_GRID];
	struct kv_tag tag;
	uint64_t bytes;
	prompt_tokens(seed, tokens, count);
	kv_keys_tag(kv_disk_keys(disk), STR("a"), &tag);
	return kv_disk_find(disk, 1, &tag, points, kv_points(STR("a"), tokens, count, points), &bytes) * KV_GRID;
}

/* --- files --- */

struct file_list {
	size_t count, temporary;
	char path[64][KV_PATH_SIZE];
	uint64_t bytes;
};

static inline void list_file(const struct kv_found *found, void *user)
{
	struct file_list *list = user;
	list->temporary += found->temporary;
	list->bytes += found->bytes;
	if (list->count < 64)
		snprintf(list->path[list->count], KV_PATH_SIZE, "%s", found->path);
	list->count++;
}

static inline void list_files(const char *root, struct file_list *list)
{
	*list = (struct file_list){.count = 0};
	kv_folder_walk(root, list_file, list);
}

#endif
