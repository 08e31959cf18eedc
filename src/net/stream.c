#include "net/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "net/stream_internal.h"

#define FLUSH_MS      10000u
#define LINGER_MS     2000u
#define READS_AT_ONCE 4 /* full buffers from one stream before the others get their turn */
#define PARTS_AT_ONCE 64

/* --- life --- */

static void on_turn(struct net_turn *turn);

struct net_stream *stream_new(struct net_loop *loop, const struct net_stream_handler *handler, void *user,
                              void (*on_open)(struct net_stream *stream, void *user))
{
	struct net_stream *stream = calloc(1, sizeof *stream);
	if (!stream)
		return NULL;
	stream->loop = loop;
	stream->handler = handler;
	stream->user = user;
	stream->on_open = on_open;
	stream->fd = -1;
	stream->turn.fn = on_turn;
	return stream;
}

static void free_stream(struct net_stream *stream)
{
	struct error *why = stream->why;
	if (stream->handler->on_closed)
		stream->handler->on_closed(stream, why, stream->user);
	free(why);
	free(stream);
}

static void on_poll_closed(uv_handle_t *handle)
{
	free_stream(handle->data);
}

static void close_socket(struct net_stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
}

/* on_closed never comes from inside a call of the owner: libuv's close, or the end of the turn, brings it. */
static void finish(struct net_stream *stream)
{
	if (stream->state == STREAM_CLOSED)
		return;
	stream->state = STREAM_CLOSED;
	net_timer_stop(&stream->deadline);
	net_turn_cancel(stream->loop, &stream->turn);
	net_queue_clear(&stream->queue, net_loop_pool(stream->loop));
	SSL_free(stream->ssl);
	stream->ssl = NULL;
	if (stream->polled)
		uv_close((uv_handle_t *)&stream->poll, on_poll_closed);
	close_socket(stream);
	stream_connect_forget(stream);
	if (!stream->polled && !stream->retrying)
		net_at_turn_end(stream->loop, &stream->turn);
}

void stream_fail(struct net_stream *stream, enum db_err code, const char *format, ...)
{
	if (stream->state == STREAM_CLOSED)
		return;
	stream->why = malloc(sizeof *stream->why);
	if (stream->why) {
		va_list args;
		va_start(args, format);
		stream->why->code = code;
		vsnprintf(stream->why->text, sizeof stream->why->text, format, args);
		va_end(args);
	}
	finish(stream);
}

static void fail_system(struct net_stream *stream, const char *doing, int system_error)
{
	stream_fail(stream, DB_E_CLOSED, "The connection to %s broke while %s: %s.", stream->peer, doing, strerror(system_error));
}

/* --- polling --- */

static void on_poll(uv_poll_t *poll, int status, int events);

bool stream_attach(struct net_stream *stream)
{
	if (uv_poll_init(net_loop_uv(stream->loop), &stream->poll, stream->fd))
		return false;
	stream->poll.data = stream;
	stream->polled = true;
	stream->armed = 0;
	stream_arm(stream);
	return true;
}

static int wanted_events(const struct net_stream *stream)
{
	if (stream->state == STREAM_CONNECTING)
		return UV_WRITABLE;
	int events = stream->blocked ? UV_WRITABLE : 0;
	if (!stream->ended) {
		bool reads = stream->state != STREAM_OPEN || !stream->paused;
		events |= UV_DISCONNECT | (reads ? UV_READABLE : 0);
	}
	return events;
}

void stream_arm(struct net_stream *stream)
{
	if (!stream->polled || stream->state == STREAM_CLOSED)
		return;
	int events = wanted_events(stream);
	if (events == stream->armed)
		return;
	stream->armed = events;
	if (events)
		uv_poll_start(&stream->poll, events, on_poll);
	else
		uv_poll_stop(&stream->poll);
}

void stream_established(struct net_stream *stream)
{
	if (stream->ssl && stream->state != STREAM_HANDSHAKE) {
		stream->state = STREAM_HANDSHAKE;
		stream_tls_handshake(stream);
		return;
	}
	stream->state = STREAM_OPEN;
	stream_arm(stream);
	if (stream->queue.len > 0 || (stream->ssl && stream_tls_holds_bytes(stream)))
		net_at_turn_end(stream->loop, &stream->turn);
	if (stream->on_open)
		stream->on_open(stream, stream->user);
}

