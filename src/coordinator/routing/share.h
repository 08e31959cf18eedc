/* What an account gets of a queue, as the operator wrote it: "ACCOUNT=WEIGHT", "ACCOUNT=PRIORITY" or "ACCOUNT=WEIGHT:PRIORITY"
 * with a weight from 0.01 to 100 and a priority of batch, normal or interactive. Pure; thread: any. */
#ifndef COORDINATOR_SHARE_H
#define COORDINATOR_SHARE_H

#include "coordinator/routing/queue.h"

struct share {
	struct str account; /* borrowed */
	double weight;      /* 1 unless it says */
	enum route_priority priority;
};

/* DB_E_INVALID for anything else. */
enum db_err share_read(struct str text, struct share *out);
/* Sets weight and priority of a waiter from the first text about its account; without one they stay. */
void share_apply(const char *const *texts, size_t count, struct queue_waiter *waiter);

#endif
