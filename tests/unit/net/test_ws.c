/* WebSockets from end to end in one process: a server and a client of ours on one loop. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/buf.h"
#include "net/ws.h"
#include "tls_fixture.h"

#define WATCHDOG_TICKS 60000 /* of a millisecond: only a test that hangs gets there */

struct world;

/* One end of the connection and all that it saw. */
struct end {
	struct world *world;
	struct ws *ws; /* NULL before it opens and after on_close */
	size_t messages, bytes, next_number;
	struct buf last;
	int pongs, drains, closes, close_code;
	char reason[128];
	void (*hook)(struct end *end, struct str message);
	size_t pause_after; /* messages, 0 = never */
};

struct world {
	struct net_loop *loop;
	struct http_server *http;
	struct tls_context *server_tls, *client_tls;
	struct ws_limits server_limits, client_limits;
	struct ws_connecting *connecting;
	struct end server, client;
	int opened;
	struct error error;

	struct net_timer ticker;
	bool (*condition)(struct world *world);
	int ticks;
};

/* --- callbacks --- */

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	struct end *end = user;
	(void)kind;
	assert_ptr_equal(end->ws, ws);
	end->messages++;
	end->bytes += len;
	buf_clear(&end->last);
	buf_append(&end->last, data, len);
	if (end->hook)
		end->hook(end, (struct str){data, len});
	if (end->pause_after && end->messages == end->pause_after)
		ws_pause(ws);
	memset(data, 0xee, len); /* the bytes are ours to change */
}

static void on_pong(struct ws *ws, void *user)
{
	(void)ws;
	((struct end *)user)->pongs++;
}

static void on_drain(struct ws *ws, void *user)
{
	(void)ws;
	((struct end *)user)->drains++;
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	struct end *end = user;
	assert_int_equal(ws_send(ws, WS_TEXT, STR("too late")), DB_E_CLOSED);
	ws_close(ws, 1000, "");
	ws_abort(ws);
	assert_int_equal(ws_queued_bytes(ws), 0);
	end->closes++;
	end->close_code = code;
	str_copy(reason, end->reason, sizeof end->reason);
	end->ws = NULL;
}

static const struct ws_handler handler = {
    .on_message = on_message, .on_pong = on_pong, .on_drain = on_drain, .on_close = on_close};

static void on_request(struct http_request *request, void *context)
{
	struct world *world = context;
	world->server.ws = ws_accept(request, &handler, &world->server_limits, &world->server);
}

static void opened(struct ws *ws, const struct error *error, void *user)
{
	struct end *end = user;
	end->world->opened++;
	end->world->connecting = NULL;
	end->ws = ws;
	if (error)
		end->world->error = *error;
}

/* --- running --- */

static void on_tick(struct net_timer *timer)
{
	struct world *world = LIST_OF(timer, struct world, ticker);
	if (world->condition(world) || ++world->ticks > WATCHDOG_TICKS)
		net_loop_stop(world->loop);
}

static void run_until(struct world *world, bool (*condition)(struct world *world))
{
	world->condition = condition;
	world->ticks = 0;
	net_timer_start(world->loop, &world->ticker, 0, 1, on_tick);
	net_loop_run(world->loop);
	net_timer_stop(&world->ticker);
	assert_true(condition(world));
}

static bool some_turns_passed(struct world *world)
{
	return world->ticks >= 30;
}

static bool both_open(struct world *world)
{
	return world->opened && world->server.ws;
}

static bool both_closed(struct world *world)
{
	return world->server.closes && world->client.closes;
}

static bool client_failed(struct world *world)
{
	return world->opened && world->error.code;
}

static struct world *new_world(void)
{
	struct world *world = calloc(1, sizeof *world);
	world->loop = net_loop_new(NULL);
	world->server.world = world->client.world = world;
	buf_init(&world->server.last, 64 << 20);
	buf_init(&world->client.last, 64 << 20);
	return world;
}

static void connect_to(struct world *world, const char *url, uint32_t timeout_ms)
{
	struct ws_connect_options options = {
	    .url = url, .tls = world->client_tls, .timeout_ms = timeout_ms, .limits = world->client_limits};
	world->connecting = ws_connect(world->loop, &options, &handler, opened, &world->client, &world->error);
	assert_non_null(world->connecting);
	assert_int_equal(world->opened, 0);
}

static void listen_and_connect(struct world *world)
{
	struct error error = {0};
	char url[64];
	struct http_server_options options = {
	    .host = "127.0.0.1", .tls = world->server_tls, .context = world, .on_request = on_request};
	world->http = http_server_new(world->loop, &options, &error);
	assert_non_null(world->http);
	snprintf(url, sizeof url, "%s://localhost:%u/ws?x=1", world->server_tls ? "wss" : "ws", http_server_port(world->http));
	connect_to(world, url, 0);
}

