#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "coordinator/accounts/device.h"
#include "coordinator/accounts/login.h"
#include "coordinator/accounts/oidc.h"
#include "coordinator/accounts/oidc_text.h"
#include "coordinator/accounts/throttle.h"
#include "crypto/secret.h"

#define SECOND UINT64_C(1000000)

static struct device_codes begin(struct devices *devices, const char *address, uint64_t now_us)
{
	struct device_codes codes;
	assert_int_equal(device_begin(devices, str_of(address), STR("agent"), now_us, &codes), DB_OK);
	return codes;
}

static enum device_state poll_at(struct devices *devices, const struct device_codes *codes, uint64_t now_us,
                                 struct device_grant *grant, unsigned *interval_s)
{
	return device_poll(devices, str_of(codes->device_code), now_us, grant, interval_s);
}

/* --- device codes --- */

static void test_one_login_gives_one_grant(void **state)
{
	(void)state;
	struct devices *devices = devices_new(10);
	struct device_grant grant;
	unsigned interval_s;
	uint64_t now = 1000 * SECOND;
	struct device_codes codes = begin(devices, "192.0.2.1", now);
	assert_int_equal(strlen(codes.device_code), 64);
	assert_int_equal(poll_at(devices, &codes, now += 5 * SECOND, &grant, &interval_s), DEVICE_PENDING);
	assert_int_equal(device_answer(devices, str_of(codes.user_code), STR("account"), true, now), DB_OK);
	assert_int_equal(device_answer(devices, str_of(codes.user_code), STR("other"), true, now), DB_E_EXISTS);
	assert_int_equal(poll_at(devices, &codes, now += 5 * SECOND, &grant, &interval_s), DEVICE_APPROVED);
	assert_string_equal(grant.account_id, "account");
	assert_string_equal(grant.user_code, codes.user_code);
	assert_int_equal(poll_at(devices, &codes, now += 5 * SECOND, &grant, &interval_s), DEVICE_TAKEN);
	device_give_back(devices, str_of(codes.device_code)); /* the token could not be made */
	assert_int_equal(poll_at(devices, &codes, now += 5 * SECOND, &grant, &interval_s), DEVICE_APPROVED);
	devices_free(devices);
}

static void test_each_hurried_poll_makes_the_interval_longer(void **state)
{
	(void)state;
	struct devices *devices = devices_new(10);
	struct device_grant grant;
	unsigned interval_s = 0;
	uint64_t now = 1000 * SECOND;
	struct device_codes codes = begin(devices, "192.0.2.1", now);
	assert_int_equal(poll_at(devices, &codes, now, &grant, &interval_s), DEVICE_PENDING);
	assert_int_equal(poll_at(devices, &codes, now += 4 * SECOND, &grant, &interval_s), DEVICE_SLOW_DOWN);
	assert_int_equal(interval_s, 10);
	assert_int_equal(poll_at(devices, &codes, now += 5 * SECOND, &grant, &interval_s), DEVICE_SLOW_DOWN);
	assert_int_equal(interval_s, 15);
	assert_int_equal(poll_at(devices, &codes, now += 15 * SECOND, &grant, &interval_s), DEVICE_PENDING);
	assert_int_equal(device_answer(devices, str_of(codes.user_code), STR("a"), true, now), DB_OK);
	assert_int_equal(poll_at(devices, &codes, now += SECOND, &grant, &interval_s), DEVICE_SLOW_DOWN);
	assert_int_equal(poll_at(devices, &codes, now += 20 * SECOND, &grant, &interval_s), DEVICE_APPROVED);
	devices_free(devices);
}

