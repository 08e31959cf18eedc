/* Keeps the levels of the rate limits over restarts: read before the first request, written every few seconds and at the end.
 * Thread: the loop's. */
#ifndef COORDINATOR_LIMIT_KEEPER_H
#define COORDINATOR_LIMIT_KEEPER_H

#include "coordinator/accounts/limits.h"

struct limit_keeper {
	struct limits *limits;
	struct store *store;
	struct net_loop *loop;
	struct net_timer timer;
	store_done_fn ready;
	void *user;
};
/* limits, store and loop are set. Calls ready once the levels are read; then writes what changes. */
void limit_keeper_start(struct limit_keeper *keeper, store_done_fn ready, void *user);
void limit_keeper_save(struct limit_keeper *keeper);
void limit_keeper_stop(struct limit_keeper *keeper);

#endif
