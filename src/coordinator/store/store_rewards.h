/* Base rewards in the database (billing 8.3): when machines were fit to be rewarded, and what each was given for each period.
 * The rules of store.h hold. */
#ifndef COORDINATOR_STORE_REWARDS_H
#define COORDINATOR_STORE_REWARDS_H

#include "coordinator/store/store.h"

#define STORE_ACCOUNT_REWARDS "rewards" /* a source: what was given so far is minus its balance */
#define STORE_REWARD_KEY_SIZE 64        /* a machine's X25519 key, base64 */

/* A machine was fit from from_us to seen_us. */
struct store_stretch {
	char device[STORE_MODEL_SIZE]; /* attested serial, else its signing key */
	char provider_key[STORE_REWARD_KEY_SIZE];
	char account_id[STORE_ID_SIZE];
	char model[64];
	int64_t memory_gb;
	int64_t from_us, seen_us;
	int64_t ended_us; /* it was not fit any more, or gone; 0 = not known to be */
};
/* Adds stretches, or moves the ends of those that are there (device and from_us name one) forward. Nobody waits. */
void store_stretches_put(struct store *store, const struct store_stretch *rows, size_t count);

/* A machine in one period. */
struct store_reward {
	struct store_stretch machine;    /* of its newest stretch in the period; from_us and seen_us as they were clipped */
	int64_t uptime_us;               /* the union of its stretches */
	int64_t earned_uusd;             /* by requests in the period */
	char payee[STORE_ID_SIZE];       /* whom Stripe pays for its account; else the account's id */
	int64_t payee_has_uusd;          /* drawn by all accounts of that payee for the period already */
	int64_t floor_uusd, amount_uusd; /* of a draw */
	int64_t memory_gb;               /* of a draw: verified */
};
struct store_epoch {
	int64_t epoch_us, pool_uusd; /* the pool only of store_draws_list */
	int64_t used_uusd;           /* of the pool, by the draws that are there */
	const struct store_reward *rows;
	size_t count;
};
typedef void (*store_epoch_fn)(const struct store_epoch *epoch, const struct error *error, void *user);
/* The machines of one period of period_us that have no draw yet; each stretch lasts slack_us longer than it was seen, or until
 * it ended. */
void store_epoch_read(struct store *store, int64_t epoch_us, int64_t period_us, int64_t slack_us, store_epoch_fn done,
                      void *user);

/* One transaction: each draw with its movement from `rewards`, its earning and its sums, once for each machine and period. What
 * would go beyond the limits, with what others drew meanwhile, is cut. given: what each row got, 0 where it was there before.
 */
typedef void (*store_draws_fn)(const int64_t *given, size_t count, const struct error *error, void *user);
#define STORE_DRAWS_MAX 64
struct store_draw_limits {
	int64_t pool_uusd, account_uusd; /* of the period; account_uusd, of all accounts of one payee, -1 = none */
};
void store_draws_write(struct store *store, int64_t epoch_us, const struct store_draw_limits *limits,
                       const struct store_reward *rows, size_t count, store_draws_fn done, void *user);
/* Notes that a period in which there were machines is settled; skipped: those of an unknown model, which have no draw. Nobody
 * waits. */
void store_epoch_settled(struct store *store, int64_t epoch_us, int64_t pool_uusd, int64_t machines, int64_t skipped);
/* The draws of the newest settled period, largest first, at most 1,000; epoch_us 0 = there is none. */
void store_draws_list(struct store *store, store_epoch_fn done, void *user);

#endif