static void test_codes_expire_after_fifteen_minutes(void **state)
{
	(void)state;
	struct devices *devices = devices_new(10);
	struct device_grant grant;
	unsigned interval_s;
	struct device_view view;
	uint64_t now = 1000 * SECOND, end = now + 900 * SECOND;
	struct device_codes codes = begin(devices, "192.0.2.1", now);
	assert_int_equal(poll_at(devices, &codes, end - 1, &grant, &interval_s), DEVICE_PENDING);
	assert_int_equal(poll_at(devices, &codes, end, &grant, &interval_s), DEVICE_EXPIRED);
	assert_int_equal(device_answer(devices, str_of(codes.user_code), STR("a"), true, end), DB_E_TIMEOUT);
	assert_true(device_look(devices, str_of(codes.user_code), end, &view));
	assert_int_equal(view.state, DEVICE_EXPIRED);
	assert_int_equal(poll_at(devices, &codes, now + 1800 * SECOND, &grant, &interval_s), DEVICE_UNKNOWN);
	assert_int_equal(devices_pending(devices), 0);
	devices_free(devices);
}

static void test_the_table_of_codes_is_bounded_for_one_and_for_all(void **state)
{
	(void)state;
	struct devices *devices = devices_new(50);
	struct device_codes codes;
	char address[32];
	uint64_t now = 1000 * SECOND;
	for (int i = 0; i < 20; i++)
		begin(devices, "2001:db8::1", now);
	assert_int_equal(device_begin(devices, STR("2001:db8::2"), STR_NONE, now, &codes), DB_E_LIMIT); /* the same network */
	for (int i = 0; i < 30; i++) {
		snprintf(address, sizeof address, "192.0.2.%d", i);
		begin(devices, address, now);
	}
	assert_int_equal(device_begin(devices, STR("198.51.100.1"), STR_NONE, now, &codes), DB_E_LIMIT);
	begin(devices, "2001:db8::1", now + 1800 * SECOND);
	devices_free(devices);
}

static void test_user_codes_are_read_as_people_type_them(void **state)
{
	(void)state;
	static const char *const good[] = {"ABCD-2345", "abcd-2345", "abcd2345", " AB CD 23 45 ", "a-b-c-d-2-3-4-5"};
	static const char *const bad[] = {"",          "ABCD-234",   "ABCD-23456", "ABCD-234O", "ABCD-2341",
	                                  "ABCD-234I", "ABCD-2\x00", "ABCD_2345",  "\xc3\x84"};
	char code[DEVICE_USER_CODE_SIZE];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(device_fold_user_code(str_of(good[i]), code), DB_OK);
		assert_string_equal(code, "ABCD-2345");
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(device_fold_user_code(str_of(bad[i]), code), DB_E_INVALID);
	assert_int_equal(device_fold_user_code((struct str){"ABCD-23\0005", 9}, code), DB_E_INVALID);
}

static void test_every_character_of_the_alphabet_comes_up(void **state)
{
	(void)state;
	struct devices *devices = devices_new(4000);
	unsigned seen[256] = {0};
	char address[32];
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(address, sizeof address, "10.0.%u.%u", i / 250, i % 250);
		struct device_codes codes = begin(devices, address, SECOND);
		for (int k = 0; k < 9; k++)
			seen[(unsigned char)codes.user_code[k]]++;
	}
	assert_int_equal(seen['-'], 2000);
	for (const char *c = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"; *c; c++)
		assert_in_range(seen[(unsigned char)*c], 300, 800); /* 516 on average */
	assert_int_equal(seen['O'] + seen['0'] + seen['I'] + seen['1'] + seen['L'], 0);
	devices_free(devices);
}

static void test_a_stranger_cannot_draw_on_the_page(void **state)
{
	(void)state;
	struct devices *devices = devices_new(4);
	struct device_codes codes;
	struct device_view view;
	assert_int_equal(device_begin(devices, STR("192.0.2.1"), STR("a\x1b[2J\xe2\x80\xae"), SECOND, &codes), DB_OK);
	assert_true(device_look(devices, str_of(codes.user_code), SECOND, &view));
	assert_true(str_is(view.agent, "a?[2J???"));
	devices_free(devices);
}

/* --- the throttle --- */

static const struct throttle_rule rule = {3, 1000, 8000, 60000};

