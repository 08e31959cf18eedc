/* HTTP calls against a small blocking server in a thread, which can also do what no good server does. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/buf.h"
#include "net/http_client.h"
#include "tls_fixture.h"

/* --- the server: one request a connection, the path chooses the answer --- */

struct fixture {
	struct net_loop *loop;
	struct http_client *client;
	int listener;
	uint16_t port;
	pthread_t thread;
	char url[64];
};

static bool read_request(int fd, struct buf *request)
{
	size_t need = 0;
	while (!need || request->len < need) {
		char piece[4096];
		ssize_t got = read(fd, piece, sizeof piece);
		if (got <= 0)
			return false;
		buf_append(request, piece, (size_t)got);
		char *end = memmem(request->at, request->len, "\r\n\r\n", 4);
		if (!end || need)
			continue;
		char *length = memmem(request->at, request->len, "Content-Length: ", 16);
		need = (size_t)(end - request->at) + 4 + (length ? strtoul(length + 16, NULL, 10) : 0);
	}
	return true;
}

static void say(int fd, const char *text)
{
	ssize_t sent = write(fd, text, strlen(text));
	(void)sent;
}

static bool asks(const struct buf *request, const char *line)
{
	return memmem(request->at, request->len, line, strlen(line)) != NULL;
}

static void answer_with_body(int fd, struct str body)
{
	char head[128];
	snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
	say(fd, head);
	ssize_t sent = write(fd, body.at, body.len);
	(void)sent;
}

