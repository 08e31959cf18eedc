/* Breakers and cool-downs (routing 11): who is blamed, for how long, and how one gets out again. */
#include "routing_fixture.h"

#include <stdio.h>

struct scene {
	struct route_fleet *fleet;
	struct route_node *node;
	uint64_t now_us;
};

static struct route_node *add_device(struct route_fleet *fleet, const char *device, const char *version)
{
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	facts.device = str_of(device);
	facts.version = str_of(version);
	return fixture_node(fleet, &facts, &slot);
}

static struct scene scene_new(void)
{
	struct scene s = {.fleet = fixture_fleet(), .now_us = NOW_US};
	s.node = add_device(s.fleet, "SERIAL-1", "1.0");
	return s;
}

static double score_of(const struct route_node *node)
{
	struct reputation reputation = route_node_reputation(node);
	return reputation_score(&reputation);
}

static struct route_request base_request(void)
{
	return fixture_request();
}

static struct route_request tools_request(void)
{
	struct route_request request = fixture_request();
	request.tools = true;
	return request;
}

/* Keeps its challenge fresh, so that nothing but breakers changes with time. */
static void pass_time(struct scene *s, uint64_t seconds)
{
	struct route_node_facts facts;
	s->now_us += seconds * SECOND_US;
	route_node_facts(s->fleet, s->node, &facts);
	facts.last_challenge_us = s->now_us;
	route_node_set_facts(s->fleet, s->node, &facts);
}

static enum route_gate gate(const struct scene *s, struct route_request request)
{
	return route_check(s->fleet, s->node, &request, s->now_us);
}

static struct route_reservation *take(struct scene *s, struct route_request request, struct route_decision *decision)
{
	struct route_reservation *reservation;
	assert_int_equal(route_select(s->fleet, &request, s->now_us, decision, &reservation), DB_OK);
	return reservation;
}

static struct route_decision attempt(struct scene *s, struct route_request request, enum route_outcome outcome)
{
	struct route_decision decision;
	struct route_reservation *reservation = take(s, request, &decision);
	route_outcome(s->fleet, reservation, outcome, s->now_us);
	route_release(s->fleet, reservation);
	return decision;
}

static void a_shape_is_shut_by_two_strikes_in_a_minute_and_no_other(void **state)
{
	(void)state;
	struct scene s = scene_new();
	attempt(&s, tools_request(), ROUTE_OUTCOME_SHAPE_FAULT);
	pass_time(&s, 61);
	attempt(&s, tools_request(), ROUTE_OUTCOME_SHAPE_FAULT);
	assert_int_equal(gate(&s, tools_request()), ROUTE_OK); /* too far apart */
	pass_time(&s, 59);
	attempt(&s, tools_request(), ROUTE_OUTCOME_SHAPE_FAULT);
	assert_int_equal(gate(&s, tools_request()), ROUTE_SHAPE_BREAKER);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	attempt(&s, base_request(), ROUTE_OUTCOME_OK); /* says nothing about the other shape */
	assert_int_equal(gate(&s, tools_request()), ROUTE_SHAPE_BREAKER);
	pass_time(&s, 299);
	assert_int_equal(gate(&s, tools_request()), ROUTE_SHAPE_BREAKER);
	pass_time(&s, 1);
	assert_int_equal(gate(&s, tools_request()), ROUTE_OK);
	assert_true(attempt(&s, tools_request(), ROUTE_OUTCOME_OK).probe);
	assert_false(attempt(&s, tools_request(), ROUTE_OUTCOME_OK).probe);
	route_fleet_free(s.fleet);
}