static void test_waits_double_up_to_a_limit_and_end(void **state)
{
	(void)state;
	static const uint32_t waits[] = {0, 0, 0, 1000, 2000, 4000, 8000, 8000};
	struct throttle *throttle = throttle_new(10);
	uint64_t now = 1000 * SECOND;
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
		throttle_failed(throttle, &rule, "kind", STR("key"), now);
		assert_int_equal(throttle_wait_ms(throttle, &rule, "kind", STR("key"), now), waits[i]);
		assert_int_equal(throttle_wait_ms(throttle, &rule, "other", STR("key"), now), 0);
	}
	assert_int_equal(throttle_wait_ms(throttle, &rule, "kind", STR("key"), now + 7999500), 1);
	assert_int_equal(throttle_wait_ms(throttle, &rule, "kind", STR("key"), now + 8 * SECOND), 0);
	now += 60 * SECOND; /* all is forgiven */
	throttle_failed(throttle, &rule, "kind", STR("key"), now);
	assert_int_equal(throttle_wait_ms(throttle, &rule, "kind", STR("key"), now), 0);
	throttle_free(throttle);
}

static void test_a_success_takes_back_one_failure_or_all(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new(10);
	for (int i = 0; i < 5; i++)
		throttle_failed(throttle, &rule, "kind", STR("key"), SECOND);
	assert_int_equal(throttle_wait_ms(throttle, &rule, "kind", STR("key"), SECOND), 2000);
	throttle_take_back(throttle, "kind", STR("key"));
	assert_int_equal(throttle_wait_ms(throttle, &rule, "kind", STR("key"), SECOND), 1000);
	throttle_forgive(throttle, "kind", STR("key"));
	assert_int_equal(throttle_wait_ms(throttle, &rule, "kind", STR("key"), SECOND), 0);
	assert_int_equal(throttle_count(throttle), 0);
	throttle_take_back(throttle, "kind", STR("key"));
	throttle_free(throttle);
}

static void test_the_table_of_failures_is_bounded(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new(4);
	char key[16];
	for (int i = 0; i < 100; i++) {
		int len = snprintf(key, sizeof key, "%d", i);
		throttle_failed(throttle, &rule, "kind", (struct str){key, (size_t)len}, SECOND);
	}
	assert_int_equal(throttle_count(throttle), 4);
	throttle_free(throttle);
}

static void test_neighbours_in_a_network_count_as_one(void **state)
{
	(void)state;
	char a[THROTTLE_NET_SIZE], b[THROTTLE_NET_SIZE];
	assert_true(str_eq(throttle_net(STR("2001:db8:1:2::5"), a), throttle_net(STR("2001:db8:1:2:ffff::1"), b)));
	assert_false(str_eq(throttle_net(STR("2001:db8:1:2::5"), a), throttle_net(STR("2001:db8:1:3::5"), b)));
	assert_false(str_eq(throttle_net(STR("192.0.2.1"), a), throttle_net(STR("192.0.2.2"), b)));
	assert_true(str_eq(throttle_net(STR("::ffff:192.0.2.1"), a), throttle_net(STR("192.0.2.1"), b)));
	throttle_net(STR("a name that is far too long to be an address of anything that was ever connected"), a);
}

/* --- what OpenID Connect exchanges --- */

