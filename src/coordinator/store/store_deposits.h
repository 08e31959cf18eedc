/* Money that comes in through Stripe Checkout (billing 9). A deposit is written before Stripe is asked, credited once whichever
 * way and how often Stripe tells of it, and taken back as far as Stripe gives money back. */
#ifndef COORDINATOR_STORE_DEPOSITS_H
#define COORDINATOR_STORE_DEPOSITS_H

#include "coordinator/store/store.h"

#define STORE_ACCOUNT_STRIPE "stripe" /* a source: its balance is minus what Stripe should hold for us */

struct store_deposit {
	char id[STORE_ID_SIZE], account_id[STORE_ID_SIZE];
	int64_t amount_uusd;
	char status[16]; /* "pending", "completed", "expired" */
	char external_id[128], payment_intent[128], referral_code[32];
	int64_t reversed_uusd, lost_uusd, created_us, completed_us;
};
typedef void (*store_deposit_fn)(const struct store_deposit *deposit, const struct error *error, void *user);
/* id, account_id, amount_uusd, referral_code. DB_E_NOT_FOUND without such an account. */
void store_deposit_create(struct store *store, const struct store_deposit *deposit, store_done_fn done, void *user);
void store_deposit_set_external(struct store *store, struct str id, struct str external_id, store_done_fn done, void *user);
/* By its id, else by its checkout session, else by its payment; NULL when there is none. */
struct store_deposit_name {
	char id[128], external_id[128], payment_intent[128];
};
void store_deposit_find(struct store *store, const struct store_deposit_name *name, store_deposit_fn done, void *user);

enum store_deposit_news {
	STORE_DEPOSIT_PAID,
	STORE_DEPOSIT_EXPIRED,
	STORE_DEPOSIT_REFUNDED,
	STORE_DEPOSIT_DISPUTED,
	STORE_DEPOSIT_REINSTATED
};
struct store_deposit_event {
	char event_id[128], type[64]; /* of Stripe's; each counts once */
	enum store_deposit_news news;
	char deposit_id[STORE_ID_SIZE];
	char external_id[128], payment_intent[128];
	int64_t amount_uusd; /* paid; refunded so far; disputed */
	int64_t created_s;   /* by Stripe's clock */
};
/* moved_uusd: what the account's balance changed by, which is 0 the second time. */
typedef void (*store_deposit_event_fn)(int64_t moved_uusd, const struct error *error, void *user);
/* One transaction: the event is noted, the deposit and the ledger follow. Events may come in any order and any number of times.
 */
void store_deposit_apply(struct store *store, const struct store_deposit_event *event, store_deposit_event_fn done, void *user);

#endif