static void a_shut_base_shape_still_serves_the_other_and_is_the_last_resort(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_request tools = tools_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	for (int i = 0; i < 2; i++)
		attempt(&s, base_request(), ROUTE_OUTCOME_SHAPE_FAULT);
	assert_false(attempt(&s, tools_request(), ROUTE_OUTCOME_OK).bypassed_breaker);
	decision = attempt(&s, base_request(), ROUTE_OUTCOME_CLIENT);
	assert_true(decision.bypassed_breaker);
	struct route_node *healthy = add_device(s.fleet, "SERIAL-2", "1.0");
	assert_ptr_equal(attempt(&s, base_request(), ROUTE_OUTCOME_OK).node, healthy);
	route_node_remove(s.fleet, healthy);
	/* Tools are kept off a machine that they break, whoever else is left. */
	for (int i = 0; i < 2; i++)
		attempt(&s, tools_request(), ROUTE_OUTCOME_SHAPE_FAULT);
	assert_int_equal(route_select(s.fleet, &tools, s.now_us, &decision, &reservation), DB_E_NOT_FOUND);
	assert_int_equal(decision.by_gate[ROUTE_SHAPE_BREAKER], 1);
	route_fleet_free(s.fleet);
}

/* Breakers alone are passed over when nobody else is left; what else keeps a machine from serving is not. */
static void a_machine_that_cools_down_is_no_last_resort(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_request request = base_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	for (int i = 0; i < 5; i++)
		attempt(&s, base_request(), ROUTE_OUTCOME_FAULT);
	assert_true(attempt(&s, base_request(), ROUTE_OUTCOME_CLIENT).bypassed_breaker);
	route_node_cool(s.fleet, s.node, STR_NONE, s.now_us + 120 * SECOND_US);
	assert_int_equal(route_select(s.fleet, &request, s.now_us, &decision, &reservation), DB_E_NOT_FOUND);
	assert_int_equal(decision.by_gate[ROUTE_COOLING], 1);
	pass_time(&s, 120);
	assert_int_equal(route_select(s.fleet, &request, s.now_us, &decision, &reservation), DB_OK);
	route_release(s.fleet, reservation);
	route_fleet_free(s.fleet);
}

static void a_half_open_breaker_lets_exactly_one_request_try(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_decision decision;
	for (int i = 0; i < 2; i++)
		attempt(&s, base_request(), ROUTE_OUTCOME_SHAPE_FAULT);
	pass_time(&s, 300);
	struct route_reservation *probe = take(&s, base_request(), &decision);
	assert_true(decision.probe);
	assert_int_equal(gate(&s, base_request()), ROUTE_SHAPE_BREAKER);
	route_release(s.fleet, probe); /* cancelled: it told nothing, so the next one tries */
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	probe = take(&s, base_request(), &decision);
	assert_true(decision.probe);
	route_outcome(s.fleet, probe, ROUTE_OUTCOME_SHAPE_FAULT, s.now_us);
	route_release(s.fleet, probe);
	assert_int_equal(gate(&s, base_request()), ROUTE_SHAPE_BREAKER); /* one fault is enough now */
	pass_time(&s, 300);
	assert_true(attempt(&s, base_request(), ROUTE_OUTCOME_OK).probe);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	route_fleet_free(s.fleet);
}

/* Scenario 6: a machine that always fails while it looks idle and warm. */
static void a_sick_node_trips_backs_off_and_recovers_by_one_probe(void **state)
{
	(void)state;
	static const unsigned ladder_s[] = {60, 120, 240, 300, 300};
	struct scene s = scene_new();
	struct route_node *healthy = add_device(s.fleet, "SERIAL-2", "1.0");
	struct route_request only = base_request();
	only.only = s.node;
	for (int i = 0; i < 5; i++)
		attempt(&s, only, ROUTE_OUTCOME_NODE_FAULT);
	for (size_t trip = 0; trip < sizeof ladder_s / sizeof *ladder_s; trip++) {
		assert_int_equal(gate(&s, base_request()), ROUTE_NODE_BREAKER);
		assert_ptr_equal(attempt(&s, base_request(), ROUTE_OUTCOME_OK).node, healthy);
		pass_time(&s, ladder_s[trip] - 1);
		assert_int_equal(gate(&s, base_request()), ROUTE_NODE_BREAKER);
		pass_time(&s, 1);
		assert_int_equal(gate(&s, base_request()), ROUTE_OK);
		struct route_decision decision = attempt(&s, only, ROUTE_OUTCOME_NODE_FAULT);
		assert_true(decision.probe);
		assert_false(decision.bypassed_breaker);
	}
	pass_time(&s, 300);
	assert_true(attempt(&s, only, ROUTE_OUTCOME_OK).probe);
	for (int i = 0; i < 4; i++)
		attempt(&s, only, ROUTE_OUTCOME_NODE_FAULT);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK); /* trips were forgiven: it takes five again */
	attempt(&s, only, ROUTE_OUTCOME_NODE_FAULT);
	pass_time(&s, 60);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	route_fleet_free(s.fleet);
}

