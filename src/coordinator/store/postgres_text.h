/* Texts on their way to PostgreSQL. Inside store/ only; pure. */
#ifndef COORDINATOR_STORE_POSTGRES_TEXT_H
#define COORDINATOR_STORE_POSTGRES_TEXT_H

#include "core/buf.h"

/* `?` and `?N` become `$n`, but for those in quotes; NUL-terminated. *params: how many there are. */
enum db_err postgres_parameters(const char *text, struct buf *out, int *params);
/* PostgreSQL refuses text that is not UTF-8 or has NUL bytes: true when it takes this one as it is. */
bool postgres_takes(struct str text);
/* The same text with U+FFFD in place of what it refuses; NUL-terminated. */
enum db_err postgres_clean(struct str text, struct buf *out);
/* One element of an array literal, quoted and escaped. */
enum db_err postgres_element(struct str text, struct buf *out);

#endif
