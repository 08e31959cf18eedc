#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "coordinator/money/stripe_event.h"
#include "core/encode.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#define NOW    INT64_C(1800000000)
#define BODY   STR("{\"id\":\"evt_1\"}")
#define SECRET STR("whsec_test")

static void sign(char out[65], int64_t at_s, struct str body, struct str secret)
{
	char text[256];
	uint8_t mac[SHA256_BYTES];
	int len = snprintf(text, sizeof text, "%lld.%.*s", (long long)at_s, STR_ARG(body));
	hmac_sha256(secret.at, secret.len, text, (size_t)len, mac);
	hex_encode(mac, sizeof mac, out);
}

static enum db_err check(const char *format, int64_t at_s)
{
	char hex[65], header[400];
	sign(hex, at_s, BODY, SECRET);
	snprintf(header, sizeof header, format, (long long)at_s, hex);
	return stripe_signature_check(str_of(header), BODY, SECRET, NOW);
}

static void a_signature_within_the_tolerance_is_good(void **state)
{
	(void)state;
	static const int64_t good[] = {0, 1, -1, 299, -299, 300, -300}, bad[] = {301, -301, 86400, -86400};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_int_equal(check("t=%lld,v1=%s", NOW + good[i]), DB_OK);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(check("t=%lld,v1=%s", NOW + bad[i]), DB_E_DENIED);
}

static void any_of_several_signatures_will_do(void **state)
{
	(void)state;
	char zeros[65] = {0};
	char format[200];
	memset(zeros, '0', 64);
	snprintf(format, sizeof format, "t=%%lld,v1=%s,v1=%%s", zeros);
	assert_int_equal(check(format, NOW), DB_OK);
	snprintf(format, sizeof format, "t=%%lld,v1=%%s,v0=%s", zeros);
	assert_int_equal(check(format, NOW), DB_OK);
	snprintf(format, sizeof format, "t=%%lld,v1=%%s,v1=%s", zeros);
	assert_int_equal(check(format, NOW), DB_OK);
}

static void whatever_is_not_signed_so_is_refused(void **state)
{
	(void)state;
	char hex[65], header[400];
	static const char *const headers[] = {"",           "t=",       "v1=", "t=1800000000",    "t=x,v1=00",
	                                      "t=-5,v1=00", "nonsense", ",,,", "t=1800000000,v1="};
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
		assert_int_equal(stripe_signature_check(str_of(headers[i]), BODY, SECRET, NOW), DB_E_DENIED);
	assert_int_equal(check("t=%lld,v0=%s", NOW), DB_E_DENIED);
	assert_int_equal(check("t=%lld,v1=a%s", NOW), DB_E_DENIED);

	sign(hex, NOW, BODY, SECRET);
	snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)NOW, hex);
	assert_int_equal(stripe_signature_check(str_of(header), BODY, SECRET, NOW), DB_OK);
	assert_int_equal(stripe_signature_check(str_of(header), STR("{\"id\":\"evt_2\"}"), SECRET, NOW), DB_E_DENIED);
	assert_int_equal(stripe_signature_check(str_of(header), BODY, STR("whsec_other"), NOW), DB_E_DENIED);
	sign(hex, NOW, BODY, STR(""));
	snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)NOW, hex);
	assert_int_equal(stripe_signature_check(str_of(header), BODY, STR(""), NOW), DB_E_DENIED);
}