static void a_fleet_that_is_sick_as_a_whole_still_serves(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_node *other = add_device(s.fleet, "SERIAL-2", "1.0");
	struct route_request request = base_request();
	for (int i = 0; i < 10; i++) {
		request.only = i % 2 ? s.node : other;
		attempt(&s, request, ROUTE_OUTCOME_NODE_FAULT);
	}
	struct route_decision decision = attempt(&s, base_request(), ROUTE_OUTCOME_CLIENT);
	assert_true(decision.bypassed_breaker);
	/* A healthy one that is only busy is waited for. */
	struct route_node *busy = add_device(s.fleet, "SERIAL-3", "1.0");
	struct route_slot slot = fixture_slot();
	slot.running = slot.max_concurrency;
	fixture_beat(s.fleet, busy, &slot);
	struct route_reservation *reservation;
	request.only = NULL;
	assert_int_equal(route_select(s.fleet, &request, s.now_us, &decision, &reservation), DB_E_AGAIN);
	/* And no other gate is opened for want of nodes. */
	route_node_remove(s.fleet, busy);
	route_node_remove(s.fleet, other);
	struct route_node_facts facts;
	route_node_facts(s.fleet, s.node, &facts);
	facts.posture_verified = false;
	route_node_set_facts(s.fleet, s.node, &facts);
	assert_int_equal(route_select(s.fleet, &request, s.now_us, &decision, &reservation), DB_E_NOT_FOUND);
	route_fleet_free(s.fleet);
}

/* Scenario 7: a template that breaks with tools, between conversations that go well. */
static void a_crash_with_tools_quarantines_tools_and_retries_on_another_version(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_node *same = add_device(s.fleet, "SERIAL-2", "1.0");
	struct route_node *other = add_device(s.fleet, "SERIAL-3", "1.1");
	struct route_request crash = tools_request();
	crash.only = s.node;
	for (int i = 0; i < 2; i++) {
		attempt(&s, crash, ROUTE_OUTCOME_SHAPE_FAULT);
		struct route_request text = base_request();
		text.only = s.node;
		attempt(&s, text, ROUTE_OUTCOME_OK);
	}
	assert_int_equal(gate(&s, tools_request()), ROUTE_SHAPE_BREAKER);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	struct route_request retry = tools_request();
	struct route_node *failed[] = {s.node};
	retry.excluded = failed;
	retry.excluded_count = 1;
	retry.avoid_version = STR("1.0");
	for (int i = 0; i < 20; i++)
		assert_ptr_equal(attempt(&s, retry, ROUTE_OUTCOME_OK).node, other);
	retry.avoid_version = STR("1.1");
	assert_ptr_equal(attempt(&s, retry, ROUTE_OUTCOME_OK).node, same);
	route_node_remove(s.fleet, same); /* a wish, not a gate */
	assert_ptr_equal(attempt(&s, retry, ROUTE_OUTCOME_OK).node, other);
	route_fleet_free(s.fleet);
}

