/* Requests go where a prefix of their prompt is kept, as long as that does not make anybody wait; and the way to a node is in
 * its cost. */
#include "routing_fixture.h"

static const uint64_t conversation = 0x1234, system_prompt = 0x99;

struct scene {
	struct route_fleet *fleet;
	struct route_node *nodes[3];
};

static struct scene three_alike(void)
{
	struct scene s = {.fleet = fixture_fleet()};
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	for (int i = 0; i < 3; i++)
		s.nodes[i] = fixture_node(s.fleet, &facts, &slot);
	return s;
}

static enum db_err keep(const struct scene *s, int node, const uint64_t *digests, size_t count)
{
	return route_node_set_prefixes(s->fleet, s->nodes[node], STR("acme/tiny"), digests, count);
}

static struct route_request second_turn(void)
{
	static const struct route_prefix prefixes[] = {{0x5678, 900}, {0x1234, 600}, {0x99, 100}};
	struct route_request request = fixture_request();
	request.prefixes = prefixes;
	request.prefix_count = 3;
	return request;
}

static struct route_reservation *select_node(const struct scene *s, const struct route_request *request,
                                             struct route_decision *decision)
{
	struct route_reservation *reservation;
	assert_int_equal(route_select(s->fleet, request, NOW_US, decision, &reservation), DB_OK);
	return reservation;
}

static void a_second_turn_goes_to_who_keeps_the_first(void **state)
{
	(void)state;
	struct scene s = three_alike();
	struct route_request request = second_turn();
	struct route_decision decision;
	assert_int_equal(keep(&s, 1, &conversation, 1), DB_OK);
	for (int i = 0; i < 50; i++) {
		struct route_reservation *held = select_node(&s, &request, &decision);
		assert_ptr_equal(decision.node, s.nodes[1]);
		assert_int_equal(decision.affinity_tokens, 600);
		assert_near(decision.terms.prefix, -600 * 1000.0 / 720, 0.1);
		assert_near(decision.cost_ms, decision.terms.total, 0.1);
		route_release(s.fleet, held);
	}
	route_fleet_free(s.fleet);
}

static void the_longest_prefix_counts(void **state)
{
	(void)state;
	struct scene s = three_alike();
	struct route_request request = second_turn();
	struct route_decision decision;
	const uint64_t both[] = {system_prompt, conversation};
	assert_int_equal(keep(&s, 0, &system_prompt, 1), DB_OK);
	assert_int_equal(keep(&s, 2, both, 2), DB_OK);
	struct route_reservation *held = select_node(&s, &request, &decision);
	assert_ptr_equal(decision.node, s.nodes[2]);
	assert_int_equal(decision.affinity_tokens, 600);
	route_release(s.fleet, held);
	route_fleet_free(s.fleet);
}

/* All have the same system prompt, and only one node keeps it: it gets no more than its turn. */
static void a_popular_prefix_overloads_nobody(void **state)
{
	(void)state;
	struct scene s = three_alike();
	struct route_request request = second_turn();
	struct route_reservation *held[12];
	assert_int_equal(keep(&s, 1, &system_prompt, 1), DB_OK);
	for (int i = 0; i < 12; i++) {
		struct route_decision decision;
		held[i] = select_node(&s, &request, &decision);
	}
	for (int i = 0; i < 3; i++)
		assert_in_range(route_node_pending(s.nodes[i]), 3, 5);
	for (int i = 0; i < 12; i++)
		route_release(s.fleet, held[i]);
	route_fleet_free(s.fleet);
}

