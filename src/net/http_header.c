#include "net/http_header.h"

static bool is_token_char(unsigned char c)
{
	bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
	return alphanumeric || (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool http_header_is_safe(const struct http_header *header)
{
	for (size_t i = 0; i < header->name.len; i++)
		if (!is_token_char((unsigned char)header->name.at[i]))
			return false;
	for (size_t i = 0; i < header->value.len; i++) {
		unsigned char c = (unsigned char)header->value.at[i];
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return header->name.len > 0;
}

bool http_header_has_token(struct str value, const char *token)
{
	while (value.at) {
		struct str item;
		value = str_cut(value, ',', &item);
		if (str_eq_nocase(str_trim(item), str_of(token)))
			return true;
	}
	return false;
}
