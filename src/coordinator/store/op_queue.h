/* What waits for the store's threads: queues of operations, and waiting for a limited time. Inside store/ only. */
#ifndef COORDINATOR_STORE_OP_QUEUE_H
#define COORDINATOR_STORE_OP_QUEUE_H

#include <pthread.h>

#include "coordinator/store/op.h"

/* First come, first served; whoever shares it locks. Zeroed = empty. */
struct op_queue {
	struct store_op *first, *last;
	size_t count;
};
void op_queue_push(struct op_queue *queue, struct store_op *op);
void op_queue_append(struct op_queue *queue, const struct op_queue *more); /* `more` is not to be used afterwards */
struct store_op *op_queue_pop(struct op_queue *queue);                     /* of one that is not empty */

void wait_cond_init(pthread_cond_t *cond); /* for wait_for_us */
/* Waits on cond for at most us microseconds. False when the time is over. */
bool wait_for_us(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t us);

#endif