static void open_both(struct world *world)
{
	listen_and_connect(world);
	run_until(world, both_open);
	assert_int_equal(world->opened, 1);
	assert_non_null(world->client.ws);
}

static void end_world(struct world *world)
{
	if (world->client.ws)
		ws_abort(world->client.ws);
	if (world->server.ws)
		ws_abort(world->server.ws);
	http_server_free(world->http);
	run_until(world, some_turns_passed);
	tls_free(world->server_tls);
	tls_free(world->client_tls);
	net_loop_free(world->loop);
	buf_free(&world->server.last);
	buf_free(&world->client.last);
	free(world);
}

/* --- messages --- */

static bool client_has_its_echo(struct world *world)
{
	return world->client.messages == 1;
}

static void echo(struct end *end, struct str message)
{
	assert_int_equal(ws_send(end->ws, WS_BINARY, message), DB_OK);
}

static void round_trip(struct world *world, size_t len)
{
	char *message = malloc(len + 1);
	for (size_t i = 0; i < len; i++)
		message[i] = (char)(i * 31 + i / 256);
	world->client.messages = 0;
	assert_int_equal(ws_send(world->client.ws, WS_BINARY, (struct str){message, len}), DB_OK);
	run_until(world, client_has_its_echo);
	assert_true(str_eq(buf_str(&world->client.last), (struct str){message, len}));
	free(message);
}

static void test_messages_of_all_sizes_go_both_ways_unchanged(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 7, 125, 126, 8191, 8192, 8193, 65535, 65536, 262144, 1000003, 10u << 20};
	struct world *world = new_world();
	world->server.hook = echo;
	open_both(world);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		round_trip(world, sizes[i]);
	end_world(world);
}

static void test_messages_go_through_tls(void **state)
{
	(void)state;
	struct tls_fixture fixture;
	tls_fixture_make(&fixture);
	struct world *world = new_world();
	world->server_tls = tls_server_new(fixture.cert, fixture.key, &world->error);
	world->client_tls = tls_client_new(fixture.cert, &world->error);
	assert_non_null(world->server_tls);
	assert_non_null(world->client_tls);
	world->server.hook = echo;
	open_both(world);
	round_trip(world, 10);
	round_trip(world, 3000000);
	ws_close(world->client.ws, 1000, "bye");
	run_until(world, both_closed);
	assert_int_equal(world->server.close_code, 1000);
	assert_int_equal(world->client.close_code, 1000);
	end_world(world);
	tls_fixture_remove(&fixture);
}

static void expect_next_number(struct end *end, struct str message)
{
	char expected[24];
	snprintf(expected, sizeof expected, "%zu", end->next_number++);
	assert_true(str_is(message, expected));
}

static void send_numbers(struct end *end, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char text[24];
		snprintf(text, sizeof text, "%zu", i);
		assert_int_equal(ws_send(end->ws, WS_TEXT, str_of(text)), DB_OK);
	}
}

static bool all_numbers_arrived(struct world *world)
{
	return world->server.messages == 20000 && world->client.messages == 20000;
}

static void test_many_messages_of_one_turn_arrive_in_order(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->server.hook = world->client.hook = expect_next_number;
	open_both(world);
	send_numbers(&world->client, 20000);
	send_numbers(&world->server, 20000);
	run_until(world, all_numbers_arrived);
	end_world(world);
}

static bool client_has_two_pongs(struct world *world)
{
	return world->client.pongs == 2 && world->server.pongs == 1;
}

static bool client_has_a_pong(struct world *world)
{
	return world->client.pongs == 1;
}

static void test_pings_are_answered_by_both_sides(void **state)
{
	(void)state;
	struct world *world = new_world();
	open_both(world);
	assert_int_equal(ws_ping(world->client.ws), DB_OK);
	run_until(world, client_has_a_pong);
	assert_int_equal(ws_ping(world->client.ws), DB_OK);
	assert_int_equal(ws_ping(world->server.ws), DB_OK);
	run_until(world, client_has_two_pongs);
	assert_int_equal(world->client.messages + world->server.messages, 0);
	end_world(world);
}

/* --- pausing and back-pressure --- */

static bool server_has_100(struct world *world)
{
	return world->server.messages == 100;
}

static bool server_has_40(struct world *world)
{
	return world->server.messages == 40;
}

