#include "provider/engine/number_grammar.h"

#include <stdio.h>
#include <string.h>

#define DIGITS   NUMBER_GRAMMAR_DIGITS
#define TEXT_MAX ((size_t)1 << 20)

/* A bound without its sign: digits before the point from the first that is not 0 (or one 0), and behind it. */
struct magnitude {
	bool none; /* there is no bound */
	bool excluded;
	char whole[DIGITS + 1], part[DIGITS + 1];
	size_t whole_len, part_len;
};

/* From the least to the most that a number without its sign may be. */
struct range {
	struct magnitude least, most;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool take_digits(const char **at, char out[DIGITS + 1], size_t *len)
{
	for (*len = 0; is_digit(**at); (*at)++) {
		if (*len == DIGITS)
			return false;
		out[(*len)++] = **at;
	}
	out[*len] = '\0';
	return true;
}

/* False when it is no decimal of that many digits. */
static bool read_bound(const struct number_bound *bound, bool *negative, struct magnitude *out)
{
	const char *at = bound->text;
	*out = (struct magnitude){.none = at == NULL, .excluded = bound->excluded};
	*negative = false;
	if (!at)
		return true;
	*negative = *at == '-';
	at += *negative;
	while (*at == '0' && is_digit(at[1]))
		at++;
	if (!take_digits(&at, out->whole, &out->whole_len) || !out->whole_len)
		return false;
	if (*at == '.' && (at++, !take_digits(&at, out->part, &out->part_len)))
		return false;
	while (out->part_len && out->part[out->part_len - 1] == '0')
		out->part[--out->part_len] = '\0';
	bool zero = out->part_len == 0 && strcmp(out->whole, "0") == 0;
	*negative = *negative && !zero;
	return *at == '\0';
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
static void put_free(const struct place *place, struct buf *out)
{
	char digits[32];
	snprintf(digits, sizeof digits, "[0-9]{%d,%d}", place->at > place->whole ? 0 : 1, DIGITS);
	if (place->at < place->whole)
		buf_printf(out, " [0-9]{%zu}", place->whole - place->at);
	if (place->at <= place->whole)
		buf_printf(out, " (\".\" %s)?", digits);
	else
		buf_printf(out, " %s", digits);
}

/* Only the low bound is tight, and it is written: what follows is at least nothing. */
static void put_above(const struct range *range, const struct place *place, struct buf *out)
{
	if (range->least.excluded)
		put_behind(place, "\"0\"{0,15} [1-9] [0-9]{0,15}", out);
	else
		put_free(place, out);
}

/* Only the high bound is tight, and it is written: nothing but zeros may follow. */
static bool put_below(const struct range *range, const struct place *place, struct buf *out)
{
	if (range->most.excluded)
		return false;
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
		put_free(&place, out);
		return true;
	}
	bool behind = place.at >= place.whole;
	if (behind && place.low && !place.high && is_written(&range->least, &place)) {
		put_above(range, &place, out);
		return true;
	}
	if (behind && place.high && !place.low && is_written(&range->most, &place))
		return put_below(range, &place, out);
	buf_init(&digits, TEXT_MAX);
	bool end = may_end(range, &place), more = place.at < place.whole + DIGITS && put_digits(range, &place, &digits);
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

enum db_err number_grammar(const struct number_bound *least, const struct number_bound *most, struct buf *out)
{
	static const struct magnitude zero = {.whole = "0", .whole_len = 1};
	struct magnitude low, high;
	bool below_zero, all_below_zero, any = false;
	if (!read_bound(least, &below_zero, &low) || !read_bound(most, &all_below_zero, &high))
		return DB_E_LIMIT;
	below_zero = below_zero || low.none;
	buf_append_str(out, STR("("));
	if (below_zero) {
		struct magnitude nearest = all_below_zero ? high : zero;
		nearest.excluded = all_below_zero || is_zero(&high) ? high.excluded : false;
		put_range(&(struct range){nearest, low}, " \"-\"", &any, out);
	}
	if (!all_below_zero)
		put_range(&(struct range){below_zero ? zero : low, high}, "", &any, out);
	buf_append_str(out, STR(" )"));
	if (!any)
		return DB_E_RANGE;
	return out->failed ? DB_E_NOMEM : DB_OK;
}
