/* Many sessions come from several loopback addresses, by turns: one has not ports enough for all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "net/http_server.h"
#include "swarm/fleet.h"

#define ADDRESSES 3
#define PROVIDERS 9

struct door {
	struct net_loop *loop;
	uint32_t seen[ADDRESSES + 1], others, asked;
};

/* Nobody is let in: who knocks is all that matters. */
static void on_request(struct http_request *request, void *context)
{
	struct door *door = context;
	uint64_t last = 0;
	struct str peer = http_peer(request), nth = str_starts(peer, STR("127.0.0.")) ? str_sub(peer, 8, peer.len) : STR_NONE;
	if (str_to_u64(nth, &last) && last >= 1 && last <= ADDRESSES)
		door->seen[last]++;
	else
		door->others++;
	http_respond(request, 403, "text/plain", STR("no"));
	if (++door->asked == PROVIDERS)
		net_loop_stop(door->loop);
}

static void too_long(struct net_timer *timer)
{
	(void)timer;
	fail_msg("the providers do not come");
}

static void knock(struct door *door, uint32_t addresses)
{
	struct error error = {.code = DB_OK};
	struct net_timer guard = {0};
	char url[64];
	*door = (struct door){.loop = net_loop_new(NULL)};
	struct http_server_options server = {.host = "127.0.0.1", .context = door, .on_request = on_request};
	struct http_server *http = http_server_new(door->loop, &server, &error);
	assert_non_null(http);
	snprintf(url, sizeof url, "ws://127.0.0.1:%u/ws/provider", http_server_port(http));
	struct swarm_fleet_options options = {
	    .url = url, .count = PROVIDERS, .addresses = addresses, .model = "m", .reconnect_ms = 600000};
	struct swarm_fleet *fleet = swarm_fleet_new(door->loop, &options, &error);
	assert_non_null(fleet);
	net_timer_start(door->loop, &guard, 60000, 0, too_long);
	net_loop_run(door->loop);
	net_timer_stop(&guard);
	swarm_fleet_free(fleet);
	http_server_free(http);
	net_loop_free(door->loop);
}

static void sessions_take_turns_with_the_addresses(void **state)
{
	(void)state;
	struct door door;
	knock(&door, ADDRESSES);
	for (uint32_t i = 1; i <= ADDRESSES; i++)
		assert_int_equal(door.seen[i], PROVIDERS / ADDRESSES);
	assert_int_equal(door.others, 0);
}

static void a_few_sessions_come_from_one_address(void **state)
{
	(void)state;
	struct door door;
	knock(&door, 0);
	assert_int_equal(door.seen[1], PROVIDERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sessions_take_turns_with_the_addresses),
	    cmocka_unit_test(a_few_sessions_come_from_one_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
