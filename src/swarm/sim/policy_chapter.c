/* The rule of routing 6 to 11 as it is written there, faults included (routing 22): cost of what is allowed and not of what is
 * expected, rates as they were seen whatever the load was, the coordinator's own reservations hardly in the ranking, ten places
 * in the queue, and an acceptance that disarms the deadline and so the hedge. Looks at every machine for every request. */
#include "swarm/sim/world.h"

#include <math.h>
#include <stdlib.h>

#define TIE_MS       3000.0
#define QUEUE_MS     3000.0
#define PENDING_MS   750.0
#define COLD_MS      30000.0
#define PRESSURE_MS  4000.0
#define CPU_MS       1500.0
#define GPU_MS       5000.0
#define SERIOUS_MS   8000.0
#define AFFINITY_MS  1500.0
#define AFFINITY_US  (600ull * 1000000)
#define SLOWDOWN     0.27
#define FLOOR_TPS    15.0
#define PREFILL      12.0
#define PREFILL_MAX  5000.0
#define BOX_PLACES   24
#define OVERCOMMIT   2.0
#define SAMPLES      50
#define LOAD_PADDING 1.1176
#define TOO_LARGE    2.0
#define QUEUE_PLACES 10
#define QUEUE_S      120

struct rates { /* observed decode rates of one model on one kind of machine */
	float ring[SAMPLES];
	uint32_t count, next;
	double median;
};

struct last_served {
	struct sim_seat *seat;
	uint64_t at_us;
};

struct chapter {
	struct rates rates[SIM_MAX_MODELS][SIM_MAX_GROUPS];
	struct last_served *conversations;
	uint32_t conversation_count;
	struct candidate *candidates;
};

struct candidate {
	struct sim_seat *seat;
	double cost, projected, ttft;
	uint32_t queue;
	bool cold;
};

static enum db_err start(struct sim_world *world)
{
	struct chapter *chapter = calloc(1, sizeof *chapter);
	if (!chapter)
		return DB_E_NOMEM;
	world->mine = chapter;
	for (size_t i = 0; i < world->trace->count; i++)
		if (world->trace->requests[i].conversation >= chapter->conversation_count)
			chapter->conversation_count = world->trace->requests[i].conversation + 1;
	chapter->conversations = calloc(chapter->conversation_count + 1, sizeof *chapter->conversations);
	chapter->candidates = calloc(world->seat_count, sizeof *chapter->candidates);
	return chapter->conversations && chapter->candidates ? DB_OK : DB_E_NOMEM;
}

static void stop(struct sim_world *world)
{
	struct chapter *chapter = world->mine;
	free(chapter->conversations);
	free(chapter->candidates);
	free(chapter);
}

/* --- rates --- */

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static void add_rate(struct rates *rates, double tps)
{
	float sorted[SAMPLES];
	rates->ring[rates->next] = (float)tps;
	rates->next = (rates->next + 1) % SAMPLES;
	rates->count += rates->count < SAMPLES;
	memcpy(sorted, rates->ring, sizeof sorted);
	qsort(sorted, rates->count, sizeof *sorted, ascending);
	uint32_t middle = rates->count / 2;
	rates->median = rates->count % 2 ? (double)sorted[middle] : ((double)sorted[middle - 1] + (double)sorted[middle]) / 2;
}

static uint32_t group_of(const struct sim_world *world, const struct sim_seat *seat)
{
	return (uint32_t)(seat->box.group - world->scenario->groups);
}

static void beat(struct sim_world *world, struct sim_seat *seat)
{
	struct chapter *chapter = world->mine;
	for (uint32_t i = 0; i < seat->box.slot_count; i++)
		if (seat->beat.has[i] && seat->beat.slots[i].decode_tps > 0)
			add_rate(&chapter->rates[seat->box.slots[i].model][group_of(world, seat)], seat->beat.slots[i].decode_tps);
}

static double static_decode(const struct sim_seat *seat)
{
	if (seat->box.group->registers_rates)
		return seat->box.slots[0].solo_tps;
	return seat->box.group->bandwidth_gbs > 0 ? sqrt(seat->box.group->bandwidth_gbs) : 1;
}

static double effective_decode(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot)
{
	const struct chapter *chapter = world->mine;
	double median = chapter->rates[seat->box.slots[slot].model][group_of(world, seat)].median;
	if (seat->beat.has[slot] && seat->beat.slots[slot].decode_tps > 0)
		return seat->beat.slots[slot].decode_tps;
	if (median > 0)
		return median;
	double tps = static_decode(seat) / (1 + SLOWDOWN * seat->beat.slots[slot].running);
	return tps < 1 ? 1 : tps;
}

