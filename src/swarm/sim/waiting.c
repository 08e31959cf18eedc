/* Requests that wait for a place: in one first-come list for each model, or in whatever the policy brings. */
#include "swarm/sim/world_internal.h"

#define LOOK 10 /* waiting requests that are tried in vain before the rest is left for later */

static bool list_enter(struct sim_world *world, struct sim_call *call)
{
	struct list *queue = &world->queues[call->model];
	if (queue->count >= world->policy->queue_limit)
		return false;
	list_push_back(queue, &call->waiting);
	return true;
}

bool sim_wait(struct sim_world *world, struct sim_call *call)
{
	double wait_s = world->policy->queue_s > 0 ? world->policy->queue_s : world->scenario->queue_s;
	if (!(wait_s > 0))
		return false;
	world->measure->owned_twice += call->waits || call->attempts.count || call->ended;
	call->queued_us = world->now_us;
	call->leaves_queue_us = world->now_us + (uint64_t)(wait_s * 1e6);
	if (!(world->policy->wait ? world->policy->wait(world, call) : list_enter(world, call)))
		return false;
	call->waits = true;
	world->queued++;
	sim_wait_event(world, call);
	if (world->policy->waits)
		world->policy->waits(world, call);
	return true;
}

/* It is nobody's but its caller's from now on. */
static void out_of_queue(struct sim_world *world, struct sim_call *call)
{
	world->measure->owned_twice += !call->waits;
	world->measure->overstayed += world->now_us > call->leaves_queue_us;
	call->waits = false;
	world->queued--;
	call->result->queue_ms += (float)(world->now_us - call->queued_us) / 1000;
}

void sim_wait_end(struct sim_world *world, struct sim_call *call)
{
	if (!call->waits)
		return;
	if (world->policy->unwait)
		world->policy->unwait(world, call);
	else
		list_remove(&world->queues[call->model], &call->waiting);
	out_of_queue(world, call);
}

struct sim_call *sim_wait_expired(struct sim_world *world, struct sim_call *call)
{
	if (world->policy->expired) {
		call = world->policy->expired(world);
		if (call)
			out_of_queue(world, call);
		return call;
	}
	if (!call->waits || call->leaves_queue_us > world->now_us)
		return NULL;
	sim_wait_end(world, call);
	return call;
}

/* --- a place may have come free --- */

static void offer_to_list(struct sim_world *world, uint16_t model)
{
	int looked = 0;
	LIST_EACH_SAFE (link, next, &world->queues[model]) {
		struct sim_call *call = LIST_OF(link, struct sim_call, waiting);
		if (sim_place(world, call) != SIM_PICKED && ++looked == LOOK)
			return;
	}
}

static void offer_by_policy(struct sim_world *world, struct sim_seat *seat, uint16_t model)
{
	for (struct sim_call *call; (call = world->policy->take(world, seat, model));) {
		uint64_t since_us = call->queued_us;
		out_of_queue(world, call);
		world->measure->owned_twice += call->attempts.count || call->ended;
		call->turn = world->turn;
		if (sim_place(world, call) == SIM_PICKED)
			continue;
		if (!world->policy->put_back(world, call)) {
			sim_refuse(world, call);
			continue;
		}
		call->result->queue_ms -= (float)(world->now_us - since_us) / 1000;
		call->waits = true;
		world->queued++;
	}
}

void sim_offer(struct sim_world *world, struct sim_seat *seat)
{
	world->turn++;
	for (uint32_t slot = 0; slot < seat->box.slot_count && world->queued; slot++) {
		uint16_t model = seat->box.slots[slot].model;
		if (world->policy->take)
			offer_by_policy(world, seat, model);
		else
			offer_to_list(world, model);
	}
}
