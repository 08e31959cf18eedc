/* What happens when, in virtual time: a heap of events. Events at one time come out in the order in which they went in.
 * Thread: one at a time. */
#ifndef SWARM_SIM_EVENTS_H
#define SWARM_SIM_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_event {
	uint64_t at_us, order; /* order: set by sim_events_add */
	void *subject;
	uint32_t kind, number;
};

struct sim_events {
	struct sim_event *heap;
	size_t len, cap;
	uint64_t added;
	bool failed; /* out of memory: an event was lost */
};

void sim_events_free(struct sim_events *events);
void sim_events_add(struct sim_events *events, uint64_t at_us, uint32_t kind, void *subject, uint32_t number);
bool sim_events_next(struct sim_events *events, struct sim_event *out); /* false when there is none */

#endif
