/* What goes wrong around machines: prompts that come too late, owners, proofs, drains, new builds, clients' mistakes
 * (routing 22 and 24: 1, 15, 16, 17, 20), on what must hold whatever the timing. */
#include "sim_fixture.h"

static const struct sim_summary *by(const struct sim_policy *policy, const char *name)
{
	load(name);
	return run(policy);
}

static double share_of(const char *model)
{
	uint16_t at = sim_scenario_model(&scenario, str_of(model));
	assert_true(at < scenario.model_count);
	return summary.to_model[at];
}

/* --- 1: the prompt at which the hard gate begins to refuse; on 27 tokens/s, (5000 - 1000/27) / (1000/(27 ratio) - 1) --- */

static void the_hard_gate_has_its_cliff_where_arithmetic_puts_it(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		uint32_t last;
	} cliffs[] = {{"prompt-cliff-4", 601}, {"prompt-cliff-12", 2379}};
	for (size_t i = 0; i < 2; i++) {
		const struct sim_summary *hard = by(&sim_policy_chapter, cliffs[i].name);
		assert_true(hard->by_outcome[SIM_REFUSED] > 100 && hard->by_outcome[SIM_OK] > 100);
		assert_true(hard->longest_answered <= cliffs[i].last && hard->longest_answered + 60 > cliffs[i].last);
		assert_true(hard->shortest_refused > cliffs[i].last && hard->shortest_refused < cliffs[i].last + 60);
		scenario.ttft_hard = false;
		const struct sim_summary *soft = run(&sim_policy_chapter);
		assert_int_equal(soft->by_outcome[SIM_OK], soft->requests);
	}
}

static void a_long_prompt_on_a_slow_machine_is_read_to_its_end(void **state)
{
	(void)state;
	static const char *const names[] = {"prompt-cliff-4", "prompt-cliff-12"};
	for (size_t i = 0; i < 2; i++) {
		const struct sim_summary *at = ours(names[i]);
		assert_int_equal(at->by_outcome[SIM_OK], at->requests);
		assert_int_equal(at->late, 0);
	}
}

/* --- 15: a new build under a public name --- */

static void a_good_build_gets_all_the_traffic_without_a_failed_request(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("alias-migration");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->bad_hashes > 0);
	assert_int_equal((int)at->alias_share, 100);
	assert_false(at->rolled_back);
	assert_true(share_of("org/chat-8b-v2") > 0.2 && share_of("org/chat-8b-v1") > 0.2); /* it grew by stages */
}

static void a_build_that_fails_or_is_slow_is_rolled_back(void **state)
{
	(void)state;
	static const char *const names[] = {"alias-faults", "alias-slow"};
	for (size_t i = 0; i < 2; i++) {
		const struct sim_summary *at = ours(names[i]);
		assert_int_equal(at->by_outcome[SIM_OK], at->requests);
		assert_true(at->rolled_back);
		assert_int_equal((int)at->alias_share, 0);
		assert_true(share_of("org/chat-8b-v2") > 0 && share_of("org/chat-8b-v2") < 0.1);
	}
}

static void a_build_that_machines_fail_to_load_costs_no_request(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("alias-load-failures");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->load_failures > 0);
	assert_true(at->loads < 60);
}

static void every_policy_survives_a_new_build(void **state)
{
	(void)state;
	load("alias-faults");
	scenario.seconds = 900;
	for (size_t policy = 0; sim_policies[policy]; policy++)
		(void)run(sim_policies[policy]);
}

/* --- 16: whose machine serves whom. That no stranger's was asked is checked in every run (barred). --- */

static void what_must_stay_at_home_stays_and_what_may_leave_is_answered(void **state)
{
	(void)state;
	for (size_t policy = 0; sim_policies[policy]; policy++) {
		const struct sim_summary *at = by(sim_policies[policy], "self-route");
		assert_true(at->by_outcome[SIM_OK] > at->requests * 97 / 100);
	}
	/* Of the requests only those that must stay at home may be refused: without them there are none. */
	load("self-route");
	scenario.workload.self_route = 0;
	const struct sim_summary *at = run(&sim_policy_ours);
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
}

/* --- 17: challenges and the deadline of attestation --- */

