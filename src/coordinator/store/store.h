/* The coordinator's durable memory. Transactions are named by what they mean; no SQL leaves this room.
 *
 * Threads: functions are called on the loop thread, return at once, and answer by a callback on the loop thread. One writer
 * thread owns the database and commits many transactions at once (group commit, one fsync for all of them); one reader thread
 * answers queries, each after every write that was asked for before it: you read what you wrote. Every money operation is
 * idempotent by its key and atomic; a crash at any instant leaves open holds, which the next start resolves.
 * Amounts are integer micro-dollars (billing 1). */
#ifndef COORDINATOR_STORE_H
#define COORDINATOR_STORE_H

#include "core/error.h"
#include "core/str.h"
#include "net/loop.h"

#define STORE_ID_SIZE          80 /* account ids, key ids, request ids, with NUL */
#define STORE_MODEL_SIZE       160
#define STORE_KEY_MODELS_SIZE  2048
#define STORE_ACCOUNT_PLATFORM "platform" /* receives fees; has no user row */
#define STORE_ACCOUNT_GRANTS   "grants"   /* where credit given by the operator comes from; its balance is negative */

#define STORE_ACCOUNT_ADMIN "admin" /* whom the operator's key stands for; has no user row and no money */

struct store;

struct store_options {
	const char *path;         /* SQLite file, made when missing, mode 0600; or a postgres:// address */
	uint32_t group_commit_us; /* how long the writer gathers before it commits; 0 = commit as soon as it is free */
	/* PostgreSQL, which several coordinators may share: */
	const char *instance;  /* this one's name, the same after a restart, which then releases its own holds; NULL = none */
	int64_t lost_after_us; /* when others do not see it for so long they release its holds; 0 = 30 seconds */
	uint32_t readers;      /* connections that answer queries; 0 = 4 */
	bool migrate;          /* an older schema is brought forward; otherwise it is refused, unless the database is empty */
};
/* Opens, checks the version of the schema (DB_E_UNSUPPORTED), settles what a crash left: every hold this coordinator left open
 * is released with the reason "restart". A file has one coordinator at a time (a lock beside it), a PostgreSQL database any
 * number. Blocks: start-up only. */
struct store *store_open(const struct store_options *options, struct net_loop *loop, struct error *error);
/* Brings the schema to this program's version, or makes it; no coordinator may run on a SQLite file meanwhile. from, to: the
 * versions before and after. Blocks. */
enum db_err store_migrate(const char *place, int *from, int *to, struct error *error);
/* Writes everything that was asked for, then closes. Blocks. Callbacks still owed are called from inside: close the store
 * before the rooms that wait for it are freed, and ask nothing of it in them. */
void store_close(struct store *store);

/* The callbacks' pointers are borrowed until they return; error is NULL when all went well. */
typedef void (*store_done_fn)(const struct error *error, void *user);

/* done when everything asked for so far is durable. */
void store_flush(struct store *store, store_done_fn done, void *user);

struct store_stats {
	uint64_t commits;    /* groups that are durable */
	uint64_t operations; /* in those groups */
	uint64_t queued;     /* asked for and not durable yet */
	uint64_t commit_us_max;
};
void store_stats(const struct store *store, struct store_stats *out);
/* False when the database failed (disk full, damaged: for good, until a restart), cannot be reached just now, or is far behind:
 * money requests must be refused. error gets the sentence. */
bool store_healthy(const struct store *store, struct error *error);

/* --- accounts and keys --- */

enum store_role { STORE_ROLE_NORMAL, STORE_ROLE_SERVICE };

struct store_account {
	char id[STORE_ID_SIZE];
	char name[128];
	enum store_role role;
	int fee_percent;                         /* -1 = the default */
	int64_t balance_uusd, withdrawable_uusd; /* settled; open holds are not subtracted */
	bool has_machine;                        /* one was linked to it, some time; told by store_account_get alone */
	char referrer[STORE_ID_SIZE];            /* the account that referred it (billing 8.1), or empty; read only */
};

/* Calendar windows (UTC) that a spend limit begins anew with (billing 3.1). */
enum store_window { STORE_WINDOW_NEVER, STORE_WINDOW_DAY, STORE_WINDOW_WEEK, STORE_WINDOW_MONTH };

