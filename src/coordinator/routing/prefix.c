/* Which nodes hold cached prefixes of which prompts (routing 7 "Affinity", design 7): digests that nodes advertise, found from
 * those of a request. What they are digests of is nobody's business here. */
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

/* One digest of one node. Those of the same digest form a chain; its first is in fleet->holders. */
struct route_holder {
	struct route_holder *next;
	struct route_holdings *of;
	uint64_t digest;
};

/* What a node advertised for one model. */
struct route_holdings {
	struct route_holdings *next; /* of the node */
	struct route_node *node;
	const struct route_model *model;
	uint32_t count;
	struct route_holder at[];
};

static struct str key_of(const struct route_holder *holder)
{
	return (struct str){(const char *)&holder->digest, sizeof holder->digest};
}

static void file_holder(struct route_fleet *fleet, struct route_holder *holder)
{
	struct route_holder *first = map_get(&fleet->holders, key_of(holder));
	if (first) {
		holder->next = first->next;
		first->next = holder;
	} else if (map_put(&fleet->holders, key_of(holder), holder, NULL)) {
		holder->of = NULL; /* out of memory: not found, and no harm done */
	}
}

static void unfile_holder(struct route_fleet *fleet, struct route_holder *holder)
{
	struct route_holder *first = holder->of ? map_get(&fleet->holders, key_of(holder)) : NULL;
	if (!first)
		return;
	if (first == holder) {
		map_remove(&fleet->holders, key_of(holder));
		if (holder->next)
			(void)map_put(&fleet->holders, key_of(holder->next), holder->next, NULL); /* into the place that got free */
		return;
	}
	while (first->next != holder)
		first = first->next;
	first->next = holder->next;
}

static struct route_holdings **find(const struct route_node *node, const struct route_model *model)
{
	struct route_holdings **at = (struct route_holdings **)(uintptr_t)&node->holdings;
	while (*at && (*at)->model != model)
		at = &(*at)->next;
	return at;
}

static void drop(struct route_fleet *fleet, struct route_holdings **at)
{
	struct route_holdings *holdings = *at;
	if (!holdings)
		return;
	for (uint32_t i = 0; i < holdings->count; i++)
		unfile_holder(fleet, &holdings->at[i]);
	*at = holdings->next;
	free(holdings);
}

void route_holdings_drop(struct route_fleet *fleet, struct route_entry *entry)
{
	if (entry->holds)
		drop(fleet, find(entry->node, entry->model));
	entry->holds = false;
}

static bool is_same(const struct route_holdings *holdings, const uint64_t *digests, size_t count)
{
	if (!holdings || holdings->count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (holdings->at[i].digest != digests[i])
			return false;
	return true;
}

static struct route_holdings *holdings_new(struct route_entry *entry, const uint64_t *digests, size_t count)
{
	struct route_holdings *holdings = calloc(1, sizeof *holdings + count * sizeof holdings->at[0]);
	if (!holdings)
		return NULL;
	holdings->node = entry->node;
	holdings->model = entry->model;
	for (size_t i = 0; i < count; i++) {
		bool named_before = false;
		for (uint32_t j = 0; j < holdings->count; j++)
			named_before |= holdings->at[j].digest == digests[i];
		if (!named_before)
			holdings->at[holdings->count++] = (struct route_holder){.of = holdings, .digest = digests[i]};
	}
	return holdings;
}

enum db_err route_node_set_prefixes(struct route_fleet *fleet, struct route_node *node, struct str model_id,
                                    const uint64_t *digests, size_t count)
{
	const struct route_model *model = route_model_find(fleet, model_id);
	struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
	if (!entry)
		return DB_E_NOT_FOUND;
	count = count < ROUTE_MAX_PREFIXES ? count : ROUTE_MAX_PREFIXES;
	if (entry->holds ? is_same(*find(node, model), digests, count) : !count)
		return DB_OK; /* as nearly every heartbeat */
	route_holdings_drop(fleet, entry);
	if (!count)
		return DB_OK;
	struct route_holdings *holdings = holdings_new(entry, digests, count);
	if (!holdings)
		return DB_E_NOMEM;
	holdings->next = node->holdings;
	node->holdings = holdings;
	entry->holds = true;
	for (uint32_t i = 0; i < holdings->count; i++)
		file_holder(fleet, &holdings->at[i]);
	return DB_OK;
}

uint64_t route_cached_tokens(const struct route_entry *entry, const struct route_request *request)
{
	if (!entry->holds || !request->prefix_count)
		return 0;
	const struct route_holdings *holdings = *find(entry->node, entry->model);
	for (size_t i = 0; i < request->prefix_count; i++)
		for (uint32_t j = 0; j < holdings->count; j++)
			if (holdings->at[j].digest == request->prefixes[i].digest)
				return request->prefixes[i].tokens < request->prompt_tokens ? request->prefixes[i].tokens
				                                                            : request->prompt_tokens;
	return 0;
}

size_t route_holders_of(const struct route_fleet *fleet, const struct route_model *model, uint64_t digest,
                        struct route_entry **out, size_t max)
{
	size_t count = 0;
	const struct route_holder *holder = map_get(&fleet->holders, (struct str){(const char *)&digest, sizeof digest});
	for (uint32_t looked = 0; holder && count < max && looked < ROUTE_SCAN; holder = holder->next, looked++) {
		struct route_entry *entry = holder->of->model == model ? route_node_entry(holder->of->node, model) : NULL;
		if (entry)
			out[count++] = entry;
	}
	return count;
}

size_t route_prefix_count(const struct route_fleet *fleet)
{
	return fleet->holders.count;
}