/* --- closing --- */

static void reset_on_close(struct net_stream *stream)
{
	struct linger reset = {.l_onoff = 1};
	if (stream->fd >= 0)
		setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

static void on_deadline(struct net_timer *timer)
{
	struct net_stream *stream = LIST_OF(timer, struct net_stream, deadline);
	if (stream->ending == STREAM_ENDS_BY_RESET)
		reset_on_close(stream);
	finish(stream);
}

static void end_own_side(struct net_stream *stream)
{
	if (stream->ending == STREAM_ENDS_BY_RESET) {
		reset_on_close(stream);
		finish(stream);
		return;
	}
	if (stream->ssl)
		stream_tls_say_goodbye(stream);
	if (stream->ending == STREAM_ENDS_AT_ONCE || stream->ended) {
		finish(stream);
		return;
	}
	shutdown(stream->fd, SHUT_WR);
	stream->state = STREAM_LINGERING;
	net_timer_start(stream->loop, &stream->deadline, LINGER_MS, 0, on_deadline);
	stream_arm(stream);
}

static void peer_ended(struct net_stream *stream)
{
	stream->ended = true;
	stream_arm(stream);
	if (stream->state == STREAM_FLUSHING)
		return; /* it may still be reading */
	if (stream->state == STREAM_OPEN && stream->handler->on_eof)
		stream->handler->on_eof(stream, stream->user);
	else
		finish(stream);
}

/* --- reading --- */

static ssize_t receive(struct net_stream *stream, char *into, size_t size)
{
	if (stream->ssl)
		return stream_tls_read(stream, into, size);
	ssize_t got;
	do
		got = recv(stream->fd, into, size, 0);
	while (got < 0 && errno == EINTR);
	if (got >= 0)
		return got;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return STREAM_AGAIN;
	fail_system(stream, "reading", errno);
	return STREAM_FAILED;
}

/* TLS hands out one record at a time: they are put together so that the owner is called once for what arrived. */
static size_t fill_buffer(struct net_stream *stream, char *buffer, ssize_t *last)
{
	size_t len = 0;
	do {
		*last = receive(stream, buffer + len, NET_READ_BUFFER_BYTES - len);
		if (*last > 0)
			len += (size_t)*last;
	} while (*last > 0 && stream->ssl && len < NET_READ_BUFFER_BYTES && stream_tls_holds_bytes(stream));
	return len;
}

static bool may_read(const struct net_stream *stream)
{
	if (stream->ended)
		return false;
	return stream->state == STREAM_OPEN ? !stream->paused
	                                    : stream->state == STREAM_FLUSHING || stream->state == STREAM_LINGERING;
}

static void read_some(struct net_stream *stream)
{
	char *buffer = net_loop_read_buffer(stream->loop);
	for (int i = 0; i < READS_AT_ONCE && may_read(stream); i++) {
		ssize_t last;
		size_t len = fill_buffer(stream, buffer, &last);
		if (len > 0) {
			if (stream->state == STREAM_OPEN)
				stream->handler->on_read(stream, buffer, len, stream->user);
			secret_wipe(buffer, len);
		}
		if (last == 0 && stream->state != STREAM_CLOSED)
			peer_ended(stream);
		if (last <= 0 ||
		    (len < NET_READ_BUFFER_BYTES && !(stream->ssl && stream->state != STREAM_CLOSED && stream_tls_holds_bytes(stream))))
			return; /* nothing is left, or polling will say so */
	}
	/* Bytes that OpenSSL holds already are not seen by polling. */
	if (may_read(stream) && stream->ssl && stream_tls_holds_bytes(stream))
		net_at_turn_end(stream->loop, &stream->turn);
}

/* --- writing --- */

static ssize_t send_plain(struct net_stream *stream)
{
	struct iovec parts[PARTS_AT_ONCE];
	int count = 0;
	for (struct net_chunk *chunk = stream->queue.first; chunk && count < PARTS_AT_ONCE; chunk = chunk->next)
		parts[count++] = (struct iovec){chunk->bytes + chunk->start, chunk->end - chunk->start};
	ssize_t sent;
	do /* for one part send() is the shorter way through the kernel */
		sent = count == 1 ? send(stream->fd, parts->iov_base, parts->iov_len, 0) : writev(stream->fd, parts, count);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return sent;
	if (errno == EAGAIN || errno == EWOULDBLOCK) {
		stream->blocked = true;
		return STREAM_AGAIN;
	}
	fail_system(stream, "writing", errno);
	return STREAM_FAILED;
}

static void tell_drained(struct net_stream *stream)
{
	if (!stream->above_low || stream->queue.len > stream->low_water)
		return;
	stream->above_low = false;
	if (stream->state == STREAM_OPEN && stream->handler->on_drain)
		stream->handler->on_drain(stream, stream->user);
}

static void flush(struct net_stream *stream)
{
	while (stream->queue.len > 0) {
		struct str head = net_queue_peek(&stream->queue);
		ssize_t sent = stream->ssl ? stream_tls_write(stream, head.at, head.len) : send_plain(stream);
		if (sent == STREAM_FAILED)
			return;
		if (sent == STREAM_AGAIN)
			break;
		net_queue_consume(&stream->queue, net_loop_pool(stream->loop), (size_t)sent);
		stream->progress_us = net_now_us(stream->loop);
	}
	stream_arm(stream);
	if (stream->queue.len == 0 && stream->state == STREAM_FLUSHING)
		end_own_side(stream);
	else
		tell_drained(stream);
}

static bool may_flush(const struct net_stream *stream)
{
	return (stream->state == STREAM_OPEN || stream->state == STREAM_FLUSHING) && !stream->blocked;
}

static void on_turn(struct net_turn *turn)
{
	struct net_stream *stream = LIST_OF(turn, struct net_stream, turn);
	if (stream->state == STREAM_CLOSED) {
		free_stream(stream);
		return;
	}
	if (may_flush(stream))
		flush(stream);
	if (stream->ssl && may_read(stream) && stream_tls_holds_bytes(stream))
		read_some(stream);
}

/* --- events --- */

static int socket_error(const struct net_stream *stream)
{
	int value = 0;
	socklen_t size = sizeof value;
	if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &value, &size) != 0)
		return errno;
	return value;
}

