/* Which models should be in memory, and on which nodes: from demand to load commands (routing 12). Pure, like the rest of
 * routing/: the server and the simulator run the same code.
 *
 * Nothing is ever unloaded from here: a node evicts what it did not use for longest. What a tick costs does not grow with the
 * fleet: of each model at most PLANNER_LOOK nodes are looked at. Thread: that of the fleet. */
#ifndef COORDINATOR_PLANNER_H
#define COORDINATOR_PLANNER_H

#include "coordinator/routing/queue.h"
#include "coordinator/routing/routing.h"

#define PLANNER_LOADS_MAX   16  /* commands of one tick */
#define PLANNER_LOOK        512 /* nodes considered for one model in one tick */
#define PLANNER_MODELS_MAX  4096
#define PLANNER_DEVICES_MAX 65536 /* whose recent loads are remembered */

struct planner;

struct planner_options {
	/* 0 = the chapter's default */
	double decode_floor_tps;       /* 15: so fast must each answer of a full node still be */
	uint32_t burst_buffer;         /* 1: nodes beyond what the load needs */
	uint32_t fallback_places;      /* 4: answers at once of a node whose rate nobody knows */
	uint32_t loads_at_once;        /* 4: in one tick and for one model, when the gap is small */
	uint32_t loads_open;           /* 16: commands without an answer, fleet-wide */
	double ramp_fraction;          /* 0.5 of the gap in one tick */
	uint64_t dwell_us;             /* 5 min: a target that was raised is not lowered sooner */
	uint64_t load_timeout_us;      /* 2 min: a command is forgotten then, when no load time was measured */
	uint64_t retry_us;             /* 30 s: a node that failed gets no other command sooner */
	uint32_t device_loads;         /* 6 loads of one device ... */
	uint64_t device_loads_span_us; /* ... in 10 min: no thrash */
};

/* options may be NULL. NULL when out of memory. */
struct planner *planner_new(struct route_fleet *fleet, const struct planner_options *options);
void planner_free(struct planner *planner);

/* --- demand --- */

/* One request for the model: its size, what it is likely to produce, its shape. */
void planner_arrival(struct planner *planner, const struct route_request *request, uint64_t now_us);

enum planner_event {
	PLANNER_CAPACITY_REJECT, /* no node had room */
	PLANNER_TTFT_MISS,       /* no content by the deadline */
	PLANNER_COLD_DISPATCH,   /* sent to a node that had to load the model first */
	PLANNER_HEDGE_STARTED,
	PLANNER_HEDGE_WON,
	PLANNER_EVENTS
};
void planner_note(struct planner *planner, struct str model, enum planner_event event, uint64_t now_us);
/* Who waits for the model now. */
void planner_queue(struct planner *planner, struct str model, const struct queue_demand *queue, uint64_t now_us);
/* So many nodes keep the model in memory whatever the demand; 0 ends it. DB_E_LIMIT, DB_E_NOMEM. */
enum db_err planner_keep_warm(struct planner *planner, struct str model, uint32_t nodes);

/* --- commands --- */

struct planner_load {
	struct route_node *node;
	struct str model; /* borrowed until the next call */
};
/* Every 10 s, and soon after a request had to wait. Each command it returns counts as given until planner_load_ended, or the
 * time-out. */
size_t planner_tick(struct planner *planner, uint64_t now_us, struct planner_load out[PLANNER_LOADS_MAX]);

enum planner_end {
	PLANNER_LOADED,
	PLANNER_FAILED,    /* the node tries again no sooner than retry_us */
	PLANNER_NOT_FOUND, /* the node does not have the model after all: not for load_timeout_us */
	PLANNER_NOT_SENT,  /* the command did not get out */
};
/* What became of a command. Loads that nobody commanded are counted as well: they use the device. */
void planner_load_ended(struct planner *planner, struct route_node *node, struct str model, enum planner_end end,
                        uint64_t now_us);
void planner_node_gone(struct planner *planner, const struct route_node *node); /* before route_node_remove */

/* --- views --- */

struct planner_view {
	struct str model;
	uint32_t warm, eligible_cold, loading, target, min_warm, queue;
	double load;           /* answers at once that the demand amounts to */
	uint32_t node_places;  /* answers at once of one node at a good rate */
	double arrivals_per_s; /* decayed */
	double service_s;      /* of one answer */
	bool pressure;
	uint64_t loads, failures; /* since the start */
};
/* As the last tick saw it; in no order. Returns how many there are. */
size_t planner_views(const struct planner *planner, struct planner_view *out, size_t max);
size_t planner_open_loads(const struct planner *planner);

#endif
