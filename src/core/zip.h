/* ZIP archives as a stream, without compression and in one pass: what is written can be read by every tool, what is read must
 * have been written so (sizes in front of the content, no encryption, no other method). All lengths are 64 bits wide. Thread:
 * one at a time for each object. */
#ifndef CORE_ZIP_H
#define CORE_ZIP_H

#include "core/buf.h"

#define ZIP_NAME_MAX 200

uint32_t zip_crc32(uint32_t crc, const void *bytes, size_t len); /* begin with 0 */

struct zip_entry {
	char name[ZIP_NAME_MAX + 1]; /* relative; a folder's ends with a slash */
	uint32_t mode;               /* permissions: 0600 */
	uint64_t size;
	uint32_t crc;
};

/* --- writing --- */

struct zip_writer {
	struct buf directory; /* the entries so far */
	uint64_t at, count;
};
void zip_writer_init(struct zip_writer *writer);
void zip_writer_free(struct zip_writer *writer);
/* Appends an entry's head: `size` bytes of content must follow in the stream. */
enum db_err zip_write_head(struct zip_writer *writer, const struct zip_entry *entry, struct buf *out);
/* Appends the directory, without which no tool takes the archive for whole. */
enum db_err zip_write_end(struct zip_writer *writer, struct buf *out);

/* --- reading --- */

/* Each answers an error to end the reading; `error` gets the sentence. Names are as they stand in the archive, but relative,
 * without `..`, NUL, backslash or control characters. */
struct zip_handler {
	enum db_err (*begin)(void *user, const struct zip_entry *entry, struct error *error);
	enum db_err (*content)(void *user, struct str bytes, struct error *error);
	enum db_err (*end)(void *user, struct error *error); /* size and checksum were right */
	void *user;
};

struct zip_reader;
struct zip_reader *zip_reader_new(const struct zip_handler *handler); /* copied; NULL when out of memory */
void zip_reader_free(struct zip_reader *reader);                      /* wipes; NULL is allowed */
/* The next bytes. DB_E_INVALID: no archive, or damaged; DB_E_UNSUPPORTED: one of another kind; or the handler's. */
enum db_err zip_read(struct zip_reader *reader, struct str bytes, struct error *error);
/* DB_E_INVALID when the archive does not end here. */
enum db_err zip_read_end(struct zip_reader *reader, struct error *error);

#endif