/* Settled spend, micro-dollars, in the windows that `day` lies in. */
struct store_spend {
	int64_t day; /* since 1970 UTC */
	int64_t today, week, month, total;
};

struct store_key {
	char id[STORE_ID_SIZE]; /* "key_" + 24 hex */
	char account_id[STORE_ID_SIZE];
	char label[32]; /* "sk-db-1a2b...c3d4" */
	char name[128];
	char hash_hex[65]; /* SHA-256 of the whole key */
	bool disabled;
	int64_t expires_us; /* wall time, 0 = never */
	int64_t created_us;
	int64_t last_used_us;            /* 0 = never */
	char limit_group[STORE_ID_SIZE]; /* what is spent is counted for this; stays over rotations. Empty when made = its id */
	unsigned scopes;                 /* bits; 1 = inference */
	bool limited;                    /* limit_uusd holds */
	int64_t limit_uusd;              /* of each window; 0 = no paid use at all */
	enum store_window limit_reset;
	int64_t rpm, itpm, otpm;                    /* 0 = none but the account's */
	char allowed_models[STORE_KEY_MODELS_SIZE]; /* one in each line; empty = all */
	bool self_route_only;
	struct store_spend spend; /* of its group, when it was read */
};

/* Which fields an update changes. */
enum store_key_field {
	STORE_KEY_NAME = 1 << 0,
	STORE_KEY_DISABLED = 1 << 1,
	STORE_KEY_LIMIT = 1 << 2, /* limited and limit_uusd */
	STORE_KEY_RESET = 1 << 3,
	STORE_KEY_RPM = 1 << 4,
	STORE_KEY_ITPM = 1 << 5,
	STORE_KEY_OTPM = 1 << 6,
	STORE_KEY_MODELS = 1 << 7,
	STORE_KEY_SELF_ROUTE = 1 << 8,
	STORE_KEY_EXPIRES = 1 << 9,
	STORE_KEY_SCOPES = 1 << 10,
};

/* account, key: NULL = not found, or the error says why. */
typedef void (*store_account_fn)(const struct store_account *account, const struct error *error, void *user);
typedef void (*store_key_fn)(const struct store_key *key, const struct store_account *account, const struct error *error,
                             void *user);

/* DB_E_EXISTS when the id is taken. The balance of a new account is 0, whatever the struct says. */
void store_account_create(struct store *store, const struct store_account *account, store_done_fn done, void *user);
/* Answered in the order of the writes: the balance is the sum of exactly those that were asked for before. */
void store_account_get(struct store *store, struct str account_id, store_account_fn done, void *user);
/* First start, all or nothing: the owner's account, its key and a grant (0 = none). DB_E_EXISTS when there is an owner. */
void store_owner_create(struct store *store, const struct store_account *owner, const struct store_key *key, int64_t grant_uusd,
                        store_done_fn done, void *user);
void store_owner_get(struct store *store, store_account_fn done, void *user); /* NULL when there is none yet */
/* DB_E_LIMIT when the account has as many as it may: whoever makes keys without end gains nothing by them, and fills the books.
 */
#define STORE_KEYS_OF_ACCOUNT 1000
void store_key_create(struct store *store, const struct store_key *key, store_done_fn done, void *user);
/* These four: DB_E_NOT_FOUND when there is no such key. */
void store_key_disable(struct store *store, struct str key_id, store_done_fn done, void *user);
void store_key_update(struct store *store, const struct store_key *key, unsigned fields, store_done_fn done, void *user);
/* A new secret and id in place of the old ones, nothing else changes. Of `fresh`: id, hash_hex, label, created_us. */
void store_key_rotate(struct store *store, struct str key_id, const struct store_key *fresh, store_done_fn done, void *user);
void store_key_delete(struct store *store, struct str key_id, store_done_fn done, void *user); /* what it spent stays */
void store_key_find(struct store *store, struct str hash_hex, store_key_fn done, void *user);
void store_key_get(struct store *store, struct str key_id, store_key_fn done, void *user);
typedef void (*store_keys_fn)(const struct store_key *keys, size_t count, const struct error *error, void *user);
void store_keys_list(struct store *store, struct str account_id, store_keys_fn done, void *user); /* newest first */
struct store_key_use {
	char key_id[STORE_ID_SIZE];
	int64_t at_us;
};
/* When keys were used last; unknown ones are passed over. Nobody waits. */
void store_keys_touch(struct store *store, const struct store_key_use *uses, size_t count);
/* Provider tokens (protocol-and-trust 12): token hash -> account. */
void store_provider_token_create(struct store *store, struct str hash_hex, struct str account_id, struct str label,
                                 store_done_fn done, void *user);