static void serve(int fd, const struct buf *request)
{
	if (asks(request, " /echo"))
		answer_with_body(fd, buf_str(request));
	else if (asks(request, " /chunked "))
		say(fd, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 418 Teapot\r\nTransfer-Encoding: chunked\r\nX-Kind: "
		        "tea\r\n\r\n"
		        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
	else if (asks(request, " /moved "))
		say(fd, "HTTP/1.1 302 Found\r\nLocation: /echo/target\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone");
	else if (asks(request, " /moved-to-file "))
		say(fd, "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	else if (asks(request, " /moved-for-ever "))
		say(fd, "HTTP/1.1 302 Found\r\nLocation: /moved-for-ever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	else if (asks(request, " /cut "))
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
	else if (asks(request, " /garbage "))
		say(fd, "220 smtp.example ESMTP\r\n");
	else if (asks(request, " /silent ")) {
		char byte;
		while (read(fd, &byte, 1) > 0) /* until the client leaves */
			;
	} else if (asks(request, " /stream ")) {
		say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
		for (int i = 0; i < 100000 && write(fd, "data: x\n\n", 9) == 9; i++)
			;
	} else if (asks(request, " /range ")) {
		say(fd, asks(request, "Range: bytes=5-\r\n")
		            ? "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789"
		            : "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
	} else if (asks(request, " /megabyte ")) {
		char *megabyte = malloc(1 << 20);
		memset(megabyte, 'm', 1 << 20);
		answer_with_body(fd, (struct str){megabyte, 1 << 20});
		free(megabyte);
	}
}

static void *serve_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct buf request;
	buf_init(&request, 8 << 20);
	if (read_request(fd, &request))
		serve(fd, &request);
	shutdown(fd, SHUT_RDWR);
	close(fd);
	buf_free(&request);
	return NULL;
}

static void *server_main(void *arg)
{
	struct fixture *fixture = arg;
	for (;;) {
		int fd = accept(fixture->listener, NULL, NULL);
		if (fd < 0)
			return NULL;
		pthread_t thread;
		pthread_create(&thread, NULL, serve_connection, (void *)(intptr_t)fd);
		pthread_detach(thread);
	}
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	struct error error;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	fixture->listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fixture->listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(fixture->listener, 64), 0);
	getsockname(fixture->listener, (struct sockaddr *)&address, &size);
	fixture->port = ntohs(address.sin_port);
	pthread_create(&fixture->thread, NULL, server_main, fixture);
	fixture->loop = net_loop_new(&error);
	assert_non_null(fixture->loop);
	fixture->client = http_client_new(fixture->loop, &error);
	assert_non_null(fixture->client);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	http_client_free(fixture->client);
	net_loop_free(fixture->loop);
	shutdown(fixture->listener, SHUT_RDWR);
	pthread_join(fixture->thread, NULL);
	close(fixture->listener);
	free(fixture);
	return 0;
}

/* --- a call and what came of it --- */

struct call {
	struct fixture *fixture;
	struct http_fetch_options options;
	struct http_fetch *fetch;
	int headers_status, status, done;
	enum db_err code;
	char kind[16];
	struct buf body;
	size_t pieces, cancel_at_piece;
};

static void on_headers(struct http_fetch *fetch, int status, void *user)
{
	struct call *call = user;
	assert_int_equal(call->headers_status, 0);
	call->headers_status = status;
	str_copy(http_fetch_header(fetch, "x-kind"), call->kind, sizeof call->kind);
}

static void on_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct call *call = user;
	(void)fetch;
	call->done++;
	call->status = status;
	call->code = error ? error->code : DB_OK;
	if (error)
		assert_true(strlen(error->text) > 10);
	buf_append_str(&call->body, body);
	net_loop_stop(call->fixture->loop);
}

static void prepare(struct call *call, struct fixture *fixture, const char *method, const char *path)
{
	memset(call, 0, sizeof *call);
	buf_init(&call->body, 8 << 20);
	call->fixture = fixture;
	snprintf(fixture->url, sizeof fixture->url, "http://127.0.0.1:%u%s", fixture->port, path);
	call->options = (struct http_fetch_options){
	    .method = method, .url = fixture->url, .user = call, .on_headers = on_headers, .on_done = on_done};
}

static void begin(struct call *call)
{
	struct error error = {0};
	call->fetch = http_fetch(call->fixture->client, &call->options, &error);
	assert_non_null(call->fetch);
	assert_int_equal(call->done, 0);
}

static void get(struct call *call, struct fixture *fixture, const char *path)
{
	prepare(call, fixture, "GET", path);
	begin(call);
	net_loop_run(fixture->loop);
	assert_int_equal(call->done, 1);
}

static bool body_has(const struct call *call, const char *text)
{
	return memmem(call->body.at, call->body.len, text, strlen(text)) != NULL;
}

/* --- tests --- */

static void test_a_call_sends_method_headers_and_body_as_given(void **state)
{
	struct call call;
	prepare(&call, *state, "POST", "/echo?a=b%20c");
	const struct http_header headers[] = {{STR("Content-Type"), STR("application/json")}, {STR("X-Empty"), STR_NONE}};
	call.options.headers = headers;
	call.options.header_count = 2;
	call.options.body = STR("{\"n\":1}");
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.status, 200);
	assert_true(body_has(&call, "POST /echo?a=b%20c HTTP/1.1\r\n"));
	assert_true(body_has(&call, "\r\nContent-Type: application/json\r\n"));
	assert_true(body_has(&call, "\r\nX-Empty:\r\n"));
	assert_true(body_has(&call, "\r\nContent-Length: 7\r\n"));
	assert_true(body_has(&call, "\r\n\r\n{\"n\":1}"));
	assert_false(body_has(&call, "Expect:"));
	buf_free(&call.body);
}

static void test_every_method_keeps_its_name(void **state)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
	for (size_t i = 0; i < 5; i++) {
		struct call call;
		char line[32];
		prepare(&call, *state, methods[i], "/echo");
		begin(&call);
		net_loop_run(call.fixture->loop);
		snprintf(line, sizeof line, "%s /echo HTTP/1.1\r\n", methods[i]);
		assert_int_equal(call.status, 200);
		assert_true(body_has(&call, line));
		assert_false(body_has(&call, "Content-Type:"));
		buf_free(&call.body);
	}
}

static void test_a_head_call_has_a_status_and_no_body(void **state)
{
	struct call call;
	prepare(&call, *state, "HEAD", "/megabyte");
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.status, 200);
	assert_int_equal(call.body.len, 0);
}

