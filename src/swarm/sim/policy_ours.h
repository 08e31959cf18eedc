/* What the policies around the server's own routing share: the objects themselves, and how they are told and asked. */
#ifndef SWARM_SIM_POLICY_OURS_H
#define SWARM_SIM_POLICY_OURS_H

#include "coordinator/routing/alias.h"
#include "coordinator/routing/learn.h"
#include "coordinator/routing/planner.h"
#include "coordinator/routing/queue.h"
#include "swarm/sim/world.h"

#define OURS_TIE_MS 3000.0 /* costs so near are alike (routing 7) */

struct ours {
	struct route_fleet *fleet;
	struct planner *planner;
	struct queues *queues;
	struct alias_table *aliases;
	struct learn learn;
	struct shares *shares;
	const char *dedicated[1];
};

struct str ours_model_id(const struct sim_world *world, uint16_t model);
/* As the gateway would ask; `excluded` has room for what the call excludes. */
struct route_request ours_request(const struct sim_world *world, struct sim_call *call, struct route_node **excluded);
/* After route_select. */
enum sim_answer ours_answer(struct sim_world *world, enum db_err err, const struct route_request *request,
                            const struct route_decision *decision, struct route_reservation *reservation, struct sim_pick *out);

/* ours_alias.c: public names by the server's own table. */
enum db_err ours_aliases_begin(struct sim_world *world);
uint16_t ours_resolve(struct sim_world *world, struct sim_call *call, const struct sim_alias *alias);
void ours_renamed(struct sim_world *world, const struct sim_alias *alias);
void ours_alias_note(struct sim_world *world, const struct sim_attempt *attempt, enum sim_end end);
void ours_alias_end(const struct sim_world *world, struct sim_summary *out);

/* scan.c: what a look at every machine finds, by the rule of routing 7 over the server's own gates and costs. */
struct ours_scan {
	struct route_node *node; /* NULL: none */
	double cost_ms, cheapest_ms;
};
struct ours_scan ours_scan(struct sim_world *world, const struct route_request *request, uint16_t model);

#endif
