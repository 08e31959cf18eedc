/* Byte streams, the same tests over plain TCP and over TLS: order, coalescing, back-pressure, ends, failures. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "core/buf.h"
#include "net/loop_internal.h"
#include "net/stream_internal.h"
#include "tls_fixture.h"

static struct tls_fixture fixture;
static struct tls_context *server_tls, *client_tls;

struct pair;
struct end {
	struct pair *pair;
	struct net_stream *stream;
	struct buf got;
	bool open, eof, closed, drained;
	enum db_err why;
	size_t stop_at;  /* stop the loop when so many bytes have come */
	size_t pause_at; /* 0 = never */
	bool stay_after_eof;
	void (*on_bytes)(struct end *end);
};
struct pair {
	struct net_loop *loop;
	int listener;
	uint16_t port;
	uv_poll_t poll;
	struct net_timer guard;
	bool tls;
	struct end server, client;
	int still_open;
	size_t last_queued;
};

static void on_read(struct net_stream *stream, char *data, size_t len, void *user)
{
	struct end *end = user;
	assert_ptr_equal(stream, end->stream);
	assert_int_equal(buf_append(&end->got, data, len), DB_OK);
	if (end->on_bytes)
		end->on_bytes(end);
	if (end->pause_at && end->got.len >= end->pause_at)
		net_stream_pause(stream);
	if (end->stop_at && end->got.len >= end->stop_at)
		net_loop_stop(end->pair->loop);
}

static void on_drain(struct net_stream *stream, void *user)
{
	(void)stream;
	((struct end *)user)->drained = true;
}

static void on_eof(struct net_stream *stream, void *user)
{
	struct end *end = user;
	end->eof = true;
	if (!end->stay_after_eof)
		net_stream_close(stream);
}

static void on_closed(struct net_stream *stream, const struct error *why, void *user)
{
	(void)stream;
	struct end *end = user;
	assert_false(end->closed);
	end->closed = true;
	end->why = why ? why->code : DB_OK;
	if (why)
		assert_true(strlen(why->text) > 10);
	end->stream = NULL;
	if (--end->pair->still_open == 0)
		net_loop_stop(end->pair->loop);
}

static const struct net_stream_handler handler = {on_read, on_drain, on_eof, on_closed};

static void on_open(struct net_stream *stream, void *user)
{
	(void)stream;
	((struct end *)user)->open = true;
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
	(void)events;
	struct pair *pair = poll->data;
	assert_int_equal(status, 0);
	int fd = accept4(pair->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	pair->server.stream = net_stream_accept(pair->loop, fd, pair->tls ? server_tls : NULL, on_open, &handler, &pair->server);
	assert_non_null(pair->server.stream);
	pair->still_open++;
	uv_poll_stop(poll);
}

static void too_long(struct net_timer *timer)
{
	(void)timer;
	fail_msg("the test hangs");
}

static void pair_listen(struct pair *pair)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	pair->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(pair->listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(pair->listener, 8), 0);
	assert_int_equal(getsockname(pair->listener, (struct sockaddr *)&address, &size), 0);
	pair->port = ntohs(address.sin_port);
	assert_int_equal(uv_poll_init(net_loop_uv(pair->loop), &pair->poll, pair->listener), 0);
	pair->poll.data = pair;
	uv_poll_start(&pair->poll, UV_READABLE, on_acceptable);
}

static void pair_open(struct pair *pair, bool tls, const char *alpn)
{
	*pair = (struct pair){.tls = tls};
	pair->loop = net_loop_new(NULL);
	assert_non_null(pair->loop);
	pair->server.pair = pair->client.pair = pair;
	buf_init(&pair->server.got, 64u << 20);
	buf_init(&pair->client.got, 64u << 20);
	pair_listen(pair);
	net_timer_start(pair->loop, &pair->guard, 30000, 0, too_long);
	pair->still_open = 1;
	pair->client.stream = net_stream_connect(pair->loop, "127.0.0.1", pair->port, tls ? client_tls : NULL, alpn, on_open,
	                                         &handler, &pair->client);
	assert_non_null(pair->client.stream);
}

