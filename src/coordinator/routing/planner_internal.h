/* Shapes shared by planner.c (demand and targets) and planner_device.c (who loads what). */
#ifndef COORDINATOR_PLANNER_INTERNAL_H
#define COORDINATOR_PLANNER_INTERNAL_H

#include "coordinator/routing/planner.h"
#include "coordinator/routing/routing_internal.h"

#define PLANNER_RECENT_LOADS 16
#define PLANNER_KEY_SIZE     96

/* A machine that loads or loaded lately; it outlives its connection. */
struct planner_device {
	struct list_link used; /* in planner->used, least recently first */
	struct list_link open; /* in planner->open while a command is unanswered */
	uint64_t used_us;
	uint64_t open_until_us;
	uint64_t blocked_until_us;
	uint64_t loads_us[PLANNER_RECENT_LOADS]; /* ring of starts; 0 = none */
	unsigned next_load;
	char model[ROUTE_MODEL_SIZE]; /* of the open command */
	char key[PLANNER_KEY_SIZE];
};

/* A rate that forgets: each event counts 1/span, less the older it is. */
struct planner_rate {
	double per_s;
	uint64_t at_us;
};

/* What is known about the demand for one model. */
struct planner_demand {
	struct planner_rate fast, slow, spill;
	double prompt_tokens, output_tokens; /* means that forget */
	uint32_t events[PLANNER_EVENTS];
	uint64_t last_event_us;
	uint32_t queue, min_warm;
	bool tools, vision, some_tools, some_vision; /* of its queue, as in struct queue_demand */
	uint64_t target_since_us;
	struct planner_view view; /* view.model points at id */
	char id[];
};

struct planner {
	struct route_fleet *fleet;
	struct planner_options options;
	struct map demands, devices;
	struct list used, open;
	uint32_t turn; /* of ticks: where sampling starts */
};

/* planner_device.c */
void planner_devices_expire(struct planner *planner, uint64_t now_us);
void planner_devices_free(struct planner *planner);
/* Quiet, allowed to load, and not loading. */
bool planner_device_free(const struct planner *planner, const struct route_node *node, uint64_t now_us);
bool planner_device_begin(struct planner *planner, const struct route_entry *entry,
                          uint64_t now_us); /* false: no memory, or it loads already */
/* Nodes on which the model is loading. */
uint32_t planner_loading(const struct planner *planner, struct str model);
struct planner_demand *planner_demand_find(const struct planner *planner, struct str model);

#endif
