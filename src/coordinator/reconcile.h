/* Compares what Stripe says that it did, from its first transaction to its last, with the books (billing 10): once in some
 * hours, and when the operator asks. A difference is logged, counted and noted in the audit trail; nothing is changed. What is
 * on its way at that moment may differ once. Thread: the loop's. */
#ifndef COORDINATOR_RECONCILE_H
#define COORDINATOR_RECONCILE_H

#include "coordinator/money/stripe.h"
#include "coordinator/observe/metrics.h"
#include "coordinator/store/store_stripe.h"

struct reconciler;

struct reconciler_options {
	struct net_loop *loop;
	struct store *store;
	struct stripe *stripe;
	struct metrics *metrics;
};
struct reconciler *reconciler_new(const struct reconciler_options *options); /* NULL when out of memory */
void reconciler_stop(struct reconciler *reconciler);                         /* before stripe_free; NULL is allowed */
void reconciler_free(struct reconciler *reconciler);                         /* after store_close; NULL is allowed */
/* result NULL: Stripe or the books could not be read; the error says which. */
void reconciler_run(struct reconciler *reconciler, store_reconciliation_fn done, void *user);

#endif
