/* Says when the coordinator has too much to do to take more inference: refusing at once is kinder than being late.
 *
 * Overloaded is: the event loop was late for several beats in a row, more writes wait for the disk than it will take soon, or
 * more requests are open than the configuration allows. Thread: the loop's. */
#ifndef COORDINATOR_SHED_H
#define COORDINATOR_SHED_H

#include "coordinator/store/store.h"

#define SHED_BEATS 5

struct shed_options {
	uint32_t max_lag_ms;   /* 0 = any */
	uint64_t max_queued;   /* writes, 0 = any */
	uint64_t max_inflight; /* requests, 0 = any */
};

struct shed {
	struct shed_options options;
	struct net_loop *loop;
	const struct store *store;
	struct net_timer timer;
	uint64_t beat_us;            /* when the last one came */
	uint64_t lag_us[SHED_BEATS]; /* how late the last ones were */
	unsigned next;
};

void shed_start(struct shed *shed); /* options, loop and store are set */
void shed_stop(struct shed *shed);
/* Why no more is taken, for people; NULL when there is room, or nobody measures it (shed NULL). */
const char *shed_reason(const struct shed *shed, uint64_t inflight);
/* One beat at `now_us`: what the timer calls. */
void shed_beat(struct shed *shed, uint64_t now_us);

#endif
