#include "net/ws.h"

#include <stdlib.h>

#include "core/id.h"
#include "core/utf8.h"
#include "net/loop_internal.h"
#include "net/ws_internal.h"

enum { CLOSE_NO_STATUS = 1005, CLOSE_ABNORMAL = 1006 };

#define CONTROL_MAX        125
#define CLOSE_TIMEOUT_MS   2000
#define DEFAULT_MESSAGE    (10u << 20)
#define DEFAULT_QUEUED     (16u << 20)
#define DEFAULT_STALL_MS   30000
#define MASKED_PIECE_BYTES 8192

/* OPEN -> CLOSING when we ask to close -> CLOSED when the peer agreed. An error or the peer's wish leads from OPEN to CLOSED.
 * Then only the end of the stream is waited for. */
enum ws_state { WS_OPEN, WS_CLOSING, WS_CLOSED };

/* Received bytes that wait: for ws_resume, or right after the handshake for the end of the turn. */
struct held_bytes {
	struct net_turn turn;
	struct ws *ws;
	struct buf bytes;
};

struct ws {
	struct net_stream *stream; /* NULL when it is gone */
	struct ws_decoder *decoder;
	const struct ws_handler *handler;
	void *user;
	struct held_bytes *held;
	struct net_watch watch; /* running while something is queued or the connection is closing */
	size_t max_queued_bytes;
	uint32_t write_stall_ms;
	uint16_t close_code; /* for on_close; 0 = none yet */
	enum ws_state state : 2;
	bool client : 1, paused : 1, wants_drain : 1;
	uint64_t close_by_us;
	char *close_reason; /* the peer's, or ours when it broke the protocol */
};

static struct net_loop *loop_of(const struct ws *ws)
{
	return net_stream_loop(ws->stream);
}

/* --- the end --- */

static void drop_held(struct ws *ws)
{
	if (!ws->held)
		return;
	buf_free(&ws->held->bytes);
	free(ws->held);
	ws->held = NULL;
}

static void finish(struct ws *ws)
{
	int code = ws->close_code ? ws->close_code : CLOSE_ABNORMAL;
	ws->handler->on_close(ws, code, str_of(ws->close_reason), ws->user);
	ws_decoder_free(ws->decoder);
	drop_held(ws);
	free(ws->close_reason);
	free(ws);
}

static void remember_reason(struct ws *ws, int code, struct str reason)
{
	if (ws->close_code || ws->close_reason)
		return;
	ws->close_code = (uint16_t)code;
	ws->close_reason = calloc(1, reason.len + 1);
	if (ws->close_reason && reason.len)
		memcpy(ws->close_reason, reason.at, reason.len);
}

static void on_stream_closed(struct net_stream *stream, const struct error *why, void *user)
{
	struct ws *ws = user;
	net_watch_stop(net_stream_loop(stream), &ws->watch);
	if (ws->held)
		net_turn_cancel(net_stream_loop(stream), &ws->held->turn);
	if (!ws->close_code)
		remember_reason(ws, CLOSE_ABNORMAL, str_of(why ? why->text : NULL));
	ws->stream = NULL;
	ws->state = WS_CLOSED;
	finish(ws);
}

/* Stops everything at once; `why` is a sentence for on_close. */
static void abort_because(struct ws *ws, const char *why)
{
	if (!ws->stream)
		return; /* on_close is running */
	remember_reason(ws, CLOSE_ABNORMAL, str_of(why));
	ws->state = WS_CLOSED;
	net_stream_abort(ws->stream);
}

void ws_abort(struct ws *ws)
{
	abort_because(ws, "aborted");
}

/* --- sending --- */

/* The mask changes the bytes, so they pass through a small copy. */
static enum db_err write_masked(struct net_stream *stream, struct str payload, const uint8_t mask[4])
{
	char piece[MASKED_PIECE_BYTES];
	enum db_err err = DB_OK;
	for (size_t at = 0; at < payload.len && !err;) {
		size_t len = payload.len - at < sizeof piece ? payload.len - at : sizeof piece;
		memcpy(piece, payload.at + at, len);
		ws_mask(piece, len, mask, at);
		err = net_stream_write(stream, piece, len);
		at += len;
	}
	return err;
}

static enum db_err send_frame(struct ws *ws, enum ws_opcode opcode, struct str payload)
{
	uint8_t header[WS_HEADER_MAX], mask[4];
	if (ws->client)
		id_random(mask, sizeof mask);
	size_t header_len = ws_frame_header(opcode, payload.len, ws->client ? mask : NULL, header);
	struct str parts[2] = {{(const char *)header, header_len}, payload};
	enum db_err err = net_stream_write_parts(ws->stream, parts, ws->client ? 1 : 2);
	if (!err && ws->client)
		err = write_masked(ws->stream, payload, mask);
	if (err)
		abort_because(ws, "a frame could not be queued"); /* half of one would make nonsense of what follows */
	else
		net_watch_start(loop_of(ws), &ws->watch);
	return err;
}

