/* Rate limits (http-api 4.4): token buckets for each account and each group of keys, and how many requests an account runs at
 * a time.
 *
 * A decision looks at every bucket that it concerns before it takes from any: who is refused by one has lost nothing of the
 * others. Accounts cannot take from each other. A bucket is kept as what is missing from it, so that whoever is not known has
 * full ones, and a changed limit holds at once. Pure but for memory: `now_us` is any clock that does not go back.
 * Thread: the loop's. */
#ifndef COORDINATOR_LIMITS_H
#define COORDINATOR_LIMITS_H

#include "coordinator/accounts/accounts.h"

struct limits;

struct limit_rate {
	double per_minute; /* 0 = no limit */
	double burst;      /* what a full bucket holds */
};
enum limit_tier { LIMIT_CONSUMER, LIMIT_SERVICE, LIMIT_TIERS };
enum limit_kind { LIMIT_REQUESTS, LIMIT_INPUT, LIMIT_OUTPUT, LIMIT_KINDS };

struct limits_options {
	struct limit_rate rates[LIMIT_TIERS][LIMIT_KINDS];
	struct limit_rate financial;      /* of all accounts */
	uint32_t concurrent[LIMIT_TIERS]; /* requests of one account at a time, 0 = any number */
	/* Service accounts are charged the output they are expected to take instead of the most they may take; what they take
	 * beyond is charged afterwards. */
	bool expects_output;
	double expected_fraction;
	int64_t expected_floor, expected_ceiling;
};

struct limits *limits_new(const struct limits_options *options);
void limits_free(struct limits *limits);

/* What one bucket says of itself: of the key's and the account's the one with less in it. */
struct limit_view {
	bool limited;
	int64_t limit;     /* for each minute */
	int64_t remaining; /* now, at least 0 */
	int64_t reset_s;   /* until it is full, rounded up */
};
struct limit_verdict {
	bool allowed;
	bool by_key;                          /* refused by a limit of the key, not of the account */
	enum limit_kind by;                   /* which refused */
	int retry_after_s;                    /* 1 to 60, rounded up */
	struct limit_view views[LIMIT_KINDS]; /* of the kinds that were asked about */
};

/* The operator's key has no limits of its account. Takes one request when allowed. */
void limits_request(struct limits *limits, const struct caller *caller, int64_t now_us, struct limit_verdict *out);
/* The request was refused for another reason: it counts for nothing. */
void limits_request_back(struct limits *limits, const struct caller *caller, int64_t now_us);

/* Takes from both, or from none. A charge above what a bucket can hold asks for a full one. Returns in *charged_output what was
 * taken for the output. */
void limits_tokens(struct limits *limits, const struct caller *caller, uint64_t input, uint64_t max_output, int64_t now_us,
                   struct limit_verdict *out, uint64_t *charged_output);
/* A service account's answer had more than was charged: takes the rest, below empty if it must. */
void limits_output_taken(struct limits *limits, const struct caller *caller, uint64_t charged, uint64_t taken, int64_t now_us);

/* One operation on money or keys; views are of LIMIT_REQUESTS. */
void limits_financial(struct limits *limits, const struct caller *caller, int64_t now_us, struct limit_verdict *out);

/* One more request of the account runs; false when it runs as many as it may. */
bool limits_enter(struct limits *limits, const struct caller *caller, int64_t now_us);
void limits_leave(struct limits *limits, const struct caller *caller);

/* Forgets who did nothing for half an hour. */
void limits_sweep(struct limits *limits, int64_t now_us);
size_t limits_owners(const struct limits *limits); /* accounts and groups of keys in memory */

/* --- over a restart --- */
/* What changed since the last call, at most `max` rows; wall_us is now. Levels are what is missing. */
size_t limits_changes(struct limits *limits, int64_t now_us, int64_t wall_us, struct store_levels *out, size_t max);
void limits_restore(struct limits *limits, int64_t now_us, int64_t wall_us, const struct store_levels *levels, size_t count);

#endif
