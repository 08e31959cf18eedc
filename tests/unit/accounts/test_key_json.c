#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/accounts/accounts.h"
#include "coordinator/accounts/key_json.h"
#include "core/uri.h"

#define NOW INT64_C(1800000000000000)

static struct store_key key;
static unsigned fields;
static struct api_error error;

static bool create(const char *body)
{
	return key_json_create(str_of(body), NOW, &key, &error);
}

static bool patch(const char *body)
{
	return key_json_patch(str_of(body), NOW, &key, &fields, &error);
}

static void a_key_is_for_inference_without_limits_unless_told_otherwise(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_true(create(((const char *const[]){"", " \n", "{}"})[i]));
		assert_int_equal(key.scopes, SCOPE_INFERENCE);
		assert_false(key.limited);
		assert_int_equal(key.expires_us, 0);
		assert_string_equal(key.allowed_models, "");
	}
}

static void every_field_is_read(void **state)
{
	(void)state;
	assert_true(create("{\"name\":\"ci\",\"limit_usd\":5.25,\"limit_reset\":\"monthly\",\"rpm_limit\":60,\"itpm_limit\":1,"
	                   "\"otpm_limit\":2,\"allowed_models\":[\"a\",\"b/c\"],\"self_route_only\":true,"
	                   "\"expires_at\":\"2100-01-01T00:00:00Z\",\"scopes\":[\"keys\",\"payouts\"]}"));
	assert_string_equal(key.name, "ci");
	assert_int_equal(key.limit_uusd, 5250000);
	assert_int_equal(key.limit_reset, STORE_WINDOW_MONTH);
	assert_int_equal(key.rpm, 60);
	assert_int_equal(key.otpm, 2);
	assert_string_equal(key.allowed_models, "a\nb/c");
	assert_true(key.self_route_only);
	assert_int_equal(key.scopes, SCOPE_KEYS | SCOPE_PAYOUTS);
	struct caller caller = {.allowed_models = key.allowed_models};
	assert_true(accounts_allows_model(&caller, STR("b/c")));
	assert_false(accounts_allows_model(&caller, STR("b")));
	assert_false(accounts_allows_model(&caller, STR("a\nb/c")));
	assert_false(accounts_allows_model(&caller, STR_NONE));
}

static void what_makes_no_sense_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"[]",
	                                  "nonsense",
	                                  "{\"name\":5}",
	                                  "{\"name\":\"a\\nb\"}",
	                                  "{\"limit_usd\":-1}",
	                                  "{\"limit_usd\":\"5\"}",
	                                  "{\"limit_usd\":1e300}",
	                                  "{\"limit_reset\":\"dayly\"}",
	                                  "{\"rpm_limit\":-1}",
	                                  "{\"rpm_limit\":1.5}",
	                                  "{\"allowed_models\":\"a\"}",
	                                  "{\"allowed_models\":[5]}",
	                                  "{\"allowed_models\":[\"a\\nb\"]}",
	                                  "{\"allowed_models\":[\"\"]}",
	                                  "{\"self_route_only\":1}",
	                                  "{\"expires_at\":\"2001-01-01T00:00:00Z\"}",
	                                  "{\"expires_at\":\"tomorrow\"}",
	                                  "{\"scopes\":[\"root\"]}",
	                                  "{\"scopes\":\"keys\"}",
	                                  "{\"disabled\":true}",
	                                  "{\"limit\":5}",
	                                  "{\"id\":\"key_1\"}"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (create(bad[i]))
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(error.status, 400);
		assert_string_equal(error.type, "bad_request");
	}
}

static void a_patch_changes_what_it_names_and_null_clears(void **state)
{
	(void)state;
	assert_true(create("{\"limit_usd\":5,\"limit_reset\":\"daily\",\"rpm_limit\":60,\"allowed_models\":[\"a\"]}"));
	assert_true(patch("{\"name\":\"x\"}"));
	assert_int_equal(fields, STORE_KEY_NAME);
	assert_int_equal(key.limit_uusd, 5000000);
	assert_true(patch("{\"limit_usd\":null,\"rpm_limit\":null,\"allowed_models\":null,\"expires_at\":null}"));
	assert_int_equal(fields, STORE_KEY_LIMIT | STORE_KEY_RPM | STORE_KEY_MODELS | STORE_KEY_EXPIRES);
	assert_false(key.limited);
	assert_int_equal(key.rpm, 0);
	assert_string_equal(key.allowed_models, "");
	assert_true(patch("{\"limit_reset\":\"yearly\"}")); /* http-api 4.1: unknown is none */
	assert_int_equal(key.limit_reset, STORE_WINDOW_NEVER);
	assert_true(patch("{\"disabled\":true}"));
	assert_true(key.disabled);
	assert_false(patch("{\"disabled\":null}"));
	assert_false(patch(""));
}

static void an_expired_key_is_given_time_before_anything_else(void **state)
{
	(void)state;
	assert_true(create(""));
	key.expires_us = NOW - 1;
	assert_false(patch("{\"name\":\"x\"}"));
	assert_true(patch("{\"name\":\"x\",\"expires_at\":null}"));
	assert_int_equal(key.expires_us, 0);
}

static void percent_escapes_are_decoded_once(void **state)
{
	(void)state;
	char out[16];
	assert_int_equal(uri_decode(STR("a%2Fb%252F+"), out, sizeof out), DB_OK);
	assert_string_equal(out, "a/b%2F+");
	static const char *const bad[] = {"%", "%4", "%4x", "%x4", "a%00b", "%%%"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(uri_decode(str_of(bad[i]), out, sizeof out), DB_E_INVALID);
		assert_string_equal(out, "");
	}
	assert_int_equal(uri_decode(STR("0123456789abcdef"), out, sizeof out), DB_E_LIMIT);
	assert_int_equal(uri_query(STR("a=1&account=x+%79&account=z"), "account", out, sizeof out), DB_OK);
	assert_string_equal(out, "x y");
	assert_int_equal(uri_query(STR("accounts=1&b"), "account", out, sizeof out), DB_E_NOT_FOUND);
	assert_true(uri_encode(STR("a b/\xff~"), out, sizeof out));
	assert_string_equal(out, "a%20b%2F%FF~");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_key_is_for_inference_without_limits_unless_told_otherwise),
	    cmocka_unit_test(every_field_is_read),
	    cmocka_unit_test(what_makes_no_sense_is_refused),
	    cmocka_unit_test(a_patch_changes_what_it_names_and_null_clears),
	    cmocka_unit_test(an_expired_key_is_given_time_before_anything_else),
	    cmocka_unit_test(percent_escapes_are_decoded_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
