/* Several coordinators on one PostgreSQL: how much of an account's money each may promise without asking, and what they tell
 * each other. All leases of an account together are at most its balance, so that its holds are, wherever they were made
 * (docs/developer/decisions/0050-leases-on-balances.md). A SQLite file has one coordinator, which may promise all there is. */
#ifndef COORDINATOR_STORE_LEASES_H
#define COORDINATOR_STORE_LEASES_H

#include "coordinator/store/store.h"

/* Leases count: the store is one that coordinators share. */
bool store_is_shared(const struct store *store);
/* A number that changes when this coordinator was taken for lost: then its leases are gone. Any thread. */
uint64_t store_epoch(const struct store *store);
struct net_loop *store_loop(const struct store *store);

struct store_lease_ask {
	int64_t give_uusd; /* of what is leased here, back to everybody */
	int64_t need_uusd; /* beyond what is leased here then */
	bool take;         /* need, and a part of what nobody has leased; otherwise the lease does not grow */
	bool recall;       /* when that is less than needed the others are told to give back what they do not use */
	uint64_t question; /* with recall: the number of the question that is repeated; 0 = a new one */
	uint64_t answers;  /* the question that this answers, by STORE_NEWS_WANTED: there is no more to give; 0 = none */
};

struct store_lease {
	struct store_account account;
	int64_t leased_uusd;
	bool is_enough; /* need was met */
	bool is_poor;   /* what is missing is not there at all */
	bool is_final;  /* that, or it is in use, as everybody who was asked has answered this question */
	uint64_t question;
	uint64_t epoch; /* when it was granted */
};
/* lease NULL: no such account, or the error says why. In the order of the writes, as store_account_get. done may be NULL. */
typedef void (*store_lease_fn)(const struct store_lease *lease, const struct error *error, void *user);
void store_lease(struct store *store, struct str account_id, const struct store_lease_ask *ask, store_lease_fn done,
                 void *user);

/* What keys with a spend limit have on hold here is known to all: the limit holds for all coordinators together. */
struct store_key_hold {
	char limit_group[STORE_ID_SIZE];
	int64_t amount_uusd, limit_uusd;
	int64_t since_day; /* spend counts from it on; 0 = ever */
};
/* granted: the amount is on hold, as the limit leaves it beside what was spent and what all have on hold. */
typedef void (*store_key_hold_fn)(bool granted, uint64_t epoch, const struct error *error, void *user);
void store_key_hold(struct store *store, const struct store_key_hold *hold, store_key_hold_fn done, void *user);
/* Some of it is not, any more; asked for behind the settlement that spends it. epoch: when it was granted. */
void store_key_free(struct store *store, struct str limit_group, int64_t amount_uusd, uint64_t epoch);

enum store_news {
	STORE_NEWS_BALANCE, /* another coordinator changed it */
	STORE_NEWS_GIVEN,   /* another coordinator gave some of its lease back */
	STORE_NEWS_WANTED,  /* another coordinator asks for what is not in use */
	STORE_NEWS_SHARES,  /* somebody, maybe this coordinator, set its share of queues (store_shares.h) or took it away */
	STORE_NEWS_MISSED,  /* of any account: the connection was lost for a while, or the epoch changed; account_id is empty */
};
/* question: its number, of STORE_NEWS_WANTED. */
typedef void (*store_news_fn)(enum store_news news, struct str account_id, uint64_t question, void *user);
/* Who is told, on the loop thread: of everything, STORE_LISTENERS at most. Never called for a store that is not shared. */
#define STORE_LISTENERS 4
void store_on_news(struct store *store, store_news_fn tell, void *user);

#endif
