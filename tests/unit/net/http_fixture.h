/* A real HTTP server on its own loop thread, with a route for each behaviour that tests need, and a blocking client. */
#ifndef TESTS_NET_HTTP_FIXTURE_H
#define TESTS_NET_HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/buf.h"
#include "net/http_server.h"
#include "net/loop.h"

/* --- the server --- */

struct site {
	struct net_loop *loop;
	struct http_server *server;
	pthread_t thread;
	uint16_t port;
	atomic_int heads, requests, gone, rooms, drained;
	atomic_size_t most_queued; /* of a /flood: what it wrote before it was told to stop */
	struct http_request *held; /* of the last /hold */
};

static struct site site;

struct job {
	struct http_request *request;
	struct net_timer timer;
	uint64_t left, size;
};

static void job_gone(struct http_request *request, void *user)
{
	(void)request;
	struct job *job = user;
	net_timer_stop(&job->timer);
	free(job);
	site.gone++;
}

static struct job *job_new(struct http_request *request)
{
	struct job *job = calloc(1, sizeof *job);
	job->request = request;
	http_set_user(request, job);
	http_set_on_gone(request, job_gone);
	return job;
}

static void later(struct net_timer *timer)
{
	struct job *job = LIST_OF(timer, struct job, timer);
	http_respond(job->request, 200, "text/plain", STR("later\n"));
	free(job);
}

static void abort_later(struct net_timer *timer)
{
	struct job *job = LIST_OF(timer, struct job, timer);
	http_stream_abort(job->request);
	free(job);
}

static uint64_t query_number(const struct http_request *request, uint64_t fallback)
{
	uint64_t number = fallback;
	(void)str_to_u64(http_query(request), &number);
	return number;
}

static void stream_pieces(struct http_request *request, void *user)
{
	char piece[1000];
	memset(piece, '.', sizeof piece);
	struct job *job = user;
	site.rooms++;
	while (job->left > 0 && http_stream_room(request) > 0) {
		size_t len = job->left < job->size ? (size_t)job->left : (size_t)job->size;
		if (http_stream_write(request, (struct str){piece, len}))
			return;
		job->left -= len;
	}
	if (job->left == 0) {
		free(job);
		http_stream_end(request);
	}
}

static void serve_stream(struct http_request *request, size_t piece)
{
	struct job *job = job_new(request);
	job->size = piece;
	job->left = query_number(request, 10000);
	http_stream_start(request, 200, "text/event-stream", stream_pieces);
	stream_pieces(request, job);
}

/* Writes without regard to room() until it is refused. */
static void serve_flood(struct http_request *request)
{
	static char piece[65536];
	job_new(request);
	http_stream_start(request, 200, "application/octet-stream", NULL);
	size_t queued = 0;
	while (http_stream_write(request, (struct str){piece, sizeof piece}) == DB_OK)
		queued += sizeof piece;
	site.most_queued = queued;
}

static void serve_big(struct http_request *request)
{
	size_t len = (size_t)query_number(request, 1 << 20);
	char *bytes = malloc(len + 1);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)('a' + i % 26);
	http_respond(request, 200, "application/octet-stream", (struct str){bytes, len});
	free(bytes);
}

/* "method path query|header|peer|body" */
static void serve_echo(struct http_request *request)
{
	struct str body = http_body(request);
	char *text = arena_printf(http_arena(request), "%.*s %.*s %.*s|%.*s|%.*s|%.*s", STR_ARG(http_method(request)),
	                          STR_ARG(http_path(request)), STR_ARG(http_query(request)),
	                          STR_ARG(http_header_get(request, "x-test")), STR_ARG(http_peer(request)), STR_ARG(body));
	assert_int_equal(http_add_header(request, "X-Echo", STR("yes")), DB_OK);
	http_respond(request, 200, "text/plain", str_of(text));
}

static void serve_bad_headers(struct http_request *request)
{
	int refused = http_add_header(request, "x", STR("a\r\nb: c")) == DB_E_INVALID;
	refused += http_add_header(request, "x", STR("a\nb")) == DB_E_INVALID;
	refused += http_add_header(request, "x", (struct str){"a\0b", 3}) == DB_E_INVALID;
	refused += http_add_header(request, "x y", STR("a")) == DB_E_INVALID;
	refused += http_add_header(request, "", STR("a")) == DB_E_INVALID;
	refused += http_add_header(request, "Content-Length", STR("5")) == DB_E_INVALID;
	refused += http_add_header(request, "Transfer-Encoding", STR("chunked")) == DB_E_INVALID;
	http_respond(request, 200, NULL, refused == 7 ? STR("all refused") : STR("some let through"));
}

static void free_server(void *arg)
{
	(void)arg;
	http_server_free(site.server);
	site.server = NULL;
}