/* --- gates --- */

static uint32_t places(const struct sim_seat *seat, uint32_t base)
{
	if (!seat->box.group->registers_rates)
		return base;
	double rate = static_decode(seat), quality = rate <= FLOOR_TPS ? 1 : floor((rate / FLOOR_TPS - 1) / SLOWDOWN);
	quality = quality < 1 ? 1 : quality > base ? base : quality;
	double cap = ceil(quality * OVERCOMMIT);
	return cap < base ? (uint32_t)cap : base;
}

static uint32_t effective_queue(const struct sim_seat *seat, uint32_t slot)
{
	const struct route_slot *told = &seat->beat.slots[slot];
	uint32_t load = seat->beat.has[slot] ? told->running + told->waiting : 0;
	return load > seat->slot_pending[slot] ? load : seat->slot_pending[slot];
}

static bool fits_budget(const struct sim_seat *seat, uint32_t slot, uint64_t need)
{
	const struct route_slot *told = &seat->beat.slots[slot];
	uint64_t used = told->budget_used + told->budget_queued;
	uint64_t seen = used > told->max_tokens_potential ? used : told->max_tokens_potential;
	uint64_t extra = seat->slot_tokens[slot] > seen ? seat->slot_tokens[slot] - seen : 0;
	return used + extra + need <= told->budget_max;
}

enum fit { FITS, FULL, NEVER };

static enum fit gate(const struct sim_world *world, const struct sim_call *call, const struct sim_seat *seat, uint32_t slot)
{
	double size_gb = seat->box.slots[slot].size_gb;
	uint64_t need = (uint64_t)call->request->prompt + call->made + call->request->max_tokens;
	uint64_t fresh_us = 16ull * 60 * 1000000;
	bool warm = seat->beat.has[slot];
	if (!seat->connected || sim_is_excluded(call, seat) || seat->cool_us[slot] > world->now_us ||
	    seat->challenged_us + fresh_us < world->now_us)
		return NEVER;
	uint32_t base = warm && seat->beat.slots[slot].max_concurrency ? seat->beat.slots[slot].max_concurrency : BOX_PLACES;
	if ((warm ? effective_queue(seat, slot) : seat->pending) >= places(seat, base) || seat->pending >= BOX_PLACES)
		return FULL;
	if (!warm && TOO_LARGE * size_gb > seat->box.group->memory_gb)
		return NEVER;
	if (warm)
		return fits_budget(seat, slot, need) ? FITS : FULL;
	if (!seat->pending)
		return size_gb * LOAD_PADDING <= seat->beat.free_for_load_gb ? FITS : FULL;
	return seat->box.group->memory_gb - seat->beat.gpu_active_gb >= size_gb + (double)need * 400000 / 1073741824 ? FITS : FULL;
}

/* --- cost (routing 7) --- */

static struct candidate price(const struct sim_world *world, const struct sim_call *call, struct sim_seat *seat, uint32_t slot)
{
	const struct route_slot *told = &seat->beat.slots[slot];
	bool warm = seat->beat.has[slot];
	double prompt = call->request->prompt + call->made, max = call->request->max_tokens;
	double decode = effective_decode(world, seat, slot), fixed = static_decode(seat);
	double fixed_prefill = seat->box.group->registers_rates ? seat->box.slots[0].prefill_tps : fixed * PREFILL;
	double prefill = warm && told->prefill_tps > 0 ? told->prefill_tps : fixed_prefill;
	prefill = prefill > PREFILL_MAX ? PREFILL_MAX : prefill;
	uint32_t queue = effective_queue(seat, slot);
	double gpu = seat->beat.gpu_active_gb / seat->box.group->memory_gb;
	double state = warm ? 0 : COLD_MS;
	double backlog = warm ? (double)(told->budget_used + told->budget_queued) : (double)seat->slot_tokens[slot];
	double health = PRESSURE_MS * seat->beat.memory_pressure + CPU_MS * seat->beat.cpu_usage + GPU_MS * (gpu > 1 ? 1 : gpu) +
	                (seat->beat.thermal >= 2 ? SERIOUS_MS : 0);
	double own = 1000 * prompt / fixed_prefill + 1000 * max / decode;
	uint32_t running = warm ? told->running : 0, waiting = warm ? told->waiting : 0;
	double solo = warm && told->decode_tps > 0 ? told->decode_tps * (1 + SLOWDOWN * running) : fixed;
	uint32_t unseen = seat->slot_pending[slot] > running + waiting ? seat->slot_pending[slot] - running - waiting : 0;
	return (struct candidate){
	    .seat = seat,
	    .cost = state + QUEUE_MS * queue + PENDING_MS * seat->pending + 1000 * backlog / decode + own + health,
	    .projected = solo / (1 + SLOWDOWN * (running + 1)),
	    .ttft = state + 1000 * (waiting + unseen) * prompt / prefill + 1000 * prompt / prefill + 1000 / decode,
	    .queue = queue,
	    .cold = !warm,
	};
}

