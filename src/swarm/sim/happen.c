/* What goes wrong, to whom, and how it ends. */
#include "swarm/sim/world_internal.h"

static void set_factor(struct sim_world *world, struct sim_seat *seat, double factor)
{
	sim_box_run(&seat->box, world->now_us);
	if (seat->box.decoding_count && seat->box.factor > 0)
		seat->progress_us = world->now_us; /* its last chunks */
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
	case SIM_SQUEEZED:
		seat->box.squeezed = true;
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
	case SIM_SQUEEZED:
		seat->box.squeezed = false;
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

/* The machines that are sick in this period, for as long as it lasts. */
static void wander(struct sim_world *world, const struct sim_happening *happening, uint32_t number)
{
	uint64_t period_us = (uint64_t)(happening->period_s * 1e6);
	double end_s = happening->at_s + (happening->for_s > 0 ? happening->for_s : world->scenario->seconds);
	struct sim_happening now = *happening;
	if ((double)world->now_us >= end_s * 1e6)
		return;
	now.kind = happening->as;
	now.for_s = happening->period_s - 1e-6;
	struct sim_random random = sim_random_for(world->scenario->seed + world->now_us / period_us, 64 + number);
	for (uint32_t i = 0; i < world->seat_count; i++)
		if (sim_random_unit(&random) < happening->share)
			befall(world, &world->seats[i], &now, number);
	sim_events_add(&world->events, world->now_us + period_us, SIM_EVENT_HAPPENS, NULL, number);
}

/* What a sick machine does next. The chapter names what may go wrong with one (routing 11.2, 18, 24.11) and not how often: all
 * are taken to be alike, and half of the time it works. */
static void fall_sick(struct sim_world *world, struct sim_seat *seat, const struct sim_happening *happening, uint32_t number)
{
	static const enum sim_happening_kind ills[] = {SIM_STALL, SIM_SLOW, SIM_ERROR, SIM_LOSS};
	uint64_t period_us = (uint64_t)(happening->period_s * 1e6);
	double end_s = happening->at_s + (happening->for_s > 0 ? happening->for_s : world->scenario->seconds);
	struct sim_happening now = *happening;
	seat->box.erring = false;
	set_factor(world, seat, 1);
	if ((double)world->now_us >= end_s * 1e6)
		return;
	sim_events_add(&world->events, world->now_us + period_us, SIM_EVENT_SICK, seat, number);
	uint32_t drawn = sim_random_below(&seat->ills, 8);
	if (drawn >= 4)
		return;
	now.kind = ills[drawn];
	now.for_s = happening->period_s / 2; /* of a connection that is lost; all else ends with the next draw */
	if (now.kind != SIM_LOSS)
		now.for_s = 0;
	befall(world, seat, &now, number);
}

static void begin_sickness(struct sim_world *world, struct sim_seat *seat, const struct sim_happening *happening,
                           uint32_t number)
{
	seat->ills = sim_random_for(world->scenario->seed + seat->box.index, 256 + number);
	sim_events_add(&world->events, world->now_us + jitter_us(world, happening->period_s), SIM_EVENT_SICK, seat, number);
}

static enum sim_happening_kind kind_of(const struct sim_happening *happening)
{
	return happening->kind == SIM_WANDER ? happening->as : happening->kind;
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
			if (sim_random_unit(&random) < happening->share) {
				if (happening->kind == SIM_SICK)
					begin_sickness(world, &world->seats[i], happening, event->number);
				else
					befall(world, &world->seats[i], happening, event->number);
			}
		return;
	}
	case SIM_EVENT_ENDS:
		if (!seat)
			world->draining = false;
		else
			recover(world, seat, kind_of(&world->scenario->happenings[event->number]));
		return;
	case SIM_EVENT_SICK:
		fall_sick(world, seat, &world->scenario->happenings[event->number], event->number);
		return;
	case SIM_EVENT_BACK:
		if (!seat->frozen)
			sim_connect(world, seat);
		return;
	default:
		flap(world, seat, event->number);
	}
}
