/* A growable byte buffer with a maximum that is given when it is made. Owner: whoever calls buf_init; free with buf_free.
 * Content may be secret: buf_free wipes every byte that was ever written. Thread: one at a time. */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include "core/error.h"
#include "core/str.h"

struct buf {
	char *at;
	size_t len;
	size_t cap;
	size_t max;  /* append past this fails with DB_E_LIMIT */
	bool failed; /* sticky: set by the first append that failed, cleared by buf_clear */
};

void buf_init(struct buf *buf, size_t max);
void buf_free(struct buf *buf);  /* wipes, releases, and leaves an empty usable buffer with the same max */
void buf_clear(struct buf *buf); /* wipes the content, keeps the memory */

enum db_err buf_reserve(struct buf *buf, size_t more); /* room for `more` bytes behind len */
enum db_err buf_append(struct buf *buf, const void *bytes, size_t len);
enum db_err buf_append_str(struct buf *buf, struct str text);
enum db_err buf_append_c(struct buf *buf, const char *text);
enum db_err buf_append_byte(struct buf *buf, char byte);
enum db_err buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Removes the first n bytes (n <= len), moving the rest down. */
void buf_consume(struct buf *buf, size_t n);

static inline struct str buf_str(const struct buf *buf)
{
	return (struct str){buf->at, buf->len};
}

#endif