static void test_a_large_body_arrives_whole_at_the_server(void **state)
{
	struct call call;
	prepare(&call, *state, "POST", "/echo");
	char *large = malloc(3 << 20);
	memset(large, 'z', 3 << 20);
	call.options.body = (struct str){large, 3 << 20};
	begin(&call);
	memset(large, 'q', 3 << 20); /* it was copied */
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.status, 200);
	assert_true(call.body.len > 3 << 20);
	assert_memory_equal(call.body.at + call.body.len - 5, "zzzzz", 5);
	free(large);
	buf_free(&call.body);
}

static void test_headers_are_those_of_the_final_answer(void **state)
{
	struct call call;
	get(&call, *state, "/chunked");
	assert_int_equal(call.headers_status, 418);
	assert_int_equal(call.status, 418);
	assert_string_equal(call.kind, "tea");
	assert_true(str_is(buf_str(&call.body), "hello world"));
	buf_free(&call.body);
}

static void test_a_get_follows_redirects_and_a_post_does_not(void **state)
{
	struct call call;
	get(&call, *state, "/moved");
	assert_int_equal(call.headers_status, 200);
	assert_true(body_has(&call, "GET /echo/target HTTP/1.1"));
	assert_false(body_has(&call, "gone"));
	buf_free(&call.body);

	prepare(&call, *state, "POST", "/moved");
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.status, 302);
	buf_free(&call.body);
}

static void test_redirects_end_at_other_protocols_and_after_five(void **state)
{
	struct call call;
	get(&call, *state, "/moved-to-file");
	assert_int_equal(call.status, 0);
	assert_int_equal(call.code, DB_E_INVALID);
	assert_int_equal(call.body.len, 0);
	get(&call, *state, "/moved-for-ever");
	assert_int_equal(call.status, 0);
	assert_int_not_equal(call.code, DB_OK);
}

static void test_what_is_no_answer_is_an_error(void **state)
{
	struct call call;
	get(&call, *state, "/cut");
	assert_int_equal(call.status, 0);
	assert_int_equal(call.code, DB_E_CLOSED);
	get(&call, *state, "/garbage");
	assert_int_equal(call.status, 0);
	assert_int_not_equal(call.code, DB_OK);
	get(&call, *state, "/no-such-answer");
	assert_int_equal(call.code, DB_E_CLOSED);
}

static void test_nobody_listening_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	struct call call;
	int unused = socket(AF_INET, SOCK_STREAM, 0); /* bound but not listening: refused */
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	assert_int_equal(bind(unused, (struct sockaddr *)&address, size), 0);
	getsockname(unused, (struct sockaddr *)&address, &size);
	prepare(&call, fixture, "GET", "/");
	snprintf(fixture->url, sizeof fixture->url, "http://127.0.0.1:%u/", ntohs(address.sin_port));
	begin(&call);
	net_loop_run(fixture->loop);
	assert_int_equal(call.done, 1);
	assert_int_equal(call.code, DB_E_CLOSED);
	close(unused);
}

static void test_a_call_ends_when_its_time_is_over(void **state)
{
	struct call call;
	prepare(&call, *state, "GET", "/silent");
	call.options.timeout_ms = 50;
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.done, 1);
	assert_int_equal(call.code, DB_E_TIMEOUT);
}

static void test_an_answer_above_the_limit_is_refused(void **state)
{
	struct call call;
	prepare(&call, *state, "GET", "/megabyte");
	call.options.max_body_bytes = (1 << 20) - 1;
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.code, DB_E_LIMIT);
	prepare(&call, *state, "GET", "/megabyte");
	call.options.max_body_bytes = 1 << 20;
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.code, DB_OK);
	assert_int_equal(call.body.len, 1 << 20);
	buf_free(&call.body);
}

static void test_a_download_resumes_where_it_was_cut(void **state)
{
	struct call call;
	prepare(&call, *state, "GET", "/range");
	call.options.resume_from = 5;
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.status, 206);
	assert_true(str_is(buf_str(&call.body), "56789"));
	buf_free(&call.body);
}

static bool on_piece(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct call *call = user;
	(void)fetch;
	assert_int_equal(call->headers_status, 200);
	buf_append_str(&call->body, bytes);
	if (++call->pieces < call->cancel_at_piece || !call->cancel_at_piece)
		return true;
	net_loop_stop(call->fixture->loop);
	return false;
}

