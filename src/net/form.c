#include "net/form.h"

#include "core/encode.h"
#include "core/utf8.h"

/* One character at *at; moves on. False for a broken escape. */
static bool decode_one(struct str text, size_t *at, char *out)
{
	uint8_t byte;
	*out = text.at[*at] == '+' ? ' ' : text.at[*at];
	*at += 1;
	if (*out != '%')
		return true;
	if (hex_decode(str_sub(text, *at, 2), &byte, 1))
		return false;
	*out = (char)byte;
	*at += 2;
	return true;
}

static bool is_control(char c)
{
	unsigned char byte = (unsigned char)c;
	return byte == 0x7f || (byte < 0x20 && c != '\t' && c != '\n' && c != '\r');
}

enum db_err form_decode(struct str text, struct arena *arena, struct str *out)
{
	char *to = arena_alloc(arena, text.len + 1);
	size_t len = 0, at = 0;
	*out = STR_NONE;
	if (!to)
		return DB_E_NOMEM;
	while (at < text.len)
		if (!decode_one(text, &at, &to[len]) || is_control(to[len++]))
			return DB_E_INVALID;
	if (!utf8_valid((struct str){to, len}))
		return DB_E_INVALID;
	*out = (struct str){to, len};
	return DB_OK;
}

enum db_err form_get(struct str form, const char *name, struct arena *arena, struct str *out)
{
	enum db_err err = DB_E_NOT_FOUND;
	*out = STR_NONE;
	while (form.len) {
		struct str piece, key, decoded;
		form = str_cut(form, '&', &piece);
		struct str value = str_cut(piece, '=', &key);
		enum db_err key_err = form_decode(key, arena, &decoded);
		if (key_err == DB_E_NOMEM)
			return key_err;
		if (key_err || !str_is(decoded, name))
			continue;
		if (!err)
			return DB_E_INVALID;
		err = form_decode(value, arena, out);
		if (err)
			return err;
	}
	return err;
}

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
	       c == '~';
}

void form_encode(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (is_unreserved(text.at[i]))
			buf_append_byte(out, text.at[i]);
		else
			buf_printf(out, "%%%02X", (unsigned)(unsigned char)text.at[i]);
}

void form_put(struct buf *out, const char *name, struct str value)
{
	if (out->len && out->at[out->len - 1] != '?')
		buf_append_byte(out, '&');
	buf_append_c(out, name);
	buf_append_byte(out, '=');
	form_encode(out, value);
}
