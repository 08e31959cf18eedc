/* The warm pool: which nodes are told to load what (routing 12, invariant 17 of routing 21). */
#include "routing_fixture.h"

#include <stdio.h>

#include "coordinator/routing/planner.h"

#define TICK_US (10 * SECOND_US)
#define MODEL   STR("acme/tiny")

struct pool {
	struct route_fleet *fleet;
	struct planner *planner;
	struct route_node *nodes[512];
	size_t count;
	uint64_t now_us;
	struct planner_load loads[PLANNER_LOADS_MAX];
};

static struct pool pool_new(const struct planner_options *options)
{
	struct pool pool = {.fleet = fixture_fleet(), .now_us = NOW_US};
	pool.planner = planner_new(pool.fleet, options);
	assert_non_null(pool.planner);
	return pool;
}

static void pool_free(struct pool *pool)
{
	planner_free(pool->planner);
	route_fleet_free(pool->fleet);
}

/* Solo rates of the chapter's example: 25 tokens/s out, 300 in. */
static struct route_node_facts slow_facts(void)
{
	struct route_node_facts facts = fixture_facts();
	facts.static_decode_tps = 25;
	facts.static_prefill_tps = 300;
	facts.gpu_active_gb = 0;
	facts.free_for_load_gb = 40;
	return facts;
}

static struct route_node *add(struct pool *pool, const struct route_node_facts *facts, const struct route_slot *slot)
{
	char serial[32];
	struct route_node_facts named = *facts;
	snprintf(serial, sizeof serial, "SERIAL%zu", pool->count);
	named.serial = named.device = str_of(serial);
	struct route_node *node = fixture_node(pool->fleet, &named, slot);
	pool->nodes[pool->count++] = node;
	return node;
}

static void add_cold(struct pool *pool, size_t count)
{
	struct route_node_facts facts = slow_facts();
	for (size_t i = 0; i < count; i++)
		add(pool, &facts, NULL);
}

static size_t tick(struct pool *pool)
{
	size_t count = planner_tick(pool->planner, pool->now_us, pool->loads);
	assert_true(count <= PLANNER_LOADS_MAX);
	return count;
}

static struct planner_view view_of(const struct pool *pool)
{
	struct planner_view view[4];
	assert_int_equal(planner_views(pool->planner, view, 4), 1);
	return view[0];
}

static void queue(struct pool *pool, uint32_t depth)
{
	planner_queue(pool->planner, MODEL, &(struct queue_demand){.waiting = depth}, pool->now_us);
}

static void the_chapters_example_gives_its_numbers(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	struct route_node_facts facts = slow_facts();
	for (uint32_t i = 0; i < 3; i++) {
		struct route_slot slot = fixture_slot();
		slot.state = ROUTE_SLOT_RUNNING;
		slot.running = i == 0 ? 2 : 3;
		slot.waiting = i == 0 ? 2 : 0;
		add(&pool, &facts, &slot);
	}
	add_cold(&pool, 10);
	for (int i = 0; i < 12; i++) /* 0.4 a second */
		planner_note(pool.planner, MODEL, PLANNER_CAPACITY_REJECT, pool.now_us);
	queue(&pool, 5);
	assert_int_equal(tick(&pool), 4);
	struct planner_view view = view_of(&pool);
	assert_near(view.service_s, 11.95, 0.01);
	assert_near(view.load, 19.78, 0.01);
	assert_int_equal(view.node_places, 2);
	assert_int_equal(view.target, 11);
	assert_int_equal(view.loading, 4);
	pool_free(&pool);
}

static void without_pressure_nothing_is_loaded(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	struct route_node_facts facts = slow_facts();
	struct route_slot slot = fixture_slot();
	add(&pool, &facts, &slot);
	add_cold(&pool, 20);
	struct route_request request = fixture_request();
	for (int i = 0; i < 600; i++) { /* a steady trickle that one node bears */
		pool.now_us += SECOND_US;
		if (i % 20 == 0)
			planner_arrival(pool.planner, &request, pool.now_us);
		if (i > 300)
			assert_int_equal(i % 10 ? 0 : tick(&pool), 0);
	}
	pool_free(&pool);
}

