/* The liveness challenge: canonical bytes against another implementation, and every rule of its verification in order. */
#include "wire_support.h"

#include "wire/status.h"

#define NONCE "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define STAMP "2026-01-02T03:04:06Z"
#define K_PUB STR("e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=")

static const uint8_t *golden_public_key(void)
{
	static uint8_t key[P256_PUBLIC_BYTES];
	struct p256_key *signing_key = golden_signing_key();
	p256_public(signing_key, key);
	p256_free(signing_key);
	return key;
}

static struct wire_attestation_response decoded_reply(struct str text)
{
	struct wire_message message;
	struct error error;
	if (wire_decode(text, arena, &message, &error))
		fail_msg("%s", error.text);
	assert_int_equal(message.type, WIRE_ATTESTATION_RESPONSE);
	return message.as.attestation_response;
}

/* What is known about a provider of which nothing is wrong. */
static struct status_policy plain_policy(void)
{
	return (struct status_policy){
	    .nonce = STR(NONCE),
	    .timestamp = STR(STAMP),
	    .registered_key = K_PUB,
	    .signing_key = golden_public_key(),
	    .runtime_accepted = true,
	    .version_accepted = true,
	};
}

static struct wire_attestation_response good_reply(void)
{
	return (struct wire_attestation_response){
	    .public_key = K_PUB,
	    .rdma_disabled = WIRE_TRUE,
	    .sip_enabled = WIRE_TRUE,
	    .secure_boot_enabled = WIRE_TRUE,
	    .binary_hash = STR("abababababababababababababababababababababababababababababababab"),
	};
}

static void sign_reply(struct wire_attestation_response *reply)
{
	struct p256_key *key = golden_signing_key();
	struct wire_signer signer = wire_signer_of(key);
	struct wire_challenge challenge = {STR(NONCE), STR(STAMP)};
	assert_int_equal(status_sign(reply, &challenge, &signer, arena), DB_OK);
	p256_free(key);
}

static void expect(const struct wire_attestation_response *reply, const struct status_policy *policy,
                   enum status_verdict verdict, int step)
{
	struct status_result result;
	status_verify(reply, policy, &result);
	if (result.verdict != verdict || result.step != step)
		fail_msg("verdict %d at step %d (%s), expected %d at %d", result.verdict, result.step, result.why.text, verdict, step);
	assert_int_equal(verdict == STATUS_PASS, result.why.code == DB_OK);
}

/* V5. */
static void the_vector_of_the_specification(void **state)
{
	(void)state;
	struct wire_pair model = {STR("a/b"), STR("00")};
	struct wire_pair template = {STR("mlx_metallib"), STR("efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef")};
	struct wire_attestation_response reply = good_reply();
	reply.model_hashes = (struct wire_pairs){&model, 1};
	reply.template_hashes = (struct wire_pairs){&template, 1};
	status_canonical(&reply, STR(NONCE), STR(STAMP), &out);
	assert_str(buf_str(&out),
	           STR("{\"binary_hash\":\"abababababababababababababababababababababababababababababababab\",\"model_hashes\":{"
	               "\"a/b\":\"00\"},\"nonce\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\",\"rdma_disabled\":true,"
	               "\"secure_boot_enabled\":true,\"sip_enabled\":true,\"template_hashes\":{\"mlx_metallib\":"
	               "\"efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef\"},\"timestamp\":"
	               "\"2026-01-02T03:04:06Z\"}"));
	reply.nonce = STR(NONCE);
	reply.signature = STR("MEYCIQDidUIQIkn86P56aLb2V7KUa3Rx/lL2GZYlnfhw/67cxwIhAOsQ0jtQSB5HjSuPHene4QtwAX4ZL+n0VOJPv+fM0uzi");
	reply.status_signature =
	    STR("MEQCIAsj1Ayqb+5aHqGKytYAvbkTJMCIX8+VyGXKbx+r/hWZAiBQM8doFOkHYQHyZEz+FukvYA/yEImRLtwfn1wPrW5/pg==");
	struct status_policy policy = plain_policy();
	struct status_result result;
	status_verify(&reply, &policy, &result);
	assert_int_equal(result.verdict, STATUS_PASS);
	assert_true(result.status_signed);
}

