/* HTTP/2 over real sockets, clear and TLS, against a client made of nghttp2: multiplexing, flow control, floods, drain. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "http_fixture.h"
#include "tls_fixture.h"

/* --- a client --- */

struct reply {
	int32_t stream_id;
	int status;
	bool closed, got_continue;
	uint32_t error_code;
	char type[64], echo[8];
	uint64_t promised; /* content-length */
	bool has_length;
	struct buf body;
	const char *send; /* request body */
	size_t send_len, sent;
	bool hold_body; /* leave the request's body open */
};

struct client {
	int fd;
	SSL *ssl;
	nghttp2_session *session;
	bool ended; /* the server closed the connection */
	int goaways;
	uint32_t goaway_code;
	int32_t goaway_last;
	int pings;
};

static struct client client;

static ssize_t wire_read(void *into, size_t size)
{
	if (!client.ssl)
		return recv(client.fd, into, size, MSG_DONTWAIT);
	int got = SSL_read(client.ssl, into, (int)size);
	if (got > 0)
		return got;
	errno = SSL_get_error(client.ssl, got) == SSL_ERROR_WANT_READ ? EAGAIN : EPIPE;
	return errno == EAGAIN ? -1 : 0;
}

static ssize_t wire_write(const void *bytes, size_t len)
{
	if (!client.ssl)
		return send(client.fd, bytes, len, MSG_NOSIGNAL);
	return SSL_write(client.ssl, bytes, (int)len);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
	(void)flags;
	(void)user;
	struct reply *reply = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	struct str key = {(const char *)name, name_len}, text = {(const char *)value, value_len};
	if (!reply)
		return 0;
	uint64_t number = 0;
	if (str_is(key, ":status") && str_to_u64(text, &number)) {
		if (number == 100)
			reply->got_continue = true;
		reply->status = (int)number;
	}
	if (str_is(key, "content-type"))
		(void)str_copy(text, reply->type, sizeof reply->type);
	if (str_is(key, "x-echo"))
		(void)str_copy(text, reply->echo, sizeof reply->echo);
	if (str_is(key, "content-length"))
		reply->has_length = str_to_u64(text, &reply->promised);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len, void *user)
{
	(void)flags;
	(void)user;
	struct reply *reply = nghttp2_session_get_stream_user_data(session, stream_id);
	if (reply)
		buf_append(&reply->body, data, len);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code, void *user)
{
	(void)user;
	struct reply *reply = nghttp2_session_get_stream_user_data(session, stream_id);
	if (reply) {
		reply->closed = true;
		reply->error_code = code;
	}
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	(void)session;
	(void)user;
	if (frame->hd.type == NGHTTP2_GOAWAY) {
		client.goaways++;
		client.goaway_code = frame->goaway.error_code;
		client.goaway_last = frame->goaway.last_stream_id;
	}
	if (frame->hd.type == NGHTTP2_PING)
		client.pings++;
	return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *into, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
	(void)session;
	(void)stream_id;
	(void)user;
	struct reply *reply = source->ptr;
	size_t len = reply->send_len - reply->sent;
	if (len == 0 && reply->hold_body)
		return NGHTTP2_ERR_DEFERRED;
	if (len > size)
		len = size;
	memcpy(into, reply->send + reply->sent, len);
	reply->sent += len;
	if (reply->sent == reply->send_len && !reply->hold_body)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)len;
}

static void start_tls(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	client.ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_fd(client.ssl, client.fd);
	SSL_set_alpn_protos(client.ssl, (const unsigned char *)"\x02h2", 3);
	assert_int_equal(SSL_connect(client.ssl), 1);
	const unsigned char *name;
	unsigned int len;
	SSL_get0_alpn_selected(client.ssl, &name, &len);
	assert_true(str_is((struct str){(const char *)name, len}, "h2"));
	fcntl(client.fd, F_SETFL, O_NONBLOCK);
}

/* Manual windows: nothing is granted unless the test does. */
static void connect_client(bool tls, bool manual_windows)
{
	memset(&client, 0, sizeof client);
	client.fd = client_open();
	int on = 1;
	setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (tls)
		start_tls();
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	nghttp2_session_callbacks_new(&callbacks);
	nghttp2_option_new(&option);
	nghttp2_option_set_no_auto_window_update(option, manual_windows);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	assert_int_equal(nghttp2_session_client_new2(&client.session, callbacks, NULL, option), 0);
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_option_del(option);
	nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
	nghttp2_submit_settings(client.session, 0, settings, 1);
}

