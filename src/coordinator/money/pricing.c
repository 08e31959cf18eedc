#include "coordinator/money/pricing.h"

#include <inttypes.h>
#include <stdio.h>

#define MICRO 1000000

__extension__ typedef unsigned __int128 wide;

static bool digits_only(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
	return true;
}

enum db_err price_parse_usd(struct str text, int64_t *uusd)
{
	struct str whole_text;
	struct str fraction_text = str_cut(text, '.', &whole_text);
	bool has_point = fraction_text.at != NULL;
	uint64_t whole, fraction = 0;

	if (!whole_text.len || !digits_only(whole_text) || !digits_only(fraction_text))
		return DB_E_INVALID;
	if (has_point && (fraction_text.len == 0 || fraction_text.len > 6))
		return DB_E_INVALID;
	if (!str_to_u64(whole_text, &whole))
		return DB_E_RANGE;
	if (has_point) {
		str_to_u64(fraction_text, &fraction);
		for (size_t i = fraction_text.len; i < 6; i++)
			fraction *= 10;
	}
	wide total = (wide)whole * MICRO + fraction;
	if (total > INT64_MAX)
		return DB_E_RANGE;
	*uusd = (int64_t)total;
	return DB_OK;
}

void price_format_usd(int64_t uusd, char out[PRICE_USD_SIZE])
{
	uint64_t magnitude = uusd < 0 ? -(uint64_t)uusd : (uint64_t)uusd;
	snprintf(out, PRICE_USD_SIZE, "%s%" PRIu64 ".%06" PRIu64, uusd < 0 ? "-" : "", magnitude / MICRO, magnitude % MICRO);
}

void price_format_per_token(int64_t per_million, char out[PRICE_USD_SIZE])
{
	const uint64_t scale = (uint64_t)MICRO * MICRO; /* a micro-dollar per million tokens is 1e-12 dollars a token */
	uint64_t price = per_million < 0 ? 0 : (uint64_t)per_million;
	int len = snprintf(out, PRICE_USD_SIZE, "%" PRIu64 ".%012" PRIu64, price / scale, price % scale);
	while (out[len - 1] == '0')
		len--;
	if (out[len - 1] == '.')
		len--;
	out[len] = '\0';
}
