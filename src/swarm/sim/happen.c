/* What goes wrong, to whom, and how it ends. */
#include "swarm/sim/world_internal.h"

static void set_factor(struct sim_world *world, struct sim_seat *seat, double factor)
{
	sim_box_run(&seat->box, world->now_us);
	seat->box.factor = factor;
	sim_schedule(world, &seat->box);
}

static uint64_t jitter_us(struct sim_world *world, double jitter_s)
{
	return (uint64_t)(jitter_s * 1e6 * sim_random_unit(&world->random));
}

static void befall(struct sim_world *world, struct sim_seat *seat, const struct sim_happening *happening, uint32_t number)
{
	uint64_t until_us = world->now_us + (uint64_t)(happening->for_s * 1e6);
	switch (happening->kind) {
	case SIM_LOSS:
		sim_disconnect(world, seat);
		if (happening->for_s > 0)
			sim_events_add(&world->events, until_us + jitter_us(world, happening->jitter_s), SIM_EVENT_BACK, seat, 0);
		return;
	case SIM_FLAP:
		sim_events_add(&world->events, world->now_us + jitter_us(world, happening->period_s), SIM_EVENT_FLAP, seat, number);
		return;
	case SIM_FREEZE:
		seat->frozen = true;
		set_factor(world, seat, 0);
		break;
	case SIM_STALL:
		set_factor(world, seat, 0);
		break;
	case SIM_HOT:
		seat->box.hot = true;
		set_factor(world, seat, happening->factor);
		break;
	case SIM_SLOW:
		set_factor(world, seat, happening->factor);
		break;
	case SIM_ERROR:
		seat->box.erring = true;
		break;
	case SIM_TOOLS_ERROR:
		seat->box.erring_tools = true;
		break;
	case SIM_LIE:
		seat->box.lying = true;
		break;
	case SIM_LOAD_FAILURES:
		seat->box.load_failures = happening->factor;
		seat->box.load_failures_of = happening->model[0] ? sim_scenario_model(world->scenario, str_of(happening->model)) : -1;
		break;
	case SIM_DEAF:
		seat->deaf = true;
		break;
	case SIM_UNPROVEN:
		seat->unproven = true;
		break;
	case SIM_UNATTESTED:
		sim_attest(world, seat, false);
		break;
	case SIM_UPDATE:
		sim_update_begins(world, seat, happening, number);
		return;
	default:
		return;
	}
	if (happening->for_s > 0)
		sim_events_add(&world->events, until_us, SIM_EVENT_ENDS, seat, number);
}

static void recover(struct sim_world *world, struct sim_seat *seat, enum sim_happening_kind kind)
{
	switch (kind) {
	case SIM_ERROR:
		seat->box.erring = false;
		return;
	case SIM_TOOLS_ERROR:
		seat->box.erring_tools = false;
		return;
	case SIM_LIE:
		seat->box.lying = false;
		return;
	case SIM_LOAD_FAILURES:
		seat->box.load_failures = 0;
		return;
	case SIM_DEAF:
		seat->deaf = false;
		return;
	case SIM_UNPROVEN:
		seat->unproven = false;
		return;
	case SIM_UNATTESTED:
		sim_attest(world, seat, true);
		return;
	default:
		seat->frozen = seat->box.hot = false;
		set_factor(world, seat, 1);
		return;
	}
}

static void flap(struct sim_world *world, struct sim_seat *seat, uint32_t number)
{
	const struct sim_happening *happening = &world->scenario->happenings[number];
	double end_s = happening->at_s + (happening->for_s > 0 ? happening->for_s : world->scenario->seconds);
	uint64_t back_us = world->now_us + (uint64_t)(happening->period_s * 0.5e6);
	if ((double)world->now_us > end_s * 1e6)
		return;
	sim_disconnect(world, seat);
	sim_events_add(&world->events, back_us, SIM_EVENT_BACK, seat, 0);
	sim_events_add(&world->events, back_us + (uint64_t)(happening->period_s * 1e6), SIM_EVENT_FLAP, seat, number);
}

/* The machines that stall in this period, for as long as it lasts. */
static void wander(struct sim_world *world, const struct sim_happening *happening, uint32_t number)
{
	uint64_t period_us = (uint64_t)(happening->period_s * 1e6);
	double end_s = happening->at_s + (happening->for_s > 0 ? happening->for_s : world->scenario->seconds);
	if ((double)world->now_us >= end_s * 1e6)
		return;
	struct sim_random random = sim_random_for(world->scenario->seed + world->now_us / period_us, 64 + number);
	for (uint32_t i = 0; i < world->seat_count; i++) {
		if (sim_random_unit(&random) >= happening->share)
			continue;
		set_factor(world, &world->seats[i], 0);
		sim_events_add(&world->events, world->now_us + period_us - 1, SIM_EVENT_ENDS, &world->seats[i], number);
	}
	sim_events_add(&world->events, world->now_us + period_us, SIM_EVENT_HAPPENS, NULL, number);
}

static void drain(struct sim_world *world, const struct sim_happening *happening, uint32_t number)
{
	world->draining = true;
	world->measure->drain_us = world->now_us;
	if (happening->for_s > 0)
		sim_events_add(&world->events, world->now_us + (uint64_t)(happening->for_s * 1e6), SIM_EVENT_ENDS, NULL, number);
}

void sim_happen(struct sim_world *world, const struct sim_event *event)
{
	struct sim_seat *seat = event->subject;
	switch ((enum sim_event_kind)event->kind) {
	case SIM_EVENT_HAPPENS: {
		const struct sim_happening *happening = &world->scenario->happenings[event->number];
		if (happening->kind == SIM_WANDER) {
			wander(world, happening, event->number);
			return;
		}
		if (happening->kind == SIM_DRAIN) {
			drain(world, happening, event->number);
			return;
		}
		/* Machines are drawn by the happening, so that every policy meets the same ones. */
		struct sim_random random =
		    sim_random_for(world->scenario->seed, happening->draw ? 4096 + happening->draw : 64 + event->number);
		for (uint32_t i = 0; i < world->seat_count; i++)
			if (sim_random_unit(&random) < happening->share)
				befall(world, &world->seats[i], happening, event->number);
		return;
	}
	case SIM_EVENT_ENDS:
		if (!seat)
			world->draining = false;
		else
			recover(world, seat, world->scenario->happenings[event->number].kind);
		return;
	case SIM_EVENT_BACK:
		if (!seat->frozen)
			sim_connect(world, seat);
		return;
	default:
		flap(world, seat, event->number);
	}
}
