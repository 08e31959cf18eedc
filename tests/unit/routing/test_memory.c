/* What is remembered over a restart: a snapshot of one fleet, restored into another. */
#include "routing_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "coordinator/routing/memory.h"
#include "coordinator/routing/routing_internal.h"

#define WALL_S 1000000
#define STEP   3 /* records: so that every snapshot takes many steps */

struct scene {
	struct route_fleet *fleet;
	struct route_node *node;
	struct learn *learn;
	uint64_t now_us;
};

static struct route_node *add_device(struct scene *s)
{
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	facts.serial = STR("SERIAL-1");
	facts.device = STR("SERIAL-1");
	facts.last_challenge_us = s->now_us;
	s->node = fixture_node(s->fleet, &facts, &slot);
	return s->node;
}

static struct scene scene_new(uint64_t now_us)
{
	struct scene s = {.fleet = fixture_fleet(), .learn = malloc(sizeof(struct learn)), .now_us = now_us};
	assert_non_null(s.learn);
	learn_init(s.learn);
	return s;
}

static void scene_end(struct scene *s)
{
	route_fleet_free(s->fleet);
	learn_free(s->learn);
	free(s->learn);
}

static void attempt(struct scene *s, enum route_outcome outcome)
{
	struct route_request request = fixture_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	assert_int_equal(route_select(s->fleet, &request, s->now_us, &decision, &reservation), DB_OK);
	(void)route_first_content(s->fleet, reservation, s->now_us + 2 * SECOND_US);
	route_outcome(s->fleet, reservation, outcome, s->now_us);
	route_release(s->fleet, reservation);
}

static enum route_gate gate(struct scene *s)
{
	struct route_request request = fixture_request();
	return route_check(s->fleet, s->node, &request, s->now_us);
}

static struct memory_snapshot snapshot_of(struct scene *s)
{
	struct memory_snapshot snapshot;
	memory_begin(&snapshot, s->fleet, WALL_S);
	for (int steps = 0; !memory_step(&snapshot, s->fleet, s->learn, s->now_us, STEP); steps++)
		assert_in_range(steps, 0, 10000);
	memory_seal(&snapshot.bytes);
	return snapshot;
}

/* The coordinator starts again on another machine's clock, `later_s` after the snapshot. */
static struct scene restart(struct scene *s, uint64_t later_s, uint64_t now_us)
{
	struct memory_snapshot snapshot = snapshot_of(s);
	struct scene next = scene_new(now_us);
	assert_int_equal(memory_restore(next.fleet, next.learn, buf_str(&snapshot.bytes), now_us, WALL_S + (int64_t)later_s, NULL),
	                 DB_OK);
	memory_end(&snapshot);
	scene_end(s);
	return next;
}

static void learn_many(struct scene *s, int from, int to)
{
	char name[32];
	for (int i = from; i < to; i++) {
		int len = snprintf(name, sizeof name, "model-%d", i);
		learn_output(s->learn, (struct str){name, (size_t)len}, STR_NONE, 1000 + (uint64_t)i);
	}
}

static void a_table_that_grows_between_two_steps_loses_nothing(void **state)
{
	enum { BEFORE = 40, AFTER = 4000 };
	(void)state;
	struct scene s = scene_new(NOW_US), next = scene_new(NOW_US);
	struct memory_snapshot snapshot;
	char name[32];
	learn_many(&s, 0, BEFORE);
	memory_begin(&snapshot, s.fleet, WALL_S);
	assert_false(memory_step(&snapshot, s.fleet, s.learn, s.now_us, BEFORE - 1));
	learn_many(&s, BEFORE, AFTER);
	assert_true(memory_step(&snapshot, s.fleet, s.learn, s.now_us, 2 * AFTER));
	memory_seal(&snapshot.bytes);
	assert_int_equal(memory_restore(next.fleet, next.learn, buf_str(&snapshot.bytes), NOW_US, WALL_S, NULL), DB_OK);
	for (int i = 0; i < AFTER; i++) {
		int len = snprintf(name, sizeof name, "model-%d", i);
		assert_true(learn_knows(next.learn, (struct str){name, (size_t)len}));
	}
	memory_end(&snapshot);
	scene_end(&s);
	scene_end(&next);
}

