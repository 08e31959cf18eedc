#include "coordinator/routing/share.h"

#include <stdlib.h>

#include "core/map.h"

#define NUMBER_SIZE 16

static const char *const priority_names[ROUTE_PRIORITIES] = {
    [ROUTE_PRIORITY_NORMAL] = "normal", [ROUTE_PRIORITY_INTERACTIVE] = "interactive", [ROUTE_PRIORITY_BATCH] = "batch"};

const char *share_priority_name(enum route_priority priority)
{
	return priority < ROUTE_PRIORITIES ? priority_names[priority] : "normal";
}

bool share_priority_read(struct str text, enum route_priority *out)
{
	for (int i = 0; i < ROUTE_PRIORITIES; i++) {
		if (!str_is(text, priority_names[i]))
			continue;
		*out = (enum route_priority)i;
		return true;
	}
	return false;
}

static bool read_weight(struct str text, double *out)
{
	char number[NUMBER_SIZE], *end;
	if (!text.len || text.at[0] < '0' || text.at[0] > '9' || !str_copy(text, number, sizeof number))
		return false;
	*out = strtod(number, &end);
	return *end == '\0' && *out >= SHARE_LEAST && *out <= SHARE_MOST;
}

/* The text before the last `mark`, and what follows it; false when there is none. */
static bool split(struct str text, char mark, struct str *before, struct str *after)
{
	size_t at = text.len;
	while (at && text.at[at - 1] != mark)
		at--;
	if (!at)
		return false;
	*before = (struct str){text.at, at - 1};
	*after = (struct str){text.at + at, text.len - at};
	return true;
}

enum db_err share_read(struct str text, struct share *out)
{
	struct str value, weight, priority;
	*out = (struct share){.weight = 1};
	if (!split(text, '=', &out->account, &value) || !out->account.len)
		return DB_E_INVALID;
	bool good;
	if (split(value, ':', &weight, &priority))
		good = read_weight(weight, &out->weight) && share_priority_read(priority, &out->priority);
	else
		good = share_priority_read(value, &out->priority) || read_weight(value, &out->weight);
	return good ? DB_OK : DB_E_INVALID;
}

/* --- by account --- */

struct kept_share {
	struct share share;
	char account[];
};

struct shares {
	struct map by_account;
};

struct shares *shares_new(const char *const *texts, size_t count)
{
	struct shares *shares = calloc(1, sizeof *shares);
	enum db_err err = shares ? DB_OK : DB_E_NOMEM;
	if (shares)
		map_init(&shares->by_account);
	for (size_t i = 0; !err && i < count; i++) {
		struct share share;
		if (!share_read(str_of(texts[i]), &share) && !shares_find(shares, share.account))
			err = shares_put(shares, &share);
	}
	if (!err)
		return shares;
	shares_free(shares);
	return NULL;
}

void shares_free(struct shares *shares)
{
	size_t cursor = 0;
	if (!shares)
		return;
	for (struct kept_share *kept; (kept = map_next(&shares->by_account, &cursor));)
		free(kept);
	map_free(&shares->by_account);
	free(shares);
}

enum db_err shares_put(struct shares *shares, const struct share *share)
{
	void *before = map_get(&shares->by_account, share->account);
	if (!before && shares->by_account.count == SHARES_MAX)
		return DB_E_LIMIT;
	struct kept_share *kept = malloc(sizeof *kept + share->account.len);
	if (!kept)
		return DB_E_NOMEM;
	kept->share = *share;
	memcpy(kept->account, share->account.at, share->account.len);
	kept->share.account = (struct str){kept->account, share->account.len};
	enum db_err err = map_put(&shares->by_account, kept->share.account, kept, NULL);
	free(err ? kept : before);
	return err;
}

bool shares_remove(struct shares *shares, struct str account)
{
	struct kept_share *kept = map_remove(&shares->by_account, account);
	free(kept);
	return kept != NULL;
}

const struct share *shares_find(const struct shares *shares, struct str account)
{
	const struct kept_share *kept = map_get(&shares->by_account, account);
	return kept ? &kept->share : NULL;
}

void shares_apply(const struct shares *shares, struct queue_waiter *waiter)
{
	const struct share *share = shares_find(shares, waiter->request.caller_account);
	if (!share)
		return;
	waiter->weight = share->weight;
	waiter->priority = share->priority;
}

const struct share *shares_next(const struct shares *shares, size_t *cursor)
{
	const struct kept_share *kept = map_next(&shares->by_account, cursor);
	return kept ? &kept->share : NULL;
}
