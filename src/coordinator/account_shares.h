/* Shares of accounts that the operator set while a coordinator ran (/v1/admin/account-shares): read at the start, and again
 * when another coordinator on the same database may have changed one. Thread: the loop's. */
#ifndef COORDINATOR_ACCOUNT_SHARES_H
#define COORDINATOR_ACCOUNT_SHARES_H

#include "coordinator/fleet/fleet.h"
#include "coordinator/store/store.h"
#include "net/loop.h"

struct account_shares {
	struct net_loop *loop;
	struct store *store;
	struct fleet *fleet;
	store_done_fn ready; /* NULL = called */
	void *user;
	struct net_timer timer; /* of the next try after one that failed */
	bool asking;            /* for the list of all */
	bool stale;             /* what the list under way tells may be older than what is known */
	bool stopped;
};
/* loop, store and fleet are set. Gives the fleet those that are kept, then calls ready. */
void account_shares_start(struct account_shares *shares, store_done_fn ready, void *user);
/* The fleet has a change that was made here. */
void account_shares_changed(struct account_shares *shares);
void account_shares_stop(struct account_shares *shares); /* before store_close; also when it was never started */

#endif