/* V6. */
static void a_code_challenge_is_signed_over_the_nonce_text(void **state)
{
	(void)state;
	struct str key = STR("T7g1knoCJ58EkK789sD5UpJ+WLd7dhotr1VeAKwwxxw2Es+WyENUMCSJdvf50aFtbc2OEUnT0yu301DKr3iisA==");
	struct str given = STR("MEQCIGFM7G/XPbwBqm1hl3w3AYKADQ7cadVd+kY8cKl/a9ZdAiAWG9L3nrHgCtmeXvHRJhT5sRm3GX7uwc4LYR4AEDAP2g==");
	assert_int_equal(p256_verify_base64(key, STR(NONCE), given), DB_OK);
	struct p256_key *signing_key = golden_signing_key();
	struct wire_signer signer = wire_signer_of(signing_key);
	struct wire_code_attestation_response reply = {0};
	assert_int_equal(status_sign_code(&reply, STR(NONCE), &signer, arena), DB_OK);
	assert_str(reply.nonce, STR(NONCE));
	assert_int_equal(p256_verify_base64(key, STR(NONCE), reply.signature), DB_OK);
	p256_free(signing_key);
}

static void replies_of_the_other_implementation_verify(void **state)
{
	(void)state;
	struct json_iter it = json_iter(json_get(golden_json("statuses.json"), "cases"));
	size_t count = 0;
	for (json_val *golden; (golden = json_next(&it, NULL)); count++) {
		struct wire_attestation_response reply = decoded_reply(text_of(golden, "reply"));
		buf_clear(&out);
		assert_int_equal(status_canonical(&reply, STR(NONCE), STR(STAMP), &out), DB_OK);
		assert_str(buf_str(&out), text_of(golden, "canonical"));
		struct status_policy policy = plain_policy();
		struct status_result result;
		status_verify(&reply, &policy, &result);
		assert_true(result.status_signed);
		/* The signatures are good; what the fields say is judged after them. */
		assert_true(result.step > 5);
	}
	assert_true(count >= 7);
}

static void a_new_challenge_is_fresh_and_well_formed(void **state)
{
	(void)state;
	struct status_challenge a, b;
	uint8_t bytes[32];
	status_challenge_new(&a, INT64_C(1767323046999999));
	status_challenge_new(&b, INT64_C(1767323046999999));
	assert_string_equal(a.timestamp, STAMP);
	assert_int_equal(base64_decode_exact(str_of(a.nonce), bytes, sizeof bytes), DB_OK);
	assert_string_not_equal(a.nonce, b.nonce);
	struct wire_message message = {.type = WIRE_CHALLENGE, .as.challenge = status_challenge_message(&a)};
	assert_int_equal(wire_encode(&message, &out), DB_OK);
	assert_str(buf_str(&out),
	           str_of(arena_printf(arena, "{\"type\":\"attestation_challenge\",\"nonce\":\"%s\",\"timestamp\":\"%s\"}", a.nonce,
	                               a.timestamp)));
}

static void what_we_sign_passes(void **state)
{
	(void)state;
	struct wire_attestation_response reply = good_reply();
	struct status_policy policy = plain_policy();
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_PASS, 15);
}

static void only_a_challenge_is_signed(void **state)
{
	(void)state;
	static const struct wire_challenge odd[] = {
	    {STR("x"), STR(STAMP)},
	    {STR(""), STR(STAMP)},
	    {STR("{\"authenticatedRootEnabled\":true,\"chipName\":"), STR(STAMP)},
	    {STR(NONCE), STR("later")},
	    {STR(NONCE), STR("")},
	    {STR(NONCE NONCE), STR(STAMP)},
	    {STR("33f3681f95dc7ea53cbffbc7a95db996a5d73410ad5654445c2eadb01273d153"), STR(STAMP)},
	};
	struct p256_key *key = golden_signing_key();
	struct wire_signer signer = wire_signer_of(key);
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct wire_attestation_response reply = good_reply();
		struct wire_code_attestation_response code = {0};
		assert_int_equal(status_sign(&reply, &odd[i], &signer, arena), DB_E_INVALID);
		assert_int_equal(reply.signature.len, 0);
		if (!str_is(odd[i].nonce, NONCE))
			assert_int_equal(status_sign_code(&code, odd[i].nonce, &signer, arena), DB_E_INVALID);
	}
	p256_free(key);
}

