#include "core/zip.h"

#include <stdlib.h>

#include "core/wipe.h"

#define LOCAL_SIGNATURE     0x04034b50u
#define DIRECTORY_SIGNATURE 0x02014b50u
#define END64_SIGNATURE     0x06064b50u
#define LOCATOR_SIGNATURE   0x07064b50u
#define END_SIGNATURE       0x06054b50u
#define VERSION             45 /* has 64-bit lengths */
#define UNIX                3
#define DATE                33 /* 1 January 1980: an archive says nothing of when */
#define EXTRA64             1
#define LOCAL_BYTES         30
#define DIRECTORY_BYTES     46
#define END64_BYTES         56
#define LOCATOR_BYTES       20
#define END_BYTES           22
#define UTF8_FLAG           0x0800
#define EXTRA_MAX           64
#define REGULAR_FILE        0100000u
#define FOLDER              0040000u
#define WIDE                0xffffffffu
#define DIRECTORY_MAX       (4u << 20)
#define COUNT_MAX           10000

uint32_t zip_crc32(uint32_t crc, const void *bytes, size_t len)
{
	static const uint32_t nibbles[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
	                                     0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
	                                     0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
	const uint8_t *at = bytes;
	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc = nibbles[(crc ^ at[i]) & 15] ^ crc >> 4;
		crc = nibbles[(crc ^ at[i] >> 4) & 15] ^ crc >> 4;
	}
	return ~crc;
}

/* --- writing --- */

static void put(struct buf *out, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		(void)buf_append_byte(out, (char)(uint8_t)(value >> 8 * i));
}

void zip_writer_init(struct zip_writer *writer)
{
	*writer = (struct zip_writer){0};
	buf_init(&writer->directory, DIRECTORY_MAX);
}

void zip_writer_free(struct zip_writer *writer)
{
	buf_free(&writer->directory);
}

/* From the version up to the length of the name, which both heads have. */
static void put_common(struct buf *out, const struct zip_entry *entry)
{
	put(out, VERSION, 2);
	put(out, 0, 2); /* flags */
	put(out, 0, 2); /* as it is */
	put(out, 0, 2);
	put(out, DATE, 2);
	put(out, entry->crc, 4);
	put(out, WIDE, 4);
	put(out, WIDE, 4);
	put(out, strlen(entry->name), 2);
}

enum db_err zip_write_head(struct zip_writer *writer, const struct zip_entry *entry, struct buf *out)
{
	struct buf *directory = &writer->directory;
	size_t began = out->len;
	bool folder = str_ends(str_of(entry->name), STR("/"));
	put(out, LOCAL_SIGNATURE, 4);
	put_common(out, entry);
	put(out, 4 + 16, 2);
	(void)buf_append_c(out, entry->name);
	put(out, EXTRA64, 2);
	put(out, 16, 2);
	put(out, entry->size, 8);
	put(out, entry->size, 8);

