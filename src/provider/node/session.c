#include "provider/node/node_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/secret.h"

#define HEARTBEAT_DEFAULT_MS 5000
#define OUTBOUND_QUEUE_BYTES (8u << 20)
#define UNSENT_MAX           1024
#define CLOSE_GOING_AWAY     1001

const char *node_state_name(enum node_state state)
{
	static const char *const names[] = {"connecting", "registered", "draining", "stopped"};
	return names[state];
}

enum db_err node_websocket_url(const char *coordinator_url, char *out, size_t size, struct error *error)
{
	static const struct {
		struct str from, to;
	} schemes[] = {{{"ws://", 5}, {"ws://", 5}},
	               {{"wss://", 6}, {"wss://", 6}},
	               {{"http://", 7}, {"ws://", 5}},
	               {{"https://", 8}, {"wss://", 6}}};
	struct str url = str_trim(str_of(coordinator_url)), scheme = STR_NONE, path = STR("/ws/provider");
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		if (!str_starts(url, schemes[i].from))
			continue;
		scheme = schemes[i].to;
		url = str_sub(url, schemes[i].from.len, url.len);
	}
	while (str_ends(url, STR("/")))
		url.len--;
	if (str_ends(url, path))
		url.len -= path.len;
	if (!scheme.len || !url.len || memchr(url.at, '/', url.len) || memchr(url.at, ' ', url.len))
		return error_set(
		    error, DB_E_INVALID,
		    "\"%s\" is not a coordinator's address: give one like https://coordinator.example or ws://127.0.0.1:8080",
		    coordinator_url);
	int n = snprintf(out, size, "%.*s%.*s%.*s", STR_ARG(scheme), STR_ARG(url), STR_ARG(path));
	return n > 0 && (size_t)n < size ? DB_OK : error_set(error, DB_E_LIMIT, "the coordinator's address is too long");
}

/* --- sending --- */

void node_changed(struct node *node)
{
	node->status.requests_active = node->all.count;
	node->status.requests_served = (uint64_t)node->stats.requests_served;
	node->status.tokens_generated = (uint64_t)node->stats.tokens_generated;
	if (node->options.on_change)
		node->options.on_change(&node->status, node->options.user);
}

enum db_err node_send_text(struct node *node, struct str text)
{
	if (!node->ws)
		return DB_E_CLOSED;
	enum db_err err = ws_send(node->ws, WS_TEXT, text);
	if (err == DB_E_AGAIN)
		node->blocked = true;
	return err;
}

/* Sends what waits, in order; whatever belongs to no request goes before the requests' messages. */
static void flush(struct node *node)
{
	for (struct outbound *first; !node->blocked && (first = outbound_first(&node->unsent));)
		if (node_send_text(node, buf_str(&first->text)) != DB_E_AGAIN)
			outbound_free(&node->unsent, first);
}

enum db_err node_send(struct node *node, const struct wire_message *message)
{
	if (!node->ws)
		return DB_E_CLOSED;
	if (node->unsent.count >= UNSENT_MAX) {
		log_warn("node.unsent", "messages=%zu", node->unsent.count);
		ws_abort(node->ws);
		return DB_E_LIMIT;
	}
	enum db_err err = outbound_push_message(&node->unsent, message);
	if (err)
		log_error("node.encode_failed", "type=%s error=%s", wire_type_name(message->type), error_name(err));
	flush(node);
	return err;
}

/* --- receiving --- */

static void on_trust_status(struct node *node, const struct wire_trust_status *message)
{
	struct node_status *status = &node->status;
	str_copy(str_of(wire_trust_name(message->trust_level)), status->trust_level, sizeof status->trust_level);
	str_copy(str_sub(message->status, 0, sizeof status->trust_status - 1), status->trust_status, sizeof status->trust_status);
	str_copy(str_sub(message->reason, 0, sizeof status->trust_reason - 1), status->trust_reason, sizeof status->trust_reason);
	log_info("node.trust", "level=%s status=%s reason=\"%s\"", status->trust_level, status->trust_status, status->trust_reason);
	node_changed(node);
}

