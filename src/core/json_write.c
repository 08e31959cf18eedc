#include "core/json_internal.h"
#include "core/utf8.h"

#include <math.h>

void json_writer_init(struct json_writer *w, struct buf *out)
{
	*w = (struct json_writer){.out = out};
}

/* Most bytes fit without a call. */
static inline void put_byte(struct buf *out, char byte)
{
	if (out->len < out->cap && !out->failed)
		out->at[out->len++] = byte;
	else
		buf_append_byte(out, byte);
}

static inline void before_value(struct json_writer *w)
{
	if (w->after_key) {
		w->after_key = false;
		return;
	}
	if (w->depth == 0)
		return;
	if (w->comma[w->depth - 1])
		put_byte(w->out, ',');
	w->comma[w->depth - 1] = true;
}

static void begin(struct json_writer *w, char bracket)
{
	before_value(w);
	if (w->depth == JSON_MAX_DEPTH) {
		w->out->failed = true;
		return;
	}
	w->comma[w->depth++] = false;
	put_byte(w->out, bracket);
}

static void end(struct json_writer *w, char bracket)
{
	if (w->depth == 0) {
		w->out->failed = true;
		return;
	}
	w->depth--;
	put_byte(w->out, bracket);
}

void json_begin_object(struct json_writer *w)
{
	begin(w, '{');
}

void json_end_object(struct json_writer *w)
{
	end(w, '}');
}

void json_begin_array(struct json_writer *w)
{
	begin(w, '[');
}

void json_end_array(struct json_writer *w)
{
	end(w, ']');
}

/* --- strings --- */

#define EVERY_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* High bit set in each byte of `word` that is zero (exact for the lowest such byte, which is all that is asked). */
static uint64_t zero_bytes(uint64_t word)
{
	return (word - EVERY_BYTE(0x01)) & ~word & EVERY_BYTE(0x80);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte of a word is its lowest");

/* Marks the bytes of a word that are not plain: control characters, quotes, backslashes, non-ASCII and, when asked, slashes.
 * The lowest mark is exact. */
static uint64_t special_bytes(const char *at, bool escape_slash)
{
	uint64_t word;
	memcpy(&word, at, sizeof word);
	uint64_t below_space = (word - EVERY_BYTE(0x20)) & ~word;
	uint64_t special = (word | below_space) & EVERY_BYTE(0x80);
	special |= zero_bytes(word ^ EVERY_BYTE('"')) | zero_bytes(word ^ EVERY_BYTE('\\'));
	return escape_slash ? special | zero_bytes(word ^ EVERY_BYTE('/')) : special;
}

static bool is_plain_ascii(unsigned char c, bool escape_slash)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && (c != '/' || !escape_slash);
}

/* Bytes from `from` on that can be written as they are. */
static size_t plain_run(struct str text, size_t from, bool escape_slash)
{
	size_t at = from;
	while (at < text.len) {
		if (text.len - at >= 8) {
			uint64_t special = special_bytes(text.at + at, escape_slash);
			at += special ? (size_t)__builtin_ctzll(special) / 8 : 8;
			if (!special)
				continue;
		}
		unsigned char c = (unsigned char)text.at[at];
		size_t len = is_plain_ascii(c, escape_slash) ? 1 : c >= 0x80 ? utf8_next(str_sub(text, at, 4)) : 0;
		if (len == 0)
			break;
		at += len;
	}
	return at - from;
}

