#include "coordinator/gateway/hedges.h"

#include <stdlib.h>

#include "coordinator/routing/routing.h"

struct entry {
	char model[ROUTE_MODEL_SIZE];
	struct hedge hedge;
};

void hedges_init(struct hedges *hedges, const struct hedge_policy *policy)
{
	hedges->policy = *policy;
	map_init(&hedges->by_model);
	hedge_init(&hedges->others, policy);
}

void hedges_free(struct hedges *hedges)
{
	struct entry *entry;
	for (size_t cursor = 0; (entry = map_next(&hedges->by_model, &cursor));)
		free(entry);
	map_free(&hedges->by_model);
}

struct hedge *hedges_of(struct hedges *hedges, struct str model)
{
	struct entry *entry = map_get(&hedges->by_model, model);
	if (entry)
		return &entry->hedge;
	if (hedges->by_model.count >= HEDGES_MODELS || !(entry = malloc(sizeof *entry)))
		return &hedges->others;
	hedge_init(&entry->hedge, &hedges->policy);
	if (str_copy(model, entry->model, sizeof entry->model) && !map_put(&hedges->by_model, str_of(entry->model), entry, NULL))
		return &entry->hedge;
	free(entry);
	return &hedges->others;
}
