#include "../vectors.h"

#include <openssl/err.h>
#include <pthread.h>

#include "core/id.h"
#include "crypto/hash.h"
#include "crypto/p256.h"
#include "crypto/secret.h"

#define V3_SCALAR "82734bfa2193d794ab7db7978df137700b0ed287a751338aaf4c64351821c21b"
#define V3_PUBLIC "T7g1knoCJ58EkK789sD5UpJ+WLd7dhotr1VeAKwwxxw2Es+WyENUMCSJdvf50aFtbc2OEUnT0yu301DKr3iisA=="

#define ORDER_HEX "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"

static int setup(void **state)
{
	(void)state;
	return crypto_init() ? -1 : 0;
}

static struct p256_key *key_of(const char *scalar_hex)
{
	uint8_t scalar[P256_SCALAR_BYTES];
	assert_int_equal(hex_decode(str_of(scalar_hex), scalar, sizeof scalar), DB_OK);
	return p256_from_scalar(scalar);
}

/* --- protocol-and-trust 15, V3 to V7 --- */

static void test_the_protocols_key(void **state)
{
	(void)state;
	struct p256_key *key = key_of(V3_SCALAR);
	uint8_t xy[P256_PUBLIC_BYTES];
	char text[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES) + 1];
	assert_non_null(key);
	p256_public(key, xy);
	text[base64_encode(xy, sizeof xy, text)] = '\0';
	assert_string_equal(text, V3_PUBLIC);
	p256_free(key);
}

#define NONCE "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define STAMP "2026-01-02T03:04:06Z"
#define AB32  "abababababababababababababababababababababababababababababababab"
#define EF32  "efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef"
#define CD32  "CDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCD"
#define V5_STATUS                                                                                                              \
	"{\"binary_hash\":\"" AB32 "\",\"model_hashes\":{\"a/b\":\"00\"},\"nonce\":\"" NONCE                                       \
	"\",\"rdma_disabled\":true,\"secure_boot_enabled\":true,\"sip_enabled\":true,\"template_hashes\":{\"mlx_metallib\":"       \
	"\"" EF32 "\"},\"timestamp\":\"" STAMP "\"}"
#define V4_BLOB                                                                                                                \
	"{\"authenticatedRootEnabled\":true,\"binaryHash\":\"" AB32 "\",\"chipName\":\"Apple M4 Max\",\"encryptionPublicKey\":"    \
	"\"e06Qm75\\/\\/"                                                                                                          \
	"kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=\",\"hardwareModel\":\"Mac16,6\",\"osVersion\":\"15.3.0\",\"publicKey\":\"" V3_PUBLIC  \
	"\",\"rdmaDisabled\":true,\"secureBootEnabled\":true,\"secureEnclaveAvailable\":true,\"serialNumber\":\"TESTSERIAL01\","   \
	"\"sipEnabled\":true,"                                                                                                     \
	"\"systemVolumeHash\":\"" CD32 "\",\"timestamp\":\"2026-01-02T03:04:05Z\"}"

static const struct {
	const char *message, *signature;
} protocol_signatures[] = {
    {V4_BLOB, "MEYCIQCYnJJRFzoEwm1GJlguH5DYobM7OWmrNVaixrH1QG2ZGQIhAKzsFtOiZmPV9Rfp/GyRmBwcc+O6behcnO0S4V3OLg4Y"},
    {NONCE STAMP, "MEYCIQDidUIQIkn86P56aLb2V7KUa3Rx/lL2GZYlnfhw/67cxwIhAOsQ0jtQSB5HjSuPHene4QtwAX4ZL+n0VOJPv+fM0uzi"},
    {V5_STATUS, "MEQCIAsj1Ayqb+5aHqGKytYAvbkTJMCIX8+VyGXKbx+r/hWZAiBQM8doFOkHYQHyZEz+FukvYA/yEImRLtwfn1wPrW5/pg=="},
    {NONCE, "MEQCIGFM7G/XPbwBqm1hl3w3AYKADQ7cadVd+kY8cKl/a9ZdAiAWG9L3nrHgCtmeXvHRJhT5sRm3GX7uwc4LYR4AEDAP2g=="},
    {"33f3681f95dc7ea53cbffbc7a95db996a5d73410ad5654445c2eadb01273d153",
     "MEQCIHeAxTgwDNmKEqsG1Va5mplgdyn3UFbTj4wQt7KIjdk7AiAjwt9rTrJM/hrvNCCkd3HUE+6sSIWO5PKKrvjj9QWrNw=="},
};

