#include "core/encode.h"

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#define BAD 0x80
/* Value of each character of the standard alphabet. */
static const uint8_t base64_values[256] = {
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, 62,  BAD, BAD, BAD, 63,
    52,  53,  54,  55,  56,  57,  58,  59,  60,  61,  BAD, BAD, BAD, BAD, BAD, BAD, BAD, 0,   1,   2,   3,   4,   5,   6,
    7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  17,  18,  19,  20,  21,  22,  23,  24,  25,  BAD, BAD, BAD, BAD, BAD,
    BAD, 26,  27,  28,  29,  30,  31,  32,  33,  34,  35,  36,  37,  38,  39,  40,  41,  42,  43,  44,  45,  46,  47,  48,
    49,  50,  51,  BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
};

static size_t encode(const void *bytes, size_t len, char *out, const char alphabet[64], bool pad)
{
	const uint8_t *in = bytes;
	char *to = out;
	size_t i = 0;
	for (; i + 3 <= len; i += 3, to += 4) {
		uint32_t group = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];
		to[0] = alphabet[group >> 18];
		to[1] = alphabet[group >> 12 & 63];
		to[2] = alphabet[group >> 6 & 63];
		to[3] = alphabet[group & 63];
	}
	if (i == len)
		return (size_t)(to - out);
	bool two = len - i == 2;
	uint32_t group = (uint32_t)in[i] << 16 | (two ? (uint32_t)in[i + 1] << 8 : 0);
	*to++ = alphabet[group >> 18];
	*to++ = alphabet[group >> 12 & 63];
	if (two)
		*to++ = alphabet[group >> 6 & 63];
	else if (pad)
		*to++ = '=';
	if (pad)
		*to++ = '=';
	return (size_t)(to - out);
}

size_t base64_encode(const void *bytes, size_t len, char *out)
{
	return encode(bytes, len, out, base64_alphabet, true);
}

size_t base64url_encode(const void *bytes, size_t len, char *out)
{
	return encode(bytes, len, out, base64url_alphabet, false);
}

static uint32_t value_at(struct str text, size_t at)
{
	return base64_values[(uint8_t)text.at[at]];
}

/* The last quad, which may end in one or two '='. The unused low bits must be zero. */
static enum db_err decode_last(struct str quad, uint8_t *out, size_t *out_len)
{
	size_t pad = quad.at[3] != '=' ? 0 : quad.at[2] != '=' ? 1 : 2;
	uint32_t a = value_at(quad, 0), b = value_at(quad, 1);
	uint32_t c = pad == 2 ? 0 : value_at(quad, 2), d = pad >= 1 ? 0 : value_at(quad, 3);
	if ((a | b | c | d) & BAD)
		return DB_E_INVALID;
	uint32_t group = a << 18 | b << 12 | c << 6 | d;
	if ((pad == 1 && (group & 0xff)) || (pad == 2 && (group & 0xffff)))
		return DB_E_INVALID;
	out[0] = (uint8_t)(group >> 16);
	if (pad < 2)
		out[1] = (uint8_t)(group >> 8);
	if (pad < 1)
		out[2] = (uint8_t)group;
	*out_len += 3 - pad;
	return DB_OK;
}

enum db_err base64_decode(struct str text, uint8_t *out, size_t *out_len)
{
	*out_len = 0;
	if (text.len % 4 != 0)
		return DB_E_INVALID;
	if (text.len == 0)
		return DB_OK;
	uint32_t seen = 0;
	uint8_t *to = out;
	size_t i = 0;
	for (; i + 4 < text.len; i += 4, to += 3) {
		uint32_t a = value_at(text, i), b = value_at(text, i + 1), c = value_at(text, i + 2), d = value_at(text, i + 3);
		seen |= a | b | c | d;
		uint32_t group = a << 18 | b << 12 | c << 6 | d;
		to[0] = (uint8_t)(group >> 16);
		to[1] = (uint8_t)(group >> 8);
		to[2] = (uint8_t)group;
	}
	if (seen & BAD)
		return DB_E_INVALID;
	size_t len = (size_t)(to - out);
	enum db_err err = decode_last(str_sub(text, i, 4), to, &len);
	if (!err)
		*out_len = len;
	return err;
}

enum db_err base64_decode_exact(struct str text, uint8_t *out, size_t len)
{
	/* Only the last quad may decode to fewer bytes, so any text of the right length is looked at before `out` is written. */
	if (text.len != BASE64_ENCODED_LEN(len))
		return DB_E_INVALID;
	if (len == 0)
		return DB_OK;
	size_t pad = text.len / 4 * 3 - len;
	if ((text.at[text.len - 1] == '=') != (pad >= 1) || (text.at[text.len - 2] == '=') != (pad == 2))
		return DB_E_INVALID;
	size_t out_len;
	return base64_decode(text, out, &out_len);
}

static uint32_t url_value(char c)
{
	if (c == '+' || c == '/')
		return BAD;
	return c == '-' ? 62 : c == '_' ? 63 : base64_values[(uint8_t)c];
}

enum db_err base64url_decode(struct str text, uint8_t *out, size_t *out_len)
{
	uint32_t group = 0, seen = 0;
	size_t len = 0;
	*out_len = 0;
	if (text.len % 4 == 1)
		return DB_E_INVALID;
	for (size_t i = 0; i < text.len; i++) {
		uint32_t value = url_value(text.at[i]);
		seen |= value;
		group = group << 6 | (value & 63);
		if (i % 4 == 3) {
			out[len++] = (uint8_t)(group >> 16);
			out[len++] = (uint8_t)(group >> 8);
			out[len++] = (uint8_t)group;
			group = 0;
		}
	}
	size_t rest = text.len % 4;
	if (rest == 2) {
		out[len++] = (uint8_t)(group >> 4);
		seen |= group & 0x0f ? BAD : 0;
	} else if (rest == 3) {
		out[len++] = (uint8_t)(group >> 10);
		out[len++] = (uint8_t)(group >> 2);
		seen |= group & 0x03 ? BAD : 0;
	}
	if (seen & BAD)
		return DB_E_INVALID;
	*out_len = len;
	return DB_OK;
}

void hex_encode(const void *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *in = bytes;
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[in[i] >> 4];
		out[2 * i + 1] = digits[in[i] & 15];
	}
	out[2 * len] = '\0';
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

enum db_err hex_decode(struct str text, uint8_t *out, size_t len)
{
	if (len > SIZE_MAX / 2 || text.len != 2 * len)
		return DB_E_INVALID;
	for (size_t i = 0; i < len; i++) {
		int high = nibble(text.at[2 * i]), low = nibble(text.at[2 * i + 1]);
		if (high < 0 || low < 0)
			return DB_E_INVALID;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return DB_OK;
}