static void an_open_breaker_stays_open_for_the_rest_of_its_time(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	add_device(&s);
	for (int i = 0; i < 5; i++)
		attempt(&s, ROUTE_OUTCOME_NODE_FAULT);
	assert_int_equal(gate(&s), ROUTE_NODE_BREAKER);
	s = restart(&s, 20, 7 * SECOND_US);
	add_device(&s);
	assert_int_equal(gate(&s), ROUTE_NODE_BREAKER);
	s.now_us += 39 * SECOND_US;
	assert_int_equal(gate(&s), ROUTE_NODE_BREAKER);
	s.now_us += 2 * SECOND_US;
	assert_int_equal(gate(&s), ROUTE_OK); /* half open */
	struct route_request request = fixture_request();
	struct route_decision decision;
	struct route_reservation *probe;
	assert_int_equal(route_select(s.fleet, &request, s.now_us, &decision, &probe), DB_OK);
	assert_true(decision.probe);
	route_outcome(s.fleet, probe, ROUTE_OUTCOME_NODE_FAULT, s.now_us);
	route_release(s.fleet, probe);
	s.now_us += 119 * SECOND_US; /* the second trip, and not the first again */
	assert_int_equal(gate(&s), ROUTE_NODE_BREAKER);
	scene_end(&s);
}

static void a_breaker_whose_time_passed_meanwhile_comes_back_half_open(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	add_device(&s);
	for (int i = 0; i < 2; i++)
		attempt(&s, ROUTE_OUTCOME_SHAPE_FAULT);
	assert_int_equal(gate(&s), ROUTE_SHAPE_BREAKER);
	s = restart(&s, 400, 7 * SECOND_US);
	add_device(&s);
	assert_int_equal(gate(&s), ROUTE_OK);
	attempt(&s, ROUTE_OUTCOME_SHAPE_FAULT); /* the probe's: one is enough */
	assert_int_equal(gate(&s), ROUTE_SHAPE_BREAKER);
	scene_end(&s);
}

static void strikes_and_faults_count_on_and_old_ones_do_not(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		struct scene s = scene_new(NOW_US);
		add_device(&s);
		attempt(&s, ROUTE_OUTCOME_SHAPE_FAULT);
		s = restart(&s, late ? 70 : 10, 500 * SECOND_US);
		add_device(&s);
		attempt(&s, ROUTE_OUTCOME_SHAPE_FAULT);
		assert_int_equal(gate(&s), late ? ROUTE_OK : ROUTE_SHAPE_BREAKER);
		scene_end(&s);
	}
	struct scene s = scene_new(NOW_US);
	add_device(&s);
	for (int i = 0; i < 4; i++)
		attempt(&s, ROUTE_OUTCOME_NODE_FAULT);
	s = restart(&s, 5, 500 * SECOND_US);
	add_device(&s);
	attempt(&s, ROUTE_OUTCOME_NODE_FAULT); /* the fifth */
	assert_int_equal(gate(&s), ROUTE_NODE_BREAKER);
	scene_end(&s);
}

static void a_cool_down_goes_on_and_ends(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	route_node_cool(s.fleet, add_device(&s), STR_NONE, s.now_us + 120 * SECOND_US);
	route_node_cool(s.fleet, s.node, STR_NONE, s.now_us + 120 * SECOND_US);
	assert_int_equal(route_select(s.fleet, &(struct route_request){.model = STR("none")}, s.now_us, &(struct route_decision){0},
	                              &(struct route_reservation *){NULL}),
	                 DB_E_NOT_FOUND); /* tells the time */
	route_node_cool(s.fleet, s.node, STR_NONE, s.now_us + 120 * SECOND_US);
	assert_int_equal(gate(&s), ROUTE_COOLING);
	s = restart(&s, 100, 9 * SECOND_US);
	add_device(&s);
	assert_int_equal(gate(&s), ROUTE_COOLING);
	s.now_us += 21 * SECOND_US;
	assert_int_equal(gate(&s), ROUTE_OK);
	scene_end(&s);
}

static void reputation_comes_back_and_time_away_is_taken_off(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	add_device(&s);
	for (int i = 0; i < 3; i++)
		attempt(&s, ROUTE_OUTCOME_OK);
	attempt(&s, ROUTE_OUTCOME_NODE_FAULT);
	route_node_challenged(s.fleet, s.node, true);
	for (uint64_t second = 0; second <= 3600; second += 100)
		route_node_seen(s.fleet, s.node, NOW_US + second * SECOND_US);
	s.now_us += 3600 * SECOND_US;
	struct reputation before = route_node_reputation(s.node);
	s = restart(&s, 600, 5 * SECOND_US);
	struct reputation after = route_node_reputation(add_device(&s));
	assert_int_equal(after.jobs_ok, 3);
	assert_int_equal(after.jobs_failed, 1);
	assert_int_equal(after.challenges_passed, 1);
	assert_int_equal(before.uptime_s, 3600);
	assert_int_equal(after.uptime_s, 3000);
	assert_true(after.latency_ms == before.latency_ms && after.latency_ms > 0);
	scene_end(&s);
}

