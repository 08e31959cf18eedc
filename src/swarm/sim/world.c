#include "swarm/sim/world.h"

#include <math.h>
#include <stdlib.h>

#include "swarm/sim/diary.h"
#include "swarm/sim/world_internal.h"

#define EVICT_US     (90ull * 1000000)
#define SWEEP_US     (30ull * 1000000)
#define CHALLENGE_US (300ull * 1000000)
#define TICK_US      (10ull * 1000000)
#define OVERTIME_S   3600.0 /* after the last arrival: what has not ended by then never does */

enum { PURPOSE_WORLD = 32, PURPOSE_NETWORK };

/* --- the machines' side: what they tell comes over the network --- */

static struct sim_attempt *attempt_of(struct sim_stream *stream)
{
	return (struct sim_attempt *)(void *)((char *)stream - offsetof(struct sim_attempt, stream));
}

static void tell(struct sim_world *world, struct sim_stream *stream, uint32_t kind, uint32_t number)
{
	struct sim_attempt *attempt = attempt_of(stream);
	sim_attempt_event(world, attempt, world->now_us + attempt->seat->network_us, kind, number);
}

static void on_content(void *user, struct sim_stream *stream)
{
	tell(user, stream, SIM_EVENT_CONTENT, 0);
}

static void on_done(void *user, struct sim_stream *stream)
{
	attempt_of(stream)->made = stream->output;
	tell(user, stream, SIM_EVENT_DONE, 0);
}

static void on_failed(void *user, struct sim_stream *stream, enum sim_failure failure)
{
	struct sim_world *world = user;
	struct sim_attempt *attempt = attempt_of(stream);
	attempt->made = sim_box_made(&attempt->seat->box, stream);
	tell(world, stream, SIM_EVENT_FAILED, failure);
}

static void on_loaded(void *user, uint32_t box, uint16_t model, bool ok)
{
	struct sim_world *world = user;
	struct sim_seat *seat = &world->seats[box];
	if (world->policy->loaded && seat->connected)
		world->policy->loaded(world, seat, model, ok);
	sim_mark(world, seat);
}

void sim_schedule(struct sim_world *world, struct sim_box *box)
{
	uint64_t next = sim_box_next(box);
	if (next == box->next_us)
		return;
	box->next_us = next;
	box->version++;
	if (next != SIM_NEVER_US)
		sim_events_add(&world->events, next, SIM_EVENT_BOX, box, box->version);
}

/* --- connections --- */

void sim_connect(struct sim_world *world, struct sim_seat *seat)
{
	if (seat->connected)
		return;
	seat->connected = true;
	seat->heard_us = world->now_us;
	sim_challenge_first(world, seat);
	sim_box_run(&seat->box, world->now_us);
	sim_box_beat(&seat->box, &seat->beat);
	if (world->policy->joined)
		world->policy->joined(world, seat);
	if (world->policy->beat)
		world->policy->beat(world, seat);
	sim_mark(world, seat);
}

void sim_disconnect(struct sim_world *world, struct sim_seat *seat)
{
	if (!seat->connected)
		return;
	seat->connected = false;
	if (world->policy->left)
		world->policy->left(world, seat);
	sim_box_lose(&seat->box, world->now_us);
	LIST_EACH (link, &seat->attempts) { /* what had not reached the machine */
		struct sim_attempt *attempt = LIST_OF(link, struct sim_attempt, of_seat);
		if (!attempt->reached)
			sim_attempt_event(world, attempt, world->now_us, SIM_EVENT_FAILED, SIM_FAIL_LOST);
	}
	sim_schedule(world, &seat->box);
}

static void on_beat(struct sim_world *world, struct sim_seat *seat)
{
	uint64_t interval_us = (uint64_t)(world->scenario->heartbeat_s * 1e6);
	sim_events_add(&world->events, world->now_us + interval_us, SIM_EVENT_BEAT, seat, 0);
	if (!seat->connected || seat->frozen)
		return;
	sim_box_run(&seat->box, world->now_us);
	sim_schedule(world, &seat->box);
	if (seat->deaf)
		return;
	sim_box_beat(&seat->box, &seat->beat);
	seat->heard_us = world->now_us;
	if (world->policy->beat)
		world->policy->beat(world, seat);
	sim_mark(world, seat);
}

