/* What is looked at is a handful of a fleet: how much dearer is what it finds than the cheapest that a look at every node would
 * find? Near-ties are alike by rule (routing 7, selection 4): they do not count. */
#include "routing_fixture.h"

#define NODES     400
#define DECISIONS 3000
#define TIE_MS    3000.0

static uint32_t random_below(uint32_t bound)
{
	static uint64_t state = 11;
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 33) % bound);
}

static struct route_node *add(struct route_fleet *fleet, uint32_t i)
{
	static const double bandwidths[] = {100, 200, 273, 400, 546, 800};
	static const char *const chips[] = {"M1", "M2", "M3", "M4", "M5", "M6"};
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	uint32_t kind = i % 6;
	facts.chip_family = str_of(chips[kind]);
	facts.static_decode_tps = 0;
	facts.static_prefill_tps = 0;
	facts.bandwidth_gbs = bandwidths[kind];
	slot.decode_tps = 20 + kind * 12 + random_below(100) / 20.0;
	slot.prefill_tps = 250 + kind * 200 + random_below(50);
	return fixture_node(fleet, &facts, &slot);
}

static void the_choice_is_within_two_percent_of_a_full_scan(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	static struct route_node *nodes[NODES];
	static struct route_reservation *held[1500];
	double chosen = 0, cheapest = 0;
	for (uint32_t i = 0; i < NODES; i++)
		nodes[i] = add(fleet, i);
	for (uint32_t n = 0; n < DECISIONS; n++) {
		struct route_request request = fixture_request();
		struct route_reservation **place = &held[n % 1500];
		struct route_decision decision;
		double best = -1;
		request.prompt_tokens = 50 + random_below(4000);
		request.max_tokens = 4000;
		request.expected_tokens = 20 + random_below(600);
		route_release(fleet, *place);
		*place = NULL;
		for (uint32_t i = 0; i < NODES; i++) {
			struct route_cost cost;
			if (route_check(fleet, nodes[i], &request, NOW_US) == ROUTE_OK && route_cost_of(fleet, nodes[i], &request, &cost) &&
			    !cost.slow && (best < 0 || cost.total < best))
				best = cost.total;
		}
		assert_int_equal(route_select(fleet, &request, NOW_US, &decision, place), DB_OK);
		if (best < 0)
			continue; /* all are slow: any will do */
		chosen += decision.cost_ms < best + TIE_MS ? best : decision.cost_ms;
		cheapest += best;
	}
	print_message("choices cost %.4f of the cheapest\n", chosen / cheapest);
	assert_true(chosen <= 1.02 * cheapest);
	for (uint32_t i = 0; i < 1500; i++)
		route_release(fleet, held[i]);
	route_fleet_free(fleet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_choice_is_within_two_percent_of_a_full_scan)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
