/* Files of age as another implementation wrote them, our own read again, and every way in which one can be wrong. */
#include "../vectors.h"

#include "crypto/age.h"
#include "crypto/bech32.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

static struct json_doc *vectors;

static int setup(void **state)
{
	(void)state;
	vectors = vectors_load("age_vectors.json");
	return crypto_init() ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	json_free(vectors);
	return 0;
}

/* Reads a file in pieces of `step` bytes. */
static enum db_err read_file(const struct age_identity *identity, struct str file, size_t step, struct buf *plain)
{
	struct error error;
	struct age_reader *reader = age_reader_new(identity);
	assert_non_null(reader);
	enum db_err err = DB_OK;
	buf_clear(plain);
	for (size_t at = 0; !err && at < file.len; at += step)
		err = age_read(reader, str_sub(file, at, step), plain, &error);
	if (!err)
		err = age_read_end(reader, plain, &error);
	if (err)
		assert_true(strlen(error.text) > 10);
	age_reader_free(reader);
	return err;
}

static struct age_identity identity_of(const json_val *vector, const char *name)
{
	struct age_identity identity;
	struct str text;
	assert_true(json_as_str(json_get(vector, name), &text));
	assert_int_equal(age_identity_parse(text, &identity), DB_OK);
	return identity;
}

static void what_rage_wrote_is_read_and_only_by_its_recipient(void **state)
{
	(void)state;
	const json_val *files = json_get(json_root(vectors), "files");
	size_t steps[] = {1, 7, 65536, 1000000};
	struct buf plain;
	buf_init(&plain, 1u << 20);
	assert_true(json_len(files) >= 4);
	for (size_t i = 0; i < json_len(files); i++) {
		const json_val *vector = json_at(files, i);
		struct age_identity us = identity_of(vector, "identity"), other = identity_of(vector, "other");
		struct age_recipient recipient;
		struct str wanted, hash;
		char text[AGE_KEY_SIZE], hex[SHA256_HEX_SIZE];
		size_t len;
		uint8_t *file = vector_base64(vector, "file", &len);
		age_recipient_of(&us, &recipient);
		age_recipient_write(&recipient, text);
		assert_true(json_as_str(json_get(vector, "recipient"), &wanted) && str_is(wanted, text));
		age_identity_write(&us, text);
		assert_true(json_as_str(json_get(vector, "identity"), &wanted) && str_is(wanted, text));
		assert_true(json_as_str(json_get(vector, "sha256"), &hash));
		for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
			assert_int_equal(read_file(&us, (struct str){(char *)file, len}, steps[s], &plain), DB_OK);
			sha256_hex(plain.at, plain.len, hex);
			assert_true(str_is(hash, hex));
		}
		assert_int_equal(read_file(&other, (struct str){(char *)file, len}, len, &plain), DB_E_DENIED);
		assert_int_equal(plain.len, 0);
		free(file);
	}
	buf_free(&plain);
}

static void write_file(const struct age_recipient *recipient, size_t len, struct buf *out)
{
	static char zeros[4096];
	struct age_writer *writer = age_writer_new(recipient, NULL, out);
	assert_non_null(writer);
	for (size_t left = len; left > 0;) {
		size_t n = left < sizeof zeros ? left : sizeof zeros;
		assert_int_equal(age_write(writer, (struct str){zeros, n}, out), DB_OK);
		left -= n;
	}
	assert_int_equal(age_write_end(writer, out), DB_OK);
	age_writer_free(writer);
}

