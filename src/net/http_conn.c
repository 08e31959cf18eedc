#include <stdlib.h>
#include <unistd.h>

#include "net/http_internal.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_BYTES (sizeof preface - 1)
#define PREFACE_TELLS 4 /* no HTTP/1.1 request line begins with "PRI " */

static void on_timer(struct net_timer *timer)
{
	struct http_conn *conn = LIST_OF(timer, struct http_conn, timer);
	http_conn_enter(conn);
	if (conn->protocol)
		conn->protocol->timeout(conn);
	else
		http_conn_abort(conn); /* still in the TLS handshake, or never said a word */
	http_conn_leave(conn);
}

void http_conn_timer(struct http_conn *conn, uint32_t after_ms)
{
	if (!conn->dead)
		net_timer_start(conn->server->loop, &conn->timer, after_ms, 0, on_timer);
}

void http_conn_enter(struct http_conn *conn)
{
	conn->entered++;
}

static void conn_free(struct http_conn *conn)
{
	if (conn->protocol)
		conn->protocol->free_state(conn);
	free(conn);
}

void http_conn_leave(struct http_conn *conn)
{
	if (--conn->entered == 0 && conn->dead)
		conn_free(conn);
}

void http_conn_drop(struct http_conn *conn)
{
	if (conn->dead)
		return;
	conn->dead = true;
	net_timer_stop(&conn->timer);
	http_conn_enter(conn);
	if (conn->protocol)
		conn->protocol->closed(conn);
	struct http_server *server = conn->server;
	if (server) {
		conn->server = NULL;
		list_remove(&server->conns, &conn->link);
		http_server_conn_left(server);
	}
	http_conn_leave(conn);
}

static const struct net_stream_handler no_handler = {0};

void http_conn_orphan(struct http_conn *conn)
{
	list_remove(&conn->server->conns, &conn->link);
	conn->server = NULL;
	struct net_stream *stream = conn->stream;
	conn->stream = NULL;
	if (stream) {
		net_stream_set_handler(stream, &no_handler, NULL);
		net_stream_abort(stream);
	}
	http_conn_drop(conn);
}

void http_conn_close(struct http_conn *conn, bool gently)
{
	conn->closing = true;
	net_timer_stop(&conn->timer);
	if (!conn->stream)
		return;
	if (gently)
		net_stream_close_gently(conn->stream);
	else
		net_stream_close(conn->stream);
}

void http_conn_cut(struct http_conn *conn)
{
	conn->closing = true;
	net_timer_stop(&conn->timer);
	if (conn->stream)
		net_stream_cut(conn->stream);
}

void http_conn_abort(struct http_conn *conn)
{
	conn->closing = true;
	net_timer_stop(&conn->timer);
	if (conn->stream)
		net_stream_abort(conn->stream);
}

bool http_conn_stalled(const struct http_conn *conn)
{
	return net_stream_stalled_ms(conn->stream) >= conn->server->options.idle_timeout_ms;
}

/* --- what the stream reports --- */

static void begin_protocol(struct http_conn *conn, const struct http_protocol *protocol)
{
	conn->protocol = protocol;
	if (protocol == &http2_protocol && !http2_begin(conn)) {
		conn->protocol = NULL;
		http_conn_abort(conn);
	}
}

/* Clear text: HTTP/2 by prior knowledge is told from HTTP/1.1 by its first bytes (RFC 9113, 3.3). */
static void sniff(struct http_conn *conn, const char *data, size_t len)
{
	size_t seen = conn->sniffed, i = 0;
	while (seen + i < PREFACE_TELLS && i < len && data[i] == preface[seen + i])
		i++;
	if (seen + i < PREFACE_TELLS && i == len) {
		if (seen == 0)
			http_conn_timer(conn, conn->server->options.header_timeout_ms);
		conn->sniffed = (uint8_t)(seen + i);
		return;
	}
	begin_protocol(conn, seen + i == PREFACE_TELLS ? &http2_protocol : &http1_protocol);
	if (conn->protocol && seen > 0)
		conn->protocol->read(conn, preface, seen);
	if (conn->protocol && !conn->dead && !conn->closing)
		conn->protocol->read(conn, data, len);
}

static void on_read(struct net_stream *stream, char *data, size_t len, void *user)
{
	(void)stream;
	struct http_conn *conn = user;
	if (conn->closing)
		return;
	http_conn_enter(conn);
	if (conn->protocol)
		conn->protocol->read(conn, data, len);
	else
		sniff(conn, data, len);
	http_conn_leave(conn);
}

static void on_drain(struct net_stream *stream, void *user)
{
	(void)stream;
	struct http_conn *conn = user;
	if (!conn->protocol || conn->closing)
		return;
	http_conn_enter(conn);
	conn->protocol->drained(conn);
	http_conn_leave(conn);
}

static void on_eof(struct net_stream *stream, void *user)
{
	(void)stream;
	struct http_conn *conn = user;
	http_conn_enter(conn);
	if (conn->protocol && !conn->closing)
		conn->protocol->peer_ended(conn);
	else
		http_conn_abort(conn);
	http_conn_leave(conn);
}

static void on_closed(struct net_stream *stream, const struct error *why, void *user)
{
	(void)stream;
	(void)why;
	struct http_conn *conn = user;
	conn->stream = NULL;
	http_conn_drop(conn);
}

static const struct net_stream_handler stream_handler = {on_read, on_drain, on_eof, on_closed};

static void on_tls_open(struct net_stream *stream, void *user)
{
	struct http_conn *conn = user;
	http_conn_enter(conn);
	http_conn_timer(conn, conn->server->options.idle_timeout_ms);
	begin_protocol(conn, str_is(net_stream_alpn(stream), "h2") ? &http2_protocol : &http1_protocol);
	if (conn->protocol && conn->server->draining)
		conn->protocol->drain(conn);
	http_conn_leave(conn);
}

void http_conn_open(struct http_server *server, int fd)
{
	struct http_conn *conn = calloc(1, sizeof *conn);
	if (!conn) {
		close(fd);
		return;
	}
	conn->server = server;
	conn->stream = net_stream_accept(server->loop, fd, server->options.tls, on_tls_open, &stream_handler, conn);
	if (!conn->stream) {
		free(conn);
		return;
	}
	net_stream_set_low_water(conn->stream, HTTP_STREAM_SOFT_BYTES / 2);
	list_push_back(&server->conns, &conn->link);
	http_conn_timer(conn, server->options.tls ? server->options.header_timeout_ms : server->options.idle_timeout_ms);
}
