#include "core/error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A sentence cut by the buffer's end must not stop in the middle of a character. */
static void drop_partial_character(char *text)
{
	size_t len = strlen(text), start = len;
	while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
		start--;
	if (start == 0)
		return;
	unsigned char lead = (unsigned char)text[start - 1];
	size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
	if (len - (start - 1) < need)
		text[start - 1] = '\0';
}

enum db_err error_set(struct error *error, enum db_err code, const char *format, ...)
{
	if (!error)
		return code;
	error->code = code;
	va_list args;
	va_start(args, format);
	int len = vsnprintf(error->text, sizeof error->text, format, args);
	va_end(args);
	if (len < 0)
		error->text[0] = '\0';
	else if ((size_t)len >= sizeof error->text)
		drop_partial_character(error->text);
	return code;
}

const char *error_name(enum db_err code)
{
	switch (code) {
	case DB_OK:
		return "ok";
	case DB_E_NOMEM:
		return "no_memory";
	case DB_E_INVALID:
		return "invalid";
	case DB_E_RANGE:
		return "out_of_range";
	case DB_E_LIMIT:
		return "limit";
	case DB_E_AGAIN:
		return "again";
	case DB_E_CLOSED:
		return "closed";
	case DB_E_TIMEOUT:
		return "timeout";
	case DB_E_NOT_FOUND:
		return "not_found";
	case DB_E_EXISTS:
		return "exists";
	case DB_E_DENIED:
		return "denied";
	case DB_E_FUNDS:
		return "insufficient_funds";
	case DB_E_CRYPTO:
		return "crypto";
	case DB_E_IO:
		return "io";
	case DB_E_UNSUPPORTED:
		return "unsupported";
	case DB_E_INTERNAL:
		return "internal";
	}
	return "unknown";
}
