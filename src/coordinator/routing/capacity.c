#include "coordinator/routing/routing_internal.h"

#define TYPICAL_PROMPT_TOKENS 512

static void add_entry(const struct route_entry *entry, bool offered, struct route_capacity *out)
{
	static const struct route_request typical = {.prompt_tokens = TYPICAL_PROMPT_TOKENS};
	if (!entry->shown)
		return;
	out->running += entry->slot.state == ROUTE_SLOT_RUNNING;
	out->cold += !route_resident(entry);
	out->aggregate_tps += (double)entry->decode_tps;
	out->budget_tokens += entry->slot.budget_max;
	if (entry->slot.budget_max)
		out->free_tokens += entry->free_tokens;
	if (!offered || entry->free_tokens == 0)
		return;
	out->can_accept = true;
	double ttft = route_entry_ttft(entry, &typical);
	if (ttft >= 0 && (out->ttft_ms < 0 || ttft < out->ttft_ms))
		out->ttft_ms = ttft;
}

static struct route_capacity capacity_of(const struct route_model *model)
{
	struct route_capacity out = {.id = {model->id, model->id_len},
	                             .routable = model->routable,
	                             .warm = model->warm,
	                             .active = model->active,
	                             .ttft_ms = -1};
	for (uint32_t i = ROUTE_CLASS_FULL; i < model->class_count; i++)
		for (uint32_t rank = 0; rank < model->classes[i].len; rank++)
			add_entry(model->classes[i].heap[rank].entry, i >= ROUTE_CLASS_FIRST, &out);
	return out;
}

size_t route_capacities(struct route_fleet *fleet, uint64_t now_us, struct route_capacity *out, size_t max)
{
	size_t count = 0;
	route_advance(fleet, now_us);
	for (size_t i = 0; i < fleet->model_count; i++) {
		if (!fleet->sorted[i]->shown)
			continue;
		if (count < max)
			out[count] = capacity_of(fleet->sorted[i]);
		count++;
	}
	return count;
}