static void test_a_challenge_follows_the_example_of_the_standard(void **state)
{
	(void)state;
	char challenge[OIDC_SECRET_SIZE];
	oidc_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", challenge); /* RFC 7636, appendix B */
	assert_string_equal(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

static void test_an_issuer_is_https_or_this_machine(void **state)
{
	(void)state;
	static const char *const good[] = {"https://id.example", "https://id.example/tenant", "http://127.0.0.1:8080",
	                                   "http://localhost", "http://[::1]:9/x"};
	static const char *const bad[] = {"",
	                                  "id.example",
	                                  "http://id.example",
	                                  "http://127.0.0.1.evil.example",
	                                  "http://localhost.evil.example",
	                                  "https://",
	                                  "https:///x",
	                                  "ftp://id.example",
	                                  "https://id.example/ x",
	                                  "https://id.example/#x",
	                                  "https://id.example\r\nX: y"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(oidc_issuer_is_acceptable(str_of(good[i])));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(oidc_issuer_is_acceptable(str_of(bad[i])));
}

#define METADATA(issuer, token)                                                                                                \
	"{\"issuer\":\"" issuer "\",\"authorization_endpoint\":\"https://id.example/a\",\"token_endpoint\":\"" token               \
	"\",\"jwks_uri\":\"https://id.example/j\"}"

static void test_a_description_must_be_of_the_issuer_that_was_asked(void **state)
{
	(void)state;
	struct oidc_metadata metadata;
	struct str issuer = STR("https://id.example");
	assert_int_equal(oidc_metadata_parse(STR(METADATA("https://id.example", "https://id.example/t")), issuer, &metadata, NULL),
	                 DB_OK);
	assert_string_equal(metadata.token_endpoint, "https://id.example/t");
	assert_false(metadata.secret_in_form);
	assert_int_equal(
	    oidc_metadata_parse(STR(METADATA("https://evil.example", "https://id.example/t")), issuer, &metadata, NULL),
	    DB_E_INVALID);
	assert_int_equal(oidc_metadata_parse(STR(METADATA("https://id.example", "http://id.example/t")), issuer, &metadata, NULL),
	                 DB_E_INVALID);
	assert_int_equal(oidc_metadata_parse(STR("{\"issuer\":\"https://id.example\"}"), issuer, &metadata, NULL), DB_E_INVALID);
	assert_int_equal(oidc_metadata_parse(STR("no JSON"), issuer, &metadata, NULL), DB_E_INVALID);
}

static void test_a_refusal_of_the_issuer_is_cleaned_before_it_is_repeated(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct error error;
	struct str token;
	assert_int_equal(oidc_token_parse(400, STR("{\"error\":\"invalid_grant\"}"), arena, &token, &error), DB_E_DENIED);
	assert_non_null(strstr(error.text, "(invalid_grant)"));
	assert_int_equal(oidc_token_parse(400, STR("{\"error\":\"a\\nb <x>\"}"), arena, &token, &error), DB_E_DENIED);
	assert_non_null(strstr(error.text, "(a?b??x?)"));
	assert_int_equal(oidc_token_parse(200, STR("{\"access_token\":\"x\"}"), arena, &token, &error), DB_E_DENIED);
	assert_int_equal(oidc_token_parse(200, STR("{\"id_token\":\"x.y.z\"}"), arena, &token, &error), DB_OK);
	assert_true(str_is(token, "x.y.z"));
	arena_free(arena);
}

static void test_a_client_shows_itself_as_the_standard_says(void **state)
{
	(void)state;
	struct buf header;
	buf_init(&header, 1024);
	oidc_client_in_header(&header, STR("my app"), STR("p:w"));
	assert_true(str_is(buf_str(&header), "Basic bXklMjBhcHA6cCUzQXc=")); /* my%20app:p%3Aw */
	buf_free(&header);
}

static int setup(void **state)
{
	(void)state;
	return crypto_init() ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_one_login_gives_one_grant),
	    cmocka_unit_test(test_each_hurried_poll_makes_the_interval_longer),
	    cmocka_unit_test(test_codes_expire_after_fifteen_minutes),
	    cmocka_unit_test(test_the_table_of_codes_is_bounded_for_one_and_for_all),
	    cmocka_unit_test(test_user_codes_are_read_as_people_type_them),
	    cmocka_unit_test(test_every_character_of_the_alphabet_comes_up),
	    cmocka_unit_test(test_a_stranger_cannot_draw_on_the_page),
	    cmocka_unit_test(test_waits_double_up_to_a_limit_and_end),
	    cmocka_unit_test(test_a_success_takes_back_one_failure_or_all),
	    cmocka_unit_test(test_the_table_of_failures_is_bounded),
	    cmocka_unit_test(test_neighbours_in_a_network_count_as_one),
	    cmocka_unit_test(test_a_challenge_follows_the_example_of_the_standard),
	    cmocka_unit_test(test_an_issuer_is_https_or_this_machine),
	    cmocka_unit_test(test_a_description_must_be_of_the_issuer_that_was_asked),
	    cmocka_unit_test(test_a_refusal_of_the_issuer_is_cleaned_before_it_is_repeated),
	    cmocka_unit_test(test_a_client_shows_itself_as_the_standard_says),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
