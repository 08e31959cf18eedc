/* Every gate of routing 6 is reached, and admission of routing 8 holds at its edges. */
#include "routing_fixture.h"

struct scene {
	struct route_fleet *fleet;
	struct route_node *node;
	struct route_node_facts facts;
	struct route_slot slot;
	struct route_request request;
};

static struct scene scene_new(void)
{
	struct scene s = {.fleet = fixture_fleet(), .facts = fixture_facts(), .slot = fixture_slot(), .request = fixture_request()};
	s.node = fixture_node(s.fleet, &s.facts, &s.slot);
	return s;
}

static void scene_apply(struct scene *s)
{
	route_node_set_facts(s->fleet, s->node, &s->facts);
	fixture_beat(s->fleet, s->node, &s->slot);
}

/* The predicate, the selection and its explanation agree. Ends the scene. */
/* By the tests of this file, which run in order: the last one looks. */
static bool reached[ROUTE_GATES];

static void check(struct route_fleet *fleet, const struct route_node *node, const struct route_request *request,
                  uint64_t now_us, enum route_gate gate)
{
	assert_string_equal(route_gate_name(route_check(fleet, node, request, now_us)), route_gate_name(gate));
	reached[gate] = true;
}

static void expect(struct scene *s, enum route_gate gate, enum db_err selection)
{
	struct route_decision decision;
	struct route_reservation *reservation;
	check(s->fleet, s->node, &s->request, NOW_US, gate);
	assert_int_equal(route_select(s->fleet, &s->request, NOW_US, &decision, &reservation), selection);
	if (gate == ROUTE_OK)
		assert_ptr_equal(decision.node, s->node);
	else if (gate != ROUTE_NOT_SERVING && !s->request.serials && !s->request.own_only)
		assert_int_equal(decision.by_gate[gate], 1);
	route_release(s->fleet, reservation);
	route_fleet_free(s->fleet);
}

static void a_sound_node_is_chosen(void **state)
{
	(void)state;
	struct scene s = scene_new();
	expect(&s, ROUTE_OK, DB_OK);
}

