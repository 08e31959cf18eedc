/* Attestations and challenge replies checked on workers, with real keys and signatures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/trust/check.h"
#include "core/encode.h"
#include "crypto/secret.h"
#include "wire/message.h"

#define K "e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM="

struct scene {
	struct net_loop *loop;
	struct p256_key *key;
	char public_b64[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)];
	enum attestation_verdict verdict;
	enum wire_trust max_trust;
	char serial[32];
	enum trust_outcome outcome;
	int step;
	int calls;
};

static struct scene scene_new(void)
{
	struct scene s = {.loop = net_loop_new(NULL), .key = p256_generate()};
	uint8_t xy[P256_PUBLIC_BYTES];
	assert_non_null(s.loop);
	assert_non_null(s.key);
	p256_public(s.key, xy);
	base64_encode(xy, sizeof xy, s.public_b64);
	return s;
}

static void scene_end(struct scene *s)
{
	p256_free(s->key);
	net_loop_free(s->loop);
}

static void sign(const struct scene *s, const char *serial, struct buf *out)
{
	struct wire_signer signer = wire_signer_of(s->key);
	struct attestation_blob blob = {
	    .authenticated_root_enabled = true,
	    .secure_boot_enabled = true,
	    .secure_enclave_available = true,
	    .sip_enabled = true,
	    .chip_name = STR("Apple M4 Max"),
	    .encryption_public_key = STR(K),
	    .hardware_model = STR("Mac16,6"),
	    .os_version = STR("15.3.0"),
	    .public_key = {s->public_b64, sizeof s->public_b64},
	    .serial_number = str_of(serial),
	    .timestamp = STR("2026-01-02T03:04:05Z"),
	};
	buf_init(out, 1 << 16);
	assert_int_equal(attestation_sign(&blob, &signer, out), DB_OK);
}

static void on_registration(const struct attestation_result *result, void *user)
{
	struct scene *s = user;
	s->verdict = result->verdict;
	s->max_trust = result->max_trust;
	(void)str_copy(result->blob.serial_number, s->serial, sizeof s->serial);
	s->calls++;
	net_loop_stop(s->loop);
}

static void an_attestation_is_verified_over_its_copy(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct buf text;
	sign(&s, "TESTSERIAL01", &text);
	assert_non_null(trust_check_registration(s.loop, buf_str(&text), STR(K), on_registration, &s));
	memset(text.at, 'x', text.len); /* the message is gone by then */
	net_loop_run(s.loop);
	assert_int_equal(s.verdict, ATTESTATION_VALID);
	assert_int_equal(s.max_trust >= WIRE_TRUST_SELF_SIGNED, 1);
	assert_string_equal(s.serial, "TESTSERIAL01");
	buf_free(&text);
	scene_end(&s);
}

static void a_changed_attestation_is_refused(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct buf text;
	sign(&s, "TESTSERIAL01", &text);
	char *at = memmem(text.at, text.len, "SERIAL01", 8);
	assert_non_null(at);
	at[7] = '2';
	assert_non_null(trust_check_registration(s.loop, buf_str(&text), STR(K), on_registration, &s));
	net_loop_run(s.loop);
	assert_int_equal(s.verdict, ATTESTATION_BAD_SIGNATURE);
	buf_free(&text);
	scene_end(&s);
}

struct stopper {
	struct net_timer timer;
	struct net_loop *loop;
};

static void stop_loop(struct net_timer *timer)
{
	net_loop_stop(LIST_OF(timer, struct stopper, timer)->loop);
}

static void a_cancelled_check_says_nothing(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct buf text;
	struct stopper stopper = {.loop = s.loop};
	sign(&s, "TESTSERIAL01", &text);
	struct trust_check *check = trust_check_registration(s.loop, buf_str(&text), STR(K), on_registration, &s);
	assert_non_null(check);
	trust_check_cancel(check);
	trust_check_cancel(NULL);
	net_timer_start(s.loop, &stopper.timer, 200, 0, stop_loop);
	net_loop_run(s.loop);
	assert_int_equal(s.calls, 0);
	buf_free(&text);
	scene_end(&s);
}

/* --- replies --- */

static void on_reply(enum trust_outcome outcome, const struct status_result *result, void *user)
{
	struct scene *s = user;
	s->outcome = outcome;
	s->step = result->step;
	s->calls++;
	net_loop_stop(s->loop);
}

