#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream_internal.h"
#include "net/tls_internal.h"

/* A name being resolved and its addresses being tried in turn. libuv may still hold it after the stream is gone. */
struct stream_connect {
	uv_getaddrinfo_t lookup;
	struct net_stream *stream; /* NULL = no longer wanted */
	bool looking_up;
	struct addrinfo *addresses, *next;
	int last_error;
	struct sockaddr_in source;          /* family 0: the system chooses */
	char where[STREAM_PEER_SIZE + 256]; /* "host:port", for messages */
};

static void try_next(struct net_stream *stream);

static void free_connect(struct stream_connect *connecting)
{
	if (connecting->addresses)
		uv_freeaddrinfo(connecting->addresses);
	free(connecting);
}

void stream_connect_forget(struct net_stream *stream)
{
	struct stream_connect *connecting = stream->connect;
	stream->connect = NULL;
	if (!connecting)
		return;
	connecting->stream = NULL;
	if (connecting->looking_up)
		uv_cancel((uv_req_t *)&connecting->lookup);
	else
		free_connect(connecting);
}

static void on_looked_up(uv_getaddrinfo_t *lookup, int status, struct addrinfo *addresses)
{
	struct stream_connect *connecting = lookup->data;
	connecting->looking_up = false;
	connecting->addresses = addresses;
	connecting->next = addresses;
	struct net_stream *stream = connecting->stream;
	if (!stream)
		free_connect(connecting);
	else if (status < 0)
		stream_fail(stream, DB_E_NOT_FOUND, "The name in %s could not be resolved: %s.", connecting->where,
		            uv_strerror(status));
	else
		try_next(stream);
}

/* The port is chosen when the socket connects, where the system can wait that long: many may then share one. */
static bool bind_source(int fd, const struct sockaddr_in *source)
{
#ifdef IP_BIND_ADDRESS_NO_PORT
	int on = 1;
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
#endif
	return bind(fd, (const struct sockaddr *)source, sizeof *source) == 0;
}

/* A non-blocking socket on its way to the address, or -1 and errno. */
static int start_connecting(const struct addrinfo *address, const struct sockaddr_in *source)
{
	int fd = socket(address->ai_family, SOCK_STREAM, 0);
	if (fd < 0)
		return -1;
	int on = 1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	bool bound = source->sin_family != address->ai_family || bind_source(fd, source);
	if (bound && (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS))
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static void try_next(struct net_stream *stream)
{
	struct stream_connect *connecting = stream->connect;
	while (connecting->next) {
		const struct addrinfo *address = connecting->next;
		connecting->next = address->ai_next;
		stream->fd = start_connecting(address, &connecting->source);
		if (stream->fd < 0) {
			connecting->last_error = errno;
			continue;
		}
		if (!stream_attach(stream))
			stream_fail(stream, DB_E_NOMEM, "The connection to %s could not be watched.", connecting->where);
		return;
	}
	int error = connecting->last_error ? connecting->last_error : EHOSTUNREACH;
	stream_fail(stream, DB_E_CLOSED, "No connection to %s: %s.", connecting->where, strerror(error));
}

/* The poll handle of a failed attempt is gone: its memory may be used for the next one. */
static void on_attempt_closed(uv_handle_t *handle)
{
	struct net_stream *stream = handle->data;
	stream->retrying = false;
	if (stream->state == STREAM_CLOSED)
		net_at_turn_end(stream->loop, &stream->turn);
	else
		try_next(stream);
}

static void connected(struct net_stream *stream)
{
	stream_name_peer(stream);
	stream_connect_forget(stream);
	if (stream->ssl && SSL_set_fd(stream->ssl, stream->fd) != 1) {
		stream_fail(stream, DB_E_NOMEM, "TLS with %s could not be started.", stream->peer);
		return;
	}
	stream_established(stream);
}

void stream_connect_step(struct net_stream *stream)
{
	int error = 0;
	socklen_t size = sizeof error;
	if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		error = errno;
	if (error == 0) {
		connected(stream);
		return;
	}
	stream->connect->last_error = error;
	stream->polled = false;
	stream->retrying = true;
	uv_close((uv_handle_t *)&stream->poll, on_attempt_closed);
	close(stream->fd);
	stream->fd = -1;
}

static struct stream_connect *look_up(struct net_stream *stream, const char *host, uint16_t port)
{
	struct stream_connect *connecting = calloc(1, sizeof *connecting);
	if (!connecting)
		return NULL;
	char service[8];
	snprintf(service, sizeof service, "%u", port);
	snprintf(connecting->where, sizeof connecting->where, "%s:%u", host, port);
	connecting->stream = stream;
	connecting->lookup.data = connecting;
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	if (uv_getaddrinfo(net_loop_uv(stream->loop), &connecting->lookup, on_looked_up, host, service, &hints)) {
		free(connecting);
		return NULL;
	}
	connecting->looking_up = true;
	return connecting;
}

struct net_stream *net_stream_connect(struct net_loop *loop, const char *host, uint16_t port, struct tls_context *tls,
                                      const char *alpn, void (*on_open)(struct net_stream *stream, void *user),
                                      const struct net_stream_handler *handler, void *user)
{
	struct net_stream *stream = stream_new(loop, handler, user, on_open);
	if (!stream)
		return NULL;
	stream->state = STREAM_CONNECTING;
	snprintf(stream->peer, sizeof stream->peer, "%.40s:%u", host, port);
	bool ready = !tls || stream_tls_start(stream, tls, host, alpn);
	stream->connect = ready ? look_up(stream, host, port) : NULL;
	if (!stream->connect)
		stream_fail(stream, DB_E_INVALID, "The connection to %s could not be started.", stream->peer);
	return stream;
}

bool net_stream_connect_from(struct net_stream *stream, const char *source)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	if (!stream->connect || inet_pton(AF_INET, source, &address.sin_addr) != 1)
		return false;
	stream->connect->source = address;
	return true;
}