static void gates_of_the_caller(void **state)
{
	(void)state;
	struct str serials[] = {STR("OTHER"), STR("MINE")};
	struct scene s = scene_new();
	s.request.own_only = true;
	s.request.caller_account = STR("acct-1");
	expect(&s, ROUTE_NOT_OWNED, DB_E_NOT_FOUND);

	s = scene_new();
	s.request.own_only = true;
	s.request.caller_account = STR("acct-1");
	assert_int_equal(route_node_set_owner(s.fleet, s.node, STR("acct-1")), DB_OK);
	expect(&s, ROUTE_OK, DB_OK);

	s = scene_new();
	s.request.serials = serials;
	s.request.serial_count = 2;
	expect(&s, ROUTE_SERIAL, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.serial = STR("MINE");
	scene_apply(&s);
	s.request.serials = serials;
	s.request.serial_count = 2;
	expect(&s, ROUTE_OK, DB_OK);

	s = scene_new();
	s.request.excluded = &s.node;
	s.request.excluded_count = 1;
	expect(&s, ROUTE_EXCLUDED, DB_E_NOT_FOUND);

	s = scene_new();
	s.request.model = STR("acme/other");
	expect(&s, ROUTE_NOT_SERVING, DB_E_NOT_FOUND);
}

static void gates_of_what_is_asked_for(void **state)
{
	(void)state;
	static const struct str regions[] = {{"DE", 2}, {"US", 2}};
	struct scene s = scene_new();
	s.request.regions = regions;
	s.request.region_count = 2;
	expect(&s, ROUTE_REGION, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.region = STR("US-CA");
	scene_apply(&s);
	s.request.regions = regions;
	s.request.region_count = 2;
	expect(&s, ROUTE_OK, DB_OK);

	static const struct str beginning[] = {{"US-C", 4}};
	s = scene_new();
	s.facts.region = STR("US-CA");
	scene_apply(&s);
	s.request.regions = beginning;
	s.request.region_count = 1;
	expect(&s, ROUTE_REGION, DB_E_NOT_FOUND);

	s = scene_new();
	s.request.needs = 1;
	expect(&s, ROUTE_CAPABILITY, DB_E_NOT_FOUND);

	s = scene_new();
	s.request.blind = true;
	expect(&s, ROUTE_NOT_BLIND, DB_E_NOT_FOUND);
}

/* Routing 13.1: a family with machines of its own does not come to one that serves others too. */
static void a_dedicated_family_stays_on_machines_of_its_own(void **state)
{
	(void)state;
	static const char *const families[] = {"Gemma-4", "other"};
	struct route_policy policy = {.min_trust = ROUTE_TRUST_SELF_SIGNED, .dedicated = families, .dedicated_count = 2, .seed = 1};
	struct route_fleet *fleet = route_fleet_new(&policy);
	struct route_node *node = route_node_add(fleet, NULL);
	struct route_node_facts facts = fixture_facts();
	struct route_model_facts models[] = {{.id = STR("google/gemma-4-27b"), .template_render_ok = -1},
	                                     {.id = STR("acme/tiny"), .template_render_ok = -1}};
	struct route_request big = fixture_request(), tiny = fixture_request();
	big.model = models[0].id;
	route_node_set_facts(fleet, node, &facts);
	assert_int_equal(route_node_set_owner(fleet, node, STR("owner")), DB_OK);
	assert_int_equal(route_node_set_models(fleet, node, models, 2), DB_OK);
	check(fleet, node, &big, NOW_US, ROUTE_DEDICATED);
	assert_int_equal(route_check(fleet, node, &tiny, NOW_US), ROUTE_OK);
	struct route_decision decision;
	struct route_reservation *reservation;
	assert_int_equal(route_select(fleet, &big, NOW_US, &decision, &reservation), DB_E_NOT_FOUND);
	assert_int_equal(decision.by_gate[ROUTE_DEDICATED], 1);
	big.own_only = true;
	big.caller_account = STR("owner");
	assert_int_equal(route_check(fleet, node, &big, NOW_US), ROUTE_OK);
	big.own_only = false;
	assert_int_equal(route_node_set_models(fleet, node, models, 1), DB_OK);
	assert_int_equal(route_check(fleet, node, &big, NOW_US), ROUTE_OK);
	assert_int_equal(route_node_update_models(fleet, node, &models[1], 1), DB_OK);
	assert_int_equal(route_check(fleet, node, &big, NOW_US), ROUTE_DEDICATED);
	route_fleet_free(fleet);
}

static void gates_of_trust(void **state)
{
	(void)state;
	struct scene s = scene_new();
	s.facts.connected_ok = false;
	scene_apply(&s);
	expect(&s, ROUTE_OFFLINE, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.untrusted = true;
	scene_apply(&s);
	expect(&s, ROUTE_UNTRUSTED, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.private_only = true;
	scene_apply(&s);
	expect(&s, ROUTE_PRIVATE_ONLY, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.trust = ROUTE_TRUST_NONE;
	scene_apply(&s);
	expect(&s, ROUTE_TRUST_FLOOR, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.runtime_verified = false;
	scene_apply(&s);
	expect(&s, ROUTE_RUNTIME, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.private_text = false;
	scene_apply(&s);
	expect(&s, ROUTE_PRIVATE_TEXT, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.posture_verified = false;
	scene_apply(&s);
	expect(&s, ROUTE_PRIVATE_TEXT, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.last_challenge_us = 0;
	scene_apply(&s);
	expect(&s, ROUTE_STALE_CHALLENGE, DB_E_NOT_FOUND);
}

static void the_owner_passes_privacy_and_floor_but_no_other_gate(void **state)
{
	(void)state;
	struct scene s = scene_new();
	assert_int_equal(route_node_set_owner(s.fleet, s.node, STR("acct-1")), DB_OK);
	s.request.caller_account = STR("acct-1");
	s.facts.private_only = true;
	s.facts.trust = ROUTE_TRUST_NONE;
	scene_apply(&s);
	struct route_decision decision;
	struct route_reservation *reservation;
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_TRUST_FLOOR);
	s.request.prefer_own = true;
	assert_int_equal(route_select(s.fleet, &s.request, NOW_US, &decision, &reservation), DB_OK);
	assert_true(decision.owned);
	route_release(s.fleet, reservation);
	s.request.caller_account = STR("acct-2");
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_PRIVATE_ONLY);
	s.request.caller_account = STR("acct-1");
	s.facts.private_text = false;
	scene_apply(&s);
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_PRIVATE_TEXT);
	assert_int_equal(route_select(s.fleet, &s.request, NOW_US, &decision, &reservation), DB_E_NOT_FOUND);
	route_fleet_free(s.fleet);
}

static void gates_of_shape(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_model_facts broken = {.id = STR("acme/tiny"), .template_render_ok = 0};
	assert_int_equal(route_node_set_models(s.fleet, s.node, &broken, 1), DB_OK);
	expect(&s, ROUTE_TEMPLATE, DB_E_NOT_FOUND);

	s = scene_new();
	s.facts.tools_ok = false;
	scene_apply(&s);
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_OK);
	s.request.tools = true;
	expect(&s, ROUTE_VERSION_FLOOR, DB_E_NOT_FOUND);

	s = scene_new();
	s.request.vision = true;
	expect(&s, ROUTE_VISION, DB_E_NOT_FOUND);
}

static void gates_of_load(void **state)
{
	(void)state;
	struct scene s = scene_new();
	s.slot.state = ROUTE_SLOT_CRASHED;
	scene_apply(&s);
	expect(&s, ROUTE_SLOT_DOWN, DB_E_NOT_FOUND);

	s = scene_new();
	s.slot.state = ROUTE_SLOT_RELOADING;
	scene_apply(&s);
	expect(&s, ROUTE_SLOT_DOWN, DB_E_NOT_FOUND);

	s = scene_new();
	s.slot.max_concurrency = 3;
	s.slot.running = 2;
	s.slot.waiting = 1;
	scene_apply(&s);
	expect(&s, ROUTE_CONCURRENCY, DB_E_AGAIN);

	s = scene_new();
	s.facts.thermal = 3;
	scene_apply(&s);
	expect(&s, ROUTE_THERMAL, DB_E_NOT_FOUND);

	s = scene_new();
	struct route_model_facts huge = {.id = STR("acme/tiny"), .size_bytes = 33000000000u, .template_render_ok = -1};
	assert_int_equal(route_node_set_models(s.fleet, s.node, &huge, 1), DB_OK);
	fixture_beat(s.fleet, s.node, NULL);
	expect(&s, ROUTE_TOO_LARGE, DB_E_NOT_FOUND);

	s = scene_new();
	s.slot.budget_used = 99000;
	scene_apply(&s);
	expect(&s, ROUTE_BUDGET, DB_E_AGAIN);

	s = scene_new();
	s.slot.budget_max = 1255; /* smaller than the request: waiting does not help */
	scene_apply(&s);
	expect(&s, ROUTE_BUDGET, DB_E_NOT_FOUND);

	s = scene_new();
	s.slot.budget_max = 0;
	s.facts.gpu_active_gb = 63.9;
	scene_apply(&s);
	expect(&s, ROUTE_MEMORY, DB_E_AGAIN);
}

static void challenges_and_cooldowns_end_with_time(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_decision decision;
	struct route_reservation *reservation;
	uint64_t last_us = NOW_US + 16 * 60 * SECOND_US;
	assert_int_equal(route_select(s.fleet, &s.request, last_us, &decision, &reservation), DB_OK);
	route_release(s.fleet, reservation);
	assert_int_equal(route_select(s.fleet, &s.request, last_us + 1, &decision, &reservation), DB_E_NOT_FOUND);
	assert_int_equal(decision.by_gate[ROUTE_STALE_CHALLENGE], 1);
	route_fleet_free(s.fleet);

	s = scene_new();
	uint64_t until_us = NOW_US + 120 * SECOND_US;
	route_node_cool(s.fleet, s.node, STR("acme/tiny"), until_us);
	assert_int_equal(route_select(s.fleet, &s.request, until_us - 1, &decision, &reservation), DB_E_NOT_FOUND);
	assert_int_equal(decision.by_gate[ROUTE_COOLING], 1);
	check(s.fleet, s.node, &s.request, until_us - 1, ROUTE_COOLING);
	assert_int_equal(route_select(s.fleet, &s.request, until_us, &decision, &reservation), DB_OK);
	route_release(s.fleet, reservation);
	route_fleet_free(s.fleet);
}

static void budget_admission_counts_what_the_heartbeat_does_not_show_yet(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_decision decision;
	struct route_reservation *held[2], *next;
	s.request.prompt_tokens = 1058;
	s.request.max_tokens = 8192; /* 9,250 each: 18,500 pending */
	for (int i = 0; i < 2; i++)
		assert_int_equal(route_select(s.fleet, &s.request, NOW_US, &decision, &held[i]), DB_OK);
	s.slot.budget_max = 40000;
	s.slot.budget_used = 12000;
	s.slot.budget_queued = 3000;
	s.slot.max_tokens_potential = 12500;
	scene_apply(&s);
	s.request.prompt_tokens = 1000; /* 9,192 + 12,000 + 3,000 + 3,500 <= 40,000 */
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_OK);
	s.request.max_tokens = 40000 - 18500 - 1000; /* equality admits */
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_OK);
	s.request.max_tokens++;
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_BUDGET);
	assert_int_equal(route_select(s.fleet, &s.request, NOW_US, &decision, &next), DB_E_AGAIN);
	route_release(s.fleet, held[0]); /* ended after the heartbeat: its tokens are free at once */
	assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), ROUTE_OK);
	route_release(s.fleet, held[1]);
	route_fleet_free(s.fleet);
}