static void dispatch(struct node *node, const struct wire_message *message)
{
	switch (message->type) {
	case WIRE_REQUEST:
		node_request_start(node, &message->as.request);
		break;
	case WIRE_CANCEL:
		node_request_cancel(node, message->as.cancel.request_id);
		break;
	case WIRE_CREDIT:
		node_request_credit(node, message->as.credit.request_id, message->as.credit.chunks);
		break;
	case WIRE_CHALLENGE:
		node_answer_challenge(node, &message->as.challenge);
		break;
	case WIRE_TRUST_STATUS:
		on_trust_status(node, &message->as.trust_status);
		break;
	case WIRE_RUNTIME_STATUS:
		log_warn("node.runtime", "verified=%d mismatches=%zu", message->as.runtime_status.verified,
		         message->as.runtime_status.mismatch_count);
		break;
	case WIRE_LOAD_MODEL:
		node_load_model(node, &message->as.load_model);
		break;
	case WIRE_PREFETCH_MODEL:
		node_prefetch_model(node, &message->as.prefetch_model);
		break;
	case WIRE_DESIRED_MODELS:
		node_desired_models(node, &message->as.desired_models);
		break;
	default:
		log_warn("node.unexpected", "type=%s", wire_type_name(message->type));
	}
}

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	struct node *node = user;
	struct wire_message message;
	struct error why;
	(void)ws;
	(void)kind; /* a binary frame is read as text too (1.1) */
	if (!node->heard) {
		node->heard = true;
		node->backoff_ms = NODE_BACKOFF_MIN_MS;
	}
	struct arena *arena = arena_new(0);
	if (!arena)
		return;
	if (wire_decode((struct str){data, len}, arena, &message, &why))
		log_warn("node.bad_message", "bytes=%zu why=\"%s\"", len, why.text);
	else
		dispatch(node, &message);
	arena_free(arena);
	secret_wipe(data, len); /* a request's body is sealed, but its size and ids need not linger */
}

static void on_pong(struct ws *ws, void *user)
{
	(void)ws;
	((struct node *)user)->last_pong_us = clock_mono_us();
}

static void on_drain(struct ws *ws, void *user)
{
	struct node *node = user;
	(void)ws;
	node->blocked = false;
	flush(node);
	node_requests_flush(node);
}

/* --- connecting --- */

static void connect_now(struct node *node);

static void on_reconnect_timer(struct net_timer *timer)
{
	connect_now((struct node *)(void *)((char *)timer - offsetof(struct node, reconnect_timer)));
}

/* Exponential with equal jitter (protocol-and-trust 1.5): half fixed, half random. */
static void schedule_reconnect(struct node *node)
{
	if (node->draining || node->freed)
		return;
	uint32_t random;
	id_random(&random, sizeof random);
	uint32_t half = node->backoff_ms / 2;
	net_timer_start(node->loop, &node->reconnect_timer, half + random % (half + 1), 0, on_reconnect_timer);
	node->backoff_ms = node->backoff_ms < NODE_BACKOFF_MAX_MS / 2 ? node->backoff_ms * 2 : NODE_BACKOFF_MAX_MS;
}

static void remember_error(struct node *node, const char *why)
{
	str_copy(str_sub(str_of(why), 0, sizeof node->status.last_error - 1), node->status.last_error,
	         sizeof node->status.last_error);
}

static void session_lost(struct node *node, const char *why)
{
	remember_error(node, why);
	log_info("node.disconnected", "why=\"%s\"", node->status.last_error);
	node->ws = NULL;
	node->blocked = false;
	outbound_drop(&node->unsent);
	node->session++;
	node->status.registered_since_us = 0;
	if (node->status.state == NODE_REGISTERED)
		node->status.state = NODE_CONNECTING;
	net_timer_stop(&node->heartbeat_timer);
	net_timer_stop(&node->ping_timer);
	node_requests_orphan(node);
	node_loads_forget(node);
	node_changed(node);
	schedule_reconnect(node);
	node_maybe_drained(node);
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	struct node *node = user;
	char why[160];
	(void)ws;
	if (reason.len)
		snprintf(why, sizeof why, "the coordinator closed the connection (%d): %.*s", code, STR_ARG(str_sub(reason, 0, 100)));
	else
		snprintf(why, sizeof why, "the connection to the coordinator ended (%d)", code);
	session_lost(node, why);
	node_release(node);
}