static void a_foreign_nonce_fails_first(void **state)
{
	(void)state;
	static const char *const nonces[] = {
	    "x", "", "BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"};
	struct status_policy policy = plain_policy();
	for (size_t i = 0; i < sizeof nonces / sizeof *nonces; i++) {
		struct wire_attestation_response reply = good_reply();
		sign_reply(&reply);
		reply.nonce = str_of(nonces[i]);
		reply.public_key = STR("also wrong");
		expect(&reply, &policy, STATUS_FAIL, 1);
	}
}

static void another_public_key_fails(void **state)
{
	(void)state;
	struct wire_attestation_response reply = good_reply();
	struct status_policy policy = plain_policy();
	sign_reply(&reply);
	reply.public_key = STR("D6poTtKIZ7l/Smot7l34zpdOdrcBjj8iocTPJnhXDyA=");
	expect(&reply, &policy, STATUS_FAIL, 2);
	policy.registered_key = STR_NONE;
	expect(&reply, &policy, STATUS_PASS, 15);
}

static void a_missing_or_wrong_signature_fails(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = good_reply();
	sign_reply(&reply);
	struct str signature = reply.signature;
	reply.signature = STR_NONE;
	expect(&reply, &policy, STATUS_FAIL, 3);
	static const char *const wrong[] = {
	    "x", "AAAA", "MEQCIAsj1Ayqb+5aHqGKytYAvbkTJMCIX8+VyGXKbx+r/hWZAiBQM8doFOkHYQHyZEz+FukvYA/yEImRLtwfn1wPrW5/pg=="};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		reply.signature = str_of(wrong[i]);
		expect(&reply, &policy, STATUS_FAIL, 4);
	}
	reply.signature = reply.status_signature;
	expect(&reply, &policy, STATUS_FAIL, 4);
	reply.signature = signature;
	policy.timestamp = STR("2026-01-02T03:04:07Z");
	expect(&reply, &policy, STATUS_FAIL, 4);
}

static void without_an_attestation_any_signature_will_do(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = good_reply();
	struct status_result result;
	policy.signing_key = NULL;
	reply.nonce = STR(NONCE);
	reply.signature = STR("x");
	reply.status_signature = STR("y");
	status_verify(&reply, &policy, &result);
	assert_int_equal(result.verdict, STATUS_PASS);
	assert_false(result.status_signed);
}

static void an_absent_status_signature_leaves_the_fields_advisory(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = good_reply();
	struct status_result result;
	sign_reply(&reply);
	reply.status_signature = STR_NONE;
	status_verify(&reply, &policy, &result);
	assert_int_equal(result.verdict, STATUS_PASS);
	assert_false(result.status_signed);
	/* Negatives still bite. */
	reply.sip_enabled = WIRE_FALSE;
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 7);
}

static struct wire_attestation_response full_reply(void)
{
	static struct wire_pair models[2], templates[1];
	struct wire_attestation_response reply = good_reply();
	models[0] = (struct wire_pair){STR("a/b"), STR("00")};
	models[1] = (struct wire_pair){STR("a"), STR("01")};
	templates[0] = (struct wire_pair){STR("t"), STR("02")};
	reply.hypervisor_active = WIRE_FALSE;
	reply.active_model_hash = STR("00");
	reply.python_hash = STR("03");
	reply.runtime_hash = STR("04");
	reply.model_hashes = (struct wire_pairs){models, 2};
	reply.template_hashes = (struct wire_pairs){templates, 1};
	sign_reply(&reply);
	return reply;
}

