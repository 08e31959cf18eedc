/* Requests that wait for a place, by model (routing 11.1, with the traps of 22 mended). Pure: no clock, no I/O.
 *
 * A place that comes free is offered to one waiter that can use it, not to the head that cannot: waiters of the same shape
 * stand in one group, and only the first of each group is asked. Among those that can run the order is fair: every account has
 * a virtual time that advances by what its requests cost, divided by its weight, and the earliest goes first (self-clocked fair
 * queueing). Priorities are weights too, so that none starves another.
 *
 * A waiter has one owner at any time: the queue from queue_enter to the one call that takes it out (queue_take, queue_leave or
 * queue_expired), and its caller otherwise. Thread: one at a time. */
#ifndef COORDINATOR_QUEUE_H
#define COORDINATOR_QUEUE_H

#include "coordinator/routing/heap.h"
#include "coordinator/routing/routing.h"

#define QUEUE_LEAST_PLACES 10   /* of a model, however few nodes it has */
#define QUEUE_MOST_PLACES  4096 /* however many */

enum route_priority { ROUTE_PRIORITY_NORMAL, ROUTE_PRIORITY_INTERACTIVE, ROUTE_PRIORITY_BATCH, ROUTE_PRIORITIES };

struct queues;
struct queue_model;
struct queue_group;
struct queue_share;

struct queue_waiter {
	/* The caller's, unchanged while it waits; strings of the request are borrowed as long. */
	struct route_request request;
	enum route_priority priority;
	double weight;        /* of its account, <= 0 = 1 */
	uint64_t deadline_us; /* 0 = none */
	/* The queue's. */
	struct queue_model *model; /* NULL while it does not wait */
	struct queue_group *group;
	struct queue_share *share;
	struct heap_item turn, end; /* in its group, and among all deadlines */
	uint64_t entered_us, tag;
};

struct queues *queues_new(void);
void queues_free(struct queues *queues); /* waiters that are left are their callers' */

/* How many may wait for a model that so many nodes could serve. */
uint32_t queue_places(uint32_t nodes);
/* DB_E_LIMIT when `places` wait; an account with nothing waiting is let in up to twice that, so that one that fills the queue
 * does not shut others out. DB_E_NOMEM. */
enum db_err queue_enter(struct queues *queues, struct queue_waiter *waiter, uint32_t places, uint64_t now_us);
/* The waiter whose turn it is among those that `can_run`, taken out; NULL when none can. Asks the first of each group. */
struct queue_waiter *queue_take(struct queues *queues, struct str model,
                                bool (*can_run)(const struct queue_waiter *waiter, void *user), void *user, uint64_t now_us);
/* It was taken and could not start after all: back to its place, deadline and turn unchanged. DB_E_NOMEM: it is the caller's.
 */
enum db_err queue_return(struct queues *queues, struct queue_waiter *waiter);
/* The request is not wanted any more. False when it did not wait. */
bool queue_leave(struct queues *queues, struct queue_waiter *waiter);
/* One whose deadline has passed, taken out; NULL when there is none. Call until NULL. */
struct queue_waiter *queue_expired(struct queues *queues, uint64_t now_us);

uint32_t queue_length(const struct queues *queues, struct str model);
/* What a warm pool should know of those that wait for the model. Requests for certain nodes are not in it: another node that
 * has the model does not help them. */
struct queue_demand {
	uint32_t waiting;
	bool tools, vision;           /* all of them ask for it: a node that cannot need not load the model */
	bool some_tools, some_vision; /* some do: a node that can is the better one */
};
struct queue_demand queue_demand(const struct queues *queues, struct str model);
size_t queue_total(const struct queues *queues);
/* Seconds after which one more request would likely be served: those ahead of it times how long each has taken lately, or 3 s
 * each while that is not known; 1 .. 120. */
uint32_t queue_retry_after_s(const struct queues *queues, struct str model, uint64_t now_us);

#endif
