#include "coordinator/accounts/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/list.h"
#include "core/map.h"

#define US_PER_MINUTE 60e6
#define IDLE_US       (INT64_C(30) * 60 * 1000000)
#define RETRY_MAX_S   60
#define FINANCIAL     LIMIT_KINDS /* the bucket after those of the kinds */
#define BUCKETS       (LIMIT_KINDS + 1)

/* Tokens that a full bucket has more than this one, at the time of its owner. */
struct bucket {
	double missing;
	int64_t at_us;
};

struct owner {
	char id[STORE_ID_SIZE];
	bool is_key;
	struct bucket buckets[BUCKETS];
	uint32_t inflight;
	int64_t used_us;
	struct list_link age;     /* least lately used first */
	struct list_link changed; /* linked = not saved since */
};

struct limits {
	struct limits_options options;
	struct map accounts, keys; /* id -> struct owner */
	struct list by_age, changed;
};

struct limits *limits_new(const struct limits_options *options)
{
	struct limits *limits = calloc(1, sizeof *limits);
	if (!limits)
		return NULL;
	limits->options = *options;
	map_init(&limits->accounts);
	map_init(&limits->keys);
	list_init(&limits->by_age);
	list_init(&limits->changed);
	return limits;
}

/* --- owners --- */

static void forget(struct limits *limits, struct owner *owner)
{
	map_remove(owner->is_key ? &limits->keys : &limits->accounts, str_of(owner->id));
	list_remove(&limits->by_age, &owner->age);
	if (list_linked(&owner->changed))
		list_remove(&limits->changed, &owner->changed);
	free(owner);
}

void limits_free(struct limits *limits)
{
	struct list_link *link;
	if (!limits)
		return;
	while ((link = list_first(&limits->by_age)))
		forget(limits, LIST_OF(link, struct owner, age));
	map_free(&limits->accounts);
	map_free(&limits->keys);
	free(limits);
}

/* NULL without memory: then nobody is held back. */
static struct owner *find_owner(struct limits *limits, bool is_key, struct str id, int64_t now_us)
{
	struct map *owners = is_key ? &limits->keys : &limits->accounts;
	struct owner *owner = map_get(owners, id);
	if (owner) {
		list_remove(&limits->by_age, &owner->age);
	} else {
		owner = calloc(1, sizeof *owner);
		if (!owner || !str_copy(id, owner->id, sizeof owner->id) || map_put(owners, str_of(owner->id), owner, NULL)) {
			free(owner);
			return NULL;
		}
		owner->is_key = is_key;
	}
	owner->used_us = now_us;
	list_push_back(&limits->by_age, &owner->age);
	return owner;
}

static struct owner *account_of(struct limits *limits, const struct caller *caller, int64_t now_us)
{
	if (caller->kind == CALLER_ADMIN)
		return NULL;
	return find_owner(limits, false, str_of(ledger_account_id(caller->account)), now_us);
}

static struct owner *key_of(struct limits *limits, const struct caller *caller, int64_t now_us)
{
	bool has_limits = caller->group && (caller->rpm || caller->itpm || caller->otpm);
	return has_limits ? find_owner(limits, true, str_of(caller->group->id), now_us) : NULL;
}

static enum limit_tier tier_of(const struct caller *caller)
{
	return ledger_account_is_service(caller->account) ? LIMIT_SERVICE : LIMIT_CONSUMER;
}

/* --- buckets --- */

/* One bucket that a decision concerns, and what is asked of it. */
struct demand {
	struct owner *owner;
	struct bucket *bucket;
	struct limit_rate rate;
	enum limit_kind kind;
	double charge;
};

static void refill(struct bucket *bucket, struct limit_rate rate, int64_t now_us)
{
	double elapsed = now_us > bucket->at_us ? (double)(now_us - bucket->at_us) : 0;
	double missing = bucket->missing - elapsed * rate.per_minute / US_PER_MINUTE;
	bucket->missing = missing > 0 ? missing : 0;
	bucket->at_us = now_us;
}

static double level(const struct demand *demand)
{
	return demand->rate.burst - demand->bucket->missing;
}

static void note_change(struct limits *limits, struct owner *owner)
{
	if (!list_linked(&owner->changed))
		list_push_back(&limits->changed, &owner->changed);
}

static void take(struct limits *limits, struct demand *demand, double amount)
{
	demand->bucket->missing += amount;
	if (demand->bucket->missing < 0)
		demand->bucket->missing = 0;
	note_change(limits, demand->owner);
}

#define DEMANDS_MAX (2 * LIMIT_KINDS)

struct demands {
	struct demand at[DEMANDS_MAX];
	size_t count;
};

