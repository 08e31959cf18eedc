/* Which machine loads what, and how often it may: by device, so that a reconnect forgets nothing. */
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/routing/planner_internal.h"

#define LOAD_TIME_SHARE 3 /* a load may take so many times as long as it took before */

static void key_of(const struct route_node *node, char key[PLANNER_KEY_SIZE])
{
	if (!node->serial || !str_copy(str_of(node->serial), key, PLANNER_KEY_SIZE))
		snprintf(key, PLANNER_KEY_SIZE, "connection %p", (const void *)node);
}

static struct planner_device *device_find(const struct planner *planner, const struct route_node *node)
{
	char key[PLANNER_KEY_SIZE];
	key_of(node, key);
	return map_get(&planner->devices, str_of(key));
}

static void touch(struct planner *planner, struct planner_device *device, uint64_t now_us)
{
	list_remove(&planner->used, &device->used);
	list_push_back(&planner->used, &device->used);
	device->used_us = now_us;
}

static void device_free(struct planner *planner, struct planner_device *device)
{
	list_remove(&planner->used, &device->used);
	list_remove(&planner->open, &device->open);
	map_remove(&planner->devices, str_of(device->key));
	free(device);
}

static struct planner_device *device_get(struct planner *planner, const struct route_node *node, uint64_t now_us)
{
	struct planner_device *device = device_find(planner, node);
	if (!device) {
		if (planner->devices.count >= PLANNER_DEVICES_MAX)
			device_free(planner, LIST_OF(list_first(&planner->used), struct planner_device, used));
		device = calloc(1, sizeof *device);
		if (!device)
			return NULL;
		key_of(node, device->key);
		if (map_put(&planner->devices, str_of(device->key), device, NULL)) {
			free(device);
			return NULL;
		}
	}
	touch(planner, device, now_us);
	return device;
}

static unsigned recent_loads(const struct planner *planner, const struct planner_device *device, uint64_t now_us)
{
	unsigned recent = 0;
	for (unsigned i = 0; i < PLANNER_RECENT_LOADS; i++)
		recent += device->loads_us[i] && device->loads_us[i] + planner->options.device_loads_span_us > now_us;
	return recent;
}

static bool is_quiet(const struct route_node *node)
{
	if (node->pending)
		return false;
	for (uint32_t i = 0; i < node->entry_count; i++)
		if (route_live_load(&node->entries[i]))
			return false;
	return true;
}

bool planner_device_free(const struct planner *planner, const struct route_node *node, uint64_t now_us)
{
	if (!is_quiet(node))
		return false;
	const struct planner_device *device = device_find(planner, node);
	if (!device)
		return true;
	return !list_linked(&device->open) && device->blocked_until_us <= now_us &&
	       recent_loads(planner, device, now_us) < planner->options.device_loads;
}

static void note_load(struct planner_device *device, uint64_t now_us)
{
	device->loads_us[device->next_load] = now_us;
	device->next_load = (device->next_load + 1) % PLANNER_RECENT_LOADS;
}

static void close_load(struct planner *planner, struct planner_device *device)
{
	list_remove(&planner->open, &device->open);
	device->model[0] = '\0';
}

bool planner_device_begin(struct planner *planner, const struct route_entry *entry, uint64_t now_us)
{
	struct planner_device *device = device_get(planner, entry->node, now_us);
	if (!device || list_linked(&device->open))
		return false;
	uint64_t patience = (uint64_t)LOAD_TIME_SHARE * entry->load_time_ms * 1000;
	device->open_until_us =
	    now_us + (patience > planner->options.load_timeout_us ? patience : planner->options.load_timeout_us);
	str_copy((struct str){entry->model->id, entry->model->id_len}, device->model, sizeof device->model);
	list_push_back(&planner->open, &device->open);
	note_load(device, now_us);
	return true;
}

void planner_load_ended(struct planner *planner, struct route_node *node, struct str model, enum planner_end end,
                        uint64_t now_us)
{
	struct planner_demand *demand = planner_demand_find(planner, model);
	struct planner_device *device = device_get(planner, node, now_us);
	if (demand) {
		demand->view.loads += end == PLANNER_LOADED;
		demand->view.failures += end == PLANNER_FAILED || end == PLANNER_NOT_FOUND;
	}
	if (!device)
		return;
	bool commanded = list_linked(&device->open) && str_is(model, device->model);
	if (commanded)
		close_load(planner, device);
	else if (end == PLANNER_LOADED)
		note_load(device, now_us);
	if (end == PLANNER_FAILED)
		device->blocked_until_us = now_us + planner->options.retry_us;
	else if (end == PLANNER_NOT_FOUND)
		device->blocked_until_us = now_us + planner->options.load_timeout_us;
}

void planner_node_gone(struct planner *planner, const struct route_node *node)
{
	struct planner_device *device = device_find(planner, node);
	if (!device)
		return;
	if (node->serial)
		close_load(planner, device);
	else
		device_free(planner, device); /* its name dies with the connection */
}

void planner_devices_expire(struct planner *planner, uint64_t now_us)
{
	LIST_EACH_SAFE (link, next, &planner->open) {
		struct planner_device *device = LIST_OF(link, struct planner_device, open);
		if (device->open_until_us <= now_us)
			close_load(planner, device);
	}
	for (struct list_link *link; (link = list_first(&planner->used));) {
		struct planner_device *device = LIST_OF(link, struct planner_device, used);
		if (list_linked(&device->open) || device->blocked_until_us > now_us ||
		    device->used_us + planner->options.device_loads_span_us > now_us)
			break;
		device_free(planner, device);
	}
}

void planner_devices_free(struct planner *planner)
{
	for (struct list_link *link; (link = list_first(&planner->used));)
		device_free(planner, LIST_OF(link, struct planner_device, used));
	map_free(&planner->devices);
}

uint32_t planner_loading(const struct planner *planner, struct str model)
{
	uint32_t loading = 0;
	LIST_EACH (link, &planner->open)
		loading += str_is(model, LIST_OF(link, struct planner_device, open)->model);
	return loading;
}

size_t planner_open_loads(const struct planner *planner)
{
	return planner->open.count;
}
