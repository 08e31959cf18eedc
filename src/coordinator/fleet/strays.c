/* Requests that providers still work on though nobody waits for them (protocol-and-trust 4.3). */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"

#define STRAYS_MAX     4096
#define STRAY_QUIET_US (10ull * 1000000)
#define STRAY_ID_MAX   64

struct stray {
	struct list_link link; /* in fleet->stray_order, last told first to go */
	uint64_t told_us;
	size_t id_len;
	char id[];
};

static void forget(struct fleet *fleet, struct stray *stray)
{
	list_remove(&fleet->stray_order, &stray->link);
	map_remove(&fleet->strays, (struct str){stray->id, stray->id_len});
	free(stray);
}

static struct stray *remember(struct fleet *fleet, struct str id)
{
	if (fleet->stray_order.count == STRAYS_MAX)
		forget(fleet, LIST_OF(list_first(&fleet->stray_order), struct stray, link));
	struct stray *stray = calloc(1, sizeof *stray + id.len);
	if (!stray)
		return NULL;
	memcpy(stray->id, id.at, id.len);
	stray->id_len = id.len;
	if (map_put(&fleet->strays, (struct str){stray->id, id.len}, stray, NULL)) {
		free(stray);
		return NULL;
	}
	return stray;
}

bool strays_note(struct fleet *fleet, struct str request_id, uint64_t now_us)
{
	if (!request_id.len || request_id.len > STRAY_ID_MAX)
		return false;
	struct stray *stray = map_get(&fleet->strays, request_id);
	if (stray && now_us < stray->told_us + STRAY_QUIET_US)
		return false;
	if (!stray)
		stray = remember(fleet, request_id);
	if (!stray)
		return false;
	stray->told_us = now_us;
	list_remove(&fleet->stray_order, &stray->link);
	list_push_back(&fleet->stray_order, &stray->link);
	return true;
}

void strays_free(struct fleet *fleet)
{
	for (struct list_link *link; (link = list_first(&fleet->stray_order));)
		forget(fleet, LIST_OF(link, struct stray, link));
	map_free(&fleet->strays);
}