static void disconnect_client(void)
{
	nghttp2_session_del(client.session);
	SSL_free(client.ssl);
	close(client.fd);
}

static void push_out(void)
{
	const uint8_t *bytes;
	ssize_t len;
	while (!client.ended && (len = nghttp2_session_mem_send(client.session, &bytes)) > 0) {
		while (len > 0) {
			ssize_t sent = wire_write(bytes, (size_t)len);
			if (sent < 0 && errno == EAGAIN) {
				poll(&(struct pollfd){.fd = client.fd, .events = POLLOUT}, 1, 1000);
				continue;
			}
			if (sent <= 0) {
				client.ended = true;
				return;
			}
			bytes += sent;
			len -= sent;
		}
	}
}

/* Sends what is due and takes what comes within wait_ms. False when nothing came. */
static bool step(int wait_ms)
{
	push_out();
	struct pollfd watch = {.fd = client.fd, .events = POLLIN};
	if (client.ended || ((!client.ssl || !SSL_has_pending(client.ssl)) && poll(&watch, 1, wait_ms) == 0))
		return false;
	static uint8_t bytes[65536];
	ssize_t got = wire_read(bytes, sizeof bytes);
	if (got < 0)
		return true;
	if (got == 0 || nghttp2_session_mem_recv(client.session, bytes, (size_t)got) < 0)
		client.ended = true;
	push_out();
	return !client.ended;
}

static void until_closed(struct reply *reply)
{
	for (int i = 0; i < 100000 && !reply->closed && !client.ended; i++)
		step(1000);
	assert_true(reply->closed);
}

static void until_ended(void)
{
	for (int i = 0; i < 300000 && !client.ended; i++) {
		if (!step(15000))
			break;
	}
	assert_true(client.ended);
}

#define NV(name, value)                                                                                                        \
	{                                                                                                                          \
		(uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value), 0                            \
	}

static void request_with(struct reply *reply, const char *method, const char *path, const char *name, const char *value)
{
	nghttp2_nv head[] = {NV(":method", method), NV(":scheme", "http"), NV(":path", path), NV(":authority", "a"),
	                     NV(name, value)};
	nghttp2_data_provider provider = {.source.ptr = reply, .read_callback = read_body};
	bool has_body = reply->send || reply->hold_body;
	buf_init(&reply->body, 64u << 20);
	reply->stream_id = nghttp2_submit_request(client.session, NULL, head, 5, has_body ? &provider : NULL, reply);
	assert_true(reply->stream_id > 0);
}

static void request(struct reply *reply, const char *method, const char *path)
{
	request_with(reply, method, path, "x-test", "value");
}

static void assert_body(struct reply *reply, const char *text)
{
	if (!str_is(buf_str(&reply->body), text))
		fail_msg("expected \"%s\", got \"%.*s\"", text, STR_ARG(buf_str(&reply->body)));
	buf_free(&reply->body);
}

/* --- ordinary requests --- */

static void check_echo(bool tls)
{
	connect_client(tls, false);
	struct reply reply = {.send = "some body", .send_len = 9};
	request(&reply, "POST", "/echo/x?q=1");
	until_closed(&reply);
	assert_int_equal(reply.status, 200);
	assert_int_equal(reply.error_code, 0);
	assert_string_equal(reply.type, "text/plain");
	assert_string_equal(reply.echo, "yes");
	assert_int_equal(reply.promised, reply.body.len);
	assert_body(&reply, "POST /echo/x q=1|value|127.0.0.1|some body");
	disconnect_client();
}

static void test_echo_by_prior_knowledge(void **state)
{
	(void)state;
	check_echo(false);
}

static void test_echo_by_alpn(void **state)
{
	(void)state;
	check_echo(true);
}

static void test_preface_may_come_byte_by_byte(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply reply = {0};
	request(&reply, "GET", "/hello");
	const uint8_t *bytes;
	ssize_t len = nghttp2_session_mem_send(client.session, &bytes);
	assert_true(len >= 24);
	for (ssize_t i = 0; i < len; i++) {
		wire_write(bytes + i, 1);
		usleep(1000);
	}
	until_closed(&reply);
	assert_body(&reply, "hello\n");
	disconnect_client();
}