/* A machine leaves when it was silent in two sweeps (routing 2). */
static void on_sweep(struct sim_world *world)
{
	for (uint32_t i = 0; i < world->seat_count; i++) {
		struct sim_seat *seat = &world->seats[i];
		if (seat->connected && seat->heard_us + EVICT_US + SWEEP_US < world->now_us)
			sim_disconnect(world, seat);
	}
	sim_events_add(&world->events, world->now_us + SWEEP_US, SIM_EVENT_SWEEP, NULL, 0);
}

static void on_sample(struct sim_world *world)
{
	double step_s = world->scenario->seconds / SIM_SERIES;
	size_t at = (size_t)((double)world->now_us / 1e6 / step_s);
	uint64_t busy_us = 0;
	uint32_t connected = 0;
	for (uint32_t i = 0; i < world->seat_count; i++) {
		sim_box_run(&world->seats[i].box, world->now_us);
		sim_schedule(world, &world->seats[i].box);
		busy_us += world->seats[i].box.busy_us;
		connected += world->seats[i].connected;
	}
	if (at < SIM_SERIES) {
		world->measure->busy[at] = (double)busy_us / 1e6;
		world->measure->queued[at] = (double)world->queued;
		world->measure->connected[at] = connected;
		sim_measure_sums(world->measure, at);
		sim_events_add(&world->events, world->now_us + (uint64_t)(step_s * 1e6), SIM_EVENT_SAMPLE, NULL, 0);
	}
}

void sim_world_load(struct sim_world *world, struct sim_seat *seat, uint16_t model)
{
	if (seat->connected && !seat->frozen)
		sim_events_add(&world->events, world->now_us + seat->network_us, SIM_EVENT_LOAD, seat, model);
}

/* --- for policies --- */

uint64_t sim_goal_us(const struct sim_world *world, const struct sim_request *request)
{
	return (uint64_t)(1000 * (world->scenario->ttft_ms + world->scenario->ttft_token_ms * request->prompt));
}

bool sim_is_excluded(const struct sim_call *call, const struct sim_seat *seat)
{
	for (uint32_t i = 0; i < call->excluded_count; i++)
		if (call->excluded[i] == seat)
			return true;
	return false;
}

uint32_t sim_slot_of(const struct sim_seat *seat, uint16_t model)
{
	uint32_t i = 0;
	while (i + 1 < seat->box.slot_count && seat->box.slots[i].model != model)
		i++;
	return i;
}

/* --- events --- */

static void on_event(struct sim_world *world, const struct sim_event *event)
{
	struct sim_seat *seat = event->subject;
	struct sim_box *box = event->subject;
	switch ((enum sim_event_kind)event->kind) {
	case SIM_EVENT_BOX:
		if (event->number != box->version)
			return;
		box->next_us = SIM_NEVER_US;
		sim_box_run(box, world->now_us);
		sim_schedule(world, box);
		return;
	case SIM_EVENT_BEAT:
		on_beat(world, seat);
		return;
	case SIM_EVENT_SWEEP:
		on_sweep(world);
		return;
	case SIM_EVENT_SAMPLE:
		on_sample(world);
		return;
	case SIM_EVENT_TICK:
		if (world->policy->tick && world->scenario->planner)
			world->policy->tick(world);
		sim_events_add(&world->events, world->now_us + TICK_US, SIM_EVENT_TICK, NULL, 0);
		return;
	case SIM_EVENT_LOAD:
		if (!seat->connected || seat->frozen)
			return;
		sim_box_load(&seat->box, (uint16_t)event->number, world->now_us);
		sim_schedule(world, &seat->box);
		return;
	case SIM_EVENT_CHALLENGE:
		sim_challenge(world, seat);
		return;
	case SIM_EVENT_UPDATE:
		sim_updated(world, seat, event->number);
		return;
	case SIM_EVENT_ALIAS:
		if (world->policy->renamed)
			world->policy->renamed(world, &world->scenario->aliases[event->number]);
		return;
	case SIM_EVENT_HAPPENS:
	case SIM_EVENT_ENDS:
	case SIM_EVENT_BACK:
	case SIM_EVENT_FLAP:
	case SIM_EVENT_SICK:
		sim_happen(world, event);
		return;
	default:
		sim_call_event(world, event);
	}
}

