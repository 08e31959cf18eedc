/* The server's own routing: its objects, told what heartbeats say and nothing else. */
#include "coordinator/routing/learn.h"
#include "coordinator/routing/planner.h"
#include "coordinator/routing/routing.h"
#include "swarm/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUE_PLACES 100000

struct ours {
	struct route_fleet *fleet;
	struct planner *planner;
	struct learn learn;
};

static enum db_err start(struct sim_world *world)
{
	struct route_policy policy = {.min_trust = ROUTE_TRUST_HARDWARE, .seed = world->scenario->seed};
	struct ours *ours = calloc(1, sizeof *ours);
	if (!ours)
		return DB_E_NOMEM;
	world->mine = ours;
	learn_init(&ours->learn);
	ours->fleet = route_fleet_new(&policy);
	ours->planner = ours->fleet ? planner_new(ours->fleet, NULL) : NULL;
	return ours->planner ? DB_OK : DB_E_NOMEM;
}

static void stop(struct sim_world *world)
{
	struct ours *ours = world->mine;
	planner_free(ours->planner);
	learn_free(&ours->learn);
	route_fleet_free(ours->fleet);
	free(ours);
}

static struct str model_id(const struct sim_world *world, uint16_t model)
{
	return str_of(world->scenario->models[model].id);
}

static struct str account_of(const struct sim_request *request, char out[24])
{
	int len = snprintf(out, 24, "tenant-%u", request->tenant);
	return (struct str){out, (size_t)len};
}

static void tell_facts(struct sim_world *world, struct sim_seat *seat, struct route_node *node)
{
	const struct ours *ours = world->mine;
	const struct sim_group *group = seat->box.group;
	char serial[24];
	snprintf(serial, sizeof serial, "SIM%08u", seat->box.index);
	struct route_node_facts facts = {
	    .connected_ok = true,
	    .private_text = true,
	    .posture_verified = true,
	    .runtime_verified = true,
	    .trust = ROUTE_TRUST_HARDWARE,
	    .last_challenge_us = seat->challenged_us + 1,
	    .chip_family = str_of(group->chip),
	    .serial = str_of(serial),
	    .device = str_of(serial),
	    .tools_ok = true,
	    .plain_prompts_ok = true,
	    .static_decode_tps = group->registers_rates ? seat->box.slots[0].solo_tps : 0,
	    .static_prefill_tps = group->registers_rates ? seat->box.slots[0].prefill_tps : 0,
	    .bandwidth_gbs = group->bandwidth_gbs,
	    .memory_gb = group->memory_gb,
	    .network_ms = 2 * (double)seat->network_us / 1000,
	    .memory_pressure = seat->beat.memory_pressure > 1 ? 1 : seat->beat.memory_pressure,
	    .cpu_usage = seat->beat.cpu_usage > 1 ? 1 : seat->beat.cpu_usage,
	    .thermal = seat->beat.thermal,
	    .has_capacity = true,
	    .gpu_active_gb = seat->beat.gpu_active_gb,
	    .total_memory_gb = group->memory_gb,
	    .free_for_load_gb = seat->beat.free_for_load_gb,
	};
	route_node_set_facts(ours->fleet, node, &facts);
}

static void beat(struct sim_world *world, struct sim_seat *seat)
{
	const struct ours *ours = world->mine;
	struct route_node *node = seat->mine;
	if (!node)
		return;
	tell_facts(world, seat, node);
	for (uint32_t i = 0; i < seat->box.slot_count; i++)
		if (seat->beat.has[i])
			(void)route_node_set_slot(ours->fleet, node, model_id(world, seat->box.slots[i].model), &seat->beat.slots[i]);
	route_node_heartbeat_done(ours->fleet, node);
}

static void joined(struct sim_world *world, struct sim_seat *seat)
{
	const struct ours *ours = world->mine;
	struct route_model_facts models[SIM_MAX_BOX_MODELS];
	struct route_node *node = route_node_add(ours->fleet, seat);
	if (!node) {
		world->out_of_memory = true;
		return;
	}
	for (uint32_t i = 0; i < seat->box.slot_count; i++) {
		const struct sim_model *model = &world->scenario->models[seat->box.slots[i].model];
		models[i] = (struct route_model_facts){.id = str_of(model->id),
		                                       .size_bytes = (uint64_t)(model->size_gb * 1e9),
		                                       .template_render_ok = 1,
		                                       .context_tokens = model->context_tokens};
	}
	seat->mine = node;
	if (route_node_set_models(ours->fleet, node, models, seat->box.slot_count))
		world->out_of_memory = true;
	tell_facts(world, seat, node);
}

static void left(struct sim_world *world, struct sim_seat *seat)
{
	const struct ours *ours = world->mine;
	LIST_EACH (link, &seat->attempts)
		route_outcome(ours->fleet, LIST_OF(link, struct sim_attempt, of_seat)->mine, ROUTE_OUTCOME_LOST, world->now_us);
	planner_node_gone(ours->planner, seat->mine);
	route_node_remove(ours->fleet, seat->mine);
	seat->mine = NULL;
}

