/* A small fleet of nodes that pass every gate until a test breaks something. */
#ifndef ROUTING_FIXTURE_H
#define ROUTING_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/routing/reputation.h"
#include "coordinator/routing/routing.h"

#define SECOND_US 1000000ull
#define NOW_US    (100 * SECOND_US)

/* cmocka's own compares floats, which is too coarse for costs. */
#define assert_near(a, b, within)                                                                                              \
	do {                                                                                                                       \
		double near_a = (a), near_b = (b);                                                                                     \
		if (!(fabs(near_a - near_b) <= (within)))                                                                              \
			fail_msg("%s is %g, not %g", #a, near_a, near_b);                                                                  \
	} while (0)

static inline struct route_fleet *fixture_fleet(void)
{
	struct route_policy policy = {.min_trust = ROUTE_TRUST_SELF_SIGNED, .seed = 1};
	struct route_fleet *fleet = route_fleet_new(&policy);
	assert_non_null(fleet);
	return fleet;
}

/* Static rate 60, so that prefill is 720: the machine of the chapter's examples. */
static inline struct route_node_facts fixture_facts(void)
{
	return (struct route_node_facts){
	    .connected_ok = true,
	    .private_text = true,
	    .posture_verified = true,
	    .runtime_verified = true,
	    .trust = ROUTE_TRUST_SELF_SIGNED,
	    .last_challenge_us = NOW_US,
	    .chip_family = STR("M4"),
	    .tools_ok = true,
	    .static_decode_tps = 60,
	    .memory_gb = 64,
	    .memory_pressure = 0.4,
	    .cpu_usage = 0.2,
	    .has_capacity = true,
	    .gpu_active_gb = 40,
	    .total_memory_gb = 64,
	    .free_for_load_gb = -1,
	};
}

static inline struct route_slot fixture_slot(void)
{
	return (struct route_slot){.state = ROUTE_SLOT_IDLE, .budget_max = 100000, .max_concurrency = 24};
}

static inline struct route_request fixture_request(void)
{
	return (struct route_request){.model = STR("acme/tiny"), .prompt_tokens = 1000, .max_tokens = 256, .expected_tokens = 256};
}

static inline void fixture_beat(struct route_fleet *fleet, struct route_node *node, const struct route_slot *slot)
{
	if (slot)
		assert_int_equal(route_node_set_slot(fleet, node, STR("acme/tiny"), slot), DB_OK);
	route_node_heartbeat_done(fleet, node);
}

static inline struct route_node *fixture_node(struct route_fleet *fleet, const struct route_node_facts *facts,
                                              const struct route_slot *slot)
{
	struct route_model_facts model = {.id = STR("acme/tiny"), .size_bytes = 4000000000u, .template_render_ok = -1};
	struct route_node *node = route_node_add(fleet, NULL);
	assert_non_null(node);
	assert_int_equal(route_node_set_models(fleet, node, &model, 1), DB_OK);
	route_node_set_facts(fleet, node, facts);
	fixture_beat(fleet, node, slot);
	return node;
}

#endif