static void demand_of(struct demands *demands, struct owner *owner, int bucket, enum limit_kind kind, struct limit_rate rate,
                      double charge, int64_t now_us)
{
	if (!owner || rate.per_minute <= 0)
		return;
	struct demand *demand = &demands->at[demands->count++];
	*demand = (struct demand){owner, &owner->buckets[bucket], rate, kind, charge < rate.burst ? charge : rate.burst};
	refill(demand->bucket, rate, now_us);
}

/* A key's own limit: a minute's worth fits into its bucket. */
static struct limit_rate key_rate(const struct caller *caller, enum limit_kind kind)
{
	const int64_t rates[LIMIT_KINDS] = {caller->rpm, caller->itpm, caller->otpm};
	return (struct limit_rate){(double)rates[kind], (double)rates[kind]};
}

/* Whom a decision is about. */
struct owners {
	struct owner *key, *account; /* NULL = has no limits */
};

static struct owners owners_of(struct limits *limits, const struct caller *caller, int64_t now_us)
{
	return (struct owners){key_of(limits, caller, now_us), account_of(limits, caller, now_us)};
}

static void demand_both(const struct limits *limits, struct demands *demands, const struct owners *owners,
                        const struct caller *caller, enum limit_kind kind, double charge, int64_t now_us)
{
	demand_of(demands, owners->key, (int)kind, kind, key_rate(caller, kind), charge, now_us);
	demand_of(demands, owners->account, (int)kind, kind, limits->options.rates[tier_of(caller)][kind], charge, now_us);
}

static int64_t seconds_up(double minutes)
{
	double seconds = ceil(minutes * 60 - 1e-6);
	return seconds > 0 ? (int64_t)(seconds < 1e9 ? seconds : 1e9) : 0;
}

static void refuse_by(const struct demand *demand, struct limit_verdict *out)
{
	int64_t wait_s = seconds_up((demand->charge - level(demand)) / demand->rate.per_minute);
	int retry_s = wait_s < 1 ? 1 : wait_s > RETRY_MAX_S ? RETRY_MAX_S : (int)wait_s;
	if (!out->allowed && out->retry_after_s >= retry_s)
		return;
	out->allowed = false;
	out->by_key = demand->owner->is_key;
	out->by = demand->kind;
	out->retry_after_s = retry_s;
}

static void look(const struct demand *demand, struct limit_view *view)
{
	double left = floor(level(demand) + 1e-6);
	int64_t remaining = left > 0 ? (int64_t)left : 0;
	if (view->limited && view->remaining <= remaining)
		return;
	*view = (struct limit_view){.limited = true,
	                            .limit = (int64_t)demand->rate.per_minute,
	                            .remaining = remaining,
	                            .reset_s = seconds_up(demand->bucket->missing / demand->rate.per_minute)};
}

/* All or nothing. */
static void decide(struct limits *limits, struct demands *demands, struct limit_verdict *out)
{
	*out = (struct limit_verdict){.allowed = true};
	for (size_t i = 0; i < demands->count; i++)
		if (level(&demands->at[i]) + 1e-6 < demands->at[i].charge)
			refuse_by(&demands->at[i], out);
	for (size_t i = 0; i < demands->count; i++) {
		if (out->allowed)
			take(limits, &demands->at[i], demands->at[i].charge);
		look(&demands->at[i], &out->views[demands->at[i].kind]);
	}
}

/* --- decisions --- */

void limits_request(struct limits *limits, const struct caller *caller, int64_t now_us, struct limit_verdict *out)
{
	struct demands demands = {.count = 0};
	struct owners owners = owners_of(limits, caller, now_us);
	demand_both(limits, &demands, &owners, caller, LIMIT_REQUESTS, 1, now_us);
	decide(limits, &demands, out);
}

void limits_request_back(struct limits *limits, const struct caller *caller, int64_t now_us)
{
	struct demands demands = {.count = 0};
	struct owners owners = owners_of(limits, caller, now_us);
	demand_both(limits, &demands, &owners, caller, LIMIT_REQUESTS, 1, now_us);
	for (size_t i = 0; i < demands.count; i++)
		take(limits, &demands.at[i], -1);
}

static bool expects_output(const struct limits *limits, const struct caller *caller)
{
	return limits->options.expects_output && tier_of(caller) == LIMIT_SERVICE;
}

static uint64_t output_charge(const struct limits *limits, const struct caller *caller, uint64_t max_output)
{
	const struct limits_options *options = &limits->options;
	if (!expects_output(limits, caller))
		return max_output;
	double expected = ceil((double)max_output * options->expected_fraction);
	if (expected > (double)options->expected_ceiling)
		expected = (double)options->expected_ceiling;
	if (expected < (double)options->expected_floor)
		expected = (double)options->expected_floor;
	return expected < (double)max_output ? (uint64_t)expected : max_output;
}

