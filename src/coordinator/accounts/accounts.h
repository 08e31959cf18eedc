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

enum caller_kind {
	CALLER_NOBODY,
	CALLER_KEY,      /* an API key */
	CALLER_SESSION,  /* a person who is logged in */
	CALLER_ADMIN,    /* the operator's key: the account "admin", which has no money */
	CALLER_PROVIDER, /* a provider's link token */
};

/* What a credential may do. Sessions and the operator have all; an API key has inference unless it was given more. */
enum scope {
	SCOPE_NONE = 0,
	SCOPE_INFERENCE = 1 << 0, /* use models, see the balance and the usage */
	SCOPE_KEYS = 1 << 1,      /* see, make, change and delete API keys */
	SCOPE_ACCOUNT = 1 << 2,   /* see and change the account and its machines */
	SCOPE_PAYOUTS = 1 << 3,   /* move money out */
	SCOPE_ALL = (1 << 4) - 1,
};

/* Who calls: copied into the caller's struct. */
struct caller {
	enum caller_kind kind;
	unsigned scopes; /* of enum scope */
	bool is_admin;   /* may use the routes of the operator */
	struct ledger_account *account;
	int fee_percent; /* of the account, or the default */
	/* of CALLER_KEY; else empty */
	char key_id[STORE_ID_SIZE];
	struct spend_group *group;  /* its limit and what it spent; lives as long as the ledger */
	int64_t rpm, itpm, otpm;    /* rate limits of its own, 0 = none */
	const char *allowed_models; /* one in each line, NULL = all; borrowed until `done` returns, auth.h makes it the request's */
	bool self_route_only;
};
bool accounts_allows_model(const struct caller *caller, struct str model);

/* What a request shows of who it comes from; borrowed. */
struct credential {
	struct str token;    /* "sk-db-..." without "Bearer " */
	bool from_cookie;    /* a browser sends it by itself: what changes things needs the proof that our page asked for it */
	bool is_operator;    /* came over the operator's socket: no token is needed */
	bool changes_things; /* the method is not GET, HEAD or OPTIONS */
	struct str csrf;     /* X-CSRF-Token */
	bool is_cross_site;  /* a page of another site sent it */
};

/* A look-up in flight, embedded in the request that waits for it. */
struct accounts_wait {
	struct list_link link;
	void *lookup;
	void (*cancel)(struct accounts_wait *wait); /* of whoever answers later; NULL = nothing is in flight */
	struct caller caller;                       /* valid when done was called with DB_OK */
	/* DB_OK, DB_E_DENIED (unknown, disabled, expired), DB_E_INVALID (a cookie without its proof), DB_E_IO (database). */
	void (*done)(struct accounts_wait *wait, enum db_err result);
};
/* Goes by the form of the token: the operator's key, a session, a provider's link token, otherwise an API key. Returns
 * DB_E_AGAIN when `done` will be called later; otherwise the result, with wait->caller filled when DB_OK, and done is not
 * called. About 0.2 us when cached: SHA-256 then a map look-up. */
enum db_err accounts_resolve(struct accounts *accounts, struct credential credential, struct accounts_wait *wait);
void accounts_cancel(struct accounts_wait *wait); /* harmless when nothing is in flight */

/* Who answers for sessions: tokens that begin with "eyJ" or came in the cookie. Same rules as accounts_resolve; it fills
 * wait->caller (accounts_caller helps) and, when it answers later, wait->cancel. Without one nobody is logged in. */
typedef enum db_err (*accounts_session_fn)(void *user, struct credential credential, struct accounts_wait *wait);
void accounts_set_sessions(struct accounts *accounts, accounts_session_fn resolve, void *user);
/* A caller of this kind with all scopes, or with inference when it is a provider's token. */
struct caller accounts_caller(enum caller_kind kind, struct ledger_account *account);

/* The operator's key (http-api 1.5); empty = none. Its hash is kept. */
void accounts_set_admin_key(struct accounts *accounts, struct str key);
/* Constant time; false while there is none. */
bool accounts_is_admin_key(const struct accounts *accounts, struct str token);

#define ACCOUNTS_PROVIDER_PREFIX "eigeninference-pt-"
/* Account of a provider's link token (protocol-and-trust 12). Same rules. caller.account NULL never comes with DB_OK. */
enum db_err accounts_resolve_provider(struct accounts *accounts, struct str token, struct accounts_wait *wait);

#define ACCOUNTS_KEY_SIZE 71 /* "sk-db-" + 64 hex + NUL */
/* First start: when the database has no owner, makes the account, grants it `grant_uusd`, makes a key, and gives the key once
 * to done (borrowed, wiped afterwards); NULL when there was an owner already. */
void accounts_first_start(struct accounts *accounts, int64_t grant_uusd,
                          void (*done)(const char *new_key_or_null, const struct error *error, void *user), void *user);
typedef void (*accounts_key_fn)(const char *key_or_null, const struct store_key *row, const struct error *error, void *user);
/* Another key with these terms; id, hash, label, group and time of `terms` are made here. The key's text is given once, wiped
 * afterwards. */
void accounts_key_create(struct accounts *accounts, const struct store_key *terms, accounts_key_fn done, void *user);
/* A new text and id for a key, its terms and what it spent stay. `key` is how it stands in the store. */
void accounts_key_rotate(struct accounts *accounts, const struct store_key *key, accounts_key_fn done, void *user);
/* These three hold from the moment of the call, for look-ups in flight too: no request passes with what was. */
void accounts_key_disable(struct accounts *accounts, struct str key_id, store_done_fn done, void *user);
void accounts_key_delete(struct accounts *accounts, struct str key_id, store_done_fn done, void *user);
/* `key` with the changed fields in it; fields of enum store_key_field. */
void accounts_key_update(struct accounts *accounts, const struct store_key *key, unsigned fields, store_done_fn done,
                         void *user);
/* Hands the store when keys were used last, which is otherwise done every few seconds. */
void accounts_flush_uses(struct accounts *accounts);

#endif
