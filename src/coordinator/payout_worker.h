/* Carries withdrawals on, from wherever they are, until they are paid or given back (billing 10). Every call to Stripe has the
 * same idempotency key each time, so that it is made again, as often as need be, when nothing is known of the last one; what
 * Stripe lists is looked through first, since it forgets a key. Money is given back only after a definite refusal or a
 * confirmed reversal. What a crash interrupts the next start goes on with. Thread: the loop's. */
#ifndef COORDINATOR_PAYOUT_WORKER_H
#define COORDINATOR_PAYOUT_WORKER_H

#include "coordinator/money/ledger.h"
#include "coordinator/money/stripe.h"
#include "coordinator/store/store_withdrawals.h"

struct payout_worker;

struct payout_worker_options {
	struct net_loop *loop;
	struct store *store;
	struct ledger *ledger;
	struct stripe *stripe;
	uint32_t retry_ms;
};
struct payout_worker *payout_worker_new(const struct payout_worker_options *options); /* NULL when out of memory */
void payout_worker_stop(struct payout_worker *worker);                                /* before stripe_free; NULL is allowed */
void payout_worker_free(struct payout_worker *worker);                                /* after store_close; NULL is allowed */

/* withdrawal: where it came to rest for now; arrival_s: when the bank should have it, 0 = unknown. */
typedef void (*payout_rest_fn)(const struct store_withdrawal *withdrawal, int64_t arrival_s, void *user);
/* rest may be NULL. */
void payout_worker_run(struct payout_worker *worker, const struct store_withdrawal *withdrawal, payout_rest_fn rest,
                       void *user);
/* What a webhook told: takes the step, then goes on. done: the step is durable, or the error. */
void payout_worker_step(struct payout_worker *worker, const struct store_withdrawal *row,
                        const struct store_withdrawal_step *step, store_done_fn done, void *user);

#endif
