/* Closes the ledger's period once a day (UTC), and when it was not done for longer at the next occasion. Thread: the loop's. */
#ifndef COORDINATOR_BOOK_KEEPER_H
#define COORDINATOR_BOOK_KEEPER_H

#include "coordinator/store/store.h"

struct book_keeper {
	struct net_loop *loop;
	struct store *store;
	struct net_timer timer;
	bool busy;
};
void book_keeper_start(struct book_keeper *keeper, struct net_loop *loop, struct store *store);
void book_keeper_stop(struct book_keeper *keeper); /* before store_close; also when it was never started */

#endif