static void on_heartbeat_timer(struct net_timer *timer)
{
	struct node *node = (struct node *)(void *)((char *)timer - offsetof(struct node, heartbeat_timer));
	node_send_heartbeat(node);
	node_changed(node);
}

static void on_ping_timer(struct net_timer *timer)
{
	struct node *node = (struct node *)(void *)((char *)timer - offsetof(struct node, ping_timer));
	int64_t now = clock_wall_us(), limit_us = (int64_t)node->ping_ms * 1000 * NODE_SILENCE_PINGS;
	bool suspended = now - node->last_tick_us > limit_us;
	bool silent = clock_mono_us() - node->last_pong_us > (uint64_t)limit_us;
	node->last_tick_us = now;
	if (suspended || silent) {
		log_warn("node.silent", "suspended=%d", suspended);
		node->backoff_ms = NODE_BACKOFF_MIN_MS;
		ws_abort(node->ws);
		return;
	}
	ws_ping(node->ws);
}

static const struct ws_handler handler = {on_message, on_pong, on_drain, on_close};

static void on_opened(struct ws *ws, const struct error *error, void *user)
{
	struct node *node = user;
	node->connecting = NULL;
	if (!ws) {
		remember_error(node, error->text);
		log_warn("node.connect_failed", "why=\"%s\"", error->text);
		node_changed(node);
		schedule_reconnect(node);
		node_maybe_drained(node);
		return;
	}
	node->ws = ws;
	node->heard = false;
	node->last_pong_us = clock_mono_us();
	node->last_tick_us = clock_wall_us();
	if (node_send_register(node)) {
		ws_abort(ws);
		return;
	}
	node->status.state = NODE_REGISTERED;
	node->status.registered_since_us = clock_wall_us();
	node->status.last_error[0] = '\0';
	node->status.sessions++;
	uint32_t heartbeat_ms = node->options.heartbeat_ms ? node->options.heartbeat_ms : HEARTBEAT_DEFAULT_MS;
	net_timer_start(node->loop, &node->heartbeat_timer, heartbeat_ms, heartbeat_ms, on_heartbeat_timer);
	net_timer_start(node->loop, &node->ping_timer, node->ping_ms, node->ping_ms, on_ping_timer);
	log_info("node.registered", "url=%s models=%zu", node->url, residency_count(node->options.residency));
	node_send_heartbeat(node); /* capacity at once: no first interval of being taken for cold */
	node_changed(node);
}

static void connect_now(struct node *node)
{
	struct error error = {0};
	struct ws_connect_options options = {
	    .url = node->url,
	    .tls = node->tls,
	    .limits = {.max_message_bytes = WIRE_MAX_TO_PROVIDER, .max_queued_bytes = OUTBOUND_QUEUE_BYTES},
	};
	node->connecting = ws_connect(node->loop, &options, &handler, on_opened, node, &error);
	if (!node->connecting) {
		remember_error(node, error.text);
		log_error("node.connect_failed", "why=\"%s\"", error.text);
		schedule_reconnect(node);
	}
}

/* --- life --- */

static enum db_err platform_sign_for_wire(const void *context, struct str message, struct buf *signature)
{
	return platform_sign(context, message, signature);
}

static enum db_err copy_options(struct node *node, const struct node_options *options, struct error *error)
{
	node->options = *options;
	enum db_err err = node_websocket_url(options->coordinator_url, node->url, sizeof node->url, error);
	if (err)
		return err;
	if (options->auth_token) {
		size_t size = strlen(options->auth_token) + 1;
		node->auth_token = secret_alloc(size);
		if (!node->auth_token)
			return error_set(error, DB_E_NOMEM, "out of locked memory for the account token");
		memcpy(node->auth_token, options->auth_token, size);
	}
	if (str_starts(str_of(node->url), STR("wss://"))) {
		node->tls = tls_client_new(options->ca_path, error);
		if (!node->tls)
			return DB_E_IO;
	}
	return DB_OK;
}

