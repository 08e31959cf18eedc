/* Strings, numbers, booleans and date-times of TOML. */
#include "core/buf.h"
#include "core/clock.h"
#include "core/toml_internal.h"

#include <math.h>

#define NUMBER_MAX 256

/* --- strings --- */

static bool is_forbidden_control(char c)
{
	return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

static bool append_scalar_value(struct toml_parser *p, struct buf *out, uint32_t code)
{
	if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
		return toml_fail(p, DB_E_INVALID, "\\u escape U+%04X is not a character", (unsigned)code);
	if (code < 0x80) {
		buf_append_byte(out, (char)code);
	} else if (code < 0x800) {
		buf_append(out, (char[]){(char)(0xC0 | code >> 6), (char)(0x80 | (code & 63))}, 2);
	} else if (code < 0x10000) {
		buf_append(out, (char[]){(char)(0xE0 | code >> 12), (char)(0x80 | (code >> 6 & 63)), (char)(0x80 | (code & 63))}, 3);
	} else {
		buf_append(out,
		           (char[]){(char)(0xF0 | code >> 18), (char)(0x80 | (code >> 12 & 63)), (char)(0x80 | (code >> 6 & 63)),
		                    (char)(0x80 | (code & 63))},
		           4);
	}
	return true;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
		return (c | 0x20) - 'a' + 10;
	return -1;
}

static bool read_unicode_escape(struct toml_parser *p, int digits, struct buf *out)
{
	uint32_t code = 0;
	for (int i = 0; i < digits; i++) {
		int value = hex_value(toml_peek(p));
		if (value < 0)
			return toml_fail(p, DB_E_INVALID, "a \\%c escape needs %d hex digits", digits == 4 ? 'u' : 'U', digits);
		code = code << 4 | (uint32_t)value;
		p->at++;
	}
	return append_scalar_value(p, out, code);
}

static bool read_escape(struct toml_parser *p, struct buf *out)
{
	static const char letters[] = "btnfr\"\\", meanings[] = "\b\t\n\f\r\"\\";
	char c = toml_peek(p);
	const char *hit = c ? strchr(letters, c) : NULL;
	if (!hit && c != 'u' && c != 'U')
		return toml_fail(p, DB_E_INVALID, "unknown escape after \\ in a string; write \\\\ for a backslash");
	p->at++;
	if (!hit)
		return read_unicode_escape(p, c == 'u' ? 4 : 8, out);
	buf_append_byte(out, meanings[hit - letters]);
	return true;
}

static void skip_blanks(struct toml_parser *p)
{
	while (toml_peek(p) == ' ' || toml_peek(p) == '\t')
		p->at++;
}

/* A backslash at a line's end takes away the white space up to the next text. */
static bool skip_line_continuation(struct toml_parser *p)
{
	struct toml_parser ahead = *p;
	skip_blanks(&ahead);
	if (!toml_accept_newline(&ahead))
		return false;
	do
		skip_blanks(&ahead);
	while (toml_accept_newline(&ahead));
	*p = ahead;
	return true;
}

static bool read_single_line(struct toml_parser *p, char quote, struct buf *out)
{
	while (!toml_accept(p, quote)) {
		char c = toml_peek(p);
		if (toml_at_end(p) || c == '\n' || c == '\r')
			return toml_fail(p, DB_E_INVALID, "a string is not closed on its line");
		if (is_forbidden_control(c))
			return toml_fail(p, DB_E_INVALID, "a string holds a control character; write it as an escape");
		p->at++;
		if (quote == '"' && c == '\\') {
			if (!read_escape(p, out))
				return false;
		} else {
			buf_append_byte(out, c);
		}
	}
	return true;
}

static bool read_multi_line(struct toml_parser *p, char quote, struct buf *out)
{
	const char closing[] = {quote, quote, quote};
	toml_accept_newline(p); /* one directly after the opening quotes is not part of the text */
	while (!toml_looking_at(p, (struct str){closing, 3})) {
		if (toml_at_end(p))
			return toml_fail(p, DB_E_INVALID, "a string in triple quotes is not closed");
		if (toml_accept_newline(p)) {
			buf_append_byte(out, '\n');
			continue;
		}
		char c = *p->at;
		if (is_forbidden_control(c))
			return toml_fail(p, DB_E_INVALID, "a string holds a control character; write it as an escape");
		p->at++;
		if (quote == '"' && c == '\\') {
			if (!skip_line_continuation(p) && !read_escape(p, out))
				return false;
		} else {
			buf_append_byte(out, c);
		}
	}
	p->at += 3;
	for (int extra = 0; extra < 2 && toml_accept(p, quote); extra++)
		buf_append_byte(out, quote);
	return true;
}

bool toml_read_string(struct toml_parser *p, bool multiline, struct str *out)
{
	char quote = *p->at;
	const char triple[] = {quote, quote, quote};
	struct buf text;
	buf_init(&text, (size_t)(p->end - p->at));
	bool ok;
	if (toml_looking_at(p, (struct str){triple, 3})) {
		p->at += 3;
		ok = multiline ? read_multi_line(p, quote, &text)
		               : toml_fail(p, DB_E_INVALID, "a key cannot be a string in triple quotes");
	} else {
		p->at++;
		ok = read_single_line(p, quote, &text);
	}
	if (ok) {
		*out = arena_str(p->arena, buf_str(&text));
		ok = (out->at && !text.failed) || toml_fail(p, DB_E_NOMEM, "there is not enough memory");
	}
	buf_free(&text);
	return ok;
}

/* --- numbers --- */

static bool is_digit_of(char c, int base)
{
	int value = hex_value(c);
	return value >= 0 && value < base;
}

/* Copies digits without their underscores, each of which must stand between two digits. Returns what is left. */
static struct str take_digits(struct str text, int base, struct buf *out)
{
	bool after_digit = false;
	while (text.len > 0) {
		char c = text.at[0];
		bool between = c == '_' && after_digit && text.len > 1 && is_digit_of(text.at[1], base);
		if (!between && !is_digit_of(c, base))
			break;
		if (!between)
			buf_append_byte(out, c);
		after_digit = !between;
		text = str_sub(text, 1, text.len);
	}
	return text;
}

static bool read_prefixed_integer(struct str text, int64_t *out)
{
	int base = text.at[1] == 'x' ? 16 : text.at[1] == 'o' ? 8 : 2;
	struct buf digits;
	buf_init(&digits, NUMBER_MAX);
	struct str rest = take_digits(str_sub(text, 2, text.len), base, &digits);
	bool ok = rest.len == 0 && digits.len > 0;
	uint64_t value = 0;
	for (size_t i = 0; ok && i < digits.len; i++) {
		ok = value <= (uint64_t)INT64_MAX / (uint64_t)base;
		value = value * (uint64_t)base + (uint64_t)hex_value(digits.at[i]);
	}
	ok = ok && value <= INT64_MAX;
	buf_free(&digits);
	*out = (int64_t)value;
	return ok;
}

static bool take_sign(struct str *text, struct buf *out)
{
	if (text->len == 0 || (text->at[0] != '+' && text->at[0] != '-'))
		return false;
	if (text->at[0] == '-')
		buf_append_byte(out, '-');
	*text = str_sub(*text, 1, text->len);
	return true;
}

/* The sign, digits, fraction and exponent of a decimal number, cleaned of underscores. Says whether it is a float. */
static bool clean_decimal(struct str text, struct buf *out, bool *real)
{
	*real = false;
	take_sign(&text, out);
	size_t start = out->len;
	text = take_digits(text, 10, out);
	if (out->len == start || (out->len - start > 1 && out->at[start] == '0'))
		return false;
	if (text.len > 0 && text.at[0] == '.') {
		*real = true;
		buf_append_byte(out, '.');
		start = out->len;
		text = take_digits(str_sub(text, 1, text.len), 10, out);
		if (out->len == start)
			return false;
	}
	if (text.len > 0 && (text.at[0] == 'e' || text.at[0] == 'E')) {
		*real = true;
		buf_append_byte(out, 'e');
		text = str_sub(text, 1, text.len);
		take_sign(&text, out);
		start = out->len;
		text = take_digits(text, 10, out);
		if (out->len == start)
			return false;
	}
	return text.len == 0 && !out->failed;
}

static bool read_special_float(struct str text, double *out)
{
	bool negative = text.len > 0 && text.at[0] == '-';
	struct str name = negative || (text.len > 0 && text.at[0] == '+') ? str_sub(text, 1, text.len) : text;
	if (!str_is(name, "inf") && !str_is(name, "nan"))
		return false;
	double value = name.at[0] == 'i' ? (double)INFINITY : (double)NAN;
	*out = copysign(value, negative ? -1.0 : 1.0);
	return true;
}

static bool read_number(struct toml_parser *p, struct str text, struct toml_value *out)
{
	if (read_special_float(text, &out->as.real)) {
		out->type = TOML_FLOAT;
		return true;
	}
	if (text.len > 2 && text.at[0] == '0' && (text.at[1] == 'x' || text.at[1] == 'o' || text.at[1] == 'b')) {
		out->type = TOML_INT;
		if (!read_prefixed_integer(text, &out->as.integer))
			return toml_fail(p, DB_E_INVALID, "`%.*s` is not a 64-bit integer", STR_ARG(text));
		return true;
	}
	struct buf digits;
	buf_init(&digits, NUMBER_MAX);
	bool real, well_formed = clean_decimal(text, &digits, &real), in_range = false;
	out->type = real ? TOML_FLOAT : TOML_INT;
	if (well_formed)
		in_range = real ? str_to_double(buf_str(&digits), &out->as.real) : str_to_i64(buf_str(&digits), &out->as.integer);
	buf_free(&digits);
	if (!well_formed)
		return toml_fail(p, DB_E_INVALID, "`%.*s` is not a value; texts stand in quotes", STR_ARG(str_sub(text, 0, 80)));
	return in_range || toml_fail(p, DB_E_RANGE, "the number `%.*s` is too large", STR_ARG(str_sub(text, 0, 80)));
}

/* --- date-times --- */

static bool is_date_shaped(struct str text)
{
	return text.len >= 10 && text.at[4] == '-' && text.at[7] == '-';
}

static bool is_time_shaped(struct str text)
{
	return text.len >= 8 && text.at[2] == ':' && text.at[5] == ':';
}

/* RFC 3339 with what the local kinds leave out filled in, so that one checker serves all four kinds. */
static bool complete_datetime(struct str text, struct buf *out)
{
	if (is_time_shaped(text)) {
		buf_append_str(out, STR("2000-01-01T"));
		buf_append_str(out, text);
		return buf_append_byte(out, 'Z') == DB_OK;
	}
	buf_append_str(out, str_sub(text, 0, 10));
	if (text.len == 10)
		return buf_append_str(out, STR("T00:00:00Z")) == DB_OK;
	if (!strchr("Tt ", text.at[10]))
		return false;
	struct str time = str_sub(text, 11, text.len);
	bool zulu = str_ends(time, STR("Z")) || str_ends(time, STR("z"));
	bool offset = time.len > 6 && (time.at[time.len - 6] == '+' || time.at[time.len - 6] == '-');
	buf_append_byte(out, 'T');
	buf_append_str(out, zulu ? str_sub(time, 0, time.len - 1) : time);
	if (!offset)
		buf_append_byte(out, 'Z');
	return !out->failed;
}

static bool read_datetime(struct toml_parser *p, struct str text, struct toml_value *out)
{
	struct buf full;
	int64_t ignored;
	buf_init(&full, NUMBER_MAX);
	bool ok = complete_datetime(text, &full) && clock_parse_rfc3339(buf_str(&full), &ignored) == DB_OK;
	buf_free(&full);
	if (!ok)
		return toml_fail(p, DB_E_INVALID, "`%.*s` is not a date or time", STR_ARG(str_sub(text, 0, 80)));
	out->type = TOML_DATETIME;
	out->as.string = arena_str(p->arena, text);
	return out->as.string.at || toml_fail(p, DB_E_NOMEM, "there is not enough memory");
}

/* --- one word --- */

static bool is_word_character(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("_+-.:", c));
}

static struct str take_word(struct toml_parser *p)
{
	struct str word = {p->at, 0};
	while (is_word_character(toml_peek(p)))
		p->at++;
	word.len = (size_t)(p->at - word.at);
	return word;
}

bool toml_read_scalar(struct toml_parser *p, struct toml_value *out)
{
	struct str word = take_word(p);
	if (word.len == 10 && is_date_shaped(word) && toml_peek(p) == ' ' && p->end - p->at > 1 && is_digit_of(p->at[1], 10)) {
		p->at++;
		word.len += 1 + take_word(p).len;
	}
	if (word.len == 0)
		return toml_fail(p, DB_E_INVALID, "a value is missing");
	if (str_is(word, "true") || str_is(word, "false")) {
		out->type = TOML_BOOL;
		out->as.boolean = word.at[0] == 't';
		return true;
	}
	if (is_date_shaped(word) || is_time_shaped(word))
		return read_datetime(p, word, out);
	return read_number(p, word, out);
}