static void a_storm_is_met_with_a_bounded_number_of_loads(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	add_cold(&pool, 200);
	queue(&pool, 200);
	size_t open = 0;
	for (int i = 0; i < 6; i++) {
		open += tick(&pool);
		assert_true(open <= 16);
		assert_int_equal(open, planner_open_loads(pool.planner));
		for (size_t a = 0; a < open && i == 0; a++)
			for (size_t b = 0; b < a; b++)
				assert_ptr_not_equal(pool.loads[a].node, pool.loads[b].node);
		pool.now_us += TICK_US;
	}
	assert_int_equal(open, 16);
	pool_free(&pool);
}

static void an_unanswered_command_ends_and_another_node_is_tried(void **state)
{
	(void)state;
	struct pool pool = pool_new(&(struct planner_options){.loads_open = 1});
	add_cold(&pool, 2);
	queue(&pool, 1);
	assert_int_equal(tick(&pool), 1);
	pool.now_us += 119 * SECOND_US;
	queue(&pool, 2);
	assert_int_equal(tick(&pool), 0);
	pool.now_us += 2 * SECOND_US;
	assert_int_equal(tick(&pool), 1);
	pool_free(&pool);
}

static void a_failed_node_rests_and_does_not_use_up_the_fleets_places(void **state)
{
	(void)state;
	struct pool pool = pool_new(&(struct planner_options){.loads_open = 2});
	add_cold(&pool, 3);
	queue(&pool, 9);
	assert_int_equal(tick(&pool), 2);
	struct route_node *failed = pool.loads[0].node;
	planner_load_ended(pool.planner, pool.loads[0].node, MODEL, PLANNER_FAILED, pool.now_us);
	planner_load_ended(pool.planner, pool.loads[1].node, MODEL, PLANNER_FAILED, pool.now_us);
	assert_int_equal(planner_open_loads(pool.planner), 0);
	assert_int_equal(tick(&pool), 1);
	assert_ptr_not_equal(pool.loads[0].node, failed);
	assert_int_equal(view_of(&pool).failures, 2);
	pool.now_us += 31 * SECOND_US;
	queue(&pool, 10);
	assert_int_equal(tick(&pool), 1);
	pool_free(&pool);
}

static void a_device_that_loads_again_and_again_is_left_alone(void **state)
{
	(void)state;
	struct pool pool = pool_new(&(struct planner_options){.device_loads = 3});
	add_cold(&pool, 1);
	size_t loads = 0;
	for (int i = 0; i < 30; i++) { /* it loads, and something else throws the model out at once */
		queue(&pool, 1 + (uint32_t)i);
		size_t count = tick(&pool);
		if (count)
			planner_load_ended(pool.planner, pool.loads[0].node, MODEL, PLANNER_LOADED, pool.now_us);
		loads += count;
		pool.now_us += TICK_US;
	}
	assert_int_equal(loads, 3);
	pool.now_us += 600 * SECOND_US;
	route_node_facts(pool.fleet, pool.nodes[0], &(struct route_node_facts){0});
	queue(&pool, 100);
	assert_int_equal(tick(&pool), 1);
	pool_free(&pool);
}

static void a_reconnect_does_not_clear_what_a_device_did(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	add_cold(&pool, 1);
	queue(&pool, 1);
	assert_int_equal(tick(&pool), 1);
	planner_load_ended(pool.planner, pool.nodes[0], MODEL, PLANNER_FAILED, pool.now_us);
	planner_node_gone(pool.planner, pool.nodes[0]);
	route_node_remove(pool.fleet, pool.nodes[0]);
	pool.count = 0;
	add_cold(&pool, 1);
	queue(&pool, 2);
	assert_int_equal(tick(&pool), 0);
	pool_free(&pool);
}

static void a_node_that_leaves_gives_its_place_back(void **state)
{
	(void)state;
	struct pool pool = pool_new(&(struct planner_options){.loads_open = 1});
	add_cold(&pool, 2);
	queue(&pool, 3);
	assert_int_equal(tick(&pool), 1);
	struct route_node *gone = pool.loads[0].node;
	planner_node_gone(pool.planner, gone);
	route_node_remove(pool.fleet, gone);
	assert_int_equal(planner_open_loads(pool.planner), 0);
	assert_int_equal(tick(&pool), 1);
	assert_ptr_not_equal(pool.loads[0].node, gone);
	pool_free(&pool);
}