static void test_a_paused_end_gets_nothing_and_later_everything_in_order(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->server.hook = expect_next_number;
	world->server.pause_after = 1;
	open_both(world);
	send_numbers(&world->client, 100);
	run_until(world, some_turns_passed);
	assert_int_equal(world->server.messages, 1);

	world->server.pause_after = 40; /* it pauses again on the way */
	ws_resume(world->server.ws);
	assert_int_equal(world->server.messages, 1);
	run_until(world, server_has_40);
	run_until(world, some_turns_passed);
	assert_int_equal(world->server.messages, 40);

	ws_resume(world->server.ws);
	ws_pause(world->server.ws); /* what was scheduled is taken back */
	run_until(world, some_turns_passed);
	assert_int_equal(world->server.messages, 40);
	ws_resume(world->server.ws);
	run_until(world, server_has_100);
	end_world(world);
}

static void pause_and_resume(struct end *end, struct str message)
{
	expect_next_number(end, message);
	ws_pause(end->ws);
	ws_resume(end->ws);
}

static void test_a_pause_may_be_lifted_in_the_same_callback(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->server.hook = pause_and_resume;
	open_both(world);
	send_numbers(&world->client, 100);
	run_until(world, server_has_100);
	end_world(world);
}

static bool client_was_drained(struct world *world)
{
	return world->client.drains > 0;
}

static size_t awaited_bytes;
static bool server_has_all_bytes(struct world *world)
{
	return world->server.bytes == awaited_bytes;
}

/* Sends until the queue is full or the connection given up, with a turn between sends so that the kernel takes what it can. */
static size_t fill_up(struct world *world)
{
	static char block[100000];
	size_t sent = 0;
	while (world->client.ws) {
		enum db_err err = ws_send(world->client.ws, WS_BINARY, (struct str){block, sizeof block});
		if (err == DB_E_AGAIN)
			return sent;
		assert_int_equal(err, DB_OK);
		sent += sizeof block;
		if (ws_queued_bytes(world->client.ws) > world->client_limits.max_queued_bytes / 2)
			run_until(world, some_turns_passed);
	}
	return sent;
}

static void test_a_full_queue_refuses_and_tells_when_it_drained(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->client_limits.max_queued_bytes = 1 << 20;
	open_both(world);
	ws_pause(world->server.ws);
	size_t sent = fill_up(world);
	size_t queued = ws_queued_bytes(world->client.ws);
	assert_in_range(queued, 1 << 20, (1 << 20) + 200000);
	assert_int_equal(world->client.drains, 0);

	ws_resume(world->server.ws);
	run_until(world, client_was_drained);
	assert_true(ws_queued_bytes(world->client.ws) <= 1 << 19);
	assert_int_equal(ws_send(world->client.ws, WS_BINARY, STR("more")), DB_OK);
	awaited_bytes = sent + 4;
	run_until(world, server_has_all_bytes);
	assert_int_equal(world->client.drains, 1);
	assert_int_equal(ws_queued_bytes(world->client.ws), 0);
	end_world(world);
}

static bool client_closed(struct world *world)
{
	return world->client.closes > 0;
}

static void test_a_peer_that_stops_reading_is_aborted(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->client_limits.max_queued_bytes = 1 << 20;
	world->client_limits.write_stall_ms = 300;
	open_both(world);
	ws_pause(world->server.ws);
	fill_up(world);
	run_until(world, client_closed);
	assert_int_equal(world->client.close_code, 1006);
	assert_non_null(strstr(world->client.reason, "stopped reading"));
	run_until(world, both_closed);
	end_world(world);
}

/* --- closing --- */

static void expect_closed(const struct end *end, int code, const char *reason)
{
	assert_int_equal(end->closes, 1);
	assert_int_equal(end->close_code, code);
	if (reason)
		assert_string_equal(end->reason, reason);
}

static void close_from(bool from_client)
{
	struct world *world = new_world();
	open_both(world);
	struct end *closer = from_client ? &world->client : &world->server;
	struct end *other = from_client ? &world->server : &world->client;
	ws_send(closer->ws, WS_TEXT, STR("last words"));
	ws_close(closer->ws, 4000, "that is all");
	ws_close(closer->ws, 4001, "a second close changes nothing");
	assert_int_equal(ws_send(closer->ws, WS_TEXT, STR("more")), DB_E_CLOSED);
	assert_int_equal(ws_ping(closer->ws), DB_E_CLOSED);
	assert_int_equal(closer->closes, 0);
	run_until(world, both_closed);
	expect_closed(other, 4000, "that is all");
	expect_closed(closer, 4000, "");
	assert_int_equal(other->messages, 1);
	end_world(world);
}

