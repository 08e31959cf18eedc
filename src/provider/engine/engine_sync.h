/* Condition variables that wait on the monotonic clock, also where POSIX cannot (macOS). Thread: any. */
#ifndef PROVIDER_ENGINE_SYNC_H
#define PROVIDER_ENGINE_SYNC_H

#include "core/error.h"

#include <pthread.h>
#include <stdint.h>

enum db_err engine_cond_init(pthread_cond_t *cond);
/* Waits at most wait_us; may wake early. */
void engine_cond_wait_us(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t wait_us);

#endif
