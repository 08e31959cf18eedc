/* Shares of accounts that the operator set while the coordinator ran (/v1/admin/account-shares). Thread: the loop's. */
#ifndef COORDINATOR_ACCOUNT_SHARES_H
#define COORDINATOR_ACCOUNT_SHARES_H

#include "coordinator/fleet/fleet.h"
#include "coordinator/store/store.h"

/* At the start: gives the fleet those that are kept, then calls done. DB_E_NOMEM at once, and done is not called. */
enum db_err account_shares_load(struct store *store, struct fleet *fleet, store_done_fn done, void *user);

#endif
