/* The server's own routing: its objects, told what heartbeats say and nothing else. */
#include "swarm/sim/policy_ours.h"

#include <stdio.h>
#include <stdlib.h>

#include "coordinator/routing/share.h"

#define COOL_US (120ull * 1000000) /* after a load failed, as fleet/ does (routing 11.3) */

static struct shares *read_shares(const struct sim_scenario *scenario)
{
	struct shares *shares = shares_new(NULL, 0);
	struct str rest = str_of(scenario->shares), text;
	struct share share;
	while (shares && rest.len) {
		rest = str_cut(rest, ',', &text);
		if (!share_read(str_trim(text), &share))
			(void)shares_put(shares, &share);
	}
	return shares;
}

static enum db_err start(struct sim_world *world)
{
	struct route_policy policy = {.min_trust = ROUTE_TRUST_HARDWARE, .seed = world->scenario->seed};
	struct ours *ours = calloc(1, sizeof *ours);
	if (!ours)
		return DB_E_NOMEM;
	world->mine = ours;
	ours->shares = read_shares(world->scenario);
	ours->dedicated[0] = world->scenario->dedicated;
	policy.dedicated = ours->dedicated;
	policy.dedicated_count = world->scenario->dedicated[0] != 0;
	learn_init(&ours->learn);
	ours->fleet = route_fleet_new(&policy);
	ours->planner = ours->fleet ? planner_new(ours->fleet, NULL) : NULL;
	ours->queues = queues_new();
	ours->aliases = ours->fleet ? alias_table_new(ours->fleet) : NULL;
	if (!ours->planner || !ours->queues || !ours->shares || !ours->aliases)
		return DB_E_NOMEM;
	return ours_aliases_begin(world);
}

static void stop(struct sim_world *world)
{
	struct ours *ours = world->mine;
	alias_table_free(ours->aliases);
	planner_free(ours->planner);
	queues_free(ours->queues);
	shares_free(ours->shares);
	learn_free(&ours->learn);
	route_fleet_free(ours->fleet);
	free(ours);
}

struct str ours_model_id(const struct sim_world *world, uint16_t model)
{
	return str_of(world->scenario->models[model].id);
}

