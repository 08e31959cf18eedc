/* Money on the loop thread: balances in memory, journalled through the store.
 *
 * A hold is taken in memory at once and never waits for the disk; what must be durable is the settlement (design 4). Available
 * = settled balance - open holds, never negative. Each hold ends exactly once, in a settlement or a release: whoever comes
 * second finds it ended (billing 4.3). Thread: the loop's. */
#ifndef COORDINATOR_LEDGER_H
#define COORDINATOR_LEDGER_H

#include "coordinator/money/pricing.h"
#include "coordinator/money/spend.h"
#include "coordinator/store/store.h"
#include "core/list.h"

struct ledger;
struct ledger_account; /* cached balance of one account; lives as long as the ledger */
struct ledger_hold;

#define LEDGER_FEE_PERCENT_DEFAULT 0 /* billing 2.3 */

struct ledger *ledger_new(struct store *store);
/* After store_close, before the loop is freed. Open holds are forgotten: the next start releases them. */
void ledger_free(struct ledger *ledger);

/* What holds where neither price rows nor accounts say otherwise; until it is called PRICE_FALLBACK_INPUT,
 * PRICE_FALLBACK_OUTPUT and LEDGER_FEE_PERCENT_DEFAULT. Start-up only. */
void ledger_set_defaults(struct ledger *ledger, struct price price, int fee_percent);

/* The part of the platform's fee, in percent, that goes to whoever referred the consumer (billing 8.1); until it is called
 * PRICE_REFERRAL_PERCENT. 0 = none. Start-up only. */
void ledger_set_referral_share(struct ledger *ledger, int percent);
int ledger_referral_share(const struct ledger *ledger);

/* Brings an account into memory: done is called at once when it is there, otherwise after one read of the store. account NULL:
 * unknown, or the error says why. From the moment of the first call its balance follows every movement, so that it is exact
 * when done is called. */
typedef void (*ledger_account_fn)(struct ledger_account *account, const struct error *error, void *user);
void ledger_account_load(struct ledger *ledger, struct str account_id, ledger_account_fn done, void *user);
struct ledger_account *ledger_account_find(struct ledger *ledger, struct str account_id); /* NULL when not in memory */
const char *ledger_account_id(const struct ledger_account *account);
bool ledger_account_is_service(const struct ledger_account *account);
bool ledger_account_has_machine(const struct ledger_account *account); /* a provider was linked to it, some time */
void ledger_account_note_machine(struct ledger_account *account);
int ledger_account_fee_percent(const struct ledger_account *account); /* its own, or the default */
/* The store has new terms of an account: they hold from its next request on. */
void ledger_account_terms(struct ledger *ledger, const struct store_account *terms);
/* The store has noted who referred the account: shares are paid from its next settlement on. */
void ledger_account_refer(struct ledger *ledger, struct str account_id, struct str referrer_id);
int64_t ledger_available(const struct ledger_account *account);
int64_t ledger_balance(const struct ledger_account *account); /* with money on hold counted in */
int64_t ledger_withdrawable(const struct ledger_account *account);

/* Coordinators that share a database each promise what they have leased of an account's balance; to get more takes a moment
 * (docs/developer/decisions/0050-leases-on-balances.md). Who is refused with DB_E_AGAIN asks for room and then tries again. */
struct ledger_room {
	struct ledger_account *account; /* NULL: nobody waits */
	struct spend_group *group;      /* whose limit must leave it, too; NULL = none */
	int64_t amount_uusd;
	unsigned looks;
	bool asked;
	uint64_t question;                  /* of the store, 0 = none yet */
	struct ledger_limit_ask *limit_ask; /* there is money, and the spend limit is asked for */
	struct list_link link;
	struct net_timer timer;
	/* DB_OK: it is there, and gone again when it is not taken before this returns. DB_E_LIMIT: the spend limit leaves less.
	 * DB_E_FUNDS: the account has less, or it is in use. DB_E_AGAIN: another coordinator that has it does not answer. DB_E_IO.
	 */
	void (*done)(struct ledger_room *room, enum db_err err);
};
/* Loop thread. room and its done are the caller's, and stay until done is called or it is cancelled. group: whose limit must
 * leave as much; NULL = none. */
