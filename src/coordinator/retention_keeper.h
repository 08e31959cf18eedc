/* Lets rows go that were kept long enough (billing 7.5): a small step now and then, until there is nothing left to do for an
 * hour. Thread: the loop's. */
#ifndef COORDINATOR_RETENTION_KEEPER_H
#define COORDINATOR_RETENTION_KEEPER_H

#include "coordinator/store/store_retention.h"

/* Days to keep; 0 = for ever. rows: in one step. */
struct retention_days {
	int64_t usage, webhooks, sessions, rows;
};
struct retention_keeper {
	struct net_loop *loop;
	struct store *store;
	struct retention_days days;
	struct net_timer timer;
	bool stopped;
};
void retention_keeper_start(struct retention_keeper *keeper, struct net_loop *loop, struct store *store,
                            const struct retention_days *days);
void retention_keeper_stop(struct retention_keeper *keeper); /* before store_close; also when it was never started */

#endif