static void nobody_is_blamed_for_clients_lateness_or_lack_of_room(void **state)
{
	(void)state;
	static const enum route_outcome innocent[] = {ROUTE_OUTCOME_CLIENT, ROUTE_OUTCOME_CAPACITY, ROUTE_OUTCOME_LATE};
	struct scene s = scene_new();
	double before = score_of(s.node);
	for (int i = 0; i < 300; i++)
		attempt(&s, i % 2 ? base_request() : tools_request(), innocent[i % 3]);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	assert_int_equal(gate(&s, tools_request()), ROUTE_OK);
	assert_near(score_of(s.node), before, 0);
	/* Want of room with a server's status blames the model there, never the machine. */
	for (int i = 0; i < 100; i++) {
		attempt(&s, base_request(), ROUTE_OUTCOME_SHAPE_FAULT);
		attempt(&s, base_request(), ROUTE_OUTCOME_OK);
	}
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	route_fleet_free(s.fleet);
}

static void most_of_twenty_within_two_minutes_open_it_too(void **state)
{
	(void)state;
	struct scene s = scene_new();
	for (int i = 0; i < 20; i++) {
		attempt(&s, base_request(), i % 5 == 4 ? ROUTE_OUTCOME_OK : ROUTE_OUTCOME_NODE_FAULT);
		pass_time(&s, 1);
	}
	assert_int_equal(gate(&s, base_request()), ROUTE_OK); /* 16 of 20 are 80 %, not more */
	route_fleet_free(s.fleet);

	/* 17 of 20, of which no five in a row but the first, and those a success forgave. */
	s = scene_new();
	for (int i = 0; i < 19; i++) {
		attempt(&s, base_request(), i == 5 || i == 10 || i == 15 ? ROUTE_OUTCOME_OK : ROUTE_OUTCOME_NODE_FAULT);
		pass_time(&s, 1);
	}
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	attempt(&s, base_request(), ROUTE_OUTCOME_NODE_FAULT);
	assert_int_equal(gate(&s, base_request()), ROUTE_NODE_BREAKER);
	route_fleet_free(s.fleet);

	s = scene_new();
	for (int i = 0; i < 20; i++) { /* the same, slowly: it decays */
		attempt(&s, base_request(), i == 5 || i == 10 || i == 15 ? ROUTE_OUTCOME_OK : ROUTE_OUTCOME_NODE_FAULT);
		pass_time(&s, 7);
	}
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	route_fleet_free(s.fleet);
}

static void faults_are_forgotten_ten_minutes_after_the_last(void **state)
{
	(void)state;
	struct scene s = scene_new();
	for (int i = 0; i < 4; i++)
		attempt(&s, base_request(), ROUTE_OUTCOME_NODE_FAULT);
	pass_time(&s, 599);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	attempt(&s, base_request(), ROUTE_OUTCOME_NODE_FAULT);
	assert_int_equal(gate(&s, base_request()), ROUTE_NODE_BREAKER); /* five in a row */
	route_fleet_free(s.fleet);

	s = scene_new();
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 4; i++)
			attempt(&s, base_request(), ROUTE_OUTCOME_NODE_FAULT);
		assert_int_equal(gate(&s, base_request()), ROUTE_OK);
		pass_time(&s, 601);
	}
	route_fleet_free(s.fleet);
}

/* What was running when the breaker opened may end badly too: that says nothing new. */
static void a_fault_while_a_breaker_is_open_does_not_keep_it_open_longer(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_decision decision;
	struct route_reservation *running = take(&s, base_request(), &decision);
	for (int i = 0; i < 5; i++)
		attempt(&s, base_request(), ROUTE_OUTCOME_NODE_FAULT);
	pass_time(&s, 30);
	route_outcome(s.fleet, running, ROUTE_OUTCOME_NODE_FAULT, s.now_us);
	route_release(s.fleet, running);
	pass_time(&s, 29);
	assert_int_equal(gate(&s, base_request()), ROUTE_NODE_BREAKER);
	pass_time(&s, 1);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	assert_true(attempt(&s, base_request(), ROUTE_OUTCOME_OK).probe);
	route_fleet_free(s.fleet);
}

