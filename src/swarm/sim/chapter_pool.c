#include <math.h>
#include <stdlib.h>

#include "swarm/sim/policy_chapter.h"

#define EVENTS_KEPT_US (60ull * 1000000)
#define FOLD_US        (5ull * 1000000) /* half a tick */
#define FOLD_WEIGHT    0.3
#define DWELL_US       (300ull * 1000000)
#define LOAD_US        (120ull * 1000000)
#define BACK_OFF_US    (30ull * 1000000)
#define LOADS_AT_ONCE  4.0
#define LOADS_MOST     16
#define PROMPT_TOKENS  512.0
#define OUTPUT_TOKENS  256.0
#define SERVICE_MIN_S  0.5
#define SERVICE_MAX_S  120.0
#define SATURATED      0.8
#define FALLBACK_CAP   4.0

/* --- demand --- */

void chapter_note(struct sim_world *world, uint16_t model, enum chapter_event event)
{
	struct chapter *chapter = world->mine;
	struct chapter_demand *demand = &chapter->demands[model];
	demand->rejects += event == CHAPTER_REJECT;
	demand->misses += event == CHAPTER_MISS;
	demand->colds += event == CHAPTER_COLD;
	demand->arrivals++;
	demand->event_us = world->now_us;
}

static void fold(struct chapter_demand *demand, uint64_t now_us)
{
	if (demand->event_us + EVENTS_KEPT_US < now_us)
		demand->rejects = demand->misses = demand->colds = 0;
	if (demand->folded_us + FOLD_US > now_us)
		return;
	double rps = demand->arrivals / ((double)(now_us - demand->folded_us) / 1e6);
	demand->spill_rps += FOLD_WEIGHT * (rps - demand->spill_rps);
	demand->arrivals = 0;
	demand->folded_us = now_us;
}

/* --- commands --- */

static bool load_pending(const struct chapter_seat *seat, uint64_t now_us)
{
	for (uint32_t i = 0; i < SIM_MAX_BOX_MODELS; i++)
		if (seat->slots[i].load_us > now_us)
			return true;
	return false;
}

/* Those that are backed off count: a trap of routing 22. */
static uint32_t loads_pending(const struct sim_world *world)
{
	uint32_t pending = 0;
	for (uint32_t i = 0; i < world->seat_count; i++)
		for (uint32_t slot = 0; slot < world->seats[i].box.slot_count; slot++)
			pending += chapter_seat_of(world, &world->seats[i])->slots[slot].load_us > world->now_us;
	return pending;
}

static void command(struct sim_world *world, struct sim_seat *seat, uint32_t slot)
{
	chapter_seat_of(world, seat)->slots[slot].load_us = world->now_us + LOAD_US;
	sim_world_load(world, seat, seat->box.slots[slot].model);
}

void chapter_loaded(struct sim_world *world, struct sim_seat *seat, uint16_t model, bool ok)
{
	uint32_t slot = sim_slot_of(seat, model);
	chapter_seat_of(world, seat)->slots[slot].load_us = ok ? 0 : world->now_us + BACK_OFF_US;
	if (ok && !seat->beat.has[slot]) { /* an idle slot without a budget, until the next heartbeat */
		seat->beat.has[slot] = true;
		seat->beat.slots[slot] = (struct route_slot){.state = ROUTE_SLOT_IDLE};
	}
}

static bool has_standing(const struct sim_seat *seat)
{
	return seat->connected && !seat->untrusted && !seat->unattested && seat->challenged_us;
}

static bool may_load(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot)
{
	return has_standing(seat) && !seat->box.group->private && !seat->box.slots[slot].absent && !seat->pending &&
	       !seat->beat.has[slot] && seat->cool_us[slot] <= world->now_us &&
	       !load_pending(chapter_seat_of(world, seat), world->now_us) && chapter_fits_machine(seat, slot) &&
	       seat->box.slots[slot].size_gb * CHAPTER_PADDING <= seat->beat.free_for_load_gb;
}

static bool is_quiet(const struct sim_seat *seat)
{
	for (uint32_t i = 0; i < seat->box.slot_count; i++)
		if (seat->beat.has[i] && seat->beat.slots[i].running + seat->beat.slots[i].waiting)
			return false;
	return true;
}

static bool is_warm(const struct sim_seat *seat, uint32_t slot)
{
	return has_standing(seat) && seat->beat.has[slot];
}

/* For a queued model that is nowhere in memory: the first idle machine that comes along. */
static void swap_model(struct sim_world *world, uint16_t model)
{
	struct sim_seat *first = NULL;
	for (uint32_t i = 0; i < world->offer_count[model]; i++) {
		struct sim_seat *seat = &world->seats[world->offers[model][i]];
		uint32_t slot = sim_slot_of(seat, model);
		if (is_warm(seat, slot) || chapter_seat_of(world, seat)->slots[slot].load_us > world->now_us)
			return;
		if (!first && may_load(world, seat, slot))
			first = seat;
	}
	if (first)
		command(world, first, sim_slot_of(first, model));
}

void chapter_swap(struct sim_world *world)
{
	for (uint16_t model = 0; model < world->scenario->model_count && world->queued; model++)
		if (world->queues[model].count)
			swap_model(world, model);
}

/* --- the controller --- */