#define MANY 200

static void check_multiplex(bool tls)
{
	static struct reply replies[MANY];
	static char body[50000];
	memset(replies, 0, sizeof replies);
	memset(body, 'b', sizeof body);
	connect_client(tls, false);
	for (int i = 0; i < MANY; i++) {
		static const char *const paths[] = {"/later?50", "/echo", "/crumbs?70000", "/big?100000"};
		if (i % 4 == 1)
			replies[i] = (struct reply){.send = body, .send_len = sizeof body};
		request(&replies[i], i % 4 == 1 ? "POST" : "GET", paths[i % 4]);
	}
	for (int i = 0; i < MANY; i++) {
		until_closed(&replies[i]);
		assert_int_equal(replies[i].status, 200);
		assert_int_equal(replies[i].error_code, 0);
		size_t expected[] = {6, sizeof body + strlen("POST /echo |value|127.0.0.1|"), 70000, 100000};
		assert_int_equal(replies[i].body.len, expected[i % 4]);
		assert_int_equal(replies[i].has_length, i % 4 != 2);
		buf_free(&replies[i].body);
	}
	assert_int_equal(site.requests, MANY);
	assert_int_equal(site.gone, 0);
	disconnect_client();
}

static void test_requests_are_multiplexed(void **state)
{
	(void)state;
	check_multiplex(false);
}

static void test_requests_are_multiplexed_over_tls(void **state)
{
	(void)state;
	check_multiplex(true);
}

static void test_large_request_body_passes_the_windows(void **state)
{
	(void)state;
	connect_client(false, false);
	size_t len = 20 << 20;
	char *body = malloc(len);
	memset(body, 'x', len);
	struct reply reply = {.send = body, .send_len = len};
	request(&reply, "POST", "/upload");
	until_closed(&reply);
	assert_int_equal(reply.status, 404);
	assert_body(&reply, "no such thing");
	assert_int_equal(site.requests, 1);
	free(body);
	disconnect_client();
}

static void test_head_and_empty_answers_carry_no_body(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply whole = {0}, stream = {0}, empty = {0};
	request(&whole, "HEAD", "/hello");
	request(&stream, "HEAD", "/stream?100000");
	request(&empty, "GET", "/empty");
	until_closed(&whole);
	until_closed(&stream);
	until_closed(&empty);
	assert_int_equal(whole.promised, 6);
	assert_int_equal(whole.body.len, 0);
	assert_int_equal(stream.status, 200);
	assert_int_equal(stream.body.len, 0);
	assert_int_equal(empty.status, 204);
	assert_false(empty.has_length);
	assert_int_equal(site.gone, 0);
	disconnect_client();
}

static void test_continue_is_said_when_asked_for(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply reply = {.hold_body = true};
	request_with(&reply, "POST", "/echo", "expect", "100-continue");
	for (int i = 0; i < 100 && !reply.got_continue; i++)
		step(100);
	assert_true(reply.got_continue);
	reply.send = "abc";
	reply.send_len = 3;
	reply.hold_body = false;
	nghttp2_session_resume_data(client.session, reply.stream_id);
	until_closed(&reply);
	assert_body(&reply, "POST /echo ||127.0.0.1|abc");
	disconnect_client();
}

/* --- answers before the body, limits --- */

static void test_early_answer_asks_for_no_more_body(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply reply = {.send = "abc", .send_len = 3, .hold_body = true};
	request(&reply, "POST", "/early");
	until_closed(&reply);
	assert_int_equal(reply.status, 401);
	assert_int_equal(reply.error_code, NGHTTP2_NO_ERROR);
	assert_body(&reply, "who are you?");
	assert_int_equal(site.requests, 0);
	assert_int_equal(site.gone, 0);
	disconnect_client();
}

static void test_body_over_the_limit_is_413(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply told = {.send = "0123456789ab", .send_len = 12}, untold = told, fits = {.send = "0123456789", .send_len = 10};
	request_with(&told, "POST", "/echo-tiny", "content-length", "12");
	request(&untold, "POST", "/echo-tiny");
	request(&fits, "POST", "/echo-tiny");
	until_closed(&told);
	until_closed(&untold);
	until_closed(&fits);
	assert_int_equal(told.status, 413);
	assert_int_equal(untold.status, 413);
	assert_int_equal(fits.status, 200);
	assert_int_equal(site.requests, 1);
	buf_free(&fits.body);
	disconnect_client();
}

