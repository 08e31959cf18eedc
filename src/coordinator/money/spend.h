/* What a group of API keys has spent in each window of the UTC calendar, and its limit (billing 3.1).
 *
 * Settled spend starts anew at midnight, on Mondays or on the first of the month; what is on hold counts in whatever window it
 * is now. Thread: the loop's. */
#ifndef COORDINATOR_SPEND_H
#define COORDINATOR_SPEND_H

#include "coordinator/store/store.h"

/* Moves the windows on to `day` (days since 1970 UTC). A clock that goes back moves nothing. */
void spend_roll(struct store_spend *spend, int64_t day);
/* What was spent in the window that spend->day lies in. */
int64_t spend_in(const struct store_spend *spend, enum store_window window);
void spend_add(struct store_spend *spend, int64_t day, int64_t amount_uusd);

/* The account of one group of keys: a key and those it is rotated into. */
struct spend_group {
	char id[STORE_ID_SIZE];
	bool limited;
	int64_t limit_uusd;
	enum store_window window;
	struct store_spend spent; /* settled */
	int64_t held;             /* by open requests */
	int64_t spare;            /* shared stores only: the store has it on hold, and no request has taken it yet */
};

/* The first day of the window that `day` lies in; 0 for STORE_WINDOW_NEVER. */
int64_t spend_since(enum store_window window, int64_t day);

/* What may still be put on hold: INT64_MAX without a limit. */
int64_t spend_room(struct spend_group *group, int64_t day);

#endif
