/* HTTP/1.1 and HTTP/2 server, TLS and clear text (h2 by ALPN, or by prior knowledge in clear text; the h2c upgrade is ignored).
 *
 * A request's life: headers arrive -> `on_head` chooses a body limit or answers -> the whole body arrives -> `on_request`.
 * The handler then answers whole (http_respond) or as a stream (http_stream_start, http_stream_write, http_stream_end),
 * at once or later on the loop thread. If the client leaves first, the request's `on_gone` is called exactly once, after
 * which the request must not be touched. A request ends when its answer has been handed over or on_gone has returned.
 *
 * Streams have pull-style back-pressure, as in h2o: write while http_stream_room() > 0; after that wait for `on_room`.
 * Nothing is ever dropped: a write past the room is still queued (up to HTTP_STREAM_HARD_BYTES, then DB_E_LIMIT).
 *
 * A handler may do anything inside a callback: answer, abort, free the server.
 *
 * Limits (net-stack.md): header bytes and time, body bytes and time, HTTP/2 streams and resets, idle keep-alive.
 * An idle connection holds no I/O buffer. Writes of one loop turn are coalesced. TCP_NODELAY always. */
#ifndef NET_HTTP_SERVER_H
#define NET_HTTP_SERVER_H

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"
#include "net/loop.h"
#include "net/tls.h"

struct http_server;
struct http_request;

#define HTTP_STREAM_SOFT_BYTES (64u << 10) /* room() is what is left of this */
#define HTTP_STREAM_HARD_BYTES (8u << 20)

struct http_header {
	struct str name, value;
};

struct http_server_options {
	const char *host;           /* "127.0.0.1", "::", ... */
	uint16_t port;              /* 0 = any free one: see http_server_port */
	const char *unix_path;      /* listen on this Unix socket, mode 0600, instead; http_peer is then "local" */
	struct tls_context *tls;    /* NULL = clear text */
	uint32_t max_header_bytes;  /* 0 = 64 KiB */
	uint32_t header_timeout_ms; /* 0 = 5,000 */
	uint32_t body_timeout_ms;   /* 0 = 30,000 without progress */
	uint32_t idle_timeout_ms;   /* 0 = 120,000; also how long a client may leave an answer untaken */
	uint32_t max_streams;       /* concurrent HTTP/2 streams a connection, 0 = 256 */
	uint32_t max_connections;   /* 0 = 100,000 */
	void *context;              /* for the callbacks */

	/* Headers are complete. Return the largest body to accept, or -1 after answering here (the body is then discarded; a -1
	 * without an answer becomes a 500). NULL = 64 MiB for all. A larger body is answered by `on_body_too_large`, at once or
	 * later, or 413 with no body when that is NULL. `on_request` does not follow either. */
	int64_t (*on_head)(struct http_request *request, void *context);
	void (*on_request)(struct http_request *request, void *context);
	void (*on_body_too_large)(struct http_request *request, void *context);
};

/* Binds and listens. error says which address is in use and what to do. */
struct http_server *http_server_new(struct net_loop *loop, const struct http_server_options *options, struct error *error);
uint16_t http_server_port(const struct http_server *server);
/* Stop accepting; idle connections close, busy ones get `Connection: close` / GOAWAY and close when done. `drained` is called
 * once when the last one is gone. */
void http_server_drain(struct http_server *server, void (*drained)(void *arg), void *arg);
/* Closes everything at once; on_gone is called for open requests. */
void http_server_free(struct http_server *server);
size_t http_server_connections(const struct http_server *server);

/* --- request (all borrowed until the request ends) --- */
struct str http_method(const struct http_request *request);
struct str http_path(const struct http_request *request);  /* percent-decoded is the caller's business; without the query */
struct str http_query(const struct http_request *request); /* without '?', may be empty */
struct str http_header_get(const struct http_request *request, const char *lower_case_name); /* at == NULL when absent */
struct str http_body(const struct http_request *request);
struct str http_peer(const struct http_request *request);     /* remote address as text, without the port */
struct arena *http_arena(struct http_request *request);       /* lives, and is wiped, with the request */
uint64_t http_started_us(const struct http_request *request); /* when its first byte arrived, net_now_us time */
void http_set_user(struct http_request *request, void *user);
void *http_user(const struct http_request *request);
/* Called once if the client leaves before the answer was handed over. */
void http_set_on_gone(struct http_request *request, void (*on_gone)(struct http_request *request, void *user));

/* --- answer --- */
/* A header for the coming answer; copied. CR, LF and NUL in a value are refused (DB_E_INVALID), as are the names that belong to
 * the framing: connection, content-length, date, keep-alive, transfer-encoding. */
enum db_err http_add_header(struct http_request *request, const char *name, struct str value);
/* content_type may be NULL. The body is copied. Ends the request. HEAD sends no body but the right length. */
void http_respond(struct http_request *request, int status, const char *content_type, struct str body);

/* Sends status and headers now. on_room: room() rose above zero again. */
void http_stream_start(struct http_request *request, int status, const char *content_type,
                       void (*on_room)(struct http_request *request, void *user));
size_t http_stream_room(const struct http_request *request);                   /* bytes before the producer should pause */
enum db_err http_stream_write(struct http_request *request, struct str bytes); /* copied, or sent at once */
void http_stream_end(struct http_request *request);                            /* ends the request */
/* Resets the stream or closes the connection, so that what was sent cannot be taken for a whole answer; ends the request. */
void http_stream_abort(struct http_request *request);

const char *http_status_text(int status);

#endif
