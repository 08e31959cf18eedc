/* Logging in at an issuer that says, on loopback, whatever a test has it say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/accounts/oidc.h"
#include "core/clock.h"
#include "core/encode.h"
#include "core/log.h"
#include "crypto/p256.h"
#include "crypto/secret.h"
#include "net/http_server.h"

#define CLIENT   "darkbloom"
#define SECRET   "keep me"
#define CALLBACK "https://darkbloom.example/auth/oidc/callback"
#define TEXT_MAX 4096

struct answer {
	int status;
	char text[TEXT_MAX];
};

struct world {
	struct net_loop *loop;
	struct http_server *server;
	char issuer[64];
	/* What the issuer says, and how often it was asked. */
	struct answer discovery, token, keys;
	unsigned discovery_count, token_count, keys_count;
	char form[TEXT_MAX], authorization[256]; /* of the last call for a token */
	struct p256_key *key, *other;
	/* What came of the last step. */
	struct oidc *oidc;
	struct net_timer rest;
	struct oidc_state state;
	unsigned told;
	enum db_err code;
	char why[512], url[TEXT_MAX], subject[64], email[64], name[64];
};

/* --- the issuer --- */

static void on_request(struct http_request *request, void *context)
{
	struct world *w = context;
	const struct answer *answer = &w->discovery;
	if (str_is(http_path(request), "/token")) {
		w->token_count++;
		answer = &w->token;
		assert_true(str_copy(http_body(request), w->form, sizeof w->form));
		assert_true(str_copy(http_header_get(request, "authorization"), w->authorization, sizeof w->authorization));
	} else if (str_is(http_path(request), "/keys")) {
		w->keys_count++;
		answer = &w->keys;
	} else {
		assert_true(str_is(http_path(request), "/.well-known/openid-configuration"));
		w->discovery_count++;
	}
	http_respond(request, answer->status, "application/json", str_of(answer->text));
}

__attribute__((format(printf, 3, 4))) static void says(struct answer *answer, int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int len = vsnprintf(answer->text, sizeof answer->text, format, args);
	va_end(args);
	assert_in_range(len, 0, sizeof answer->text - 1);
	answer->status = status;
}

static void says_discovery(struct world *w, const char *more)
{
	says(&w->discovery, 200,
	     "{\"issuer\":\"%s\",\"authorization_endpoint\":\"https://id.example/auth?tenant=1\",\"token_endpoint\":\"%s/token\","
	     "\"jwks_uri\":\"%s/keys\"%s}",
	     w->issuer, w->issuer, w->issuer, more);
}

static void says_key(struct world *w, const struct p256_key *key, const char *kid)
{
	uint8_t xy[P256_PUBLIC_BYTES];
	char x[48], y[48];
	p256_public(key, xy);
	x[base64url_encode(xy, 32, x)] = '\0';
	y[base64url_encode(xy + 32, 32, y)] = '\0';
	says(&w->keys, 200,
	     "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"use\":\"sig\",\"alg\":\"ES256\",\"kid\":\"%s\",\"x\":\"%s\",\"y\":\"%"
	     "s\"}]}",
	     kid, x, y);
}

/* One of the two numbers of a DER signature as 32 bytes; returns what lies behind it. */
static const uint8_t *take_number(const uint8_t *der, uint8_t out[32])
{
	size_t len = der[1];
	const uint8_t *digits = der + 2, *end = digits + len;
	assert_int_equal(der[0], 2);
	if (len == 33) {
		digits++;
		len--;
	}
	memset(out, 0, 32);
	memcpy(out + 32 - len, digits, len);
	return end;
}

/* The token endpoint gives a token with these claims, signed by the key. */
static void says_token(struct world *w, const struct p256_key *key, const char *header, const char *claims)
{
	char token[TEXT_MAX - 64];
	uint8_t der[P256_DER_MAX], raw[64];
	size_t der_len, len = base64url_encode(header, strlen(header), token);
	token[len++] = '.';
	len += base64url_encode(claims, strlen(claims), token + len);
	assert_int_equal(p256_sign(key, token, len, der, &der_len), DB_OK);
	take_number(take_number(der + 2, raw), raw + 32);
	token[len++] = '.';
	len += base64url_encode(raw, sizeof raw, token + len);
	says(&w->token, 200, "{\"token_type\":\"Bearer\",\"id_token\":\"%.*s\"}", (int)len, token);
}

#define HEADER "{\"alg\":\"ES256\",\"kid\":\"one\"}"