static void test_either_side_may_close(void **state)
{
	(void)state;
	close_from(true);
	close_from(false);
}

static void test_both_sides_may_close_at_once(void **state)
{
	(void)state;
	struct world *world = new_world();
	open_both(world);
	ws_close(world->client.ws, 4001, "client");
	ws_close(world->server.ws, 4002, "server");
	run_until(world, both_closed);
	expect_closed(&world->server, 4001, "client");
	expect_closed(&world->client, 4002, "server");
	end_world(world);
}

static void test_a_long_close_reason_is_cut_at_a_character(void **state)
{
	(void)state;
	struct world *world = new_world();
	open_both(world);
	char reason[3 * 60 + 1];
	for (size_t i = 0; i < 60; i++)
		memcpy(reason + 3 * i, "\xe2\x9c\x93", 4);
	ws_close(world->client.ws, 1000, reason);
	run_until(world, both_closed);
	assert_int_equal(world->server.close_code, 1000);
	assert_int_equal(strlen(world->server.reason), 123);
	end_world(world);
}

static void close_in_callback(struct end *end, struct str message)
{
	(void)message;
	ws_close(end->ws, 4000, "enough");
}

static void test_no_message_comes_after_a_close_in_a_callback(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->server.hook = close_in_callback;
	open_both(world);
	send_numbers(&world->client, 50);
	run_until(world, both_closed);
	assert_int_equal(world->server.messages, 1);
	expect_closed(&world->client, 4000, "enough");
	expect_closed(&world->server, 4000, "");
	end_world(world);
}

static void abort_in_callback(struct end *end, struct str message)
{
	(void)message;
	ws_abort(end->ws);
	ws_abort(end->ws);
	assert_int_equal(end->closes, 0);
	assert_int_equal(ws_send(end->ws, WS_TEXT, STR("more")), DB_E_CLOSED);
}

static void test_an_abort_in_a_callback_ends_both_sides(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->server.hook = abort_in_callback;
	open_both(world);
	send_numbers(&world->client, 50);
	run_until(world, both_closed);
	assert_int_equal(world->server.messages, 1);
	expect_closed(&world->server, 1006, NULL);
	expect_closed(&world->client, 1006, NULL);
	end_world(world);
}

static void test_a_paused_end_may_close_and_abort(void **state)
{
	(void)state;
	for (int abort = 0; abort < 2; abort++) {
		struct world *world = new_world();
		world->server.pause_after = 1;
		open_both(world);
		send_numbers(&world->client, 50);
		run_until(world, some_turns_passed);
		assert_int_equal(world->server.messages, 1);
		if (abort)
			ws_abort(world->server.ws);
		else
			ws_close(world->server.ws, 1000, "bye");
		run_until(world, both_closed);
		expect_closed(&world->server, abort ? 1006 : 1000, NULL);
		expect_closed(&world->client, abort ? 1006 : 1000, NULL);
		assert_int_equal(world->server.messages, 1);
		end_world(world);
	}
}

static void test_a_paused_end_notices_that_the_peer_left(void **state)
{
	(void)state;
	struct world *world = new_world();
	open_both(world);
	ws_pause(world->server.ws);
	ws_abort(world->client.ws);
	run_until(world, both_closed);
	expect_closed(&world->server, 1006, NULL);
	end_world(world);
}

static void test_a_message_above_the_limit_closes_with_1009(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->server_limits.max_message_bytes = 100000;
	open_both(world);
	static char message[300001];
	ws_send(world->client.ws, WS_BINARY, (struct str){message, 100000});
	ws_send(world->client.ws, WS_BINARY, (struct str){message, sizeof message});
	run_until(world, both_closed);
	assert_int_equal(world->server.messages, 1);
	expect_closed(&world->server, 1009, "message too big");
	expect_closed(&world->client, 1009, "message too big");
	end_world(world);
}

static void test_text_that_is_not_utf8_closes_with_1007(void **state)
{
	(void)state;
	struct world *world = new_world();
	open_both(world);
	ws_send(world->server.ws, WS_TEXT, STR("\xff\xfe"));
	run_until(world, both_closed);
	expect_closed(&world->client, 1007, "text is not UTF-8");
	expect_closed(&world->server, 1007, "text is not UTF-8");
	end_world(world);
}

static void test_websockets_outlive_the_http_server(void **state)
{
	(void)state;
	struct world *world = new_world();
	world->server.hook = echo;
	open_both(world);
	http_server_free(world->http);
	world->http = NULL;
	round_trip(world, 1000);
	end_world(world);
}

