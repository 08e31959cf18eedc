#include "../vectors.h"

#include <unistd.h>

#include "crypto/hash.h"
#include "crypto/password.h"
#include "crypto/secret.h"

static int setup(void **state)
{
	(void)state;
	return crypto_init() ? -1 : 0;
}

/* --- hashes --- */

static void test_digests_agree_with_hashlib(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("crypto_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "digests"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		uint8_t wanted[SHA256_BYTES], digest[SHA256_BYTES];
		char hex[SHA256_HEX_SIZE];
		size_t len;
		uint8_t *data = vector_base64(one, "data", &len);
		vector_hex(one, "sha256", wanted, sizeof wanted);
		sha256(data, len, digest);
		assert_memory_equal(digest, wanted, sizeof digest);
		sha256_hex(data, len, hex);
		assert_true(str_is(vector_str(one, "sha256"), hex));
		for (size_t step = 1; step <= 200; step += 13) {
			struct sha256_state partial;
			sha256_begin(&partial);
			for (size_t at = 0; at < len; at += step)
				sha256_update(&partial, data + at, len - at < step ? len - at : step);
			sha256_update(&partial, NULL, 0);
			sha256_end(&partial, digest);
			assert_memory_equal(digest, wanted, sizeof digest);
			for (size_t at = 0; at < sizeof partial.opaque; at++)
				assert_int_equal(partial.opaque[at], 0);
		}
		free(data);
	}
	assert_true(count > 8);
	json_free(doc);
}

static void test_macs_agree_with_hmac(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("crypto_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "macs"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		uint8_t wanted[SHA256_BYTES], mac[SHA256_BYTES];
		size_t key_len, len;
		uint8_t *key = vector_base64(one, "key", &key_len), *data = vector_base64(one, "data", &len);
		vector_hex(one, "hmac_sha256", wanted, sizeof wanted);
		hmac_sha256(key, key_len, data, len, mac);
		assert_memory_equal(mac, wanted, sizeof mac);
		free(key);
		free(data);
	}
	assert_true(count > 5);
	json_free(doc);
}

static void test_files(void **state)
{
	(void)state;
	char path[64], hex[SHA256_HEX_SIZE], wanted[SHA256_HEX_SIZE];
	struct error error;
	static uint8_t data[700001];
	static const size_t sizes[] = {0, 1, 256 * 1024, sizeof data};
	(void)snprintf(path, sizeof path, "test_hash_%d.bin", (int)getpid());
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	for (size_t i = 0; i < 4; i++) {
		FILE *file = fopen(path, "wb");
		assert_non_null(file);
		assert_int_equal(fwrite(data, 1, sizes[i], file), sizes[i]);
		fclose(file);
		assert_int_equal(sha256_file(path, hex, &error), DB_OK);
		sha256_hex(data, sizes[i], wanted);
		assert_string_equal(hex, wanted);
	}
	(void)remove(path);
	assert_int_equal(sha256_file(path, hex, &error), DB_E_IO);
	assert_non_null(strstr(error.text, path));
	assert_int_equal(sha256_file(".", hex, &error), DB_E_IO);
	assert_int_equal(sha256_file(".", hex, NULL), DB_E_IO);
}

/* --- secrets --- */

static void test_equality(void **state)
{
	(void)state;
	uint8_t a[32] = {0}, b[32] = {0};
	assert_true(secret_equal(a, b, 32));
	for (size_t bit = 0; bit < 256; bit++) {
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(secret_equal(a, b, 32));
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(secret_equal(a, "x", 0));
	assert_true(secret_equal_str(STR("token"), STR("token")));
	assert_true(secret_equal_str(STR_NONE, STR("")));
	assert_false(secret_equal_str(STR("token"), STR("tokem")));
	assert_false(secret_equal_str(STR("token"), STR("toke")));
	assert_false(secret_equal_str(STR("toke"), STR("token")));
	assert_false(secret_equal_str(STR_NONE, STR("t")));
	assert_false(secret_equal_str((struct str){"a\0", 2}, STR("a")));
}

static void test_wipe(void **state)
{
	(void)state;
	char text[] = "secret";
	secret_wipe(text, 3);
	assert_memory_equal(text, "\0\0\0ret", 7);
}

static void test_secret_memory_is_zeroed_aligned_and_writable(void **state)
{
	(void)state;
	for (size_t len = 0; len < 70; len++) {
		uint8_t *at = secret_alloc(len);
		assert_non_null(at);
		assert_int_equal((uintptr_t)at % 16, 0);
		for (size_t i = 0; i < len; i++)
			assert_int_equal(at[i], 0);
		memset(at, 0xff, len);
		secret_free(at);
	}
	secret_free(NULL);
	assert_null(secret_alloc(SIZE_MAX));
	assert_null(secret_alloc(SIZE_MAX - 100));
}

/* --- passwords --- */

static void test_password_round_trip(void **state)
{
	(void)state;
	char first[PASSWORD_HASH_SIZE], second[PASSWORD_HASH_SIZE];
	assert_int_equal(password_hash(STR("correct horse"), first), DB_OK);
	assert_int_equal(password_hash(STR("correct horse"), second), DB_OK);
	assert_true(str_starts(str_of(first), STR("$argon2id$v=19$m=65536,t=2,p=1$")));
	assert_string_not_equal(first, second); /* salted */
	assert_true(password_verify(STR("correct horse"), first));
	assert_true(password_verify(STR("correct horse"), second));
	assert_false(password_verify(STR("correct horsf"), first));
	assert_false(password_verify(STR("correct hors"), first));
	assert_false(password_verify(STR_NONE, first));
}

/* Made by argon2-cffi 25.1 with the reference code: PasswordHasher(time_cost=2, memory_cost=8192, parallelism=1). */
static void test_passwords_of_another_implementation(void **state)
{
	(void)state;
	const char encoded[] = "$argon2id$v=19$m=8192,t=2,p=1$c2l4dGVlbiBieXRlIHNsdA$qI2U25xveidwWNDlsAdOQTnOypZ7aGOrkJABRAa7TC4";
	assert_true(password_verify(STR("p\xc3\xa4ssword"), encoded));
	assert_false(password_verify(STR("password"), encoded));
}

static void test_malformed_hashes_never_verify(void **state)
{
	(void)state;
	char encoded[PASSWORD_HASH_SIZE];
	assert_int_equal(password_hash(STR_NONE, encoded), DB_OK);
	assert_true(password_verify(STR_NONE, encoded));
	encoded[strlen(encoded) - 1] ^= 1;
	assert_false(password_verify(STR_NONE, encoded));
	static const char *const bad[] = {
	    "",
	    "$argon2id$",
	    "$argon2i$v=19$m=65536,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	    "$argon2id$v=19$m=65536,t=2,p=1$$",
	    "plain",
	    "$2b$12$abcdefghijklmnopqrstuv"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(password_verify(STR_NONE, bad[i]));
	char large[400];
	memset(large, 'A', sizeof large - 1);
	memcpy(large, "$argon2id$", 10);
	large[sizeof large - 1] = '\0';
	assert_false(password_verify(STR_NONE, large));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_digests_agree_with_hashlib),
	    cmocka_unit_test(test_macs_agree_with_hmac),
	    cmocka_unit_test(test_files),
	    cmocka_unit_test(test_equality),
	    cmocka_unit_test(test_wipe),
	    cmocka_unit_test(test_secret_memory_is_zeroed_aligned_and_writable),
	    cmocka_unit_test(test_password_round_trip),
	    cmocka_unit_test(test_passwords_of_another_implementation),
	    cmocka_unit_test(test_malformed_hashes_never_verify),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