static int64_t now_s(void)
{
	return clock_wall_us() / 1000000;
}

/* A good token's claims; a test replaces some. */
struct claims {
	const char *issuer, *audience, *nonce, *subject, *more;
	int64_t issued_s, expires_s;
};

static struct claims good_claims(const struct world *w)
{
	return (struct claims){.issuer = w->issuer,
	                       .audience = "\"" CLIENT "\"",
	                       .nonce = w->state.nonce,
	                       .subject = "ann",
	                       .more = ",\"email\":\"ann@id.example\",\"email_verified\":true,\"name\":\"Ann\"",
	                       .issued_s = now_s(),
	                       .expires_s = now_s() + 300};
}

static void says_claims(struct world *w, const struct p256_key *key, const struct claims *claims)
{
	char text[2048];
	int len =
	    snprintf(text, sizeof text, "{\"iss\":\"%s\",\"aud\":%s,\"nonce\":\"%s\",\"sub\":\"%s\",\"iat\":%lld,\"exp\":%lld%s}",
	             claims->issuer, claims->audience, claims->nonce, claims->subject, (long long)claims->issued_s,
	             (long long)claims->expires_s, claims->more);
	assert_in_range(len, 1, sizeof text - 1);
	says_token(w, key, HEADER, text);
}

/* --- the two steps --- */

static void told(struct world *w, const struct error *error)
{
	w->told++;
	w->code = error ? error->code : DB_OK;
	snprintf(w->why, sizeof w->why, "%s", error ? error->text : "");
	net_loop_stop(w->loop);
}

static void on_url(const char *url, const struct error *error, void *user)
{
	struct world *w = user;
	snprintf(w->url, sizeof w->url, "%s", url ? url : "");
	told(w, error);
}

static void on_person(const struct oidc_person *person, const struct error *error, void *user)
{
	struct world *w = user;
	w->subject[0] = w->email[0] = w->name[0] = '\0';
	if (person) {
		assert_true(str_is(person->issuer, w->issuer));
		assert_true(str_copy(person->subject, w->subject, sizeof w->subject) &&
		            str_copy(person->email, w->email, sizeof w->email) && str_copy(person->name, w->name, sizeof w->name));
	}
	told(w, error);
}

static void await(struct world *w, unsigned told_before)
{
	while (w->told == told_before)
		net_loop_run(w->loop);
	assert_int_equal(w->told, told_before + 1);
}

static enum db_err begin(struct world *w)
{
	unsigned before = w->told;
	oidc_begin(w->oidc, &w->state, STR(CALLBACK), on_url, w);
	await(w, before);
	return w->code;
}

static enum db_err finish(struct world *w, struct str code)
{
	unsigned before = w->told;
	oidc_finish(w->oidc, &w->state, code, STR(CALLBACK), on_person, w);
	await(w, before);
	return w->code;
}

static void open_oidc(struct world *w, const char *client_secret)
{
	struct error error;
	struct oidc_options options = {
	    .loop = w->loop, .issuer = w->issuer, .client_id = CLIENT, .client_secret = client_secret, .scopes = "openid email"};
	oidc_free(w->oidc);
	w->oidc = oidc_new(&options, &error);
	assert_non_null(w->oidc);
}

static int start(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct error error;
	log_set_level(LOG_OFF);
	assert_int_equal(crypto_init(), DB_OK);
	w->loop = net_loop_new(&error);
	struct http_server_options options = {.host = "127.0.0.1", .context = w, .on_request = on_request};
	w->server = http_server_new(w->loop, &options, &error);
	assert_non_null(w->server);
	snprintf(w->issuer, sizeof w->issuer, "http://127.0.0.1:%u", http_server_port(w->server));
	w->key = p256_generate();
	w->other = p256_generate();
	oidc_state_new(&w->state);
	says_discovery(w, "");
	says_key(w, w->key, "one");
	struct claims claims = good_claims(w);
	says_claims(w, w->key, &claims);
	open_oidc(w, SECRET);
	*state = w;
	return 0;
}

static int stop(void **state)
{
	struct world *w = *state;
	oidc_free(w->oidc);
	http_server_free(w->server);
	net_loop_free(w->loop);
	p256_free(w->key);
	p256_free(w->other);
	free(w);
	return 0;
}

/* --- tests --- */

static bool url_has(const struct world *w, const char *name, const char *value)
{
	char pair[256];
	snprintf(pair, sizeof pair, "&%s=%s&", name, value);
	char url[TEXT_MAX + 1];
	snprintf(url, sizeof url, "%s&", w->url);
	return strstr(url, pair) != NULL;
}