/* Also while something else is remembered of the model there. */
static void strikes_of_different_minutes_are_not_added_up(void **state)
{
	(void)state;
	struct scene s = scene_new();
	for (int i = 0; i < 6; i++) {
		attempt(&s, i % 2 ? base_request() : tools_request(), ROUTE_OUTCOME_SHAPE_FAULT);
		pass_time(&s, 40);
		assert_int_equal(gate(&s, base_request()), ROUTE_OK);
		assert_int_equal(gate(&s, tools_request()), ROUTE_OK);
	}
	route_fleet_free(s.fleet);
}

static void a_broken_connection_counts_once(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_reservation *held[8];
	struct route_decision decision;
	for (int i = 0; i < 8; i++)
		held[i] = take(&s, base_request(), &decision);
	for (int i = 0; i < 8; i++) {
		route_outcome(s.fleet, held[i], ROUTE_OUTCOME_LOST, s.now_us);
		route_release(s.fleet, held[i]);
	}
	route_node_remove(s.fleet, s.node);
	s.node = add_device(s.fleet, "SERIAL-1", "1.0");
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	struct route_reservation *lost = take(&s, base_request(), &decision); /* a machine that flaps is sick all the same */
	route_outcome(s.fleet, lost, ROUTE_OUTCOME_LOST, s.now_us);
	route_release(s.fleet, lost);
	assert_int_equal(gate(&s, base_request()), ROUTE_SHAPE_BREAKER);
	route_fleet_free(s.fleet);
}

static void a_reconnect_does_not_clear_what_is_held_against_a_device(void **state)
{
	(void)state;
	struct scene s = scene_new();
	for (int i = 0; i < 5; i++)
		attempt(&s, i < 2 ? tools_request() : base_request(), i < 2 ? ROUTE_OUTCOME_FAULT : ROUTE_OUTCOME_NODE_FAULT);
	route_node_cool(s.fleet, s.node, STR("acme/tiny"), s.now_us + 120 * SECOND_US);
	double score = score_of(s.node);
	route_node_remove(s.fleet, s.node);
	s.node = add_device(s.fleet, "SERIAL-1", "1.0");
	assert_near(score_of(s.node), score, 0);
	assert_int_equal(gate(&s, base_request()), ROUTE_COOLING);
	pass_time(&s, 120);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK); /* the breaker of the node was open for 60 s */
	assert_int_equal(gate(&s, tools_request()), ROUTE_SHAPE_BREAKER);
	struct route_node *stranger = add_device(s.fleet, "SERIAL-2", "1.0");
	struct route_request tools = tools_request();
	assert_int_equal(route_check(s.fleet, stranger, &tools, s.now_us), ROUTE_OK);
	route_fleet_free(s.fleet);
}

static void a_node_without_an_identity_is_judged_by_its_connection(void **state)
{
	(void)state;
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct scene s = {.fleet = fixture_fleet(), .now_us = NOW_US};
	s.node = fixture_node(s.fleet, &facts, &slot);
	for (int i = 0; i < 5; i++)
		attempt(&s, base_request(), ROUTE_OUTCOME_NODE_FAULT);
	assert_int_equal(gate(&s, base_request()), ROUTE_NODE_BREAKER);
	route_node_remove(s.fleet, s.node);
	s.node = fixture_node(s.fleet, &facts, &slot);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	route_fleet_free(s.fleet);
}

static void a_probe_that_leaves_with_its_node_makes_room_for_the_next(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_decision decision;
	for (int i = 0; i < 5; i++)
		attempt(&s, base_request(), ROUTE_OUTCOME_NODE_FAULT);
	pass_time(&s, 60);
	struct route_reservation *probe = take(&s, base_request(), &decision);
	assert_true(decision.probe);
	route_node_remove(s.fleet, s.node);
	s.node = add_device(s.fleet, "SERIAL-1", "1.0");
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	assert_true(attempt(&s, base_request(), ROUTE_OUTCOME_OK).probe);
	route_outcome(s.fleet, probe, ROUTE_OUTCOME_FAULT, s.now_us); /* its node is gone: nothing to tell */
	route_release(s.fleet, probe);
	assert_int_equal(gate(&s, base_request()), ROUTE_OK);
	route_fleet_free(s.fleet);
}