void ledger_room_ask(struct ledger_account *account, struct spend_group *group, int64_t amount_uusd, struct ledger_room *room);
void ledger_room_cancel(struct ledger_room *room); /* harmless when nobody waits */
/* The same for an account that need not be in memory: done is called at once where nothing is shared, and in any case. */
typedef void (*ledger_gather_fn)(enum db_err err, void *user);
void ledger_gather(struct ledger *ledger, struct str account_id, int64_t amount_uusd, ledger_gather_fn done, void *user);

/* Moves money outside of requests (grant, deposit): the store, then memory when it is durable. DB_E_FUNDS at once, and done is
 * not called, when the giver is in memory and has less available. done may be NULL. */
enum db_err ledger_transfer(struct ledger *ledger, const struct store_transfer *transfer, store_transfer_fn done, void *user);

/* A movement that another operation of the store makes in a transaction of its own: begun at the moment it is asked for, ended
 * when it is answered, so that the balance in memory follows it exactly once. */
struct ledger_move {
	struct ledger_account *account; /* NULL: not in memory; a later load sees the movement */
	int64_t held;
};
/* debit: what the account is to lose, out of reach of requests until the end; 0 = it gets something, or nobody knows yet.
 * DB_E_FUNDS when it is in memory and has less available, DB_E_AGAIN as for holds: then the operation must not be asked for. */
enum db_err ledger_move_begin(struct ledger *ledger, struct str account_id, int64_t debit, struct ledger_move *move);
/* moved: what the balance changed by; 0 = nothing happened. */
void ledger_move_end(struct ledger_move *move, int64_t moved, bool withdrawable);

/* Prices, cached from the store at start: provider's own (linked accounts, non-service consumers), platform's, fallback. */
void ledger_prices_load(struct ledger *ledger, store_done_fn done, void *user);
struct price ledger_fallback_price(const struct ledger *ledger);
struct price ledger_price(const struct ledger *ledger, struct str provider_account_or_empty, struct str model, bool service);

/* The spend of a group of keys, in memory from its first mention and as long as the ledger. `read` is what the store said: its
 * sums count at the first mention only (from then on memory is exact), its limit each time. NULL without memory. */
struct spend_group *ledger_spend_group(struct ledger *ledger, const struct store_key *read);
struct spend_group *ledger_spend_find(struct ledger *ledger, struct str group_id); /* NULL when not in memory */

struct ledger_hold_options {
	struct str request_id;
	struct str key_id;
	struct spend_group *group; /* whose limit holds; NULL = none */
	int64_t amount_uusd;
	struct price price;
};
/* DB_E_FUNDS when available < amount; DB_E_AGAIN when another coordinator may have promised it (ledger_room_ask); DB_E_LIMIT
 * when the keys' spend limit has less left (DB_E_AGAIN where other coordinators must be counted first); DB_E_IO when the store
 * is not healthy; DB_E_EXISTS when the id is held. */
enum db_err ledger_hold(struct ledger *ledger, struct ledger_account *account, const struct ledger_hold_options *options,
                        struct ledger_hold **hold);
int64_t ledger_hold_amount(const struct ledger_hold *hold);
/* A stream outgrew its hold, or a dearer provider was chosen: raise to `total_uusd`. DB_E_FUNDS and DB_E_LIMIT leave it as it
 * was. */
enum db_err ledger_hold_raise(struct ledger_hold *hold, int64_t total_uusd);

struct ledger_usage {
	struct str provider_account, provider_id, provider_key; /* account may be empty */
	struct str model, public_model;
	struct price price; /* of the provider that served */
	uint64_t prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens;
	/* What the provider signed, for the receipt; empty when it did not. */
	struct str job_id, response_hash, se_signature, se_public_key;
	uint64_t reported_tokens; /* the completion tokens that its signature covers */
	/* Of a blind request, where response_hash is its transcript's: the rest of what the provider signed. */
	struct str consumer_key;
	uint64_t reported_prompt_tokens, reported_reasoning_tokens;
	int fee_percent;
	const char *outcome;
};
/* Charges min(cost, 2 x hold, hold + what is available, hold + what the spend limit leaves) (billing 4.4), frees the hold,
 * returns what was charged. */
int64_t ledger_settle(struct ledger_hold *hold, const struct ledger_usage *usage);
/* No charge. reason: static text of billing 4.5 ("provider_error", "client_gone", ...). Frees the hold. */
void ledger_release(struct ledger_hold *hold, const char *reason);
size_t ledger_open_holds(const struct ledger *ledger);

#endif