static void secrets_of_a_login_are_long_and_its_own(void **state)
{
	struct world *w = *state;
	struct oidc_state again;
	oidc_state_new(&again);
	assert_int_equal(strlen(again.state), OIDC_SECRET_SIZE - 1);
	const char *const all[] = {w->state.state, w->state.nonce, w->state.verifier, again.state, again.nonce, again.verifier};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(all[i], all[j]);
}

/* The verifier and its challenge are those of RFC 7636, appendix B. */
static void the_browser_is_sent_with_state_nonce_and_only_the_hash_of_the_verifier(void **state)
{
	struct world *w = *state;
	snprintf(w->state.verifier, sizeof w->state.verifier, "%s", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
	assert_int_equal(begin(w), DB_OK);
	assert_non_null(strstr(w->url, "https://id.example/auth?tenant=1&"));
	assert_true(url_has(w, "response_type", "code") && url_has(w, "client_id", CLIENT));
	assert_true(url_has(w, "redirect_uri", "https%3A%2F%2Fdarkbloom.example%2Fauth%2Foidc%2Fcallback"));
	assert_true(url_has(w, "state", w->state.state) && url_has(w, "nonce", w->state.nonce));
	assert_true(url_has(w, "code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"));
	assert_true(url_has(w, "code_challenge_method", "S256"));
	assert_null(strstr(w->url, w->state.verifier));
	assert_null(strstr(w->url, "keep"));
}

static void a_code_and_its_verifier_become_a_person(void **state)
{
	struct world *w = *state;
	assert_int_equal(begin(w), DB_OK);
	assert_int_equal(finish(w, STR("the/code")), DB_OK);
	assert_string_equal(w->subject, "ann");
	assert_string_equal(w->email, "ann@id.example");
	assert_string_equal(w->name, "Ann");
	assert_non_null(strstr(w->form, "grant_type=authorization_code"));
	assert_non_null(strstr(w->form, "&code=the%2Fcode&"));
	assert_non_null(strstr(w->form, w->state.verifier));
	assert_non_null(strstr(w->form, "&redirect_uri=https%3A%2F%2Fdarkbloom.example"));
	assert_null(strstr(w->form, "client_secret"));
	assert_string_equal(w->authorization, "Basic ZGFya2Jsb29tOmtlZXAlMjBtZQ=="); /* darkbloom:keep%20me */
	assert_int_equal(finish(w, STR("again")), DB_OK);
	assert_int_equal(w->discovery_count, 1); /* what an issuer says of itself is kept */
	assert_int_equal(w->keys_count, 1);
	assert_int_equal(w->token_count, 2);
}

static void the_secret_goes_where_the_issuer_takes_it(void **state)
{
	struct world *w = *state;
	says_discovery(w, ",\"token_endpoint_auth_methods_supported\":[\"client_secret_post\"]");
	assert_int_equal(finish(w, STR("code")), DB_OK);
	assert_non_null(strstr(w->form, "&client_id=" CLIENT "&client_secret=keep"));
	assert_string_equal(w->authorization, "");
	open_oidc(w, ""); /* a public client has none */
	assert_int_equal(finish(w, STR("code")), DB_OK);
	assert_non_null(strstr(w->form, "&client_id=" CLIENT));
	assert_null(strstr(w->form, "client_secret"));
	assert_string_equal(w->authorization, "");
}

static void denied(struct world *w, const struct claims *claims, const char *why)
{
	says_claims(w, w->key, claims);
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
	if (!strstr(w->why, why))
		fail_msg("\"%s\" does not say \"%s\"", w->why, why);
}

static void tokens_that_are_not_for_this_login_are_denied(void **state)
{
	struct world *w = *state;
	const struct claims good = good_claims(w);
	struct claims bad = good;
	bad.issuer = "https://elsewhere.example";
	denied(w, &bad, "another issuer");
	bad = good;
	bad.audience = "\"someone-else\"";
	denied(w, &bad, "another audience");
	bad.audience = "[\"" CLIENT "\",\"someone-else\"]"; /* of several it must be named as the party */
	denied(w, &bad, "another party");
	bad.more = ",\"azp\":\"someone-else\"";
	denied(w, &bad, "another party");
	bad = good;
	bad.nonce = "of another login";
	denied(w, &bad, "does not belong to this login");
	bad = good;
	bad.subject = "";
	denied(w, &bad, "whom it is about");
	bad = good;
	bad.expires_s = now_s() - 3600;
	denied(w, &bad, "expired");
	bad = good;
	bad.issued_s = now_s() + 3600;
	denied(w, &bad, "not issued at a time that can be");
	bad = good;
	bad.more = ",\"nbf\":99999999999";
	denied(w, &bad, "not valid yet");
	says_claims(w, w->key, &good);
	assert_int_equal(finish(w, STR("code")), DB_OK);
}

static void an_address_nobody_verified_is_left_out(void **state)
{
	struct world *w = *state;
	struct claims claims = good_claims(w);
	claims.more = ",\"email\":\"boss@id.example\",\"email_verified\":false";
	says_claims(w, w->key, &claims);
	assert_int_equal(finish(w, STR("code")), DB_OK);
	assert_string_equal(w->email, "");
}

static void only_the_issuers_keys_sign_tokens(void **state)
{
	struct world *w = *state;
	struct claims claims = good_claims(w);
	says_claims(w, w->other, &claims);
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
	assert_non_null(strstr(w->why, "signature"));
	says_token(w, w->key, "{\"alg\":\"none\"}", "{}");
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
	says_token(w, w->key, "{\"alg\":\"HS256\",\"kid\":\"one\"}", "{}");
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
	says(&w->token, 200, "{\"id_token\":\"no token at all\"}");
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
}

static void on_rest(struct net_timer *timer)
{
	net_loop_stop(LIST_OF(timer, struct world, rest)->loop);
}

/* An issuer that changes its keys is asked for the new ones, though not for every token that names one nobody knows. */
static void keys_are_fetched_anew_when_a_token_names_another(void **state)
{
	struct world *w = *state;
	assert_int_equal(finish(w, STR("code")), DB_OK);
	says_key(w, w->other, "two");
	struct claims claims = good_claims(w);
	char text[1024];
	snprintf(text, sizeof text,
	         "{\"iss\":\"%s\",\"aud\":\"" CLIENT "\",\"nonce\":\"%s\",\"sub\":\"bob\",\"iat\":%lld,\"exp\":%lld}",
	         claims.issuer, claims.nonce, (long long)claims.issued_s, (long long)claims.expires_s);
	says_token(w, w->other, "{\"alg\":\"ES256\",\"kid\":\"two\"}", text);
	net_timer_start(w->loop, &w->rest, 1100, 0, on_rest); /* it is asked once a second at most */
	net_loop_run(w->loop);
	assert_int_equal(finish(w, STR("code")), DB_OK);
	assert_string_equal(w->subject, "bob");
	assert_int_equal(w->keys_count, 2);
	says_token(w, w->other, "{\"alg\":\"ES256\",\"kid\":\"three\"}", text);
	open_oidc(w, SECRET); /* fresh keys that lack it are not asked for again */
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
	assert_int_equal(w->keys_count, 3);
}

static void an_issuer_that_describes_itself_wrongly_is_not_used(void **state)
{
	static const char *const wrong[] = {
	    "",
	    "not JSON",
	    "[]",
	    "{\"issuer\":\"https://elsewhere.example\",\"authorization_endpoint\":\"https://a\",\"token_endpoint\":\"https://a\","
	    "\"jwks_uri\":\"https://a\"}",
	    "{\"issuer\":\"%s\"}",
	    "{\"issuer\":\"%s\",\"authorization_endpoint\":\"https://a\",\"token_endpoint\":\"https://a\"}",
	    "{\"issuer\":\"%s\",\"authorization_endpoint\":\"https://a\",\"token_endpoint\":\"http://far.example\","
	    "\"jwks_uri\":\"https://a\"}",
	    "{\"issuer\":\"%s\",\"authorization_endpoint\":7,\"token_endpoint\":\"https://a\",\"jwks_uri\":\"https://a\"}",
	};
	struct world *w = *state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const char *at = strstr(wrong[i], "%s");
		int before = at ? (int)(at - wrong[i]) : (int)strlen(wrong[i]);
		says(&w->discovery, 200, "%.*s%s%s", before, wrong[i], at ? w->issuer : "", at ? at + 2 : "");
		assert_int_equal(begin(w), DB_E_INVALID);
		assert_string_equal(w->url, "");
	}
	says_discovery(w, "");
	w->discovery.status = 500;
	assert_int_equal(finish(w, STR("code")), DB_E_IO);
	w->discovery.status = 200; /* a fault is not kept */
	assert_int_equal(begin(w), DB_OK);
}