struct reply_case {
	enum wire_tri sip, secure_boot, rdma;
	const char *public_key;
	bool is_linux, forged, version_refused;
	enum trust_outcome outcome;
};

static enum trust_outcome reply(const struct reply_case *c)
{
	struct scene s = scene_new();
	struct arena *arena = arena_new(0);
	struct p256_key *other = p256_generate();
	struct wire_signer signer = wire_signer_of(c->forged ? other : s.key);
	struct status_challenge challenge;
	struct wire_message message = {.type = WIRE_ATTESTATION_RESPONSE};
	struct wire_attestation_response *r = &message.as.attestation_response;
	struct buf text;
	status_challenge_new(&challenge, 1767323046000000);
	struct wire_challenge asked = status_challenge_message(&challenge);
	r->public_key = str_of(c->public_key);
	r->sip_enabled = c->sip;
	r->secure_boot_enabled = c->secure_boot;
	r->rdma_disabled = c->rdma;
	assert_int_equal(status_sign(r, &asked, &signer, arena), DB_OK);
	assert_true(trust_reply_is_for(r, &challenge));
	buf_init(&text, 1 << 16);
	assert_int_equal(wire_encode(&message, &text), DB_OK);
	struct trust_reply facts = {
	    .message = buf_str(&text),
	    .challenge = challenge,
	    .registered_key = STR(K),
	    .signing_key = {s.public_b64, sizeof s.public_b64},
	    .is_linux = c->is_linux,
	    .runtime_accepted = true,
	    .version_accepted = !c->version_refused,
	};
	assert_non_null(trust_check_reply(s.loop, &facts, on_reply, &s));
	buf_free(&text);
	net_loop_run(s.loop);
	assert_int_equal(s.calls, 1);
	p256_free(other);
	arena_free(arena);
	enum trust_outcome outcome = s.outcome;
	scene_end(&s);
	return outcome;
}

static void replies(void **state)
{
	(void)state;
	static const struct reply_case cases[] = {
	    {WIRE_TRUE, WIRE_TRUE, WIRE_TRUE, K, false, false, false, TRUST_PASSED},
	    {WIRE_TRUE, WIRE_UNKNOWN, WIRE_FALSE, K, false, false, false, TRUST_PASSED},
	    {WIRE_TRUE, WIRE_TRUE, WIRE_TRUE, "other", false, false, false, TRUST_FAILED},
	    {WIRE_TRUE, WIRE_TRUE, WIRE_TRUE, K, false, true, false, TRUST_FAILED},
	    {WIRE_UNKNOWN, WIRE_TRUE, WIRE_TRUE, K, false, false, false, TRUST_FAILED},
	    {WIRE_FALSE, WIRE_TRUE, WIRE_TRUE, K, false, false, false, TRUST_FAILED_HARD},
	    {WIRE_TRUE, WIRE_FALSE, WIRE_TRUE, K, false, false, false, TRUST_FAILED_HARD},
	    {WIRE_TRUE, WIRE_TRUE, WIRE_UNKNOWN, K, false, false, false, TRUST_FAILED},
	    {WIRE_FALSE, WIRE_FALSE, WIRE_FALSE, K, true, false, false, TRUST_PASSED},
	    {WIRE_TRUE, WIRE_TRUE, WIRE_TRUE, K, false, false, true, TRUST_INCONCLUSIVE},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (reply(&cases[i]) != cases[i].outcome)
			fail_msg("case %zu", i);
}

static void nonces_of_any_length_are_compared(void **state)
{
	(void)state;
	struct status_challenge challenge;
	struct wire_attestation_response r = {.nonce = STR("A")};
	status_challenge_new(&challenge, 0);
	assert_false(trust_reply_is_for(&r, &challenge));
	r.nonce = STR_NONE;
	assert_false(trust_reply_is_for(&r, &challenge));
	r.nonce = str_of(challenge.nonce);
	assert_true(trust_reply_is_for(&r, &challenge));
}

int main(void)
{
	assert_int_equal(crypto_init(), DB_OK);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_attestation_is_verified_over_its_copy), cmocka_unit_test(a_changed_attestation_is_refused),
	    cmocka_unit_test(a_cancelled_check_says_nothing),           cmocka_unit_test(replies),
	    cmocka_unit_test(nonces_of_any_length_are_compared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
