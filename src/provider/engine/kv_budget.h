/* KV memory in bytes, one budget for all models of the process (inference 5.3).
 *
 * Who wants memory reserves it first and is told at once whether there is room; nothing here waits, and nothing here may be
 * made to wait for a device. A refusal calls those who could give memory back; they do it later, on their own threads.
 * Thread: any. Watchers are called by the thread that released or was refused, with no lock of the budget held; they must not
 * block and must not reserve or release. */
#ifndef PROVIDER_KV_BUDGET_H
#define PROVIDER_KV_BUDGET_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

struct kv_budget;

/* Zeroed: holds nothing. Belongs to one thread at a time. */
struct kv_reservation {
	struct kv_budget *budget;
	uint64_t bytes;
};

struct kv_budget *kv_budget_new(uint64_t limit_bytes); /* NULL: out of memory */
/* Every reservation must have been released and every watcher removed. Where one is left, that of an engine that hangs and was
 * given up, the memory stays. */
void kv_budget_free(struct kv_budget *budget);
/* What is reserved above a lower limit stays so, but nothing new is granted. */
void kv_budget_set_limit(struct kv_budget *budget, uint64_t limit_bytes);

/* `out` must hold nothing; it is left so when there is no room. */
bool kv_budget_reserve(struct kv_budget *budget, uint64_t bytes, struct kv_reservation *out);
/* Weights of a model that is being loaded: counted whether there is room or not, so that no request can claim their place. */
void kv_budget_claim(struct kv_budget *budget, uint64_t bytes, struct kv_reservation *out);
/* A longer sequence: true when it now holds at least `bytes`; else nothing has changed. */
bool kv_reservation_extend(struct kv_reservation *reservation, uint64_t bytes);
/* Holds at most `bytes` afterwards. */
void kv_reservation_shrink(struct kv_reservation *reservation, uint64_t bytes);
void kv_reservation_release(struct kv_reservation *reservation); /* again and again is fine */

struct kv_budget_stats {
	uint64_t limit_bytes, reserved_bytes, peak_bytes;
	uint64_t reservations; /* that hold something now */
	uint64_t refusals;
};
void kv_budget_stats(struct kv_budget *budget, struct kv_budget_stats *out);
uint64_t kv_budget_free_bytes(struct kv_budget *budget);

/* Who wants to know: on_room after bytes were given back, on_short when so many bytes were missing. Either may be NULL. The
 * watcher is the caller's memory until kv_budget_unwatch has returned; that waits for a call of it that runs now. */
struct kv_budget_watcher {
	void (*on_room)(void *user);
	void (*on_short)(void *user, uint64_t missing_bytes);
	void *user;
	struct kv_budget_watcher *next; /* the budget's */
};
void kv_budget_watch(struct kv_budget *budget, struct kv_budget_watcher *watcher);
void kv_budget_unwatch(struct kv_budget *budget, struct kv_budget_watcher *watcher);

#endif
