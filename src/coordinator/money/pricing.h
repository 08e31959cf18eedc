/* What a request costs (billing 2): integers, 128-bit intermediates, rounding in this one place. Pure; thread: any. */
#ifndef COORDINATOR_PRICING_H
#define COORDINATOR_PRICING_H

#include "core/error.h"
#include "core/str.h"

#define PRICE_FALLBACK_INPUT  50000 /* micro-dollars per million tokens */
#define PRICE_FALLBACK_OUTPUT 200000
#define PRICE_MINIMUM_UUSD    100 /* standard accounts */

struct price {
	int64_t input, output; /* micro-dollars per million tokens */
};

/* Saturates at INT64_MAX instead of overflowing. service: no minimum charge (billing 2.2). */
int64_t price_cost(struct price price, uint64_t prompt_tokens, uint64_t completion_tokens, bool service);
/* fee = cost * percent / 100, truncated; percent clamped to 0..100 (billing 2.3). */
int64_t price_fee(int64_t cost_uusd, int percent);

/* "25.00" -> 25000000: decimal text, at most six fraction digits, no sign, no exponent (billing 1). */
enum db_err price_parse_usd(struct str text, int64_t *uusd);
#define PRICE_USD_SIZE 32
void price_format_usd(int64_t uusd, char out[PRICE_USD_SIZE]);              /* "25.000000" */
void price_format_per_token(int64_t per_million, char out[PRICE_USD_SIZE]); /* "0.00000005" (billing 1) */

#endif