static struct route_request ask(const struct sim_world *world, const struct sim_call *call)
{
	const struct ours *ours = world->mine;
	const struct sim_request *request = call->request;
	char account[24];
	uint64_t expected = learn_expect(&ours->learn, model_id(world, request->model), account_of(request, account));
	return (struct route_request){.model = model_id(world, request->model),
	                              .prompt_tokens = request->prompt + call->made,
	                              .max_tokens = request->max_tokens,
	                              .expected_tokens = expected < request->max_tokens ? expected : request->max_tokens,
	                              .tools = request->tools};
}

static enum sim_answer pick(struct sim_world *world, const struct sim_call *call, struct sim_pick *out)
{
	const struct ours *ours = world->mine;
	struct route_node *excluded[SIM_MAX_TRIES * 2];
	struct route_request request = ask(world, call);
	struct route_decision decision;
	struct route_reservation *reservation;
	size_t count = 0;
	for (uint32_t i = 0; i < call->excluded_count; i++)
		if (call->excluded[i]->mine)
			excluded[count++] = call->excluded[i]->mine;
	request.excluded = excluded;
	request.excluded_count = count;
	if (!call->tries && !list_linked(&call->waiting))
		planner_arrival(ours->planner, &request, world->now_us);
	enum db_err err = route_select(ours->fleet, &request, world->now_us, &decision, &reservation);
	if (err == DB_E_AGAIN)
		planner_note(ours->planner, request.model, PLANNER_CAPACITY_REJECT, world->now_us);
	if (err)
		return err == DB_E_AGAIN ? SIM_LATER : SIM_NEVER;
	*out = (struct sim_pick){.seat = route_node_user(decision.node),
	                         .cold = decision.cold,
	                         .predicted_ms = decision.ttft_ms,
	                         .tail_ms = decision.tail_ms,
	                         .mine = reservation};
	if (decision.cold)
		planner_note(ours->planner, request.model, PLANNER_COLD_DISPATCH, world->now_us);
	return SIM_PICKED;
}

static void release(struct sim_world *world, struct sim_attempt *attempt, enum sim_end end)
{
	static const enum route_outcome outcomes[] = {[SIM_END_OK] = ROUTE_OUTCOME_OK,
	                                              [SIM_END_FAULT] = ROUTE_OUTCOME_FAULT,
	                                              [SIM_END_CAPACITY] = ROUTE_OUTCOME_CAPACITY,
	                                              [SIM_END_TIMEOUT] = ROUTE_OUTCOME_TIMEOUT,
	                                              [SIM_END_LOST] = ROUTE_OUTCOME_LOST,
	                                              [SIM_END_CANCELLED] = ROUTE_OUTCOME_CLIENT};
	struct ours *ours = world->mine;
	const struct sim_request *request = attempt->call->request;
	char account[24];
	route_outcome(ours->fleet, attempt->mine, outcomes[end], world->now_us);
	if (end == SIM_END_OK)
		learn_output(&ours->learn, model_id(world, request->model), account_of(request, account), request->output);
	route_release(ours->fleet, attempt->mine);
	attempt->mine = NULL;
}

static void content(struct sim_world *world, struct sim_attempt *attempt)
{
	const struct ours *ours = world->mine;
	(void)route_first_content(ours->fleet, attempt->mine, world->now_us);
}

static void tick(struct sim_world *world)
{
	const struct ours *ours = world->mine;
	struct planner_load loads[PLANNER_LOADS_MAX];
	for (uint16_t m = 0; m < world->scenario->model_count; m++)
		planner_queue(ours->planner, model_id(world, m), (uint32_t)world->queues[m].count, false, false, world->now_us);
	size_t count = planner_tick(ours->planner, world->now_us, loads);
	for (size_t i = 0; i < count; i++) {
		struct sim_seat *seat = route_node_user(loads[i].node);
		for (uint32_t slot = 0; slot < seat->box.slot_count; slot++)
			if (str_eq(model_id(world, seat->box.slots[slot].model), loads[i].model))
				sim_world_load(world, seat, seat->box.slots[slot].model);
	}
}

static void loaded(struct sim_world *world, struct sim_seat *seat, uint16_t model, bool ok)
{
	const struct ours *ours = world->mine;
	if (seat->mine)
		planner_load_ended(ours->planner, seat->mine, model_id(world, model), ok ? PLANNER_LOADED : PLANNER_FAILED,
		                   world->now_us);
}

const struct sim_policy sim_policy_ours = {.name = "ours",
                                           .about = "route_select and everything around it, as in the server",
                                           .hedges = true,
                                           .resumes = true,
                                           .queues_retries = true,
                                           .queue_limit = QUEUE_PLACES,
                                           .start = start,
                                           .stop = stop,
                                           .joined = joined,
                                           .left = left,
                                           .beat = beat,
                                           .pick = pick,
                                           .release = release,
                                           .content = content,
                                           .tick = tick,
                                           .loaded = loaded};

const struct sim_policy *const sim_policies[] = {&sim_policy_random,
                                                 &sim_policy_round_robin,
                                                 &sim_policy_least_loaded,
                                                 &sim_policy_chapter,
                                                 &sim_policy_ours,
                                                 &sim_policy_oracle,
                                                 NULL};

const struct sim_policy *sim_policy_named(struct str name)
{
	for (size_t i = 0; sim_policies[i]; i++)
		if (str_is(name, sim_policies[i]->name))
			return sim_policies[i];
	return NULL;
}
