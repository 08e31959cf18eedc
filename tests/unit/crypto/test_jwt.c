#include "../vectors.h"

#include <openssl/err.h>

#include "core/encode.h"
#include "crypto/jwt.h"
#include "crypto/secret.h"

static struct json_doc *vectors;
static const json_val *all;

static int load(void **state)
{
	(void)state;
	vectors = vectors_load("jwt_vectors.json");
	all = json_root(vectors);
	return crypto_init() ? -1 : 0;
}

static int unload(void **state)
{
	(void)state;
	json_free(vectors);
	return 0;
}

static struct jwt_key *key_of(const char *name)
{
	struct error error = {0};
	struct jwt_key *key;
	if (jwt_key_from_pem(vector_str(all, name), &key, &error))
		fail_msg("%s: %s", name, error.text);
	return key;
}

static struct jwt_rules rules_of(void)
{
	struct jwt_rules rules = {.issuer = vector_str(all, "issuer"), .audience = vector_str(all, "audience"), .skew_s = 60};
	assert_true(json_as_i64(json_get(all, "now"), &rules.now_s));
	return rules;
}

/* How far a token gets: the step that refuses it, or "good". */
static const char *refused_at(struct str token, const struct jwt_key *key, struct arena *arena)
{
	struct jwt jwt;
	struct error error = {0};
	struct jwt_claims claims;
	struct jwt_rules rules = rules_of();
	if (jwt_parse(token, arena, &jwt, &error))
		return "parse";
	if (jwt_verify(&jwt, key))
		return "verify";
	if (jwt_check(&jwt, &rules, &claims, &error)) {
		assert_int_equal(error.code, DB_E_DENIED);
		return "check";
	}
	assert_true(str_eq(claims.subject, vector_str(all, "subject")));
	return "good";
}

static void test_tokens_of_another_implementation(void **state)
{
	(void)state;
	struct jwt_key *ec = key_of("ec"), *rsa = key_of("rsa");
	struct json_iter each = json_iter(json_get(all, "cases"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&each, NULL)); count++) {
		struct arena *arena = arena_new(0);
		struct str name = vector_str(one, "name"), expect = vector_str(one, "expect");
		const char *got = refused_at(vector_str(one, "token"), str_is(vector_str(one, "key"), "ec") ? ec : rsa, arena);
		if (!str_is(expect, got))
			fail_msg("%.*s: ended at %s, not at %.*s", STR_ARG(name), got, STR_ARG(expect));
		arena_free(arena);
	}
	assert_true(count > 40);
	assert_int_equal(ERR_peek_error(), 0);
	jwt_key_free(ec);
	jwt_key_free(rsa);
}

static void test_no_bit_of_a_token_can_change(void **state)
{
	(void)state;
	struct jwt_key *ec = key_of("ec");
	struct json_iter each = json_iter(json_get(all, "cases"));
	struct str token = vector_str(json_next(&each, NULL), "token");
	for (size_t at = 0; at < token.len; at++) {
		char copy[2048];
		struct arena *arena = arena_new(0);
		assert_true(str_copy(token, copy, sizeof copy));
		copy[at] = copy[at] == 'A' ? 'B' : 'A';
		assert_string_not_equal(refused_at(str_of(copy), ec, arena), "good");
		arena_free(arena);
	}
	jwt_key_free(ec);
}

static void test_keys_of_the_wrong_kind_or_size_are_refused(void **state)
{
	(void)state;
	struct json_iter each = json_iter(json_get(all, "bad_pems"));
	struct str pem;
	size_t count = 0;
	for (json_val *one; (one = json_next(&each, NULL)); count++) {
		struct error error = {0};
		struct jwt_key *key;
		assert_true(json_as_str(one, &pem));
		assert_int_equal(jwt_key_from_pem(pem, &key, &error), DB_E_INVALID);
		assert_null(key);
		assert_true(strlen(error.text) > 0);
	}
	assert_true(count >= 6);
	assert_int_equal(ERR_peek_error(), 0);
}

static void test_a_pem_in_one_line_counts_backslash_n_as_line_feed(void **state)
{
	(void)state;
	struct str pem = vector_str(all, "ec");
	struct buf line;
	struct jwt_key *key;
	buf_init(&line, 4096);
	for (size_t i = 0; i < pem.len; i++)
		buf_append_c(&line, pem.at[i] == '\n' ? "\\n" : (char[]){pem.at[i], '\0'});
	assert_int_equal(jwt_key_from_pem(buf_str(&line), &key, NULL), DB_OK);
	jwt_key_free(key);
	buf_free(&line);
}

static void test_a_set_gives_the_key_that_the_token_names(void **state)
{
	(void)state;
	struct jwt_keys *keys;
	struct error error = {0};
	int64_t usable;
	assert_int_equal(jwt_keys_parse(vector_str(all, "jwks"), &keys, &error), DB_OK);
	assert_true(json_as_i64(json_get(all, "usable"), &usable));
	assert_int_equal(jwt_keys_count(keys), usable);
	struct json_iter each = json_iter(json_get(all, "in_set"));
	for (json_val *one; (one = json_next(&each, NULL));) {
		struct arena *arena = arena_new(0);
		struct jwt jwt;
		struct str expect = vector_str(one, "expect");
		enum db_err wanted = str_is(expect, "good") ? DB_OK : str_is(expect, "unknown") ? DB_E_NOT_FOUND : DB_E_CRYPTO;
		assert_int_equal(jwt_parse(vector_str(one, "token"), arena, &jwt, &error), DB_OK);
		if (jwt_verify_any(&jwt, keys) != wanted)
			fail_msg("%.*s", STR_ARG(vector_str(one, "name")));
		arena_free(arena);
	}
	jwt_keys_free(keys);
}