static void test_head_over_the_limit_is_431(void **state)
{
	(void)state;
	connect_client(false, false);
	static char large[20001];
	memset(large, 'x', 20000);
	struct reply reply = {0};
	request_with(&reply, "GET", "/hello", "x-large", large);
	until_closed(&reply);
	assert_int_equal(reply.status, 431);
	buf_free(&reply.body);
	struct reply after = {0};
	request(&after, "GET", "/hello");
	until_closed(&after);
	assert_body(&after, "hello\n");
	assert_int_equal(site.heads, 1);
	disconnect_client();
}

static void test_malformed_heads_are_refused(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply no_slash = {0}, connect = {0}, long_method = {0};
	request(&no_slash, "GET", "hello");
	request(&long_method, "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ", "/hello");
	until_closed(&no_slash);
	until_closed(&long_method);
	assert_true(no_slash.status == 400 || no_slash.error_code == NGHTTP2_PROTOCOL_ERROR);
	assert_int_equal(long_method.status, 501);
	nghttp2_nv head[] = {NV(":method", "CONNECT"), NV(":authority", "a:1")};
	buf_init(&connect.body, 1000);
	nghttp2_submit_request(client.session, NULL, head, 2, NULL, &connect);
	until_closed(&connect);
	assert_int_equal(connect.status, 501);
	assert_int_equal(site.heads, 0);
	buf_free(&no_slash.body);
	buf_free(&long_method.body);
	buf_free(&connect.body);
	disconnect_client();
}

static void test_slow_body_is_408_and_the_others_go_on(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply slow = {.hold_body = true}, other = {0};
	request(&slow, "POST", "/echo");
	request(&other, "GET", "/hello");
	until_closed(&other);
	until_closed(&slow);
	assert_int_equal(slow.status, 408);
	buf_free(&slow.body);
	buf_free(&other.body);
	disconnect_client();
}

static void test_idle_connection_is_told_goodbye(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply reply = {0};
	request(&reply, "GET", "/hello");
	until_closed(&reply);
	until_ended();
	assert_int_equal(client.goaways, 1);
	assert_int_equal(client.goaway_code, NGHTTP2_NO_ERROR);
	buf_free(&reply.body);
	disconnect_client();
}

/* --- back-pressure, departures --- */

static void test_stream_without_window_waits_and_the_others_go_on(void **state)
{
	(void)state;
	connect_client(false, true);
	struct reply slow = {0}, other = {0};
	request(&slow, "GET", "/stream?3000000");
	for (int i = 0; i < 1000 && slow.body.len < 65535; i++)
		step(10);
	int rooms = at_rest(&site.rooms); /* its producer waits */
	step(10);
	assert_int_equal(slow.body.len, 65535); /* the windows of the stream and of the connection */
	nghttp2_session_consume_connection(client.session, 65535);
	request(&other, "GET", "/hello");
	until_closed(&other);
	assert_body(&other, "hello\n");
	size_t consumed = 0;
	nghttp2_session_consume_connection(client.session, 6);
	for (int i = 0; i < 100000 && !slow.closed; i++) {
		size_t fresh = slow.body.len - consumed;
		nghttp2_session_consume_stream(client.session, slow.stream_id, fresh);
		if (consumed > 0)
			nghttp2_session_consume_connection(client.session, fresh);
		consumed += fresh;
		step(100);
	}
	assert_int_equal(slow.body.len, 3000000);
	assert_true(site.rooms > rooms);
	assert_int_equal(slow.error_code, 0);
	assert_int_equal(site.gone, 0);
	buf_free(&slow.body);
	disconnect_client();
}

static void test_producer_that_ignores_room_is_stopped_at_the_hard_bound(void **state)
{
	(void)state;
	connect_client(false, true);
	struct reply reply = {0};
	request(&reply, "GET", "/flood");
	for (int i = 0; i < 100 && !site.most_queued; i++)
		step(10);
	assert_int_equal(site.most_queued, HTTP_STREAM_HARD_BYTES);
	nghttp2_submit_rst_stream(client.session, 0, reply.stream_id, NGHTTP2_CANCEL);
	step(10);
	wait_for(&site.gone, 1);
	buf_free(&reply.body);
	disconnect_client();
}

