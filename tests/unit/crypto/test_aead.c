/* AES-256-GCM against libsodium, HKDF against RFC 5869 in Python, and every way a sealed part can be wrong. */
#include "../vectors.h"

#include "crypto/aead.h"
#include "crypto/secret.h"

#include <string.h>

static struct json_doc *vectors;

static int setup(void **state)
{
	(void)state;
	vectors = vectors_load("crypto_vectors.json");
	return crypto_init() ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	json_free(vectors);
	return 0;
}

struct part {
	uint8_t key[AEAD_KEY_BYTES], nonce[AEAD_NONCE_BYTES];
	uint8_t *aad, *plain, *sealed;
	size_t aad_len, len, sealed_len;
};

static void part_read(const json_val *vector, struct part *part)
{
	vector_hex(vector, "key", part->key, sizeof part->key);
	vector_hex(vector, "nonce", part->nonce, sizeof part->nonce);
	part->aad = vector_base64(vector, "aad", &part->aad_len);
	part->plain = vector_base64(vector, "plain", &part->len);
	part->sealed = vector_base64(vector, "sealed", &part->sealed_len);
	assert_int_equal(part->sealed_len, part->len + AEAD_TAG_BYTES);
}

static void part_free(struct part *part)
{
	free(part->aad);
	free(part->plain);
	free(part->sealed);
}

static enum db_err open_part(const struct part *part, uint8_t *out)
{
	return aead_open(part->key, part->nonce, (struct str){(const char *)part->aad, part->aad_len}, part->sealed,
	                 part->sealed_len, out);
}

static void what_libsodium_seals_is_what_we_seal(void **state)
{
	(void)state;
	size_t count = json_len(json_get(json_root(vectors), "sealed_parts"));
	assert_true(count >= 9);
	for (size_t i = 0; i < count; i++) {
		struct part part;
		part_read(json_at(json_get(json_root(vectors), "sealed_parts"), i), &part);
		uint8_t *out = malloc(part.sealed_len);
		struct str aad = {(const char *)part.aad, part.aad_len};
		assert_int_equal(aead_seal(part.key, part.nonce, aad, part.plain, part.len, out), DB_OK);
		assert_memory_equal(out, part.sealed, part.sealed_len);
		assert_int_equal(open_part(&part, out), DB_OK);
		assert_memory_equal(out, part.plain, part.len);
		memcpy(out, part.plain, part.len); /* in place, both ways */
		assert_int_equal(aead_seal(part.key, part.nonce, aad, out, part.len, out), DB_OK);
		assert_memory_equal(out, part.sealed, part.sealed_len);
		assert_int_equal(aead_open(part.key, part.nonce, aad, out, part.sealed_len, out), DB_OK);
		assert_memory_equal(out, part.plain, part.len);
		free(out);
		part_free(&part);
	}
}

static void assert_refused(const struct part *part)
{
	uint8_t out[64], zero[64] = {0};
	assert_true(part->len <= sizeof out);
	memset(out, 0xa5, sizeof out);
	assert_int_equal(open_part(part, out), DB_E_CRYPTO);
	assert_memory_equal(out, zero, part->len); /* nothing of it is left to be used */
}

static void one_wrong_bit_anywhere_is_refused_and_leaves_nothing(void **state)
{
	(void)state;
	struct part part;
	part_read(json_at(json_get(json_root(vectors), "sealed_parts"), 4), &part); /* 16 bytes and as many beside them */
	uint8_t *const fields[] = {part.key, part.nonce, part.aad, part.sealed};
	const size_t sizes[] = {sizeof part.key, sizeof part.nonce, part.aad_len, part.sealed_len};
	for (size_t field = 0; field < 4; field++)
		for (size_t bit = 0; bit < 8 * sizes[field]; bit++) {
			fields[field][bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_refused(&part);
			fields[field][bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	part.aad_len--;
	assert_refused(&part);
	part.aad_len++;
	uint8_t out[64];
	for (size_t len = 0; len < part.sealed_len; len++)
		assert_int_equal(
		    aead_open(part.key, part.nonce, (struct str){(const char *)part.aad, part.aad_len}, part.sealed, len, out),
		    DB_E_CRYPTO);
	assert_int_equal(open_part(&part, out), DB_OK);
	part_free(&part);
}

static void keys_are_derived_as_rfc_5869_says(void **state)
{
	(void)state;
	const json_val *all = json_get(json_root(vectors), "derivations");
	assert_true(json_len(all) >= 6);
	for (size_t i = 0; i < json_len(all); i++) {
		const json_val *vector = json_at(all, i);
		size_t salt_len, secret_len, info_len, len;
		uint8_t wanted[HKDF_PRK_BYTES], prk[HKDF_PRK_BYTES];
		uint8_t *salt = vector_base64(vector, "salt", &salt_len), *secret = vector_base64(vector, "secret", &secret_len);
		uint8_t *info = vector_base64(vector, "info", &info_len), *bytes = vector_base64(vector, "out", &len);
		uint8_t *out = malloc(len);
		vector_hex(vector, "prk", wanted, sizeof wanted);
		hkdf_extract((struct str){(const char *)salt, salt_len}, (struct str){(const char *)secret, secret_len}, prk);
		assert_memory_equal(prk, wanted, sizeof prk);
		assert_int_equal(hkdf_expand(prk, (struct str){(const char *)info, info_len}, out, len), DB_OK);
		assert_memory_equal(out, bytes, len);
		free(out);
		free(salt);
		free(secret);
		free(info);
		free(bytes);
	}
	uint8_t prk[HKDF_PRK_BYTES] = {0}, out[255 * 32 + 1];
	char info[HKDF_MAX_INFO + 1] = "";
	assert_int_not_equal(hkdf_expand(prk, STR_NONE, out, sizeof out), DB_OK);
	assert_int_not_equal(hkdf_expand(prk, (struct str){info, sizeof info}, out, 32), DB_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_libsodium_seals_is_what_we_seal),
	    cmocka_unit_test(one_wrong_bit_anywhere_is_refused_and_leaves_nothing),
	    cmocka_unit_test(keys_are_derived_as_rfc_5869_says),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
