#include "provider/engine/kv_budget.h"

#include <pthread.h>
#include <stdlib.h>

struct kv_budget {
	pthread_mutex_t lock; /* over `now` */
	struct kv_budget_stats now;
	pthread_mutex_t watching; /* over the list and during calls of watchers; never taken with `lock` held */
	struct kv_budget_watcher *watchers;
};

struct kv_budget *kv_budget_new(uint64_t limit_bytes)
{
	struct kv_budget *budget = calloc(1, sizeof *budget);
	if (!budget)
		return NULL;
	budget->now.limit_bytes = limit_bytes;
	pthread_mutex_init(&budget->lock, NULL);
	pthread_mutex_init(&budget->watching, NULL);
	return budget;
}

static bool is_watched(struct kv_budget *budget)
{
	pthread_mutex_lock(&budget->watching);
	bool watched = budget->watchers != NULL;
	pthread_mutex_unlock(&budget->watching);
	return watched;
}

void kv_budget_free(struct kv_budget *budget)
{
	if (!budget || is_watched(budget))
		return;
	pthread_mutex_destroy(&budget->lock);
	pthread_mutex_destroy(&budget->watching);
	free(budget);
}

static void tell_room(struct kv_budget *budget)
{
	pthread_mutex_lock(&budget->watching);
	for (struct kv_budget_watcher *each = budget->watchers; each; each = each->next)
		if (each->on_room)
			each->on_room(each->user);
	pthread_mutex_unlock(&budget->watching);
}

static void tell_short(struct kv_budget *budget, uint64_t missing_bytes)
{
	pthread_mutex_lock(&budget->watching);
	for (struct kv_budget_watcher *each = budget->watchers; each; each = each->next)
		if (each->on_short)
			each->on_short(each->user, missing_bytes);
	pthread_mutex_unlock(&budget->watching);
}

void kv_budget_set_limit(struct kv_budget *budget, uint64_t limit_bytes)
{
	pthread_mutex_lock(&budget->lock);
	bool more = limit_bytes > budget->now.limit_bytes;
	budget->now.limit_bytes = limit_bytes;
	pthread_mutex_unlock(&budget->lock);
	if (more)
		tell_room(budget);
}

static uint64_t room_of(const struct kv_budget_stats *now)
{
	return now->limit_bytes > now->reserved_bytes ? now->limit_bytes - now->reserved_bytes : 0;
}

static void add(struct kv_budget *budget, uint64_t bytes)
{
	budget->now.reserved_bytes += bytes;
	if (budget->now.reserved_bytes > budget->now.peak_bytes)
		budget->now.peak_bytes = budget->now.reserved_bytes;
}

/* Under one lock: a look at the room and the taking of it. Returns how many bytes were missing. */
static uint64_t take(struct kv_budget *budget, uint64_t bytes, bool is_new)
{
	pthread_mutex_lock(&budget->lock);
	uint64_t room = room_of(&budget->now), missing = bytes > room ? bytes - room : 0;
	if (missing) {
		budget->now.refusals++;
	} else {
		add(budget, bytes);
		budget->now.reservations += is_new && bytes ? 1 : 0;
	}
	pthread_mutex_unlock(&budget->lock);
	return missing;
}

bool kv_budget_reserve(struct kv_budget *budget, uint64_t bytes, struct kv_reservation *out)
{
	uint64_t missing = take(budget, bytes, true);
	if (missing) {
		tell_short(budget, missing);
		return false;
	}
	*out = (struct kv_reservation){bytes ? budget : NULL, bytes};
	return true;
}

void kv_budget_claim(struct kv_budget *budget, uint64_t bytes, struct kv_reservation *out)
{
	*out = (struct kv_reservation){bytes ? budget : NULL, bytes};
	pthread_mutex_lock(&budget->lock);
	if (bytes <= UINT64_MAX - budget->now.reserved_bytes) {
		add(budget, bytes);
		budget->now.reservations += bytes ? 1 : 0;
	} else {
		*out = (struct kv_reservation){0};
	}
	pthread_mutex_unlock(&budget->lock);
}

bool kv_reservation_extend(struct kv_reservation *reservation, uint64_t bytes)
{
	if (bytes <= reservation->bytes)
		return true;
	if (!reservation->budget)
		return false;
	uint64_t missing = take(reservation->budget, bytes - reservation->bytes, false);
	if (missing) {
		tell_short(reservation->budget, missing);
		return false;
	}
	reservation->bytes = bytes;
	return true;
}

void kv_reservation_shrink(struct kv_reservation *reservation, uint64_t bytes)
{
	struct kv_budget *budget = reservation->budget;
	if (!budget || bytes >= reservation->bytes)
		return;
	pthread_mutex_lock(&budget->lock);
	budget->now.reserved_bytes -= reservation->bytes - bytes;
	budget->now.reservations -= bytes ? 0 : 1;
	pthread_mutex_unlock(&budget->lock);
	reservation->bytes = bytes;
	if (!bytes)
		reservation->budget = NULL;
	tell_room(budget);
}

void kv_reservation_release(struct kv_reservation *reservation)
{
	kv_reservation_shrink(reservation, 0);
}

void kv_budget_stats(struct kv_budget *budget, struct kv_budget_stats *out)
{
	pthread_mutex_lock(&budget->lock);
	*out = budget->now;
	pthread_mutex_unlock(&budget->lock);
}

uint64_t kv_budget_free_bytes(struct kv_budget *budget)
{
	struct kv_budget_stats now;
	kv_budget_stats(budget, &now);
	return room_of(&now);
}

void kv_budget_watch(struct kv_budget *budget, struct kv_budget_watcher *watcher)
{
	pthread_mutex_lock(&budget->watching);
	watcher->next = budget->watchers;
	budget->watchers = watcher;
	pthread_mutex_unlock(&budget->watching);
}

void kv_budget_unwatch(struct kv_budget *budget, struct kv_budget_watcher *watcher)
{
	pthread_mutex_lock(&budget->watching);
	struct kv_budget_watcher **at = &budget->watchers;
	while (*at && *at != watcher)
		at = &(*at)->next;
	if (*at)
		*at = watcher->next;
	pthread_mutex_unlock(&budget->watching);
}