static void test_answer_that_nobody_takes_is_given_up(void **state)
{
	(void)state;
	connect_client(false, true);
	struct reply reply = {0};
	request(&reply, "GET", "/stream?3000000");
	until_closed(&reply);
	assert_int_equal(reply.error_code, NGHTTP2_CANCEL);
	assert_int_equal(site.gone, 1);
	buf_free(&reply.body);
	disconnect_client();
}

static void test_reset_stream_is_told_and_the_connection_goes_on(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply held = {0}, stream = {0}, other = {0};
	request(&held, "GET", "/hold");
	request(&stream, "GET", "/stream?100000000");
	while (site.requests < 2)
		step(10);
	nghttp2_submit_rst_stream(client.session, 0, held.stream_id, NGHTTP2_CANCEL);
	nghttp2_submit_rst_stream(client.session, 0, stream.stream_id, NGHTTP2_CANCEL);
	request(&other, "GET", "/hello");
	until_closed(&other);
	assert_body(&other, "hello\n");
	wait_for(&site.gone, 2);
	buf_free(&held.body);
	buf_free(&stream.body);
	disconnect_client();
}

static void test_departed_client_is_noticed(void **state)
{
	(void)state;
	connect_client(true, false);
	struct reply replies[3] = {0};
	for (int i = 0; i < 3; i++)
		request(&replies[i], "GET", "/hold");
	while (site.requests < 3)
		step(10);
	disconnect_client();
	wait_for(&site.gone, 3);
	for (int i = 0; i < 3; i++)
		buf_free(&replies[i].body);
}

static void test_aborted_answer_resets_its_stream_only(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply aborted = {0}, other = {0};
	request(&aborted, "GET", "/abort");
	until_closed(&aborted);
	assert_int_equal(aborted.error_code, NGHTTP2_INTERNAL_ERROR);
	request(&other, "GET", "/hello");
	until_closed(&other);
	assert_int_equal(site.gone, 0);
	buf_free(&aborted.body);
	buf_free(&other.body);
	disconnect_client();
}

/* --- abuse --- */

