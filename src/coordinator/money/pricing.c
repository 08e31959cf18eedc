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

/* The first digits of a JSON number that are not leading zeros, and how many of all stand before its point. More digits than
 * there is room for are of no amount in range. */
struct decimal {
	char digits[64];
	size_t count;
	int64_t point;
};

static bool add_digits(struct decimal *d, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		bool leading = d->count == 0 && text.at[i] == '0';
		if (d->count == sizeof d->digits)
			return digits_only(text);
		if (!leading)
			d->digits[d->count++] = text.at[i];
		else
			d->point--;
	}
	return digits_only(text);
}

static bool read_exponent(struct str text, int64_t *out)
{
	int64_t sign = text.len && text.at[0] == '-' ? -1 : 1;
	uint64_t value = 0;
	if (text.len && (text.at[0] == '-' || text.at[0] == '+'))
		text = str_sub(text, 1, text.len - 1);
	if (text.len == 0 || text.len > 9 || !digits_only(text) || !str_to_u64(text, &value))
		return false;
	*out = sign * (int64_t)value;
	return true;
}

static bool read_decimal(struct str text, struct decimal *out)
{
	struct str mantissa = text, exponent = STR_NONE, whole;
	int64_t power = 0;
	*out = (struct decimal){0};
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] == 'e' || text.at[i] == 'E') {
			mantissa = str_sub(text, 0, i);
			exponent = str_sub(text, i + 1, text.len - i - 1);
			if (!read_exponent(exponent, &power))
				return false;
			break;
		}
	struct str fraction = str_cut(mantissa, '.', &whole);
	if (whole.len == 0 || whole.len > 400 || (fraction.at && fraction.len == 0))
		return false;
	out->point = (int64_t)whole.len + power;
	return add_digits(out, whole) && add_digits(out, fraction);
}

enum db_err price_parse_number(struct str text, int64_t max_uusd, int64_t *uusd)
{
	struct decimal d;
	wide value = 0;
	if (!read_decimal(text, &d))
		return DB_E_INVALID;
	int64_t kept = d.point + 6; /* digits that are whole micro-dollars */
	if (d.count > 0 && kept > 19)
		return DB_E_RANGE;
	for (int64_t i = 0; d.count > 0 && i < kept; i++)
		value = value * 10 + (i < (int64_t)d.count ? (unsigned)(d.digits[i] - '0') : 0);
	if (kept >= 0 && kept < (int64_t)d.count && d.digits[kept] >= '5')
		value++;
	if (value > (wide)max_uusd)
		return DB_E_RANGE;
	*uusd = (int64_t)value;
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