static void test_the_protocols_signatures(void **state)
{
	(void)state;
	char hex[SHA256_HEX_SIZE];
	sha256_hex(V4_BLOB, sizeof V4_BLOB - 1, hex);
	assert_string_equal(hex, "f7764f629149d8773ebf11379b7256692447ddd583a04748a0e9ab9a1688d07b");
	for (size_t i = 0; i < sizeof protocol_signatures / sizeof protocol_signatures[0]; i++) {
		struct str message = str_of(protocol_signatures[i].message), der = str_of(protocol_signatures[i].signature);
		assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), message, der), DB_OK);
		/* Each byte of the message matters. */
		char *altered = malloc(message.len);
		memcpy(altered, message.at, message.len);
		for (size_t at = 0; at < message.len; at += 7) {
			altered[at] ^= 1;
			assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), (struct str){altered, message.len}, der), DB_E_CRYPTO);
			altered[at] ^= 1;
		}
		assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), str_sub(message, 0, message.len - 1), der), DB_E_CRYPTO);
		free(altered);
	}
}

static void test_every_altered_bit_of_a_signature_is_refused(void **state)
{
	(void)state;
	uint8_t xy[P256_PUBLIC_BYTES], der[P256_DER_MAX];
	size_t len;
	base64_decode_exact(STR(V3_PUBLIC), xy, sizeof xy);
	assert_int_equal(base64_decode(str_of(protocol_signatures[3].signature), der, &len), DB_OK);
	for (size_t bit = 0; bit < 8 * len; bit++) {
		der[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(p256_verify(xy, sizeof xy, NONCE, sizeof NONCE - 1, der, len), DB_E_CRYPTO);
		der[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(p256_verify(xy, sizeof xy, NONCE, sizeof NONCE - 1, der, cut), DB_E_CRYPTO);
	assert_int_equal(p256_verify(xy, sizeof xy, NONCE, sizeof NONCE - 1, der, len), DB_OK);
}

/* --- vectors of another implementation --- */

static void test_agrees_with_cryptography(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("crypto_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "signatures"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		uint8_t scalar[P256_SCALAR_BYTES], wanted[P256_PUBLIC_BYTES], xy[P256_PUBLIC_BYTES], ours[P256_DER_MAX];
		size_t message_len, der_len, twin_len, ours_len;
		vector_hex(one, "scalar", scalar, sizeof scalar);
		vector_hex(one, "public", wanted, sizeof wanted);
		uint8_t *message = vector_base64(one, "message", &message_len), *der = vector_base64(one, "der", &der_len);
		uint8_t *twin = vector_base64(one, "twin", &twin_len);
		struct p256_key *key = p256_from_scalar(scalar);
		assert_non_null(key);
		p256_public(key, xy);
		assert_memory_equal(xy, wanted, sizeof xy);
		assert_int_equal(p256_verify(xy, sizeof xy, message, message_len, der, der_len), DB_OK);
		assert_int_equal(p256_verify(xy, sizeof xy, message, message_len, twin, twin_len), DB_OK); /* no rule about low s */
		assert_int_equal(p256_sign(key, message, message_len, ours, &ours_len), DB_OK);
		assert_int_equal(p256_verify(xy, sizeof xy, message, message_len, ours, ours_len), DB_OK);
		p256_free(key);
		free(message);
		free(der);
		free(twin);
	}
	assert_true(count > 10);
	json_free(doc);
}

static void test_scalars_at_the_ends_of_the_range(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("crypto_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "small_scalars"));
	for (json_val *one; (one = json_next(&iter, NULL));) {
		uint8_t scalar[P256_SCALAR_BYTES], wanted[P256_PUBLIC_BYTES], xy[P256_PUBLIC_BYTES], back[P256_SCALAR_BYTES];
		vector_hex(one, "scalar", scalar, sizeof scalar);
		vector_hex(one, "public", wanted, sizeof wanted);
		struct p256_key *key = p256_from_scalar(scalar);
		assert_non_null(key);
		p256_public(key, xy);
		assert_memory_equal(xy, wanted, sizeof xy);
		p256_scalar(key, back);
		assert_memory_equal(back, scalar, sizeof scalar);
		p256_free(key);
	}
	json_free(doc);
	assert_null(key_of("0000000000000000000000000000000000000000000000000000000000000000"));
	assert_null(key_of(ORDER_HEX));
	assert_null(key_of("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552"));
	assert_null(key_of("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"));
}

static void test_generated_keys_are_saved_and_loaded(void **state)
{
	(void)state;
	uint8_t scalar[P256_SCALAR_BYTES], other[P256_SCALAR_BYTES], xy[P256_PUBLIC_BYTES], again[P256_PUBLIC_BYTES];
	struct p256_key *key = p256_generate(), *second = p256_generate();
	assert_true(key && second);
	p256_scalar(key, scalar);
	p256_scalar(second, other);
	assert_memory_not_equal(scalar, other, sizeof scalar);
	struct p256_key *loaded = p256_from_scalar(scalar);
	p256_public(key, xy);
	p256_public(loaded, again);
	assert_memory_equal(xy, again, sizeof xy);
	p256_free(key);
	p256_free(second);
	p256_free(loaded);
	p256_free(NULL);
}

/* --- public keys --- */

static void test_public_key_encodings(void **state)
{
	(void)state;
	uint8_t point[66] = {0x04};
	assert_int_equal(base64_decode_exact(STR(V3_PUBLIC), point + 1, P256_PUBLIC_BYTES), DB_OK);
	assert_int_equal(p256_check_public(point + 1, 64), DB_OK);
	assert_int_equal(p256_check_public(point, 65), DB_OK);
	assert_int_equal(p256_check_public(point, 66), DB_E_CRYPTO);
	assert_int_equal(p256_check_public(point + 1, 63), DB_E_CRYPTO);
	assert_int_equal(p256_check_public(point + 1, 0), DB_E_CRYPTO);
	assert_int_equal(p256_check_public(point + 1, 33), DB_E_CRYPTO);
	for (int form = 0; form < 256; form++) {
		point[0] = (uint8_t)form;
		assert_int_equal(p256_check_public(point, 65), form == 0x04 ? DB_OK : DB_E_CRYPTO);
	}
}

static void test_points_off_the_curve_are_refused(void **state)
{
	(void)state;
	uint8_t xy[P256_PUBLIC_BYTES];
	assert_int_equal(base64_decode_exact(STR(V3_PUBLIC), xy, sizeof xy), DB_OK);
	for (size_t bit = 0; bit < 8 * sizeof xy; bit += 5) {
		xy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(p256_check_public(xy, sizeof xy), DB_E_CRYPTO);
		xy[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	uint8_t zero[P256_PUBLIC_BYTES] = {0}, ones[P256_PUBLIC_BYTES];
	memset(ones, 0xff, sizeof ones);
	assert_int_equal(p256_check_public(zero, sizeof zero), DB_E_CRYPTO);
	assert_int_equal(p256_check_public(ones, sizeof ones), DB_E_CRYPTO);
}

/* --- DER --- */

static void assert_der_refused(const char *hex)
{
	uint8_t der[128], xy[P256_PUBLIC_BYTES];
	size_t len = strlen(hex) / 2;
	assert_int_equal(hex_decode(str_of(hex), der, len), DB_OK);
	base64_decode_exact(STR(V3_PUBLIC), xy, sizeof xy);
	if (p256_verify(xy, sizeof xy, "m", 1, der, len) != DB_E_CRYPTO)
		fail_msg("accepted %s", hex);
}

static void test_signature_numbers_out_of_range(void **state)
{
	(void)state;
	assert_der_refused("3006020100020100");                        /* r = s = 0 */
	assert_der_refused("3006020100020101");                        /* r = 0 */
	assert_der_refused("3006020101020100");                        /* s = 0 */
	assert_der_refused("30060201ff0201ff");                        /* negative */
	assert_der_refused("3026022100" ORDER_HEX "020101");           /* r = n */
	assert_der_refused("3026020101022100" ORDER_HEX);              /* s = n */
	assert_der_refused("3046022100" ORDER_HEX "022100" ORDER_HEX); /* both */
}

static void append_hex(char *out, const uint8_t *bytes, size_t len)
{
	hex_encode(bytes, len, out + strlen(out));
}

/* A good signature in every form that is BER but not DER. */
static void test_only_strict_der_is_read(void **state)
{
	(void)state;
	struct p256_key *key = key_of(V3_SCALAR);
	uint8_t der[P256_DER_MAX], r[33], s[33];
	size_t len, r_len, s_len;
	char hex[300];
	do { /* one whose numbers both need no sign byte, so that every variant below really differs */
		assert_int_equal(p256_sign(key, "m", 1, der, &len), DB_OK);
		r_len = der[3];
		s_len = der[5 + r_len];
	} while (r_len != 32 || s_len != 32);
	memcpy(r, der + 4, r_len);
	memcpy(s, der + 6 + r_len, s_len);
	static const struct {
		const char *before_r, *before_s, *end;
	} forms[] = {
	    {"308144"
	     "0220",
	     "0220", ""}, /* long form of a short length */
	    {"3046"
	     "02810020",
	     "0220", ""}, /* the same inside */
	    {"3080"
	     "0220",
	     "0220", "0000"}, /* indefinite length */
	    {"3045"
	     "022100",
	     "0220", ""}, /* superfluous zero before r */
	    {"3045"
	     "0220",
	     "022100", ""}, /* and before s */
	    {"3046"
	     "0220",
	     "0220", "0500"}, /* something behind s, inside */
	    {"3044"
	     "0220",
	     "0220", "00"}, /* something behind the sequence */
	    {"3043"
	     "0220",
	     "0220", ""}, /* a length one short */
	    {"3045"
	     "0220",
	     "0220", ""}, /* and one long */
	    {"3144"
	     "0220",
	     "0220", ""}, /* a set */
	    {"3044"
	     "0320",
	     "0220", ""}, /* a bit string */
	    {"3044"
	     "0220",
	     "0420", ""}, /* an octet string */
	    {"2244"
	     "0220",
	     "0220", ""}, /* a constructed integer */
	};
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		hex[0] = '\0';
		(void)str_copy(str_of(forms[i].before_r), hex, sizeof hex);
		append_hex(hex, r, r_len);
		(void)str_copy(str_of(forms[i].before_s), hex + strlen(hex), sizeof hex - strlen(hex));
		append_hex(hex, s, s_len);
		(void)str_copy(str_of(forms[i].end), hex + strlen(hex), sizeof hex - strlen(hex));
		assert_der_refused(hex);
	}
	uint8_t xy[P256_PUBLIC_BYTES];
	p256_public(key, xy);
	assert_int_equal(p256_verify(xy, sizeof xy, "m", 1, der, len), DB_OK);
	p256_free(key);
	assert_der_refused("");
	assert_der_refused("30");
	assert_der_refused("3000");
	assert_der_refused("30030201");
}

/* --- base64 --- */

static void test_base64_forms(void **state)
{
	(void)state;
	struct p256_key *key = key_of(V3_SCALAR);
	struct buf out;
	buf_init(&out, 200);
	buf_append_c(&out, "sig:");
	assert_int_equal(p256_sign_base64(key, STR("message"), &out), DB_OK);
	assert_true(str_starts(buf_str(&out), STR("sig:M")));
	struct str der = str_sub(buf_str(&out), 4, out.len);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR("message"), der), DB_OK);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR("Message"), der), DB_E_CRYPTO);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR_NONE, der), DB_E_CRYPTO);
	assert_int_equal(p256_verify_base64(STR("T7g1"), STR("message"), der), DB_E_CRYPTO);
	assert_int_equal(p256_verify_base64(STR("not base64"), STR("message"), der), DB_E_INVALID);
	assert_int_equal(p256_verify_base64(STR_NONE, STR("message"), der), DB_E_CRYPTO);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR("message"), STR("not base64")), DB_E_INVALID);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR("message"), STR_NONE), DB_E_CRYPTO);
	char large[4096];
	memset(large, 'A', sizeof large);
	assert_int_equal(p256_verify_base64((struct str){large, sizeof large}, STR("message"), der), DB_E_INVALID);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR("message"), (struct str){large, sizeof large}), DB_E_INVALID);
	buf_free(&out);
	p256_free(key);
}