static void an_event_is_read_as_far_as_we_act_on_it(void **state)
{
	(void)state;
	struct stripe_event event;
	assert_int_equal(
	    stripe_event_read(STR("{\"id\":\"evt_1\",\"type\":\"checkout.session.completed\",\"created\":5,\"data\":{\"object\":{"
	                          "\"id\":\"cs_1\",\"amount_total\":2500,\"currency\":\"usd\",\"payment_status\":\"paid\","
	                          "\"payment_intent\":{\"id\":\"pi_1\"},\"metadata\":{\"consumer_key\":\"acc\","
	                          "\"billing_session_id\":\"d1\"}}}}"),
	                      &event),
	    DB_OK);
	assert_int_equal(event.kind, STRIPE_EVENT_CHECKOUT_COMPLETED);
	assert_int_equal(event.cents, 2500);
	assert_true(event.is_usd && event.is_paid);
	assert_string_equal(event.payment_intent, "pi_1");
	assert_string_equal(event.account_id, "acc");
	assert_string_equal(event.deposit_id, "d1");

	static const char *const amounts[] = {"-1", "2.5", "\"5\"", "null", "1e3", "99999999999999999999"};
	for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++) {
		char text[200];
		snprintf(text, sizeof text,
		         "{\"id\":\"e\",\"type\":\"charge.refunded\",\"data\":{\"object\":{\"amount_refunded\":%s}}}", amounts[i]);
		assert_int_equal(stripe_event_read(str_of(text), &event), DB_OK);
		assert_int_equal(event.cents, -1);
	}
	static const char *const broken[] = {"",
	                                     "[]",
	                                     "{}",
	                                     "{\"id\":\"e\",\"type\":\"x\"}",
	                                     "{\"type\":\"x\",\"data\":{\"object\":{}}}",
	                                     "{\"id\":5,\"type\":\"x\",\"data\":{\"object\":{}}}"};
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
		assert_int_equal(stripe_event_read(str_of(broken[i]), &event), DB_E_INVALID);
}

static void the_status_of_a_connected_account_is_mapped(void **state)
{
	(void)state;
	static const struct {
		const char *object, *status, *type;
		bool instant;
	} rows[] = {
	    {"{\"id\":\"a\"}", "pending", "", false},
	    {"{\"id\":\"a\",\"details_submitted\":true,\"requirements\":{\"currently_due\":[\"x\",\"y\"]}}", "restricted", "",
	     false},
	    {"{\"id\":\"a\",\"details_submitted\":true,\"requirements\":{\"currently_due\":[]}}", "pending", "", false},
	    {"{\"id\":\"a\",\"payouts_enabled\":true,\"external_accounts\":{\"data\":[{\"object\":\"bank_account\",\"last4\":"
	     "\"6789\",\"fingerprint\":\"fp_6789\"}]}}",
	     "ready", "bank", false},
	    {"{\"id\":\"a\",\"payouts_enabled\":true,\"external_accounts\":{\"data\":[{\"object\":\"bank_account\"},{\"object\":"
	     "\"card\","
	     "\"funding\":\"debit\",\"default_for_currency\":true}]}}",
	     "ready", "card", true},
	    {"{\"id\":\"a\",\"payouts_enabled\":true,\"external_accounts\":{\"data\":[{\"object\":\"card\",\"funding\":\"credit\"}]"
	     "}}",
	     "ready", "card", false},
	    {"{\"id\":\"a\",\"payouts_enabled\":true,\"requirements\":{\"disabled_reason\":\"rejected.fraud\"}}", "rejected", "",
	     false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct stripe_account account;
		struct json_doc *doc = json_parse(str_of(rows[i].object), NULL, NULL);
		assert_non_null(doc);
		assert_true(stripe_account_read(json_root(doc), &account));
		assert_string_equal(account.status, rows[i].status);
		assert_string_equal(account.destination_type, rows[i].type);
		assert_int_equal(account.instant_eligible, rows[i].instant);
		assert_string_equal(account.payee, strstr(rows[i].object, "fp_6789") ? "fp_6789" : "");
		json_free(doc);
	}
}

static int start(void **state)
{
	(void)state;
	return crypto_init() ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_signature_within_the_tolerance_is_good),
	    cmocka_unit_test(any_of_several_signatures_will_do),
	    cmocka_unit_test(whatever_is_not_signed_so_is_refused),
	    cmocka_unit_test(an_event_is_read_as_far_as_we_act_on_it),
	    cmocka_unit_test(the_status_of_a_connected_account_is_mapped),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
