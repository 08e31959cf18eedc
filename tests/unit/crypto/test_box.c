#include "../vectors.h"

#include <sodium.h>

#include "core/id.h"
#include "crypto/box.h"
#include "crypto/secret.h"

static int setup(void **state)
{
	(void)state;
	return crypto_init() ? -1 : 0;
}

static struct box_keypair pair_of(uint8_t byte)
{
	uint8_t secret[BOX_KEY_BYTES];
	struct box_keypair pair;
	memset(secret, byte, sizeof secret);
	box_keypair_from_secret(&pair, secret);
	return pair;
}

static struct box_shared shared_of(const struct box_keypair *ours, const struct box_keypair *theirs)
{
	struct box_shared shared;
	assert_int_equal(box_shared_derive(&shared, theirs->public_key, ours->secret_key), DB_OK);
	return shared;
}

static void assert_base64(const void *bytes, size_t len, const char *wanted)
{
	char *text = malloc(BASE64_ENCODED_LEN(len) + 1);
	text[base64_encode(bytes, len, text)] = '\0';
	assert_string_equal(text, wanted);
	free(text);
}

/* protocol-and-trust 15, V2. */
static void test_the_protocols_box_vector(void **state)
{
	(void)state;
	struct box_keypair k = pair_of(0x11), e = pair_of(0x22);
	assert_base64(k.public_key, BOX_KEY_BYTES, "e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=");
	assert_base64(e.public_key, BOX_KEY_BYTES, "D6poTtKIZ7l/Smot7l34zpdOdrcBjj8iocTPJnhXDyA=");
	struct box_shared shared = shared_of(&e, &k);
	char hex[2 * BOX_KEY_BYTES + 1];
	hex_encode(shared.key, BOX_KEY_BYTES, hex);
	assert_string_equal(hex, "8abe7c8ae6800b76d4f5986b04b77f6e9b4f332403c90df02428336e8bd9b525");
	static const struct {
		uint8_t first_nonce_byte;
		const char *plain, *sealed;
	} messages[] = {
	    {0x40, "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}],\"stream\":true}",
	     "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX/niXU58aRpfpFB3bzAhcazCU3dqE1ZeLkoYRWjmHsfWTxrMTIzBDYcsn+H/"
	     "jajwCuKpdXvldWPtYJZPG8p9xchCqF6Xe/"
	     "obmSexiAWGaNLKUi6BNx/JwiJtqSMU="},
	    {0x60, "data: {\"choices\":[{\"delta\":{\"content\":\"pong\"}}]}\n\n",
	     "YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ37yeWmCTtb84VY+tBjGHifHxQr81CLLA8O3cCyMPysoy/6vOHBi+kvr7lqlLRd930Z+Agqyx/"
	     "8MmD5chrARfqD1Mq"},
	};
	for (size_t i = 0; i < 2; i++) {
		uint8_t nonce[BOX_NONCE_BYTES], sealed[256], opened[256];
		size_t len = strlen(messages[i].plain), opened_len;
		for (uint8_t at = 0; at < BOX_NONCE_BYTES; at++)
			nonce[at] = (uint8_t)(messages[i].first_nonce_byte + at);
		box_seal_with_nonce(&shared, nonce, messages[i].plain, len, sealed);
		assert_base64(sealed, len + BOX_OVERHEAD, messages[i].sealed);
		struct box_shared other_end = shared_of(&k, &e);
		assert_int_equal(box_open(&other_end, sealed, len + BOX_OVERHEAD, opened, &opened_len), DB_OK);
		assert_int_equal(opened_len, len);
		assert_memory_equal(opened, messages[i].plain, len);
	}
}

static void test_agrees_with_pynacl(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("crypto_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "boxes"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		uint8_t secret[32], public_key[32], peer_public[32], wanted[32], nonce[24];
		vector_hex(one, "secret", secret, 32);
		vector_hex(one, "public", public_key, 32);
		vector_hex(one, "peer_public", peer_public, 32);
		vector_hex(one, "shared", wanted, 32);
		vector_hex(one, "nonce", nonce, 24);
		size_t plain_len, sealed_len, opened_len;
		uint8_t *plain = vector_base64(one, "plain", &plain_len), *sealed = vector_base64(one, "sealed", &sealed_len);
		uint8_t *out = malloc(sealed_len);
		assert_int_equal(sealed_len, plain_len + BOX_OVERHEAD);

		struct box_keypair pair;
		struct box_shared shared;
		box_keypair_from_secret(&pair, secret);
		assert_memory_equal(pair.public_key, public_key, 32);
		assert_memory_equal(pair.secret_key, secret, 32);
		assert_int_equal(box_shared_derive(&shared, peer_public, secret), DB_OK);
		assert_memory_equal(shared.key, wanted, 32);
		box_seal_with_nonce(&shared, nonce, plain, plain_len, out);
		assert_memory_equal(out, sealed, sealed_len);
		assert_int_equal(box_open(&shared, sealed, sealed_len, out, &opened_len), DB_OK);
		assert_int_equal(opened_len, plain_len);
		assert_memory_equal(out, plain, plain_len);
		free(plain);
		free(sealed);
		free(out);
	}
	assert_true(count > 8);
	json_free(doc);
}

