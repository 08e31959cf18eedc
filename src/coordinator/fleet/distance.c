/* How far away a provider is: the round trip of a WebSocket ping, which its library answers before any work. */
#include "coordinator/fleet/fleet_internal.h"

#define TICK_US     10
#define EVERY_TICKS (60u * 1000000u / TICK_US)
#define WEIGHT      0.3 /* of the newest round trip */
#define BELIEVED_MS 10000.0

/* Counted round; never 0. */
static uint32_t ticks_now(const struct fleet *fleet)
{
	return (uint32_t)(net_now_us(fleet->loop) / TICK_US) | 1u;
}

void distance_ask(struct session *session)
{
	uint32_t now = ticks_now(session->fleet);
	if (!session->ws || (session->pinged && now - session->pinged < EVERY_TICKS))
		return;
	if (ws_ping(session->ws))
		return;
	session->pinged = now;
	session->awaits_pong = true;
}

void distance_answered(struct session *session)
{
	struct route_node_facts facts;
	if (!session->awaits_pong || !session->node)
		return;
	session->awaits_pong = false;
	double ms = (double)(ticks_now(session->fleet) - session->pinged) * TICK_US / 1000;
	if (ms > BELIEVED_MS)
		return; /* one of us was busy */
	route_node_facts(session->fleet->routes, session->node, &facts);
	facts.network_ms = facts.network_ms > 0 ? facts.network_ms + WEIGHT * (ms - facts.network_ms) : ms;
	route_node_set_facts(session->fleet->routes, session->node, &facts);
}