static void pair_free(struct pair *pair)
{
	net_timer_stop(&pair->guard);
	uv_close((uv_handle_t *)&pair->poll, NULL);
	if (pair->server.stream)
		net_stream_abort(pair->server.stream);
	if (pair->client.stream)
		net_stream_abort(pair->client.stream);
	net_loop_free(pair->loop);
	assert_null(pair->server.stream);
	assert_null(pair->client.stream);
	close(pair->listener);
	buf_free(&pair->server.got);
	buf_free(&pair->client.got);
}

static char pattern(size_t i)
{
	return (char)(i * 31 + (i >> 8));
}

static void check_pattern(const struct buf *got, size_t len)
{
	assert_int_equal(got->len, len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got->at[i], pattern(i));
}

static void send_pattern(struct net_stream *stream, size_t len)
{
	char *bytes = malloc(len);
	for (size_t i = 0; i < len; i++)
		bytes[i] = pattern(i);
	assert_int_equal(net_stream_write(stream, bytes, len), DB_OK);
	free(bytes);
}

static void echo(struct end *end)
{
	if (end->got.len == 5)
		net_stream_write(end->stream, "world", 5);
}

static void both_ways(bool tls)
{
	struct pair pair;
	pair_open(&pair, tls, "http/1.1");
	pair.server.on_bytes = echo;
	pair.client.stop_at = 5;
	assert_false(net_stream_connect_from(pair.client.stream, "localhost"));
	if (!tls)
		assert_true(net_stream_connect_from(pair.client.stream, "127.0.7.9"));
	net_stream_write(pair.client.stream, "hello", 5); /* before the connection stands */
	net_loop_run(pair.loop);
	assert_true(pair.client.open);
	assert_true(str_is(buf_str(&pair.server.got), "hello"));
	assert_true(str_is(buf_str(&pair.client.got), "world"));
	assert_true(str_starts(net_stream_peer(pair.server.stream), tls ? STR("127.0.0.1:") : STR("127.0.7.9:")));
	assert_true(str_is(net_stream_alpn(pair.server.stream), tls ? "http/1.1" : ""));
	pair_free(&pair);
	assert_true(pair.server.closed && pair.client.closed);
}

#define BIG (9u << 20)

static void send_big_and_close(struct end *end)
{
	send_pattern(end->stream, BIG);
	net_stream_close(end->stream);
	assert_int_equal(net_stream_write(end->stream, "x", 1), DB_E_CLOSED);
}

static void close_flushes(bool tls)
{
	struct pair pair;
	pair_open(&pair, tls, NULL);
	pair.server.on_bytes = send_big_and_close;
	net_stream_write(pair.client.stream, "?", 1);
	net_loop_run(pair.loop);
	check_pattern(&pair.client.got, BIG);
	assert_true(pair.client.eof && pair.client.closed && pair.server.closed);
	assert_int_equal(pair.server.why, DB_OK);
	pair_free(&pair);
}

static void send_big_and_cut(struct end *end)
{
	send_pattern(end->stream, BIG);
	net_stream_cut(end->stream);
}

/* The patience with a peer that reads no more is over at once. */
static void give_up_soon(struct net_timer *timer)
{
	struct pair *pair = LIST_OF(timer, struct pair, guard);
	struct net_stream *stream = pair->server.stream;
	if (stream && stream->state == STREAM_FLUSHING)
		net_timer_start(pair->loop, &stream->deadline, 1, 0, stream->deadline.fn);
	if (!pair->server.closed)
		return;
	pair->client.pause_at = 0;
	if (pair->client.stream)
		net_stream_resume(pair->client.stream);
	net_timer_start(pair->loop, &pair->guard, 30000, 0, too_long);
}

static void a_cut_stream_never_looks_whole(bool tls)
{
	struct pair pair;
	pair_open(&pair, tls, NULL);
	pair.server.on_bytes = send_big_and_cut;
	pair.client.pause_at = 1;
	net_stream_write(pair.client.stream, "?", 1);
	net_timer_start(pair.loop, &pair.guard, 100, 100, give_up_soon);
	net_loop_run(pair.loop);
	assert_true(pair.client.closed && !pair.client.eof && pair.client.why != DB_OK);
	assert_true(pair.client.got.len < BIG);
	pair_free(&pair);
}

static void send_big(struct end *end)
{
	net_stream_set_low_water(end->stream, 1000);
	send_pattern(end->stream, BIG);
}

