#include "core/uri.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum db_err decode(struct str text, bool plus_is_space, char *out, size_t size)
{
	size_t len = 0;
	out[0] = '\0';
	for (size_t at = 0; at < text.len; at++) {
		int byte = (unsigned char)text.at[at];
		if (byte == '+' && plus_is_space)
			byte = ' ';
		if (byte == '%') {
			int high = text.len - at > 2 ? hex_digit(text.at[at + 1]) : -1, low = high >= 0 ? hex_digit(text.at[at + 2]) : -1;
			byte = low >= 0 ? high * 16 + low : 0;
			at += 2;
		}
		if (byte == 0 || len + 1 >= size) {
			out[0] = '\0';
			return byte == 0 ? DB_E_INVALID : DB_E_LIMIT;
		}
		out[len++] = (char)byte;
	}
	out[len] = '\0';
	return DB_OK;
}

enum db_err uri_decode(struct str text, char *out, size_t size)
{
	return decode(text, false, out, size);
}

enum db_err uri_query(struct str query, const char *name, char *out, size_t size)
{
	struct str pair, key;
	out[0] = '\0';
	while (query.len > 0) {
		query = str_cut(query, '&', &pair);
		struct str value = str_cut(pair, '=', &key);
		if (str_is(key, name))
			return decode(value, true, out, size);
	}
	return DB_E_NOT_FOUND;
}

static bool stands_for_itself(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
	       c == '~';
}

bool uri_encode(struct str text, char *out, size_t size)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t len = 0;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.at[i];
		if (len + 4 > size) {
			out[0] = '\0';
			return false;
		}
		if (stands_for_itself(text.at[i])) {
			out[len++] = text.at[i];
			continue;
		}
		out[len++] = '%';
		out[len++] = digits[byte >> 4];
		out[len++] = digits[byte & 15];
	}
	out[len] = '\0';
	return true;
}
