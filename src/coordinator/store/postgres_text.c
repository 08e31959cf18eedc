#include "coordinator/store/postgres_text.h"

#include <stdlib.h>

#include "core/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* The number after a `?`, 0 when there is none; moves *text behind it. */
static int read_number(const char **text)
{
	int number = 0;
	while (**text >= '0' && **text <= '9' && number < 1000)
		number = number * 10 + (*(*text)++ - '0');
	return number;
}

enum db_err postgres_parameters(const char *text, struct buf *out, int *params)
{
	bool quoted = false;
	*params = 0;
	while (*text) {
		char c = *text++;
		if (c == '\'')
			quoted = !quoted;
		if (c != '?' || quoted) {
			(void)buf_append_byte(out, c);
			continue;
		}
		int number = read_number(&text);
		if (!number)
			number = *params + 1;
		if (number > *params)
			*params = number;
		(void)buf_printf(out, "$%d", number);
	}
	return buf_append_byte(out, '\0');
}

bool postgres_takes(struct str text)
{
	return text.len == 0 || (!memchr(text.at, '\0', text.len) && utf8_valid(text));
}

enum db_err postgres_clean(struct str text, struct buf *out)
{
	while (text.len) {
		size_t len = text.at[0] ? utf8_next(text) : 0;
		if (len)
			(void)buf_append(out, text.at, len);
		else
			(void)buf_append_c(out, REPLACEMENT);
		text = str_sub(text, len ? len : 1, text.len);
	}
	return buf_append_byte(out, '\0');
}

enum db_err postgres_element(struct str text, struct buf *out)
{
	(void)buf_append_byte(out, '"');
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == '"' || text.at[i] == '\\')
			(void)buf_append_byte(out, '\\');
		(void)buf_append_byte(out, text.at[i]);
	}
	return buf_append_byte(out, '"');
}