static void on_writable(struct net_stream *stream)
{
	stream->blocked = false;
	bool read_waited = stream->read_waits;
	stream->read_waits = false;
	if (may_flush(stream))
		flush(stream);
	if (read_waited && may_read(stream))
		read_some(stream);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct net_stream *stream = poll->data;
	if (stream->state == STREAM_CONNECTING) {
		stream_connect_step(stream);
		return;
	}
	if (status < 0) {
		int error = socket_error(stream);
		fail_system(stream, "waiting", error ? error : ECONNRESET);
		return;
	}
	if (stream->state == STREAM_HANDSHAKE) {
		stream_tls_handshake(stream);
		return;
	}
	if (events & UV_WRITABLE)
		on_writable(stream);
	if ((events & UV_READABLE) && may_read(stream))
		read_some(stream);
	else if ((events & UV_DISCONNECT) && stream->state == STREAM_OPEN && !stream->ended)
		peer_ended(stream); /* while paused: what it sent before is not waited for */
	if (stream->state == STREAM_OPEN && stream->queue.len > 0 && !stream->blocked)
		net_at_turn_end(stream->loop, &stream->turn);
	stream_arm(stream);
}

/* --- the public side --- */

void stream_name_peer(struct net_stream *stream)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof address;
	char host[INET6_ADDRSTRLEN] = "";
	if (getpeername(stream->fd, (struct sockaddr *)&address, &size) != 0)
		address.ss_family = AF_UNSPEC;
	if (address.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&address;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
		snprintf(stream->peer, sizeof stream->peer, "%s:%u", host, ntohs(in->sin_port));
	} else if (address.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&address;
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
			inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof host);
			snprintf(stream->peer, sizeof stream->peer, "%s:%u", host, ntohs(in6->sin6_port));
		} else {
			inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
			snprintf(stream->peer, sizeof stream->peer, "[%s]:%u", host, ntohs(in6->sin6_port));
		}
	} else {
		snprintf(stream->peer, sizeof stream->peer, "local");
	}
}

