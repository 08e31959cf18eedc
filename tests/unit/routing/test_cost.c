/* The worked examples of routing 7, and what our corrections change in them. */
#include "routing_fixture.h"

static struct route_cost cost_of(struct route_fleet *fleet, struct route_node *node)
{
	struct route_request request = fixture_request();
	struct route_cost cost;
	assert_true(route_cost_of(fleet, node, &request, &cost));
	return cost;
}

static void reserve(struct route_fleet *fleet, struct route_node *node, struct route_reservation **reservation)
{
	struct route_request request = fixture_request();
	struct route_decision decision;
	assert_int_equal(route_select(fleet, &request, NOW_US, &decision, reservation), DB_OK);
	assert_ptr_equal(decision.node, node);
}

static void example_a_warm_and_idle(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_cost cost = cost_of(fleet, fixture_node(fleet, &facts, &slot));
	assert_near(cost.state, 0, 0.1);
	assert_near(cost.queue, 0, 0.1);
	assert_near(cost.pending, 0, 0.1);
	assert_near(cost.backlog, 0, 0.1);
	assert_near(cost.own, 5655.6, 0.1);
	assert_near(cost.health, 5025, 0.1);
	assert_near(cost.total, 10680.6, 0.1);
	route_fleet_free(fleet);
}

/* In place of the chapter's 170,314 for two requests that run (routing 7, example B): each costs what it slows this one down
 * and is slowed down by it, and the prompts that are not yet read come first. */
static void a_busy_machine_costs_what_requests_do_to_each_other(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, &slot);
	struct route_reservation *held[2];
	reserve(fleet, node, &held[0]);
	reserve(fleet, node, &held[1]);
	slot = (struct route_slot){.state = ROUTE_SLOT_RUNNING,
	                           .running = 2,
	                           .decode_tps = 60 / 1.27, /* of each of two: 60 alone */
	                           .budget_used = 6000,
	                           .budget_max = 100000,
	                           .max_concurrency = 24};
	fixture_beat(fleet, node, &slot);
	double meeting = 2 * 0.27 * 256 * 1000 / 60 + 0.5 * 1000 * 1000 / 720;
	struct route_cost cost = cost_of(fleet, node);
	assert_near(cost.queue, 2 * meeting, 0.1);
	assert_near(cost.pending, 0, 0.1);
	assert_near(cost.backlog, 2 * 1388.9, 0.1);
	assert_near(cost.own, 5655.6, 0.1);
	(void)route_first_content(fleet, held[0], NOW_US + 1500000);
	assert_near(cost_of(fleet, node).backlog, 1388.9, 0.1); /* one prompt is read */
	route_release(fleet, held[0]);
	route_release(fleet, held[1]);
	assert_near(cost_of(fleet, node).backlog, 0, 0.1);
	route_fleet_free(fleet);
}

static void an_idle_machine_that_was_measured_under_load_is_not_slow(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, &slot);
	slot.state = ROUTE_SLOT_RUNNING;
	slot.running = 8;
	slot.decode_tps = 60 / (1 + 0.27 * 7);
	fixture_beat(fleet, node, &slot);
	slot.running = 0;
	fixture_beat(fleet, node, &slot); /* the same figure, told again */
	assert_near(cost_of(fleet, node).own, 5655.6, 0.1);
	route_fleet_free(fleet);
}

static void a_rate_far_above_its_kind_is_not_believed(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot(), lie = fixture_slot();
	for (int i = 0; i < 20; i++) {
		slot.decode_tps = 60 + 0.01 * i;
		(void)fixture_node(fleet, &facts, &slot);
	}
	lie.decode_tps = 500;
	assert_near(cost_of(fleet, fixture_node(fleet, &facts, &lie)).own, 1388.9 + 1000.0 * 256 / 120, 10);
	route_fleet_free(fleet);
}

static void a_guess_of_the_rate_keeps_nobody_from_being_asked(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_reservation *held[2];
	struct route_node *busy = fixture_node(fleet, &facts, &slot);
	facts.static_decode_tps = 0;
	facts.bandwidth_gbs = 200; /* guessed: 14 tokens/s, below the floor */
	reserve(fleet, busy, &held[0]);
	struct route_node *unknown = fixture_node(fleet, &facts, &slot);
	for (int i = 0; i < 3; i++) {
		slot.running = 12;
		slot.waiting = 10;
		fixture_beat(fleet, busy, &slot);
	}
	reserve(fleet, unknown, &held[1]);
	route_release(fleet, held[0]);
	route_release(fleet, held[1]);
	route_fleet_free(fleet);
}