static void cold_loads_need_the_memory_that_the_node_says_is_free(void **state)
{
	(void)state;
	static const struct {
		double free_gb;
		enum route_gate gate;
	} rows[] = {{4.48, ROUTE_OK}, {4.46, ROUTE_MEMORY}, {0, ROUTE_MEMORY}, {-1, ROUTE_OK}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct scene s = scene_new(); /* the model has 4 GB; 4 x 1.1176 = 4.4704 */
		s.facts.free_for_load_gb = rows[i].free_gb;
		route_node_set_facts(s.fleet, s.node, &s.facts);
		fixture_beat(s.fleet, s.node, NULL);
		assert_int_equal(route_check(s.fleet, s.node, &s.request, NOW_US), rows[i].gate);
		route_fleet_free(s.fleet);
	}
}

static uint32_t places(double registered_tps, uint32_t reported, double memory_gb, bool has_capacity, uint64_t budget)
{
	struct scene s = scene_new();
	struct route_reservation *held[64];
	struct route_decision decision;
	uint32_t count = 0;
	s.facts.static_decode_tps = registered_tps;
	s.facts.bandwidth_gbs = 800;
	s.facts.memory_gb = s.facts.total_memory_gb = memory_gb;
	s.facts.gpu_active_gb = 0;
	s.facts.has_capacity = has_capacity;
	s.slot.max_concurrency = reported;
	s.slot.budget_max = budget;
	scene_apply(&s);
	s.request.prompt_tokens = s.request.max_tokens = 1;
	while (count < 64 && route_select(s.fleet, &s.request, NOW_US, &decision, &held[count]) == DB_OK)
		count++;
	for (uint32_t i = 0; i < count; i++)
		route_release(s.fleet, held[i]);
	route_fleet_free(s.fleet);
	return count;
}

