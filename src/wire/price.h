/* What a request costs (billing 2): integers, 128-bit intermediates, rounding in this one place. The coordinator charges by it,
 * and whoever holds a receipt computes it again. Pure; thread: any. */
#ifndef WIRE_PRICE_H
#define WIRE_PRICE_H

#include <stdbool.h>
#include <stdint.h>

#define PRICE_FALLBACK_INPUT  50000 /* micro-dollars per million tokens */
#define PRICE_FALLBACK_OUTPUT 200000
#define PRICE_MINIMUM_UUSD    100 /* standard accounts */

struct price {
	int64_t input, output; /* micro-dollars per million tokens */
	int64_t cached;        /* of prompt tokens that came from the prefix cache; 0 = they cost what others do */
};

struct price_tokens {
	uint64_t prompt, completion;
	uint64_t cached; /* of the prompt's; more than those count as all of them */
};

/* Saturates at INT64_MAX instead of overflowing. service: no minimum charge (billing 2.2). */
int64_t price_cost(struct price price, struct price_tokens tokens, bool service);
/* fee = cost * percent / 100, truncated; percent clamped to 0..100 (billing 2.3). */
int64_t price_fee(int64_t cost_uusd, int percent);
/* The referrer's part of a fee, truncated; percent clamped to 0..50 (billing 8.1), so that the platform keeps at least half. */
int64_t price_referral(int64_t fee_uusd, int percent);
#define PRICE_REFERRAL_PERCENT 20 /* where nothing else is configured */

#endif
