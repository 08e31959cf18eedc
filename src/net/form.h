/* Forms and query strings: application/x-www-form-urlencoded (WHATWG URL 5) and percent-encoding (RFC 3986). Thread: any. */
#ifndef NET_FORM_H
#define NET_FORM_H

#include "core/arena.h"
#include "core/buf.h"

/* Decodes %xx, and '+' as a space. The result is in the arena and NUL-terminated. DB_E_INVALID for a broken escape, a control
 * character other than tab, line feed and carriage return, and text that is not UTF-8. */
enum db_err form_decode(struct str text, struct arena *arena, struct str *out);

/* The field of that name in "a=1&b=2". DB_E_NOT_FOUND; DB_E_INVALID when it cannot be decoded or is given twice: what one
 * program reads as the first and another as the last is no value at all. */
enum db_err form_get(struct str form, const char *name, struct arena *arena, struct str *out);

/* Everything but the unreserved characters as %XX. */
void form_encode(struct buf *out, struct str text);
/* "name=value" with an '&' in front unless the text is empty or ends in '?'. */
void form_put(struct buf *out, const char *name, struct str value);

#endif
