/* A heap of instants: whatever ends by itself stands in it, and nothing else is looked at when time passes. */
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

static void put(struct route_timers *timers, uint32_t at, struct route_timer *timer)
{
	timers->heap[at] = timer;
	timer->place = at + 1;
}

static void sift_up(struct route_timers *timers, uint32_t at, struct route_timer *moving)
{
	while (at > 0 && timers->heap[(at - 1) / 2]->at_us > moving->at_us) {
		put(timers, at, timers->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	put(timers, at, moving);
}

static void sift_down(struct route_timers *timers, uint32_t at, struct route_timer *moving)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= timers->len)
			break;
		if (child + 1 < timers->len && timers->heap[child + 1]->at_us < timers->heap[child]->at_us)
			child++;
		if (timers->heap[child]->at_us >= moving->at_us)
			break;
		put(timers, at, timers->heap[child]);
		at = child;
	}
	put(timers, at, moving);
}

void route_timer_stop(struct route_timers *timers, struct route_timer *timer)
{
	if (!timer->place)
		return;
	uint32_t at = timer->place - 1;
	struct route_timer *last = timers->heap[--timers->len];
	timer->place = 0;
	if (last == timer)
		return;
	sift_up(timers, at, last);
	sift_down(timers, last->place - 1, last);
}

static bool has_room(struct route_timers *timers)
{
	if (timers->len < timers->cap)
		return true;
	uint32_t cap = timers->cap ? timers->cap * 2 : 64;
	struct route_timer **grown = realloc(timers->heap, cap * sizeof(struct route_timer *));
	if (!grown)
		return false;
	timers->heap = grown;
	timers->cap = cap;
	return true;
}

bool route_timer_start(struct route_timers *timers, struct route_timer *timer, uint64_t at_us)
{
	route_timer_stop(timers, timer);
	if (!has_room(timers))
		return false;
	timer->at_us = at_us;
	sift_up(timers, timers->len++, timer);
	return true;
}

struct route_timer *route_timer_due(struct route_timers *timers, uint64_t now_us)
{
	struct route_timer *first = timers->len ? timers->heap[0] : NULL;
	if (!first || first->at_us > now_us)
		return NULL;
	route_timer_stop(timers, first);
	return first;
}
