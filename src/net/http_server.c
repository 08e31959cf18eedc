#include "net/http_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "net/http_internal.h"
#include "net/unix_name.h"

#define ACCEPTS_AT_ONCE 64
#define BACKLOG         4096
#define ACCEPT_PAUSE_MS 200

/* Freed by libuv's close, which may come after the server is gone. */
struct http_listener {
	uv_poll_t poll;
	struct http_server *server;
	struct net_timer pause; /* after running out of file descriptors */
	int fd;
	uint16_t port;
	bool polling;
	bool warned; /* of the current shortage */
};

/* --- accepting --- */

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void accept_on(struct http_listener *listener)
{
	if (!listener->polling && uv_poll_start(&listener->poll, UV_READABLE, on_acceptable) == 0)
		listener->polling = true;
}

static void accept_off(struct http_listener *listener)
{
	if (listener->polling)
		uv_poll_stop(&listener->poll);
	listener->polling = false;
}

static bool is_full(const struct http_server *server)
{
	return server->conns.count >= server->options.max_connections;
}

static void on_pause_over(struct net_timer *timer)
{
	struct http_listener *listener = LIST_OF(timer, struct http_listener, pause);
	if (!is_full(listener->server))
		accept_on(listener);
}

static void warn_once(struct http_listener *listener, const char *reason)
{
	if (!listener->warned)
		log_warn("http.accept_paused", "reason=%s connections=%zu", reason, listener->server->conns.count);
	listener->warned = true;
}

/* The waiting clients stay in the kernel's queue. */
static void pause_accepting(struct http_listener *listener, int error)
{
	warn_once(listener, uv_err_name(uv_translate_sys_error(error)));
	accept_off(listener);
	net_timer_start(listener->server->loop, &listener->pause, ACCEPT_PAUSE_MS, 0, on_pause_over);
}

static int accept_one(int listening)
{
#ifdef __linux__
	return accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
	int fd = accept(listening, NULL, NULL);
	if (fd >= 0) {
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, O_NONBLOCK);
	}
	return fd;
#endif
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	struct http_listener *listener = poll->data;
	struct http_server *server = listener->server;
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		if (is_full(server)) {
			warn_once(listener, "max_connections");
			accept_off(listener);
			return;
		}
		int fd = accept_one(listener->fd);
		if (fd < 0 && is_shortage(errno))
			pause_accepting(listener, errno);
		if (fd < 0 && errno != ECONNABORTED && errno != EINTR)
			return;
		if (fd >= 0) {
			listener->warned = false;
			http_conn_open(server, fd);
		}
	}
}

void http_server_adopt(struct http_server *server, int fd)
{
	http_conn_open(server, fd);
}

/* --- the listening socket --- */

static enum db_err explain_bind(const char *host, uint16_t port, int code, struct error *error)
{
	switch (code) {
	case EADDRINUSE:
		return error_set(error, DB_E_EXISTS,
		                 "Port %u on %s is already in use. Stop the program that listens there, or choose another port.", port,
		                 host);
	case EACCES:
		return error_set(error, DB_E_DENIED,
		                 "Port %u on %s may not be used by this account. Choose a port above 1023, or grant the right to bind.",
		                 port, host);
	case EADDRNOTAVAIL:
		return error_set(error, DB_E_INVALID, "%s is no address of this machine. Use 127.0.0.1, 0.0.0.0 or one that it has.",
		                 host);
	default:
		return error_set(error, DB_E_IO, "Listening on %s port %u failed: %s.", host, port, strerror(code));
	}
}

/* Accepted sockets inherit it: a client whose machine or network vanished is noticed within a minute. */
static void keep_alive(int fd)
{
	int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
#ifdef TCP_KEEPIDLE
	int idle_s = 30, every_s = 10, times = 3;
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
#endif
}

/* A bound, listening, non-blocking socket, or -1 and errno. */
static int listen_on(const struct addrinfo *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM, 0);
	if (fd < 0)
		return -1;
	int on = 1, off = 0;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (address->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off); /* "::" serves IPv4 as well */
	keep_alive(fd);
	if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int open_socket(const char *host, uint16_t port, struct error *error)
{
	char service[8];
	snprintf(service, sizeof service, "%u", port);
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *addresses = NULL;
	int rc = getaddrinfo(host, service, &hints, &addresses);
	if (rc) {
		error_set(error, DB_E_INVALID, "The address %s to listen on is not known: %s.", host, gai_strerror(rc));
		return -1;
	}
	int fd = -1;
	for (const struct addrinfo *address = addresses; address && fd < 0; address = address->ai_next)
		fd = listen_on(address);
	int code = errno;
	freeaddrinfo(addresses);
	if (fd < 0)
		explain_bind(host, port, code, error);
	return fd;
}

