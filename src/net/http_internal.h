/* What the files of net/ share about the HTTP server. Nothing outside net/ includes this.
 *
 *   http_server.c   listener, limits, drain
 *   http_conn.c     a connection: its stream, its timer, which protocol it speaks, its end
 *   http_request.c  a request: head, body, arena, answer; the public calls, handed on to the connection's protocol
 *   http1.c, http2.c  the two protocols (http1_write.c: how HTTP/1.1 frames an answer)
 *
 * A handler may do anything inside a callback: answer, abort, free the server. So an object that code up the stack still uses
 * is only marked as dead, and freed when that code is done: http_conn_enter / _leave, http_request_hold / _release. */
#ifndef NET_HTTP_INTERNAL_H
#define NET_HTTP_INTERNAL_H

#include "core/buf.h"
#include "net/http_fields.h"
#include "net/http_server.h"
#include "net/loop_internal.h"
#include "net/stream.h"

#define HTTP_QUEUE_BYTES (256u << 10) /* unsent bytes of a connection above which it takes no further work */

struct http1;
struct http2;
struct http_conn;
struct http_listener;

/* --- server --- */

struct http_server {
	struct net_loop *loop;
	struct http_server_options options; /* defaults filled in */
	struct http_listener *listener;     /* NULL = not accepting any more */
	struct list conns;
	struct list spare_requests;
	bool draining;
	struct net_turn drained_turn;
	void (*drained)(void *arg);
	void *drained_arg;
	int64_t date_second;
	char date[30]; /* "Sun, 06 Nov 1994 08:49:37 GMT" */
};

struct str http_server_date(struct http_server *server);
void http_server_conn_left(struct http_server *server); /* the list has one connection less */
/* Serves an already connected socket, as if it had been accepted. Takes ownership of fd. */
void http_server_adopt(struct http_server *server, int fd);

/* --- connection --- */

struct http_protocol {
	void (*read)(struct http_conn *conn, const char *data, size_t len);
	void (*drained)(struct http_conn *conn);    /* the stream's queue fell to HTTP_STREAM_SOFT_BYTES / 2 */
	void (*peer_ended)(struct http_conn *conn); /* FIN */
	void (*timeout)(struct http_conn *conn);
	void (*drain)(struct http_conn *conn);  /* finish what was begun, then close */
	void (*closed)(struct http_conn *conn); /* end every request */
	void (*free_state)(struct http_conn *conn);

	/* The request is not ended and, for write, end and abort, streaming. */
	void (*respond)(struct http_request *request, int status, struct str body);
	void (*start)(struct http_request *request, int status);
	enum db_err (*write)(struct http_request *request, struct str bytes);
	void (*end)(struct http_request *request);
	void (*abort)(struct http_request *request);
	size_t (*queued)(const struct http_request *request);
};
extern const struct http_protocol http1_protocol;
extern const struct http_protocol http2_protocol;

struct http_conn {
	struct list_link link;
	struct http_server *server;           /* NULL = freed */
	struct net_stream *stream;            /* NULL = closed, or taken away */
	const struct http_protocol *protocol; /* NULL = not known yet */
	union {
		struct http1 *http1; /* NULL while no request is open */
		struct http2 *http2;
	};
	struct net_timer timer;
	uint32_t entered;
	uint8_t sniffed; /* bytes of HTTP/2's preface seen so far */
	bool dead;
	bool closing; /* nothing that arrives counts any more */
};

void http_conn_open(struct http_server *server, int fd);
void http_conn_enter(struct http_conn *conn);
void http_conn_leave(struct http_conn *conn); /* conn may be gone after it */
void http_conn_timer(struct http_conn *conn, uint32_t after_ms);
/* Flushes and closes; gently: when the client may still be sending (see net_stream_close_gently). */
void http_conn_close(struct http_conn *conn, bool gently);
/* Flushes and resets: what is queued goes out and cannot be taken for all of it (see net_stream_cut). */
void http_conn_cut(struct http_conn *conn);
void http_conn_abort(struct http_conn *conn);
/* No more of the connection is needed: ends its requests, leaves the server. */
void http_conn_drop(struct http_conn *conn);
/* Cuts the connection off a server that is being freed. */
void http_conn_orphan(struct http_conn *conn);
/* The peer has not taken a byte for the idle time although some are waiting. */
bool http_conn_stalled(const struct http_conn *conn);

/* HTTP/2 over TLS begins without a byte from the client. */
bool http2_begin(struct http_conn *conn);

/* --- request --- */

#define HTTP_METHOD_SIZE 32

struct http_request {
	struct list_link link; /* in the connection's list (HTTP/2) or among the server's spares */
	struct http_conn *conn;
	struct arena *arena;
	char method[HTTP_METHOD_SIZE];
	struct buf target;
	struct str path, query; /* in target */
	struct http_fields head;
	struct buf body;
	struct http_fields answer;
	uint64_t started_us;

	void *user;
	void (*on_gone)(struct http_request *request, void *user);
	void (*on_room)(struct http_request *request, void *user);
	uint32_t held;
	bool seen;      /* by the handler: on_head was called */
	bool answered;  /* status and headers are out */
	bool ended;     /* the handler is done with it, or was told that the client is gone */
	bool room_due;  /* room() was zero: on_room follows */
	bool over;      /* the protocol is done with it too */
	bool body_drop; /* what still comes of the body is not wanted */

	/* HTTP/2 */
	int32_t stream_id;
	bool headless; /* the answer carries no body (HEAD, 204, 304) */
	struct net_queue out;
	uint64_t progress_us;
	bool body_done; /* the client has ended its side */
	bool out_done;  /* nothing is added to `out` any more */
	bool deferred;  /* nghttp2 waits for http_stream_write */
	bool head_bad;  /* the head breaks the rules or limits: bad_status is the answer */
	int bad_status;
	size_t head_bytes;
};

struct http_request *http_request_new(struct http_conn *conn);
void http_requests_free(struct list *spares);
void http_request_hold(struct http_request *request);
void http_request_release(struct http_request *request);
/* The protocol is done with it: recycled as soon as nobody holds it. */
void http_request_over(struct http_request *request);
/* The handler is done with it: everything it could read is wiped. */
void http_request_finish(struct http_request *request);
/* The client is gone: on_gone if it is due, then as http_request_finish. */
void http_request_gone(struct http_request *request);
/* Splits a request target. False when it is malformed. */
bool http_request_set_target(struct http_request *request);
bool http_request_is(const struct http_request *request, const char *method);
/* Calls on_room if the producer was told to wait and there is room again. */
void http_request_tell_room(struct http_request *request);
/* The handler's say about a complete head: the largest body to take, or -1 when it has answered. */
int64_t http_request_admit(struct http_request *request);
void http_request_too_large(struct http_request *request);

/* Whether an answer of this status carries a body at all. */
bool http_status_has_body(int status);

/* --- upgrade --- */

/* Takes the connection's stream away from HTTP, for an upgrade to another protocol, and ends the request without an answer
 * (on_gone is not called): copy what is still needed of it first. Allowed from on_request on, before any answer was begun.
 * The caller sets the stream's handler before it returns to the loop, and owns the stream from then on. `leftover` is
 * initialised and filled here with the bytes that already arrived behind the request; the caller frees it.
 * NULL, and nothing changed, when the request is not HTTP/1.1, was already answered, or had a body that was not read whole. */
struct net_stream *http1_take_stream(struct http_request *request, struct buf *leftover);

#endif
