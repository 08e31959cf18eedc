#include "provider/engine/engine_sync.h"

#include <time.h>

#define WAIT_MAX_US UINT64_C(3600000000)

enum db_err engine_cond_init(pthread_cond_t *cond)
{
#ifdef __APPLE__
	return pthread_cond_init(cond, NULL) ? DB_E_NOMEM : DB_OK;
#else
	pthread_condattr_t attr;
	if (pthread_condattr_init(&attr))
		return DB_E_NOMEM;
	int failed = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) || pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return failed ? DB_E_NOMEM : DB_OK;
#endif
}

void engine_cond_wait_us(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t wait_us)
{
	if (wait_us > WAIT_MAX_US)
		wait_us = WAIT_MAX_US;
#ifdef __APPLE__
	struct timespec wait = {(time_t)(wait_us / 1000000), (long)(wait_us % 1000000 * 1000)};
	pthread_cond_timedwait_relative_np(cond, lock, &wait);
#else
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	uint64_t ns = (uint64_t)until.tv_nsec + wait_us % 1000000 * 1000;
	until.tv_sec += (time_t)(wait_us / 1000000 + ns / 1000000000);
	until.tv_nsec = (long)(ns % 1000000000);
	pthread_cond_timedwait(cond, lock, &until);
#endif
}