static void what_is_remembered_is_bounded_and_forgotten(void **state)
{
	(void)state;
	struct scene s = scene_new();
	struct route_model_facts models[100];
	char names[100][16];
	for (int i = 0; i < 100; i++) {
		(void)snprintf(names[i], sizeof names[i], "m/%d", i);
		models[i] = (struct route_model_facts){.id = str_of(names[i]), .size_bytes = 1, .template_render_ok = -1};
	}
	assert_int_equal(route_node_set_models(s.fleet, s.node, models, 100), DB_OK);
	for (int i = 0; i < 100; i++)
		route_node_cool(s.fleet, s.node, models[i].id, s.now_us + 120 * SECOND_US);
	struct route_request request = base_request();
	unsigned cooling = 0;
	for (int i = 0; i < 100; i++) {
		request.model = models[i].id;
		cooling += gate(&s, request) == ROUTE_COOLING;
	}
	assert_int_equal(cooling, 32);
	pass_time(&s, 120);
	for (int i = 0; i < 100; i++) {
		request.model = models[i].id;
		assert_int_not_equal(gate(&s, request), ROUTE_COOLING);
	}
	route_fleet_free(s.fleet);
}

static void the_reputation_is_the_chapters(void **state)
{
	(void)state;
	struct reputation r = {
	    .jobs_ok = 95, .jobs_failed = 5, .uptime_s = 6 * 3600, .challenges_passed = 40, .challenges_failed = 2};
	r.latency_ms = 2800;
	assert_near(reputation_score(&r), 0.800, 0.001);
	r = (struct reputation){0};
	assert_near(reputation_score(&r), 0.5, 0);
	reputation_job(&r, true);
	assert_near(reputation_score(&r), 0.4 + 0.15 + 0.1 + 0.05, 1e-9);
	/* A day counts, a day away takes it off again. */
	for (uint64_t s = 0; s <= 2 * 86400; s += 5)
		reputation_seen(&r, s * SECOND_US + 1);
	assert_int_equal(r.uptime_s, 86400);
	reputation_seen(&r, 4 * 86400 * SECOND_US);
	assert_int_equal(r.uptime_s, 0);
	reputation_latency(&r, -5);
	assert_near((double)r.latency_ms, 0, 0);
	reputation_latency(&r, 1000);
	reputation_latency(&r, 2000);
	assert_near((double)r.latency_ms, 1200, 0.01);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_shape_is_shut_by_two_strikes_in_a_minute_and_no_other),
	    cmocka_unit_test(a_shut_base_shape_still_serves_the_other_and_is_the_last_resort),
	    cmocka_unit_test(a_machine_that_cools_down_is_no_last_resort),
	    cmocka_unit_test(a_half_open_breaker_lets_exactly_one_request_try),
	    cmocka_unit_test(a_sick_node_trips_backs_off_and_recovers_by_one_probe),
	    cmocka_unit_test(a_fleet_that_is_sick_as_a_whole_still_serves),
	    cmocka_unit_test(a_crash_with_tools_quarantines_tools_and_retries_on_another_version),
	    cmocka_unit_test(nobody_is_blamed_for_clients_lateness_or_lack_of_room),
	    cmocka_unit_test(most_of_twenty_within_two_minutes_open_it_too),
	    cmocka_unit_test(faults_are_forgotten_ten_minutes_after_the_last),
	    cmocka_unit_test(a_fault_while_a_breaker_is_open_does_not_keep_it_open_longer),
	    cmocka_unit_test(strikes_of_different_minutes_are_not_added_up),
	    cmocka_unit_test(a_broken_connection_counts_once),
	    cmocka_unit_test(a_reconnect_does_not_clear_what_is_held_against_a_device),
	    cmocka_unit_test(a_node_without_an_identity_is_judged_by_its_connection),
	    cmocka_unit_test(a_probe_that_leaves_with_its_node_makes_room_for_the_next),
	    cmocka_unit_test(what_is_remembered_is_bounded_and_forgotten),
	    cmocka_unit_test(the_reputation_is_the_chapters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