static void what_was_measured_of_a_device_need_not_be_measured_again(void **state)
{
	(void)state;
	struct route_request request = fixture_request();
	struct scene s = scene_new(NOW_US);
	struct route_slot slot = fixture_slot();
	struct route_cost before, after, fresh;
	slot.decode_tps = 37;
	slot.load_time_ms = 9000;
	fixture_beat(s.fleet, add_device(&s), &slot);
	struct route_node_facts facts;
	route_node_facts(s.fleet, s.node, &facts);
	facts.network_ms = 42;
	route_node_set_facts(s.fleet, s.node, &facts);
	assert_true(route_cost_of(s.fleet, s.node, &request, &before));
	for (int again = 0; again < 2; again++) { /* nobody connected between the two */
		s = restart(&s, 3600, 5 * SECOND_US);
		if (!again)
			continue;
		add_device(&s);
		assert_true(route_cost_of(s.fleet, s.node, &request, &after));
		assert_near(after.own, before.own, 0.01);
		assert_near(after.network, 42, 0.001);
		struct route_slot cold = {.state = ROUTE_SLOT_COLD};
		fixture_beat(s.fleet, s.node, &cold);
		assert_true(route_cost_of(s.fleet, s.node, &request, &after));
		assert_near(after.state, 9000, 0.1);
	}
	scene_end(&s);
	s = scene_new(NOW_US);
	add_device(&s);
	assert_true(route_cost_of(s.fleet, s.node, &request, &fresh));
	assert_true(fabs(fresh.own - before.own) > 100);
	scene_end(&s);
}

static void another_connection_of_a_device_begins_with_its_rates(void **state)
{
	(void)state;
	struct route_request request = fixture_request();
	struct scene s = scene_new(NOW_US);
	struct route_slot slot = fixture_slot();
	struct route_cost before, after;
	slot.decode_tps = 37;
	fixture_beat(s.fleet, add_device(&s), &slot);
	assert_true(route_cost_of(s.fleet, s.node, &request, &before));
	route_node_remove(s.fleet, s.node);
	add_device(&s);
	assert_true(route_cost_of(s.fleet, s.node, &request, &after));
	assert_near(after.own, before.own, 0.01);
	scene_end(&s);
}

static void predictions_stay_corrected_and_the_correction_fades(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	add_device(&s);
	for (int i = 0; i < 40; i++)
		attempt(&s, ROUTE_OUTCOME_OK);
	const struct route_model *model = route_model_find(s.fleet, STR("acme/tiny"));
	double factor = route_ttft_factor(model), weight = (double)model->known.ratios.total;
	assert_true(fabs(factor - 1) > 0.1);
	s = restart(&s, 0, 5 * SECOND_US);
	add_device(&s);
	model = route_model_find(s.fleet, STR("acme/tiny"));
	assert_near(route_ttft_factor(model), factor, 0.001);
	assert_near((double)model->known.ratios.total, weight, 0.01);
	assert_true(model->known.typical_prompt > 0);
	s = restart(&s, 86400, 5 * SECOND_US); /* half as much is made of it */
	add_device(&s);
	model = route_model_find(s.fleet, STR("acme/tiny"));
	assert_near((double)model->known.ratios.total, weight / 2, 0.01);
	assert_near(route_ttft_factor(model), factor, 0.001);
	s = restart(&s, 20 * 86400, 5 * SECOND_US);
	add_device(&s);
	assert_near(route_ttft_factor(route_model_find(s.fleet, STR("acme/tiny"))), 1, 0.001);
	scene_end(&s);
}

static void a_model_that_nobody_advertises_for_a_while_is_still_known(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	add_device(&s);
	for (int i = 0; i < 40; i++)
		attempt(&s, ROUTE_OUTCOME_OK);
	double factor = route_ttft_factor(route_model_find(s.fleet, STR("acme/tiny")));
	route_node_remove(s.fleet, s.node);
	assert_null(route_model_find(s.fleet, STR("acme/tiny")));
	add_device(&s);
	assert_near(route_ttft_factor(route_model_find(s.fleet, STR("acme/tiny"))), factor, 0.001);
	assert_int_equal(s.fleet->past_order.count, 0);
	scene_end(&s);
}

