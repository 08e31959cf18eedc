#include "net/cookie.h"

#include <inttypes.h>

#include "net/http_internal.h"

/* RFC 6265 4.1.1 "cookie-octet". */
static bool is_cookie_text(struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];
		if (c <= 0x20 || c >= 0x7f || c == '"' || c == ',' || c == ';' || c == '\\')
			return false;
	}
	return true;
}

size_t cookie_find(struct str header, struct str name, struct str *value)
{
	size_t count = 0;
	*value = STR_NONE;
	while (header.len) {
		struct str piece, key;
		header = str_cut(header, ';', &piece);
		struct str text = str_cut(str_trim(piece), '=', &key);
		if (text.len >= 2 && text.at[0] == '"' && text.at[text.len - 1] == '"')
			text = str_sub(text, 1, text.len - 2);
		if (!text.at || !str_eq(key, name) || !is_cookie_text(text))
			continue;
		if (count++ == 0)
			*value = text;
	}
	return count;
}

struct str http_cookie(const struct http_request *request, const char *name)
{
	struct str found = STR_NONE, value;
	size_t count = 0;
	for (uint32_t i = 0; i < request->head.count; i++) {
		if (!str_is(http_fields_name_at(&request->head, i), "cookie"))
			continue;
		size_t here = cookie_find(http_fields_value_at(&request->head, i), str_of(name), &value);
		if (here)
			found = value;
		count += here;
	}
	return count == 1 ? found : STR_NONE;
}

void cookie_write(struct buf *out, const struct cookie_options *options)
{
	buf_printf(out, "%s=%.*s; Path=%s; HttpOnly; SameSite=%s", options->name, STR_ARG(options->value), options->path,
	           options->strict ? "Strict" : "Lax");
	if (options->secure)
		buf_append_c(out, "; Secure");
	if (options->max_age_s >= 0)
		buf_printf(out, "; Max-Age=%" PRId64, options->max_age_s);
}
