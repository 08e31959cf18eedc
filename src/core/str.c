#include "core/str.h"

#include <math.h>
#include <stdlib.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool str_eq_nocase(struct str a, struct str b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.at[i]) != lower(b.at[i]))
			return false;
	return true;
}

bool str_starts(struct str text, struct str prefix)
{
	return text.len >= prefix.len && (prefix.len == 0 || memcmp(text.at, prefix.at, prefix.len) == 0);
}

bool str_ends(struct str text, struct str suffix)
{
	return text.len >= suffix.len && (suffix.len == 0 || memcmp(text.at + text.len - suffix.len, suffix.at, suffix.len) == 0);
}

bool str_contains_nocase(struct str text, struct str needle)
{
	if (needle.len == 0)
		return true;
	for (size_t from = 0; from + needle.len <= text.len; from++)
		if (str_eq_nocase((struct str){text.at + from, needle.len}, needle))
			return true;
	return false;
}

struct str str_trim(struct str text)
{
	while (text.len > 0 && is_space(text.at[0])) {
		text.at++;
		text.len--;
	}
	while (text.len > 0 && is_space(text.at[text.len - 1]))
		text.len--;
	return text;
}

struct str str_sub(struct str text, size_t from, size_t len)
{
	if (from >= text.len)
		return (struct str){text.at ? text.at + text.len : NULL, 0};
	size_t left = text.len - from;
	return (struct str){text.at + from, len < left ? len : left};
}

struct str str_cut(struct str text, char separator, struct str *head)
{
	const char *hit = text.len > 0 ? memchr(text.at, separator, text.len) : NULL;
	if (!hit) {
		*head = text;
		return STR_NONE;
	}
	size_t before = (size_t)(hit - text.at);
	*head = (struct str){text.at, before};
	return (struct str){hit + 1, text.len - before - 1};
}

bool str_to_u64(struct str text, uint64_t *out)
{
	if (text.len == 0)
		return false;
	uint64_t value = 0;
	for (size_t i = 0; i < text.len; i++) {
		if (!is_digit(text.at[i]))
			return false;
		uint64_t digit = (uint64_t)(text.at[i] - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return true;
}

bool str_to_i64(struct str text, int64_t *out)
{
	bool negative = text.len > 0 && text.at[0] == '-';
	uint64_t magnitude;
	if (!str_to_u64(negative ? str_sub(text, 1, text.len) : text, &magnitude))
		return false;
	if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return false;
	if (!negative)
		*out = (int64_t)magnitude;
	else
		*out = magnitude == 0 ? 0 : -(int64_t)(magnitude - 1) - 1;
	return true;
}

static size_t skip_digits(struct str text, size_t at)
{
	while (at < text.len && is_digit(text.at[at]))
		at++;
	return at;
}

/* [-+] digits [. digits] [e [-+] digits], which keeps out what strtod also takes: hex, "inf", "nan" and spaces. */
static bool is_decimal(struct str text)
{
	size_t at = text.len > 0 && (text.at[0] == '-' || text.at[0] == '+') ? 1 : 0;
	size_t end = skip_digits(text, at);
	if (end == at)
		return false;
	at = end;
	if (at < text.len && text.at[at] == '.') {
		end = skip_digits(text, at + 1);
		if (end == at + 1)
			return false;
		at = end;
	}
	if (at < text.len && (text.at[at] == 'e' || text.at[at] == 'E')) {
		at++;
		if (at < text.len && (text.at[at] == '-' || text.at[at] == '+'))
			at++;
		end = skip_digits(text, at);
		if (end == at)
			return false;
		at = end;
	}
	return at == text.len;
}

bool str_to_double(struct str text, double *out)
{
	char copy[512];
	if (!is_decimal(text) || !str_copy(text, copy, sizeof copy))
		return false;
	double value = strtod(copy, NULL);
	if (!isfinite(value))
		return false;
	*out = value;
	return true;
}

bool str_copy(struct str text, char *out, size_t size)
{
	if (size == 0)
		return false;
	if (text.len >= size) {
		out[0] = '\0';
		return false;
	}
	if (text.len > 0)
		memcpy(out, text.at, text.len);
	out[text.len] = '\0';
	return true;
}