/* TLS reads OpenSSL's error queue to judge its connection: refused input must not show there. */
static void test_refusals_leave_no_error_behind(void **state)
{
	(void)state;
	uint8_t zero[P256_PUBLIC_BYTES] = {0}, scalar[P256_SCALAR_BYTES] = {0};
	ERR_clear_error();
	assert_int_equal(p256_check_public(zero, sizeof zero), DB_E_CRYPTO);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR("x"), str_of(protocol_signatures[0].signature)), DB_E_CRYPTO);
	assert_int_equal(p256_verify_base64(STR(V3_PUBLIC), STR("x"), STR("MEQC")), DB_E_CRYPTO);
	assert_null(p256_from_scalar(scalar));
	assert_int_equal(ERR_peek_error(), 0);
}

static void *sign_and_verify(void *argument)
{
	const struct p256_key *key = argument;
	uint8_t xy[P256_PUBLIC_BYTES], der[P256_DER_MAX];
	size_t len;
	p256_public(key, xy);
	for (int i = 0; i < 50; i++)
		if (p256_sign(key, &i, sizeof i, der, &len) || p256_verify(xy, sizeof xy, &i, sizeof i, der, len))
			return argument;
	return NULL;
}

static void test_one_key_serves_several_threads(void **state)
{
	(void)state;
	struct p256_key *key = p256_generate();
	pthread_t threads[4];
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, sign_and_verify, key), 0);
	for (size_t i = 0; i < 4; i++) {
		void *failed;
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	p256_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_the_protocols_key),
	    cmocka_unit_test(test_the_protocols_signatures),
	    cmocka_unit_test(test_every_altered_bit_of_a_signature_is_refused),
	    cmocka_unit_test(test_agrees_with_cryptography),
	    cmocka_unit_test(test_scalars_at_the_ends_of_the_range),
	    cmocka_unit_test(test_generated_keys_are_saved_and_loaded),
	    cmocka_unit_test(test_public_key_encodings),
	    cmocka_unit_test(test_points_off_the_curve_are_refused),
	    cmocka_unit_test(test_signature_numbers_out_of_range),
	    cmocka_unit_test(test_only_strict_der_is_read),
	    cmocka_unit_test(test_base64_forms),
	    cmocka_unit_test(test_refusals_leave_no_error_behind),
	    cmocka_unit_test(test_one_key_serves_several_threads),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
