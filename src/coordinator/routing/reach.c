/* Whether anybody could serve a request at all: gates without a look at room (routing 13.2). */
#include "coordinator/routing/routing_internal.h"

#define REACH_LOOK 256 /* nodes asked about the request's shape; of one model they are nearly always alike */

/* Room comes back; nothing else does by waiting. */
static bool is_room(enum route_gate gate)
{
	return gate == ROUTE_OK || gate == ROUTE_CONCURRENCY || gate == ROUTE_THERMAL || gate == ROUTE_BUDGET ||
	       gate == ROUTE_MEMORY;
}

static bool named_could(struct route_fleet *fleet, const struct route_request *request)
{
	for (size_t i = 0; i < request->serial_count && i < ROUTE_SCAN; i++) {
		const struct route_node *node = map_get(&fleet->serials, request->serials[i]);
		if (node && is_room(route_check(fleet, node, request, fleet->now_us)))
			return true;
	}
	return false;
}

static bool owned_could(struct route_fleet *fleet, const struct route_request *request)
{
	struct route_group *owner = request->caller_account.len ? map_get(&fleet->owners, request->caller_account) : NULL;
	uint32_t left = ROUTE_SCAN;
	if (!owner)
		return false;
	LIST_EACH (link, &owner->nodes) {
		if (!left--)
			break;
		if (is_room(route_check(fleet, LIST_OF(link, struct route_node, owned), request, fleet->now_us)))
			return true;
	}
	return false;
}

static bool public_could(const struct route_fleet *fleet, const struct route_request *request)
{
	const struct route_model *model = route_model_find(fleet, request->model);
	uint32_t left = REACH_LOOK;
	for (uint32_t i = 0; model && i < model->class_count; i++) {
		const struct route_class *class = &model->classes[i];
		for (uint32_t rank = 0; rank < class->len && left; rank++, left--)
			if (is_room(route_request_gate(class->heap[rank].entry, request)))
				return true;
	}
	return false;
}

bool route_could_serve(struct route_fleet *fleet, const struct route_request *request, uint64_t now_us)
{
	route_advance(fleet, now_us);
	if (request->only)
		return is_room(route_check(fleet, request->only, request, now_us));
	if (request->serials)
		return named_could(fleet, request);
	return (!request->own_only && public_could(fleet, request)) || owned_could(fleet, request);
}

size_t route_owned(const struct route_fleet *fleet, struct str account, struct str model_id, size_t *serving)
{
	struct route_group *owner = account.len ? map_get(&fleet->owners, account) : NULL;
	const struct route_model *model = route_model_find(fleet, model_id);
	size_t owned = 0;
	*serving = 0;
	if (!owner)
		return 0;
	LIST_EACH (link, &owner->nodes) {
		if (owned++ == ROUTE_SCAN)
			break;
		const struct route_entry *entry = model ? route_node_entry(LIST_OF(link, struct route_node, owned), model) : NULL;
		*serving += entry && route_files_ok(entry);
	}
	return owned;
}
