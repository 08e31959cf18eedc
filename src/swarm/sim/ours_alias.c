/* Public names and the move of their traffic, by the server's own table (routing/alias.h). */
#include "swarm/sim/policy_ours.h"

static enum db_err put(struct sim_world *world, const struct alias_change *change)
{
	const struct ours *ours = world->mine;
	struct error error;
	return alias_put(ours->aliases, change, world->now_us, &error);
}

enum db_err ours_aliases_begin(struct sim_world *world)
{
	enum db_err err = DB_OK;
	for (uint32_t i = 0; i < world->scenario->alias_count && !err; i++) {
		const struct sim_alias *alias = &world->scenario->aliases[i];
		struct alias_change change = {.id = str_of(alias->id), .desired = str_of(alias->previous)};
		err = put(world, &change);
	}
	return err;
}

void ours_renamed(struct sim_world *world, const struct sim_alias *alias)
{
	struct alias_change change = {.id = str_of(alias->id),
	                              .desired = str_of(alias->desired),
	                              .previous = str_of(alias->previous),
	                              .canary = alias->canary};
	if (put(world, &change))
		world->out_of_memory = true;
}

uint16_t ours_resolve(struct sim_world *world, struct sim_call *call, const struct sim_alias *alias)
{
	const struct ours *ours = world->mine;
	struct route_request request = ours_request(world, call, NULL);
	struct str build;
	request.model = str_of(alias->id);
	(void)alias_resolve(ours->aliases, &request, world->now_us, &build);
	uint16_t model = sim_scenario_model(world->scenario, build);
	return model < world->scenario->model_count ? model : call->model;
}

/* Faults of machines count, not clients that leave nor losers of a race. */
void ours_alias_note(struct sim_world *world, const struct sim_attempt *attempt, enum sim_end end)
{
	const struct ours *ours = world->mine;
	const struct sim_alias *alias = sim_alias_of(world->scenario, attempt->stream.model);
	if (!alias || end == SIM_END_CANCELLED || end == SIM_END_CLIENT)
		return;
	struct alias_outcome outcome = {.alias = str_of(alias->id),
	                                .build = ours_model_id(world, attempt->stream.model),
	                                .ok = end == SIM_END_OK,
	                                .ttft_ms = end == SIM_END_OK ? (double)attempt->call->result->ttft_ms : -1};
	(void)alias_note(ours->aliases, &outcome, world->now_us);
}

void ours_alias_end(const struct sim_world *world, struct sim_summary *out)
{
	const struct ours *ours = world->mine;
	if (!world->scenario->alias_count)
		return;
	const struct alias *alias = alias_find(ours->aliases, str_of(world->scenario->aliases[0].id));
	out->alias_share = alias->share_percent;
	out->rolled_back = alias->state == ALIAS_ROLLED_BACK;
}
