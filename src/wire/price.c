#include "wire/price.h"

#define MICRO 1000000

__extension__ typedef unsigned __int128 wide;

static int64_t saturate(wide value)
{
	return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

static wide part_cost(uint64_t tokens, int64_t per_million)
{
	return per_million <= 0 ? 0 : (wide)tokens * (uint64_t)per_million / MICRO;
}

int64_t price_cost(struct price price, struct price_tokens tokens, bool service)
{
	uint64_t cached = price.cached <= 0 ? 0 : tokens.cached < tokens.prompt ? tokens.cached : tokens.prompt;
	/* Each part is truncated on its own (billing 13.15). */
	int64_t cost = saturate(part_cost(tokens.prompt - cached, price.input) + part_cost(cached, price.cached) +
	                        part_cost(tokens.completion, price.output));
	if (!service)
		return cost < PRICE_MINIMUM_UUSD ? PRICE_MINIMUM_UUSD : cost;
	return cost == 0 && (tokens.prompt || tokens.completion) ? 1 : cost;
}

int64_t price_fee(int64_t cost_uusd, int percent)
{
	if (cost_uusd <= 0 || percent <= 0)
		return 0;
	return saturate((wide)cost_uusd * (unsigned)(percent > 100 ? 100 : percent) / 100);
}

int64_t price_referral(int64_t fee_uusd, int percent)
{
	return price_fee(fee_uusd, percent > 50 ? 50 : percent);
}
