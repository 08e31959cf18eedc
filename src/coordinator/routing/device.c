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
	device->id_len = id.len;
	list_init(&device->nodes);
	list_init(&device->records);
	if (id.len && map_put(&fleet->devices, device_id(device), device, NULL)) {
		free(device);
		return NULL;
	}
	return device;
}

static void device_free(struct route_fleet *fleet, struct route_device *device)
{
	for (struct list_link *link; (link = list_first(&device->records));)
		route_record_free(fleet, LIST_OF(link, struct route_record, link));
	if (device->health)
		route_health_free(fleet, device->health);
	list_remove(&fleet->departed, &device->departed);
	if (device->id_len)
		map_remove(&fleet->devices, device_id(device));
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
	LIST_EACH (link, &device->nodes)
		route_node_reloaded(fleet, LIST_OF(link, struct route_node, same_device));
}

/* --- a node and its device --- */

static void attach(struct route_fleet *fleet, struct route_node *node, struct route_device *device)
{
	node->device = device;
	list_push_back(&device->nodes, &node->same_device);
	list_remove(&fleet->departed, &device->departed);
	for (uint32_t i = 0; i < node->entry_count; i++)
		node->entries[i]->record = route_record_find(device, node->entries[i]->model);
}

void route_device_leave(struct route_fleet *fleet, struct route_node *node)
{
	struct route_device *device = node->device;
	if (!device)
		return;
	LIST_EACH (link, &node->reservations)
		(void)route_probe_end(LIST_OF(link, struct route_reservation, link));
	list_remove(&device->nodes, &node->same_device);
	node->device = NULL;
	for (uint32_t i = 0; i < node->entry_count; i++)
		node->entries[i]->record = NULL;
	if (device->nodes.count) {
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
	LIST_EACH (link, &device->records) {
		struct route_record *record = LIST_OF(link, struct route_record, link);
		if (is_record_of(record, model))
			return record;
	}
	return NULL;
}

static void point_entries(const struct route_device *device, const struct route_record *record, struct route_record *at)
{
	LIST_EACH (link, &device->nodes) {
		struct route_node *node = LIST_OF(link, struct route_node, same_device);
		for (uint32_t i = 0; i < node->entry_count; i++)
			if (is_record_of(record, node->entries[i]->model))
				node->entries[i]->record = at;
	}
}

struct route_record *route_record_get(struct route_fleet *fleet, struct route_node *node, struct route_entry *entry)
{
	struct route_device *device = route_device_of(fleet, node);
	if (entry->record || !device)
		return entry->record;
	const struct route_model *model = entry->model;
	struct route_record *record = calloc(1, sizeof *record + model->id_len);
	if (!record)
		return NULL;
	if (device->records.count == ROUTE_MAX_RECORDS)
		route_record_free(fleet, LIST_OF(list_first(&device->records), struct route_record, link));
	memcpy(record->model, model->id, model->id_len);
	record->model_len = model->id_len;
	record->device = device;
	list_push_back(&device->records, &record->link);
	point_entries(device, record, record);
	return record;
}

void route_record_free(struct route_fleet *fleet, struct route_record *record)
{
	heap_remove(&fleet->timers, &record->timer.item);
	point_entries(record->device, record, NULL);
	list_remove(&record->device->records, &record->link);
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
