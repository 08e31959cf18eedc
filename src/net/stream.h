/* A connected byte stream, TCP or TLS over it, driven by uv_poll: what HTTP and WebSockets stand on. Internal to net/.
 *
 * Reading: bytes arrive in a buffer that belongs to the loop, so an idle stream holds none; the owner takes what it needs
 * before on_read returns (it may change the bytes in place). Writing: bytes are sent at once at the end of the loop turn, all
 * writes of a turn together; what the kernel does not take stays queued. Thread: the loop's. */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include "core/error.h"
#include "core/str.h"
#include "net/loop.h"
#include "net/tls.h"

struct net_stream;

struct net_stream_handler {
	void (*on_read)(struct net_stream *stream, char *data, size_t len, void *user);
	/* The queue, above `low_water` before, fell to it or below. */
	void (*on_drain)(struct net_stream *stream, void *user);
	/* The peer ended its side in order; writing is still possible. NULL = treat as closed. */
	void (*on_eof)(struct net_stream *stream, void *user);
	/* Exactly once: reset, error, or after net_stream_close finished or net_stream_abort. The stream is freed when it returns.
	 */
	void (*on_closed)(struct net_stream *stream, const struct error *why, void *user);
};

/* A stream over an accepted, non-blocking socket; takes ownership of fd. With tls the server handshake starts at once; on_open
 * (may be NULL) follows when it is done, and net_stream_alpn then says what was negotiated. Without tls the stream is open from
 * the start and on_open is not called. NULL, with fd closed, when out of memory. */
struct net_stream *net_stream_accept(struct net_loop *loop, int fd, struct tls_context *tls,
                                     void (*on_open)(struct net_stream *stream, void *user),
                                     const struct net_stream_handler *handler, void *user);
/* Resolves and connects to host:port, with tls verifies the name. on_open when ready; failure arrives at on_closed. alpn may be
 * NULL. The bytes written before on_open go out after it. NULL when out of memory. */
struct net_stream *net_stream_connect(struct net_loop *loop, const char *host, uint16_t port, struct tls_context *tls,
                                      const char *alpn, void (*on_open)(struct net_stream *stream, void *user),
                                      const struct net_stream_handler *handler, void *user);
/* Right after net_stream_connect: the connection comes from this IPv4 address of the machine, at a port of the system's choice;
 * to addresses of other families it comes from wherever the system likes. False: it is no such address. */
bool net_stream_connect_from(struct net_stream *stream, const char *source);

/* Hands the stream to a new owner (HTTP upgrade to WebSocket). */
void net_stream_set_handler(struct net_stream *stream, const struct net_stream_handler *handler, void *user);

/* Queues a copy. DB_E_CLOSED after a close, abort or failure; DB_E_NOMEM aborts the stream. Bounds are the owner's business:
 * see net_stream_queued. */
enum db_err net_stream_write(struct net_stream *stream, const void *bytes, size_t len);
enum db_err net_stream_write_parts(struct net_stream *stream, const struct str *parts, size_t count);
size_t net_stream_queued(const struct net_stream *stream);
void net_stream_set_low_water(struct net_stream *stream, size_t bytes); /* default 0 */
/* Milliseconds since the peer last took a byte while some were queued; 0 when nothing is queued. */
uint64_t net_stream_stalled_ms(const struct net_stream *stream);

void net_stream_pause(struct net_stream *stream); /* stop reading; a departed peer is still noticed */
void net_stream_resume(struct net_stream *stream);
void net_stream_close(struct net_stream *stream); /* flush what is queued (at most 10 s), then close */
/* As net_stream_close, but then ends only our side and drops what the peer still sends until it ends its own (at most 2 s):
 * closing over unread bytes would reset the connection and could take our last words with it. */
void net_stream_close_gently(struct net_stream *stream);
/* As net_stream_close, but ends in a reset, without TLS's goodbye: the peer gets what is queued, of which the reset may
 * overtake what a slow one has not read yet, and cannot take it for all. */
void net_stream_cut(struct net_stream *stream);
void net_stream_abort(struct net_stream *stream); /* drop the queue and close now; on_closed comes on this or the next turn */

struct str net_stream_alpn(const struct net_stream *stream); /* "h2", "http/1.1" or empty */
struct str net_stream_peer(const struct net_stream *stream); /* "127.0.0.1:53210" */
struct net_loop *net_stream_loop(const struct net_stream *stream);

#endif
