#include "wire/region.h"

static bool is_letter(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_part(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9');
}

enum db_err region_read(struct str text, char out[REGION_SIZE])
{
	if (text.len < 2 || text.len == 3 || text.len >= REGION_SIZE)
		return DB_E_INVALID;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		if (i < 2 ? !is_letter(c) : i == 2 ? c != '-' : !is_part(c))
			return DB_E_INVALID;
		out[i] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
	}
	out[text.len] = '\0';
	return DB_OK;
}