static void on_request(struct http_request *request, void *context)
{
	(void)context;
	site.requests++;
	struct str path = http_path(request);
	if (str_is(path, "/hello")) {
		http_respond(request, 200, "text/plain", STR("hello\n"));
	} else if (str_starts(path, STR("/echo")) || str_is(path, "*")) {
		serve_echo(request);
	} else if (str_is(path, "/later")) {
		struct job *job = job_new(request);
		net_timer_start(site.loop, &job->timer, query_number(request, 20), 0, later);
	} else if (str_is(path, "/hold")) {
		job_new(request);
		site.held = request;
	} else if (str_is(path, "/stream")) {
		serve_stream(request, 1000);
	} else if (str_is(path, "/crumbs")) {
		serve_stream(request, 1);
	} else if (str_is(path, "/flood")) {
		serve_flood(request);
	} else if (str_is(path, "/big")) {
		serve_big(request);
	} else if (str_is(path, "/empty")) {
		http_respond(request, 204, NULL, STR_NONE);
	} else if (str_is(path, "/headers")) {
		serve_bad_headers(request);
	} else if (str_is(path, "/abort")) {
		http_stream_start(request, 200, "text/plain", NULL);
		http_stream_write(request, STR("partial"));
		http_stream_abort(request);
	} else if (str_is(path, "/abort-later")) {
		struct job *job = job_new(request);
		http_stream_start(request, 200, "text/plain", NULL);
		http_stream_write(request, STR("partial"));
		net_timer_start(site.loop, &job->timer, 20, 0, abort_later);
	} else if (str_is(path, "/abort-unanswered")) {
		http_stream_abort(request);
	} else if (str_is(path, "/free")) {
		job_new(request);
		free_server(NULL);
	} else {
		http_respond(request, 404, NULL, STR("no such thing"));
	}
}

static int64_t on_head(struct http_request *request, void *context)
{
	(void)context;
	site.heads++;
	struct str path = http_path(request);
	if (str_is(path, "/early")) {
		http_respond(request, 401, "text/plain", STR("who are you?"));
		return -1;
	}
	if (str_is(path, "/early-stream")) {
		serve_stream(request, 1000);
		return -1;
	}
	if (str_is(path, "/forgotten"))
		return -1;
	if (str_is(path, "/free-in-head")) {
		free_server(NULL);
		return -1;
	}
	if (str_is(path, "/upload"))
		return 64 << 20;
	return str_is(path, "/echo-tiny") ? 10 : 100000;
}

static void *site_main(void *arg)
{
	(void)arg;
	net_loop_run(site.loop);
	return NULL;
}

static void stop_loop(void *arg)
{
	(void)arg;
	http_server_free(site.server);
	site.server = NULL;
	net_loop_stop(site.loop);
}

static void site_open(struct http_server_options options)
{
	memset(&site, 0, sizeof site);
	struct error error;
	site.loop = net_loop_new(&error);
	assert_non_null(site.loop);
	options.on_head = on_head;
	options.on_request = on_request;
	site.server = http_server_new(site.loop, &options, &error);
	assert_non_null(site.server);
	site.port = http_server_port(site.server);
	assert_int_equal(pthread_create(&site.thread, NULL, site_main, NULL), 0);
}

static void site_close(void)
{
	net_post(site.loop, stop_loop, NULL);
	pthread_join(site.thread, NULL);
	net_loop_free(site.loop);
}

/* Runs fn on the loop's thread and waits for it. */
struct call {
	void (*fn)(void);
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool ran;
};

static void run_call(void *arg)
{
	struct call *call = arg;
	call->fn();
	pthread_mutex_lock(&call->lock);
	call->ran = true;
	pthread_cond_signal(&call->done);
	pthread_mutex_unlock(&call->lock);
}

static inline void on_loop(void (*fn)(void))
{
	struct call call = {.fn = fn, .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
	net_post(site.loop, run_call, &call);
	pthread_mutex_lock(&call.lock);
	while (!call.ran)
		pthread_cond_wait(&call.done, &call.lock);
	pthread_mutex_unlock(&call.lock);
}

static inline void wait_for(atomic_int *counter, int value)
{
	for (int i = 0; i < 3000 && *counter < value; i++)
		usleep(10000);
	assert_int_equal(*counter, value);
}

/* Waits until the counter has begun to move and stopped again. */
static inline int at_rest(atomic_int *counter)
{
	int last = 0, same = 0;
	for (int i = 0; i < 600 && same < 4; i++) {
		usleep(50000);
		same = *counter > 0 && *counter == last ? same + 1 : 0;
		last = *counter;
	}
	assert_int_equal(same, 4);
	return last;
}

/* --- the client --- */

static int client_open(void)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(site.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	struct timeval limit = {.tv_sec = 30};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	return fd;
}

static void client_send(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
		if (sent <= 0)
			return; /* the server may have closed: what it answered tells */
		bytes += sent;
		len -= (size_t)sent;
	}
}

static inline void client_say(int fd, const char *text)
{
	client_send(fd, text, strlen(text));
}

/* With a time limit it is interrupted when the process was stopped and goes on. */
static inline ssize_t client_recv(int fd, void *into, size_t size)
{
	ssize_t got;
	do
		got = recv(fd, into, size, 0);
	while (got < 0 && errno == EINTR);
	return got;
}

/* Everything until the server ends the connection; false when it was reset or nothing came for too long. */
static inline bool client_read_all(int fd, struct buf *into)
{
	char bytes[65536];
	ssize_t got;
	while ((got = client_recv(fd, bytes, sizeof bytes)) > 0)
		assert_int_equal(buf_append(into, bytes, (size_t)got), DB_OK);
	return got == 0;
}

/* Reads on until `end` has been seen `times` times. False at the end of the connection. */
static inline bool client_read_until(int fd, struct buf *into, const char *end, int times)
{
	for (;;) {
		int seen = 0;
		const char *at = into->at;
		while (at && (at = memmem(at, (size_t)(into->at + into->len - at), end, strlen(end)))) {
			seen++;
			at += strlen(end);
		}
		if (seen >= times)
			return true;
		char bytes[65536];
		ssize_t got = client_recv(fd, bytes, sizeof bytes);
		if (got <= 0)
			return false;
		assert_int_equal(buf_append(into, bytes, (size_t)got), DB_OK);
	}
}

static inline bool client_closed(int fd)
{
	char byte;
	return client_recv(fd, &byte, 1) <= 0;
}

#endif
