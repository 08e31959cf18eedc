/* The challenge loop of a session (protocol-and-trust 6): one outstanding at a time, replies verified on workers. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"

static void send_trust_status(struct session *session, const char *reason)
{
	bool untrusted = session->standing.untrusted;
	struct wire_message message = {
	    .type = WIRE_TRUST_STATUS,
	    .as.trust_status = {.trust_level = (enum wire_trust)session->standing.level,
	                        .status = untrusted ? STR("untrusted") : STR("online"),
	                        .reason = untrusted ? str_of(reason) : STR_NONE},
	};
	(void)session_send(session, &message);
}

/* The newest connection of a serial stays; the older goes when the newer has shown that it holds the key (14.15). False when
 * this one is the older. */
static bool claim_serial(struct session *session)
{
	struct fleet *fleet = session->fleet;
	struct str serial = session_text(session, TEXT_SERIAL);
	if (!serial.len || !session->attested)
		return true;
	struct session *other = map_get(&fleet->by_serial, serial);
	if (other == session)
		return true;
	if (other && other->order > session->order) {
		log_info("provider.replaced", "provider=%s by=%s", session->id, other->id);
		session_drop(session);
		return false;
	}
	if (other) {
		log_info("provider.replaced", "provider=%s by=%s", other->id, session->id);
		session_drop(other);
	}
	if (map_put(&fleet->by_serial, session_text(session, TEXT_SERIAL), session, NULL))
		log_warn("provider.serial", "provider=%s error=nomem", session->id);
	return true;
}

static void on_timer(struct net_timer *timer);

static void schedule_next(struct session *session)
{
	if (!session->standing.hard)
		net_timer_start(session->fleet->loop, &session->timer, session->fleet->options.challenge_interval_ms, 0, on_timer);
}

/* The end of a round. The session may be closing afterwards. */
static void conclude(struct session *session, enum trust_outcome outcome, const char *reason)
{
	struct fleet *fleet = session->fleet;
	struct trust_effect effect = trust_challenged(&session->standing, outcome, net_now_us(fleet->loop));
	metric_add(outcome == TRUST_PASSED ? fleet->metrics.challenges_passed : fleet->metrics.challenges_failed, 1);
	if (outcome == TRUST_PASSED) {
		if (!session->proven && !claim_serial(session))
			return;
		session->proven = true;
	} else {
		log_warn("provider.challenge_failed", "provider=%s failures=%u untrusted=%d why=\"%s\"", session->id,
		         session->standing.failures, session->standing.untrusted, reason);
	}
	session_update_facts(session);
	route_node_challenged(fleet->routes, session->node, outcome == TRUST_PASSED);
	if (effect.tell)
		send_trust_status(session, reason);
	if (effect.close)
		session_close(session, 1008, "attestation unresponsive \xe2\x80\x94 reconnect required");
	else if (!session->closing)
		schedule_next(session);
}

static void on_timer(struct net_timer *timer)
{
	struct session *session = LIST_OF(timer, struct session, timer);
	if (!session->challenge) {
		session_challenge(session);
		return;
	}
	free(session->challenge);
	session->challenge = NULL;
	conclude(session, TRUST_NO_REPLY, "no reply to the challenge");
}

void session_challenge(struct session *session)
{
	struct fleet *fleet = session->fleet;
	struct status_challenge *challenge = malloc(sizeof *challenge);
	if (!challenge) {
		schedule_next(session);
		return;
	}
	status_challenge_new(challenge, clock_wall_us());
	free(session->challenge);
	session->challenge = challenge;
	struct wire_message message = {.type = WIRE_CHALLENGE, .as.challenge = status_challenge_message(challenge)};
	(void)session_send(session, &message); /* not sent is not answered */
	net_timer_start(fleet->loop, &session->timer, fleet->options.challenge_timeout_ms, 0, on_timer);
}

static void on_verified(enum trust_outcome outcome, const struct status_result *result, void *user)
{
	struct session *session = user;
	session->check = NULL;
	conclude(session, outcome, result->why.text);
}

void session_challenge_reply(struct session *session, const struct wire_attestation_response *reply, struct str text)
{
	if (!session->challenge || !trust_reply_is_for(reply, session->challenge)) {
		log_debug("provider.challenge_unknown", "provider=%s", session->id);
		return;
	}
	struct trust_reply facts = {
	    .message = text,
	    .challenge = *session->challenge,
	    .registered_key = session_text(session, TEXT_PUBLIC_KEY),
	    .signing_key = session_text(session, TEXT_SE_PUBLIC_KEY),
	    .is_linux = session->is_linux,
	    .runtime_accepted = true,
	    .version_accepted = session->version_ok,
	};
	session->check = trust_check_reply(session->fleet->loop, &facts, on_verified, session);
	if (!session->check)
		return; /* out of memory: the round ends as if nothing had come */
	net_timer_stop(&session->timer);
	free(session->challenge);
	session->challenge = NULL;
}

void session_stop_challenges(struct session *session)
{
	net_timer_stop(&session->timer);
	trust_check_cancel(session->check);
	session->check = NULL;
	free(session->challenge);
	session->challenge = NULL;
}

void session_violation(struct session *session, const char *what)
{
	log_warn("provider.violation", "provider=%s what=\"%s\"", session->id, what);
	metric_add(session->fleet->metrics.violations, 1);
	trust_violated(&session->standing);
	session_stop_challenges(session);
	session_update_facts(session);
}
