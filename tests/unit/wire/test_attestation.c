/* The registration attestation against the specification's vector and blobs made with another library. */
#include "wire_support.h"

#include "crypto/hash.h"
#include "wire/attestation.h"

#define K_PUB STR("e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=")

static const char *const verdict_names[] = {
    [ATTESTATION_VALID] = "valid",
    [ATTESTATION_ABSENT] = "absent",
    [ATTESTATION_UNPARSABLE] = "unparsable",
    [ATTESTATION_BAD_TIMESTAMP] = "bad_timestamp",
    [ATTESTATION_BAD_PUBLIC_KEY] = "bad_public_key",
    [ATTESTATION_BAD_BASE64] = "bad_base64",
    [ATTESTATION_BAD_DER] = "bad_der",
    [ATTESTATION_BAD_SIGNATURE] = "bad_signature",
    [ATTESTATION_NO_ENCLAVE] = "no_enclave",
    [ATTESTATION_SIP_OFF] = "sip_off",
    [ATTESTATION_SECURE_BOOT_OFF] = "secure_boot_off",
    [ATTESTATION_KEY_MISMATCH] = "key_mismatch",
};

static struct attestation_blob reference_blob(void)
{
	return (struct attestation_blob){
	    .authenticated_root_enabled = true,
	    .rdma_disabled = true,
	    .secure_boot_enabled = true,
	    .secure_enclave_available = true,
	    .sip_enabled = true,
	    .binary_hash = STR("abababababababababababababababababababababababababababababababab"),
	    .chip_name = STR("Apple M4 Max"),
	    .encryption_public_key = K_PUB,
	    .hardware_model = STR("Mac16,6"),
	    .os_version = STR("15.3.0"),
	    .public_key = STR("T7g1knoCJ58EkK789sD5UpJ+WLd7dhotr1VeAKwwxxw2Es+WyENUMCSJdvf50aFtbc2OEUnT0yu301DKr3iisA=="),
	    .serial_number = STR("TESTSERIAL01"),
	    .system_volume_hash = STR("CDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCD"),
	    .timestamp = STR("2026-01-02T03:04:05Z"),
	};
}

/* V4. */
static void the_canonical_form_has_the_digest_of_the_specification(void **state)
{
	(void)state;
	struct attestation_blob blob = reference_blob();
	char hex[SHA256_HEX_SIZE];
	assert_int_equal(attestation_canonical(&blob, &out), DB_OK);
	sha256_hex(out.at, out.len, hex);
	assert_string_equal(hex, "f7764f629149d8773ebf11379b7256692447ddd583a04748a0e9ab9a1688d07b");
	assert_str(buf_str(&out), text_of(golden_json("attestations.json"), "canonical"));
}

static void the_signature_of_the_specification_verifies(void **state)
{
	(void)state;
	struct attestation_blob blob = reference_blob();
	struct attestation_result result;
	attestation_canonical(&blob, &out);
	char *text =
	    arena_printf(arena,
	                 "{\"attestation\":%.*s,\"signature\":\"MEYCIQCYnJJRFzoEwm1GJlguH5DYobM7OWmrNVaixrH1QG2ZGQIhAKzsFtOiZmPV9R"
	                 "fp/GyRmBwcc+O6behcnO0S4V3OLg4Y\"}",
	                 STR_ARG(buf_str(&out)));
	attestation_verify(str_of(text), K_PUB, arena, &result);
	assert_int_equal(result.verdict, ATTESTATION_VALID);
	assert_int_equal(result.max_trust, WIRE_TRUST_HARDWARE);
	assert_false(result.is_linux);
	assert_str(result.blob.serial_number, STR("TESTSERIAL01"));
	assert_str(result.blob.hardware_model, STR("Mac16,6"));
	assert_str(result.blob.chip_name, STR("Apple M4 Max"));
	assert_str(result.blob.os_version, STR("15.3.0"));
	assert_str(result.blob.binary_hash, blob.binary_hash);
	assert_true(result.timestamp_us == INT64_C(1767323045000000));
	uint8_t key[P256_PUBLIC_BYTES];
	assert_int_equal(base64_decode_exact(blob.public_key, key, sizeof key), DB_OK);
	assert_memory_equal(result.public_key, key, sizeof key);
}

