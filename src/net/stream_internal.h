/* What the files behind net/stream.h share: stream.c (life, polling, queue), stream_tls.c (bytes through OpenSSL) and
 * stream_connect.c (names and outgoing connections). */
#ifndef NET_STREAM_INTERNAL_H
#define NET_STREAM_INTERNAL_H

#include <openssl/ssl.h>

#include "net/loop_internal.h"
#include "net/stream.h"

enum stream_state {
	STREAM_CONNECTING, /* from the name to the first byte the peer can take */
	STREAM_HANDSHAKE,
	STREAM_OPEN,
	STREAM_FLUSHING,  /* net_stream_close: what is queued goes out, what comes in is dropped */
	STREAM_LINGERING, /* our side has ended; what comes in is dropped */
	STREAM_CLOSED,    /* on_closed is on its way */
};

/* How a stream ends when its queue is out. */
enum stream_ending {
	STREAM_ENDS_AT_ONCE,
	STREAM_ENDS_GENTLY, /* after the peer's own end, see net_stream_close_gently */
	STREAM_ENDS_BY_RESET,
};

#define STREAM_PEER_SIZE 56 /* "[", an IPv6 address, "]:65535" */

struct net_stream {
	struct net_loop *loop;
	const struct net_stream_handler *handler;
	void *user;
	void (*on_open)(struct net_stream *stream, void *user);
	SSL *ssl; /* NULL = plain TCP */
	struct stream_connect *connect;
	struct error *why; /* of a failure, until on_closed */
	int fd;            /* -1 = none yet, or closed */
	int armed;         /* libuv poll events asked for */
	enum stream_state state;
	bool polled;   /* `poll` is an open libuv handle */
	bool retrying; /* `poll` is being closed to try another address */
	bool paused;
	bool ended;      /* the peer's side */
	bool blocked;    /* the kernel takes no more for now */
	bool read_waits; /* TLS must write before it can read on */
	enum stream_ending ending;
	bool above_low; /* the queue is above low_water */
	uv_poll_t poll;
	struct net_turn turn;
	struct net_timer deadline; /* of closing */
	struct net_queue queue;
	size_t low_water;
	uint64_t progress_us; /* when the peer last took a byte, or the queue stopped being empty */
	char peer[STREAM_PEER_SIZE];
};

enum { STREAM_AGAIN = -1, STREAM_FAILED = -2 };

struct net_stream *stream_new(struct net_loop *loop, const struct net_stream_handler *handler, void *user,
                              void (*on_open)(struct net_stream *stream, void *user));
/* Starts polling stream->fd for what the stream's state needs. */
bool stream_attach(struct net_stream *stream);
void stream_arm(struct net_stream *stream); /* after any change of what is waited for */
/* The bytes of the transport may flow: hands over to on_open or, with TLS, to the handshake. */
void stream_established(struct net_stream *stream);
void stream_fail(struct net_stream *stream, enum db_err code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void stream_name_peer(struct net_stream *stream);

/* --- stream_tls.c --- */
bool stream_tls_start(struct net_stream *stream, const struct tls_context *tls, const char *host, const char *alpn);
void stream_tls_handshake(struct net_stream *stream); /* one step: establishes, waits, or fails the stream */
/* Bytes read, 0 at the end, STREAM_AGAIN, or STREAM_FAILED with the stream failed. */
ssize_t stream_tls_read(struct net_stream *stream, char *into, size_t size);
ssize_t stream_tls_write(struct net_stream *stream, const char *bytes, size_t len); /* never 0 */
bool stream_tls_holds_bytes(const struct net_stream *stream);                       /* that polling the socket would not show */
void stream_tls_say_goodbye(struct net_stream *stream);

/* --- stream_connect.c --- */
void stream_connect_step(struct net_stream *stream); /* the socket became writable, or failed */
void stream_connect_forget(struct net_stream *stream);

#endif
