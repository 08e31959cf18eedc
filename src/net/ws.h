/* RFC 6455 WebSockets, server and client, over the same connections as HTTP. Masking, fragments, control frames, close codes
 * and UTF-8 are checked as the RFC says; no extensions. Fragments are joined, up to max_message_bytes (more: close 1009). */
#ifndef NET_WS_H
#define NET_WS_H

#include "core/error.h"
#include "core/str.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/tls.h"

struct ws;

enum ws_kind { WS_TEXT = 1, WS_BINARY = 2 };

struct ws_handler {
	/* A whole message; the bytes are borrowed, and may be changed in place, until it returns. None comes after ws_close. */
	void (*on_message)(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user);
	void (*on_pong)(struct ws *ws, void *user); /* may be NULL */
	void (*on_drain)(struct ws *ws,
	                 void *user); /* queued bytes fell below half of max_queued_bytes after DB_E_AGAIN; may be NULL */
	/* Exactly once, also after ws_close or ws_abort by us, and never from inside a call of ours. `code` is the peer's (1005
	 * when its close frame had none), or what we told a peer that broke the protocol (1002, 1007, 1009), or 1006 when the
	 * connection ended without a close frame; then `reason` is a sentence for logs. The ws is freed when it returns. */
	void (*on_close)(struct ws *ws, int code, struct str reason, void *user);
};

struct ws_limits {
	size_t max_message_bytes; /* 0 = 10 MiB */
	size_t max_queued_bytes;  /* unsent bytes at which ws_send refuses the next message, 0 = 16 MiB */
	uint32_t write_stall_ms;  /* no byte accepted by the peer for so long with data queued: abort. 0 = 30,000; grain 250 */
};

/* Turns an HTTP/1.1 upgrade request into a WebSocket and ends the request. NULL, with the right HTTP error answered, when it
 * is not a valid handshake. The handler must live as long as the ws. */
struct ws *ws_accept(struct http_request *request, const struct ws_handler *handler, const struct ws_limits *limits,
                     void *user);

struct ws_connect_options {
	const char *url;         /* ws://host[:port]/path or wss://... */
	struct tls_context *tls; /* needed for wss */
	const struct http_header *headers;
	size_t header_count;
	uint32_t timeout_ms; /* for the whole handshake, 0 = 10,000 */
	const char *source;  /* an IPv4 address of this machine to come from, or NULL */
	struct ws_limits limits;
};
/* `opened` is called once with the ws, or NULL and an error. Returns NULL only when the URL is bad (opened is not called). */
struct ws_connecting;
struct ws_connecting *ws_connect(struct net_loop *loop, const struct ws_connect_options *options,
                                 const struct ws_handler *handler,
                                 void (*opened)(struct ws *ws, const struct error *error, void *user), void *user,
                                 struct error *error);
void ws_connect_cancel(struct ws_connecting *connecting); /* before opened was called */

/* Copied or sent at once; the sends of one loop turn are coalesced. DB_E_AGAIN: nothing was queued, wait for on_drain. */
enum db_err ws_send(struct ws *ws, enum ws_kind kind, struct str message);
enum db_err ws_ping(struct ws *ws);
void ws_close(struct ws *ws, int code, const char *reason); /* close handshake, at most 2 s */
void ws_abort(struct ws *ws);                               /* drops the socket; on_close follows on this or the next turn */
size_t ws_queued_bytes(const struct ws *ws);
/* Stop and resume reading, to push back on the peer. Messages already received wait for ws_resume and are delivered after it
 * returned. A paused ws does not see pings, so it does not answer them; when the peer leaves, what waits is dropped. */
void ws_pause(struct ws *ws);
void ws_resume(struct ws *ws);
struct str ws_peer(const struct ws *ws);
void ws_set_user(struct ws *ws, void *user);
void *ws_user(const struct ws *ws);

#endif
