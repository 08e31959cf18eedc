#include "provider/engine/number_grammar.h"

#include <stdio.h>
#include <string.h>

#define DIGITS       NUMBER_GRAMMAR_DIGITS
#define LONGEST      NUMBER_GRAMMAR_LONGEST
#define TEXT_MAX     ((size_t)1 << 20)
#define BOUND_MAX    400  /* characters of a bound's text */
#define EXPONENT_MAX 9999 /* a larger one says no more */

/* A bound without its sign: digits before the point from the first that is not 0 (or one 0), and behind it. */
struct magnitude {
	bool none; /* there is no bound */
	bool excluded;
	char whole[LONGEST + 1], part[DIGITS + 1];
	size_t whole_len, part_len;
};

/* From the least to the most that a number without its sign may be. */
struct range {
	struct magnitude least, most;
	bool integers;
};

/* A number as it is written: 0.DIGITS times ten to the power of `point`. */
struct decimal {
	bool negative;
	char digits[BOUND_MAX];
	size_t len;
	long point;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool read_exponent(const char *at, long *exponent)
{
	bool negative = *at == '-';
	*exponent = 0;
	at += *at == '-' || *at == '+';
	if (!is_digit(*at))
		return false;
	for (; is_digit(*at); at++)
		if (*exponent < EXPONENT_MAX)
			*exponent = *exponent * 10 + (*at - '0');
	*exponent = negative ? -*exponent : *exponent;
	return *at == '\0';
}

/* Zeros at either end say nothing. */
static void strip(struct decimal *number)
{
	size_t zeros = 0;
	while (zeros < number->len && number->digits[zeros] == '0')
		zeros++;
	memmove(number->digits, number->digits + zeros, number->len - zeros);
	number->len -= zeros;
	number->point -= (long)zeros;
	while (number->len && number->digits[number->len - 1] == '0')
		number->len--;
	if (!number->len)
		*number = (struct decimal){.point = 0};
}

static bool read_decimal(const char *text, struct decimal *out)
{
	const char *at = text + (*text == '-');
	long exponent = 0;
	*out = (struct decimal){.negative = *text == '-'};
	if (strlen(text) >= BOUND_MAX || !is_digit(*at))
		return false;
	for (; is_digit(*at); at++, out->point++)
		out->digits[out->len++] = *at;
	if (*at == '.') {
		if (!is_digit(*++at))
			return false;
		for (; is_digit(*at); at++)
			out->digits[out->len++] = *at;
	}
	bool scaled = *at == 'e' || *at == 'E';
	if (scaled ? !read_exponent(at + 1, &exponent) : *at != '\0')
		return false;
	out->point += exponent;
	strip(out);
	return true;
}

/* The digit of ten to the power of -1-place, 0 = the first behind the point. */
static char decimal_digit(const struct decimal *number, long place)
{
	long at = number->point + place;
	return at >= 0 && at < (long)number->len ? number->digits[at] : '0';
}

/* The digits that numbers of the grammar have, and what is beyond them cut off. */
static void cut(const struct decimal *number, size_t decimals, struct magnitude *out)
{
	out->whole_len = number->point > 0 ? (size_t)number->point : 1;
	for (size_t i = 0; i < out->whole_len; i++)
		out->whole[i] = decimal_digit(number, (long)i - (long)out->whole_len);
	for (size_t i = 0; i < decimals; i++)
		out->part[i] = decimal_digit(number, (long)i);
	out->part_len = decimals;
	while (out->part_len && out->part[out->part_len - 1] == '0')
		out->part[--out->part_len] = '\0';
}

/* A bound with more digits than the numbers of the grammar leaves those of them that are beyond it. Any of them is further than
 * a bound from below that was cut, and none than one from above. */
static enum db_err read_bound(const struct number_bound *bound, bool integers, bool lowest, bool *negative,
                              struct magnitude *out)
{
	struct decimal number;
	long decimals = integers ? 0 : DIGITS;
	*out = (struct magnitude){.none = bound->text == NULL, .excluded = bound->excluded};
	*negative = false;
	if (!bound->text)
		return DB_OK;
	if (!read_decimal(bound->text, &number))
		return DB_E_INVALID;
	bool nearest = lowest != number.negative; /* to 0 of what is left, and not furthest */
	if (number.point > LONGEST) {
		out->none = true;
		return nearest ? DB_E_LIMIT : DB_OK;
	}
	cut(&number, (size_t)decimals, out);
	if (number.point + decimals < (long)number.len)
		out->excluded = nearest;
	bool zero = out->part_len == 0 && strcmp(out->whole, "0") == 0;
	*negative = number.negative && !zero;
	return DB_OK;
}

static bool is_zero(const struct magnitude *bound)
{
	return !bound->none && bound->part_len == 0 && strcmp(bound->whole, "0") == 0;
}

/* --- digits --- */

/* Where a text is: so many digits were written, of which those before the point are `whole` in all. Where a side is tight they
 * are the bound's own. */
struct place {
	size_t at, whole;
	bool low, high;
};

static char digit_of(const struct magnitude *bound, const struct place *place)
{
	if (place->at < place->whole)
		return bound->whole[place->at];
	size_t behind = place->at - place->whole;
	return behind < bound->part_len ? bound->part[behind] : '0';
}

static bool is_written(const struct magnitude *bound, const struct place *place)
{
	return place->at >= place->whole + bound->part_len;
}

static bool may_end(const struct range *range, const struct place *place)
{
	bool low = !place->low || (is_written(&range->least, place) && !range->least.excluded);
	bool high = !place->high || !is_written(&range->most, place) || !range->most.excluded;
	return place->at >= place->whole && low && high;
}

/* `more` of what may stand behind the point, which is still to be written at its place. */
static void put_behind(const struct place *place, const char *more, struct buf *out)
{
	if (place->at > place->whole)
		buf_printf(out, " %s", more);
	else
		buf_printf(out, " \".\" %s", more);
}

/* Digits that neither bound minds. */
static void put_free(const struct place *place, bool integers, struct buf *out)
{
	char digits[32];
	snprintf(digits, sizeof digits, "[0-9]{%d,%d}", place->at > place->whole ? 0 : 1, DIGITS);
	if (place->at < place->whole)
		buf_printf(out, " [0-9]{%zu}", place->whole - place->at);
	if (integers)
		return;
	if (place->at <= place->whole)
		buf_printf(out, " (\".\" %s)?", digits);
	else
		buf_printf(out, " %s", digits);
}

/* Only the low bound is tight, and it is written: what follows is at least nothing. */
static bool put_above(const struct range *range, const struct place *place, struct buf *out)
{
	if (range->least.excluded && range->integers)
		return false;
	if (range->least.excluded)
		put_behind(place, "\"0\"{0,15} [1-9] [0-9]{0,15}", out);
	else
		put_free(place, range->integers, out);
	return true;
}

/* Only the high bound is tight, and it is written: nothing but zeros may follow. */
static bool put_below(const struct range *range, const struct place *place, struct buf *out)
{
	if (range->most.excluded || range->integers)
		return !range->most.excluded;
	if (place->at > place->whole)
		buf_append_str(out, STR(" \"0\"{0,15}"));
	else
		buf_append_str(out, STR(" (\".\" \"0\"{1,16})?"));
	return true;
}

static bool put_rest(const struct range *range, struct place place, struct buf *out);

/* A digit from one to the other, and what may follow it; true when there is such a text. */
static bool put_choice(const struct range *range, char from, char to, struct place next, bool first, struct buf *out)
{
	struct buf rest;
	buf_init(&rest, TEXT_MAX);
	bool any = from <= to && put_rest(range, next, &rest);
	if (any && from == to)
		buf_printf(out, "%s\"%c\"%.*s", first ? "" : " | ", from, STR_ARG(buf_str(&rest)));
	else if (any)
		buf_printf(out, "%s[%c-%c]%.*s", first ? "" : " | ", from, to, STR_ARG(buf_str(&rest)));
	out->failed = out->failed || rest.failed;
	buf_free(&rest);
	return any;
}

/* The next digit, and what may follow it. */
static bool put_digits(const struct range *range, const struct place *place, struct buf *out)
{
	char low = place->low ? digit_of(&range->least, place) : '0', high = place->high ? digit_of(&range->most, place) : '9';
	struct place free = {.at = place->at + 1, .whole = place->whole}, tight_low = free, tight_high = free;
	tight_low.low = tight_high.high = true;
	if (place->low && place->high && low >= high) {
		tight_low.high = true;
		return low == high && put_choice(range, low, low, tight_low, true, out);
	}
	bool any = put_choice(range, (char)(low + place->low), (char)(high - place->high), free, true, out);
	any = (place->low && put_choice(range, low, low, tight_low, !any, out)) || any;
	return (place->high && put_choice(range, high, high, tight_high, !any, out)) || any;
}

/* All that may follow; false when nothing within the bounds begins so. */
static bool put_rest(const struct range *range, struct place place, struct buf *out)
{
	struct buf digits;
	if (!place.low && !place.high) {
		put_free(&place, range->integers, out);
		return true;
	}
	bool behind = place.at >= place.whole;
	if (behind && place.low && !place.high && is_written(&range->least, &place))
		return put_above(range, &place, out);
	if (behind && place.high && !place.low && is_written(&range->most, &place))
		return put_below(range, &place, out);
	buf_init(&digits, TEXT_MAX);
	size_t most = place.whole + (range->integers ? 0 : DIGITS);
	bool end = may_end(range, &place), more = place.at < most && put_digits(range, &place, &digits);
	if (more)
		buf_printf(out, " (%s(%.*s))%s", place.at == place.whole ? "\".\" " : "", STR_ARG(buf_str(&digits)), end ? "?" : "");
	out->failed = out->failed || digits.failed;
	buf_free(&digits);
	return end || more;
}

/* --- numbers --- */

/* 1, 10, 100, ...: the least of so many digits. */
static struct magnitude first_of_length(size_t digits)
{
	struct magnitude out = {.whole = "1", .whole_len = digits};
	memset(out.whole + 1, '0', digits - 1);
	return out;
}

static void put_range(const struct range *range, const char *sign, bool *any, struct buf *out)
{
	size_t longest = range->most.none ? DIGITS : range->most.whole_len;
	if (range->most.none && longest < range->least.whole_len)
		longest = range->least.whole_len;
	for (size_t len = range->least.whole_len; len <= longest; len++) {
		struct range one = *range;
		struct place place = {.whole = len, .low = true, .high = !range->most.none && len == longest};
		struct buf text;
		if (len > range->least.whole_len)
			one.least = first_of_length(len);
		buf_init(&text, TEXT_MAX);
		if (put_rest(&one, place, &text)) {
			buf_printf(out, "%s%s%.*s", *any ? " |" : "", sign, STR_ARG(buf_str(&text)));
			*any = true;
		}
		out->failed = out->failed || text.failed;
		buf_free(&text);
	}
}

enum db_err number_grammar(const struct number_bound *least, const struct number_bound *most, bool integers, struct buf *out)
{
	static const struct magnitude zero = {.whole = "0", .whole_len = 1};
	struct magnitude low, high;
	bool below_zero, all_below_zero, any = false;
	enum db_err err = read_bound(least, integers, true, &below_zero, &low);
	err = err ? err : read_bound(most, integers, false, &all_below_zero, &high);
	if (err)
		return err;
	below_zero = below_zero || low.none;
	buf_append_str(out, STR("("));
	if (below_zero) {
		struct magnitude nearest = all_below_zero ? high : zero;
		nearest.excluded = all_below_zero || is_zero(&high) ? high.excluded : false;
		put_range(&(struct range){nearest, low, integers}, " \"-\"", &any, out);
	}
	if (!all_below_zero)
		put_range(&(struct range){below_zero ? zero : low, high, integers}, "", &any, out);
	buf_append_str(out, STR(" )"));
	if (!any)
		return DB_E_RANGE;
	return out->failed ? DB_E_NOMEM : DB_OK;
}