void limits_tokens(struct limits *limits, const struct caller *caller, uint64_t input, uint64_t max_output, int64_t now_us,
                   struct limit_verdict *out, uint64_t *charged_output)
{
	struct demands demands = {.count = 0};
	struct owners owners = owners_of(limits, caller, now_us);
	*charged_output = output_charge(limits, caller, max_output);
	demand_both(limits, &demands, &owners, caller, LIMIT_INPUT, (double)input, now_us);
	demand_both(limits, &demands, &owners, caller, LIMIT_OUTPUT, (double)*charged_output, now_us);
	decide(limits, &demands, out);
}

void limits_output_taken(struct limits *limits, const struct caller *caller, uint64_t charged, uint64_t taken, int64_t now_us)
{
	struct demands demands = {.count = 0};
	if (taken <= charged || !expects_output(limits, caller))
		return;
	struct owners owners = owners_of(limits, caller, now_us);
	demand_both(limits, &demands, &owners, caller, LIMIT_OUTPUT, 0, now_us);
	for (size_t i = 0; i < demands.count; i++)
		take(limits, &demands.at[i], (double)(taken - charged));
}

void limits_financial(struct limits *limits, const struct caller *caller, int64_t now_us, struct limit_verdict *out)
{
	struct demands demands = {.count = 0};
	demand_of(&demands, account_of(limits, caller, now_us), FINANCIAL, LIMIT_REQUESTS, limits->options.financial, 1, now_us);
	decide(limits, &demands, out);
}

bool limits_enter(struct limits *limits, const struct caller *caller, int64_t now_us)
{
	struct owner *owner = account_of(limits, caller, now_us);
	uint32_t most = limits->options.concurrent[tier_of(caller)];
	if (owner && most && owner->inflight >= most)
		return false;
	if (owner)
		owner->inflight++;
	return true;
}

void limits_leave(struct limits *limits, const struct caller *caller)
{
	struct owner *owner = map_get(&limits->accounts, str_of(ledger_account_id(caller->account)));
	if (caller->kind != CALLER_ADMIN && owner && owner->inflight > 0)
		owner->inflight--;
}

void limits_sweep(struct limits *limits, int64_t now_us)
{
	struct list busy;
	struct list_link *link;
	list_init(&busy);
	while ((link = list_first(&limits->by_age))) {
		struct owner *owner = LIST_OF(link, struct owner, age);
		if (now_us - owner->used_us < IDLE_US)
			break;
		if (owner->inflight == 0) {
			forget(limits, owner);
			continue;
		}
		owner->used_us = now_us; /* it is not idle: it waits */
		list_remove(&limits->by_age, link);
		list_push_back(&busy, link);
	}
	while ((link = list_pop_front(&busy)))
		list_push_back(&limits->by_age, link);
}

size_t limits_owners(const struct limits *limits)
{
	return limits->accounts.count + limits->keys.count;
}

/* --- over a restart --- */

size_t limits_changes(struct limits *limits, int64_t now_us, int64_t wall_us, struct store_levels *out, size_t max)
{
	size_t count = 0;
	struct list_link *link;
	while (count < max && (link = list_pop_front(&limits->changed))) {
		const struct owner *owner = LIST_OF(link, struct owner, changed);
		struct store_levels *row = &out[count++];
		double missing[BUCKETS];
		for (int i = 0; i < BUCKETS; i++)
			missing[i] = owner->buckets[i].missing;
		/* All of a row are as of one time: the latest of its buckets, which overstates what is missing from the others a
		 * little. */
		int64_t at_us = 0;
		for (int i = 0; i < BUCKETS; i++)
			at_us = missing[i] > 0 && owner->buckets[i].at_us > at_us ? owner->buckets[i].at_us : at_us;
		*row = (struct store_levels){.at_us = wall_us - (now_us - at_us),
		                             .requests = missing[LIMIT_REQUESTS],
		                             .input = missing[LIMIT_INPUT],
		                             .output = missing[LIMIT_OUTPUT],
		                             .financial = missing[FINANCIAL],
		                             .full = at_us == 0};
		(void)snprintf(row->owner, sizeof row->owner, "%c:%s", owner->is_key ? 'k' : 'a', owner->id);
	}
	return count;
}

void limits_restore(struct limits *limits, int64_t now_us, int64_t wall_us, const struct store_levels *levels, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct store_levels *row = &levels[i];
		struct str id = str_of(row->owner);
		int64_t ago_us = wall_us > row->at_us ? wall_us - row->at_us : 0;
		if (id.len < 3 || id.at[1] != ':' || ago_us > IDLE_US)
			continue;
		struct owner *owner = find_owner(limits, id.at[0] == 'k', str_sub(id, 2, id.len), now_us);
		if (!owner)
			return;
		const double missing[BUCKETS] = {row->requests, row->input, row->output, row->financial};
		for (int b = 0; b < BUCKETS; b++)
			owner->buckets[b] = (struct bucket){missing[b] > 0 ? missing[b] : 0, now_us - ago_us};
	}
}