static void a_cold_model_costs_its_load(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, NULL);
	assert_near(cost_of(fleet, node).total, 40680.6, 0.1);
	slot.load_time_ms = 2500;
	fixture_beat(fleet, node, &slot);
	fixture_beat(fleet, node, NULL); /* unloaded again: its measured load time is known now */
	assert_near(cost_of(fleet, node).state, 2500, 0.1);
	route_fleet_free(fleet);
}

static void reservations_count_before_the_next_heartbeat_shows_them(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, &slot);
	struct route_reservation *held;
	double idle = cost_of(fleet, node).total;
	reserve(fleet, node, &held);
	struct route_cost cost = cost_of(fleet, node);
	assert_near(cost.queue, 2 * 0.27 * 256 * 1000 / 60 + 0.5 * 1388.9, 0.1);
	assert_near(cost.pending, 0, 0.1);
	assert_near(cost.backlog, 1388.9, 0.1);
	route_release(fleet, held);
	assert_near(cost_of(fleet, node).total, idle, 0.1);
	route_fleet_free(fleet);
}

static void work_that_ended_since_the_heartbeat_no_longer_counts(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, &slot);
	struct route_reservation *held;
	reserve(fleet, node, &held);
	slot.running = 1;
	slot.budget_used = 1256;
	slot.state = ROUTE_SLOT_RUNNING;
	fixture_beat(fleet, node, &slot);
	route_release(fleet, held);
	struct route_cost cost = cost_of(fleet, node);
	assert_near(cost.queue, 0, 0.1);
	assert_near(cost.backlog, 0, 0.1);
	route_fleet_free(fleet);
}

static void expected_output_decides_and_not_the_allowed_one(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, &slot);
	struct route_request request = fixture_request();
	struct route_cost cost;
	request.max_tokens = 8192;
	assert_true(route_cost_of(fleet, node, &request, &cost));
	assert_near(cost.own, 5655.6, 0.1);
	request.expected_tokens = 1024;
	assert_true(route_cost_of(fleet, node, &request, &cost));
	assert_near(cost.own, 1388.9 + 4 * 4266.7, 0.2);
	request.expected_tokens = 0; /* unknown: a guess, never more than allowed */
	assert_true(route_cost_of(fleet, node, &request, &cost));
	assert_near(cost.own, 5655.6, 0.1);
	request.max_tokens = 60;
	assert_true(route_cost_of(fleet, node, &request, &cost));
	assert_near(cost.own, 1388.9 + 1000, 0.1);
	route_fleet_free(fleet);
}

/* Two that are alike by the rule: a first request goes to either, a late one to the quick one where it is seen. */
static void a_late_request_goes_to_the_quickest_of_those_alike(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts slow = fixture_facts(), quick = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_reservation *reservation;
	struct route_request request = fixture_request();
	struct route_decision decision;
	int quickest[2] = {0};
	quick.static_prefill_tps = 1000;
	slow.static_prefill_tps = 700;
	struct route_node *quick_node = fixture_node(fleet, &quick, &slot);
	(void)fixture_node(fleet, &slow, &slot);
	request.expected_tokens = 1;
	for (int i = 0; i < 100; i++) {
		request.urgent = i % 2;
		assert_int_equal(route_select(fleet, &request, NOW_US, &decision, &reservation), DB_OK);
		quickest[request.urgent] += decision.node == quick_node;
		route_release(fleet, reservation);
	}
	assert_true(quickest[false] < 40 && quickest[true] > 40); /* of 50; only some are looked at */
	route_fleet_free(fleet);
}

static void time_to_first_token(void **state)
{
	(void)state;
	static const struct {
		bool cold;
		uint32_t waiting;
		double ttft_ms;
	} rows[] = {{false, 0, 6707}, {false, 2, 20040}, {true, 0, 36707}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct route_fleet *fleet = fixture_fleet();
		struct route_node_facts facts = fixture_facts();
		facts.static_prefill_tps = 300;
		facts.static_decode_tps = 25;
		struct route_slot slot = fixture_slot();
		slot.waiting = rows[i].waiting;
		struct route_node *node = fixture_node(fleet, &facts, rows[i].cold ? NULL : &slot);
		struct route_request request = fixture_request();
		request.prompt_tokens = 2000;
		struct route_cost cost;
		assert_true(route_cost_of(fleet, node, &request, &cost));
		assert_near(cost.ttft_ms, rows[i].ttft_ms, 1);
		route_fleet_free(fleet);
	}
}