/* Looks again and again until the transfer has come to rest. */
static void resume_after_stall(struct net_timer *timer)
{
	struct pair *pair = LIST_OF(timer, struct pair, guard);
	size_t queued = pair->server.stream ? net_stream_queued(pair->server.stream) : 0;
	bool rests = queued > 0 && queued == pair->last_queued && pair->client.got.len > 0;
	pair->last_queued = queued;
	if (!rests)
		return;
	assert_true(queued > 1000); /* the kernel took what it could; the rest waits here, and nothing is lost */
	assert_false(pair->server.drained);
	assert_true(net_stream_stalled_ms(pair->server.stream) > 0);
	pair->client.pause_at = 0;
	net_stream_resume(pair->client.stream);
	net_timer_start(pair->loop, &pair->guard, 30000, 0, too_long);
}

static void paused_reader_stalls_the_writer(bool tls)
{
	struct pair pair;
	pair_open(&pair, tls, NULL);
	pair.server.on_bytes = send_big;
	pair.client.pause_at = 1;
	pair.client.stop_at = BIG;
	net_stream_write(pair.client.stream, "?", 1);
	net_timer_start(pair.loop, &pair.guard, 100, 100, resume_after_stall);
	net_loop_run(pair.loop);
	check_pattern(&pair.client.got, BIG);
	assert_true(pair.server.drained);
	pair_free(&pair);
}

static void abort_now(struct end *end)
{
	net_stream_abort(end->stream);
	assert_false(end->closed); /* not from inside the call */
}

static void paused_peer_notices_abort(bool tls)
{
	struct pair pair;
	pair_open(&pair, tls, NULL);
	pair.server.on_bytes = abort_now;
	net_stream_write(pair.client.stream, "?", 1);
	pair.client.pause_at = 1;
	net_stream_pause(pair.client.stream);
	net_loop_run(pair.loop);
	assert_true(pair.client.closed && pair.server.closed);
	pair_free(&pair);
}

static void answer_twice_then_close(struct end *end)
{
	net_stream_write(end->stream, "too much", 8);
	net_stream_close_gently(end->stream);
}

/* Closing over unread bytes resets a TCP connection, which can destroy what was sent before. */
static void gentle_close_keeps_the_last_words(bool tls)
{
	struct pair pair;
	pair_open(&pair, tls, NULL);
	pair.server.on_bytes = answer_twice_then_close;
	send_pattern(pair.client.stream, 4u << 20);
	net_loop_run(pair.loop);
	assert_true(str_is(buf_str(&pair.client.got), "too much"));
	assert_int_equal(pair.client.why, DB_OK);
	pair_free(&pair);
}

static void small_writes_arrive_together(bool tls)
{
	struct pair pair;
	pair_open(&pair, tls, NULL);
	for (int i = 0; i < 1000; i++) {
		char text[16];
		snprintf(text, sizeof text, "%03d,", i);
		struct str parts[] = {str_of(text), STR(";")};
		assert_int_equal(net_stream_write_parts(pair.client.stream, parts, 2), DB_OK);
	}
	pair.server.stop_at = 5000;
	net_loop_run(pair.loop);
	assert_int_equal(pair.server.got.len, 5000);
	assert_memory_equal(pair.server.got.at + 4990, "998,;999,;", 10);
	pair_free(&pair);
}

#define BOTH(name)                                                                                                             \
	static void test_##name##_plain(void **state)                                                                              \
	{                                                                                                                          \
		(void)state;                                                                                                           \
		name(false);                                                                                                           \
	}                                                                                                                          \
	static void test_##name##_tls(void **state)                                                                                \
	{                                                                                                                          \
		(void)state;                                                                                                           \
		name(true);                                                                                                            \
	}
BOTH(both_ways)
BOTH(close_flushes)
BOTH(a_cut_stream_never_looks_whole)
BOTH(paused_reader_stalls_the_writer)
BOTH(paused_peer_notices_abort)
BOTH(gentle_close_keeps_the_last_words)
BOTH(small_writes_arrive_together)

static void check_failure(const char *host, uint16_t port, struct tls_context *tls, enum db_err code)
{
	struct pair pair = {.loop = net_loop_new(NULL), .still_open = 1};
	pair.client.pair = &pair;
	net_timer_start(pair.loop, &pair.guard, 30000, 0, too_long);
	pair.client.stream = net_stream_connect(pair.loop, host, port, tls, NULL, on_open, &handler, &pair.client);
	net_loop_run(pair.loop);
	assert_true(pair.client.closed);
	assert_false(pair.client.open);
	assert_int_equal(pair.client.why, code);
	net_timer_stop(&pair.guard);
	net_loop_free(pair.loop);
}

