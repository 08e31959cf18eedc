/* Requests made up from a seed, in the shape of published traces (docs/developer/simulator.md names them): bursty arrivals,
 * heavy-tailed prompts and outputs, conversations that grow, tenants of very different size. Every policy gets the same ones.
 * Thread: one at a time. */
#ifndef SWARM_SIM_WORKLOAD_H
#define SWARM_SIM_WORKLOAD_H

#include "swarm/sim/scenario.h"

#define SIM_KNOWN_TURNS 3 /* before a turn, whose prompts it begins with */

struct sim_request {
	uint64_t at_us;
	uint32_t tenant, conversation, turn; /* turn from 0 */
	uint32_t prompt, output;             /* tokens; output is what the model will say, which only an oracle knows */
	uint32_t shared;                     /* of the prompt: the conversation so far */
	uint32_t
	    asked[SIM_KNOWN_TURNS]; /* ... of which so much was the prompt of the turn before, of the one before that; 0: none */
	uint32_t max_tokens;
	uint16_t model;
	bool tools;
	bool vision;     /* with pictures */
	bool leaves;     /* its client goes away in the middle of the answer */
	bool bad;        /* refused by the machine, as its client's mistake */
	bool self_route; /* by its tenant's own machines only */
	bool prefer_own; /* by those first */
};

struct sim_trace {
	struct sim_request *requests; /* in order of time */
	size_t count;
	double rps, capacity_rps; /* asked for at first; what the fleet can serve at the goal's decode rate */
};

/* DB_E_LIMIT above SIM_MAX_REQUESTS. */
#define SIM_MAX_REQUESTS 20000000
enum db_err sim_trace_make(const struct sim_scenario *scenario, struct sim_trace *out, struct error *error);
void sim_trace_free(struct sim_trace *trace);

/* Which models the nth machine of a group offers, the first being the one that may be in memory at the start. Returns how many.
 */
uint32_t sim_offered(const struct sim_scenario *scenario, const struct sim_group *group, uint32_t nth,
                     uint16_t out[SIM_MAX_BOX_MODELS]);

#endif
