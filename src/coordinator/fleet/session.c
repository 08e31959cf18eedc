/* One provider's WebSocket: what comes in is decoded and handed to the file that knows about it. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"
#include "crypto/secret.h"

/* --- life --- */

_Static_assert(sizeof(struct session) <= 312, "with the allocator's word a session is five cache lines");

struct session *session_new(struct fleet *fleet)
{
	struct session *session = calloc(1, sizeof *session);
	if (!session)
		return NULL;
	session->fleet = fleet;
	id_uuid4(session->id);
	list_init(&session->jobs);
	session->last_beat_us = net_now_us(fleet->loop);
	list_push_back(&fleet->sessions, &session->link);
	list_push_back(&fleet->live, &session->beat);
	return session;
}

static void leave_lists(struct session *session)
{
	struct fleet *fleet = session->fleet;
	if (fleet->walk == &session->link)
		fleet->walk = session->link.next == &fleet->sessions.head ? NULL : session->link.next;
	list_remove(&fleet->sessions, &session->link);
	if (list_linked(&session->beat))
		list_remove(session->late ? &fleet->stale : &fleet->live, &session->beat);
}

void session_free(struct session *session)
{
	session_unregister(session);
	leave_lists(session);
	free(session);
}

static void begin_end(struct session *session)
{
	session_unregister(session);
	session->closing = true;
}

void session_drop(struct session *session)
{
	if (session->closing)
		return;
	begin_end(session);
	if (session->ws)
		ws_abort(session->ws);
}

void session_close(struct session *session, int code, const char *reason)
{
	if (session->closing)
		return;
	begin_end(session);
	if (session->ws)
		ws_close(session->ws, code, reason);
}

/* --- sending --- */

enum db_err session_send(struct session *session, const struct wire_message *message)
{
	struct buf *out = &session->fleet->out;
	if (session->closing || !session->ws)
		return DB_E_CLOSED;
	buf_clear(out);
	enum db_err err = wire_encode(message, out);
	if (!err)
		err = ws_send(session->ws, WS_TEXT, buf_str(out));
	if (err)
		log_warn("provider.send_failed", "provider=%s type=%s error=%s", session->id, wire_type_name(message->type),
		         error_name(err));
	return err;
}

/* --- receiving --- */

#define COMPLAINTS_MAX 20 /* lines in the log for what one peer sends wrong: it must not fill the disk */

static bool may_complain(struct session *session)
{
	if (session->complaints == COMPLAINTS_MAX)
		return false;
	session->complaints++;
	return true;
}

static void handle(struct session *session, const struct wire_message *message, struct str text)
{
	if (message->type == WIRE_REGISTER) {
		session_register(session, &message->as.registration);
		return;
	}
	if (!session->registered) {
		if (may_complain(session))
			log_info("provider.unregistered_message", "provider=%s type=%s", session->id, wire_type_name(message->type));
		return;
	}
	switch (message->type) {
	case WIRE_HEARTBEAT:
		session_heartbeat(session, &message->as.heartbeat);
		break;
	case WIRE_ACCEPTED:
		jobs_accepted(session, &message->as.accepted);
		break;
	case WIRE_CHUNK:
		jobs_chunk(session, &message->as.chunk);
		break;
	case WIRE_COMPLETE:
		jobs_complete(session, &message->as.complete);
		break;
	case WIRE_ERROR:
		jobs_error(session, &message->as.error);
		break;
	case WIRE_ATTESTATION_RESPONSE:
		session_challenge_reply(session, &message->as.attestation_response, text);
		break;
	case WIRE_LOAD_MODEL_STATUS:
		session_load_status(session, &message->as.load_model_status);
		break;
	case WIRE_PREFETCH_MODEL_STATUS:
		session_build_status(session, &message->as.prefetch_model_status);
		break;
	case WIRE_MODELS_UPDATE:
		session_update_models(session, &message->as.models_update);
		break;
	default:
		log_debug("provider.message_ignored", "provider=%s type=%s", session->id, wire_type_name(message->type));
	}
}

void session_take(struct session *session, struct str text)
{
	struct fleet *fleet = session->fleet;
	struct wire_message message;
	struct error error;
	if (session->closing)
		return;
	/* The hot path: no arena to reset, no document. */
	if (session->registered && wire_chunk_peek(text, &message.as.chunk)) {
		jobs_chunk(session, &message.as.chunk);
		return;
	}
	enum db_err err = wire_decode(text, fleet->arena, &message, &error);
	if (!err && !wire_type_to_coordinator(message.type))
		err = error_set(&error, DB_E_INVALID, "%s is not for a coordinator", wire_type_name(message.type));
	if (!err) {
		handle(session, &message, text);
	} else {
		metric_add(fleet->metrics.rejected_messages, 1);
		if (may_complain(session))
			log_info("provider.bad_message", "provider=%s bytes=%zu why=\"%s\"", session->id, text.len, error.text);
	}
	arena_reset(fleet->arena);
}

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	(void)ws;
	(void)kind; /* binary is read as text (protocol-and-trust 1.1) */
	if (user)
		session_take(user, (struct str){data, len});
}

static void on_pong(struct ws *ws, void *user)
{
	(void)ws;
	if (user)
		distance_answered(user);
}

static void on_drain(struct ws *ws, void *user)
{
	(void)ws;
	if (user)
		jobs_drained(user);
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	struct session *session = user;
	(void)ws;
	if (!session)
		return;
	log_info("provider.closed", "provider=%s code=%d reason=\"%.*s\"", session->id, code, STR_ARG(reason));
	session->closing = true;
	session_free(session);
}

const struct ws_handler fleet_ws_handler = {
    .on_message = on_message, .on_pong = on_pong, .on_drain = on_drain, .on_close = on_close};

/* --- what routing must know --- */

static enum route_trust route_trust_of(enum wire_trust trust)
{
	static const enum route_trust levels[] = {ROUTE_TRUST_NONE, ROUTE_TRUST_SELF_SIGNED, ROUTE_TRUST_HARDWARE};
	return levels[trust];
}

/* What outlives the connection is remembered for the key that the device proved to hold; for its serial when someone else than
 * the device itself vouches for it. */
static struct str device_of(const struct session *session)
{
	if (!session->proven || !session->attested)
		return STR_NONE;
	bool vouched = session->standing.level == WIRE_TRUST_HARDWARE && session_text(session, TEXT_SERIAL).len;
	return vouched ? session_text(session, TEXT_SERIAL) : session_text(session, TEXT_SE_PUBLIC_KEY);
}

bool session_takes_requests(const struct session *session)
{
	return session->settled && !session->lookup && !session->draining && !session->closing;
}

void session_update_facts(struct session *session)
{
	struct route_node_facts facts;
	const struct trust_standing *standing = &session->standing;
	if (!session->node)
		return;
	route_node_facts(session->fleet->routes, session->node, &facts);
	facts.connected_ok = session_takes_requests(session);
	facts.untrusted = standing->untrusted;
	facts.private_only = session->private_only;
	facts.private_text = session->private_text;
	facts.posture_verified = standing->posture_verified;
	facts.runtime_verified = session->version_ok;
	facts.trust = route_trust_of((enum wire_trust)standing->level);
	facts.last_challenge_us = standing->last_pass_us;
	facts.serial = session_text(session, TEXT_SERIAL);
	facts.device = device_of(session);
	facts.version = session_text(session, TEXT_VERSION);
	facts.chip_family = session_text(session, TEXT_CHIP_FAMILY);
	facts.blind_ok = session->blind;
	route_node_set_facts(session->fleet->routes, session->node, &facts);
	waiting_wake_node(session->fleet, session->node);
}