void sim_mark(struct sim_world *world, struct sim_seat *seat)
{
	if (seat->dirty || !world->queued || world->dirty_count == sizeof world->dirty / sizeof world->dirty[0])
		return;
	seat->dirty = true;
	world->dirty[world->dirty_count++] = seat;
}

static void offer_free_places(struct sim_world *world)
{
	for (size_t i = 0; i < world->dirty_count; i++) {
		struct sim_seat *seat = world->dirty[i];
		seat->dirty = false;
		sim_offer(world, seat);
	}
	world->dirty_count = 0;
}

static bool arrival_is_next(const struct sim_world *world)
{
	return world->next_arrival < world->trace->count &&
	       (!world->events.len || world->trace->requests[world->next_arrival].at_us <= world->events.heap[0].at_us);
}

static void run(struct sim_world *world)
{
	double limit_s = world->scenario->seconds + OVERTIME_S;
	while ((world->next_arrival < world->trace->count || world->open || world->cancelling) && !world->out_of_memory) {
		struct sim_event event;
		if (arrival_is_next(world)) {
			world->now_us = world->trace->requests[world->next_arrival].at_us;
			sim_arrive(world, world->next_arrival++);
		} else {
			if (!sim_events_next(&world->events, &event) || (double)event.at_us > limit_s * 1e6)
				break;
			world->measure->overstayed += event.at_us < world->now_us;
			world->now_us = event.at_us;
			on_event(world, &event);
		}
		offer_free_places(world);
		world->out_of_memory |= world->events.failed;
	}
}

/* --- start and end --- */

static enum db_err make_seats(struct sim_world *world)
{
	const struct sim_scenario *scenario = world->scenario;
	struct sim_random network = sim_random_for(scenario->seed, PURPOSE_NETWORK);
	world->seat_count = sim_scenario_boxes(scenario);
	world->seats = calloc(world->seat_count, sizeof *world->seats);
	if (!world->seats)
		return DB_E_NOMEM;
	uint32_t index = 0;
	for (uint32_t g = 0; g < scenario->group_count; g++) {
		for (uint32_t nth = 0; nth < scenario->groups[g].count; nth++, index++) {
			struct sim_seat *seat = &world->seats[index];
			list_init(&seat->attempts);
			seat->owner = scenario->groups[g].owned ? (int64_t)(nth % scenario->workload.tenants) : -1;
			seat->network_us = (uint64_t)(1000 * sim_random_lognormal(&network, scenario->network_ms, scenario->network_sigma));
			if (sim_box_init(&seat->box, index, scenario, &scenario->groups[g], nth, &world->host, world->measure))
				return DB_E_NOMEM;
			for (uint32_t slot = 0; slot < seat->box.slot_count; slot++)
				world->offer_count[seat->box.slots[slot].model]++;
		}
	}
	for (uint32_t m = 0; m < scenario->model_count; m++) {
		world->offers[m] = calloc(world->offer_count[m] + 1, sizeof *world->offers[m]);
		if (!world->offers[m])
			return DB_E_NOMEM;
		world->offer_count[m] = 0;
	}
	for (uint32_t i = 0; i < world->seat_count; i++) {
		for (uint32_t slot = 0; slot < world->seats[i].box.slot_count; slot++) {
			uint16_t model = world->seats[i].box.slots[slot].model;
			world->offers[model][world->offer_count[model]++] = i;
		}
	}
	return DB_OK;
}

