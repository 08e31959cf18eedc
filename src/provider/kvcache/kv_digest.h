/* Names of prefixes: one rolling SHA-256 over scope and tokens, and the token counts at which a prefix can be kept
 * (inference 10.2, 10.3). Pure; thread: any. */
#ifndef PROVIDER_KV_DIGEST_H
#define PROVIDER_KV_DIGEST_H

#include "core/str.h"
#include "crypto/hash.h"

#define KV_GRID       64 /* prefixes are matched at multiples of it */
#define KV_LADDER_MAX 32

struct kv_digest {
	uint8_t bytes[SHA256_BYTES];
};

/* SHA-256("dbkv-prefix-v1" [| "dbkv-scope-v1" | u64 LE length | scope] | tokens as int64 LE). */
struct kv_roll {
	struct sha256_state state;
};
void kv_roll_begin(struct kv_roll *roll, struct str scope);
void kv_roll_add(struct kv_roll *roll, const int32_t *tokens, size_t count);
void kv_roll_peek(const struct kv_roll *roll, struct kv_digest *out); /* of what was added so far */
void kv_roll_end(struct kv_roll *roll);                               /* wipes */

/* Digests of the first KV_GRID, 2 * KV_GRID, ... tokens, as many as fit `count`; returns how many were written. */
size_t kv_points(struct str scope, const int32_t *tokens, size_t count, struct kv_digest *out);

/* Token counts at which a model whose state cannot be cut is captured, ascending: geometric from 256 to the context, and for a
 * sliding window the window and half of it. window 0 = none. Unproven models with a window are not captured past it, without a
 * window not past 8,192. */
size_t kv_ladder(uint32_t window, bool proven, uint32_t context, uint32_t out[KV_LADDER_MAX]);

/* The last boundary of a prompt: the grid point that leaves 1 to KV_GRID tokens to compute. 0 for a short prompt. */
static inline size_t kv_last_boundary(size_t prompt_tokens)
{
	return prompt_tokens ? (prompt_tokens - 1) / KV_GRID * KV_GRID : 0;
}

#endif