/* The file is private from its first instant; one that an earlier run left behind is replaced. */
static int open_unix_socket(const char *path, struct error *error)
{
	struct net_unix_name name;
	int fd = -1;
	if (net_unix_name(&name, path, error) != DB_OK)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	unlink(path);
	mode_t mask = umask(0177);
	bool bound = fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
	             bind(fd, (const struct sockaddr *)&name.address, sizeof name.address) == 0 && listen(fd, BACKLOG) == 0;
	int code = errno;
	umask(mask);
	net_unix_name_done(&name);
	if (bound)
		return fd;
	error_set(error, DB_E_IO, "The socket %s cannot be made: %s.", path, strerror(code));
	if (fd >= 0)
		close(fd);
	return -1;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof address;
	if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
		return 0;
	if (address.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
	return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
}

static struct http_listener *listener_new(struct http_server *server, struct error *error)
{
	const struct http_server_options *options = &server->options;
	struct http_listener *listener = calloc(1, sizeof *listener);
	if (!listener) {
		error_set(error, DB_E_NOMEM, "No memory is left for the HTTP server.");
		return NULL;
	}
	listener->server = server;
	listener->fd = options->unix_path ? open_unix_socket(options->unix_path, error)
	                                  : open_socket(options->host ? options->host : "127.0.0.1", options->port, error);
	if (listener->fd < 0) {
		free(listener);
		return NULL;
	}
	listener->port = options->unix_path ? 0 : bound_port(listener->fd);
	listener->poll.data = listener;
	int rc = uv_poll_init(net_loop_uv(server->loop), &listener->poll, listener->fd);
	if (rc) {
		error_set(error, DB_E_IO, "The listening socket could not be watched: %s.", uv_strerror(rc));
		close(listener->fd);
		free(listener);
		return NULL;
	}
	accept_on(listener);
	return listener;
}

static void on_listener_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void stop_listening(struct http_server *server)
{
	struct http_listener *listener = server->listener;
	server->listener = NULL;
	if (!listener)
		return;
	net_timer_stop(&listener->pause);
	uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
	close(listener->fd);
}

/* --- life --- */

static void on_drained_turn(struct net_turn *turn);

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

struct http_server *http_server_new(struct net_loop *loop, const struct http_server_options *options, struct error *error)
{
	struct http_server *server = calloc(1, sizeof *server);
	if (!server) {
		error_set(error, DB_E_NOMEM, "No memory is left for the HTTP server.");
		return NULL;
	}
	server->loop = loop;
	server->options = *options;
	server->options.max_header_bytes = or_default(options->max_header_bytes, 64u << 10);
	server->options.header_timeout_ms = or_default(options->header_timeout_ms, 5000);
	server->options.body_timeout_ms = or_default(options->body_timeout_ms, 30000);
	server->options.idle_timeout_ms = or_default(options->idle_timeout_ms, 120000);
	server->options.max_streams = or_default(options->max_streams, 256);
	server->options.max_connections = or_default(options->max_connections, 100000);
	list_init(&server->conns);
	list_init(&server->spare_requests);
	server->drained_turn.fn = on_drained_turn;
	server->listener = listener_new(server, error);
	server->options.host = NULL; /* the caller's */
	if (!server->listener) {
		free(server);
		return NULL;
	}
	return server;
}

uint16_t http_server_port(const struct http_server *server)
{
	return server->listener ? server->listener->port : 0;
}

size_t http_server_connections(const struct http_server *server)
{
	return server->conns.count;
}

static void on_drained_turn(struct net_turn *turn)
{
	struct http_server *server = LIST_OF(turn, struct http_server, drained_turn);
	void (*drained)(void *) = server->drained;
	server->drained = NULL;
	if (drained)
		drained(server->drained_arg);
}

void http_server_conn_left(struct http_server *server)
{
	if (server->listener && !server->listener->pause.loop && !is_full(server))
		accept_on(server->listener);
	if (server->draining && server->conns.count == 0)
		net_at_turn_end(server->loop, &server->drained_turn);
}

void http_server_drain(struct http_server *server, void (*drained)(void *arg), void *arg)
{
	server->drained = drained;
	server->drained_arg = arg;
	server->draining = true;
	stop_listening(server);
	/* Closing takes effect later, so nothing leaves the list meanwhile. */
	LIST_EACH_SAFE (link, next, &server->conns) {
		struct http_conn *conn = LIST_OF(link, struct http_conn, link);
		if (conn->closing)
			continue;
		if (conn->protocol)
			conn->protocol->drain(conn);
		else if (!server->options.tls)
			http_conn_close(conn, false);
	}
	if (server->conns.count == 0)
		net_at_turn_end(server->loop, &server->drained_turn);
}

void http_server_free(struct http_server *server)
{
	if (!server)
		return;
	stop_listening(server);
	server->draining = false;
	for (struct list_link *link; (link = list_first(&server->conns));)
		http_conn_orphan(LIST_OF(link, struct http_conn, link));
	net_turn_cancel(server->loop, &server->drained_turn);
	http_requests_free(&server->spare_requests);
	free(server);
}

/* --- date --- */

static void format_date(time_t now, char out[30])
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct tm tm;
	gmtime_r(&now, &tm);
	char text[64]; /* strftime would follow the locale */
	snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
	         tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	memcpy(out, text, 29);
	out[29] = '\0';
}

struct str http_server_date(struct http_server *server)
{
	int64_t second = clock_wall_us() / 1000000;
	if (second != server->date_second) {
		server->date_second = second;
		format_date((time_t)second, server->date);
	}
	return (struct str){server->date, 29};
}