static void an_issuer_that_is_not_there_is_said_to_be_so(void **state)
{
	struct world *w = *state;
	http_server_free(w->server);
	w->server = NULL;
	assert_int_equal(begin(w), DB_E_IO);
	assert_true(w->why[0] != '\0');
	assert_int_equal(finish(w, STR("code")), DB_E_IO);
}

static void an_issuer_without_usable_keys_lets_nobody_in(void **state)
{
	struct world *w = *state;
	says(&w->keys, 404, "{}");
	assert_int_equal(finish(w, STR("code")), DB_E_IO);
	says(&w->keys, 200, "no keys");
	assert_int_equal(finish(w, STR("code")), DB_E_INVALID);
	says(&w->keys, 200, "{\"keys\":[]}");
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
}

static void the_issuers_refusal_is_told(void **state)
{
	struct world *w = *state;
	says(&w->token, 400, "{\"error\":\"invalid_grant\",\"error_description\":\"The code was used before.\"}");
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
	assert_non_null(strstr(w->why, "invalid_grant"));
	says(&w->token, 200, "{\"access_token\":\"only\"}");
	assert_int_equal(finish(w, STR("code")), DB_E_DENIED);
	says(&w->token, 502, "<html>");
	assert_true(finish(w, STR("code")) != DB_OK);
	assert_int_equal(w->keys_count, 0);
}

