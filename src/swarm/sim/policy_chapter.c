/* The rule of routing 6 to 11 as it is written there, faults included (routing 22): cost of what is allowed and not of what is
 * expected, rates as they were seen whatever the load was, the coordinator's own reservations hardly in the ranking, ten places
 * in the queue, and an acceptance that disarms the deadline and so the hedge. Looks at every machine for every request. */
#include "swarm/sim/policy_chapter.h"

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
#define PREFILL      12.0
#define PREFILL_MAX  5000.0
#define BOX_PLACES   24
#define OVERCOMMIT   2.0
#define TOO_LARGE    2.0
#define QUEUE_PLACES 10
#define QUEUE_S      120
#define KV_BYTES     400000.0

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
	chapter->seats = calloc(world->seat_count, sizeof *chapter->seats);
	return chapter->conversations && chapter->candidates && chapter->seats ? DB_OK : DB_E_NOMEM;
}

static void stop(struct sim_world *world)
{
	struct chapter *chapter = world->mine;
	free(chapter->conversations);
	free(chapter->candidates);
	free(chapter->seats);
	free(chapter);
}

struct chapter_seat *chapter_seat_of(const struct sim_world *world, const struct sim_seat *seat)
{
	const struct chapter *chapter = world->mine;
	return &chapter->seats[seat->box.index];
}

static void joined(struct sim_world *world, struct sim_seat *seat)
{
	*chapter_seat_of(world, seat) = (struct chapter_seat){.open = false};
}

/* --- rates --- */

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static void add_rate(struct chapter_rates *rates, double tps)
{
	float sorted[CHAPTER_SAMPLES];
	rates->ring[rates->next] = (float)tps;
	rates->next = (rates->next + 1) % CHAPTER_SAMPLES;
	rates->count += rates->count < CHAPTER_SAMPLES;
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
	if (world->scenario->planner)
		chapter_swap(world);
}

double chapter_static_decode(const struct sim_seat *seat)
{
	if (seat->box.group->registers_rates)
		return seat->box.slots[0].solo_tps;
	return seat->box.group->bandwidth_gbs > 0 ? sqrt(seat->box.group->bandwidth_gbs) : 1;
}

double chapter_decode(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot)
{
	const struct chapter *chapter = world->mine;
	double median = chapter->rates[seat->box.slots[slot].model][group_of(world, seat)].median;
	if (seat->beat.has[slot] && seat->beat.slots[slot].decode_tps > 0)
		return seat->beat.slots[slot].decode_tps;
	if (median > 0)
		return median;
	double tps = chapter_static_decode(seat) / (1 + CHAPTER_SLOWDOWN * seat->beat.slots[slot].running);
	return tps < 1 ? 1 : tps;
}

/* --- gates --- */