enum db_err ws_send(struct ws *ws, enum ws_kind kind, struct str message)
{
	if (ws->state != WS_OPEN)
		return DB_E_CLOSED;
	if (net_stream_queued(ws->stream) >= ws->max_queued_bytes) {
		ws->wants_drain = true;
		return DB_E_AGAIN;
	}
	return send_frame(ws, kind == WS_TEXT ? WS_OP_TEXT : WS_OP_BINARY, message);
}

enum db_err ws_ping(struct ws *ws)
{
	return ws->state == WS_OPEN ? send_frame(ws, WS_OP_PING, STR_NONE) : DB_E_CLOSED;
}

static void on_stream_drain(struct net_stream *stream, void *user)
{
	(void)stream;
	struct ws *ws = user;
	if (!ws->wants_drain || ws->state != WS_OPEN)
		return;
	ws->wants_drain = false;
	if (ws->handler->on_drain)
		ws->handler->on_drain(ws, ws->user);
}

/* --- closing --- */

/* 1005 stands for "no code" and is never sent. */
static void send_close(struct ws *ws, int code, struct str reason)
{
	char payload[CONTROL_MAX];
	size_t len = 0;
	if (code != CLOSE_NO_STATUS) {
		payload[len++] = (char)(code >> 8);
		payload[len++] = (char)code;
		if (reason.len > sizeof payload - len) {
			reason.len = sizeof payload - len;
			reason.len -= utf8_incomplete_tail(reason);
		}
		if (reason.len)
			memcpy(payload + len, reason.at, reason.len);
		len += reason.len;
	}
	ws->close_by_us = net_now_us(loop_of(ws)) + CLOSE_TIMEOUT_MS * 1000u;
	send_frame(ws, WS_OP_CLOSE, (struct str){payload, len});
}

void ws_close(struct ws *ws, int code, const char *reason)
{
	if (ws->state != WS_OPEN)
		return;
	ws->state = WS_CLOSING;
	send_close(ws, code, str_of(reason));
	ws_resume(ws); /* to see the peer's answer */
}

/* The peer broke the protocol: say why, and read nothing more. */
static void fail(struct ws *ws, int code)
{
	bool say = ws->state == WS_OPEN;
	remember_reason(ws, code,
	                code == 1009   ? STR("message too big")
	                : code == 1007 ? STR("text is not UTF-8")
	                : code == 1002 ? STR("protocol error")
	                               : STR("out of memory"));
	ws->state = WS_CLOSED;
	if (say)
		send_close(ws, code, str_of(ws->close_reason));
	net_stream_close_gently(ws->stream);
}

/* RFC 6455 7.1.1: the server ends the TCP connection, the client waits for that. */
static void on_close_frame(struct ws *ws, int code, struct str reason)
{
	bool answer = ws->state == WS_OPEN;
	remember_reason(ws, code, reason);
	ws->state = WS_CLOSED;
	if (answer)
		send_close(ws, code, STR_NONE);
	if (!ws->client)
		net_stream_close(ws->stream);
}

static void on_watch(struct net_watch *watch)
{
	struct ws *ws = LIST_OF(watch, struct ws, watch);
	if (ws->state != WS_OPEN && net_now_us(loop_of(ws)) >= ws->close_by_us)
		abort_because(ws, "the closing handshake took too long");
	else if (net_stream_stalled_ms(ws->stream) >= ws->write_stall_ms)
		abort_because(ws, "the peer stopped reading");
	else if (ws->state == WS_OPEN && !net_stream_queued(ws->stream))
		net_watch_stop(loop_of(ws), watch);
}

/* --- receiving --- */

static void on_held_turn(struct net_turn *turn);

static void hold(struct ws *ws, struct str bytes)
{
	struct held_bytes *held = calloc(1, sizeof *held);
	if (held) {
		held->ws = ws;
		held->turn.fn = on_held_turn;
		buf_init(&held->bytes, bytes.len);
	}
	if (!held || buf_append_str(&held->bytes, bytes) != DB_OK) {
		free(held);
		abort_because(ws, "out of memory");
		return;
	}
	ws->held = held;
}

/* One answer to all pings of a read: RFC 6455 5.5.3 allows to answer the last only. */
struct last_ping {
	bool any;
	size_t len;
	char payload[CONTROL_MAX];
};

static void answer_ping(struct ws *ws, struct last_ping *ping)
{
	if (ping->any && ws->state == WS_OPEN)
		send_frame(ws, WS_OP_PONG, (struct str){ping->payload, ping->len});
	ping->any = false;
}