	put(directory, DIRECTORY_SIGNATURE, 4);
	put(directory, VERSION | UNIX << 8, 2);
	put_common(directory, entry);
	put(directory, 4 + 24, 2);
	put(directory, 0, 2); /* comment */
	put(directory, 0, 2); /* disk */
	put(directory, 0, 2);
	put(directory, (uint64_t)((folder ? FOLDER : REGULAR_FILE) | (entry->mode & 0777)) << 16, 4);
	put(directory, WIDE, 4);
	(void)buf_append_c(directory, entry->name);
	put(directory, EXTRA64, 2);
	put(directory, 24, 2);
	put(directory, entry->size, 8);
	put(directory, entry->size, 8);
	put(directory, writer->at, 8);
	writer->at += out->len - began + entry->size;
	writer->count++;
	return out->failed || directory->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err zip_write_end(struct zip_writer *writer, struct buf *out)
{
	uint64_t size = writer->directory.len, end = writer->at + size;
	(void)buf_append_str(out, buf_str(&writer->directory));
	put(out, END64_SIGNATURE, 4);
	put(out, END64_BYTES - 12, 8);
	put(out, VERSION | UNIX << 8, 2);
	put(out, VERSION, 2);
	put(out, 0, 8); /* both disks */
	put(out, writer->count, 8);
	put(out, writer->count, 8);
	put(out, size, 8);
	put(out, writer->at, 8);
	put(out, LOCATOR_SIGNATURE, 4);
	put(out, 0, 4);
	put(out, end, 8);
	put(out, 1, 4);
	put(out, END_SIGNATURE, 4);
	put(out, 0, 4);
	put(out, 0xffff, 2);
	put(out, 0xffff, 2);
	put(out, WIDE, 4);
	put(out, WIDE, 4);
	put(out, 0, 2);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

/* --- reading --- */

enum part { PART_HEAD, PART_CONTENT, PART_DIRECTORY, PART_END };

struct zip_reader {
	struct zip_handler handler;
	enum part part;
	bool failed;
	struct zip_entry entry; /* whose content comes */
	uint64_t left, entries, listed;
	uint32_t crc;
	size_t held;
	uint8_t head[DIRECTORY_BYTES + ZIP_NAME_MAX + EXTRA_MAX]; /* of what comes next, as far as it came */
};

struct zip_reader *zip_reader_new(const struct zip_handler *handler)
{
	struct zip_reader *reader = calloc(1, sizeof *reader);
	if (reader)
		reader->handler = *handler;
	return reader;
}

void zip_reader_free(struct zip_reader *reader)
{
	wipe(reader, reader ? sizeof *reader : 0);
	free(reader);
}

static uint64_t get(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;
	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

static enum db_err damaged(struct error *error)
{
	return error_set(error, DB_E_INVALID, "The archive is damaged.");
}

/* Takes of `bytes` until `wanted` are held; whether they are. */
static bool hold(struct zip_reader *reader, size_t wanted, struct str *bytes)
{
	size_t missing = wanted > reader->held ? wanted - reader->held : 0, n = bytes->len < missing ? bytes->len : missing;
	memcpy(reader->head + reader->held, bytes->at, n);
	reader->held += n;
	*bytes = str_sub(*bytes, n, bytes->len - n);
	return n == missing;
}

static bool name_is_safe(struct str name)
{
	if (name.len == 0 || name.len > ZIP_NAME_MAX || name.at[0] == '/')
		return false;
	for (size_t i = 0; i < name.len; i++)
		if ((uint8_t)name.at[i] < 0x20 || name.at[i] == 0x7f || name.at[i] == '\\')
			return false;
	for (struct str rest = name, part; rest.len > 0;) {
		rest = str_cut(rest, '/', &part);
		if (part.len == 0 || str_is(part, ".") || str_is(part, ".."))
			return false;
	}
	return true;
}

/* Lengths that the fixed part has no room for. */
static bool read_extra64(const uint8_t *extra, size_t len, uint64_t *size, uint64_t *packed)
{
	for (size_t at = 0; at + 4 <= len;) {
		uint64_t id = get(extra + at, 2), bytes = get(extra + at + 2, 2);
		if (bytes > len - at - 4)
			return false;
		if (id == EXTRA64 && bytes >= 16) {
			*size = get(extra + at + 4, 8);
			*packed = get(extra + at + 12, 8);
			return true;
		}
		at += 4 + (size_t)bytes;
	}
	return false;
}

static enum db_err end_entry(struct zip_reader *reader, struct error *error)
{
	reader->part = PART_HEAD;
	reader->held = 0;
	if (reader->crc != reader->entry.crc)
		return error_set(error, DB_E_INVALID, "The archive's file %s is damaged.", reader->entry.name);
	return reader->handler.end(reader->handler.user, error);
}

static enum db_err begin_entry(struct zip_reader *reader, size_t name_len, size_t extra_len, struct error *error)
{
	const uint8_t *head = reader->head;
	struct str name = {(const char *)head + LOCAL_BYTES, name_len};
	uint64_t packed = get(head + 18, 4), size = get(head + 22, 4);
	if ((get(head + 6, 2) & ~(uint64_t)UTF8_FLAG) != 0 || get(head + 8, 2) != 0)
		return error_set(error, DB_E_UNSUPPORTED, "The archive's files are packed, encrypted or without lengths.");
	if (size == WIDE && !read_extra64(head + LOCAL_BYTES + name_len, extra_len, &size, &packed))
		return damaged(error);
	if (packed != size || !name_is_safe(name) || size > INT64_MAX || reader->entries >= COUNT_MAX)
		return damaged(error);
	reader->entry = (struct zip_entry){.mode = 0600, .size = size, .crc = (uint32_t)get(head + 14, 4)};
	(void)str_copy(name, reader->entry.name, sizeof reader->entry.name);
	reader->left = size;
	reader->crc = 0;
	reader->entries++;
	reader->part = PART_CONTENT;
	enum db_err err = reader->handler.begin(reader->handler.user, &reader->entry, error);
	return !err && size == 0 ? end_entry(reader, error) : err;
}

static enum db_err read_entry_head(struct zip_reader *reader, struct str *bytes, struct error *error)
{
	if (!hold(reader, LOCAL_BYTES, bytes))
		return DB_OK;
	size_t name_len = get(reader->head + 26, 2), extra_len = get(reader->head + 28, 2);
	if (name_len > ZIP_NAME_MAX || extra_len > EXTRA_MAX)
		return damaged(error);
	return hold(reader, LOCAL_BYTES + name_len + extra_len, bytes) ? begin_entry(reader, name_len, extra_len, error) : DB_OK;
}

static enum db_err read_listing(struct zip_reader *reader, struct str *bytes, struct error *error)
{
	if (!hold(reader, DIRECTORY_BYTES, bytes))
		return DB_OK;
	size_t more = get(reader->head + 28, 2) + get(reader->head + 30, 2) + get(reader->head + 32, 2);
	if (more > ZIP_NAME_MAX + EXTRA_MAX)
		return damaged(error);
	if (!hold(reader, DIRECTORY_BYTES + more, bytes))
		return DB_OK;
	reader->held = 0;
	return ++reader->listed > reader->entries ? damaged(error) : DB_OK;
}

/* The three records at the end, as zip_write_end writes them. */
static enum db_err read_records(struct zip_reader *reader, struct str *bytes, struct error *error)
{
	const uint8_t *head = reader->head;
	if (!hold(reader, END64_BYTES + LOCATOR_BYTES + END_BYTES, bytes))
		return DB_OK;
	bool good = get(head + 4, 8) == END64_BYTES - 12 && get(head + 32, 8) == reader->entries &&
	            get(head + END64_BYTES, 4) == LOCATOR_SIGNATURE &&
	            get(head + END64_BYTES + LOCATOR_BYTES, 4) == END_SIGNATURE &&
	            get(head + END64_BYTES + LOCATOR_BYTES + 20, 2) == 0 && reader->listed == reader->entries;
	reader->part = PART_END;
	return good ? DB_OK : damaged(error);
}

/* What begins here, by its signature. */
static enum db_err read_head(struct zip_reader *reader, struct str *bytes, struct error *error)
{
	if (!hold(reader, 4, bytes))
		return DB_OK;
	uint64_t signature = get(reader->head, 4);
	if (signature == LOCAL_SIGNATURE && reader->part == PART_HEAD)
		return read_entry_head(reader, bytes, error);
	if (signature == DIRECTORY_SIGNATURE || signature == END64_SIGNATURE)
		reader->part = PART_DIRECTORY;
	if (signature == DIRECTORY_SIGNATURE)
		return read_listing(reader, bytes, error);
	if (signature == END64_SIGNATURE)
		return read_records(reader, bytes, error);
	return reader->entries == 0 ? error_set(error, DB_E_INVALID, "This is no archive.") : damaged(error);
}

static enum db_err read_content(struct zip_reader *reader, struct str *bytes, struct error *error)
{
	struct str content = str_sub(*bytes, 0, reader->left < bytes->len ? (size_t)reader->left : bytes->len);
	reader->crc = zip_crc32(reader->crc, content.at, content.len);
	reader->left -= content.len;
	*bytes = str_sub(*bytes, content.len, bytes->len - content.len);
	enum db_err err = reader->handler.content(reader->handler.user, content, error);
	return !err && reader->left == 0 ? end_entry(reader, error) : err;
}

enum db_err zip_read(struct zip_reader *reader, struct str bytes, struct error *error)
{
	enum db_err err = reader->failed ? damaged(error) : DB_OK;
	while (!err && bytes.len > 0) {
		if (reader->part == PART_END)
			err = error_set(error, DB_E_INVALID, "Something stands behind the archive's end.");
		else if (reader->part == PART_CONTENT)
			err = read_content(reader, &bytes, error);
		else
			err = read_head(reader, &bytes, error);
	}
	reader->failed |= err != DB_OK;
	return err;
}

enum db_err zip_read_end(struct zip_reader *reader, struct error *error)
{
	if (reader->failed || reader->part != PART_END)
		return error_set(error, DB_E_INVALID, "The archive was cut off.");
	return DB_OK;
}