static void what_is_not_said_again_is_forgotten(void **state)
{
	(void)state;
	struct scene s = three_alike();
	struct route_request request = second_turn();
	struct route_decision decision;
	assert_int_equal(keep(&s, 1, &conversation, 1), DB_OK);
	assert_int_equal(keep(&s, 1, &conversation, 1), DB_OK);
	assert_int_equal(keep(&s, 0, &conversation, 1), DB_OK);
	assert_int_equal(keep(&s, 1, NULL, 0), DB_OK);
	struct route_reservation *held = select_node(&s, &request, &decision);
	assert_ptr_equal(decision.node, s.nodes[0]);
	route_release(s.fleet, held);
	assert_int_equal(keep(&s, 0, &system_prompt, 1), DB_OK);
	held = select_node(&s, &request, &decision);
	assert_int_equal(decision.affinity_tokens, decision.node == s.nodes[0] ? 100 : 0);
	route_release(s.fleet, held);
	assert_int_equal(route_node_set_prefixes(s.fleet, s.nodes[0], STR("acme/other"), &conversation, 1), DB_E_NOT_FOUND);
	route_fleet_free(s.fleet);
}

static void a_node_that_leaves_takes_its_prefixes_along(void **state)
{
	(void)state;
	struct scene s = three_alike();
	struct route_request request = second_turn();
	struct route_decision decision;
	uint64_t many[ROUTE_MAX_PREFIXES + 10];
	for (size_t i = 0; i < ROUTE_MAX_PREFIXES + 10; i++)
		many[i] = i % 40 ? 1000 + i : conversation; /* some twice */
	for (int i = 0; i < 3; i++)
		assert_int_equal(keep(&s, i, many, ROUTE_MAX_PREFIXES + 10), DB_OK);
	route_node_remove(s.fleet, s.nodes[1]);
	struct route_model_facts other = {.id = STR("acme/other"), .template_render_ok = -1};
	assert_int_equal(route_node_set_models(s.fleet, s.nodes[2], &other, 1), DB_OK);
	struct route_reservation *held = select_node(&s, &request, &decision);
	assert_ptr_equal(decision.node, s.nodes[0]);
	assert_int_equal(decision.affinity_tokens, 600);
	route_release(s.fleet, held);
	route_node_remove(s.fleet, s.nodes[0]);
	route_fleet_free(s.fleet);
}

static void who_fails_a_gate_is_not_chosen_for_its_cache(void **state)
{
	(void)state;
	struct scene s = three_alike();
	struct route_request request = second_turn();
	struct route_decision decision;
	assert_int_equal(keep(&s, 1, &conversation, 1), DB_OK);
	request.excluded = &s.nodes[1];
	request.excluded_count = 1;
	struct route_reservation *held = select_node(&s, &request, &decision);
	assert_true(decision.node != s.nodes[1]);
	assert_int_equal(decision.affinity_tokens, 0);
	route_release(s.fleet, held);
	route_fleet_free(s.fleet);
}

static void the_way_to_a_node_is_in_its_cost(void **state)
{
	(void)state;
	struct scene s = three_alike();
	struct route_request request = fixture_request();
	struct route_node_facts facts = fixture_facts();
	struct route_cost near, far;
	facts.network_ms = 250;
	route_node_set_facts(s.fleet, s.nodes[0], &facts);
	assert_true(route_cost_of(s.fleet, s.nodes[0], &request, &far));
	assert_true(route_cost_of(s.fleet, s.nodes[1], &request, &near));
	assert_near(far.network, 250, 0.001);
	assert_near(far.total - near.total, 250, 0.01);
	assert_near(far.ttft_ms - near.ttft_ms, 250, 0.01);
	route_fleet_free(s.fleet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_second_turn_goes_to_who_keeps_the_first),
	    cmocka_unit_test(the_longest_prefix_counts),
	    cmocka_unit_test(a_popular_prefix_overloads_nobody),
	    cmocka_unit_test(what_is_not_said_again_is_forgotten),
	    cmocka_unit_test(a_node_that_leaves_takes_its_prefixes_along),
	    cmocka_unit_test(who_fails_a_gate_is_not_chosen_for_its_cache),
	    cmocka_unit_test(the_way_to_a_node_is_in_its_cost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
