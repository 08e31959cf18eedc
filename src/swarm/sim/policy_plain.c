/* Policies that know little: any machine, the next one, the one with the fewest requests. All look only at machines that are
 * connected, have the model in memory and have a place. */
#include "swarm/sim/world.h"

#include <stdlib.h>

/* Warm, with a place and the memory, as far as the coordinator knows. */
static bool has_place(const struct sim_seat *seat, uint32_t slot, const struct sim_request *request)
{
	const struct route_slot *told = &seat->beat.slots[slot];
	uint32_t load =
	    told->running + told->waiting > seat->slot_pending[slot] ? told->running + told->waiting : seat->slot_pending[slot];
	uint64_t used = told->budget_used + told->budget_queued > seat->slot_tokens[slot] ? told->budget_used + told->budget_queued
	                                                                                  : seat->slot_tokens[slot];
	return load < told->max_concurrency && used + request->prompt + request->max_tokens <= told->budget_max;
}

static bool can_have(const struct sim_world *world, const struct sim_call *call, const struct sim_seat *seat, bool *warm)
{
	uint32_t slot = sim_slot_of(seat, call->model);
	*warm = seat->beat.has[slot];
	return sim_may_serve(world, call, seat) && !sim_is_excluded(call, seat) && seat->cool_us[slot] <= world->now_us &&
	       (!*warm || has_place(seat, slot, call->request));
}

/* Lower is better; among machines that are alike the one for which `tie` is lowest. Warm ones first. */
typedef double measure_fn(const struct sim_world *world, const struct sim_seat *seat, uint32_t nth, uint64_t draw);

static enum sim_answer pick_least(struct sim_world *world, const struct sim_call *call, measure_fn *measure,
                                  struct sim_pick *out)
{
	uint16_t model = call->model;
	bool best_warm = false;
	double best = 0;
	out->seat = NULL;
	for (uint32_t i = 0; i < world->offer_count[model]; i++) {
		struct sim_seat *seat = &world->seats[world->offers[model][i]];
		bool warm;
		if (!can_have(world, call, seat, &warm) || (best_warm && !warm))
			continue;
		double value = measure(world, seat, i, sim_random_u64(&world->random));
		if (!out->seat || (warm && !best_warm) || value < best) {
			out->seat = seat;
			best = value;
			best_warm = warm;
		}
	}
	out->cold = !best_warm;
	return out->seat ? SIM_PICKED : SIM_LATER;
}

static double by_chance(const struct sim_world *world, const struct sim_seat *seat, uint32_t nth, uint64_t draw)
{
	(void)world;
	(void)seat;
	(void)nth;
	return (double)draw;
}

static enum sim_answer pick_random(struct sim_world *world, struct sim_call *call, struct sim_pick *out)
{
	return pick_least(world, call, by_chance, out);
}

static double by_load(const struct sim_world *world, const struct sim_seat *seat, uint32_t nth, uint64_t draw)
{
	(void)world;
	(void)nth;
	return seat->pending + (double)draw / 18446744073709551616.0;
}

static enum sim_answer pick_least_loaded(struct sim_world *world, struct sim_call *call, struct sim_pick *out)
{
	return pick_least(world, call, by_load, out);
}

/* --- round robin --- */

struct turns {
	uint32_t next[SIM_MAX_MODELS], model; /* model: of the request at hand */
};

static enum db_err round_robin_start(struct sim_world *world)
{
	world->mine = calloc(1, sizeof(struct turns));
	return world->mine ? DB_OK : DB_E_NOMEM;
}

static void round_robin_stop(struct sim_world *world)
{
	free(world->mine);
}

static double by_turn(const struct sim_world *world, const struct sim_seat *seat, uint32_t nth, uint64_t draw)
{
	const struct turns *turns = world->mine;
	uint32_t count = world->offer_count[turns->model];
	(void)seat;
	(void)draw;
	return (nth + count - turns->next[turns->model] % count) % count;
}

static enum sim_answer pick_round_robin(struct sim_world *world, struct sim_call *call, struct sim_pick *out)
{
	struct turns *turns = world->mine;
	uint16_t model = call->model;
	turns->model = model;
	enum sim_answer answer = pick_least(world, call, by_turn, out);
	for (uint32_t i = 0; answer == SIM_PICKED && i < world->offer_count[model]; i++)
		if (&world->seats[world->offers[model][i]] == out->seat)
			turns->next[model] = i + 1;
	return answer;
}

#define PLAIN_QUEUE 100000

const struct sim_policy sim_policy_random = {.name = "random",
                                             .about = "any warm machine with a place",
                                             .queue_limit = PLAIN_QUEUE,
                                             .queues_retries = true,
                                             .pick = pick_random};
const struct sim_policy sim_policy_round_robin = {.name = "round-robin",
                                                  .about = "the next warm machine with a place",
                                                  .queue_limit = PLAIN_QUEUE,
                                                  .queues_retries = true,
                                                  .start = round_robin_start,
                                                  .stop = round_robin_stop,
                                                  .pick = pick_round_robin};
const struct sim_policy sim_policy_least_loaded = {.name = "least-loaded",
                                                   .about = "the warm machine with the fewest requests",
                                                   .queue_limit = PLAIN_QUEUE,
                                                   .queues_retries = true,
                                                   .pick = pick_least_loaded};