static void test_connection_refused_is_told(void **state)
{
	(void)state;
	check_failure("localhost", 1, NULL, DB_E_CLOSED); /* more than one address is tried */
}

static void test_unknown_name_is_told(void **state)
{
	(void)state;
	check_failure("no-such-host.invalid", 80, NULL, DB_E_NOT_FOUND);
}

static void test_certificate_of_a_stranger_is_refused(void **state)
{
	(void)state;
	struct tls_context *trusting_others = tls_client_new(NULL, NULL);
	struct tls_context *trusted = client_tls;
	assert_non_null(trusting_others);
	client_tls = trusting_others;
	struct pair pair;
	pair_open(&pair, true, NULL);
	net_loop_run(pair.loop);
	assert_true(pair.client.closed);
	assert_false(pair.client.open);
	assert_int_equal(pair.client.why, DB_E_CRYPTO);
	pair_free(&pair);
	client_tls = trusted;
	tls_free(trusting_others);
}

static void test_certificate_for_another_name_is_refused(void **state)
{
	(void)state;
	struct pair pair;
	pair_open(&pair, true, NULL);
	struct end stranger = {.pair = &pair};
	pair.still_open++;
	net_stream_abort(pair.client.stream);
	/* The same machine, under a name that the certificate does not hold. */
	stranger.stream =
	    net_stream_connect(pair.loop, "::ffff:127.0.0.1", pair.port, client_tls, NULL, on_open, &handler, &stranger);
	net_loop_run(pair.loop);
	assert_true(stranger.closed);
	assert_false(stranger.open);
	assert_int_equal(stranger.why, DB_E_CRYPTO);
	pair_free(&pair);
}

static void test_abort_while_connecting_is_told_once(void **state)
{
	(void)state;
	struct net_loop *loop = net_loop_new(NULL);
	struct pair pair = {.loop = loop, .still_open = 1};
	pair.client.pair = &pair;
	pair.client.stream = net_stream_connect(loop, "localhost", 9, NULL, NULL, on_open, &handler, &pair.client);
	net_stream_abort(pair.client.stream);
	net_stream_abort(pair.client.stream);
	net_loop_run(loop);
	assert_true(pair.client.closed);
	net_loop_free(loop);
}

static void test_bad_certificate_files_are_explained(void **state)
{
	(void)state;
	struct error error;
	assert_null(tls_server_new("/nonexistent.pem", fixture.key, &error));
	assert_non_null(strstr(error.text, "/nonexistent.pem"));
	assert_null(tls_server_new(fixture.cert, fixture.cert, &error));
	assert_non_null(strstr(error.text, fixture.cert));
	assert_null(tls_client_new("/nonexistent.pem", &error));
}

static int set_up(void **state)
{
	(void)state;
	if (!tls_fixture_make(&fixture))
		return -1;
	server_tls = tls_server_new(fixture.cert, fixture.key, NULL);
	client_tls = tls_client_new(fixture.cert, NULL);
	return server_tls && client_tls ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	tls_free(server_tls);
	tls_free(client_tls);
	tls_fixture_remove(&fixture);
	return 0;
}

#define PLAIN_AND_TLS(name) cmocka_unit_test(test_##name##_plain), cmocka_unit_test(test_##name##_tls)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    PLAIN_AND_TLS(both_ways),
	    PLAIN_AND_TLS(close_flushes),
	    PLAIN_AND_TLS(a_cut_stream_never_looks_whole),
	    PLAIN_AND_TLS(paused_reader_stalls_the_writer),
	    PLAIN_AND_TLS(paused_peer_notices_abort),
	    PLAIN_AND_TLS(gentle_close_keeps_the_last_words),
	    PLAIN_AND_TLS(small_writes_arrive_together),
	    cmocka_unit_test(test_connection_refused_is_told),
	    cmocka_unit_test(test_unknown_name_is_told),
	    cmocka_unit_test(test_certificate_of_a_stranger_is_refused),
	    cmocka_unit_test(test_certificate_for_another_name_is_refused),
	    cmocka_unit_test(test_abort_while_connecting_is_told_once),
	    cmocka_unit_test(test_bad_certificate_files_are_explained),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