static void files_of_every_length_around_a_chunk_are_read_again_and_not_when_cut(void **state)
{
	(void)state;
	size_t lengths[] = {0, 1, 65535, 65536, 65537, 131072, 131073};
	struct age_identity us;
	struct age_recipient recipient;
	struct buf file, plain;
	buf_init(&file, 1u << 20);
	buf_init(&plain, 1u << 20);
	age_identity_new(&us);
	age_recipient_of(&us, &recipient);
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		buf_clear(&file);
		write_file(&recipient, lengths[i], &file);
		assert_int_equal(read_file(&us, buf_str(&file), 10000, &plain), DB_OK);
		assert_int_equal(plain.len, lengths[i]);
		size_t cuts[] = {1, 16, 17, file.len / 2, file.len - 200, file.len - 10};
		for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++)
			if (cuts[c] > 0 && cuts[c] < file.len)
				assert_int_not_equal(read_file(&us, str_sub(buf_str(&file), 0, file.len - cuts[c]), 10000, &plain), DB_OK);
		/* a whole chunk fewer: what is left are genuine chunks, none of which is the last */
		if (lengths[i] > AGE_CHUNK_BYTES) {
			size_t last = lengths[i] % AGE_CHUNK_BYTES ? lengths[i] % AGE_CHUNK_BYTES : AGE_CHUNK_BYTES;
			assert_int_equal(read_file(&us, str_sub(buf_str(&file), 0, file.len - last - 16), 10000, &plain), DB_E_CRYPTO);
		}
		assert_int_equal(buf_append_byte(&file, 'x'), DB_OK);
		assert_int_not_equal(read_file(&us, buf_str(&file), 10000, &plain), DB_OK);
	}
	buf_free(&file);
	buf_free(&plain);
}

static void a_changed_bit_anywhere_is_noticed(void **state)
{
	(void)state;
	struct age_identity us;
	struct age_recipient recipient;
	struct buf file, plain;
	buf_init(&file, 1u << 20);
	buf_init(&plain, 1u << 20);
	age_identity_new(&us);
	age_recipient_of(&us, &recipient);
	write_file(&recipient, 50, &file);
	for (size_t at = 0; at < file.len; at++) {
		file.at[at] ^= 1;
		assert_int_not_equal(read_file(&us, buf_str(&file), 64, &plain), DB_OK);
		assert_int_equal(plain.len, 0);
		file.at[at] ^= 1;
	}
	assert_int_equal(read_file(&us, buf_str(&file), 64, &plain), DB_OK);
	buf_free(&file);
	buf_free(&plain);
}

static void keys_that_are_none_are_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
	    "",
	    "age1",
	    "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q",  /* a wrong checksum */
	    "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8pp", /* too long */
	    "AGE1QL3Z7HJY54PW3HYWW5AYYFG7ZQGVC7W3J2ELW8ZMRJ2KG5SFN9AQMCAC8P",
	    "age1Ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
	    "ssh-ed25519 AAAA",
	};
	struct age_recipient recipient;
	struct age_identity identity;
	struct buf out;
	char text[BECH32_SIZE];
	uint8_t bytes[BECH32_MAX_BYTES], again[BECH32_MAX_BYTES];
	assert_int_equal(age_recipient_parse(STR("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"), &recipient),
	                 DB_OK);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		assert_int_equal(age_recipient_parse(str_of(wrong[i]), &recipient), DB_E_INVALID);
		assert_int_equal(age_identity_parse(str_of(wrong[i]), &identity), DB_E_INVALID);
	}
	for (size_t len = 0; len <= sizeof bytes; len++) {
		memset(bytes, (int)(37 * len + 1), sizeof bytes);
		bech32_encode("any", bytes, len, text);
		assert_int_equal(bech32_decode(str_of(text), "any", again, len), DB_OK);
		assert_memory_equal(bytes, again, len);
		assert_int_equal(bech32_decode(str_of(text), "ani", again, len), DB_E_INVALID);
	}
	memset(&recipient, 0, sizeof recipient); /* of low order */
	buf_init(&out, 65536);
	assert_null(age_writer_new(&recipient, NULL, &out));
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_rage_wrote_is_read_and_only_by_its_recipient),
	    cmocka_unit_test(files_of_every_length_around_a_chunk_are_read_again_and_not_when_cut),
	    cmocka_unit_test(a_changed_bit_anywhere_is_noticed),
	    cmocka_unit_test(keys_that_are_none_are_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