static void concurrency_caps(void **state)
{
	(void)state;
	static const double memory[][2] = {{24, 2}, {48, 4}, {96, 6}, {128, 8}, {192, 12}};
	static const double quality[][2] = {{20, 2}, {23, 2}, {25, 4}, {30, 6}, {40, 12}, {50, 16}, {60, 22}, {69, 24}};
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		assert_int_equal(places(0, 0, memory[i][0], true, 0), (int)memory[i][1]);
	for (size_t i = 0; i < sizeof quality / sizeof *quality; i++)
		assert_int_equal(places(quality[i][0], 24, 64, true, 1000000), (int)quality[i][1]);
	assert_int_equal(places(0, 0, 64, true, 1000000), 24); /* any budget */
	assert_int_equal(places(0, 5, 64, true, 1000000), 5);
	assert_int_equal(places(0, 0, 192, false, 0), 4); /* an older provider */
}

static void an_older_provider_with_a_warm_model_is_not_cold(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_decision decision;
	struct route_reservation *reservation;
	s.facts.has_capacity = false;
	s.facts.total_memory_gb = s.facts.gpu_active_gb = 0;
	s.slot = (struct route_slot){.state = ROUTE_SLOT_IDLE};
	scene_apply(&s);
	assert_int_equal(route_select(s.fleet, &s.request, NOW_US, &decision, &reservation), DB_OK);
	assert_false(decision.cold);
	route_release(s.fleet, reservation);
	route_fleet_free(s.fleet);
}

