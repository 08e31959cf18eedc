/* Base rewards: what a machine gets for being there, apart from demand (billing 8.3). Integers; every division rounds in this
 * one place. Pure; thread: any. */
#ifndef COORDINATOR_REWARDS_H
#define COORDINATOR_REWARDS_H

#include "core/str.h"

#define REWARD_PERIOD_US INT64_C(300000000) /* five minutes, aligned to UTC */
#define REWARD_SLACK_US  INT64_C(90000000)  /* a machine that was seen is taken to be there for so long */
#define REWARD_ID_SIZE   24

int64_t reward_period_of(int64_t at_us);                           /* the start of the period that contains it */
void reward_period_id(int64_t start_us, char out[REWARD_ID_SIZE]); /* "2026-03-01T00:05Z" */

/* Micro-dollars a month for so much memory: the largest tier that is not above it; 0 below the smallest. */
int64_t reward_tier(int64_t memory_gb);
/* The most memory ever sold under a hardware model id, in GB; 0 for an unknown one. `more` are the operator's own rows
 * ("MODEL=GB"), for hardware that is not in the table. */
int64_t reward_model_memory(struct str model, const char *const *more, size_t count);
bool reward_read_model(struct str row, struct str *model, int64_t *memory_gb);

/* What one machine could get in one period. */
struct reward_claim {
	/* in */
	const char *machine;    /* its key, for the order */
	const char *payee;      /* who is paid, by whatever accounts */
	size_t row;             /* the caller's, kept over the ordering */
	int64_t memory_gb;      /* verified */
	int64_t uptime_us;      /* of the period */
	int64_t earned_uusd;    /* by requests in the period */
	int64_t payee_has_uusd; /* that they were given already for the period */
	/* out */
	int64_t floor_uusd, want_uusd, grant_uusd;
};

struct reward_terms {
	int64_t pool_month_uusd;
	int64_t left_uusd;           /* of the period's pool; -1 = all of it */
	int min_uptime_percent;      /* below it nothing is claimed */
	int reduction_percent;       /* k: how much of what was earned is taken off */
	int account_percent;         /* the most that one payee gets of the period's pool; 0 = no limit */
	int64_t period_us, start_us; /* of the period; its month is what tiers and pool are shared out over */
};

/* The period's part of the month's pool, rounded half up. */
int64_t reward_pool(const struct reward_terms *terms);
/* The most that one payee gets of it. */
int64_t reward_account_limit(const struct reward_terms *terms);
/* Fills floor and want of one claim. */
void reward_claim_want(struct reward_claim *claim, const struct reward_terms *terms);
/* Fills the out members of all claims and puts them in the order in which they were served. The grants never exceed what is
 * left of the pool. False without memory: then nothing is granted. */
bool reward_allocate(struct reward_claim *claims, size_t count, const struct reward_terms *terms);

#endif