static void time_to_first_token_is_unknown_without_capacity(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	facts.has_capacity = false;
	struct route_slot slot = fixture_slot();
	assert_true(cost_of(fleet, fixture_node(fleet, &facts, &slot)).ttft_ms < 0);
	route_fleet_free(fleet);
}

static void projected_rate_of_a_newcomer(void **state)
{
	(void)state;
	static const struct {
		double solo;
		uint32_t running;
		double projected;
	} rows[] = {{60, 0, 47.2}, {60, 4, 25.5}, {60, 8, 17.5}, {60, 12, 13.3}, {25, 1, 16.2}, {25, 2, 13.8}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct route_fleet *fleet = fixture_fleet();
		struct route_node_facts facts = fixture_facts();
		facts.static_decode_tps = rows[i].solo;
		struct route_slot slot = fixture_slot();
		slot.running = rows[i].running;
		assert_near(cost_of(fleet, fixture_node(fleet, &facts, &slot)).projected_tps, rows[i].projected, 0.06);
		route_fleet_free(fleet);
	}
}

static void rates_are_measured_then_the_fleets_then_guessed(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	facts.static_decode_tps = 0;
	facts.bandwidth_gbs = 400;
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, &slot);
	double prefill_ms = 1000.0 * 1000 / 240;
	assert_near(cost_of(fleet, node).own, prefill_ms + 1000.0 * 256 / 20, 0.1);

	struct route_slot observed = fixture_slot();
	for (int tps = 30; tps <= 50; tps += 10) {
		observed.decode_tps = tps;
		(void)fixture_node(fleet, &facts, &observed);
	}
	fixture_beat(fleet, node, &slot);
	assert_near(cost_of(fleet, node).own, prefill_ms + 1000.0 * 256 / 40, 0.1); /* median of 30, 40, 50 */

	slot.decode_tps = 64;
	fixture_beat(fleet, node, &slot);
	assert_near(cost_of(fleet, node).own, prefill_ms + 1000.0 * 256 / 64, 0.1);

	struct route_node_facts other = facts;
	other.chip_family = STR("M1");
	struct route_slot plain = fixture_slot();
	assert_near(cost_of(fleet, fixture_node(fleet, &other, &plain)).own, prefill_ms + 1000.0 * 256 / 20, 0.1);
	route_fleet_free(fleet);
}

static void the_fleets_median_forgets_all_but_the_last_fifty(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slow = fixture_slot(), fast = fixture_slot(), plain = fixture_slot();
	slow.decode_tps = 10;
	fast.decode_tps = 80;
	for (int i = 0; i < 60; i++)
		(void)fixture_node(fleet, &facts, &slow);
	for (int i = 0; i < 50; i++)
		(void)fixture_node(fleet, &facts, &fast);
	double own = cost_of(fleet, fixture_node(fleet, &facts, &plain)).own;
	assert_near(own, 1388.9 + 1000.0 * 256 / 80, 0.1);
	route_fleet_free(fleet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(example_a_warm_and_idle),
	    cmocka_unit_test(a_busy_machine_costs_what_requests_do_to_each_other),
	    cmocka_unit_test(an_idle_machine_that_was_measured_under_load_is_not_slow),
	    cmocka_unit_test(a_rate_far_above_its_kind_is_not_believed),
	    cmocka_unit_test(a_guess_of_the_rate_keeps_nobody_from_being_asked),
	    cmocka_unit_test(a_cold_model_costs_its_load),
	    cmocka_unit_test(reservations_count_before_the_next_heartbeat_shows_them),
	    cmocka_unit_test(work_that_ended_since_the_heartbeat_no_longer_counts),
	    cmocka_unit_test(expected_output_decides_and_not_the_allowed_one),
	    cmocka_unit_test(a_late_request_goes_to_the_quickest_of_those_alike),
	    cmocka_unit_test(time_to_first_token),
	    cmocka_unit_test(time_to_first_token_is_unknown_without_capacity),
	    cmocka_unit_test(projected_rate_of_a_newcomer),
	    cmocka_unit_test(rates_are_measured_then_the_fleets_then_guessed),
	    cmocka_unit_test(the_fleets_median_forgets_all_but_the_last_fifty),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
