/* Whether a machine may serve at all, and whom: challenges (routing 3), the deadline of attestation, owners (routing 15), and
 * which builds it advertises (routing 13.2). The same for every policy. */
#include <stdio.h>

#include "swarm/sim/world_internal.h"

#define CHALLENGE_US     (300ull * 1000000)
#define FRESH_US         (16ull * 60 * 1000000)
#define MISSED_UNTRUSTED 3
#define MISSED_CLOSED    6
#define COME_BACK_US     (5ull * 1000000)

static void tell(struct sim_world *world, struct sim_seat *seat)
{
	if (seat->connected && world->policy->changed)
		world->policy->changed(world, seat);
	sim_mark(world, seat);
}

/* --- challenges --- */

static void missed(struct sim_world *world, struct sim_seat *seat)
{
	seat->challenges_missed++;
	if (seat->challenges_missed == MISSED_UNTRUSTED) {
		seat->untrusted = true; /* until it answers one */
		seat->challenged_us = 0;
	}
	if (seat->challenges_missed == MISSED_CLOSED) {
		sim_disconnect(world, seat);
		sim_events_add(&world->events, world->now_us + COME_BACK_US, SIM_EVENT_BACK, seat, 0);
	}
}

void sim_challenge(struct sim_world *world, struct sim_seat *seat)
{
	sim_events_add(&world->events, world->now_us + CHALLENGE_US, SIM_EVENT_CHALLENGE, seat, 0);
	if (!seat->connected)
		return;
	if (seat->unproven || seat->frozen) {
		missed(world, seat);
	} else {
		seat->challenges_missed = 0;
		seat->untrusted = false;
		seat->challenged_us = world->now_us + 1;
	}
	tell(world, seat);
}

/* At registration one is sent at once. */
void sim_challenge_first(const struct sim_world *world, struct sim_seat *seat)
{
	seat->challenges_missed = 0;
	seat->untrusted = false;
	seat->challenged_us = seat->unproven || seat->frozen ? 0 : world->now_us + 1;
}

void sim_attest(struct sim_world *world, struct sim_seat *seat, bool attested)
{
	seat->unattested = !attested;
	tell(world, seat);
}

/* --- who may serve whom --- */

const char *sim_account(uint32_t tenant, char out[SIM_ACCOUNT_SIZE])
{
	snprintf(out, SIM_ACCOUNT_SIZE, "tenant-%u", tenant);
	return out;
}

bool sim_is_own(const struct sim_call *call, const struct sim_seat *seat)
{
	return seat->owner == (int64_t)call->request->tenant;
}

/* Routing 13.1: a model of the family only where nothing else is advertised, but for the caller's own machines. */
static bool family_allows(const struct sim_world *world, const struct sim_seat *seat, uint16_t model)
{
	struct str family = str_of(world->scenario->dedicated);
	const struct sim_model *models = world->scenario->models;
	if (!family.len || !str_contains_nocase(str_of(models[model].id), family))
		return true;
	for (uint32_t i = 0; i < seat->box.slot_count; i++) {
		const struct sim_slot *slot = &seat->box.slots[i];
		if (!slot->absent && !str_contains_nocase(str_of(models[slot->model].id), family))
			return false;
	}
	return true;
}

/* A private machine serves its owner whatever is asked for; what the public would not trust only where its owner says so. */
bool sim_may_serve(const struct sim_world *world, const struct sim_call *call, const struct sim_seat *seat)
{
	const struct sim_slot *slot = &seat->box.slots[sim_slot_of(seat, call->model)];
	const struct sim_group *group = seat->box.group;
	bool own = sim_is_own(call, seat), named = call->request->self_route || call->request->prefer_own;
	bool fresh = seat->challenged_us && seat->challenged_us + FRESH_US >= world->now_us;
	bool standing = seat->connected && !seat->untrusted && !seat->unattested && fresh;
	bool welcome = (own || !group->private) && ((own && named) || !group->uncertified) && (own || !call->request->self_route);
	bool able = !call->request->vision || !group->text_only;
	bool allowed = (own && named) || family_allows(world, seat, call->model);
	return standing && welcome && able && allowed && slot->model == call->model && !slot->absent;
}

/* --- builds --- */

/* The machine's word about its models (models_update): it has the build as well. With a wrong hash it is not believed. */
static void update(struct sim_world *world, struct sim_seat *seat, uint16_t model)
{
	struct sim_slot *slot = &seat->box.slots[sim_slot_of(seat, model)];
	if (slot->model != model || !slot->absent)
		return;
	slot->absent = false;
	if (seat->connected && world->policy->advertises)
		world->policy->advertises(world, seat);
	sim_mark(world, seat);
}

void sim_update_begins(struct sim_world *world, struct sim_seat *seat, const struct sim_happening *happening, uint32_t number)
{
	struct sim_random random = sim_random_for(world->scenario->seed + seat->box.index, 128 + number);
	bool bad_hash = sim_random_unit(&random) < happening->factor;
	uint64_t after_us = (uint64_t)(happening->jitter_s * 1e6 * sim_random_unit(&random));
	world->measure->bad_hashes += bad_hash;
	if (!bad_hash)
		sim_events_add(&world->events, world->now_us + after_us, SIM_EVENT_UPDATE, seat, number);
}

void sim_updated(struct sim_world *world, struct sim_seat *seat, uint32_t number)
{
	update(world, seat, sim_scenario_model(world->scenario, str_of(world->scenario->happenings[number].model)));
}

/* --- public names --- */

const struct sim_alias *sim_alias_of(const struct sim_scenario *scenario, uint16_t model)
{
	const char *id = scenario->models[model].id;
	for (uint32_t i = 0; i < scenario->alias_count; i++)
		if (str_is(str_of(id), scenario->aliases[i].previous) || str_is(str_of(id), scenario->aliases[i].desired))
			return &scenario->aliases[i];
	return NULL;
}

/* Routing 13.2: the desired build as soon as any machine could serve it, whatever its load. */
uint16_t sim_resolve_plainly(struct sim_world *world, struct sim_call *call, const struct sim_alias *alias)
{
	uint16_t previous = sim_scenario_model(world->scenario, str_of(alias->previous));
	if ((double)world->now_us < alias->at_s * 1e6)
		return previous;
	call->model = sim_scenario_model(world->scenario, str_of(alias->desired));
	for (uint32_t i = 0; i < world->offer_count[call->model]; i++)
		if (sim_may_serve(world, call, &world->seats[world->offers[call->model][i]]))
			return call->model;
	return previous;
}