static void test_seal_is_libsodiums_crypto_box_easy(void **state)
{
	(void)state;
	struct box_keypair ours, theirs;
	box_keypair_new(&ours);
	box_keypair_new(&theirs);
	struct box_shared shared = shared_of(&ours, &theirs);
	const char plain[] = "interoperable";
	uint8_t sealed[sizeof plain + BOX_OVERHEAD], opened[sizeof plain];
	box_seal(&shared, plain, sizeof plain, sealed);
	assert_int_equal(crypto_box_open_easy(opened, sealed + BOX_NONCE_BYTES, sizeof sealed - BOX_NONCE_BYTES, sealed,
	                                      ours.public_key, theirs.secret_key),
	                 0);
	assert_memory_equal(opened, plain, sizeof plain);
}

static void test_every_flipped_bit_is_refused(void **state)
{
	(void)state;
	struct box_keypair ours = pair_of(1), theirs = pair_of(2);
	struct box_shared shared = shared_of(&ours, &theirs);
	const char plain[] = "attack at dawn";
	uint8_t sealed[sizeof plain + BOX_OVERHEAD], opened[sizeof plain];
	size_t len;
	box_seal(&shared, plain, sizeof plain, sealed);
	for (size_t bit = 0; bit < 8 * sizeof sealed; bit++) {
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		len = 99;
		assert_int_equal(box_open(&shared, sealed, sizeof sealed, opened, &len), DB_E_CRYPTO);
		assert_int_equal(len, 0);
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(box_open(&shared, sealed, sizeof sealed, opened, &len), DB_OK);
}

static void test_every_cut_and_extension_is_refused(void **state)
{
	(void)state;
	struct box_keypair ours = pair_of(1), theirs = pair_of(2);
	struct box_shared shared = shared_of(&ours, &theirs);
	uint8_t sealed[8 + BOX_OVERHEAD + 1] = {0}, opened[16];
	size_t len;
	box_seal(&shared, "8 bytes!", 8, sealed);
	for (size_t cut = 0; cut <= sizeof sealed; cut++)
		assert_int_equal(box_open(&shared, sealed, cut, opened, &len), cut == 8 + BOX_OVERHEAD ? DB_OK : DB_E_CRYPTO);
}

static void test_another_pair_cannot_open(void **state)
{
	(void)state;
	struct box_keypair ours, theirs, stranger;
	box_keypair_new(&ours);
	box_keypair_new(&theirs);
	box_keypair_new(&stranger);
	struct box_shared right = shared_of(&ours, &theirs), wrong = shared_of(&stranger, &theirs);
	uint8_t sealed[5 + BOX_OVERHEAD], opened[5];
	size_t len;
	box_seal(&right, "hello", 5, sealed);
	assert_int_equal(box_open(&wrong, sealed, sizeof sealed, opened, &len), DB_E_CRYPTO);
}

static void test_empty_and_large_messages(void **state)
{
	(void)state;
	struct box_keypair ours = pair_of(3), theirs = pair_of(4);
	struct box_shared shared = shared_of(&ours, &theirs);
	static const size_t sizes[] = {0, 1, 1u << 20};
	for (size_t i = 0; i < 3; i++) {
		uint8_t *plain = calloc(1, sizes[i] + 1), *sealed = malloc(sizes[i] + BOX_OVERHEAD), *opened = malloc(sizes[i] + 1);
		size_t len;
		id_random(plain, sizes[i]);
		box_seal(&shared, sizes[i] ? plain : NULL, sizes[i], sealed);
		assert_int_equal(box_open(&shared, sealed, sizes[i] + BOX_OVERHEAD, opened, &len), DB_OK);
		assert_int_equal(len, sizes[i]);
		assert_memory_equal(opened, plain, len);
		free(plain);
		free(sealed);
		free(opened);
	}
}

static void test_nonces_and_keys_are_fresh(void **state)
{
	(void)state;
	struct box_keypair pairs[50];
	struct box_shared shared;
	uint8_t sealed[50][1 + BOX_OVERHEAD];
	memset(&shared, 7, sizeof shared);
	for (size_t i = 0; i < 50; i++) {
		box_keypair_new(&pairs[i]);
		box_seal(&shared, "x", 1, sealed[i]);
		for (size_t j = 0; j < i; j++) {
			assert_memory_not_equal(pairs[i].secret_key, pairs[j].secret_key, BOX_KEY_BYTES);
			assert_memory_not_equal(pairs[i].public_key, pairs[j].public_key, BOX_KEY_BYTES);
			assert_memory_not_equal(sealed[i], sealed[j], BOX_NONCE_BYTES);
		}
	}
}

static void test_low_order_peer_keys_are_refused(void **state)
{
	(void)state;
	/* The points of order 1, 2, 4 and 8 on the curve and its twist (RFC 7748, 6.1; Curve25519 page). */
	static const char *const points[] = {
	    "0000000000000000000000000000000000000000000000000000000000000000",
	    "0100000000000000000000000000000000000000000000000000000000000000",
	    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	};
	struct box_keypair ours = pair_of(5);
	for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
		uint8_t point[BOX_KEY_BYTES];
		struct box_shared shared;
		assert_int_equal(hex_decode(str_of(points[i]), point, sizeof point), DB_OK);
		assert_int_equal(box_shared_derive(&shared, point, ours.secret_key), DB_E_CRYPTO);
		for (size_t at = 0; at < BOX_KEY_BYTES; at++)
			assert_int_equal(shared.key[at], 0);
	}
}

