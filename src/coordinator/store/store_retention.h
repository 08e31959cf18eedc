/* How long rows are kept (billing 7.5). The ledger, holds, earnings, draws, deposits and withdrawals stay for ever; usage rows
 * are rolled up by month. The rules of store.h hold. */
#ifndef COORDINATOR_STORE_RETENTION_H
#define COORDINATOR_STORE_RETENTION_H

#include "coordinator/store/store.h"

/* What is older may go; 0 = stays for ever. */
struct store_retention {
	int64_t usage_before_us;    /* whole months before it, and only of closed periods of the ledger */
	int64_t webhooks_before_us; /* what Stripe told */
	int64_t sessions_before_us; /* when machines were fit for rewards */
	int64_t rows;               /* at most so many of each in one step */
};
/* moved: rows that went, in all; a full step says that there may be more. */
typedef void (*store_swept_fn)(int64_t moved, bool more, const struct error *error, void *user);
/* One small step, one transaction: usage rows and the sums that stand for them change together. */
void store_sweep(struct store *store, const struct store_retention *retention, store_swept_fn done, void *user);

#endif
