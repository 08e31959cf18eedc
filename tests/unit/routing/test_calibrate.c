/* Predictions of the first content learn from what came. */
#include "routing_fixture.h"

static struct route_decision answer(struct route_fleet *fleet, uint64_t *now_us, double factor)
{
	struct route_request request = fixture_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	struct route_cost cost;
	*now_us += SECOND_US / 1000;
	assert_int_equal(route_select(fleet, &request, *now_us, &decision, &reservation), DB_OK);
	assert_true(route_cost_of(fleet, decision.node, &request, &cost));
	uint64_t content_us = *now_us + (uint64_t)(decision.ttft_ms > 0 ? factor * 1000 * 1000 : 0);
	assert_near(route_first_content(fleet, reservation, content_us), factor * 1000, 1);
	route_outcome(fleet, reservation, ROUTE_OUTCOME_OK, *now_us);
	route_release(fleet, reservation);
	return decision;
}

static void predictions_follow_what_really_came(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	uint64_t now_us = NOW_US;
	(void)fixture_node(fleet, &facts, &slot);
	struct route_decision decision = answer(fleet, &now_us, 3);
	double raw_ms = decision.ttft_ms;
	assert_near(decision.tail_ms, -1, 0);
	for (int i = 0; i < 100; i++)
		decision = answer(fleet, &now_us, i % 10 ? 3 : 9);
	assert_near(decision.ttft_ms, 3000, 600);
	assert_true(decision.ttft_ms > raw_ms);
	assert_in_range((uint64_t)decision.tail_ms, 8000, 12000); /* one of ten took 9 s */
	for (int i = 0; i < 400; i++)
		decision = answer(fleet, &now_us, 1);
	assert_near(decision.ttft_ms, 1000, 250);
	assert_in_range((uint64_t)decision.tail_ms, 900, 1300);
	for (int i = 0; i < 400; i++) /* a correction has bounds */
		decision = answer(fleet, &now_us, 1000);
	assert_true(decision.ttft_ms <= 4 * raw_ms + 1);
	route_fleet_free(fleet);
}

static void a_node_that_left_teaches_nothing(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = fixture_node(fleet, &facts, &slot);
	struct route_request request = fixture_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	assert_int_equal(route_select(fleet, &request, NOW_US, &decision, &reservation), DB_OK);
	route_node_remove(fleet, node);
	assert_near(route_first_content(fleet, reservation, NOW_US + SECOND_US), 1000, 0.01);
	route_release(fleet, reservation);
	route_fleet_free(fleet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(predictions_follow_what_really_came),
	    cmocka_unit_test(a_node_that_left_teaches_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