static void test_what_is_no_key_set_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = {"", "[]", "{}", "{\"keys\":{}}", "{\"keys\":7}", "null"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct jwt_keys *keys;
		assert_int_equal(jwt_keys_parse(str_of(texts[i]), &keys, NULL), DB_E_INVALID);
		assert_null(keys);
	}
	struct jwt_keys *keys;
	assert_int_equal(jwt_keys_parse(STR("{\"keys\":[]}"), &keys, NULL), DB_OK);
	assert_int_equal(jwt_keys_count(keys), 0);
	jwt_keys_free(keys);
}

/* --- what an id token says (OpenID Connect Core 3.1.3.7) --- */

static enum db_err check_payload(const char *payload, const struct jwt_rules *rules, struct jwt_claims *claims)
{
	static struct arena *arena; /* of the last call: the claims point into it */
	arena_free(arena);
	arena = NULL;
	if (!payload)
		return DB_OK;
	arena = arena_new(0);
	struct jwt jwt = {.payload = json_root(json_parse(str_of(payload), arena, NULL))};
	return jwt_check(&jwt, rules, claims, NULL);
}

#define ID_TOKEN(more) "{\"iss\":\"i\",\"aud\":\"a\",\"sub\":\"s\",\"exp\":2000,\"iat\":1000" more "}"

static void test_an_id_token_must_belong_to_this_login(void **state)
{
	(void)state;
	struct jwt_rules rules = {
	    .issuer = STR("i"), .audience = STR("a"), .now_s = 1500, .nonce = STR("n-1"), .is_id_token = true};
	struct jwt_claims claims;
	assert_int_equal(check_payload(ID_TOKEN(",\"nonce\":\"n-1\""), &rules, &claims), DB_OK);
	assert_int_equal(check_payload(ID_TOKEN(",\"nonce\":\"n-2\""), &rules, &claims), DB_E_DENIED);
	assert_int_equal(check_payload(ID_TOKEN(""), &rules, &claims), DB_E_DENIED);
	assert_int_equal(check_payload(ID_TOKEN(",\"nonce\":\"n-1\",\"azp\":\"b\""), &rules, &claims), DB_E_DENIED);
	assert_int_equal(check_payload(ID_TOKEN(",\"nonce\":\"n-1\",\"azp\":\"a\""), &rules, &claims), DB_OK);
	assert_int_equal(
	    check_payload("{\"iss\":\"i\",\"aud\":[\"a\",\"b\"],\"sub\":\"s\",\"exp\":2000,\"iat\":1,\"nonce\":\"n-1\"}", &rules,
	                  &claims),
	    DB_E_DENIED); /* several audiences and nobody named */
	assert_int_equal(
	    check_payload("{\"iss\":\"i\",\"aud\":\"a\",\"sub\":\"s\",\"exp\":2000,\"nonce\":\"n-1\"}", &rules, &claims),
	    DB_E_DENIED); /* no iat */
	check_payload(NULL, NULL, NULL);
}

static void test_an_email_counts_only_when_the_issuer_verified_it(void **state)
{
	(void)state;
	struct jwt_rules rules = {.issuer = STR("i"), .audience = STR("a"), .now_s = 1500};
	struct jwt_claims claims;
	static const char *const unverified[] = {
	    ID_TOKEN(",\"email\":\"x@y.example\""),
	    ID_TOKEN(",\"email\":\"x@y.example\",\"email_verified\":false"),
	    ID_TOKEN(",\"email\":\"x@y.example\",\"email_verified\":\"true\""),
	    ID_TOKEN(",\"email\":\"x@y.example\",\"email_verified\":1"),
	};
	for (size_t i = 0; i < sizeof unverified / sizeof *unverified; i++) {
		assert_int_equal(check_payload(unverified[i], &rules, &claims), DB_OK);
		assert_int_equal(claims.email.len, 0);
	}
	assert_int_equal(check_payload(ID_TOKEN(",\"email\":\"x@y.example\",\"email_verified\":true"), &rules, &claims), DB_OK);
	assert_true(str_is(claims.email, "x@y.example"));
	check_payload(NULL, NULL, NULL);
}

static void test_an_empty_audience_matches_nothing(void **state)
{
	(void)state;
	struct jwt_rules rules = {.issuer = STR("i"), .now_s = 1500};
	struct jwt_claims claims;
	assert_int_equal(check_payload("{\"iss\":\"i\",\"aud\":\"\",\"sub\":\"s\",\"exp\":2000}", &rules, &claims), DB_E_DENIED);
	check_payload(NULL, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tokens_of_another_implementation),
	    cmocka_unit_test(test_no_bit_of_a_token_can_change),
	    cmocka_unit_test(test_keys_of_the_wrong_kind_or_size_are_refused),
	    cmocka_unit_test(test_a_pem_in_one_line_counts_backslash_n_as_line_feed),
	    cmocka_unit_test(test_a_set_gives_the_key_that_the_token_names),
	    cmocka_unit_test(test_what_is_no_key_set_is_refused),
	    cmocka_unit_test(test_an_id_token_must_belong_to_this_login),
	    cmocka_unit_test(test_an_email_counts_only_when_the_issuer_verified_it),
	    cmocka_unit_test(test_an_empty_audience_matches_nothing),
	};
	return cmocka_run_group_tests(tests, load, unload);
}