static void a_code_that_cannot_be_one_is_not_sent_on(void **state)
{
	struct world *w = *state;
	char long_code[4000];
	memset(long_code, 'c', sizeof long_code);
	assert_int_equal(finish(w, STR_NONE), DB_E_DENIED);
	assert_int_equal(finish(w, (struct str){long_code, sizeof long_code}), DB_E_DENIED);
	assert_int_equal(w->discovery_count + w->token_count, 0);
}

static void whoever_waits_when_the_coordinator_stops_is_told(void **state)
{
	struct world *w = *state;
	unsigned before = w->told;
	oidc_begin(w->oidc, &w->state, STR(CALLBACK), on_url, w);
	oidc_free(w->oidc);
	w->oidc = NULL;
	assert_int_equal(w->told, before + 1);
	assert_int_equal(w->code, DB_E_CLOSED);
}

static void issuers_are_asked_over_tls_or_on_this_machine(void **state)
{
	(void)state;
	assert_true(oidc_issuer_is_acceptable(STR("https://id.example/realms/one")));
	assert_true(oidc_issuer_is_acceptable(STR("http://localhost:8080")));
	assert_true(oidc_issuer_is_acceptable(STR("http://[::1]/x")));
	assert_false(oidc_issuer_is_acceptable(STR("http://id.example")));
	assert_false(oidc_issuer_is_acceptable(STR("http://localhost.id.example")));
	assert_false(oidc_issuer_is_acceptable(STR("https:///x")));
	assert_false(oidc_issuer_is_acceptable(STR("https://id.example/#x")));
	assert_false(oidc_issuer_is_acceptable(STR("https://id.example/\n")));
	assert_false(oidc_issuer_is_acceptable(STR("")));
}

#define WITH_ISSUER(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WITH_ISSUER(secrets_of_a_login_are_long_and_its_own),
	    WITH_ISSUER(the_browser_is_sent_with_state_nonce_and_only_the_hash_of_the_verifier),
	    WITH_ISSUER(a_code_and_its_verifier_become_a_person),
	    WITH_ISSUER(the_secret_goes_where_the_issuer_takes_it),
	    WITH_ISSUER(tokens_that_are_not_for_this_login_are_denied),
	    WITH_ISSUER(an_address_nobody_verified_is_left_out),
	    WITH_ISSUER(only_the_issuers_keys_sign_tokens),
	    WITH_ISSUER(keys_are_fetched_anew_when_a_token_names_another),
	    WITH_ISSUER(an_issuer_that_describes_itself_wrongly_is_not_used),
	    WITH_ISSUER(an_issuer_that_is_not_there_is_said_to_be_so),
	    WITH_ISSUER(an_issuer_without_usable_keys_lets_nobody_in),
	    WITH_ISSUER(the_issuers_refusal_is_told),
	    WITH_ISSUER(a_code_that_cannot_be_one_is_not_sent_on),
	    WITH_ISSUER(whoever_waits_when_the_coordinator_stops_is_told),
	    cmocka_unit_test(issuers_are_asked_over_tls_or_on_this_machine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