static void favour_last(struct sim_world *world, const struct sim_call *call, struct candidate *candidates, uint32_t count)
{
	const struct chapter *chapter = world->mine;
	const struct last_served *last = &chapter->conversations[call->request->conversation];
	for (uint32_t i = 0; i < count; i++)
		if (candidates[i].seat == last->seat && last->at_us + AFFINITY_US > world->now_us)
			candidates[i].cost -= candidates[i].cost < AFFINITY_MS ? candidates[i].cost : AFFINITY_MS;
}

/* The cheapest; among those alike the shortest queue, then the least pending, then any; or the one that served the
 * conversation before. */
static const struct candidate *choose(struct sim_world *world, const struct sim_call *call, const struct candidate *candidates,
                                      uint32_t count)
{
	const struct chapter *chapter = world->mine;
	const struct last_served *last = &chapter->conversations[call->request->conversation];
	bool some_fast = false;
	for (uint32_t i = 0; i < count; i++)
		some_fast |= candidates[i].projected >= FLOOR_TPS;
	double cheapest = INFINITY;
	for (uint32_t i = 0; i < count; i++)
		if ((!some_fast || candidates[i].projected >= FLOOR_TPS) && candidates[i].cost < cheapest)
			cheapest = candidates[i].cost;
	const struct candidate *best = NULL;
	uint32_t ties = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct candidate *at = &candidates[i];
		if ((some_fast && at->projected < FLOOR_TPS) || at->cost > cheapest + TIE_MS)
			continue;
		if (at->seat == last->seat && last->at_us + AFFINITY_US > world->now_us)
			return at;
		bool better = !best || at->queue < best->queue || (at->queue == best->queue && at->seat->pending < best->seat->pending);
		bool equal = best && at->queue == best->queue && at->seat->pending == best->seat->pending;
		ties = better ? 1 : equal ? ties + 1 : ties;
		if (better || (equal && sim_random_below(&world->random, ties) == 0))
			best = at;
	}
	return best;
}

static enum sim_answer pick(struct sim_world *world, const struct sim_call *call, struct sim_pick *out)
{
	struct chapter *chapter = world->mine;
	uint16_t model = call->model;
	uint32_t count = 0, full = 0;
	for (uint32_t i = 0; i < world->offer_count[model]; i++) {
		struct sim_seat *seat = &world->seats[world->offers[model][i]];
		uint32_t slot = sim_slot_of(seat, model);
		enum fit fit = gate(world, call, seat, slot);
		full += fit == FULL;
		if (fit == FITS)
			chapter->candidates[count++] = price(world, call, seat, slot);
	}
	favour_last(world, call, chapter->candidates, count);
	const struct candidate *best = choose(world, call, chapter->candidates, count);
	if (!best)
		return full ? SIM_LATER : SIM_NEVER;
	*out = (struct sim_pick){.seat = best->seat, .cold = best->cold, .predicted_ms = best->ttft, .tail_ms = -1};
	return SIM_PICKED;
}

static void content(struct sim_world *world, struct sim_attempt *attempt)
{
	struct chapter *chapter = world->mine;
	chapter->conversations[attempt->call->request->conversation] = (struct last_served){attempt->seat, world->now_us};
}

const struct sim_policy sim_policy_chapter = {.name = "chapter",
                                              .about = "routing chapter, as written",
                                              .accept_disarms = true,
                                              .queue_limit = QUEUE_PLACES,
                                              .queue_s = QUEUE_S,
                                              .start = start,
                                              .stop = stop,
                                              .beat = beat,
                                              .pick = pick,
                                              .content = content};