static void unproven_machines_are_passed_over_until_they_answer(void **state)
{
	(void)state;
	static const char *const names[] = {"challenges", "attestation-deadline"};
	for (size_t i = 0; i < 2; i++) {
		for (size_t policy = 0; sim_policies[policy]; policy++) {
			const struct sim_summary *at = by(sim_policies[policy], names[i]);
			assert_int_equal(at->by_outcome[SIM_OK], at->requests);
		}
	}
}

/* --- 20: a drain --- */

static void a_drain_breaks_nothing_off_and_ends(void **state)
{
	(void)state;
	for (size_t policy = 0; sim_policies[policy]; policy++) {
		const struct sim_summary *at = by(sim_policies[policy], "drain");
		assert_true(at->refused_draining > 0);
		assert_int_equal(at->by_outcome[SIM_REFUSED], (uint64_t)at->refused_draining);
		assert_int_equal(at->by_outcome[SIM_OK] + at->by_outcome[SIM_REFUSED], at->requests);
		assert_true(at->by_outcome[SIM_OK] > 600); /* 500 and those before and after */
		assert_true(at->drained_s > 0);
	}
}

/* --- traps of routing 22 --- */

static void a_clients_mistake_is_tried_once_and_blames_nobody(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("bad-requests");
	assert_true(at->by_outcome[SIM_REFUSED] > 20);
	assert_int_equal(at->by_outcome[SIM_OK] + at->by_outcome[SIM_REFUSED], at->requests);
	assert_int_equal((uint64_t)at->attempts, at->requests + (uint64_t)at->hedges);
	assert_int_equal((int)at->faults, 0);
	double as_written = by(&sim_policy_chapter, "bad-requests")->attempts;
	assert_true(as_written > 1.3 * (double)summary.requests); /* the rule as written tries them all over the fleet */
}

/* 8: one dispatch for what no machine can hold, three for what machines have no room for. */
static void want_of_room_is_tried_three_times_at_most(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("oversized");
	assert_true(at->by_outcome[SIM_REFUSED] > 0 && at->by_outcome[SIM_OK] > at->requests / 2);
	assert_int_equal(at->by_outcome[SIM_OK] + at->by_outcome[SIM_REFUSED], at->requests);
	assert_true(at->most_tries <= 3 + 1); /* and perhaps a hedge */
	assert_int_equal(at->late, 0);
}

/* 11: whoever of two stalls, fails or is lost, before content or after. */
static void a_race_has_one_winner_whoever_fails(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("races");
	assert_true(at->hedges > 20 && at->hedges_won > 10 && at->faults > 10);
	assert_int_equal(at->by_outcome[SIM_OK] + at->by_outcome[SIM_LEFT], at->requests);
	assert_int_equal(at->late, 0);
}

static void a_sick_machine_does_not_recover_by_connecting_anew(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("sick-reconnects");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	double faults = at->faults, as_written = by(&sim_policy_chapter, "sick-reconnects")->faults;
	assert_true(faults < 60);
	assert_true(as_written > 2 * faults);
}

static void machines_that_fail_to_load_do_not_keep_others_from_it(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("load-failures");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->load_failures > 20 && at->loads - at->load_failures >= 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_hard_gate_has_its_cliff_where_arithmetic_puts_it),
	    cmocka_unit_test(a_long_prompt_on_a_slow_machine_is_read_to_its_end),
	    cmocka_unit_test(a_good_build_gets_all_the_traffic_without_a_failed_request),
	    cmocka_unit_test(a_build_that_fails_or_is_slow_is_rolled_back),
	    cmocka_unit_test(a_build_that_machines_fail_to_load_costs_no_request),
	    cmocka_unit_test(every_policy_survives_a_new_build),
	    cmocka_unit_test(what_must_stay_at_home_stays_and_what_may_leave_is_answered),
	    cmocka_unit_test(unproven_machines_are_passed_over_until_they_answer),
	    cmocka_unit_test(a_drain_breaks_nothing_off_and_ends),
	    cmocka_unit_test(a_clients_mistake_is_tried_once_and_blames_nobody),
	    cmocka_unit_test(want_of_room_is_tried_three_times_at_most),
	    cmocka_unit_test(a_race_has_one_winner_whoever_fails),
	    cmocka_unit_test(a_sick_machine_does_not_recover_by_connecting_anew),
	    cmocka_unit_test(machines_that_fail_to_load_do_not_keep_others_from_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