/* protocol-and-trust 15, V1. */
static void test_the_protocols_mnemonic_vector(void **state)
{
	(void)state;
	struct box_keypair pair;
	char hex[2 * BOX_KEY_BYTES + 1], kid[BOX_KID_SIZE];
	const char phrase[] = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
	assert_int_equal(box_keypair_from_mnemonic(&pair, STR(phrase)), DB_OK);
	hex_encode(pair.secret_key, BOX_KEY_BYTES, hex);
	assert_string_equal(hex, "32c2f4d9e1c15c41c390b8a26ed14488548ed6033648eb9e38a08421792ce17b");
	assert_base64(pair.public_key, BOX_KEY_BYTES, "LlrlPfsDzmMf7orE/cMuD1TI2D2EuE1qt7p7rhcvjRw=");
	box_key_id(pair.public_key, kid);
	assert_string_equal(kid, "96293a4d0473cb36");
}

static void test_mnemonics_agree_with_cryptography(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("crypto_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "mnemonics"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		struct box_keypair pair;
		uint8_t secret[32], public_key[32];
		char kid[BOX_KID_SIZE];
		vector_hex(one, "secret", secret, 32);
		vector_hex(one, "public", public_key, 32);
		assert_int_equal(box_keypair_from_mnemonic(&pair, vector_str(one, "phrase")), DB_OK);
		assert_memory_equal(pair.secret_key, secret, 32);
		assert_memory_equal(pair.public_key, public_key, 32);
		box_key_id(pair.public_key, kid);
		assert_true(str_is(vector_str(one, "kid"), kid));
	}
	assert_int_equal(count, 5);
	json_free(doc);
}

static void test_other_word_counts_are_no_mnemonic(void **state)
{
	(void)state;
	char phrase[64];
	size_t len = 0;
	for (size_t words = 0; words <= 26; words++) {
		struct box_keypair pair;
		bool right = words == 12 || words == 24;
		assert_int_equal(box_keypair_from_mnemonic(&pair, (struct str){phrase, len}), right ? DB_OK : DB_E_INVALID);
		phrase[len++] = 'w';
		phrase[len++] = ' ';
	}
	struct box_keypair pair;
	assert_int_equal(box_keypair_from_mnemonic(&pair, STR_NONE), DB_E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_the_protocols_box_vector),           cmocka_unit_test(test_agrees_with_pynacl),
	    cmocka_unit_test(test_seal_is_libsodiums_crypto_box_easy), cmocka_unit_test(test_every_flipped_bit_is_refused),
	    cmocka_unit_test(test_every_cut_and_extension_is_refused), cmocka_unit_test(test_another_pair_cannot_open),
	    cmocka_unit_test(test_empty_and_large_messages),           cmocka_unit_test(test_nonces_and_keys_are_fresh),
	    cmocka_unit_test(test_low_order_peer_keys_are_refused),    cmocka_unit_test(test_the_protocols_mnemonic_vector),
	    cmocka_unit_test(test_mnemonics_agree_with_cryptography),  cmocka_unit_test(test_other_word_counts_are_no_mnemonic),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
