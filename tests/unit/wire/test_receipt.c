/* Receipts against vectors of Python's cryptography (tests/interop/make_receipt_vectors.py). */
#include "../vectors.h"

#include "crypto/secret.h"
#include "wire/receipt.h"

static struct json_doc *doc;

static int start(void **state)
{
	(void)state;
	if (crypto_init())
		return -1;
	doc = vectors_load("receipt_vectors.json");
	return 0;
}

static int stop(void **state)
{
	(void)state;
	json_free(doc);
	return 0;
}

static bool has_problem(const json_val *vector, const char *name)
{
	struct json_iter iter = json_iter(json_get(vector, "problems"));
	const json_val *one;
	struct str text;
	while ((one = json_next(&iter, NULL)))
		if (json_as_str(one, &text) && str_is(text, name))
			return true;
	return false;
}

static void every_part_is_judged_as_the_independent_verifier_does(void **state)
{
	(void)state;
	const json_val *vector;
	struct json_iter iter = json_iter(json_get(json_root(doc), "vectors"));
	size_t seen = 0;
	while ((vector = json_next(&iter, NULL))) {
		struct receipt_expect expect = {.coordinator_key = vector_str(json_root(doc), "coordinator_key")};
		struct receipt_check check;
		struct error error = {0};
		bool has_text = json_as_str(json_get(vector, "text"), &expect.text);
		bool good = json_len(json_get(vector, "problems")) == 0;
		enum db_err err = receipt_verify(vector_str(vector, "document"), &expect, &check, &error);
		if (err != (good ? DB_OK : DB_E_CRYPTO))
			fail_msg("%.*s: %s %s %s", STR_ARG(vector_str(vector, "name")), error_name(err), error.text, check.why);
		assert_int_equal(check.coordinator, has_problem(vector, "coordinator") ? RECEIPT_BAD : RECEIPT_GOOD);
		assert_int_equal(check.pinned, RECEIPT_GOOD);
		assert_int_equal(check.money, has_problem(vector, "money") ? RECEIPT_BAD : RECEIPT_GOOD);
		assert_int_equal(check.text, !has_text                     ? RECEIPT_NOT_CHECKED
		                             : has_problem(vector, "text") ? RECEIPT_BAD
		                                                           : RECEIPT_GOOD);
		assert_int_equal(check.provider == RECEIPT_BAD, has_problem(vector, "provider"));
		assert_int_equal(check.why[0] != '\0', !good);
		seen++;
	}
	assert_true(seen >= 24);
}

static const json_val *vector_named(const char *name)
{
	const json_val *vector;
	struct json_iter iter = json_iter(json_get(json_root(doc), "vectors"));
	while ((vector = json_next(&iter, NULL)))
		if (str_is(vector_str(vector, "name"), name))
			return vector;
	fail_msg("no vector %s", name);
	return NULL;
}

static struct receipt example(void)
{
	return (struct receipt){.version = RECEIPT_VERSION,
	                        .request_id = STR("r-1"),
	                        .account_id = STR("acc \"1\"/\n"),
	                        .model = STR("m"),
	                        .public_model = STR("ä"),
	                        .outcome = STR("success"),
	                        .tokens = {1000, 255, 900},
	                        .price = {50000, 200000, 5000},
	                        .hold_uusd = 1000,
	                        .cost_uusd = 100,
	                        .fee_uusd = 7,
	                        .payout_uusd = 93,
	                        .created_us = 5};
}

static void what_is_written_verifies(void **state)
{
	(void)state;
	uint8_t scalar[P256_SCALAR_BYTES];
	struct receipt receipt = example();
	struct receipt_expect expect = {.coordinator_key = vector_str(json_root(doc), "coordinator_key")};
	struct receipt_check check;
	struct buf out;
	vector_hex(json_root(doc), "coordinator_scalar", scalar, sizeof scalar);
	struct p256_key *key = p256_from_scalar(scalar);
	buf_init(&out, RECEIPT_MAX);
	assert_int_equal(receipt_write(&receipt, key, &out), DB_OK);
	assert_int_equal(receipt_verify(buf_str(&out), &expect, &check, NULL), DB_OK);
	assert_int_equal(check.coordinator, RECEIPT_GOOD);
	assert_int_equal(check.provider, RECEIPT_NOT_CHECKED);
	assert_string_equal(check.request_id, "r-1");

	expect.coordinator_key = STR("AAAA");
	assert_int_equal(receipt_verify(buf_str(&out), &expect, &check, NULL), DB_E_CRYPTO);
	assert_int_equal(check.pinned, RECEIPT_BAD);
	buf_free(&out);
	p256_free(key);
}

static void what_cannot_be_is_not_signed(void **state)
{
	(void)state;
	char longer[300];
	struct buf out;
	struct receipt receipt = example();
	memset(longer, 'x', sizeof longer);
	buf_init(&out, RECEIPT_MAX);
	receipt.model = (struct str){longer, sizeof longer};
	assert_int_equal(receipt_canonical(&receipt, &out), DB_E_INVALID);
	receipt = example();
	receipt.fee_uusd++;
	assert_int_equal(receipt_write(&receipt, NULL, &out), DB_E_RANGE);
	receipt = example();
	receipt.cost_uusd = -1;
	assert_int_equal(receipt_canonical(&receipt, &out), DB_E_RANGE);
	receipt = example();
	receipt.tokens.prompt = UINT64_MAX;
	assert_int_equal(receipt_canonical(&receipt, &out), DB_E_RANGE);
	for (uint64_t version = 0; version <= RECEIPT_VERSION + 1; version += RECEIPT_VERSION + 1) {
		receipt = example();
		receipt.version = version;
		assert_int_equal(receipt_canonical(&receipt, &out), DB_E_UNSUPPORTED);
	}
	buf_free(&out);
}

static void what_is_no_receipt_is_refused(void **state)
{
	(void)state;
	static const char *const documents[] = {
	    "",
	    "[]",
	    "{}",
	    "{\"receipt\":{}}",
	    "{\"receipt\":{\"version\":3},\"coordinator\":{}}",
	    "{\"receipt\":7}",
	    "{\"receipt\":{\"version\":1},\"coordinator\":{}}",
	};
	struct receipt_expect expect = {0};
	struct receipt_check check;
	struct error error;
	for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
		error.text[0] = '\0';
		assert_int_equal(receipt_verify(str_of(documents[i]), &expect, &check, &error), DB_E_INVALID);
		assert_true(strlen(error.text) > 10);
	}
	/* A member more is nothing that the checks would cover. */
	struct str good = vector_str(vector_named("version 1 without the provider's signature"), "document");
	struct buf more;
	buf_init(&more, RECEIPT_MAX);
	const char *brace = strstr(good.at, "\"receipt\": {");
	assert_non_null(brace);
	size_t head = (size_t)(brace - good.at) + strlen("\"receipt\": {");
	buf_append(&more, good.at, head);
	buf_append_c(&more, "\"discount\": 5, ");
	buf_append(&more, good.at + head, good.len - head);
	assert_int_equal(receipt_verify(buf_str(&more), &expect, &check, &error), DB_E_INVALID);
	buf_free(&more);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_part_is_judged_as_the_independent_verifier_does),
	    cmocka_unit_test(what_is_written_verifies),
	    cmocka_unit_test(what_cannot_be_is_not_signed),
	    cmocka_unit_test(what_is_no_receipt_is_refused),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
