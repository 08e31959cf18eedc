/* What was learnt outlives connections: rates of a device for the next connection of it, and what is known of a model for when
 * somebody advertises it again. Bounded: what is away longest is forgotten first. */
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

/* --- models --- */

static struct str past_id(const struct route_past_model *past)
{
	return (struct str){past->id, past->id_len};
}

struct route_past_model *route_past_make(struct route_fleet *fleet, struct str id)
{
	if (map_get(&fleet->past_models, id))
		return NULL;
	if (fleet->past_order.count == ROUTE_MAX_PAST_MODELS)
		route_past_free(fleet, LIST_OF(list_first(&fleet->past_order), struct route_past_model, link));
	struct route_past_model *past = calloc(1, sizeof *past + id.len);
	if (!past)
		return NULL;
	memcpy(past->id, id.at, id.len);
	past->id_len = id.len;
	if (map_put(&fleet->past_models, past_id(past), past, NULL)) {
		free(past);
		return NULL;
	}
	list_push_back(&fleet->past_order, &past->link);
	return past;
}

void route_past_free(struct route_fleet *fleet, struct route_past_model *past)
{
	list_remove(&fleet->past_order, &past->link);
	map_remove(&fleet->past_models, past_id(past));
	route_rates_free(past->known.rates, past->known.rate_count);
	free(past);
}

/* Names that strangers make up are not kept: nobody measured anything of them. */
static bool is_known(const struct route_model *model)
{
	return model->known.rate_count || model->known.ratios.total > 0;
}

void route_past_keep(struct route_fleet *fleet, struct route_model *model)
{
	struct route_past_model *past = is_known(model) ? route_past_make(fleet, (struct str){model->id, model->id_len}) : NULL;
	if (!past)
		return;
	past->known = model->known;
	model->known.rates = NULL;
	model->known.rate_count = 0;
}

void route_past_recall(struct route_fleet *fleet, struct route_model *model)
{
	struct route_past_model *past = map_get(&fleet->past_models, (struct str){model->id, model->id_len});
	if (!past)
		return;
	model->known = past->known;
	past->known.rates = NULL;
	past->known.rate_count = 0;
	route_past_free(fleet, past);
}

/* --- devices --- */

static uint64_t digest_of(const struct route_model *model)
{
	static const uint64_t seed[2]; /* the same in every process; who finds two ids alike deceives about its own device alone */
	return map_hash(seed, (struct str){model->id, model->id_len});
}

static const struct route_learnt_rate *find_rate(const struct route_learnt_rate *rates, size_t count, uint64_t model)
{
	for (size_t i = 0; i < count; i++)
		if (rates[i].model == model)
			return &rates[i];
	return NULL;
}

void route_learnt_apply(struct route_entry *entry)
{
	const struct route_device *device = entry->node->device;
	const struct route_learnt *learnt = device ? device->learnt : NULL;
	const struct route_learnt_rate *rate = learnt ? find_rate(learnt->at, learnt->count, digest_of(entry->model)) : NULL;
	if (!rate)
		return;
	if (!(entry->solo_tps > 0))
		entry->solo_tps = rate->solo_tps;
	if (!entry->load_time_ms)
		entry->load_time_ms = rate->load_time_ms;
}

size_t route_learnt_of(const struct route_device *device, struct route_learnt_rate out[ROUTE_MAX_LEARNT])
{
	const struct route_node *node = device->nodes;
	const struct route_learnt *before = device->learnt;
	size_t count = 0;
	for (uint32_t i = 0; node && i < node->entry_count && count < ROUTE_MAX_LEARNT; i++) {
		const struct route_entry *entry = &node->entries[i];
		if (entry->solo_tps > 0 || entry->load_time_ms)
			out[count++] = (struct route_learnt_rate){digest_of(entry->model), entry->solo_tps, entry->load_time_ms};
	}
	size_t measured = count;
	for (uint32_t i = 0; before && i < before->count && count < ROUTE_MAX_LEARNT; i++)
		if (!find_rate(out, measured, before->at[i].model))
			out[count++] = before->at[i];
	return count;
}

void route_learnt_set(struct route_device *device, const struct route_learnt_rate *rates, size_t count)
{
	struct route_learnt *learnt = NULL;
	if (count)
		learnt = malloc(sizeof *learnt + count * sizeof *learnt->at);
	if (!learnt && count)
		return; /* out of memory: what was known before is no worse than nothing */
	if (learnt) {
		learnt->count = (uint32_t)count;
		memcpy(learnt->at, rates, count * sizeof *rates);
	}
	free(device->learnt);
	device->learnt = learnt;
}

void route_learnt_keep(struct route_device *device)
{
	struct route_learnt_rate rates[ROUTE_MAX_LEARNT];
	size_t count = route_learnt_of(device, rates);
	route_learnt_set(device, rates, count);
	if (device->nodes && device->nodes->facts.network_ms > 0)
		device->network_ms = device->nodes->facts.network_ms;
}