void store_provider_token_find(struct store *store, struct str hash_hex, store_account_fn done, void *user);

/* --- money --- */

/* Double entry: moves amount from one account to another, once for each key. Used for grants, deposits, payouts.
 * DB_E_NOT_FOUND for an unknown account, DB_E_FUNDS when `from` has less and is no source of money. */
struct store_transfer {
	char key[STORE_ID_SIZE]; /* idempotency key */
	char type[32];           /* ledger entry type (billing 5), e.g. "admin_credit" */
	char from[STORE_ID_SIZE], to[STORE_ID_SIZE];
	int64_t amount_uusd; /* > 0 */
	bool withdrawable;   /* it leaves and arrives as money that may be withdrawn */
	char reference[128];
};
/* applied: false when the key was used before: nothing changed. */
typedef void (*store_transfer_fn)(bool applied, const struct error *error, void *user);
void store_transfer(struct store *store, const struct store_transfer *transfer, store_transfer_fn done, void *user);

struct store_hold {
	char request_id[STORE_ID_SIZE]; /* of the client request, not of an attempt */
	char account_id[STORE_ID_SIZE];
	char key_id[STORE_ID_SIZE];
	int64_t amount_uusd;
	int64_t price_in, price_out; /* captured: the price that was promised */
	int64_t created_us;
};
/* Journalled with the next group; a hold that is settled before its group commits is never written as open. */
void store_hold_create(struct store *store, const struct store_hold *hold);
void store_hold_raise(struct store *store, struct str request_id, int64_t amount_uusd);
/* Ends it without a charge. reason as in billing 4.5. */
void store_hold_release(struct store *store, struct str request_id, const char *reason);

struct store_settlement {
	char request_id[STORE_ID_SIZE]; /* settles the hold of this id; again with the same id changes nothing */
	char account_id[STORE_ID_SIZE], key_id[STORE_ID_SIZE];
	char key_group[STORE_ID_SIZE];        /* whose spend it counts for; empty = key_id */
	char provider_account[STORE_ID_SIZE]; /* empty = unlinked: the payout goes to the platform as "platform_retained" */
	char provider_id[STORE_ID_SIZE], provider_key[64];
	char model[STORE_MODEL_SIZE], public_model[STORE_MODEL_SIZE]; /* build id, and the name the client used */
	uint64_t prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens;
	int64_t price_in, price_out, price_cached; /* price_cached 0: cached tokens cost what others do */
	bool service;                              /* priced without the minimum charge (billing 2.2) */
	/* What the provider signed, for the receipt (wire/receipt.h); empty when it did not. */
	char job_id[STORE_ID_SIZE]; /* of the attempt, on the wire */
	uint64_t reported_tokens;   /* completion tokens that its signature covers */
	char response_hash[65];
	char se_signature[104], se_public_key[92]; /* base64 */
	char consumer_key[48];                     /* of a blind request: base64; response_hash is then of its transcript */
	uint64_t reported_prompt_tokens, reported_reasoning_tokens; /* of a blind request */
	int64_t cost_uusd, fee_uusd;                                /* payout = cost - fee */
	char referrer[STORE_ID_SIZE]; /* gets referral_uusd of the fee, which is less than it (billing 8.1) */
	int64_t referral_uusd;        /* 0 = nothing; an unknown referrer leaves it to the platform */
	int64_t hold_uusd;            /* what was held, for the record */
	int64_t created_us;
	char outcome[32]; /* "success", "partial_success" */
};
/* One transaction: hold -> settled, ledger entries (consumer -, provider +, platform +; they sum to zero), balances, usage row,
 * earning row, totals. done (may be NULL) when durable. A hold that was released stays so: nothing changes. */