struct node *node_new(struct net_loop *loop, const struct node_options *options, struct error *error)
{
	struct node *node = calloc(1, sizeof *node);
	if (!node) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	node->loop = loop;
	node->backoff_ms = NODE_BACKOFF_MIN_MS;
	node->ping_ms = options->ping_ms ? options->ping_ms : NODE_PING_MS;
	map_init(&node->requests);
	replay_init(&node->blind_seen, 2ull * NODE_BLIND_WINDOW_S * 1000000, NODE_BLIND_REMEMBERED);
	list_init(&node->unsent);
	list_init(&node->all);
	list_init(&node->loads);
	buf_init(&node->attestation, 64 << 10);
	node->box = secret_alloc(sizeof *node->box);
	if (!node->box) {
		error_set(error, DB_E_NOMEM, "out of locked memory for the session key: raise the memlock limit (ulimit -l)");
		goto fail;
	}
	box_keypair_new(node->box);
	wire_key_encode(node->box->public_key, node->box_public_b64);
	if (copy_options(node, options, error))
		goto fail;
	node->signer = (struct wire_signer){platform_sign_for_wire, options->signer};
	if (node_make_attestation(node, error) || node_builds_start(node, error))
		goto fail;
	connect_now(node);
	return node;
fail:
	node_free(node);
	return NULL;
}

void node_status(const struct node *node, struct node_status *out)
{
	*out = node->status;
	out->requests_active = node->all.count;
	out->requests_served = (uint64_t)node->stats.requests_served;
	out->tokens_generated = (uint64_t)node->stats.tokens_generated;
}

void node_maybe_drained(struct node *node)
{
	if (!node->draining || !node->drained || (node->all.count && !node->gave_up))
		return;
	if (node->ws && !node->gave_up) { /* on_close comes back here */
		ws_close(node->ws, CLOSE_GOING_AWAY, "provider stopping");
		return;
	}
	void (*drained)(void *arg) = node->drained;
	node->drained = NULL;
	net_timer_stop(&node->drain_timer);
	node->status.state = NODE_STOPPED;
	node_changed(node);
	drained(node->drained_arg);
}

static void on_drain_grace(struct net_timer *timer)
{
	struct node *node = (struct node *)(void *)((char *)timer - offsetof(struct node, drain_timer));
	log_warn("node.drain_gave_up", "requests=%zu", node->all.count);
	node->gave_up = true;
	node_maybe_drained(node);
}

static void on_drain_limit(struct net_timer *timer)
{
	struct node *node = (struct node *)(void *)((char *)timer - offsetof(struct node, drain_timer));
	log_warn("node.drain_limit", "cancelled=%zu", node->all.count);
	net_timer_start(node->loop, &node->drain_timer, NODE_DRAIN_GRACE_MS, 0, on_drain_grace);
	node_requests_cancel_all(node);
}

void node_drain(struct node *node, uint32_t limit_ms, void (*drained)(void *arg), void *arg)
{
	if (node->draining && !node->drained)
		return; /* it is over */
	net_timer_start(node->loop, &node->drain_timer, limit_ms, 0, on_drain_limit);
	if (node->draining)
		return;
	node->draining = true;
	node->drained = drained;
	node->drained_arg = arg;
	node->status.state = NODE_DRAINING;
	net_timer_stop(&node->reconnect_timer);
	if (node->connecting) {
		ws_connect_cancel(node->connecting);
		node->connecting = NULL;
	}
	node_send_heartbeat(node); /* tells that we drain */
	node_changed(node);
	node_maybe_drained(node);
}

void node_release(struct node *node)
{
	if (!node->freed || node->workers || node->all.count || node->ws)
		return;
	outbound_drop(&node->unsent);
	map_free(&node->requests);
	replay_free(&node->blind_seen);
	buf_free(&node->attestation);
	secret_free(node->auth_token);
	secret_free(node->box);
	tls_free(node->tls);
	free(node);
}

void node_free(struct node *node)
{
	if (!node)
		return;
	node->drained = NULL;
	node->options.on_change = NULL;
	net_timer_stop(&node->reconnect_timer);
	net_timer_stop(&node->heartbeat_timer);
	net_timer_stop(&node->ping_timer);
	net_timer_stop(&node->drain_timer);
	net_timer_stop(&node->queue_timer);
	if (node->connecting)
		ws_connect_cancel(node->connecting);
	node->connecting = NULL;
	node_requests_orphan(node);
	node_loads_forget(node);
	builds_free(node->builds);
	node->builds = NULL;
	if (node->ws)
		ws_abort(node->ws); /* on_close releases */
	node->freed = true;
	node_release(node);
}
