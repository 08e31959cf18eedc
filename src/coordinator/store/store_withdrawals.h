/* Money that goes out through Stripe Connect (billing 10). A withdrawal is debited and written in one transaction; from then on
 * its row says where the money is, and it is given back once, when it certainly did not go out. */
#ifndef COORDINATOR_STORE_WITHDRAWALS_H
#define COORDINATOR_STORE_WITHDRAWALS_H

#include "coordinator/store/store.h"

struct store_connect {
	char account_id[STORE_ID_SIZE], stripe_account[128];
	char status[16], country[8], destination_type[16], destination_last4[8];
	char payee[64]; /* who else has it is paid at the same place; empty = not known */
	bool instant_eligible;
};
typedef void (*store_connect_fn)(const struct store_connect *connect, const struct error *error, void *user);
/* By the account, or by Stripe's id when account_id is empty; NULL when there is none. */
void store_connect_get(struct store *store, struct str account_id, struct str stripe_account, store_connect_fn done,
                       void *user);
/* Made or replaced. */
void store_connect_set(struct store *store, const struct store_connect *connect, store_done_fn done, void *user);

enum store_withdrawal_state {
	STORE_WITHDRAWAL_PENDING,     /* debited; Stripe is to transfer it to the connected account */
	STORE_WITHDRAWAL_TRANSFERRED, /* it is there; Stripe is to pay it out to the bank */
	STORE_WITHDRAWAL_SUBMITTED,   /* on its way */
	STORE_WITHDRAWAL_PAID,
	STORE_WITHDRAWAL_REVERSING, /* the bank did not take it; Stripe is to bring it back */
	STORE_WITHDRAWAL_FAILED,    /* given back */
};
const char *store_withdrawal_state_name(enum store_withdrawal_state state);

struct store_withdrawal {
	char id[STORE_ID_SIZE], account_id[STORE_ID_SIZE], stripe_account[128];
	int64_t amount_uusd, fee_uusd, net_uusd;
	char method[16]; /* "standard", "instant" */
	enum store_withdrawal_state state;
	char transfer_id[128], payout_id[128], failure_reason[64];
	bool refunded;
	int64_t attempts, created_us, updated_us;
};
struct store_withdrawal_limits {
	int64_t daily_uusd;  /* of one account within 24 hours; failed withdrawals do not count */
	int64_t cooldown_us; /* from one withdrawal of an account to its next; the same */
};
/* DB_E_FUNDS when less may be withdrawn; DB_E_LIMIT beyond daily_uusd; DB_E_DENIED within the cool-down; DB_E_NOT_FOUND. The
 * worker is to leave it alone until first_look_us. */
void store_withdrawal_create(struct store *store, const struct store_withdrawal *withdrawal,
                             const struct store_withdrawal_limits *limits, int64_t first_look_us, store_done_fn done,
                             void *user);

/* A step along the states. It does nothing when the row is where the step does not lead from: whoever comes second finds it so.
 */
struct store_withdrawal_step {
	char id[STORE_ID_SIZE];
	enum store_withdrawal_state to;
	char transfer_id[128], payout_id[128], reason[64]; /* empty: as they are */
	bool reversed;                                     /* with FAILED: the transfer certainly came back, wherever the row is */
};
/* withdrawal: as it is now; refunded_uusd: what went back to the account by this step. */
typedef void (*store_withdrawal_fn)(const struct store_withdrawal *withdrawal, int64_t refunded_uusd, const struct error *error,
                                    void *user);
void store_withdrawal_step(struct store *store, const struct store_withdrawal_step *step, store_withdrawal_fn done, void *user);
/* Nothing is known of the last attempt: again at `at_us`. */
void store_withdrawal_postpone(struct store *store, struct str id, int64_t at_us);
/* By its id, else by its payout, else by its transfer; NULL when there is none. */
void store_withdrawal_find(struct store *store, struct str id, struct str payout_id, struct str transfer_id,
                           store_withdrawal_fn done, void *user);

typedef void (*store_withdrawals_fn)(const struct store_withdrawal *rows, size_t count, const struct error *error, void *user);
#define STORE_WITHDRAWALS_MAX 200
/* Newest first. */
void store_withdrawals_list(struct store *store, struct str account_id, uint32_t limit, store_withdrawals_fn done, void *user);
/* Unfinished ones whose time has come. */
void store_withdrawals_due(struct store *store, int64_t now_us, store_withdrawals_fn done, void *user);

#endif