static uint32_t places(const struct sim_seat *seat, uint32_t base)
{
	if (!seat->box.group->registers_rates)
		return base;
	double rate = chapter_static_decode(seat),
	       quality = rate <= CHAPTER_FLOOR_TPS ? 1 : floor((rate / CHAPTER_FLOOR_TPS - 1) / CHAPTER_SLOWDOWN);
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

bool chapter_fits_machine(const struct sim_seat *seat, uint32_t slot)
{
	return TOO_LARGE * seat->box.slots[slot].size_gb <= seat->box.group->memory_gb;
}

static enum chapter_fit fits_memory(const struct sim_seat *seat, uint32_t slot, uint64_t need, bool warm)
{
	double size_gb = seat->box.slots[slot].size_gb, kv_gb = (double)need * KV_BYTES / 1073741824;
	bool fits;
	if (!warm && !seat->pending)
		fits = size_gb * CHAPTER_PADDING <= seat->beat.free_for_load_gb;
	else
		fits = seat->box.group->memory_gb - seat->beat.gpu_active_gb >= (warm ? 0 : size_gb) + kv_gb;
	return fits ? CHAPTER_FITS : CHAPTER_FULL;
}

static enum chapter_fit gate(const struct sim_world *world, const struct sim_call *call, const struct sim_seat *seat,
                             uint32_t slot, bool bypass)
{
	const struct route_slot *told = &seat->beat.slots[slot];
	uint64_t need = (uint64_t)call->request->prompt + call->made + call->request->max_tokens;
	bool warm = seat->beat.has[slot];
	if (!sim_may_serve(world, call, seat) || sim_is_excluded(call, seat) || seat->cool_us[slot] > world->now_us ||
	    chapter_shape_shut(world, seat, slot, call->request->tools))
		return CHAPTER_NEVER;
	if (!bypass && chapter_node_shut(world, seat))
		return CHAPTER_BREAKER;
	uint32_t base = warm && told->max_concurrency ? told->max_concurrency : BOX_PLACES;
	if ((warm ? effective_queue(seat, slot) : seat->pending) >= places(seat, base) || seat->pending >= BOX_PLACES)
		return CHAPTER_FULL;
	if (!warm && !chapter_fits_machine(seat, slot))
		return CHAPTER_NEVER;
	if (warm && told->budget_max)
		return fits_budget(seat, slot, need) ? CHAPTER_FITS : CHAPTER_FULL;
	return fits_memory(seat, slot, need, warm);
}

/* --- cost (routing 7) --- */

static double static_prefill(const struct sim_world *world, const struct sim_seat *seat)
{
	const struct sim_group *group = seat->box.group;
	double ratio = world->scenario->prefill_ratio > 0 ? world->scenario->prefill_ratio : PREFILL;
	return group->registers_rates && group->registers_prefill ? seat->box.slots[0].prefill_tps
	                                                          : chapter_static_decode(seat) * ratio;
}

double chapter_prefill(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot)
{
	const struct route_slot *told = &seat->beat.slots[slot];
	double tps = seat->beat.has[slot] && told->prefill_tps > 0 ? told->prefill_tps : static_prefill(world, seat);
	return tps > PREFILL_MAX ? PREFILL_MAX : tps;
}

static struct chapter_candidate price(const struct sim_world *world, const struct sim_call *call, struct sim_seat *seat,
                                      uint32_t slot)
{
	const struct route_slot *told = &seat->beat.slots[slot];
	bool warm = seat->beat.has[slot];
	double prompt = call->request->prompt + call->made, max = call->request->max_tokens;
	double decode = chapter_decode(world, seat, slot), fixed = chapter_static_decode(seat);
	double fixed_prefill = static_prefill(world, seat), prefill = chapter_prefill(world, seat, slot);
	uint32_t queue = effective_queue(seat, slot);
	double gpu = seat->beat.gpu_active_gb / seat->box.group->memory_gb;
	double state = warm ? 0 : COLD_MS;
	bool budgeted = warm && told->budget_max;
	double backlog = budgeted ? (double)(told->budget_used + told->budget_queued) : (double)seat->slot_tokens[slot];
	double health = PRESSURE_MS * seat->beat.memory_pressure + CPU_MS * seat->beat.cpu_usage + GPU_MS * (gpu > 1 ? 1 : gpu) +
	                (seat->beat.thermal >= 2 ? SERIOUS_MS : 0);
	double own = 1000 * prompt / fixed_prefill + 1000 * max / decode;
	uint32_t running = warm ? told->running : 0, waiting = warm ? told->waiting : 0;
	double solo = warm && told->decode_tps > 0 ? told->decode_tps * (1 + CHAPTER_SLOWDOWN * running) : fixed;
	uint32_t unseen = seat->slot_pending[slot] > running + waiting ? seat->slot_pending[slot] - running - waiting : 0;
	return (struct chapter_candidate){
	    .seat = seat,
	    .cost = state + QUEUE_MS * queue + PENDING_MS * seat->pending + 1000 * backlog / decode + own + health,
	    .projected = solo / (1 + CHAPTER_SLOWDOWN * (running + 1)),
	    .ttft = state + 1000 * (waiting + unseen) * prompt / prefill + 1000 * prompt / prefill + 1000 / decode,
	    .queue = queue,
	    .cold = !warm,
	};
}

static void favour_last(struct sim_world *world, const struct sim_call *call, struct chapter_candidate *candidates,
                        uint32_t count)
{
	const struct chapter *chapter = world->mine;
	const struct chapter_last *last = &chapter->conversations[call->request->conversation];
	for (uint32_t i = 0; i < count; i++)
		if (candidates[i].seat == last->seat && last->at_us + AFFINITY_US > world->now_us)
			candidates[i].cost -= candidates[i].cost < AFFINITY_MS ? candidates[i].cost : AFFINITY_MS;
}

/* The cheapest; among those alike the shortest queue, then the least pending, then any; or the one that served the
 * conversation before. */
static const struct chapter_candidate *choose(struct sim_world *world, const struct sim_call *call,
                                              const struct chapter_candidate *candidates, uint32_t count)
{
	const struct chapter *chapter = world->mine;
	const struct chapter_last *last = &chapter->conversations[call->request->conversation];
	bool some_fast = false;
	for (uint32_t i = 0; i < count; i++)
		some_fast |= candidates[i].projected >= CHAPTER_FLOOR_TPS;
	double cheapest = INFINITY;
	for (uint32_t i = 0; i < count; i++)
		if ((!some_fast || candidates[i].projected >= CHAPTER_FLOOR_TPS) && candidates[i].cost < cheapest)
			cheapest = candidates[i].cost;
	const struct chapter_candidate *best = NULL;
	uint32_t ties = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct chapter_candidate *at = &candidates[i];
		if ((some_fast && at->projected < CHAPTER_FLOOR_TPS) || at->cost > cheapest + TIE_MS)
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

struct found {
	uint32_t fits, full, shut;
	double best_ttft_ms;
};

static struct found collect(struct sim_world *world, const struct sim_call *call, bool bypass)
{
	const struct chapter *chapter = world->mine;
	struct found found = {.best_ttft_ms = INFINITY};
	for (uint32_t i = 0; i < world->offer_count[call->model]; i++) {
		struct sim_seat *seat = &world->seats[world->offers[call->model][i]];
		uint32_t slot = sim_slot_of(seat, call->model);
		enum chapter_fit fit = gate(world, call, seat, slot, bypass);
		found.full += fit == CHAPTER_FULL;
		found.shut += fit == CHAPTER_BREAKER;
		if (fit != CHAPTER_FITS)
			continue;
		struct chapter_candidate *candidate = &chapter->candidates[found.fits++];
		*candidate = price(world, call, seat, slot);
		found.best_ttft_ms = candidate->ttft < found.best_ttft_ms ? candidate->ttft : found.best_ttft_ms;
	}
	return found;
}

/* Routing 9: a prediction beyond the deadline is noted, and refused only in hard mode. */
static bool is_too_slow(struct sim_world *world, const struct sim_call *call, const struct found *found)
{
	if (call->tries || found->best_ttft_ms <= (double)sim_goal_us(world, call->request) / 1000)
		return false;
	chapter_note(world, call->model, CHAPTER_MISS);
	return world->scenario->ttft_hard;
}

/* The caller's own machines first, where one of them can. */
static uint32_t keep_own(const struct sim_call *call, struct chapter_candidate *candidates, uint32_t count)
{
	uint32_t own = 0;
	for (uint32_t i = 0; call->request->prefer_own && i < count; i++)
		if (sim_is_own(call, candidates[i].seat))
			candidates[own++] = candidates[i];
	return own ? own : count;
}

static enum sim_answer pick(struct sim_world *world, struct sim_call *call, struct sim_pick *out)
{
	const struct chapter *chapter = world->mine;
	struct found found = collect(world, call, false);
	if (!found.fits && found.shut && !found.full) /* better a sick machine than none (routing 11.3) */
		found = collect(world, call, true);
	if (!found.fits) {
		chapter_note(world, call->model, CHAPTER_REJECT);
		return found.full ? SIM_LATER : SIM_NEVER;
	}
	if (is_too_slow(world, call, &found))
		return SIM_NEVER;
	found.fits = keep_own(call, chapter->candidates, found.fits);
	favour_last(world, call, chapter->candidates, found.fits);
	const struct chapter_candidate *best = choose(world, call, chapter->candidates, found.fits);
	if (best->cold)
		chapter_note(world, call->model, CHAPTER_COLD);
	*out = (struct sim_pick){.seat = best->seat, .cold = best->cold, .predicted_ms = best->ttft, .tail_ms = -1};
	return SIM_PICKED;
}

static void release(struct sim_world *world, struct sim_attempt *attempt, enum sim_end end)
{
	if (end == SIM_END_OK)
		chapter_success(world, attempt);
	else if (end == SIM_END_FAULT || end == SIM_END_TIMEOUT || end == SIM_END_LOST)
		chapter_fault(world, attempt);
}

static void waits(struct sim_world *world, struct sim_call *call)
{
	(void)call;
	if (world->scenario->planner)
		chapter_swap(world);
}

static void content(struct sim_world *world, struct sim_attempt *attempt)
{
	struct chapter *chapter = world->mine;
	chapter->conversations[attempt->call->request->conversation] = (struct chapter_last){attempt->seat, world->now_us};
}

const struct sim_policy sim_policy_chapter = {.name = "chapter",
                                              .about = "routing chapter, as written",
                                              .accept_disarms = true,
                                              .blames_for_clients = true,
                                              .capacity_tries = 3,
                                              .queue_limit = QUEUE_PLACES,
                                              .queue_s = QUEUE_S,
                                              .start = start,
                                              .stop = stop,
                                              .beat = beat,
                                              .pick = pick,
                                              .joined = joined,
                                              .release = release,
                                              .tick = chapter_tick,
                                              .loaded = chapter_loaded,
                                              .waits = waits,
                                              .content = content};
