#include "coordinator/trust/check.h"

#include <stdlib.h>

#include "core/encode.h"
#include "wire/message.h"

#define CHECK_ARENA_BYTES (64u << 20) /* a 10 MiB message, its copy and what its lists take */

struct trust_check {
	struct arena *arena;
	void *user;
	bool cancelled;
	trust_registration_fn registration_done;
	trust_reply_fn reply_done;
	/* of a registration */
	struct str attestation, registered_key;
	struct attestation_result attested;
	/* of a reply */
	struct trust_reply reply;
	struct status_result status;
};

static struct trust_check *check_new(void *user)
{
	struct arena *arena = arena_new(CHECK_ARENA_BYTES);
	struct trust_check *check = arena ? arena_alloc(arena, sizeof *check) : NULL;
	if (!check) {
		arena_free(arena);
		return NULL;
	}
	check->arena = arena;
	check->user = user;
	return check;
}

static void check_free(struct trust_check *check)
{
	arena_free(check->arena); /* holds the check itself */
}

void trust_check_cancel(struct trust_check *check)
{
	if (check)
		check->cancelled = true;
}

/* False when the copy did not fit. */
static bool keep(struct arena *arena, struct str *text)
{
	if (text->len)
		*text = arena_str(arena, *text);
	return !text->len || text->at;
}

/* --- registration --- */

static void verify_registration(void *arg)
{
	struct trust_check *check = arg;
	attestation_verify(check->attestation, check->registered_key, check->arena, &check->attested);
}

static void registration_verified(void *arg)
{
	struct trust_check *check = arg;
	if (!check->cancelled)
		check->registration_done(&check->attested, check->user);
	check_free(check);
}

struct trust_check *trust_check_registration(struct net_loop *loop, struct str signed_attestation, struct str registered_key,
                                             trust_registration_fn done, void *user)
{
	struct trust_check *check = check_new(user);
	if (!check)
		return NULL;
	check->registration_done = done;
	check->attestation = signed_attestation;
	check->registered_key = registered_key;
	if (!keep(check->arena, &check->attestation) || !keep(check->arena, &check->registered_key)) {
		check_free(check);
		return NULL;
	}
	net_work(loop, verify_registration, registration_verified, check);
	return check;
}

/* --- challenge replies --- */

/* X | Y of a key in either of its forms (5.3). */
static bool signing_key(struct str text, uint8_t out[P256_PUBLIC_BYTES])
{
	uint8_t with_prefix[P256_PUBLIC_BYTES + 1];
	if (!base64_decode_exact(text, out, P256_PUBLIC_BYTES))
		return true;
	if (base64_decode_exact(text, with_prefix, sizeof with_prefix))
		return false;
	memcpy(out, with_prefix + 1, P256_PUBLIC_BYTES);
	return true;
}

static void verify_reply(void *arg)
{
	struct trust_check *check = arg;
	const struct trust_reply *reply = &check->reply;
	uint8_t key[P256_PUBLIC_BYTES];
	struct wire_message message;
	check->status.verdict = STATUS_FAIL;
	if (wire_decode(reply->message, check->arena, &message, &check->status.why) || message.type != WIRE_ATTESTATION_RESPONSE)
		return;
	if (reply->signing_key.len && !signing_key(reply->signing_key, key))
		return;
	struct status_policy policy = {
	    .nonce = str_of(reply->challenge.nonce),
	    .timestamp = str_of(reply->challenge.timestamp),
	    .registered_key = reply->registered_key,
	    .signing_key = reply->signing_key.len ? key : NULL,
	    .is_linux = reply->is_linux,
	    .runtime_accepted = reply->runtime_accepted,
	    .version_accepted = reply->version_accepted,
	};
	status_verify(&message.as.attestation_response, &policy, &check->status);
}

static enum trust_outcome outcome_of(enum status_verdict verdict)
{
	switch (verdict) {
	case STATUS_PASS:
		return TRUST_PASSED;
	case STATUS_HARD_UNTRUST:
		return TRUST_FAILED_HARD;
	case STATUS_SILENT_STOP:
		return TRUST_INCONCLUSIVE;
	default:
		return TRUST_FAILED;
	}
}

static void reply_verified(void *arg)
{
	struct trust_check *check = arg;
	if (!check->cancelled)
		check->reply_done(outcome_of(check->status.verdict), &check->status, check->user);
	check_free(check);
}

struct trust_check *trust_check_reply(struct net_loop *loop, const struct trust_reply *reply, trust_reply_fn done, void *user)
{
	struct trust_check *check = check_new(user);
	if (!check)
		return NULL;
	check->reply_done = done;
	check->reply = *reply;
	if (!keep(check->arena, &check->reply.message) || !keep(check->arena, &check->reply.registered_key) ||
	    !keep(check->arena, &check->reply.signing_key)) {
		check_free(check);
		return NULL;
	}
	net_work(loop, verify_reply, reply_verified, check);
	return check;
}

bool trust_reply_is_for(const struct wire_attestation_response *reply, const struct status_challenge *challenge)
{
	return challenge->nonce[0] && str_is(reply->nonce, challenge->nonce);
}