/* --- connecting --- */

/* A port where connections are taken by the kernel and never answered. */
static int deaf_listener(char *url, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t address_size = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, address_size), 0);
	assert_int_equal(listen(fd, 8), 0);
	getsockname(fd, (struct sockaddr *)&address, &address_size);
	snprintf(url, size, "ws://127.0.0.1:%u/", ntohs(address.sin_port));
	return fd;
}

static void test_a_handshake_that_takes_too_long_fails(void **state)
{
	(void)state;
	struct world *world = new_world();
	char url[64];
	int fd = deaf_listener(url, sizeof url);
	connect_to(world, url, 30);
	run_until(world, client_failed);
	assert_int_equal(world->error.code, DB_E_TIMEOUT);
	assert_int_equal(world->opened, 1);
	close(fd);
	end_world(world);
}

static void test_a_refused_connection_fails(void **state)
{
	(void)state;
	struct world *world = new_world();
	char url[64];
	close(deaf_listener(url, sizeof url));
	connect_to(world, url, 0);
	run_until(world, client_failed);
	assert_int_equal(world->error.code, DB_E_CLOSED);
	end_world(world);
}

static void test_a_cancelled_connect_makes_no_callback(void **state)
{
	(void)state;
	for (int turns = 0; turns < 2; turns++) {
		struct world *world = new_world();
		char url[64];
		int fd = deaf_listener(url, sizeof url);
		connect_to(world, url, 0);
		if (turns)
			run_until(world, some_turns_passed);
		ws_connect_cancel(world->connecting);
		run_until(world, some_turns_passed);
		assert_int_equal(world->opened, 0);
		close(fd);
		end_world(world);
	}
}

static void test_wrong_addresses_are_refused_at_once(void **state)
{
	(void)state;
	struct world *world = new_world();
	static const char *const urls[] = {"",          "http://x/", "ws://",    "ws://a:0/", "ws://a:65536/",
	                                   "ws://u@a/", "wss://a/",  "ws://a/ b"};
	for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
		struct error error = {0};
		struct ws_connect_options options = {.url = urls[i]};
		assert_null(ws_connect(world->loop, &options, &handler, opened, &world->client, &error));
		assert_int_equal(error.code, DB_E_INVALID);
	}
	const struct http_header bad = {STR("X"), STR("a\r\nInjected: yes")};
	struct error error = {0};
	struct ws_connect_options options = {.url = "ws://127.0.0.1/", .headers = &bad, .header_count = 1};
	assert_null(ws_connect(world->loop, &options, &handler, opened, &world->client, &error));
	assert_int_equal(error.code, DB_E_INVALID);
	assert_int_equal(world->opened, 0);
	end_world(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_messages_of_all_sizes_go_both_ways_unchanged),
	    cmocka_unit_test(test_messages_go_through_tls),
	    cmocka_unit_test(test_many_messages_of_one_turn_arrive_in_order),
	    cmocka_unit_test(test_pings_are_answered_by_both_sides),
	    cmocka_unit_test(test_a_paused_end_gets_nothing_and_later_everything_in_order),
	    cmocka_unit_test(test_a_pause_may_be_lifted_in_the_same_callback),
	    cmocka_unit_test(test_a_full_queue_refuses_and_tells_when_it_drained),
	    cmocka_unit_test(test_a_peer_that_stops_reading_is_aborted),
	    cmocka_unit_test(test_either_side_may_close),
	    cmocka_unit_test(test_both_sides_may_close_at_once),
	    cmocka_unit_test(test_a_long_close_reason_is_cut_at_a_character),
	    cmocka_unit_test(test_no_message_comes_after_a_close_in_a_callback),
	    cmocka_unit_test(test_an_abort_in_a_callback_ends_both_sides),
	    cmocka_unit_test(test_a_paused_end_may_close_and_abort),
	    cmocka_unit_test(test_a_paused_end_notices_that_the_peer_left),
	    cmocka_unit_test(test_a_message_above_the_limit_closes_with_1009),
	    cmocka_unit_test(test_text_that_is_not_utf8_closes_with_1007),
	    cmocka_unit_test(test_websockets_outlive_the_http_server),
	    cmocka_unit_test(test_a_handshake_that_takes_too_long_fails),
	    cmocka_unit_test(test_a_refused_connection_fails),
	    cmocka_unit_test(test_a_cancelled_connect_makes_no_callback),
	    cmocka_unit_test(test_wrong_addresses_are_refused_at_once),
	};
	return cmocka_run_group_tests_name("ws", tests, NULL, NULL);
}
