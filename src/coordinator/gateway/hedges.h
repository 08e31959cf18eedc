/* A bucket of hedging for each model: what one model's silent providers cost takes nothing from the others' (routing 10).
 * Bounded: models beyond HEDGES_MODELS share one. Thread: the loop's. */
#ifndef COORDINATOR_GATEWAY_HEDGES_H
#define COORDINATOR_GATEWAY_HEDGES_H

#include "coordinator/routing/hedge.h"
#include "core/map.h"

#define HEDGES_MODELS 1024

struct hedges {
	struct hedge_policy policy;
	struct map by_model;
	struct hedge others;
};

void hedges_init(struct hedges *hedges, const struct hedge_policy *policy);
void hedges_free(struct hedges *hedges);
/* Never NULL; good until hedges_free. */
struct hedge *hedges_of(struct hedges *hedges, struct str model);

#endif