static void append_escape(struct buf *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	switch (c) {
	case '"':
	case '\\':
	case '/':
		buf_append(out, (char[]){'\\', (char)c}, 2);
		break;
	case '\b':
		buf_append(out, "\\b", 2);
		break;
	case '\f':
		buf_append(out, "\\f", 2);
		break;
	case '\n':
		buf_append(out, "\\n", 2);
		break;
	case '\r':
		buf_append(out, "\\r", 2);
		break;
	case '\t':
		buf_append(out, "\\t", 2);
		break;
	default:
		buf_append(out, (char[]){'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]}, 6);
		break;
	}
}

/* From `at` on, which is where something is to be escaped, or the end. */
static void append_rest(struct json_writer *w, struct str text, size_t at)
{
	while (at < text.len) {
		size_t run = plain_run(text, at, w->escape_slash);
		buf_append(w->out, text.at + at, run);
		at += run;
		if (at == text.len)
			break;
		unsigned char c = (unsigned char)text.at[at++];
		if (c >= 0x80)
			buf_append(w->out, "\xEF\xBF\xBD", 3); /* U+FFFD for a byte that is not UTF-8 */
		else
			append_escape(w->out, c);
	}
}

/* Text without anything to escape is the rule: it goes out in one piece. */
static void append_string(struct json_writer *w, struct str text)
{
	struct buf *out = w->out;
	size_t run = plain_run(text, 0, w->escape_slash);
	if (out->failed || out->cap - out->len < run + 2) {
		buf_append_byte(out, '"');
		buf_append(out, text.at, run);
	} else {
		char *at = out->at + out->len;
		*at = '"';
		if (run > 0)
			memcpy(at + 1, text.at, run);
		out->len += run + 1;
	}
	append_rest(w, text, run);
	put_byte(out, '"');
}

void json_key_str(struct json_writer *w, struct str key)
{
	before_value(w);
	append_string(w, key);
	put_byte(w->out, ':');
	w->after_key = true;
}

void json_key(struct json_writer *w, const char *key)
{
	json_key_str(w, str_of(key));
}

void json_str(struct json_writer *w, struct str value)
{
	before_value(w);
	append_string(w, value);
}

void json_cstr(struct json_writer *w, const char *value)
{
	if (value)
		json_str(w, str_of(value));
	else
		json_null(w);
}

/* --- numbers and literals --- */

static void append_integer(struct json_writer *w, bool negative, uint64_t magnitude)
{
	char text[21], *at = text + sizeof text;
	do
		*--at = (char)('0' + magnitude % 10);
	while ((magnitude /= 10) != 0);
	if (negative)
		*--at = '-';
	buf_append(w->out, at, (size_t)(text + sizeof text - at));
}

void json_i64(struct json_writer *w, int64_t value)
{
	before_value(w);
	append_integer(w, value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void json_u64(struct json_writer *w, uint64_t value)
{
	before_value(w);
	append_integer(w, false, value);
}

/* yyjson has the shortest-digits algorithm; a whole number comes out as "1.0". */
static void append_real(struct json_writer *w, double value, bool keep_point)
{
	if (!isfinite(value)) {
		buf_append(w->out, "null", 4);
		return;
	}
	char memory[512];
	yyjson_alc alc;
	yyjson_val number = {.tag = YYJSON_TYPE_NUM | YYJSON_SUBTYPE_REAL, .uni.f64 = value};
	size_t len = 0;
	const char *text = NULL;
	if (yyjson_alc_pool_init(&alc, memory, sizeof memory))
		text = yyjson_val_write_opts(&number, YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
	if (!text) {
		w->out->failed = true;
		return;
	}
	struct str digits = {text, len};
	if (!keep_point && str_ends(digits, STR(".0")))
		digits.len -= 2;
	buf_append_str(w->out, digits);
}

void json_double(struct json_writer *w, double value)
{
	before_value(w);
	append_real(w, value, false);
}

void json_bool(struct json_writer *w, bool value)
{
	before_value(w);
	buf_append_str(w->out, value ? STR("true") : STR("false"));
}

void json_null(struct json_writer *w)
{
	before_value(w);
	buf_append(w->out, "null", 4);
}

void json_raw(struct json_writer *w, struct str json)
{
	before_value(w);
	buf_append_str(w->out, json);
}

/* --- parsed values: recursion is bounded by the depth that json_parse allows --- */

static void write_number(struct json_writer *w, const json_val *value)
{
	before_value(w);
	if (unsafe_yyjson_get_type((void *)(uintptr_t)value) == YYJSON_TYPE_RAW)
		buf_append_str(w->out, json_text_of(value));
	else if (unsafe_yyjson_is_real((void *)(uintptr_t)value))
		append_real(w, value->uni.f64, true);
	else if (unsafe_yyjson_is_sint((void *)(uintptr_t)value) && value->uni.i64 < 0)
		append_integer(w, true, 0 - (uint64_t)value->uni.i64);
	else
		append_integer(w, false, value->uni.u64);
}

static void write_container(struct json_writer *w, const json_val *value)
{
	bool object = json_type(value) == JSON_OBJECT;
	struct json_iter iter = json_iter(value);
	struct str key;
	begin(w, object ? '{' : '[');
	for (json_val *child; !w->out->failed && (child = json_next(&iter, &key));) {
		if (object)
			json_key_str(w, key);
		json_value(w, child);
	}
	end(w, object ? '}' : ']');
}

void json_value(struct json_writer *w, const json_val *value)
{
	bool truth = false;
	switch (json_type(value)) {
	case JSON_ABSENT:
	case JSON_NULL:
		json_null(w);
		break;
	case JSON_BOOL:
		json_as_bool(value, &truth);
		json_bool(w, truth);
		break;
	case JSON_INT:
	case JSON_REAL:
		write_number(w, value);
		break;
	case JSON_STRING:
		json_str(w, json_text_of(value));
		break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		write_container(w, value);
		break;
	}
}

/* --- key and value --- */

void json_put_str(struct json_writer *w, const char *key, struct str value)
{
	json_key(w, key);
	json_str(w, value);
}

void json_put_cstr(struct json_writer *w, const char *key, const char *value)
{
	json_key(w, key);
	json_cstr(w, value);
}

void json_put_i64(struct json_writer *w, const char *key, int64_t value)
{
	json_key(w, key);
	json_i64(w, value);
}

void json_put_double(struct json_writer *w, const char *key, double value)
{
	json_key(w, key);
	json_double(w, value);
}

void json_put_bool(struct json_writer *w, const char *key, bool value)
{
	json_key(w, key);
	json_bool(w, value);
}