static void test_pieces_are_handed_on_as_they_come(void **state)
{
	struct call call;
	prepare(&call, *state, "GET", "/stream");
	call.options.on_data = on_piece;
	begin(&call);
	net_loop_run(call.fixture->loop);
	assert_int_equal(call.done, 1);
	assert_int_equal(call.body.len, 900000);
	buf_free(&call.body);
}

struct later {
	struct net_timer timer;
	struct net_loop *loop;
};

static void stop_loop(struct net_timer *timer)
{
	net_loop_stop(LIST_OF(timer, struct later, timer)->loop);
}

/* Lets the loop run on a little, so that a callback that must not come would. */
static void run_on(struct net_loop *loop)
{
	struct later later = {.loop = loop};
	net_timer_start(loop, &later.timer, 20, 0, stop_loop);
	net_loop_run(loop);
}

static void test_returning_false_cancels_without_a_further_callback(void **state)
{
	struct call call;
	prepare(&call, *state, "GET", "/stream");
	call.options.on_data = on_piece;
	call.cancel_at_piece = 2;
	begin(&call);
	net_loop_run(call.fixture->loop);
	run_on(call.fixture->loop);
	assert_int_equal(call.pieces, 2);
	assert_int_equal(call.done, 0);
	buf_free(&call.body);
}

static void test_a_cancelled_call_makes_no_callback(void **state)
{
	struct call call;
	prepare(&call, *state, "GET", "/echo");
	begin(&call);
	http_fetch_cancel(call.fetch);
	run_on(call.fixture->loop);
	assert_int_equal(call.done, 0);
}

/* A call whose callback begins another and cancels a third. */
struct tangle {
	struct call outer, inner, victim;
	bool tangled;
};

static bool tangle(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct tangle *all = user;
	(void)fetch;
	(void)bytes;
	if (!all->tangled) {
		all->tangled = true;
		begin(&all->inner);
		http_fetch_cancel(all->victim.fetch);
	}
	return true;
}

static void tangle_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct tangle *all = user;
	on_done(fetch, status, body, error, &all->outer);
}

static void test_a_callback_may_begin_and_cancel_other_calls(void **state)
{
	static struct tangle all;
	struct fixture *fixture = *state;
	char inner_url[64], victim_url[64];
	prepare(&all.victim, fixture, "GET", "/silent");
	memcpy(victim_url, fixture->url, sizeof victim_url);
	all.victim.options.url = victim_url;
	begin(&all.victim);
	prepare(&all.inner, fixture, "GET", "/chunked");
	memcpy(inner_url, fixture->url, sizeof inner_url);
	all.inner.options.url = inner_url;
	prepare(&all.outer, fixture, "GET", "/stream");
	all.outer.options.user = &all;
	all.outer.options.on_headers = NULL;
	all.outer.options.on_data = tangle;
	all.outer.options.on_done = tangle_done;
	begin(&all.outer);
	while (!all.outer.done || !all.inner.done)
		net_loop_run(fixture->loop);
	assert_int_equal(all.inner.status, 418);
	assert_int_equal(all.victim.done, 0);
	buf_free(&all.inner.body);
}

static void test_bad_addresses_and_headers_are_refused_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct call call;
	struct error error;
	static const char *const urls[] = {"file:///etc/passwd", "ftp://127.0.0.1/", "127.0.0.1", ""};
	for (size_t i = 0; i < 4; i++) {
		prepare(&call, fixture, "GET", "/");
		call.options.url = urls[i];
		assert_null(http_fetch(fixture->client, &call.options, &error));
		assert_int_equal(error.code, DB_E_INVALID);
	}
	const struct http_header bad[] = {{STR("X"), STR("a\r\nInjected: yes")},
	                                  {STR("X\r\nY"), STR("a")},
	                                  {STR("X Y"), STR("a")},
	                                  {STR_NONE, STR("a")},
	                                  {STR("X"), STR("a\0b")}};
	for (size_t i = 0; i < 5; i++) {
		prepare(&call, fixture, "GET", "/echo");
		call.options.headers = &bad[i];
		call.options.header_count = 1;
		assert_null(http_fetch(fixture->client, &call.options, &error));
		assert_int_equal(error.code, DB_E_INVALID);
	}
}

