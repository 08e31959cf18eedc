#include "coordinator/routing/share.h"

#include <stdlib.h>

#define LEAST       0.01
#define MOST        100.0
#define NUMBER_SIZE 16

static bool read_priority(struct str text, enum route_priority *out)
{
	static const char *const names[ROUTE_PRIORITIES] = {
	    [ROUTE_PRIORITY_NORMAL] = "normal", [ROUTE_PRIORITY_INTERACTIVE] = "interactive", [ROUTE_PRIORITY_BATCH] = "batch"};
	for (int i = 0; i < ROUTE_PRIORITIES; i++) {
		if (!str_is(text, names[i]))
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
	return *end == '\0' && *out >= LEAST && *out <= MOST;
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
		good = read_weight(weight, &out->weight) && read_priority(priority, &out->priority);
	else
		good = read_priority(value, &out->priority) || read_weight(value, &out->weight);
	return good ? DB_OK : DB_E_INVALID;
}

void share_apply(const char *const *texts, size_t count, struct queue_waiter *waiter)
{
	for (size_t i = 0; i < count; i++) {
		struct share share;
		if (share_read(str_of(texts[i]), &share) || !str_eq(share.account, waiter->request.caller_account))
			continue;
		waiter->weight = share.weight;
		waiter->priority = share.priority;
		return;
	}
}