static void begin(struct sim_world *world)
{
	for (uint32_t i = 0; i < world->seat_count; i++) {
		struct sim_seat *seat = &world->seats[i];
		sim_connect(world, seat);
		double phase = sim_random_unit(&world->random) * world->scenario->heartbeat_s;
		sim_events_add(&world->events, (uint64_t)(phase * 1e6), SIM_EVENT_BEAT, seat, 0);
		uint64_t challenge_us = (uint64_t)(phase / world->scenario->heartbeat_s * CHALLENGE_US);
		sim_events_add(&world->events, challenge_us, SIM_EVENT_CHALLENGE, seat, 0);
	}
	sim_events_add(&world->events, SWEEP_US, SIM_EVENT_SWEEP, NULL, 0);
	sim_events_add(&world->events, TICK_US, SIM_EVENT_TICK, NULL, 0);
	sim_events_add(&world->events, (uint64_t)(world->scenario->seconds / SIM_SERIES * 1e6), SIM_EVENT_SAMPLE, NULL, 0);
	for (uint32_t i = 0; i < world->scenario->alias_count; i++)
		sim_events_add(&world->events, (uint64_t)(world->scenario->aliases[i].at_s * 1e6), SIM_EVENT_ALIAS, NULL, i);
	for (uint32_t i = 0; i < world->scenario->happening_count; i++)
		sim_events_add(&world->events, (uint64_t)(world->scenario->happenings[i].at_s * 1e6), SIM_EVENT_HAPPENS, NULL, i);
}

static void end(struct sim_world *world)
{
	struct sim_event event;
	while (sim_events_next(&world->events, &event)) /* they hold attempts and calls */
		sim_drop_event(world, &event);
	sim_events_free(&world->events);
	for (uint32_t m = 0; m < SIM_MAX_MODELS; m++)
		free(world->offers[m]);
	for (uint32_t i = 0; world->seats && i < world->seat_count; i++)
		sim_box_free(&world->seats[i].box);
	free(world->seats);
}

/* Reservations that nobody ended, of the coordinator's books and of the policy's. */
static uint64_t still_pending(const struct sim_world *world)
{
	uint64_t pending = 0;
	for (uint32_t i = 0; i < world->seat_count; i++) {
		const struct sim_seat *seat = &world->seats[i];
		pending += seat->pending + seat->attempts.count;
		for (uint32_t slot = 0; slot < seat->box.slot_count; slot++)
			pending += seat->slot_pending[slot] + seat->slot_tokens[slot];
		if (world->policy->pending)
			pending += world->policy->pending(world, seat);
	}
	return pending;
}

enum db_err sim_run(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_policy *policy,
                    struct sim_summary *out, struct error *error)
{
	struct sim_world *world = calloc(1, sizeof *world);
	struct sim_measure *measure = calloc(1, sizeof *measure);
	struct sim_result *results = calloc(trace->count + 1, sizeof *results);
	enum db_err err = world && measure && results ? DB_OK : DB_E_NOMEM;
	if (err)
		goto out;
	*world = (struct sim_world){.scenario = scenario,
	                            .trace = trace,
	                            .policy = policy,
	                            .measure = measure,
	                            .results = results,
	                            .random = sim_random_for(scenario->seed, PURPOSE_WORLD),
	                            .host = {on_content, on_done, on_failed, on_loaded, world}};
	hedge_init(&world->hedge, NULL);
	list_init(&world->calls);
	for (uint32_t m = 0; m < SIM_MAX_MODELS; m++) {
		list_init(&world->queues[m]);
	}
	err = scenario->diary ? sim_diary_open(scenario->diary, trace->count) : DB_OK;
	if (!err)
		err = make_seats(world);
	if (!err && policy->start)
		err = policy->start(world);
	if (!err) {
		begin(world);
		run(world);
		err = world->out_of_memory ? DB_E_NOMEM : DB_OK;
		for (uint32_t i = 0; i < world->seat_count; i++)
			if (world->seats[i].attempted > measure->most_of_one)
				measure->most_of_one = world->seats[i].attempted;
		measure->still_pending = still_pending(world);
		measure->hedges_over = world->hedge.over;
		measure->extra_tokens = (double)world->hedge.extra;
		measure->answered_tokens = (double)world->hedge.answered;
		sim_summarise(scenario, trace, results, measure, policy->name, out);
		out->finished = !world->open;
		if (scenario->diary)
			sim_diary_write(scenario->diary, trace, results);
		if (policy->ended)
			policy->ended(world, out);
		sim_abandon(world);
	}
	end(world);
	if (policy->stop && world->mine)
		policy->stop(world);
out:
	if (err)
		error_set(error, err, "out of memory");
	free(world);
	free(measure);
	free(results);
	if (scenario->diary)
		sim_diary_close(scenario->diary);
	return err;
}