static void each_altered_status_field_is_noticed(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = full_reply();
	expect(&reply, &policy, STATUS_PASS, 15);
#define ALTERED(change)                                                                                                        \
	reply = full_reply();                                                                                                      \
	change;                                                                                                                    \
	expect(&reply, &policy, STATUS_FAIL, 5)
	ALTERED(reply.active_model_hash = STR("ff"));
	ALTERED(reply.active_model_hash = STR_NONE);
	ALTERED(reply.binary_hash = STR("ff"));
	ALTERED(reply.python_hash = STR("ff"));
	ALTERED(reply.runtime_hash = STR("ff"));
	ALTERED(reply.hypervisor_active = WIRE_TRUE);
	ALTERED(reply.hypervisor_active = WIRE_UNKNOWN);
	ALTERED(reply.rdma_disabled = WIRE_FALSE);
	ALTERED(reply.rdma_disabled = WIRE_UNKNOWN);
	ALTERED(reply.sip_enabled = WIRE_FALSE);
	ALTERED(reply.sip_enabled = WIRE_UNKNOWN);
	ALTERED(reply.secure_boot_enabled = WIRE_FALSE);
	ALTERED(reply.secure_boot_enabled = WIRE_UNKNOWN);
	ALTERED(reply.model_hashes.at[0].value = STR("ff"));
	ALTERED(reply.model_hashes.at[1].key = STR("c"));
	ALTERED(reply.model_hashes.count = 1);
	ALTERED(reply.template_hashes.at[0].value = STR("ff"));
	ALTERED(reply.template_hashes.count = 0);
#undef ALTERED
}

static void the_order_of_a_map_does_not_matter(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = full_reply();
	struct wire_pair first = reply.model_hashes.at[0];
	reply.model_hashes.at[0] = reply.model_hashes.at[1];
	reply.model_hashes.at[1] = first;
	expect(&reply, &policy, STATUS_PASS, 15);
}

static void posture_is_judged_after_the_signatures(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = good_reply();
	reply.sip_enabled = WIRE_UNKNOWN;
	reply.secure_boot_enabled = WIRE_FALSE;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_FAIL, 6);
	reply.sip_enabled = WIRE_FALSE;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 7);
	reply.sip_enabled = WIRE_TRUE;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 8);
	reply.secure_boot_enabled = WIRE_UNKNOWN;
	reply.rdma_disabled = WIRE_UNKNOWN;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_FAIL, 9);
	reply.rdma_disabled = WIRE_FALSE;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_PASS, 15);
}

static void an_attested_linux_box_must_say_its_posture_but_need_not_have_it(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = good_reply();
	policy.is_linux = true;
	reply.sip_enabled = WIRE_FALSE;
	reply.secure_boot_enabled = WIRE_FALSE;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_PASS, 15);
	reply.sip_enabled = WIRE_UNKNOWN;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_FAIL, 6);
	reply.sip_enabled = WIRE_FALSE;
	reply.rdma_disabled = WIRE_UNKNOWN;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_FAIL, 9);
}

/* --- policies that look things up --- */

struct catalogue {
	const char *known_binary;
	const char *hashes[4][2]; /* model, hash */
	const char *retired;
};

static bool binary_known(void *context, struct str hash)
{
	struct catalogue *catalogue = context;
	return catalogue->known_binary && str_is(hash, catalogue->known_binary);
}

static struct str catalogue_hash(void *context, struct str model)
{
	struct catalogue *catalogue = context;
	for (size_t i = 0; i < 4 && catalogue->hashes[i][0]; i++) {
		if (str_is(model, catalogue->hashes[i][0]))
			return str_of(catalogue->hashes[i][1]);
	}
	return STR_NONE;
}

static bool is_retired(void *context, struct str model)
{
	struct catalogue *catalogue = context;
	return catalogue->retired && str_is(model, catalogue->retired);
}

static struct status_policy catalogue_policy(struct catalogue *catalogue)
{
	struct status_policy policy = plain_policy();
	policy.context = catalogue;
	policy.binary_known = binary_known;
	policy.catalogue_hash = catalogue_hash;
	policy.is_retired = is_retired;
	return policy;
}

static void an_enforced_binary_must_be_present_known_and_attested(void **state)
{
	(void)state;
	struct catalogue catalogue = {.known_binary = "abababababababababababababababababababababababababababababababab"};
	struct status_policy policy = catalogue_policy(&catalogue);
	struct wire_attestation_response reply = good_reply();
	sign_reply(&reply);
	policy.attested_binary = STR("something else");
	expect(&reply, &policy, STATUS_PASS, 15); /* not enforced */
	policy.enforce_binary = true;
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 10);
	policy.attested_binary = reply.binary_hash;
	expect(&reply, &policy, STATUS_PASS, 15);
	catalogue.known_binary = "00";
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 10);
	catalogue.known_binary = "";
	reply.binary_hash = STR_NONE;
	policy.attested_binary = STR_NONE;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 10);
	policy.signing_key = NULL;
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 10);
}