static void every_golden_blob_gets_its_verdict(void **state)
{
	(void)state;
	struct json_iter it = json_iter(json_get(golden_json("attestations.json"), "cases"));
	size_t count = 0;
	for (json_val *golden; (golden = json_next(&it, NULL)); count++) {
		struct attestation_result result;
		bool is_linux;
		attestation_verify(text_of(golden, "signed"), text_of(golden, "registered_key"), arena, &result);
		struct str name = text_of(golden, "name"), expected = text_of(golden, "verdict");
		if (!str_is(expected, verdict_names[result.verdict]))
			fail_msg("%.*s: got %s (%s), expected %.*s", STR_ARG(name), verdict_names[result.verdict], result.why.text,
			         STR_ARG(expected));
		if (!str_is(text_of(golden, "max_trust"), wire_trust_name(result.max_trust)))
			fail_msg("%.*s: may reach %s", STR_ARG(name), wire_trust_name(result.max_trust));
		assert_int_equal(result.verdict == ATTESTATION_VALID, result.why.code == DB_OK);
		if (result.verdict == ATTESTATION_ABSENT || result.verdict == ATTESTATION_UNPARSABLE)
			continue;
		if (!str_is(text_of(golden, "protection"), attestation_protection_name(result.key_protection)))
			fail_msg("%.*s: protection %s", STR_ARG(name), attestation_protection_name(result.key_protection));
		assert_true(json_as_bool(json_get(golden, "linux"), &is_linux));
		assert_int_equal(result.is_linux, is_linux);
	}
	assert_true(count > 50);
}

static enum attestation_verdict verdict_of(struct str text)
{
	struct attestation_result result;
	attestation_verify(text, K_PUB, arena, &result);
	if (result.verdict != ATTESTATION_VALID)
		assert_int_equal(result.max_trust, WIRE_TRUST_NONE);
	return result.verdict;
}

/* A Linux blob with every field, so that no posture rule hides an alteration. */
static struct str signed_linux_blob(void)
{
	struct p256_key *key = golden_signing_key();
	struct wire_signer signer = wire_signer_of(key);
	struct attestation_blob blob = reference_blob();
	blob.platform = ATTESTATION_LINUX;
	blob.key_protection = ATTESTATION_SOFTWARE;
	blob.hypervisor_active = true;
	assert_int_equal(attestation_sign(&blob, &signer, &out), DB_OK);
	p256_free(key);
	return buf_str(&out);
}

static void what_we_sign_verifies(void **state)
{
	(void)state;
	struct attestation_result result;
	attestation_verify(signed_linux_blob(), K_PUB, arena, &result);
	assert_int_equal(result.verdict, ATTESTATION_VALID);
	assert_true(result.is_linux && result.blob.hypervisor_active);
	assert_int_equal(result.max_trust, WIRE_TRUST_SELF_SIGNED);
	assert_int_equal(result.key_protection, ATTESTATION_SOFTWARE);
}

static void each_altered_field_is_noticed(void **state)
{
	(void)state;
	static const char *const changes[][2] = {
	    {"\"authenticatedRootEnabled\":true", "\"authenticatedRootEnabled\":false"},
	    {"\"binaryHash\":\"ab", "\"binaryHash\":\"bb"},
	    {"\"chipName\":\"Apple M4", "\"chipName\":\"Apple M5"},
	    {"\"encryptionPublicKey\":\"e0", "\"encryptionPublicKey\":\"f0"},
	    {"\"hardwareModel\":\"Mac16,6", "\"hardwareModel\":\"Mac16,7"},
	    {"\"hypervisorActive\":true", "\"hypervisorActive\":false"},
	    {"\"keyProtection\":\"software", "\"keyProtection\":\"secure_enclave"},
	    {"\"osVersion\":\"15.3.0", "\"osVersion\":\"15.3.1"},
	    {"\"platform\":\"linux", "\"platform\":\"macos"},
	    {"\"rdmaDisabled\":true", "\"rdmaDisabled\":false"},
	    {"\"secureBootEnabled\":true", "\"secureBootEnabled\":false"},
	    {"\"secureEnclaveAvailable\":true", "\"secureEnclaveAvailable\":false"},
	    {"\"serialNumber\":\"TEST", "\"serialNumber\":\"REST"},
	    {"\"sipEnabled\":true", "\"sipEnabled\":false"},
	    {"\"systemVolumeHash\":\"CD", "\"systemVolumeHash\":\"DD"},
	    {"\"timestamp\":\"2026", "\"timestamp\":\"2027"},
	    {"{\"attestation\":{", "{\"attestation\":{ "},
	    {"{\"attestation\":{", "{\"attestation\":{\"extra\":1,"},
	};
	struct str good = signed_linux_blob();
	assert_int_equal(verdict_of(good), ATTESTATION_VALID);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		enum attestation_verdict verdict = verdict_of(replaced(good, changes[i][0], changes[i][1]));
		if (verdict != ATTESTATION_BAD_SIGNATURE)
			fail_msg("%s: %s", changes[i][1], verdict_names[verdict]);
	}
	/* Another key may be put in, but it did not sign. */
	struct p256_key *other = p256_generate();
	uint8_t xy[P256_PUBLIC_BYTES];
	char text[BASE64_ENCODED_LEN(sizeof xy) + 1] = "";
	p256_public(other, xy);
	base64_encode(xy, sizeof xy, text);
	p256_free(other);
	const char *ours = "T7g1knoCJ58EkK789sD5UpJ+WLd7dhotr1VeAKwwxxw2Es+WyENUMCSJdvf50aFtbc2OEUnT0yu301DKr3iisA==";
	assert_int_equal(verdict_of(replaced(good, ours, text)), ATTESTATION_BAD_SIGNATURE);
}

