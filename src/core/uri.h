/* Percent-encoded text of paths and queries (RFC 3986 2.1). Thread: any. */
#ifndef CORE_URI_H
#define CORE_URI_H

#include "core/error.h"
#include "core/str.h"

/* Decodes once, into a NUL-terminated array. DB_E_INVALID for a broken escape or one that stands for NUL, DB_E_LIMIT when it
 * does not fit; out is then "". */
enum db_err uri_decode(struct str text, char *out, size_t size);

/* The first parameter of this name in a query ("a=1&b=2", without "?"), decoded; "+" stands for a space. DB_E_NOT_FOUND when
 * there is none, otherwise as uri_decode. */
enum db_err uri_query(struct str query, const char *name, char *out, size_t size);

/* Encodes all but letters, digits and "-._~". False, and "", when it does not fit. */
bool uri_encode(struct str text, char *out, size_t size);

#endif
