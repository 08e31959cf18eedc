/* What the books say that went through Stripe, beside what Stripe says (billing 10: reconciliation). */
#ifndef COORDINATOR_STORE_STRIPE_H
#define COORDINATOR_STORE_STRIPE_H

#include "coordinator/store/store.h"

struct store_stripe_sums {
	int64_t deposits_uusd;  /* paid in */
	int64_t reversals_uusd; /* of that, given back or held back by a bank */
	int64_t transfers_uusd; /* to connected accounts, without those that came back */
};
/* One transaction of Stripe's, by what the books know it by: the payment of a deposit, or a transfer. */
enum store_stripe_kind { STORE_STRIPE_DEPOSIT, STORE_STRIPE_REVERSAL, STORE_STRIPE_TRANSFER };
#define STORE_STRIPE_REFERENCE 128
struct store_stripe_item {
	enum store_stripe_kind kind;
	char reference[STORE_STRIPE_REFERENCE];
	int64_t uusd;
};
struct store_stripe_difference {
	struct store_stripe_item item; /* Stripe's sum of it */
	int64_t books_uusd;
	char id[STORE_ID_SIZE]; /* the deposit or withdrawal; empty: the books know of none */
};
#define STORE_STRIPE_DIFFERENCES 100 /* that are listed; all are counted */

struct store_reconciliation {
	struct store_stripe_sums books, stripe;
	int64_t balance_off_uusd; /* Stripe's own balance less the sum of its own transactions */
	int64_t unnamed;          /* transactions that say not what they are of: they count in the sums only */
	int64_t difference_count;
	struct store_stripe_difference differences[STORE_STRIPE_DIFFERENCES];
	bool agrees;
};
typedef void (*store_reconciliation_fn)(const struct store_reconciliation *result, const struct error *error, void *user);
/* Compares each with its row in the books, and each row with what Stripe said; of the result fills the differences. `items` are
 * taken over. While some are unnamed a row without its transaction is no difference. */
void store_stripe_match(struct store *store, struct store_stripe_item *items, size_t count, int64_t unnamed,
                        store_reconciliation_fn done, void *user);
/* Reads the books' sums as of now, compares, and notes a difference in the audit trail. Of `found`: what Stripe says, and what
 * store_stripe_match found. */
void store_stripe_compare(struct store *store, const struct store_reconciliation *found, store_reconciliation_fn done,
                          void *user);

#endif
