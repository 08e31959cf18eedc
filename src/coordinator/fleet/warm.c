/* Keeps models warm where demand is (routing 12): asks the planner every ten seconds, and soon after somebody had to wait;
 * sends the load commands and hears what became of them. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"

#define WARM_INTERVAL_MS 10000
#define WARM_SOON_MS     200 /* many who begin to wait at once are one reason to think again */

static void send_load(struct fleet *fleet, const struct planner_load *load)
{
	struct session *session = route_node_user(load->node);
	struct wire_message message = {.type = WIRE_LOAD_MODEL, .as.load_model = {.model_id = load->model}};
	if (session_send(session, &message) != DB_OK) {
		planner_load_ended(fleet->planner, load->node, load->model, PLANNER_NOT_SENT, net_now_us(fleet->loop));
		return;
	}
	metric_add(fleet->metrics.loads_asked, 1);
	log_info("warm.load", "provider=%s model=%.*s", session->id, STR_ARG(load->model));
}

static void tell_queues(struct fleet *fleet, uint64_t now_us)
{
	size_t count = planner_views(fleet->planner, NULL, 0);
	struct planner_view *views = calloc(count + 1, sizeof *views);
	if (!views)
		return; /* the queues are looked at again with the next tick */
	(void)planner_views(fleet->planner, views, count);
	for (size_t i = 0; i < count; i++) {
		struct queue_demand demand = queue_demand(fleet->queues, views[i].model);
		planner_queue(fleet->planner, views[i].model, &demand, now_us);
	}
	free(views);
}

static void tick(struct fleet *fleet)
{
	struct planner_load loads[PLANNER_LOADS_MAX];
	uint64_t now_us = net_now_us(fleet->loop);
	tell_queues(fleet, now_us);
	size_t count = fleet->draining ? 0 : planner_tick(fleet->planner, now_us, loads);
	for (size_t i = 0; i < count; i++)
		send_load(fleet, &loads[i]);
}

static void on_tick(struct net_timer *timer)
{
	tick(LIST_OF(timer, struct fleet, warm_timer));
}

static void on_soon(struct net_timer *timer)
{
	tick(LIST_OF(timer, struct fleet, warm_soon));
}

void warm_start(struct fleet *fleet)
{
	uint32_t interval_ms = fleet->options.warm_interval_ms ? fleet->options.warm_interval_ms : WARM_INTERVAL_MS;
	if (!fleet->options.warm_off)
		net_timer_start(fleet->loop, &fleet->warm_timer, interval_ms, interval_ms, on_tick);
}

void warm_stop(struct fleet *fleet)
{
	net_timer_stop(&fleet->warm_timer);
	net_timer_stop(&fleet->warm_soon);
}

void warm_wanted(struct fleet *fleet, struct str model)
{
	fleet_note_demand(fleet, model, PLANNER_CAPACITY_REJECT);
	if (!fleet->options.warm_off && !fleet->warm_soon.loop)
		net_timer_start(fleet->loop, &fleet->warm_soon, WARM_SOON_MS, 0, on_soon);
}

void warm_sent(struct fleet *fleet, const struct route_request *request, const struct route_decision *decision)
{
	uint64_t now_us = net_now_us(fleet->loop);
	if (!request->excluded_count)
		planner_arrival(fleet->planner, request, now_us);
	if (decision->cold)
		planner_note(fleet->planner, request->model, PLANNER_COLD_DISPATCH, now_us);
}

void fleet_note_demand(struct fleet *fleet, struct str model, enum planner_event event)
{
	planner_note(fleet->planner, model, event, net_now_us(fleet->loop));
}

enum db_err fleet_keep_warm(struct fleet *fleet, struct str model, uint32_t providers)
{
	return planner_keep_warm(fleet->planner, model, providers);
}

size_t fleet_demand(const struct fleet *fleet, struct planner_view *out, size_t max)
{
	return planner_views(fleet->planner, out, max);
}

/* --- what became of a command (routing 12 "Pending-load table") --- */

static enum planner_end end_of(struct str why)
{
	return str_contains_nocase(why, STR("not found")) ? PLANNER_NOT_FOUND : PLANNER_FAILED;
}

static void loaded(struct session *session, struct str model)
{
	struct fleet *fleet = session->fleet;
	planner_load_ended(fleet->planner, session->node, model, PLANNER_LOADED, net_now_us(fleet->loop));
	route_node_loaded(fleet->routes, session->node, model);
	metric_add(fleet->metrics.loads_done, 1);
	waiting_wake_node(fleet, session->node);
}

static void load_failed(struct session *session, struct str model, struct str why)
{
	struct fleet *fleet = session->fleet;
	uint64_t now_us = net_now_us(fleet->loop);
	planner_load_ended(fleet->planner, session->node, model, end_of(why), now_us);
	metric_add(fleet->metrics.loads_failed, 1);
	if (str_contains_nocase(why, STR("insufficient memory")) || str_contains_nocase(why, STR("model load failed")))
		route_node_cool(fleet->routes, session->node, model, now_us + FLEET_LOAD_COOL_US);
}

void session_load_status(struct session *session, const struct wire_load_model_status *message)
{
	log_info("warm.load_status", "provider=%s model=%.*s status=%d", session->id, STR_ARG(message->model_id),
	         (int)message->status);
	if (message->status == WIRE_LOAD_SUCCEEDED)
		loaded(session, message->model_id);
	else if (message->status == WIRE_LOAD_FAILED)
		load_failed(session, message->model_id, message->error);
}