static void resident_weights_must_be_those_of_the_catalogue(void **state)
{
	(void)state;
	struct catalogue catalogue = {.hashes = {{"a/b", "00"}}};
	struct status_policy policy = catalogue_policy(&catalogue);
	struct wire_pair models[] = {{STR("a/b"), STR("00")}, {STR("unlisted"), STR("77")}, {STR("a/b"), STR("")}};
	struct wire_attestation_response reply = good_reply();
	reply.model_hashes = (struct wire_pairs){models, 3};
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_PASS, 15);
	models[0].value = STR("01");
	models[2].value = STR("00");
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 11);
}

static void the_active_model_must_be_an_advertised_or_a_retired_one(void **state)
{
	(void)state;
	struct catalogue catalogue = {.hashes = {{"new", "aa"}, {"other", "bb"}, {"old", "cc"}}, .retired = NULL};
	struct status_policy policy = catalogue_policy(&catalogue);
	const struct str advertised[] = {STR("new"), STR("other"), STR("no hash")};
	struct wire_pair models[] = {{STR("old"), STR("cc")}};
	struct wire_attestation_response reply = good_reply();
	policy.advertised = advertised;
	policy.advertised_count = 2;
	reply.active_model_hash = STR("bb");
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_PASS, 15);

	reply.active_model_hash = STR("cc");
	reply.model_hashes = (struct wire_pairs){models, 1};
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 12);
	catalogue.retired = "old";
	expect(&reply, &policy, STATUS_PASS, 15);
	reply.model_hashes.count = 0; /* retired, but not said to be resident */
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 12);
	policy.advertised_count = 3; /* one without a hash: nothing can be concluded */
	expect(&reply, &policy, STATUS_PASS, 15);
	policy.advertised_count = 0;
	expect(&reply, &policy, STATUS_PASS, 15);
}

static void runtime_and_version_stop_silently_after_everything_else(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_attestation_response reply = good_reply();
	sign_reply(&reply);
	policy.version_accepted = false;
	expect(&reply, &policy, STATUS_SILENT_STOP, 14);
	policy.runtime_accepted = false;
	expect(&reply, &policy, STATUS_SILENT_STOP, 13);
	reply.sip_enabled = WIRE_FALSE;
	sign_reply(&reply);
	expect(&reply, &policy, STATUS_HARD_UNTRUST, 7);
}

static void a_reply_survives_the_wire(void **state)
{
	(void)state;
	struct status_policy policy = plain_policy();
	struct wire_message message = {.type = WIRE_ATTESTATION_RESPONSE, .as.attestation_response = full_reply()};
	assert_int_equal(wire_encode(&message, &out), DB_OK);
	struct wire_attestation_response reply = decoded_reply(buf_str(&out));
	expect(&reply, &policy, STATUS_PASS, 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIRE_TEST(the_vector_of_the_specification),
	    WIRE_TEST(a_code_challenge_is_signed_over_the_nonce_text),
	    WIRE_TEST(replies_of_the_other_implementation_verify),
	    WIRE_TEST(a_new_challenge_is_fresh_and_well_formed),
	    WIRE_TEST(what_we_sign_passes),
	    WIRE_TEST(only_a_challenge_is_signed),
	    WIRE_TEST(a_foreign_nonce_fails_first),
	    WIRE_TEST(another_public_key_fails),
	    WIRE_TEST(a_missing_or_wrong_signature_fails),
	    WIRE_TEST(without_an_attestation_any_signature_will_do),
	    WIRE_TEST(an_absent_status_signature_leaves_the_fields_advisory),
	    WIRE_TEST(each_altered_status_field_is_noticed),
	    WIRE_TEST(the_order_of_a_map_does_not_matter),
	    WIRE_TEST(posture_is_judged_after_the_signatures),
	    WIRE_TEST(an_attested_linux_box_must_say_its_posture_but_need_not_have_it),
	    WIRE_TEST(an_enforced_binary_must_be_present_known_and_attested),
	    WIRE_TEST(resident_weights_must_be_those_of_the_catalogue),
	    WIRE_TEST(the_active_model_must_be_an_advertised_or_a_retired_one),
	    WIRE_TEST(runtime_and_version_stop_silently_after_everything_else),
	    WIRE_TEST(a_reply_survives_the_wire),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
