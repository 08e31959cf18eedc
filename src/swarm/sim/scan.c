/* A look at every machine, as the chapter describes the choice (routing 7): fast enough before too slow, then the cheapest, and
 * of those within the tie window the least busy. Gates and costs are the server's own, asked one machine at a time. */
#include <math.h>

#include "swarm/sim/policy_ours.h"

struct seen {
	struct route_node *node;
	struct route_cost cost;
};

static bool ask(const struct sim_world *world, const struct route_request *request, uint32_t seat, struct seen *out)
{
	const struct ours *ours = world->mine;
	out->node = world->seats[seat].mine;
	return out->node && route_check(ours->fleet, out->node, request, world->now_us) == ROUTE_OK &&
	       route_cost_of(ours->fleet, out->node, request, &out->cost);
}

static bool is_less_busy(const struct seen *a, const struct seen *b)
{
	if (a->cost.queue < b->cost.queue || a->cost.queue > b->cost.queue)
		return a->cost.queue < b->cost.queue;
	return route_node_pending(a->node) < route_node_pending(b->node);
}

struct ours_scan ours_scan(struct sim_world *world, const struct route_request *request, uint16_t model)
{
	double cheapest[2] = {INFINITY, INFINITY}; /* of those that are fast enough, and of those that are not */
	struct seen at, best = {.node = NULL};
	uint32_t ties = 0;
	for (uint32_t i = 0; i < world->offer_count[model]; i++)
		if (ask(world, request, world->offers[model][i], &at) && at.cost.total < cheapest[at.cost.slow])
			cheapest[at.cost.slow] = at.cost.total;
	bool slow = isinf(cheapest[false]);
	for (uint32_t i = 0; i < world->offer_count[model]; i++) {
		if (!ask(world, request, world->offers[model][i], &at) || at.cost.slow != slow ||
		    at.cost.total > cheapest[slow] + OURS_TIE_MS)
			continue;
		bool less = best.node && is_less_busy(&at, &best), more = best.node && is_less_busy(&best, &at);
		ties = !best.node || less ? 1 : ties + !more;
		if (!best.node || less || (!more && sim_random_below(&world->random, ties) == 0))
			best = at;
	}
	return (struct ours_scan){best.node, best.node ? best.cost.total : 0, best.node ? cheapest[slow] : 0};
}
