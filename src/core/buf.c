#include "core/buf.h"

#include "core/wipe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_CAP 128

void buf_init(struct buf *buf, size_t max)
{
	*buf = (struct buf){.max = max};
}

void buf_free(struct buf *buf)
{
	if (buf->at) {
		wipe(buf->at, buf->cap);
		free(buf->at);
	}
	buf_init(buf, buf->max);
}

void buf_clear(struct buf *buf)
{
	if (buf->len > 0)
		wipe(buf->at, buf->len);
	buf->len = 0;
	buf->failed = false;
}

static size_t next_cap(const struct buf *buf, size_t need)
{
	size_t cap = buf->cap ? buf->cap : BUF_FIRST_CAP;
	while (cap < need && cap <= SIZE_MAX / 2)
		cap *= 2;
	if (cap < need || cap > buf->max)
		cap = need > buf->max ? need : buf->max;
	return cap;
}

/* Not realloc: that could leave a copy of secret content behind. */
enum db_err buf_reserve(struct buf *buf, size_t more)
{
	if (more <= buf->cap - buf->len)
		return DB_OK;
	if (buf->len > buf->max || more > buf->max - buf->len)
		return DB_E_LIMIT;
	size_t cap = next_cap(buf, buf->len + more);
	char *grown = malloc(cap);
	if (!grown)
		return DB_E_NOMEM;
	if (buf->at) {
		memcpy(grown, buf->at, buf->len);
		wipe(buf->at, buf->cap);
		free(buf->at);
	}
	buf->at = grown;
	buf->cap = cap;
	return DB_OK;
}

/* Room for an append; after one failure nothing more is taken, so that no text with a hole in it goes out. */
static enum db_err make_room(struct buf *buf, size_t more)
{
	if (buf->failed)
		return DB_E_LIMIT;
	if (more <= buf->cap - buf->len)
		return DB_OK;
	enum db_err err = buf_reserve(buf, more);
	buf->failed = err != DB_OK;
	return err;
}

enum db_err buf_append(struct buf *buf, const void *bytes, size_t len)
{
	enum db_err err = make_room(buf, len);
	if (err || len == 0)
		return err;
	memcpy(buf->at + buf->len, bytes, len);
	buf->len += len;
	return DB_OK;
}

enum db_err buf_append_str(struct buf *buf, struct str text)
{
	return buf_append(buf, text.at, text.len);
}

enum db_err buf_append_c(struct buf *buf, const char *text)
{
	return buf_append(buf, text, strlen(text));
}

enum db_err buf_append_byte(struct buf *buf, char byte)
{
	enum db_err err = make_room(buf, 1);
	if (!err)
		buf->at[buf->len++] = byte;
	return err;
}

enum db_err buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0) {
		buf->failed = true;
		return DB_E_INTERNAL;
	}
	/* vsnprintf writes a NUL behind the text: take room for it too, or go over a copy when the maximum forbids that. */
	enum db_err err = make_room(buf, (size_t)len);
	if (err)
		return err;
	if (buf_reserve(buf, (size_t)len + 1) == DB_OK) {
		va_start(args, format);
		(void)vsnprintf(buf->at + buf->len, (size_t)len + 1, format, args);
		va_end(args);
		buf->len += (size_t)len;
		return DB_OK;
	}
	char *copy = malloc((size_t)len + 1);
	if (!copy) {
		buf->failed = true;
		return DB_E_NOMEM;
	}
	va_start(args, format);
	(void)vsnprintf(copy, (size_t)len + 1, format, args);
	va_end(args);
	err = buf_append(buf, copy, (size_t)len);
	wipe(copy, (size_t)len);
	free(copy);
	return err;
}

void buf_consume(struct buf *buf, size_t n)
{
	if (n > buf->len)
		n = buf->len;
	buf->len -= n;
	if (n > 0 && buf->len > 0)
		memmove(buf->at, buf->at + n, buf->len);
}
