/* The RAM tier: states of prefixes in memory, found by digest, bounded in bytes and entries (inference 10.5, 12). The one of
 * least worth goes first; a prefix whose uses a longer one accounts for is worth less, and where a state can be cut it goes at
 * once. Thread: under the caller's lock. */
#ifndef PROVIDER_KV_RAM_H
#define PROVIDER_KV_RAM_H

#include "core/error.h"
#include "provider/kvcache/kv_blob.h"
#include "provider/kvcache/kv_keys.h"

#define KV_RAM_ENTRIES 64

/* A state with its names: the first `point_count` * KV_GRID tokens of a prompt. */
struct kv_snapshot {
	uint64_t model;
	struct kv_tag tag;
	bool cuttable;                  /* the state of a shorter prefix can be had from it */
	const struct kv_digest *points; /* copied */
	size_t point_count;             /* at least 1 */
	size_t parent_points;           /* the prefix that the request began from, or made on its way; 0 = none */
	struct kv_blob *blob;           /* held by the entry */
};

struct kv_ram;

struct kv_ram *kv_ram_new(uint64_t max_bytes, size_t max_entries); /* NULL when out of memory */
void kv_ram_free(struct kv_ram *ram);

/* DB_E_LIMIT when it is larger than the whole tier. An equal or longer entry makes it superfluous: DB_E_EXISTS. */
enum db_err kv_ram_put(struct kv_ram *ram, const struct kv_snapshot *snapshot, int64_t now_us);
/* Length in points of the longest prefix that is here, without touching recency. */
size_t kv_ram_find(const struct kv_ram *ram, uint64_t model, const struct kv_digest *points, size_t count);
/* The same, and counts as a hit. The blob is held for the caller; *blob_tokens is how many tokens its state has. NULL = none.
 */
struct kv_blob *kv_ram_take(struct kv_ram *ram, uint64_t model, const struct kv_digest *points, size_t count, int64_t now_us,
                            size_t *found_points, size_t *blob_tokens);

/* Drops what is one model's (tag NULL), one tenant's (model 0), or what is both. */
void kv_ram_drop(struct kv_ram *ram, uint64_t model, const struct kv_tag *tag);
/* Only that prefix. */
void kv_ram_drop_one(struct kv_ram *ram, uint64_t model, const struct kv_digest *points, size_t count);

struct kv_ram_use {
	uint64_t bytes, entries, evicted;
};
void kv_ram_use(const struct kv_ram *ram, struct kv_ram_use *out);

#endif