static void test_freeing_the_client_ends_its_calls_silently(void **state)
{
	struct fixture *fixture = *state;
	struct call calls[3];
	for (int i = 0; i < 3; i++) {
		prepare(&calls[i], fixture, "GET", "/silent");
		begin(&calls[i]);
	}
	run_on(fixture->loop);
	http_client_free(fixture->client);
	run_on(fixture->loop);
	for (int i = 0; i < 3; i++)
		assert_int_equal(calls[i].done, 0);
	fixture->client = http_client_new(fixture->loop, NULL);
}

/* --- against our own server --- */

static void answer_path(struct http_request *request, void *context)
{
	(void)context;
	http_respond(request, 200, "text/plain", http_path(request));
}

static struct http_server *own_server(struct call *call, struct fixture *fixture, struct tls_context *tls)
{
	struct error error = {0};
	struct http_server_options options = {.host = "127.0.0.1", .tls = tls, .on_request = answer_path};
	struct http_server *server = http_server_new(fixture->loop, &options, &error);
	assert_non_null(server);
	prepare(call, fixture, NULL, "/");
	snprintf(fixture->url, sizeof fixture->url, "%s://localhost:%u/own", tls ? "https" : "http", http_server_port(server));
	return server;
}

static void call_once(struct call *call)
{
	call->done = call->headers_status = 0;
	buf_clear(&call->body);
	begin(call);
	net_loop_run(call->fixture->loop);
	assert_int_equal(call->done, 1);
}

static void test_calls_one_after_another_share_a_connection(void **state)
{
	struct call call;
	struct http_server *server = own_server(&call, *state, NULL);
	for (int i = 0; i < 50; i++) {
		call_once(&call);
		assert_int_equal(call.status, 200);
		assert_true(str_is(buf_str(&call.body), "/own"));
		assert_int_equal(http_server_connections(server), 1);
	}
	http_server_free(server);
	run_on(call.fixture->loop);
	buf_free(&call.body);
}

static void test_tls_is_verified(void **state)
{
	struct tls_fixture certificate;
	assert_true(tls_fixture_make(&certificate));
	struct tls_context *tls = tls_server_new(certificate.cert, certificate.key, NULL);
	struct call call;
	struct http_server *server = own_server(&call, *state, tls);
	call_once(&call);
	assert_int_equal(call.code, DB_E_DENIED); /* signed by nobody the system trusts */

	call.options.ca_path = certificate.cert;
	call_once(&call);
	assert_int_equal(call.status, 200);
	assert_true(str_is(buf_str(&call.body), "/own"));

	/* The name must match too: the certificate is for localhost and 127.0.0.1. */
	snprintf(call.fixture->url, sizeof call.fixture->url, "https://127.0.0.2:%u/own", http_server_port(server));
	call_once(&call);
	assert_int_not_equal(call.code, DB_OK);
	http_server_free(server);
	run_on(call.fixture->loop);
	tls_free(tls);
	tls_fixture_remove(&certificate);
	buf_free(&call.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_a_call_sends_method_headers_and_body_as_given, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_every_method_keeps_its_name, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_head_call_has_a_status_and_no_body, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_large_body_arrives_whole_at_the_server, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_headers_are_those_of_the_final_answer, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_get_follows_redirects_and_a_post_does_not, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_redirects_end_at_other_protocols_and_after_five, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_what_is_no_answer_is_an_error, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_nobody_listening_is_an_error, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_call_ends_when_its_time_is_over, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_an_answer_above_the_limit_is_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_download_resumes_where_it_was_cut, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_pieces_are_handed_on_as_they_come, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_returning_false_cancels_without_a_further_callback, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_cancelled_call_makes_no_callback, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_callback_may_begin_and_cancel_other_calls, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_bad_addresses_and_headers_are_refused_at_once, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_freeing_the_client_ends_its_calls_silently, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_calls_one_after_another_share_a_connection, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_tls_is_verified, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("http_client", tests, NULL, NULL);
}
