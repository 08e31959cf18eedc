/* What the books say that went through Stripe, beside what Stripe says (billing 10: reconciliation). */
#ifndef COORDINATOR_STORE_STRIPE_H
#define COORDINATOR_STORE_STRIPE_H

#include "coordinator/store/store.h"

struct store_stripe_sums {
	int64_t deposits_uusd;  /* paid in */
	int64_t reversals_uusd; /* of that, given back or held back by a bank */
	int64_t transfers_uusd; /* to connected accounts, without those that came back */
};
struct store_reconciliation {
	struct store_stripe_sums books, stripe;
	int64_t balance_off_uusd; /* Stripe's own balance less the sum of its own transactions */
	bool agrees;
};
/* Reads the books' sums as of now, compares, and notes a difference in the audit trail. */
typedef void (*store_reconciliation_fn)(const struct store_reconciliation *result, const struct error *error, void *user);
void store_stripe_compare(struct store *store, const struct store_stripe_sums *stripe, int64_t balance_off_uusd,
                          store_reconciliation_fn done, void *user);

#endif
