/* What ledger.c and leases.c share. Inside money/ only. */
#ifndef COORDINATOR_LEDGER_INTERNAL_H
#define COORDINATOR_LEDGER_INTERNAL_H

#include "coordinator/money/ledger.h"
#include "coordinator/store/store_leases.h"
#include "core/map.h"

struct ledger_account {
	char id[STORE_ID_SIZE];
	struct ledger *ledger;
	bool ready;
	bool is_service, has_machine;
	int fee_percent;
	char referrer[STORE_ID_SIZE]; /* empty = none */
	int64_t balance, withdrawable;
	int64_t held;
	int64_t leased;      /* what of the balance may be held here; shared stores only */
	struct list waiting; /* of struct load_wait, until it is ready */

	/* The store is asked for the amounts: its answer is of the moment of asking, and this changed since. */
	bool asking;
	int64_t since_balance, since_withdrawable, since_leased;

	struct list rooms;         /* of struct ledger_room, first come first served */
	bool look_again;           /* there were news while it was asking */
	uint64_t recalled;         /* the question in which another coordinator asks for what is not in use; 0 = none */
	struct ledger_room *asker; /* for whom the store is asked */
	struct list_link is_stale; /* linked = another coordinator changed its balance */
};

struct ledger {
	struct store *store;
	struct map accounts;
	struct map holds;
	struct map prices;
	struct map groups; /* id -> struct spend_group */
	struct ledger_hold *free_holds;
	struct price fallback;
	int fee_percent, referral_percent;

	bool shared;       /* leases count */
	uint64_t epoch;    /* of the leases in memory */
	struct list stale; /* of struct ledger_account */
	struct net_timer stale_timer;
};

/* --- ledger.c --- */
/* The answer of the store, or NULL and why there is none. May free the account. */
void ledger_take(struct ledger_account *account, const struct store_account *row, int64_t leased, const struct error *error);

/* --- leases.c --- */
void leases_begin(struct ledger *ledger);
void leases_end(struct ledger *ledger);
/* Asks the store for an account that is not in memory yet. */
void leases_load(struct ledger_account *account);
/* What may be promised at this instant. */
int64_t leases_promisable(struct ledger_account *account);
/* The spend limit of this group holds for all coordinators together: what it has on hold is in the store, too. */
bool leases_meter(const struct ledger *ledger, const struct spend_group *group);
/* A promise of so much more is refused: DB_E_AGAIN when a larger lease may help. */
enum db_err leases_refuse(struct ledger_account *account, int64_t amount);

#endif