struct look {
	uint32_t warm, saturated, cold, working;
	double decode, prefill, cap; /* medians of the warm ones */
};

struct choice {
	struct sim_seat *seat;
	double score;
};

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values, uint32_t count, double fallback)
{
	if (!count)
		return fallback;
	qsort(values, count, sizeof *values, ascending);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double score(const struct sim_seat *seat)
{
	double hot = seat->beat.thermal >= 2 ? 1000 : seat->beat.thermal == 1 ? 250 : 0;
	return 100 * seat->beat.free_for_load_gb + 10 * chapter_static_decode(seat) - 500 * seat->beat.memory_pressure -
	       100 * seat->beat.cpu_usage - hot;
}

static bool look(struct sim_world *world, uint16_t model, struct look *out, struct choice *choices)
{
	uint32_t offers = world->offer_count[model];
	double *decode = calloc(3 * (size_t)offers + 1, sizeof *decode);
	if (!decode)
		return false;
	double *prefill = decode + offers, *caps = prefill + offers;
	*out = (struct look){0};
	for (uint32_t i = 0; i < offers; i++) {
		struct sim_seat *seat = &world->seats[world->offers[model][i]];
		uint32_t slot = sim_slot_of(seat, model);
		const struct route_slot *told = &seat->beat.slots[slot];
		if (is_warm(seat, slot)) {
			decode[out->warm] = chapter_decode(world, seat, slot);
			prefill[out->warm] = chapter_prefill(world, seat, slot);
			caps[out->warm++] = told->max_concurrency ? told->max_concurrency : FALLBACK_CAP;
			out->working += told->running + told->waiting;
			out->saturated += told->running + told->waiting > 0; /* any busy slot: as written */
		} else if (may_load(world, seat, slot) && is_quiet(seat)) {
			choices[out->cold++] = (struct choice){seat, score(seat)};
		}
	}
	out->decode = median(decode, out->warm, CHAPTER_FLOOR_TPS);
	out->prefill = median(prefill, out->warm, CHAPTER_FLOOR_TPS * 12);
	out->cap = median(caps, out->warm, FALLBACK_CAP);
	free(decode);
	return true;
}

static uint32_t good_places(const struct look *look)
{
	double places = look->decode <= CHAPTER_FLOOR_TPS ? 1 : floor((look->decode / CHAPTER_FLOOR_TPS - 1) / CHAPTER_SLOWDOWN);
	return places < 1 ? 1 : places > look->cap ? (uint32_t)look->cap : (uint32_t)places;
}

static void aim(struct sim_world *world, uint16_t model, const struct look *look)
{
	struct chapter *chapter = world->mine;
	struct chapter_demand *demand = &chapter->demands[model];
	double queue = (double)world->queues[model].count;
	bool pressure = demand->rejects || demand->misses || demand->colds || queue > 0;
	uint32_t target = look->warm;
	if (pressure) {
		double service_s = PROMPT_TOKENS / look->prefill + OUTPUT_TOKENS / look->decode;
		service_s = service_s < SERVICE_MIN_S ? SERVICE_MIN_S : service_s > SERVICE_MAX_S ? SERVICE_MAX_S : service_s;
		double load = look->working + queue + demand->spill_rps * service_s;
		target = (uint32_t)ceil(load / good_places(look)) + 1;
		target = target > look->warm + 1 ? target : look->warm + 1;
		target = target > look->warm + look->cold ? look->warm + look->cold : target;
	}
	if (target < demand->target && demand->raised_us + DWELL_US > world->now_us)
		return;
	demand->raised_us = target != demand->target ? world->now_us : demand->raised_us;
	demand->target = target;
}

static struct sim_seat *best_of(struct choice *choices, uint32_t count)
{
	struct choice *best = NULL;
	for (uint32_t i = 0; i < count; i++)
		if (choices[i].seat && (!best || choices[i].score > best->score))
			best = &choices[i];
	struct sim_seat *seat = best ? best->seat : NULL;
	if (best)
		best->seat = NULL;
	return seat;
}

static void load_some(struct sim_world *world, uint16_t model, uint32_t *left, struct choice *choices)
{
	const struct chapter *chapter = world->mine;
	struct look now;
	if (!look(world, model, &now, choices))
		return;
	aim(world, model, &now);
	uint32_t target = chapter->demands[model].target, gap = target > now.warm ? target - now.warm : 0;
	uint32_t loads = (uint32_t)fmin(gap, fmin(LOADS_MOST, fmax(LOADS_AT_ONCE, ceil(0.5 * gap))));
	for (; loads && *left; loads--, --*left) {
		struct sim_seat *seat = best_of(choices, now.cold);
		if (!seat)
			return;
		command(world, seat, sim_slot_of(seat, model));
	}
}

void chapter_tick(struct sim_world *world)
{
	struct chapter *chapter = world->mine;
	struct choice *choices = calloc(world->seat_count, sizeof *choices);
	uint32_t open = loads_pending(world), left = open < LOADS_MOST ? LOADS_MOST - open : 0;
	for (uint16_t model = 0; model < world->scenario->model_count; model++)
		fold(&chapter->demands[model], world->now_us);
	for (uint16_t model = 0; choices && model < world->scenario->model_count; model++)
		load_some(world, model, &left, choices);
	free(choices);
}