static void dispatch(struct ws *ws, const struct ws_event *event, struct last_ping *ping)
{
	switch (event->opcode) {
	case WS_OP_TEXT:
	case WS_OP_BINARY:
		if (ws->state == WS_OPEN)
			ws->handler->on_message(ws, event->opcode == WS_OP_TEXT ? WS_TEXT : WS_BINARY, event->data, event->len, ws->user);
		break;
	case WS_OP_PING:
		ping->any = true;
		ping->len = event->len;
		memcpy(ping->payload, event->data, event->len);
		break;
	case WS_OP_PONG:
		if (ws->handler->on_pong && ws->state == WS_OPEN)
			ws->handler->on_pong(ws, ws->user);
		break;
	case WS_OP_CLOSE:
		answer_ping(ws, ping);
		on_close_frame(ws, event->close_code, (struct str){event->data, event->len});
		break;
	case WS_OP_CONTINUATION:
		break;
	}
}

/* The handler may pause, close or abort inside any callback; the stream ends later, never inside a call. */
static void decode(struct ws *ws, char *data, size_t len)
{
	struct last_ping ping;
	ping.any = false;
	while (ws->state != WS_CLOSED && !ws->paused) {
		struct ws_event event;
		int close_code;
		int rc = ws_decoder_next(ws->decoder, &data, &len, &event, &close_code);
		if (rc == 0)
			break;
		if (rc > 0)
			dispatch(ws, &event, &ping);
		else
			fail(ws, close_code);
	}
	answer_ping(ws, &ping);
	if (ws->paused && len && ws->state != WS_CLOSED)
		hold(ws, (struct str){data, len});
}

static void on_stream_read(struct net_stream *stream, char *data, size_t len, void *user)
{
	(void)stream;
	decode(user, data, len);
}

static void on_held_turn(struct net_turn *turn)
{
	struct held_bytes *held = LIST_OF(turn, struct held_bytes, turn);
	struct ws *ws = held->ws;
	ws->held = NULL;
	decode(ws, held->bytes.at, held->bytes.len);
	if (!ws->paused)
		net_stream_resume(ws->stream);
	buf_free(&held->bytes);
	free(held);
}

void ws_pause(struct ws *ws)
{
	if (ws->paused || ws->state != WS_OPEN)
		return;
	ws->paused = true;
	net_stream_pause(ws->stream);
	if (ws->held)
		net_turn_cancel(loop_of(ws), &ws->held->turn);
}

void ws_resume(struct ws *ws)
{
	if (!ws->paused)
		return;
	ws->paused = false;
	if (ws->held)
		net_at_turn_end(loop_of(ws), &ws->held->turn);
	else
		net_stream_resume(ws->stream);
}

/* --- life --- */

static const struct net_stream_handler stream_handler = {
    .on_read = on_stream_read,
    .on_drain = on_stream_drain,
    .on_closed = on_stream_closed,
};

struct ws *ws_new(struct net_stream *stream, enum ws_role role, const struct ws_handler *handler,
                  const struct ws_limits *limits, struct str early, void *user)
{
	struct ws *ws = calloc(1, sizeof *ws);
	struct ws_decoder *decoder =
	    ws_decoder_new(role, limits && limits->max_message_bytes ? limits->max_message_bytes : DEFAULT_MESSAGE);
	if (!ws || !decoder) {
		ws_decoder_free(decoder);
		free(ws);
		return NULL;
	}
	ws->stream = stream;
	ws->decoder = decoder;
	ws->handler = handler;
	ws->user = user;
	ws->client = role == WS_CLIENT;
	ws->watch.fn = on_watch;
	ws->max_queued_bytes = limits && limits->max_queued_bytes ? limits->max_queued_bytes : DEFAULT_QUEUED;
	ws->write_stall_ms = limits && limits->write_stall_ms ? limits->write_stall_ms : DEFAULT_STALL_MS;
	net_stream_set_handler(stream, &stream_handler, ws);
	net_stream_set_low_water(stream, ws->max_queued_bytes / 2);
	if (early.len) {
		net_stream_pause(stream);
		hold(ws, early);
		if (ws->held)
			net_at_turn_end(loop_of(ws), &ws->held->turn);
	}
	return ws;
}

size_t ws_queued_bytes(const struct ws *ws)
{
	return ws->stream ? net_stream_queued(ws->stream) : 0;
}

struct str ws_peer(const struct ws *ws)
{
	return ws->stream ? net_stream_peer(ws->stream) : STR_NONE;
}

void ws_set_user(struct ws *ws, void *user)
{
	ws->user = user;
}

void *ws_user(const struct ws *ws)
{
	return ws->user;
}