static void a_full_node_of_the_wrong_shape_is_not_worth_waiting_for(void **state)
{
	(void)state;
	struct scene s = scene_new();
	s.slot.max_concurrency = 1;
	s.slot.running = 1;
	scene_apply(&s);
	s.request.vision = true;
	struct route_decision decision;
	struct route_reservation *reservation;
	assert_int_equal(route_select(s.fleet, &s.request, NOW_US, &decision, &reservation), DB_E_NOT_FOUND);
	s.request.vision = false;
	s.request.excluded = &s.node;
	s.request.excluded_count = 1;
	assert_int_equal(route_select(s.fleet, &s.request, NOW_US, &decision, &reservation), DB_E_NOT_FOUND);
	route_fleet_free(s.fleet);
}

static void every_gate_has_a_name(void **state)
{
	(void)state;
	for (int gate = 0; gate < ROUTE_GATES; gate++)
		for (int other = 0; other < gate; other++)
			assert_string_not_equal(route_gate_name((enum route_gate)gate), route_gate_name((enum route_gate)other));
}

/* What each fault does is tested in test_breakers.c. */
static void fail_times(struct scene *s, enum route_outcome outcome, int times)
{
	for (int i = 0; i < times; i++) {
		struct route_decision decision;
		struct route_reservation *reservation;
		assert_int_equal(route_select(s->fleet, &s->request, NOW_US, &decision, &reservation), DB_OK);
		route_outcome(s->fleet, reservation, outcome, NOW_US);
		route_release(s->fleet, reservation);
	}
}

static void gates_of_what_went_wrong(void **state)
{
	(void)state;
	struct scene s = scene_new();
	s.request.tools = true;
	fail_times(&s, ROUTE_OUTCOME_SHAPE_FAULT, 2);
	check(s.fleet, s.node, &s.request, NOW_US, ROUTE_SHAPE_BREAKER);
	route_fleet_free(s.fleet);
	s = scene_new();
	fail_times(&s, ROUTE_OUTCOME_NODE_FAULT, 5);
	check(s.fleet, s.node, &s.request, NOW_US, ROUTE_NODE_BREAKER);
	route_fleet_free(s.fleet);
}

/* A new gate fails this until a test above expects it. */
static void every_gate_is_reached_by_a_test(void **state)
{
	(void)state;
	for (int gate = 0; gate < ROUTE_GATES; gate++)
		if (!reached[gate])
			fail_msg("no test expects %s", route_gate_name((enum route_gate)gate));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_sound_node_is_chosen),
	    cmocka_unit_test(gates_of_the_caller),
	    cmocka_unit_test(gates_of_what_is_asked_for),
	    cmocka_unit_test(a_dedicated_family_stays_on_machines_of_its_own),
	    cmocka_unit_test(gates_of_trust),
	    cmocka_unit_test(the_owner_passes_privacy_and_floor_but_no_other_gate),
	    cmocka_unit_test(gates_of_shape),
	    cmocka_unit_test(gates_of_load),
	    cmocka_unit_test(challenges_and_cooldowns_end_with_time),
	    cmocka_unit_test(budget_admission_counts_what_the_heartbeat_does_not_show_yet),
	    cmocka_unit_test(cold_loads_need_the_memory_that_the_node_says_is_free),
	    cmocka_unit_test(concurrency_caps),
	    cmocka_unit_test(an_older_provider_with_a_warm_model_is_not_cold),
	    cmocka_unit_test(a_full_node_of_the_wrong_shape_is_not_worth_waiting_for),
	    cmocka_unit_test(gates_of_what_went_wrong),
	    cmocka_unit_test(every_gate_has_a_name),
	    cmocka_unit_test(every_gate_is_reached_by_a_test),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
