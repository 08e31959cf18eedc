/* One file of the SSD tier (inference 11): an envelope with a wrapped file key, clear but authenticated metadata, and sealed
 * chunks. Chunk 0 holds the digests of the prefixes inside (kv_points), the rest is the state.
 *
 *   "DBKV" | u16 LE version | u16 LE flags | 12-byte IV | u32 LE 60 | nonce 12, wrapped key 32, tag 16
 *   | u32 LE metadata length | metadata JSON | u32 LE chunk count | chunks: u32 LE (plain + 16) | ciphertext | tag
 *
 * Everything is authenticated together with what the reader expects, not with what the file says of itself: model hash, engine
 * and its version and settings, tenant, and the digest asked for. Blocks; thread: any, one file at a time. */
#ifndef PROVIDER_KV_FILE_H
#define PROVIDER_KV_FILE_H

#include "core/buf.h"
#include "provider/kvcache/kv_blob.h"
#include "provider/kvcache/kv_keys.h"

#define KV_FILE_SUFFIX       ".darkbloom-kv"
#define KV_FILE_VERSION      1
#define KV_FILE_CHUNK        (1u << 20)  /* plain bytes of a chunk that is written: the writer rests after each */
#define KV_FILE_CHUNK_MAX    (16u << 20) /* ... and read */
#define KV_FILE_META_MAX     (1u << 20)
#define KV_FILE_POINTS_MAX   (1u << 15) /* 2,097,152 tokens (inference 5.1) / KV_GRID */
#define KV_FILE_STATE_MAX    (UINT64_C(1) << 40)
#define KV_FILE_WRAPPED      60
#define KV_FILE_HEADER_BYTES (20 + 4 + KV_FILE_WRAPPED + 4) /* up to the metadata */

/* What a state must have been made by to be of use here. A new version of the engine's library, another KV type or context
 * setting is another shape: a clean miss. */
struct kv_shape {
	char engine[32], engine_version[32];
	char kv_type[32], context_flags[96];
	char model_arch[64], model_dtype[32];
	char model_hash[65];
	int64_t vocab_size, layers, kv_heads, head_dim;
};

/* Where a file belongs: the reader's own knowledge. */
struct kv_place {
	const struct kv_keys *keys;
	const struct kv_shape *shape;
	struct kv_tag tag;
	struct kv_digest name;
};

struct kv_file_facts {
	uint64_t tokens; /* the state is that of this many tokens ... */
	uint64_t from;   /* ... but only those from here on are inside; the file `parent` has what comes before */
	struct kv_digest parent;
	int64_t created_us;
	size_t point_count;
	uint64_t state_bytes;
};

enum kv_why {
	KV_GOOD,
	KV_ABSENT,
	KV_DAMAGED, /* torn, truncated, altered, or no such file at all */
	KV_OTHER_MODEL,
	KV_OTHER_SHAPE,
	KV_OTHER_NAME,
	KV_OTHER_SCOPE,
	KV_EXPIRED,
	KV_UNREADABLE, /* the disk failed */
	KV_NO_MEMORY,
};
/* Every kind of failure is a miss. Those that say nothing against the file leave it where it is: above all another tenant's. */
bool kv_why_deletes(enum kv_why why);

/* Called between chunks with the bytes written so far; return false to give up (DB_E_CLOSED). May be NULL. */
typedef bool (*kv_file_pace)(uint64_t bytes, void *user);

/* Writes a whole file to the empty descriptor. `facts->state_bytes` is ignored. */
enum db_err kv_file_write(int fd, const struct kv_place *place, const struct kv_file_facts *facts,
                          const struct kv_digest *points, struct str state, kv_file_pace pace, void *user, uint64_t *written);

/* Checks header and metadata and opens the points: what the index needs. *points (may be NULL) is one allocation, free() it. */
enum kv_why kv_file_describe(int fd, const struct kv_place *place, struct kv_file_facts *facts, struct kv_digest **points);
/* Everything: *state is the caller's. */
enum kv_why kv_file_read(int fd, const struct kv_place *place, struct kv_file_facts *facts, struct kv_blob **state);

#endif
