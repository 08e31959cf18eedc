#include "coordinator/store/op_queue.h"

#include <errno.h>
#include <time.h>

void op_queue_push(struct op_queue *queue, struct store_op *op)
{
	op->next = NULL;
	if (queue->last)
		queue->last->next = op;
	else
		queue->first = op;
	queue->last = op;
	queue->count++;
}

void op_queue_append(struct op_queue *queue, const struct op_queue *more)
{
	if (!more->first)
		return;
	if (queue->last)
		queue->last->next = more->first;
	else
		queue->first = more->first;
	queue->last = more->last;
	queue->count += more->count;
}

struct store_op *op_queue_pop(struct op_queue *queue)
{
	struct store_op *op = queue->first;
	queue->first = op->next;
	if (!queue->first)
		queue->last = NULL;
	queue->count--;
	return op;
}

bool wait_for_us(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t us)
{
#ifdef __APPLE__
	struct timespec span = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
	return pthread_cond_timedwait_relative_np(cond, lock, &span) != ETIMEDOUT;
#else
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	us += (uint64_t)until.tv_nsec / 1000;
	until.tv_sec += (time_t)(us / 1000000);
	until.tv_nsec = (long)(us % 1000000) * 1000;
	return pthread_cond_timedwait(cond, lock, &until) != ETIMEDOUT;
#endif
}

void wait_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
#ifndef __APPLE__
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}
