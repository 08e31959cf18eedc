/* What a kept prefix is worth (inference 10.8). Pure. */
#ifndef PROVIDER_KV_SCORE_H
#define PROVIDER_KV_SCORE_H

#include <stdint.h>
#include <string.h>

#include "provider/kvcache/kv_digest.h"

#define KV_SCORE_HALF_US (86400.0 * 1e6)

struct kv_worth {
	double uses; /* hits + 1; less where a longer prefix accounts for them */
	uint64_t tokens, bytes;
	int64_t last_hit_us;
	const struct kv_digest *digest;
};

static inline double kv_score(const struct kv_worth *worth, int64_t now_us)
{
	double age = now_us > worth->last_hit_us ? (double)(now_us - worth->last_hit_us) : 0;
	double bytes = worth->bytes ? (double)worth->bytes : 1;
	return worth->uses * (double)worth->tokens / bytes * (KV_SCORE_HALF_US / (KV_SCORE_HALF_US + age));
}

/* Does a go before b? Lowest score first; ties by older last hit, then by digest. */
static inline int kv_goes_first(const struct kv_worth *a, const struct kv_worth *b, int64_t now_us)
{
	double score_a = kv_score(a, now_us), score_b = kv_score(b, now_us);
	if (score_a < score_b || score_a > score_b)
		return score_a < score_b;
	if (a->last_hit_us != b->last_hit_us)
		return a->last_hit_us < b->last_hit_us;
	return memcmp(a->digest, b->digest, sizeof *a->digest) < 0;
}

#endif
