/* Heartbeats (protocol-and-trust 3.2, routing 1-2). */
#include "coordinator/fleet/fleet_internal.h"

static enum route_slot_state slot_state(enum wire_slot_state state)
{
	switch (state) {
	case WIRE_SLOT_RUNNING:
		return ROUTE_SLOT_RUNNING;
	case WIRE_SLOT_LEGACY:
	case WIRE_SLOT_IDLE:
		return ROUTE_SLOT_IDLE;
	case WIRE_SLOT_IDLE_SHUTDOWN:
		return ROUTE_SLOT_IDLE_SHUTDOWN;
	case WIRE_SLOT_RELOADING:
		return ROUTE_SLOT_RELOADING;
	case WIRE_SLOT_CRASHED:
		return ROUTE_SLOT_CRASHED;
	default:
		return ROUTE_SLOT_COLD;
	}
}

static uint32_t small_count(int64_t value)
{
	return value < 0 ? 0 : value > 1000000 ? 1000000 : (uint32_t)value;
}

static uint64_t count_of(int64_t value)
{
	return value < 0 ? 0 : (uint64_t)value;
}

static struct route_slot slot_of(const struct wire_slot *slot)
{
	return (struct route_slot){
	    .state = slot_state(slot->state),
	    .running = small_count(slot->num_running),
	    .waiting = small_count(slot->num_waiting),
	    .max_concurrency = small_count(slot->max_concurrency),
	    .active_tokens = count_of(slot->active_tokens),
	    .max_tokens_potential = count_of(slot->max_tokens_potential),
	    .budget_used = count_of(slot->active_token_budget_used),
	    .budget_max = count_of(slot->active_token_budget_max),
	    .budget_queued = count_of(slot->queued_token_budget),
	    .decode_tps = slot->observed_decode_tps,
	    .prefill_tps = slot->observed_prefill_tps,
	    .kv_bytes_per_token = (double)count_of(slot->kv_bytes_per_token),
	    .load_time_ms = count_of(slot->model_load_time_ms),
	};
}

static int thermal_of(enum wire_thermal thermal)
{
	switch (thermal) {
	case WIRE_THERMAL_FAIR:
		return 1;
	case WIRE_THERMAL_SERIOUS:
		return 2;
	case WIRE_THERMAL_CRITICAL:
		return 3;
	default:
		return 0;
	}
}

static void set_live_facts(struct session *session, const struct wire_heartbeat *message)
{
	struct route_node_facts facts;
	const struct wire_capacity *capacity = &message->capacity;
	route_node_facts(session->fleet->routes, session->node, &facts);
	facts.connected_ok = session_takes_requests(session);
	facts.memory_pressure = message->memory_pressure;
	facts.cpu_usage = message->cpu_usage;
	facts.thermal = thermal_of(message->thermal_state);
	facts.has_capacity = message->has_capacity;
	facts.gpu_active_gb = message->has_capacity ? capacity->gpu_memory_active_gb : 0;
	facts.total_memory_gb = message->has_capacity ? capacity->total_memory_gb : 0;
	facts.free_for_load_gb = message->has_capacity && capacity->has_free_for_load ? capacity->free_for_load_gb : -1;
	route_node_set_facts(session->fleet->routes, session->node, &facts);
}

/* Slots of models that are not advertised are ignored. */
static void set_slots(struct session *session, const struct wire_capacity *capacity)
{
	for (size_t i = 0; i < capacity->slot_count; i++) {
		struct route_slot slot = slot_of(&capacity->slots[i]);
		(void)route_node_set_slot(session->fleet->routes, session->node, capacity->slots[i].model, &slot);
		session_prefixes(session, &capacity->slots[i]);
	}
}

/* The older generation says only which models are warm (routing 1, protocol-and-trust 16). */
static void set_warm_models(struct session *session, const struct wire_heartbeat *message)
{
	struct route_fleet *routes = session->fleet->routes;
	struct route_slot warm = {.state = ROUTE_SLOT_IDLE};
	for (size_t i = 0; i < message->warm_models.count; i++)
		(void)route_node_set_slot(routes, session->node, message->warm_models.at[i], &warm);
	if (message->active_model.len)
		(void)route_node_set_slot(routes, session->node, message->active_model, &warm);
}

static void note_alive(struct session *session)
{
	struct fleet *fleet = session->fleet;
	list_remove(session->late ? &fleet->stale : &fleet->live, &session->beat);
	session->late = false;
	session->last_beat_us = net_now_us(fleet->loop);
	list_push_back(&fleet->live, &session->beat);
}

void session_heartbeat(struct session *session, const struct wire_heartbeat *message)
{
	note_alive(session);
	session->draining = message->draining;
	set_live_facts(session, message);
	if (message->has_capacity)
		set_slots(session, &message->capacity);
	else
		set_warm_models(session, message);
	route_node_heartbeat_done(session->fleet->routes, session->node);
	route_node_seen(session->fleet->routes, session->node, session->last_beat_us);
	distance_ask(session);
	waiting_wake_node(session->fleet, session->node);
}
