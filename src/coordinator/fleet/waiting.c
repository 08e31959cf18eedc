/* Requests that wait for a provider (routing 11.1): routing/queue.h says whose turn it is; here a provider that may have room
 * is remembered, and its room is offered in a posted call of its own, so that nobody's request starts in the middle of
 * another's end. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "coordinator/routing/share.h"
#include "core/log.h"

/* Outlives the fleet when a call is still posted. */
struct wake_turn {
	struct fleet *fleet;
	bool posted;
};

bool waiting_init(struct fleet *fleet)
{
	list_init(&fleet->woken);
	fleet->queues = queues_new();
	fleet->shares = shares_new(fleet->options.shares, fleet->options.share_count);
	return fleet->queues && fleet->shares;
}

void waiting_free(struct fleet *fleet)
{
	queues_free(fleet->queues);
	shares_free(fleet->shares);
	if (fleet->turn && fleet->turn->posted)
		fleet->turn->fleet = NULL; /* frees itself */
	else
		free(fleet->turn);
	fleet->turn = NULL;
}

void waiting_forget(struct session *session)
{
	list_remove(&session->fleet->woken, &session->woken);
	if (session->fleet->offering == session)
		session->fleet->offering = NULL;
}

/* --- waiting --- */

enum db_err fleet_wait(struct fleet *fleet, const struct route_request *request, struct fleet_waiter *waiter, bool keep_place)
{
	uint64_t now_us = net_now_us(fleet->loop);
	if (keep_place)
		return queue_return(fleet->queues, &waiter->place);
	waiter->fleet = fleet;
	waiter->turn = 0;
	waiter->place.request = *request;
	waiter->place.request.excluded = NULL;
	waiter->place.request.excluded_count = 0;
	shares_apply(fleet->shares, &waiter->place);
	enum db_err err =
	    queue_enter(fleet->queues, &waiter->place, queue_places(route_model_routable(fleet->routes, request->model)), now_us);
	if (!err)
		warm_wanted(fleet, request->model);
	return err;
}

const struct shares *fleet_shares(const struct fleet *fleet)
{
	return fleet->shares;
}

static enum db_err put_set(struct shares *shares, const struct share *share)
{
	struct share set = *share;
	set.set = true;
	return shares_put(shares, &set);
}

enum db_err fleet_share_put(struct fleet *fleet, const struct share *share)
{
	return put_set(fleet->shares, share);
}

enum db_err fleet_shares_set(struct fleet *fleet, const struct share *set, size_t count)
{
	struct shares *shares = shares_new(fleet->options.shares, fleet->options.share_count);
	enum db_err err = shares ? DB_OK : DB_E_NOMEM;
	for (size_t i = 0; i < count && !err; i++) {
		err = put_set(shares, &set[i]);
		if (err != DB_E_LIMIT)
			continue;
		log_error("share.limit", "account=%.*s", STR_ARG(set[i].account));
		err = DB_OK;
	}
	shares_free(err ? shares : fleet->shares);
	if (!err)
		fleet->shares = shares;
	return err;
}

void fleet_share_remove(struct fleet *fleet, struct str account)
{
	(void)shares_remove(fleet->shares, account);
	for (size_t i = 0; i < fleet->options.share_count; i++) {
		struct share share;
		if (share_read(str_of(fleet->options.shares[i]), &share) || !str_eq(share.account, account))
			continue;
		(void)shares_put(fleet->shares, &share);
		return;
	}
}

void fleet_wait_cancel(struct fleet_waiter *waiter)
{
	if (waiter->place.model)
		(void)queue_leave(waiter->fleet->queues, &waiter->place);
}

size_t fleet_waiting(const struct fleet *fleet, struct str model)
{
	return queue_length(fleet->queues, model);
}

uint32_t fleet_retry_after_s(const struct fleet *fleet, struct str model)
{
	return queue_retry_after_s(fleet->queues, model, net_now_us(fleet->loop));
}

/* --- waking --- */

/* Each waiter tries at most once in a turn, whatever comes of it. */
static bool can_run(const struct queue_waiter *place, void *user)
{
	const struct session *session = user;
	const struct fleet_waiter *waiter = LIST_OF(place, struct fleet_waiter, place);
	const struct route_request *request = &place->request;
	if (waiter->turn == session->fleet->turns || (request->only && request->only != session->node))
		return false;
	return route_check(session->fleet->routes, session->node, request, net_now_us(session->fleet->loop)) == ROUTE_OK;
}

static void offer_model(struct session *session, struct str model)
{
	struct fleet *fleet = session->fleet;
	for (struct queue_waiter *place;
	     fleet->offering == session && (place = queue_take(fleet->queues, model, can_run, session, net_now_us(fleet->loop)));) {
		struct fleet_waiter *waiter = LIST_OF(place, struct fleet_waiter, place);
		waiter->turn = fleet->turns;
		waiter->wake(waiter);
	}
}

static void offer(struct session *session)
{
	struct str models[ROUTE_MAX_NODE_MODELS];
	struct fleet *fleet = session->fleet;
	if (!session->node)
		return;
	size_t count = route_node_models(session->node, models, ROUTE_MAX_NODE_MODELS);
	fleet->offering = session;
	for (size_t i = 0; i < count && fleet->offering == session; i++)
		if (queue_length(fleet->queues, models[i]))
			offer_model(session, models[i]);
	fleet->offering = NULL;
}

static void on_wake(void *arg)
{
	struct wake_turn *turn = arg;
	struct fleet *fleet = turn->fleet;
	turn->posted = false;
	if (!fleet) {
		free(turn);
		return;
	}
	fleet->turns++;
	for (size_t left = fleet->woken.count; left && fleet->woken.count; left--)
		offer(LIST_OF(list_pop_front(&fleet->woken), struct session, woken));
}

static void post_wake(struct fleet *fleet)
{
	if (!fleet->turn)
		fleet->turn = calloc(1, sizeof *fleet->turn);
	if (!fleet->turn || fleet->turn->posted)
		return; /* out of memory: the next heartbeat tries again */
	fleet->turn->fleet = fleet;
	fleet->turn->posted = true;
	net_post(fleet->loop, on_wake, fleet->turn);
}

void waiting_wake_node(struct fleet *fleet, const struct route_node *node)
{
	if (!node || !queue_total(fleet->queues))
		return;
	struct session *session = route_node_user(node);
	if (!list_linked(&session->woken))
		list_push_back(&fleet->woken, &session->woken);
	post_wake(fleet);
}
