/* Any bytes as an age file, in pieces of any size; and what we write is read again, but not with a byte changed. */
#include <stdlib.h>

#include "crypto/age.h"
#include "crypto/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static enum db_err read_all(const struct age_identity *identity, struct str file, size_t step, struct buf *plain)
{
	struct error error = {0};
	struct age_reader *reader = age_reader_new(identity);
	check(reader != NULL);
	enum db_err err = DB_OK;
	for (size_t at = 0; !err && at < file.len; at += step)
		err = age_read(reader, str_sub(file, at, step), plain, &error);
	if (!err)
		err = age_read_end(reader, plain, &error);
	check(!err || error.text[0]);
	age_reader_free(reader);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct age_identity identity = {.secret = {1, 2, 3}};
	static bool ready;
	static const struct age_random random = {.file_key = {4}, .nonce = {5}, .ephemeral = {6}};
	struct age_recipient recipient;
	struct buf file, plain;
	if (size < 2)
		return 0;
	if (!ready)
		check(crypto_init() == DB_OK);
	ready = true;
	size_t step = 1 + data[0];
	struct str text = {(const char *)data + 2, size - 2};
	(void)age_recipient_parse(text, &recipient);
	buf_init(&file, 1u << 20);
	buf_init(&plain, 1u << 20);
	(void)read_all(&identity, text, step, &plain);
	age_recipient_of(&identity, &recipient);
	buf_clear(&plain);
	struct age_writer *writer = age_writer_new(&recipient, &random, &file);
	check(writer && !age_write(writer, text, &file) && !age_write_end(writer, &file));
	age_writer_free(writer);
	check(!read_all(&identity, buf_str(&file), step, &plain) && str_eq(buf_str(&plain), text));
	buf_clear(&plain);
	file.at[(size_t)data[1] * 257 % file.len] ^= (char)(1 + data[0] % 255);
	check(read_all(&identity, buf_str(&file), step, &plain) != DB_OK);
	buf_free(&file);
	buf_free(&plain);
	return 0;
}
