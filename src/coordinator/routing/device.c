/* Devices, by their durable identity: what is held against one is still there when it comes back by another connection. All of
 * it is bounded: devices that are away longest are forgotten first. */
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

static struct str device_id(const struct route_device *device)
{
	return (struct str){device->id, device->id_len};
}

static struct route_device *device_new(struct route_fleet *fleet, struct str id)
{
	struct route_device *device = calloc(1, sizeof *device + id.len);
	if (!device)
		return NULL;
	if (id.len)
		memcpy(device->id, id.at, id.len);
	device->id_len = (uint16_t)id.len;
	if (id.len && map_put(&fleet->devices, device_id(device), device, NULL)) {
		free(device);
		return NULL;
	}
	return device;
}

static void device_free(struct route_fleet *fleet, struct route_device *device)
{
	while (device->records)
		route_record_free(fleet, device->records);
	if (device->health)
		route_health_free(fleet, device->health);
	list_remove(&fleet->departed, &device->departed);
	if (device->id_len)
		map_remove(&fleet->devices, device_id(device));
	free(device->learnt);
	free(device);
}

void route_devices_free(struct route_fleet *fleet)
{
	for (struct list_link *link; (link = list_first(&fleet->departed));)
		device_free(fleet, LIST_OF(link, struct route_device, departed));
	map_free(&fleet->devices);
	heap_free(&fleet->timers);
}

void route_device_refresh(struct route_fleet *fleet, const struct route_device *device)
{
	for (struct route_node *node = device->nodes; node; node = node->same_device)
		route_node_reloaded(fleet, node);
}

/* --- a node and its device --- */

static void attach(struct route_fleet *fleet, struct route_node *node, struct route_device *device)
{
	node->device = device;
	node->same_device = device->nodes;
	device->nodes = node;
	list_remove(&fleet->departed, &device->departed);
	for (uint32_t i = 0; i < node->entry_count; i++) {
		node->entries[i].recorded = route_record_find(device, node->entries[i].model) != NULL;
		route_learnt_apply(&node->entries[i]);
	}
}

void route_device_leave(struct route_fleet *fleet, struct route_node *node)
{
	struct route_device *device = node->device;
	if (!device)
		return;
	LIST_EACH (link, &node->reservations)
		(void)route_probe_end(LIST_OF(link, struct route_reservation, link));
	if (device->id_len)
		route_learnt_keep(device);
	struct route_node **at = &device->nodes;
	while (*at != node)
		at = &(*at)->same_device;
	*at = node->same_device;
	node->same_device = NULL;
	node->device = NULL;
	for (uint32_t i = 0; i < node->entry_count; i++)
		node->entries[i].recorded = false;
	if (device->nodes) {
		route_device_refresh(fleet, device);
		return;
	}
	list_push_back(&fleet->departed, &device->departed);
	if (!device->id_len)
		device_free(fleet, device);
	else if (fleet->departed.count > ROUTE_MAX_DEPARTED)
		device_free(fleet, LIST_OF(list_first(&fleet->departed), struct route_device, departed));
}

void route_device_join(struct route_fleet *fleet, struct route_node *node, struct str id)
{
	if (!id.len || (node->device && str_eq(id, device_id(node->device))))
		return;
	struct route_device *device = map_get(&fleet->devices, id);
	if (!device)
		device = device_new(fleet, id);
	route_device_leave(fleet, node);
	if (device)
		attach(fleet, node, device);
}

struct route_device *route_device_recall(struct route_fleet *fleet, struct str id)
{
	struct route_device *device = map_get(&fleet->devices, id);
	if (device || !id.len || fleet->departed.count == ROUTE_MAX_DEPARTED)
		return device;
	device = device_new(fleet, id);
	if (device)
		list_push_back(&fleet->departed, &device->departed);
	return device;
}

struct route_device *route_device_of(struct route_fleet *fleet, struct route_node *node)
{
	if (node->device)
		return node->device;
	struct route_device *device = device_new(fleet, STR_NONE);
	if (device)
		attach(fleet, node, device);
	return device;
}

struct reputation route_node_reputation(const struct route_node *node)
{
	return node->device ? node->device->reputation : (struct reputation){0};
}

void route_node_challenged(struct route_fleet *fleet, struct route_node *node, bool passed)
{
	struct route_device *device = route_device_of(fleet, node);
	if (device)
		reputation_challenge(&device->reputation, passed);
}

void route_node_seen(struct route_fleet *fleet, struct route_node *node, uint64_t now_us)
{
	(void)fleet;
	if (node->device)
		reputation_seen(&node->device->reputation, now_us);
}

/* --- records --- */

static bool is_record_of(const struct route_record *record, const struct route_model *model)
{
	return str_eq((struct str){record->model, record->model_len}, (struct str){model->id, model->id_len});
}

struct route_record *route_record_find(const struct route_device *device, const struct route_model *model)
{
	if (!device)
		return NULL;
	struct route_record *record = device->records;
	while (record && !is_record_of(record, model))
		record = record->next;
	return record;
}

struct route_record *route_record_of(const struct route_entry *entry)
{
	return entry->recorded ? route_record_find(entry->node->device, entry->model) : NULL;
}

static void mark_entries(const struct route_record *record, bool recorded)
{
	for (struct route_node *node = record->device->nodes; node; node = node->same_device)
		for (uint32_t i = 0; i < node->entry_count; i++)
			if (is_record_of(record, node->entries[i].model))
				node->entries[i].recorded = recorded;
}

static void forget_one_too_many(struct route_fleet *fleet, struct route_device *device)
{
	struct route_record *oldest = device->records;
	unsigned count = oldest != NULL;
	for (; oldest && oldest->next; oldest = oldest->next)
		count++;
	if (count == ROUTE_MAX_RECORDS)
		route_record_free(fleet, oldest);
}

struct route_record *route_record_make(struct route_fleet *fleet, struct route_device *device, struct str model)
{
	struct route_record *record = calloc(1, sizeof *record + model.len);
	if (!record)
		return NULL;
	forget_one_too_many(fleet, device);
	memcpy(record->model, model.at, model.len);
	record->model_len = model.len;
	record->device = device;
	record->next = device->records;
	device->records = record;
	mark_entries(record, true);
	return record;
}

struct route_record *route_record_get(struct route_fleet *fleet, struct route_node *node, struct route_entry *entry)
{
	struct route_device *device = route_device_of(fleet, node);
	if (entry->recorded || !device)
		return route_record_of(entry);
	return route_record_make(fleet, device, (struct str){entry->model->id, entry->model->id_len});
}

void route_record_free(struct route_fleet *fleet, struct route_record *record)
{
	heap_remove(&fleet->timers, &record->timer.item);
	mark_entries(record, false);
	struct route_record **at = &record->device->records;
	while (*at != record)
		at = &(*at)->next;
	*at = record->next;
	free(record);
}

/* --- health --- */

struct route_health *route_health_get(struct route_device *device)
{
	if (!device->health)
		device->health = calloc(1, sizeof *device->health);
	if (!device->health)
		return NULL;
	device->health->device = device;
	device->health->timer.of_device = true;
	return device->health;
}

void route_health_free(struct route_fleet *fleet, struct route_health *health)
{
	heap_remove(&fleet->timers, &health->timer.item);
	health->device->health = NULL;
	free(health);
}