static void tell_facts(struct sim_world *world, struct sim_seat *seat)
{
	const struct ours *ours = world->mine;
	const struct sim_group *group = seat->box.group;
	char serial[24];
	snprintf(serial, sizeof serial, "SIM%08u", seat->box.index);
	struct route_node_facts facts = {
	    .connected_ok = true,
	    .untrusted = seat->untrusted,
	    .private_only = group->private,
	    .private_text = !seat->unattested,
	    .posture_verified = !seat->untrusted,
	    .runtime_verified = true,
	    .trust = group->uncertified ? ROUTE_TRUST_NONE : ROUTE_TRUST_HARDWARE,
	    .last_challenge_us = seat->challenged_us,
	    .chip_family = str_of(group->chip),
	    .serial = str_of(serial),
	    .device = str_of(serial),
	    .tools_ok = true,
	    .plain_prompts_ok = true,
	    .static_decode_tps = group->registers_rates ? seat->box.slots[0].solo_tps : 0,
	    .static_prefill_tps = group->registers_rates && group->registers_prefill ? seat->box.slots[0].prefill_tps : 0,
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
	route_node_set_facts(ours->fleet, seat->mine, &facts);
}

static uint64_t prefix_name(uint32_t conversation, uint32_t turn)
{
	uint64_t z = ((uint64_t)conversation << 32 | turn) * 0x9e3779b97f4a7c15u;
	return z ^ z >> 29;
}

/* What it keeps of the prompts that it has read. */
static void tell_prefixes(struct sim_world *world, const struct sim_seat *seat, const struct sim_slot *slot)
{
	const struct ours *ours = world->mine;
	uint64_t digests[SIM_MAX_CACHED];
	size_t count = 0;
	for (uint32_t i = 0; i < world->scenario->cached_prompts; i++) {
		const struct sim_cached *cached = &seat->box.cached[i];
		if (cached->tokens && cached->model == slot->model)
			digests[count++] = prefix_name(cached->conversation, cached->turn);
	}
	if (!slot->absent && route_node_set_prefixes(ours->fleet, seat->mine, ours_model_id(world, slot->model), digests, count))
		world->out_of_memory = true;
}

static void beat(struct sim_world *world, struct sim_seat *seat)
{
	const struct ours *ours = world->mine;
	struct route_node *node = seat->mine;
	if (!node)
		return;
	tell_facts(world, seat);
	for (uint32_t i = 0; i < seat->box.slot_count; i++)
		if (seat->beat.has[i])
			(void)route_node_set_slot(ours->fleet, node, ours_model_id(world, seat->box.slots[i].model), &seat->beat.slots[i]);
	route_node_heartbeat_done(ours->fleet, node);
	for (uint32_t i = 0; i < seat->box.slot_count; i++)
		tell_prefixes(world, seat, &seat->box.slots[i]);
}

static void advertise(struct sim_world *world, struct sim_seat *seat)
{
	const struct ours *ours = world->mine;
	struct route_model_facts models[SIM_MAX_BOX_MODELS];
	size_t count = 0;
	for (uint32_t i = 0; i < seat->box.slot_count; i++) {
		const struct sim_model *model = &world->scenario->models[seat->box.slots[i].model];
		if (seat->box.slots[i].absent)
			continue;
		models[count++] = (struct route_model_facts){.id = str_of(model->id),
		                                             .size_bytes = (uint64_t)(model->size_gb * 1e9),
		                                             .vision = !seat->box.group->text_only,
		                                             .template_render_ok = 1,
		                                             .context_tokens = model->context_tokens};
	}
	if (route_node_set_models(ours->fleet, seat->mine, models, count))
		world->out_of_memory = true;
}

static void joined(struct sim_world *world, struct sim_seat *seat)
{
	const struct ours *ours = world->mine;
	char owner[SIM_ACCOUNT_SIZE];
	seat->mine = route_node_add(ours->fleet, seat);
	if (!seat->mine) {
		world->out_of_memory = true;
		return;
	}
	if (seat->owner >= 0 && route_node_set_owner(ours->fleet, seat->mine, str_of(sim_account((uint32_t)seat->owner, owner))))
		world->out_of_memory = true;
	advertise(world, seat);
	tell_facts(world, seat);
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

/* The prompts of the turns before, as far as this one begins with them: the longest first. */
static size_t put_prefixes(const struct sim_request *request, struct route_prefix out[SIM_KNOWN_TURNS])
{
	size_t count = 0;
	for (uint32_t i = 0; i < SIM_KNOWN_TURNS && i < request->turn; i++)
		if (request->asked[i])
			out[count++] = (struct route_prefix){prefix_name(request->conversation, request->turn - 1 - i), request->asked[i]};
	return count;
}

struct route_request ours_request(const struct sim_world *world, struct sim_call *call, struct route_node **excluded)
{
	const struct ours *ours = world->mine;
	const struct sim_request *request = call->request;
	struct str account = str_of(call->account);
	uint64_t expected = learn_expect(&ours->learn, ours_model_id(world, call->model), account);
	size_t count = 0;
	for (uint32_t i = 0; excluded && i < call->excluded_count; i++)
		if (call->excluded[i]->mine)
			excluded[count++] = call->excluded[i]->mine;
	return (struct route_request){.model = ours_model_id(world, call->model),
	                              .prompt_tokens = request->prompt + call->made,
	                              .max_tokens = request->max_tokens,
	                              .expected_tokens = call->attempts.count             ? 1 /* whose content comes first */
	                                                 : expected < request->max_tokens ? expected
	                                                                                  : request->max_tokens,
	                              .urgent = call->attempts.count > 0,
	                              .caller_account = account,
	                              .own_only = request->self_route,
	                              .prefer_own = request->prefer_own,
	                              .excluded = excluded,
	                              .excluded_count = count,
	                              .prefixes = call->prefixes,
	                              .prefix_count = put_prefixes(request, call->prefixes),
	                              .tools = request->tools,
	                              .vision = request->vision};
}

enum sim_answer ours_answer(struct sim_world *world, enum db_err err, const struct route_request *request,
                            const struct route_decision *decision, struct route_reservation *reservation, struct sim_pick *out)
{
	const struct ours *ours = world->mine;
	if (err == DB_E_AGAIN)
		planner_note(ours->planner, request->model, PLANNER_CAPACITY_REJECT, world->now_us);
	if (err)
		return err == DB_E_AGAIN ? SIM_LATER : SIM_NEVER;
	*out = (struct sim_pick){.seat = route_node_user(decision->node),
	                         .cold = decision->cold,
	                         .predicted_ms = decision->ttft_ms,
	                         .tail_ms = decision->tail_ms,
	                         .mine = reservation};
	if (decision->cold)
		planner_note(ours->planner, request->model, PLANNER_COLD_DISPATCH, world->now_us);
	return SIM_PICKED;
}

static enum sim_answer pick(struct sim_world *world, struct sim_call *call, struct sim_pick *out)
{
	const struct ours *ours = world->mine;
	struct route_node *excluded[SIM_MAX_TRIES * 2];
	struct route_request request = ours_request(world, call, excluded);
	struct route_decision decision;
	struct route_reservation *reservation;
	struct ours_scan scan = {.node = NULL};
	if (!call->tries && !call->waits && !call->turn)
		planner_arrival(ours->planner, &request, world->now_us);
	if (world->scenario->audit)
		scan = ours_scan(world, &request, call->model);
	enum db_err err = route_select(ours->fleet, &request, world->now_us, &decision, &reservation);
	if (!err && scan.node) {
		world->measure->chosen_ms += decision.cost_ms;
		world->measure->scan_ms += scan.cost_ms;
		world->measure->cheapest_ms += scan.cheapest_ms;
		if (decision.cost_ms > scan.cheapest_ms + OURS_TIE_MS)
			world->measure->beyond_ms += decision.cost_ms - scan.cheapest_ms;
		world->measure->scans++;
	}
	return ours_answer(world, err, &request, &decision, reservation, out);
}

/* --- waiting: as in the server, a machine that may have room is offered to those that it could serve --- */

static bool enter(struct sim_world *world, struct sim_call *call)
{
	const struct ours *ours = world->mine;
	struct str model = ours_model_id(world, call->model);
	if (call->turn) /* it has been in a queue before: it keeps its place and its deadline */
		return !queue_return(ours->queues, &call->place);
	call->place = (struct queue_waiter){.request = ours_request(world, call, NULL), .deadline_us = call->leaves_queue_us};
	shares_apply(ours->shares, &call->place);
	return !queue_enter(ours->queues, &call->place, queue_places(route_model_routable(ours->fleet, model)), world->now_us);
}

static void unwait(struct sim_world *world, struct sim_call *call)
{
	const struct ours *ours = world->mine;
	world->measure->owned_twice += !queue_leave(ours->queues, &call->place);
}

struct offered {
	const struct sim_world *world;
	const struct sim_seat *seat;
};

static bool can_run(const struct queue_waiter *place, void *user)
{
	const struct offered *offered = user;
	const struct ours *ours = offered->world->mine;
	const struct sim_call *call = LIST_OF(place, struct sim_call, place);
	return call->turn != offered->world->turn &&
	       route_check(ours->fleet, offered->seat->mine, &place->request, offered->world->now_us) == ROUTE_OK;
}

static struct sim_call *take(struct sim_world *world, struct sim_seat *seat, uint16_t model)
{
	const struct ours *ours = world->mine;
	struct offered offered = {world, seat};
	if (!seat->mine)
		return NULL;
	struct queue_waiter *place = queue_take(ours->queues, ours_model_id(world, model), can_run, &offered, world->now_us);
	return place ? LIST_OF(place, struct sim_call, place) : NULL;
}

static bool put_back(struct sim_world *world, struct sim_call *call)
{
	const struct ours *ours = world->mine;
	return !queue_return(ours->queues, &call->place);
}

static struct sim_call *expired(struct sim_world *world)
{
	const struct ours *ours = world->mine;
	struct queue_waiter *place = queue_expired(ours->queues, world->now_us);
	return place ? LIST_OF(place, struct sim_call, place) : NULL;
}

static void release(struct sim_world *world, struct sim_attempt *attempt, enum sim_end end)
{
	static const enum route_outcome outcomes[] = {[SIM_END_OK] = ROUTE_OUTCOME_OK,
	                                              [SIM_END_FAULT] = ROUTE_OUTCOME_FAULT,
	                                              [SIM_END_CAPACITY] = ROUTE_OUTCOME_CAPACITY,
	                                              [SIM_END_TIMEOUT] = ROUTE_OUTCOME_TIMEOUT,
	                                              [SIM_END_LOST] = ROUTE_OUTCOME_LOST,
	                                              [SIM_END_CANCELLED] = ROUTE_OUTCOME_CLIENT,
	                                              [SIM_END_CLIENT] = ROUTE_OUTCOME_CLIENT};
	struct ours *ours = world->mine;
	const struct sim_call *call = attempt->call;
	route_outcome(ours->fleet, attempt->mine, outcomes[end], world->now_us);
	if (end == SIM_END_OK)
		learn_output(&ours->learn, ours_model_id(world, call->model), str_of(call->account), call->request->output);
	ours_alias_note(world, attempt, end);
	if (end == SIM_END_CAPACITY && attempt->seat->mine)
		route_node_cool(ours->fleet, attempt->seat->mine, ours_model_id(world, call->model), world->now_us + COOL_US);
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
	for (uint16_t m = 0; m < world->scenario->model_count; m++) {
		struct queue_demand demand = queue_demand(ours->queues, ours_model_id(world, m));
		planner_queue(ours->planner, ours_model_id(world, m), &demand, world->now_us);
	}
	size_t count = planner_tick(ours->planner, world->now_us, loads);
	for (size_t i = 0; i < count; i++) {
		struct sim_seat *seat = route_node_user(loads[i].node);
		for (uint32_t slot = 0; slot < seat->box.slot_count; slot++)
			if (str_eq(ours_model_id(world, seat->box.slots[slot].model), loads[i].model))
				sim_world_load(world, seat, seat->box.slots[slot].model);
	}
}

static void loaded(struct sim_world *world, struct sim_seat *seat, uint16_t model, bool ok)
{
	const struct ours *ours = world->mine;
	struct str id = ours_model_id(world, model);
	if (!seat->mine)
		return;
	planner_load_ended(ours->planner, seat->mine, id, ok ? PLANNER_LOADED : PLANNER_FAILED, world->now_us);
	if (ok)
		route_node_loaded(ours->fleet, seat->mine, id);
	else
		route_node_cool(ours->fleet, seat->mine, id, world->now_us + COOL_US);
}

static uint32_t pending(const struct sim_world *world, const struct sim_seat *seat)
{
	(void)world;
	return seat->mine ? route_node_pending(seat->mine) : 0;
}

/* The same but that every machine is looked at for every request: what the server's short cuts cost. */
static enum sim_answer pick_by_scan(struct sim_world *world, struct sim_call *call, struct sim_pick *out)
{
	const struct ours *ours = world->mine;
	struct route_node *excluded[SIM_MAX_TRIES * 2];
	struct route_request request = ours_request(world, call, excluded);
	struct route_decision decision;
	struct route_reservation *reservation;
	if (!call->tries && !call->waits && !call->turn)
		planner_arrival(ours->planner, &request, world->now_us);
	request.only = ours_scan(world, &request, call->model).node;
	enum db_err err = route_select(ours->fleet, &request, world->now_us, &decision, &reservation);
	return ours_answer(world, err, &request, &decision, reservation, out);
}

#define OURS                                                                                                                   \
	.hedges = true, .resumes = true, .capacity_tries = 3, .queues_retries = true, .start = start, .stop = stop,                \
	.joined = joined, .left = left, .beat = beat, .release = release, .content = content, .tick = tick, .loaded = loaded,      \
	.wait = enter, .unwait = unwait, .take = take, .put_back = put_back, .expired = expired, .pending = pending,               \
	.changed = tell_facts, .advertises = advertise, .resolve = ours_resolve, .renamed = ours_renamed, .ended = ours_alias_end

const struct sim_policy sim_policy_ours = {
    .name = "ours", .about = "route_select and everything around it, as in the server", .pick = pick, OURS};
const struct sim_policy sim_policy_scan = {
    .name = "scan", .about = "ours, but with a look at every machine", .pick = pick_by_scan, OURS};

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
	return str_is(name, sim_policy_scan.name) ? &sim_policy_scan : NULL;
}
