/* Snapshots of what routing learnt: any bytes with a good head fill a fleet within its bounds or are refused with a sentence,
 * and what was taken is written and read again. */
#include <stdint.h>
#include <stdlib.h>

#include "coordinator/routing/memory_format.h"

#define NOW_US 1000000000ull
#define WALL_S 2000000
#define INPUT  65536
#define ALL    SIZE_MAX

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum db_err restore(struct route_fleet *fleet, struct learn *learn, struct str bytes, struct error *error)
{
	return memory_restore(fleet, learn, bytes, NOW_US, WALL_S, error);
}

static void join(struct route_fleet *fleet)
{
	struct route_model_facts model = {.id = STR("m"), .template_render_ok = -1};
	struct route_node_facts facts = {.connected_ok = true, .device = STR("d"), .free_for_load_gb = -1};
	struct route_node *node = route_node_add(fleet, NULL);
	if (!node)
		return;
	(void)route_node_set_models(fleet, node, &model, 1);
	route_node_set_facts(fleet, node, &facts);
	route_node_heartbeat_done(fleet, node);
}

/* The input says when it was written, and what. */
static enum db_err read_input(struct route_fleet *fleet, struct learn *learn, const uint8_t *data, size_t size,
                              struct error *error)
{
	struct buf bytes;
	buf_init(&bytes, MEMORY_HEAD_LEN + INPUT);
	(void)buf_append(&bytes, MEMORY_MAGIC "\0\0\0\0\0\0\0\0", MEMORY_HEAD_LEN);
	(void)buf_append(&bytes, data, size);
	memory_seal(&bytes);
	enum db_err err = restore(fleet, learn, buf_str(&bytes), error);
	buf_free(&bytes);
	return err;
}

static void write_and_read(const struct route_policy *policy, struct route_fleet *fleet, struct learn *learn)
{
	struct memory_snapshot snapshot;
	struct error error = {.code = DB_OK};
	struct route_fleet *again = route_fleet_new(policy);
	memory_begin(&snapshot, fleet, WALL_S);
	if (!memory_step(&snapshot, fleet, learn, NOW_US, ALL))
		abort();
	memory_seal(&snapshot.bytes);
	if (restore(again, learn, buf_str(&snapshot.bytes), &error))
		abort(); /* what it writes itself it reads */
	memory_end(&snapshot);
	route_fleet_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct route_policy policy = {.seed = 1};
	struct error error = {.code = DB_OK};
	struct learn learn;
	if (size > INPUT)
		return 0;
	struct route_fleet *fleet = route_fleet_new(&policy);
	learn_init(&learn);
	enum db_err err = read_input(fleet, &learn, data, size, &error);
	if (err && !error.text[0])
		abort();
	if (!err || size % 8 == 0) { /* it takes far longer than reading */
		join(fleet);
		write_and_read(&policy, fleet, &learn);
	}
	route_fleet_free(fleet);
	learn_free(&learn);
	return 0;
}
