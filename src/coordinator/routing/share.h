/* What an account gets of a queue, as the operator wrote it: "ACCOUNT=WEIGHT", "ACCOUNT=PRIORITY" or "ACCOUNT=WEIGHT:PRIORITY"
 * with a weight from 0.01 to 100 and a priority of batch, normal or interactive. Pure; thread: any. */
#ifndef COORDINATOR_SHARE_H
#define COORDINATOR_SHARE_H

#include "coordinator/routing/queue.h"

#define SHARE_LEAST 0.01
#define SHARE_MOST  100.0

struct share {
	struct str account; /* borrowed */
	double weight;      /* 1 unless it says */
	enum route_priority priority;
	bool set; /* while the coordinator runs, and not by its configuration */
};
const char *share_priority_name(enum route_priority priority);
bool share_priority_read(struct str text, enum route_priority *out);

/* DB_E_INVALID for anything else. */
enum db_err share_read(struct str text, struct share *out);

/* Shares by account, read once: a request that waits costs one look. Thread: one at a time. */
#define SHARES_MAX 10000
struct shares;
/* Of several texts about one account the first counts; one that cannot be read is passed over. NULL: no memory. */
struct shares *shares_new(const char *const *texts, size_t count);
void shares_free(struct shares *shares);
/* Copied, in place of what there was. DB_E_LIMIT above SHARES_MAX accounts. */
enum db_err shares_put(struct shares *shares, const struct share *share);
bool shares_remove(struct shares *shares, struct str account);                    /* false when there was none */
const struct share *shares_find(const struct shares *shares, struct str account); /* NULL: none */
/* One after the other from *cursor = 0, in no order; NULL at the end. */
const struct share *shares_next(const struct shares *shares, size_t *cursor);
/* Sets weight and priority of a waiter to its account's share; without one they stay. */
void shares_apply(const struct shares *shares, struct queue_waiter *waiter);

#endif