/* Invariant 17: no load to a busy, private, cooled, critical or stale node. */
static void only_quiet_and_eligible_nodes_are_told_to_load(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	struct route_node_facts facts = slow_facts();
	facts.private_only = true;
	add(&pool, &facts, NULL);
	facts = slow_facts();
	facts.thermal = 3;
	add(&pool, &facts, NULL);
	facts = slow_facts();
	facts.last_challenge_us = 0;
	add(&pool, &facts, NULL);
	facts = slow_facts();
	facts.free_for_load_gb = 0;
	add(&pool, &facts, NULL);
	facts = slow_facts();
	facts.untrusted = true;
	add(&pool, &facts, NULL);
	facts = slow_facts();
	route_node_cool(pool.fleet, add(&pool, &facts, NULL), MODEL, pool.now_us + 60 * SECOND_US);
	struct route_node *busy = add(&pool, &facts, NULL), *sick = add(&pool, &facts, NULL);
	struct route_request request = fixture_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	request.only = sick;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(route_select(pool.fleet, &request, pool.now_us, &decision, &reservation), DB_OK);
		route_outcome(pool.fleet, reservation, ROUTE_OUTCOME_NODE_FAULT, pool.now_us);
		route_release(pool.fleet, reservation);
	}
	request.only = busy;
	assert_int_equal(route_select(pool.fleet, &request, pool.now_us, &decision, &reservation), DB_OK);
	queue(&pool, 5);
	assert_int_equal(tick(&pool), 0);
	struct route_node *good = add(&pool, &facts, NULL);
	assert_int_equal(tick(&pool), 1);
	assert_ptr_equal(pool.loads[0].node, good);
	route_release(pool.fleet, reservation);
	pool_free(&pool);
}

/* Two that were asked a second time, or one that the second won: the warm ones do not suffice. */
static void hedges_are_demand(void **state)
{
	(void)state;
	static const struct {
		enum planner_event event;
		int count;
	} pressing[] = {{PLANNER_HEDGE_STARTED, 2}, {PLANNER_HEDGE_WON, 1}};
	for (size_t i = 0; i < sizeof pressing / sizeof *pressing; i++) {
		struct pool pool = pool_new(NULL);
		struct route_node_facts facts = slow_facts();
		struct route_slot slot = fixture_slot();
		add(&pool, &facts, &slot);
		add_cold(&pool, 3);
		planner_note(pool.planner, MODEL, PLANNER_HEDGE_STARTED, pool.now_us); /* one alone may be chance */
		assert_int_equal(tick(&pool), 0);
		for (int j = pressing[i].event == PLANNER_HEDGE_STARTED; j < pressing[i].count; j++)
			planner_note(pool.planner, MODEL, pressing[i].event, pool.now_us);
		assert_int_equal(tick(&pool), 1);
		pool_free(&pool);
	}
}

static void the_node_with_most_room_loads_first(void **state)
{
	(void)state;
	struct pool pool = pool_new(&(struct planner_options){.loads_open = 1});
	struct route_node_facts facts = slow_facts();
	add(&pool, &facts, NULL);
	facts.free_for_load_gb = 50;
	struct route_node *roomy = add(&pool, &facts, NULL);
	facts.memory_pressure = 0.9;
	facts.thermal = 2;
	add(&pool, &facts, NULL);
	queue(&pool, 1);
	assert_int_equal(tick(&pool), 1);
	assert_ptr_equal(pool.loads[0].node, roomy);
	pool_free(&pool);
}

static void a_floor_holds_without_demand(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	add_cold(&pool, 5);
	assert_int_equal(planner_keep_warm(pool.planner, MODEL, 3), DB_OK);
	assert_int_equal(tick(&pool), 3);
	assert_int_equal(tick(&pool), 0);
	assert_int_equal(planner_keep_warm(pool.planner, MODEL, 0), DB_OK);
	pool_free(&pool);
}

static void growing_demand_is_loaded_for_before_anybody_waits(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	struct route_node_facts facts = slow_facts();
	struct route_slot slot = fixture_slot();
	add(&pool, &facts, &slot);
	add_cold(&pool, 10);
	struct route_request request = fixture_request();
	size_t loads = 0;
	for (int second = 0; second < 60; second++) { /* from one in ten seconds to one in each */
		pool.now_us += SECOND_US;
		if (second % (second < 20 ? 10 : second < 40 ? 3 : 1) == 0)
			planner_arrival(pool.planner, &request, pool.now_us);
		if (second % 10 == 9)
			loads += tick(&pool);
	}
	assert_true(loads > 0);
	assert_false(view_of(&pool).pressure);
	pool_free(&pool);
}

