/* Archives are read as they were written, however the bytes are cut; damage and names that lead elsewhere are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/zip.h"

struct heard {
	struct buf text; /* "name:content;" for each entry */
	enum db_err answer;
};

static enum db_err on_begin(void *user, const struct zip_entry *entry, struct error *error)
{
	struct heard *heard = user;
	(void)error;
	assert_int_equal(entry->mode & 0777, 0600);
	buf_append_c(&heard->text, entry->name);
	buf_append_byte(&heard->text, ':');
	return heard->answer;
}

static enum db_err on_content(void *user, struct str bytes, struct error *error)
{
	(void)error;
	buf_append_str(&((struct heard *)user)->text, bytes);
	return DB_OK;
}

static enum db_err on_end(void *user, struct error *error)
{
	(void)error;
	buf_append_byte(&((struct heard *)user)->text, ';');
	return DB_OK;
}

static void put(struct zip_writer *writer, struct buf *out, const char *name, const char *content)
{
	size_t len = strlen(content);
	struct zip_entry entry = {.mode = 0600, .size = len, .crc = zip_crc32(0, content, len)};
	assert_true(str_copy(str_of(name), entry.name, sizeof entry.name));
	assert_int_equal(zip_write_head(writer, &entry, out), DB_OK);
	buf_append_c(out, content);
}

static void archive(struct buf *out, const char *name)
{
	struct zip_writer writer;
	buf_init(out, 1 << 16);
	zip_writer_init(&writer);
	put(&writer, out, name, "the first content");
	put(&writer, out, "keys/", "");
	put(&writer, out, "keys/empty", "");
	put(&writer, out, "keys/second", "and another");
	assert_int_equal(zip_write_end(&writer, out), DB_OK);
	zip_writer_free(&writer);
}

/* Reads it in pieces of that size. */
static enum db_err read_archive(struct str bytes, size_t piece, struct heard *heard)
{
	struct zip_handler handler = {.begin = on_begin, .content = on_content, .end = on_end, .user = heard};
	struct zip_reader *reader = zip_reader_new(&handler);
	struct error error;
	enum db_err err = DB_OK;
	buf_clear(&heard->text);
	for (size_t at = 0; !err && at < bytes.len; at += piece)
		err = zip_read(reader, str_sub(bytes, at, piece), &error);
	if (!err)
		err = zip_read_end(reader, &error);
	zip_reader_free(reader);
	return err;
}

static void the_checksum_is_that_of_others(void **state)
{
	(void)state;
	assert_int_equal(zip_crc32(0, "123456789", 9), 0xcbf43926);
	assert_int_equal(zip_crc32(zip_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
	assert_int_equal(zip_crc32(0, "", 0), 0);
}

static void an_archive_is_read_as_it_was_written_however_it_is_cut(void **state)
{
	struct heard heard = {.answer = DB_OK};
	struct buf bytes;
	(void)state;
	archive(&bytes, "first");
	buf_init(&heard.text, 1 << 16);
	for (size_t piece = 1; piece <= bytes.len; piece += piece < 80 ? 1 : 97) {
		assert_int_equal(read_archive(buf_str(&bytes), piece, &heard), DB_OK);
		assert_true(str_is(buf_str(&heard.text), "first:the first content;keys/:;keys/empty:;keys/second:and another;"));
	}
	buf_free(&heard.text);
	buf_free(&bytes);
}

static void a_part_of_an_archive_is_not_taken_for_the_whole(void **state)
{
	struct heard heard = {.answer = DB_OK};
	struct buf bytes;
	(void)state;
	archive(&bytes, "first");
	buf_init(&heard.text, 1 << 16);
	for (size_t len = 0; len < bytes.len; len++)
		assert_int_equal(read_archive(str_sub(buf_str(&bytes), 0, len), 64, &heard), DB_E_INVALID);
	buf_append_byte(&bytes, 'x');
	assert_true(read_archive(buf_str(&bytes), 64, &heard) != DB_OK);
	buf_free(&heard.text);
	buf_free(&bytes);
}

static void changed_content_and_names_that_lead_elsewhere_are_refused(void **state)
{
	static const char *const names[] = {"/etc/passwd", "../up", "keys/../../up", "a\\b", "bell\a", ".."};
	struct heard heard = {.answer = DB_OK};
	struct buf bytes;
	(void)state;
	buf_init(&heard.text, 1 << 16);
	archive(&bytes, "first");
	char *content = memmem(bytes.at, bytes.len, "the first content", 17);
	content[3] ^= 1;
	assert_int_equal(read_archive(buf_str(&bytes), 64, &heard), DB_E_INVALID);
	buf_free(&bytes);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		archive(&bytes, names[i]);
		assert_int_equal(read_archive(buf_str(&bytes), 64, &heard), DB_E_INVALID);
		assert_int_equal(heard.text.len, 0);
		buf_free(&bytes);
	}
	buf_free(&heard.text);
}

static void a_handler_ends_the_reading(void **state)
{
	struct heard heard = {.answer = DB_E_DENIED};
	struct buf bytes;
	(void)state;
	buf_init(&heard.text, 1 << 16);
	archive(&bytes, "first");
	assert_int_equal(read_archive(buf_str(&bytes), 64, &heard), DB_E_DENIED);
	assert_true(str_is(buf_str(&heard.text), "first:"));
	buf_free(&bytes);
	buf_free(&heard.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_checksum_is_that_of_others),
	    cmocka_unit_test(an_archive_is_read_as_it_was_written_however_it_is_cut),
	    cmocka_unit_test(a_part_of_an_archive_is_not_taken_for_the_whole),
	    cmocka_unit_test(changed_content_and_names_that_lead_elsewhere_are_refused),
	    cmocka_unit_test(a_handler_ends_the_reading),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
