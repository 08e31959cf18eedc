/* What routing remembers of 100,000 devices (routing/memory.h): how long a restart takes to read it, the longest step of
 * writing it beside requests, and its size. Time of the processor: nothing here waits. */
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/routing/memory.h"
#include "core/clock.h"

#define DEVICES      100000
#define MODELS       200
#define STEP_RECORDS 256 /* as memory_keeper.c takes them */
#define WALL_S       1000000

static struct str name(char out[64], const char *form, uint32_t number)
{
	int len = snprintf(out, 64, form, number);
	return (struct str){out, (size_t)len};
}

static void add(struct route_fleet *fleet, uint32_t device)
{
	char id[64], models[2][64];
	struct route_model_facts advertised[2] = {{.template_render_ok = -1}, {.template_render_ok = -1}};
	struct route_node *node = route_node_add(fleet, NULL);
	if (!node)
		exit(1);
	for (uint32_t i = 0; i < 2; i++)
		advertised[i].id = name(models[i], "org/model-%u-4bit", (device + i * 7) % MODELS);
	(void)route_node_set_models(fleet, node, advertised, 2);
	struct route_node_facts facts = {.connected_ok = true,
	                                 .device = name(id, "SERIAL-OF-A-DEVICE-%08u", device),
	                                 .chip_family = STR("M4"),
	                                 .network_ms = 20,
	                                 .has_capacity = true,
	                                 .free_for_load_gb = -1};
	route_node_set_facts(fleet, node, &facts);
	route_node_challenged(fleet, node, true);
	for (uint32_t i = 0; i < 2; i++) {
		struct route_slot slot = {.state = ROUTE_SLOT_IDLE, .decode_tps = 20 + device % 50, .load_time_ms = 9000};
		(void)route_node_set_slot(fleet, node, advertised[i].id, &slot);
	}
	route_node_heartbeat_done(fleet, node);
}

int main(void)
{
	struct route_policy policy = {.seed = 1};
	struct route_fleet *fleet = route_fleet_new(&policy), *next = route_fleet_new(&policy);
	struct learn learn, next_learn;
	struct memory_snapshot snapshot;
	struct error error;
	uint64_t longest_us = 0;
	if (!fleet || !next)
		return 1;
	learn_init(&learn);
	learn_init(&next_learn);
	for (uint32_t i = 0; i < DEVICES; i++)
		add(fleet, i);
	for (uint32_t i = 0; i < LEARN_MAX_PAIRS; i++) {
		char account[64], model[64];
		learn_output(&learn, name(model, "org/model-%u-4bit", i % MODELS), name(account, "acct_%08u", i / 8), 100 + i % 500);
	}
	memory_begin(&snapshot, fleet, WALL_S);
	for (bool whole = false; !whole && !snapshot.bytes.failed;) {
		uint64_t start_us = clock_thread_cpu_us();
		whole = memory_step(&snapshot, fleet, &learn, 1, STEP_RECORDS);
		uint64_t took_us = clock_thread_cpu_us() - start_us;
		longest_us = took_us > longest_us ? took_us : longest_us;
	}
	memory_seal(&snapshot.bytes);
	uint64_t start_us = clock_thread_cpu_us();
	if (memory_restore(next, &next_learn, buf_str(&snapshot.bytes), 1, WALL_S, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	printf("bench route_memory_restore_ms_100000 %.1f ms\n", (double)(clock_thread_cpu_us() - start_us) / 1000);
	printf("bench route_memory_longest_step_us %llu us\n", (unsigned long long)longest_us);
	printf("bench route_memory_bytes_100000 %zu bytes\n", snapshot.bytes.len);
	memory_end(&snapshot);
	route_fleet_free(fleet);
	route_fleet_free(next);
	learn_free(&learn);
	learn_free(&next_learn);
	return 0;
}