struct net_stream *net_stream_accept(struct net_loop *loop, int fd, struct tls_context *tls,
                                     void (*on_open)(struct net_stream *stream, void *user),
                                     const struct net_stream_handler *handler, void *user)
{
	struct net_stream *stream = stream_new(loop, handler, user, tls ? on_open : NULL);
	if (!stream) {
		close(fd);
		return NULL;
	}
	stream->fd = fd;
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails, harmlessly, on a local socket */
	stream_name_peer(stream);
	stream->state = tls ? STREAM_HANDSHAKE : STREAM_OPEN;
	if ((tls && !stream_tls_start(stream, tls, NULL, NULL)) || !stream_attach(stream)) {
		SSL_free(stream->ssl);
		close_socket(stream);
		free(stream);
		return NULL;
	}
	return stream;
}

void net_stream_set_handler(struct net_stream *stream, const struct net_stream_handler *handler, void *user)
{
	stream->handler = handler;
	stream->user = user;
}

enum db_err net_stream_write_parts(struct net_stream *stream, const struct str *parts, size_t count)
{
	if (stream->state >= STREAM_FLUSHING)
		return DB_E_CLOSED;
	if (stream->queue.len == 0)
		stream->progress_us = net_now_us(stream->loop);
	for (size_t i = 0; i < count; i++) {
		if (net_queue_append(&stream->queue, net_loop_pool(stream->loop), parts[i].at, parts[i].len)) {
			stream_fail(stream, DB_E_NOMEM, "No memory is left for the data to %s.", stream->peer);
			return DB_E_NOMEM;
		}
	}
	if (stream->queue.len > stream->low_water)
		stream->above_low = true;
	if (stream->state == STREAM_OPEN && !stream->blocked)
		net_at_turn_end(stream->loop, &stream->turn);
	return DB_OK;
}

enum db_err net_stream_write(struct net_stream *stream, const void *bytes, size_t len)
{
	struct str part = {bytes, len};
	return net_stream_write_parts(stream, &part, 1);
}

size_t net_stream_queued(const struct net_stream *stream)
{
	return stream->queue.len;
}

void net_stream_set_low_water(struct net_stream *stream, size_t bytes)
{
	stream->low_water = bytes;
	stream->above_low = stream->queue.len > bytes;
}

uint64_t net_stream_stalled_ms(const struct net_stream *stream)
{
	return stream->queue.len ? (net_now_us(stream->loop) - stream->progress_us) / 1000 : 0;
}

void net_stream_pause(struct net_stream *stream)
{
	stream->paused = true;
	stream_arm(stream);
}

void net_stream_resume(struct net_stream *stream)
{
	if (!stream->paused)
		return;
	stream->paused = false;
	stream_arm(stream);
	if (stream->ssl && stream->state == STREAM_OPEN && stream_tls_holds_bytes(stream))
		net_at_turn_end(stream->loop, &stream->turn);
}

static void close_flushed(struct net_stream *stream, enum stream_ending ending)
{
	if (stream->state < STREAM_OPEN) {
		finish(stream); /* nothing can have been promised to the peer yet */
		return;
	}
	if (stream->state != STREAM_OPEN)
		return;
	stream->state = STREAM_FLUSHING;
	stream->ending = ending;
	net_timer_start(stream->loop, &stream->deadline, FLUSH_MS, 0, on_deadline);
	net_at_turn_end(stream->loop, &stream->turn);
	stream_arm(stream);
}

void net_stream_close(struct net_stream *stream)
{
	close_flushed(stream, STREAM_ENDS_AT_ONCE);
}

void net_stream_close_gently(struct net_stream *stream)
{
	close_flushed(stream, STREAM_ENDS_GENTLY);
}

void net_stream_cut(struct net_stream *stream)
{
	close_flushed(stream, STREAM_ENDS_BY_RESET);
}

void net_stream_abort(struct net_stream *stream)
{
	/* Where something is queued the peer may have stopped reading. Without a reset the kernel would keep what it holds for such
	 * a peer, and the peer could not even see that we left. */
	if (stream->queue.len > 0)
		reset_on_close(stream);
	finish(stream);
}

struct str net_stream_alpn(const struct net_stream *stream)
{
	const unsigned char *name = NULL;
	unsigned int len = 0;
	if (stream->ssl)
		SSL_get0_alpn_selected(stream->ssl, &name, &len);
	return (struct str){(const char *)name, len};
}

struct str net_stream_peer(const struct net_stream *stream)
{
	return str_of(stream->peer);
}

struct net_loop *net_stream_loop(const struct net_stream *stream)
{
	return stream->loop;
}