static void a_raised_target_stays_for_its_dwell(void **state)
{
	(void)state;
	struct pool pool = pool_new(&(struct planner_options){.loads_open = 1});
	add_cold(&pool, 8);
	queue(&pool, 12);
	tick(&pool);
	uint32_t target = view_of(&pool).target;
	assert_true(target > 2);
	queue(&pool, 0);
	pool.now_us += 200 * SECOND_US;
	struct route_request request = fixture_request();
	planner_arrival(pool.planner, &request, pool.now_us); /* it is thought about, and nothing presses */
	tick(&pool);
	assert_false(view_of(&pool).pressure);
	assert_int_equal(view_of(&pool).target, target);
	queue(&pool, 1); /* keeps it awake */
	pool.now_us += 150 * SECOND_US;
	tick(&pool);
	assert_true(view_of(&pool).target < target);
	pool_free(&pool);
}

static void a_queue_of_tools_is_not_met_by_nodes_that_cannot_call_them(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	struct route_node_facts facts = slow_facts();
	facts.tools_ok = false;
	facts.free_for_load_gb = 60;
	add(&pool, &facts, NULL);
	planner_queue(pool.planner, MODEL, &(struct queue_demand){.waiting = 1, .tools = true}, pool.now_us);
	assert_int_equal(tick(&pool), 0);
	facts.tools_ok = true;
	struct route_node *able = add(&pool, &facts, NULL);
	assert_int_equal(tick(&pool), 1);
	assert_ptr_equal(pool.loads[0].node, able);
	pool_free(&pool);
}

static void where_a_part_asks_for_tools_a_node_that_can_call_them_comes_first(void **state)
{
	(void)state;
	for (int able = 0; able < 2; able++) { /* without one the rest is served all the same */
		struct pool pool = pool_new(NULL);
		struct route_node_facts facts = slow_facts();
		facts.tools_ok = false;
		facts.free_for_load_gb = 60; /* better but for the tools */
		struct route_node *first = add(&pool, &facts, NULL);
		facts.tools_ok = true;
		facts.free_for_load_gb = 40;
		if (able)
			first = add(&pool, &facts, NULL);
		planner_queue(pool.planner, MODEL, &(struct queue_demand){.waiting = 2, .some_tools = true}, pool.now_us);
		assert_true(tick(&pool) > 0);
		assert_ptr_equal(pool.loads[0].node, first);
		pool_free(&pool);
	}
}

static void names_of_models_that_nobody_has_are_not_remembered(void **state)
{
	(void)state;
	struct pool pool = pool_new(NULL);
	struct route_request request = fixture_request();
	request.model = STR("nobody/knows");
	planner_arrival(pool.planner, &request, pool.now_us);
	planner_note(pool.planner, request.model, PLANNER_CAPACITY_REJECT, pool.now_us);
	assert_int_equal(planner_views(pool.planner, NULL, 0), 0);
	pool_free(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_chapters_example_gives_its_numbers),
	    cmocka_unit_test(without_pressure_nothing_is_loaded),
	    cmocka_unit_test(a_storm_is_met_with_a_bounded_number_of_loads),
	    cmocka_unit_test(an_unanswered_command_ends_and_another_node_is_tried),
	    cmocka_unit_test(a_failed_node_rests_and_does_not_use_up_the_fleets_places),
	    cmocka_unit_test(a_device_that_loads_again_and_again_is_left_alone),
	    cmocka_unit_test(a_reconnect_does_not_clear_what_a_device_did),
	    cmocka_unit_test(a_node_that_leaves_gives_its_place_back),
	    cmocka_unit_test(only_quiet_and_eligible_nodes_are_told_to_load),
	    cmocka_unit_test(hedges_are_demand),
	    cmocka_unit_test(the_node_with_most_room_loads_first),
	    cmocka_unit_test(a_floor_holds_without_demand),
	    cmocka_unit_test(growing_demand_is_loaded_for_before_anybody_waits),
	    cmocka_unit_test(a_raised_target_stays_for_its_dwell),
	    cmocka_unit_test(a_queue_of_tools_is_not_met_by_nodes_that_cannot_call_them),
	    cmocka_unit_test(where_a_part_asks_for_tools_a_node_that_can_call_them_comes_first),
	    cmocka_unit_test(names_of_models_that_nobody_has_are_not_remembered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
