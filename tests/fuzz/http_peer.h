/* For fuzz_http1.c and fuzz_http2.c: a real server on a loop that is turned by hand, a client at the other end of a socket
 * pair, and a handler whose behaviour the path chooses. Whatever arrives, every request that the handler saw must end exactly
 * once. */
#ifndef TESTS_FUZZ_HTTP_PEER_H
#define TESTS_FUZZ_HTTP_PEER_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "net/http_internal.h"

#define HELD_MAX 1024
#define PIECES   40u      /* of an /r stream: more than its room */
#define NEVER_MS 86400000 /* a machine that stalls shall not change what a server does */

/* What the handler keeps of a request, in the request's own memory. */
struct visit {
	unsigned pieces_left;
};

static struct net_loop *loop;
static struct http_server *server;
static struct http_request *held[HELD_MAX];
static size_t held_count;
static size_t open_requests; /* seen by the handler and not ended */
static unsigned impatience;  /* turns waited for a stream to go on */
static struct buf seen;      /* what the handler saw, as text */

static void check(bool good)
{
	if (!good)
		abort();
}

static void saw(const char *what, struct str text)
{
	(void)buf_append_c(&seen, what);
	(void)buf_append_str(&seen, text);
	(void)buf_append_byte(&seen, '\n');
}

static void unhold(const struct http_request *request)
{
	for (size_t i = 0; i < held_count; i++) {
		if (held[i] == request)
			held[i] = held[--held_count];
	}
}

static void on_gone(struct http_request *request, void *user)
{
	check(((struct visit *)user)->pieces_left <= PIECES);
	check(open_requests-- > 0);
	unhold(request);
}

static void respond(struct http_request *request, int status)
{
	check(open_requests-- > 0);
	http_respond(request, status, "text/plain", http_body(request));
}

static void more(struct http_request *request, void *user)
{
	static const char piece[3000] = {'x'};
	struct visit *visit = user;
	while (visit->pieces_left > 0 && http_stream_room(request) > 0) {
		visit->pieces_left--;
		if (http_stream_write(request, (struct str){piece, sizeof piece}))
			return;
	}
}

static bool starts(const struct http_request *request, const char *prefix)
{
	return str_starts(http_path(request), str_of(prefix));
}

static int64_t on_head(struct http_request *request, void *context)
{
	(void)context;
	open_requests++;
	struct visit *visit = arena_alloc(http_arena(request), sizeof *visit);
	check(visit != NULL);
	visit->pieces_left = PIECES;
	http_set_user(request, visit);
	http_set_on_gone(request, on_gone);
	saw("head ", http_method(request));
	saw(" path ", http_path(request));
	saw(" query ", http_query(request));
	saw(" x ", http_header_get(request, "x"));
	saw(" host ", http_header_get(request, "host"));
	if (starts(request, "/e")) {
		respond(request, 401);
		return -1;
	}
	if (starts(request, "/f")) {
		open_requests--;
		http_stream_abort(request);
		return -1;
	}
	return starts(request, "/t") ? 3 : 2000;
}

static void on_request(struct http_request *request, void *context)
{
	(void)context;
	saw("body ", http_body(request));
	if (starts(request, "/l") && held_count < HELD_MAX) {
		held[held_count++] = request;
	} else if (starts(request, "/s")) {
		http_stream_start(request, 200, "text/event-stream", more);
		check(http_stream_write(request, STR("data: x\n\n")) != DB_E_INVALID);
		open_requests--;
		http_stream_end(request);
	} else if (starts(request, "/r") && held_count < HELD_MAX) {
		http_stream_start(request, 200, NULL, more);
		more(request, http_user(request));
		held[held_count++] = request;
	} else if (starts(request, "/a")) {
		http_stream_start(request, 200, NULL, NULL);
		open_requests--;
		http_stream_abort(request);
	} else {
		respond(request, 200);
	}
}

static void on_body_too_large(struct http_request *request, void *context)
{
	(void)context;
	saw("too large", STR_NONE);
	if (starts(request, "/tl") && held_count < HELD_MAX)
		held[held_count++] = request;
	else
		respond(request, 413);
}

static bool end_one_held(void)
{
	if (held_count == 0)
		return false;
	struct http_request *request = held[0];
	const struct visit *visit = http_user(request);
	if (starts(request, "/r") && visit->pieces_left > 0 && impatience++ < 100)
		return true; /* on_room will go on */
	impatience = 0;
	unhold(request);
	open_requests--;
	if (starts(request, "/r"))
		http_stream_end(request);
	else
		http_respond(request, 200, NULL, STR("late"));
	return true;
}

static void start_server(void)
{
	if (loop)
		return;
	log_set_level(LOG_OFF);
	loop = net_loop_new(NULL);
	check(loop != NULL);
	struct http_server_options options = {.host = "127.0.0.1",
	                                      .max_header_bytes = 2000,
	                                      .max_streams = 16,
	                                      .header_timeout_ms = NEVER_MS,
	                                      .body_timeout_ms = NEVER_MS,
	                                      .idle_timeout_ms = NEVER_MS,
	                                      .on_head = on_head,
	                                      .on_request = on_request,
	                                      .on_body_too_large = on_body_too_large};
	server = http_server_new(loop, &options, NULL);
	check(server != NULL);
	buf_init(&seen, 1 << 20);
}

static int peer_open(void)
{
	int ends[2];
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	http_server_adopt(server, ends[0]);
	return ends[1];
}

static void take_answer(int fd, struct buf *answer)
{
	char bytes[65536];
	ssize_t got;
	while ((got = read(fd, bytes, sizeof bytes)) > 0)
		(void)buf_append(answer, bytes, (size_t)got);
}

static void turn(int fd, struct buf *answer, int times)
{
	for (int i = 0; i < times; i++) {
		uv_run(net_loop_uv(loop), UV_RUN_NOWAIT);
		take_answer(fd, answer);
	}
}

static void peer_say(int fd, const void *bytes, size_t len)
{
	ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL); /* the server may have closed */
	(void)sent;
}

/* The client goes; the server must let go of everything. */
static void peer_close(int fd)
{
	close(fd);
	for (int i = 0; i < 1000 && http_server_connections(server) > 0; i++)
		uv_run(net_loop_uv(loop), UV_RUN_NOWAIT);
	check(http_server_connections(server) == 0);
	check(open_requests == 0);
	check(held_count == 0);
}

#endif
