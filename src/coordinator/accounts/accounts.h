/* Who is calling: bearer tokens to API keys and accounts, with a cache that a change reaches at once (http-api 1.5).
 * Thread: the loop's. */
#ifndef COORDINATOR_ACCOUNTS_H
#define COORDINATOR_ACCOUNTS_H

#include "coordinator/money/ledger.h"
#include "coordinator/store/store.h"

struct accounts;

struct accounts *accounts_new(struct store *store, struct ledger *ledger);
void accounts_free(struct accounts *accounts); /* after store_close */
/* How many tokens are remembered and for how long; the defaults are 100,000 and 60 s (http-api 1.5). Forgets what is cached. */
void accounts_set_cache(struct accounts *accounts, size_t entries, uint32_t keep_ms);

/* Who calls: copied into the caller's struct. */
struct caller {
	struct ledger_account *account;
	char key_id[STORE_ID_SIZE]; /* empty for provider tokens */
	int fee_percent;            /* of the account, or the default */
};

/* A look-up in flight, embedded in the request that waits for it. */
struct accounts_wait {
	struct list_link link;
	void *lookup;
	struct caller caller; /* valid when done was called with DB_OK */
	/* DB_OK, DB_E_DENIED (unknown, disabled, expired), DB_E_IO (database). */
	void (*done)(struct accounts_wait *wait, enum db_err result);
};
/* Starts at the raw token ("sk-db-..." without "Bearer "). Returns DB_E_AGAIN when `done` will be called later; otherwise the
 * result, with wait->caller filled when DB_OK, and done is not called. About 0.2 us when cached: SHA-256 then a map look-up. */
enum db_err accounts_resolve(struct accounts *accounts, struct str token, struct accounts_wait *wait);
void accounts_cancel(struct accounts_wait *wait); /* harmless when nothing is in flight */

/* Account of a provider's link token (protocol-and-trust 12). Same rules. caller.account NULL never comes with DB_OK. */
enum db_err accounts_resolve_provider(struct accounts *accounts, struct str token, struct accounts_wait *wait);

#define ACCOUNTS_KEY_SIZE 71 /* "sk-db-" + 64 hex + NUL */
/* First start: when the database has no owner, makes the account, grants it `grant_uusd`, makes a key, and gives the key once
 * to done (borrowed, wiped afterwards); NULL when there was an owner already. */
void accounts_first_start(struct accounts *accounts, int64_t grant_uusd,
                          void (*done)(const char *new_key_or_null, const struct error *error, void *user), void *user);
/* Another key for an account (the CLI's `keys create`). Raw key given once, wiped afterwards. */
void accounts_key_create(struct accounts *accounts, struct str account_id, struct str name,
                         void (*done)(const char *key_or_null, const struct error *error, void *user), void *user);
/* From the moment of the call no request passes with this key. */
void accounts_key_disable(struct accounts *accounts, struct str key_id, store_done_fn done, void *user);

#endif
