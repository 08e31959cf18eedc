/* Requests that wait for a provider: one queue for each build, first come first served (routing 11.1). Waking happens in a
 * posted call of its own, so that nobody's request starts in the middle of another's end. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"

struct queue {
	struct list_link woken; /* in fleet->woken */
	struct list waiters;
	struct list_link *place; /* while waking: where the waiter that was just taken out stood */
	struct fleet *fleet;
	size_t model_len;
	char model[];
};

/* Outlives the fleet when a call is still posted. */
struct wake_turn {
	struct fleet *fleet;
	bool posted;
};

void waiting_init(struct fleet *fleet)
{
	map_init(&fleet->queues);
	list_init(&fleet->woken);
}

static struct str queue_model(const struct queue *queue)
{
	return (struct str){queue->model, queue->model_len};
}

static struct queue *queue_get(struct fleet *fleet, struct str model)
{
	struct queue *queue = map_get(&fleet->queues, model);
	if (queue)
		return queue;
	queue = calloc(1, sizeof *queue + model.len);
	if (!queue)
		return NULL;
	queue->fleet = fleet;
	list_init(&queue->waiters);
	memcpy(queue->model, model.at, model.len);
	queue->model_len = model.len;
	if (map_put(&fleet->queues, queue_model(queue), queue, NULL)) {
		free(queue);
		return NULL;
	}
	return queue;
}

static void free_if_empty(struct queue *queue)
{
	if (queue->waiters.count || queue->place)
		return;
	list_remove(&queue->fleet->woken, &queue->woken);
	map_remove(&queue->fleet->queues, queue_model(queue));
	free(queue);
}

void waiting_free(struct fleet *fleet)
{
	size_t cursor = 0;
	for (struct queue *queue; (queue = map_next(&fleet->queues, &cursor));) {
		for (struct list_link *link; (link = list_pop_front(&queue->waiters));)
			LIST_OF(link, struct fleet_waiter, link)->queue = NULL;
		free(queue);
	}
	map_free(&fleet->queues);
	if (fleet->turn && fleet->turn->posted)
		fleet->turn->fleet = NULL; /* frees itself */
	else
		free(fleet->turn);
	fleet->turn = NULL;
}

enum db_err fleet_wait(struct fleet *fleet, struct str model, struct fleet_waiter *waiter, bool keep_place)
{
	struct queue *queue = queue_get(fleet, model);
	if (!queue)
		return DB_E_NOMEM;
	bool returns = keep_place && queue->place;
	if (!returns && queue->waiters.count >= FLEET_WAIT_MAX)
		return DB_E_LIMIT;
	if (returns)
		list_insert_before(&queue->waiters, queue->place, &waiter->link);
	else
		list_push_back(&queue->waiters, &waiter->link);
	waiter->queue = queue;
	fleet->waiting++;
	if (!keep_place)
		warm_wanted(fleet, model);
	return DB_OK;
}

static void take_out(struct fleet_waiter *waiter)
{
	struct queue *queue = waiter->queue;
	if (queue->place == &waiter->link)
		queue->place = waiter->link.next;
	list_remove(&queue->waiters, &waiter->link);
	waiter->queue = NULL;
	queue->fleet->waiting--;
}

void fleet_wait_cancel(struct fleet_waiter *waiter)
{
	struct queue *queue = waiter->queue;
	if (!queue)
		return;
	take_out(waiter);
	free_if_empty(queue);
}

size_t fleet_waiting(const struct fleet *fleet, struct str model)
{
	const struct queue *queue = map_get(&fleet->queues, model);
	return queue ? queue->waiters.count : 0;
}

/* Each waiter tries once, in order; one that cannot go yet returns to its place and the next tries. */
static void wake_queue(struct queue *queue)
{
	queue->place = queue->waiters.head.next;
	for (size_t left = queue->waiters.count; left && queue->place != &queue->waiters.head; left--) {
		struct fleet_waiter *waiter = LIST_OF(queue->place, struct fleet_waiter, link);
		take_out(waiter); /* moves place to the next */
		waiter->wake(waiter);
	}
	queue->place = NULL;
	free_if_empty(queue);
}

static void on_wake(void *arg)
{
	struct wake_turn *turn = arg;
	turn->posted = false;
	if (!turn->fleet) {
		free(turn);
		return;
	}
	struct list *woken = &turn->fleet->woken;
	for (size_t left = woken->count; left && woken->count; left--)
		wake_queue(LIST_OF(list_pop_front(woken), struct queue, woken));
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
	struct str models[ROUTE_MAX_NODE_MODELS];
	if (!fleet->waiting || !node)
		return;
	size_t count = route_node_models(node, models, ROUTE_MAX_NODE_MODELS);
	for (size_t i = 0; i < count; i++) {
		struct queue *queue = map_get(&fleet->queues, models[i]);
		if (!queue || !queue->waiters.count || list_linked(&queue->woken))
			continue;
		list_push_back(&fleet->woken, &queue->woken);
		post_wake(fleet);
	}
}
