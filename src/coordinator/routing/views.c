#include "coordinator/routing/routing_internal.h"

static enum route_trust best_trust(const struct route_model *model)
{
	for (int trust = ROUTE_TRUST_HARDWARE; trust > ROUTE_TRUST_NONE; trust--)
		if (model->trust[trust])
			return (enum route_trust)trust;
	return ROUTE_TRUST_NONE;
}

size_t route_models(struct route_fleet *fleet, uint64_t now_us, struct route_model_view *out, size_t max)
{
	size_t count = 0;
	route_advance(fleet, now_us);
	for (size_t i = 0; i < fleet->model_count; i++) {
		const struct route_model *model = fleet->sorted[i];
		if (!model->shown)
			continue;
		if (count < max)
			out[count] = (struct route_model_view){
			    .id = {model->id, model->id_len},
			    .nodes = model->shown,
			    .routable = model->routable,
			    .warm = model->warm,
			    .attested = model->trust[ROUTE_TRUST_SELF_SIGNED] + model->trust[ROUTE_TRUST_HARDWARE],
			    .best_trust = best_trust(model),
			    .active = model->active,
			    .size_bytes = model->size_bytes,
			    .quantization = str_of(model->quantization),
			    .context_tokens = model->context_tokens,
			    .can = model->can,
			};
		count++;
	}
	return count;
}

uint64_t route_models_version(struct route_fleet *fleet, uint64_t now_us)
{
	route_advance(fleet, now_us);
	return fleet->views_version;
}

uint32_t route_model_routable(const struct route_fleet *fleet, struct str id)
{
	const struct route_model *model = route_model_find(fleet, id);
	return model ? model->routable : 0;
}

bool route_model_dedicated(const struct route_fleet *fleet, struct str id)
{
	const struct route_model *model = route_model_find(fleet, id);
	return model && model->family;
}

uint64_t route_model_context(const struct route_fleet *fleet, struct str id)
{
	const struct route_model *model = route_model_find(fleet, id);
	return model ? model->context_tokens : 0;
}

size_t route_node_count(const struct route_fleet *fleet)
{
	return fleet->all_nodes.count;
}