static void test_rapid_resets_end_the_connection(void **state)
{
	(void)state;
	connect_client(false, false);
	int opened = 0;
	static struct reply held;
	held = (struct reply){0};
	request(&held, "GET", "/hold");
	while (opened < 1000 && !client.ended) {
		struct reply reply = {0};
		request(&reply, "GET", "/later?60000");
		push_out();
		nghttp2_session_set_stream_user_data(client.session, reply.stream_id, NULL);
		nghttp2_submit_rst_stream(client.session, 0, reply.stream_id, NGHTTP2_CANCEL);
		opened++;
		step(0);
	}
	until_ended();
	assert_int_equal(client.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
	assert_true(site.requests < 260);
	wait_for(&site.gone, site.requests); /* at once, the held one too */
	buf_free(&held.body);
	disconnect_client();
}

static void test_resets_among_completed_requests_are_tolerated(void **state)
{
	(void)state;
	connect_client(false, false);
	for (int i = 0; i < 400; i++) {
		struct reply cancelled = {0}, whole = {0};
		request(&cancelled, "GET", "/hold");
		push_out();
		nghttp2_submit_rst_stream(client.session, 0, cancelled.stream_id, NGHTTP2_CANCEL);
		request(&whole, "GET", "/hello");
		until_closed(&whole);
		buf_free(&whole.body);
	}
	assert_int_equal(client.goaways, 0);
	disconnect_client();
}

static void test_more_streams_than_allowed_are_refused(void **state)
{
	(void)state;
	connect_client(false, false);
	static struct reply replies[12];
	memset(replies, 0, sizeof replies);
	step(500);
	step(100); /* the server's settings */
	assert_int_equal(nghttp2_session_get_remote_settings(client.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS), 8);
	/* nghttp2 holds requests over the limit back; raw frames do not. */
	for (int i = 0; i < 12; i++) {
		request(&replies[i], "GET", "/hold");
		step(10);
	}
	for (int i = 0; i < 20; i++)
		step(10);
	assert_int_equal(site.requests, 8);
	for (int i = 0; i < 12; i++)
		buf_free(&replies[i].body);
	disconnect_client();
}

static void send_frames(const char *frame, size_t len, int times)
{
	for (int i = 0; i < times && !client.ended; i++) {
		if (wire_write(frame, len) <= 0)
			client.ended = true;
	}
}

static void check_flood(const char *frame, size_t len)
{
	connect_client(false, false);
	push_out();
	step(100);
	send_frames(frame, len, 50000); /* without reading what comes back */
	until_ended();
	disconnect_client();
	/* and the server is still there */
	connect_client(false, false);
	struct reply reply = {0};
	request(&reply, "GET", "/hello");
	until_closed(&reply);
	assert_body(&reply, "hello\n");
	disconnect_client();
}

static void test_ping_flood_ends_the_connection(void **state)
{
	(void)state;
	check_flood("\0\0\x08\x06\0\0\0\0\0"
	            "12345678",
	            17);
}

static void test_settings_flood_ends_the_connection(void **state)
{
	(void)state;
	check_flood("\0\0\0\x04\0\0\0\0\0", 9);
}

static void test_garbage_ends_the_connection(void **state)
{
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		static const char *const garbage[] = {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI garbage\r\n\r\n",
		                                      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n garbage that is no frame whatever ......"};
		int fd = client_open();
		client_say(fd, garbage[kind]);
		struct buf answer;
		buf_init(&answer, 1 << 20);
		client_read_all(fd, &answer);
		assert_false(str_starts(buf_str(&answer), STR("HTTP/1.1 2")));
		buf_free(&answer);
		close(fd);
	}
	assert_int_equal(site.heads, 0);
}

static void test_head_that_never_ends_is_cut_off(void **state)
{
	(void)state;
	connect_client(false, false);
	push_out();
	step(100);
	/* HEADERS without END_HEADERS: an indexed :method GET, then silence. */
	send_frames("\0\0\x01\x01\0\0\0\0\x01\x82", 10, 1);
	until_ended();
	disconnect_client();
}

static bool read_exactly(void *into, size_t len)
{
	char *at = into;
	while (len > 0) {
		ssize_t got = client_recv(client.fd, at, len);
		if (got <= 0)
			return false;
		at += got;
		len -= (size_t)got;
	}
	return true;
}

/* Reads raw frames until `enough` of the type have come, or the session or connection ended. */
static int count_frames(uint8_t type, int enough)
{
	int count = 0;
	uint8_t head[9], payload[65536];
	while (count < enough && read_exactly(head, sizeof head)) {
		size_t len = (size_t)head[1] << 8 | head[2];
		if (head[0] != 0 || head[3] == NGHTTP2_GOAWAY || !read_exactly(payload, len))
			break;
		count += head[3] == type;
	}
	return count;
}

static void test_forbidden_fields_reset_the_stream(void **state)
{
	(void)state;
	connect_client(false, false);
	push_out();
	step(100);
	/* HEADERS, END_HEADERS | END_STREAM: GET, http, path "/", then literal fields; nghttp2 as a client would not send them. */
	static const char upper[] = "\0\0\x08\x01\x05\0\0\0\x01\x82\x86\x84\x00\x01X\x01y";
	static const char connection[] = "\0\0\x15\x01\x05\0\0\0\x03\x82\x86\x84\x00\x0a"
	                                 "connection\x05"
	                                 "close";
	static const char newline[] = "\0\0\x0a\x01\x05\0\0\0\x05\x82\x86\x84\x00\x01x\x03"
	                              "a\nb";
	wire_write(upper, sizeof upper - 1);
	wire_write(connection, sizeof connection - 1);
	wire_write(newline, sizeof newline - 1);
	assert_int_equal(count_frames(NGHTTP2_RST_STREAM, 3), 3);
	assert_int_equal(site.heads, 0);
	disconnect_client();
}

/* --- drain --- */

static void on_drained(void *arg)
{
	(void)arg;
	site.drained++;
}

static void drain(void)
{
	http_server_drain(site.server, on_drained, NULL);
}

static void answer_held(void)
{
	struct job *job = http_user(site.held);
	http_respond(site.held, 200, NULL, STR("at last"));
	free(job);
}

static void test_drain_finishes_what_is_open_in_two_steps(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply held = {0};
	request(&held, "GET", "/hold");
	while (site.requests < 1)
		step(10);
	on_loop(drain);
	while (client.goaways < 1)
		step(10);
	assert_int_equal(client.goaway_last, INT32_MAX); /* so far only a notice */
	while (client.goaways < 2)
		step(10);
	assert_int_equal(client.goaway_last, held.stream_id);
	assert_int_equal(site.drained, 0);
	on_loop(answer_held);
	until_closed(&held);
	assert_body(&held, "at last");
	until_ended();
	wait_for(&site.drained, 1);
	assert_int_equal(site.gone, 0);
	disconnect_client();
}

static void test_server_freed_in_a_handler_with_frames_still_unread(void **state)
{
	(void)state;
	connect_client(false, false);
	struct reply replies[4] = {0};
	request(&replies[0], "GET", "/hold");
	request(&replies[1], "GET", "/free");
	request(&replies[2], "GET", "/hold");
	request(&replies[3], "GET", "/hello");
	until_ended();
	wait_for(&site.gone, 2);
	for (int i = 0; i < 4; i++)
		buf_free(&replies[i].body);
	disconnect_client();
}

/* --- */

static struct tls_fixture fixture;
static struct tls_context *tls;

static int set_up(void **state)
{
	(void)state;
	site_open((struct http_server_options){.host = "127.0.0.1"});
	return 0;
}

static int set_up_tls(void **state)
{
	(void)state;
	site_open((struct http_server_options){.host = "127.0.0.1", .tls = tls});
	return 0;
}

static int set_up_small(void **state)
{
	(void)state;
	site_open((struct http_server_options){.host = "127.0.0.1", .max_header_bytes = 16384, .max_streams = 8});
	return 0;
}

static int set_up_impatient(void **state)
{
	(void)state;
	site_open((struct http_server_options){
	    .host = "127.0.0.1", .header_timeout_ms = 150, .body_timeout_ms = 150, .idle_timeout_ms = 400});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	site_close();
	return 0;
}

static int make_certificate(void **state)
{
	(void)state;
	if (!tls_fixture_make(&fixture))
		return -1;
	tls = tls_server_new(fixture.cert, fixture.key, NULL);
	return tls ? 0 : -1;
}

static int remove_certificate(void **state)
{
	(void)state;
	tls_free(tls);
	tls_fixture_remove(&fixture);
	return 0;
}

#define TEST(name)           cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_TLS(name)       cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down)
#define TEST_SMALL(name)     cmocka_unit_test_setup_teardown(name, set_up_small, tear_down)
#define TEST_IMPATIENT(name) cmocka_unit_test_setup_teardown(name, set_up_impatient, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_echo_by_prior_knowledge),
	    TEST_TLS(test_echo_by_alpn),
	    TEST(test_preface_may_come_byte_by_byte),
	    TEST(test_requests_are_multiplexed),
	    TEST_TLS(test_requests_are_multiplexed_over_tls),
	    TEST(test_large_request_body_passes_the_windows),
	    TEST(test_head_and_empty_answers_carry_no_body),
	    TEST(test_continue_is_said_when_asked_for),
	    TEST(test_early_answer_asks_for_no_more_body),
	    TEST(test_body_over_the_limit_is_413),
	    TEST_SMALL(test_head_over_the_limit_is_431),
	    TEST(test_malformed_heads_are_refused),
	    TEST_IMPATIENT(test_slow_body_is_408_and_the_others_go_on),
	    TEST_IMPATIENT(test_idle_connection_is_told_goodbye),
	    TEST(test_stream_without_window_waits_and_the_others_go_on),
	    TEST(test_producer_that_ignores_room_is_stopped_at_the_hard_bound),
	    TEST_IMPATIENT(test_answer_that_nobody_takes_is_given_up),
	    TEST(test_reset_stream_is_told_and_the_connection_goes_on),
	    TEST_TLS(test_departed_client_is_noticed),
	    TEST(test_aborted_answer_resets_its_stream_only),
	    TEST(test_rapid_resets_end_the_connection),
	    TEST(test_resets_among_completed_requests_are_tolerated),
	    TEST_SMALL(test_more_streams_than_allowed_are_refused),
	    TEST(test_ping_flood_ends_the_connection),
	    TEST(test_settings_flood_ends_the_connection),
	    TEST(test_garbage_ends_the_connection),
	    TEST_IMPATIENT(test_head_that_never_ends_is_cut_off),
	    TEST(test_forbidden_fields_reset_the_stream),
	    TEST(test_drain_finishes_what_is_open_in_two_steps),
	    TEST(test_server_freed_in_a_handler_with_frames_still_unread),
	};
	return cmocka_run_group_tests(tests, make_certificate, remove_certificate);
}