static void lengths_of_answers_come_back_for_models_and_accounts(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	for (int i = 0; i < 200; i++)
		learn_output(s.learn, STR("acme/tiny"), STR("alice"), 40);
	for (int i = 0; i < 20; i++)
		learn_output(s.learn, STR("acme/tiny"), STR("bob"), 900);
	uint64_t alice = learn_expect(s.learn, STR("acme/tiny"), STR("alice"));
	uint64_t bob = learn_expect(s.learn, STR("acme/tiny"), STR("bob"));
	uint64_t other = learn_expect(s.learn, STR("acme/tiny"), STR("carol"));
	assert_true(alice < other && other < bob);
	s = restart(&s, 1, 5 * SECOND_US);
	assert_in_range(learn_expect(s.learn, STR("acme/tiny"), STR("alice")), alice - 2, alice + 20);
	assert_in_range(learn_expect(s.learn, STR("acme/tiny"), STR("bob")), bob - 20, bob + 2);
	assert_in_range(learn_expect(s.learn, STR("acme/tiny"), STR("carol")), other - 1, other + 1);
	s = restart(&s, 28 * 86400, 5 * SECOND_US); /* an account may have changed its ways */
	assert_true(learn_expect(s.learn, STR("acme/tiny"), STR("bob")) < bob - 100);
	scene_end(&s);
}

static void damaged_foreign_and_old_bytes_change_nothing(void **state)
{
	(void)state;
	struct error error;
	struct scene s = scene_new(NOW_US), next = scene_new(NOW_US);
	add_device(&s);
	attempt(&s, ROUTE_OUTCOME_NODE_FAULT);
	struct memory_snapshot snapshot = snapshot_of(&s);
	struct str whole = buf_str(&snapshot.bytes);
	for (size_t len = 0; len < whole.len; len++)
		assert_int_equal(memory_restore(next.fleet, next.learn, (struct str){whole.at, len}, NOW_US, WALL_S, &error),
		                 DB_E_INVALID);
	for (size_t at = 8; at < whole.len; at++) {
		snapshot.bytes.at[at] ^= 0x20;
		assert_int_equal(memory_restore(next.fleet, next.learn, whole, NOW_US, WALL_S, &error), DB_E_INVALID);
		snapshot.bytes.at[at] ^= 0x20;
	}
	snapshot.bytes.at[7]++;
	assert_int_equal(memory_restore(next.fleet, next.learn, whole, NOW_US, WALL_S, &error), DB_E_UNSUPPORTED);
	snapshot.bytes.at[7]--;
	assert_int_equal(memory_restore(next.fleet, next.learn, whole, NOW_US, WALL_S + 31 * 86400, &error), DB_E_TIMEOUT);
	assert_int_equal(next.fleet->departed.count, 0);
	assert_int_equal(memory_restore(next.fleet, next.learn, whole, NOW_US, WALL_S - 5, &error), DB_OK); /* a clock set back */
	assert_int_equal(next.fleet->departed.count, 1);
	memory_end(&snapshot);
	scene_end(&s);
	scene_end(&next);
}

/* A snapshot in which a table's part began again names some twice. */
static void what_is_named_twice_is_taken_once(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	add_device(&s);
	attempt(&s, ROUTE_OUTCOME_SHAPE_FAULT);
	learn_output(s.learn, STR("acme/tiny"), STR("alice"), 40);
	struct memory_snapshot snapshot = snapshot_of(&s);
	for (int again = 0; again < 2; again++)
		assert_int_equal(memory_restore(s.fleet, s.learn, buf_str(&snapshot.bytes), NOW_US, WALL_S, NULL), DB_OK);
	assert_non_null(s.node->device->records);
	assert_null(s.node->device->records->next);
	memory_end(&snapshot);
	scene_end(&s);
}

static void devices_without_an_identity_are_not_kept(void **state)
{
	(void)state;
	struct scene s = scene_new(NOW_US);
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	s.node = fixture_node(s.fleet, &facts, &slot);
	attempt(&s, ROUTE_OUTCOME_NODE_FAULT);
	s = restart(&s, 1, NOW_US);
	assert_int_equal(s.fleet->departed.count, 0);
	scene_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_table_that_grows_between_two_steps_loses_nothing),
	    cmocka_unit_test(an_open_breaker_stays_open_for_the_rest_of_its_time),
	    cmocka_unit_test(a_breaker_whose_time_passed_meanwhile_comes_back_half_open),
	    cmocka_unit_test(strikes_and_faults_count_on_and_old_ones_do_not),
	    cmocka_unit_test(a_cool_down_goes_on_and_ends),
	    cmocka_unit_test(reputation_comes_back_and_time_away_is_taken_off),
	    cmocka_unit_test(what_was_measured_of_a_device_need_not_be_measured_again),
	    cmocka_unit_test(another_connection_of_a_device_begins_with_its_rates),
	    cmocka_unit_test(predictions_stay_corrected_and_the_correction_fades),
	    cmocka_unit_test(a_model_that_nobody_advertises_for_a_while_is_still_known),
	    cmocka_unit_test(lengths_of_answers_come_back_for_models_and_accounts),
	    cmocka_unit_test(damaged_foreign_and_old_bytes_change_nothing),
	    cmocka_unit_test(what_is_named_twice_is_taken_once),
	    cmocka_unit_test(devices_without_an_identity_are_not_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
