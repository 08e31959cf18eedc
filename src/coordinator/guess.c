#include "coordinator/guess.h"

#include "coordinator/browser.h"
#include "coordinator/portal.h"
#include "coordinator/server.h"
#include "core/clock.h"

static const struct throttle_rule account_rule = {5, 5000, 3600000, 7200000};
static const struct throttle_rule address_rule = {20, 5000, 3600000, 7200000};

uint32_t guess_begin(struct server *server, const struct http_request *http, struct str account_id)
{
	char text[THROTTLE_NET_SIZE];
	struct throttle *throttle = server_rooms(server)->portal->guesses;
	struct str net = throttle_net(browser_address(server, http), text);
	uint64_t now_us = clock_mono_us();
	uint32_t account_ms = throttle_wait_ms(throttle, &account_rule, "account", account_id, now_us);
	uint32_t net_ms = throttle_wait_ms(throttle, &address_rule, "address", net, now_us);
	if (account_ms || net_ms)
		return account_ms > net_ms ? account_ms : net_ms;
	throttle_failed(throttle, &account_rule, "account", account_id, now_us);
	throttle_failed(throttle, &address_rule, "address", net, now_us);
	return 0;
}

/* One right code does not buy back wrong ones: anybody can begin logins of their own. */
void guess_was_right(struct server *server, const struct http_request *http, struct str account_id)
{
	char text[THROTTLE_NET_SIZE];
	struct throttle *throttle = server_rooms(server)->portal->guesses;
	throttle_take_back(throttle, "account", account_id);
	throttle_take_back(throttle, "address", throttle_net(browser_address(server, http), text));
}