/* Every byte of the signed part matters: none may be changed and still verify. */
static void no_byte_of_the_blob_can_be_changed(void **state)
{
	(void)state;
	struct str good = signed_linux_blob();
	for (size_t at = strlen("{\"attestation\":"); at < good.len; at += 3) {
		char *text = arena_cstr(arena, good);
		if (strncmp(text + at, "}", 1) == 0 && at == good.len - 1)
			break;
		text[at] ^= 1;
		assert_int_not_equal(verdict_of((struct str){text, good.len}), ATTESTATION_VALID);
	}
}

static void every_cut_is_refused(void **state)
{
	(void)state;
	struct str good = signed_linux_blob();
	for (size_t len = 0; len < good.len; len++)
		assert_int_not_equal(verdict_of(str_sub(good, 0, len)), ATTESTATION_VALID);
}

static void optional_fields_are_left_out_when_empty(void **state)
{
	(void)state;
	struct attestation_blob blob = {.chip_name = STR("c"),
	                                .hardware_model = STR("h"),
	                                .os_version = STR("1"),
	                                .public_key = STR("a/b"),
	                                .timestamp = STR("t")};
	attestation_canonical(&blob, &out);
	assert_str(buf_str(&out),
	           STR("{\"authenticatedRootEnabled\":false,\"chipName\":\"c\",\"hardwareModel\":\"h\",\"osVersion\":\"1\","
	               "\"publicKey\":\"a\\/b\",\"rdmaDisabled\":false,\"secureBootEnabled\":false,"
	               "\"secureEnclaveAvailable\":false,\"sipEnabled\":false,\"timestamp\":\"t\"}"));
}

static void the_extension_keys_stand_in_sorted_places(void **state)
{
	(void)state;
	struct attestation_blob blob = {
	    .platform = ATTESTATION_LINUX, .key_protection = ATTESTATION_TPM, .hypervisor_active = true};
	attestation_canonical(&blob, &out);
	const json_val *root = json_root(json_parse(buf_str(&out), arena, NULL));
	struct json_iter it = json_iter(root);
	struct str key, before = STR_NONE;
	while (json_next(&it, &key)) {
		char *a = arena_cstr(arena, before), *b = arena_cstr(arena, key);
		assert_true(strcmp(a, b) < 0);
		before = key;
	}
	assert_str(text_of(root, "keyProtection"), STR("tpm"));
	assert_str(text_of(root, "platform"), STR("linux"));
}

static void the_bytes_survive_a_whole_register_message(void **state)
{
	(void)state;
	struct wire_message message = {.type = WIRE_REGISTER}, read;
	struct str attestation = arena_str(arena, signed_linux_blob());
	message.as.registration.attestation = attestation;
	buf_clear(&out);
	assert_int_equal(wire_encode(&message, &out), DB_OK);
	assert_int_equal(wire_decode(buf_str(&out), arena, &read, NULL), DB_OK);
	assert_str(read.as.registration.attestation, attestation);
	assert_int_equal(verdict_of(read.as.registration.attestation), ATTESTATION_VALID);
}

static void out_of_memory_is_no_verdict_of_valid(void **state)
{
	(void)state;
	struct arena *tiny = arena_new(64);
	struct attestation_result result;
	attestation_verify(signed_linux_blob(), K_PUB, tiny, &result);
	assert_int_equal(result.verdict, ATTESTATION_UNPARSABLE);
	arena_free(tiny);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIRE_TEST(the_canonical_form_has_the_digest_of_the_specification),
	    WIRE_TEST(the_signature_of_the_specification_verifies),
	    WIRE_TEST(every_golden_blob_gets_its_verdict),
	    WIRE_TEST(what_we_sign_verifies),
	    WIRE_TEST(each_altered_field_is_noticed),
	    WIRE_TEST(no_byte_of_the_blob_can_be_changed),
	    WIRE_TEST(every_cut_is_refused),
	    WIRE_TEST(optional_fields_are_left_out_when_empty),
	    WIRE_TEST(the_extension_keys_stand_in_sorted_places),
	    WIRE_TEST(the_bytes_survive_a_whole_register_message),
	    WIRE_TEST(out_of_memory_is_no_verdict_of_valid),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
