#include "swarm/sim/events.h"

#include <stdlib.h>

#define ARITY 4

static bool sooner(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_events_free(struct sim_events *events)
{
	free(events->heap);
	*events = (struct sim_events){0};
}

void sim_events_add(struct sim_events *events, uint64_t at_us, uint32_t kind, void *subject, uint32_t number)
{
	if (events->len == events->cap) {
		size_t cap = events->cap ? events->cap * 2 : 1024;
		struct sim_event *grown = realloc(events->heap, cap * sizeof *grown);
		if (!grown) {
			events->failed = true;
			return;
		}
		events->heap = grown;
		events->cap = cap;
	}
	struct sim_event event = {at_us, events->added++, subject, kind, number};
	size_t at = events->len++;
	while (at && sooner(&event, &events->heap[(at - 1) / ARITY])) {
		events->heap[at] = events->heap[(at - 1) / ARITY];
		at = (at - 1) / ARITY;
	}
	events->heap[at] = event;
}

bool sim_events_next(struct sim_events *events, struct sim_event *out)
{
	if (!events->len)
		return false;
	*out = events->heap[0];
	struct sim_event last = events->heap[--events->len];
	size_t at = 0;
	for (;;) {
		size_t first = at * ARITY + 1, end = first + ARITY < events->len ? first + ARITY : events->len, best = first;
		if (first >= events->len)
			break;
		for (size_t child = first + 1; child < end; child++)
			if (sooner(&events->heap[child], &events->heap[best]))
				best = child;
		if (!sooner(&events->heap[best], &last))
			break;
		events->heap[at] = events->heap[best];
		at = best;
	}
	if (events->len)
		events->heap[at] = last;
	return true;
}