void store_settle(struct store *store, const struct store_settlement *settlement, store_done_fn done, void *user);

/* --- rate limits --- */

/* How full the token buckets of one owner (an account or a group of keys) were at at_us, wall time. */
struct store_levels {
	char owner[STORE_ID_SIZE + 8];
	int64_t at_us;
	double requests, input, output, financial;
	bool full; /* forget the row */
};
void store_levels_save(struct store *store, const struct store_levels *levels, size_t count, store_done_fn done, void *user);
typedef void (*store_levels_fn)(const struct store_levels *levels, size_t count, const struct error *error, void *user);
void store_levels_list(struct store *store, store_levels_fn done, void *user);

/* --- prices --- */

struct store_price {
	char account_id[STORE_ID_SIZE]; /* "platform" or a provider's account */
	char model[STORE_MODEL_SIZE];   /* build id */
	int64_t input, output;          /* micro-dollars per million tokens, > 0 */
	int64_t cached;                 /* of prompt tokens from the cache; 0 = as input */
};
void store_price_set(struct store *store, const struct store_price *price, store_done_fn done, void *user);
typedef void (*store_prices_fn)(const struct store_price *prices, size_t count, const struct error *error, void *user);
void store_prices_list(struct store *store, store_prices_fn done, void *user); /* all, once at start and after changes */

/* --- views --- */

struct store_usage_row {
	struct store_settlement s;
};
typedef void (*store_usage_fn)(const struct store_usage_row *rows, size_t count, const struct error *error, void *user);
/* Newest first. before_us 0 = from now. limit 1..1000. */
void store_usage_list(struct store *store, struct str account_id, int64_t before_us, uint32_t limit, store_usage_fn done,
                      void *user);

struct store_ledger_row {
	int64_t id;
	char account_id[STORE_ID_SIZE], type[32], reference[128];
	int64_t amount_uusd, balance_after_uusd, created_us;
};
typedef void (*store_ledger_fn)(const struct store_ledger_row *rows, size_t count, const struct error *error, void *user);
/* Entries whose reference is this request (all sides); for the demo and for audits. */
void store_ledger_of_request(struct store *store, struct str request_id, store_ledger_fn done, void *user);

/* The books, recomputed from the rows: used by `darkbloom-coordinator ledger verify` and by tests. */
struct store_audit {
	int64_t entries, accounts, open_holds;
	int64_t sum_uusd;                      /* of all ledger amounts: 0 */
	int64_t unbalanced;                    /* transactions whose entries do not sum to zero */
	int64_t broken_chains;                 /* entries whose balance_after does not follow from the one before */
	int64_t wrong_balances;                /* accounts whose balance differs from the sum or the last of their entries */
	int64_t negative_balances;             /* other than the sources of money; also withdrawable outside 0..balance */
	int64_t wrong_settlements;             /* settled requests whose usage, earning and ledger entries do not agree */
	int64_t wrong_spends;                  /* days on which keys spent something else than their usage rows say */
	int64_t usage_cost_uusd, charged_uusd; /* equal */
};
/* Opens read-only, beside a running coordinator too; blocks. DB_E_IO with a sentence for a damaged file. */
enum db_err store_audit(const char *path, struct store_audit *out, struct error *error);
bool store_audit_clean(const struct store_audit *audit); /* the books are right */

/* One request as the books hold it: its hold, and its settlement and entries when it was charged. */
struct store_record {
	char state[16], reason[64]; /* "open", "settled", "released" and why */
	int64_t hold_uusd, created_us;
	struct store_settlement settlement; /* request_id and account_id always; the rest when settled */
	struct store_ledger_row entries[4];
	size_t entry_count;
};
/* Of this request, or of the newest when request_id is empty. Opens read-only, beside a running coordinator too; blocks.
 * DB_E_NOT_FOUND when there is none. */
enum db_err store_show(const char *path, struct str request_id, struct store_record *out, struct error *error);

#endif
