/* The scenario files of tests/scenarios, on what must hold whatever the timing: every request ends, nothing is lost or counted
 * twice, hedges keep to their budget, what is sick is not asked for long (routing 21, 22, 24). */
#include <dirent.h>

#include "sim_fixture.h"

static void every_policy_brings_every_request_to_one_end(void **state)
{
	(void)state;
	static const char *const names[] = {"burst", "faulty-machine", "clients-leave", "flapping"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		load(names[i]);
		for (size_t policy = 0; sim_policies[policy]; policy++)
			(void)run(sim_policies[policy]);
	}
}

static void every_scenario_can_be_read(void **state)
{
	(void)state;
	DIR *dir = opendir(TEST_SOURCE_DIR "/tests/scenarios");
	size_t count = 0;
	assert_non_null(dir);
	for (const struct dirent *entry; (entry = readdir(dir));) {
		struct str name = str_of(entry->d_name);
		char stem[64];
		if (!str_ends(name, STR(".toml")))
			continue;
		assert_true(str_copy(str_sub(name, 0, name.len - 5), stem, sizeof stem));
		load(stem);
		assert_string_equal(scenario.name, stem);
		count++;
	}
	closedir(dir);
	assert_true(count >= 19);
}

/* SIM_SEEDS histories of every scenario (1); what holds is asserted by run(). Fleets of thousands have a scenario of their own.
 */
static void every_history_of_every_scenario_keeps_the_books(void **state)
{
	(void)state;
	static const struct sim_policy *const policies[] = {&sim_policy_ours, &sim_policy_chapter};
	const char *text = getenv("SIM_SEEDS");
	uint64_t seeds = 1;
	if (text)
		assert_true(str_to_u64(str_of(text), &seeds));
	DIR *dir = opendir(TEST_SOURCE_DIR "/tests/scenarios");
	assert_non_null(dir);
	for (const struct dirent *entry; (entry = readdir(dir));) {
		struct str name = str_of(entry->d_name);
		char stem[64];
		if (!str_ends(name, STR(".toml")))
			continue;
		assert_true(str_copy(str_sub(name, 0, name.len - 5), stem, sizeof stem));
		for (uint64_t seed = 0; seed < seeds; seed++) {
			load(stem);
			if (sim_scenario_boxes(&scenario) > 1000)
				continue;
			scenario.seed = 1000 + seed;
			scenario.seconds = scenario.seconds > 400 ? 400 : scenario.seconds;
			(void)run(policies[seed % 2]);
		}
	}
	closedir(dir);
}

static void the_same_seed_gives_the_same_history(void **state)
{
	(void)state;
	struct sim_summary first = *ours("flapping");
	const struct sim_summary *again = ours("flapping");
	assert_memory_equal(&first, again, sizeof first);
}

static void a_burst_spreads_before_any_heartbeat(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("burst");
	assert_int_equal(at->by_outcome[SIM_OK], 50);
	assert_true(at->busiest_share < 0.5); /* 60 of 150 tokens/s would be 0.4 */
}

static void machines_that_cannot_hold_a_model_are_never_asked(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("mixed-memory");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_int_equal((int)at->loads, 0);
	assert_int_equal((int)at->faults, 0);
}

static void streams_of_a_slow_model_keep_their_rate(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("slow-model");
	assert_true(at->rate_p1 > 12); /* prompts read in between take some of 14.9 */
	assert_true(at->by_outcome[SIM_REFUSED] + at->by_outcome[SIM_OK] == at->requests);
}

static void a_machine_that_fails_is_left_alone_and_then_asked_again(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("faulty-machine");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->faults < 100); /* of about 400 requests that would have met it */
}

static void a_fault_with_tools_does_not_cost_text_its_machines(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("tools-fault");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->faults < 100);
}

static void overload_is_refused_and_not_broken_off(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("saturation");
	assert_true(at->by_outcome[SIM_REFUSED] > 0);
	assert_int_equal(at->by_outcome[SIM_PARTIAL], 0);
	assert_true(at->queue_max <= 4000 + 1);
	assert_int_equal(at->late, 0);
}

static void answers_survive_machines_that_die_fall_silent_or_flap(void **state)
{
	(void)state;
	static const char *const names[] = {"killed-and-deaf", "frozen", "flapping", "hot"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const struct sim_summary *at = ours(names[i]);
		assert_int_equal(at->by_outcome[SIM_OK], at->requests);
		assert_int_equal(at->late, 0);
	}
}

static void a_cold_fleet_warms_up_though_loads_fail(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("cold-start");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->loads > 0 && at->load_failures > 0);
	assert_true(at->loads <= 40);
}

static void two_models_by_turns_do_not_make_machines_load_all_the_time(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("alternating");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->loads <= 16); /* one each in ten minutes; twenty turns would allow 320 */
}

static void machines_that_lie_get_no_more_than_their_kind(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("liars");
	assert_int_equal(at->by_outcome[SIM_OK], at->requests);
	assert_true(at->liars_share < 0.3); /* of 0.1 of the machines */
}

static void a_second_machine_is_asked_within_the_budget(void **state)
{
	(void)state;
	static const char *const names[] = {"sick", "stalls", "wandering"};
	for (size_t i = 0; i < 3; i++) {
		load(names[i]);
		scenario.seconds = 300;
		const struct sim_summary *at = run(&sim_policy_ours);
		assert_true(at->hedges > 0 && at->hedges_won > 0);
		assert_true(at->extra_share <= 0.03);
		assert_int_equal(at->by_outcome[SIM_OK], at->requests);
		assert_int_equal(at->late, 0);
	}
}

static void conversations_return_to_machines_that_keep_their_prompts(void **state)
{
	(void)state;
	load("steady");
	scenario.seconds = 400;
	double kept = run(&sim_policy_ours)->cached_share;
	scenario.cached_prompts = 0;
	assert_true(run(&sim_policy_ours)->cached_share <= 0);
	assert_true(kept > 0.08);
}

static void shares_and_priorities_of_accounts_hold_in_the_queue(void **state)
{
	(void)state;
	const struct sim_summary *at = ours("shares");
	const double *answered = at->answered_of, *waited = at->queue_of_ms;
	assert_true(at->by_outcome[SIM_REFUSED] > at->requests / 10);        /* there is not enough for all */
	assert_true(answered[0] > answered[2] && answered[1] > answered[2]); /* weight 4, interactive */
	assert_true(waited[1] < waited[2]);
	assert_true(answered[3] < answered[0] && answered[3] < answered[1]); /* batch */
	assert_int_equal(at->late, 0);
	for (uint32_t tenant = 0; tenant < 4; tenant++)
		assert_true(answered[tenant] > 0.02); /* nobody is left out altogether */
}

/* That no mixed machine was asked by a stranger, and none that reads no pictures, is checked in every run (barred). */
static void families_and_pictures_go_where_they_may(void **state)
{
	(void)state;
	static const char *const names[] = {"dedicated", "pictures"};
	for (size_t i = 0; i < 2; i++) {
		load(names[i]);
		for (size_t policy = 0; sim_policies[policy]; policy++) {
			const struct sim_summary *at = run(sim_policies[policy]);
			assert_true(at->by_outcome[SIM_OK] > at->requests / 2);
		}
		const struct sim_summary *at = run(&sim_policy_ours);
		assert_int_equal(at->by_outcome[SIM_OK], at->requests);
		assert_int_equal(at->late, 0);
	}
	assert_true(summary.faults < 60); /* with tools, of some 250 that would have met one */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_scenario_can_be_read),
	    cmocka_unit_test(every_policy_brings_every_request_to_one_end),
	    cmocka_unit_test(every_history_of_every_scenario_keeps_the_books),
	    cmocka_unit_test(the_same_seed_gives_the_same_history),
	    cmocka_unit_test(a_burst_spreads_before_any_heartbeat),
	    cmocka_unit_test(machines_that_cannot_hold_a_model_are_never_asked),
	    cmocka_unit_test(streams_of_a_slow_model_keep_their_rate),
	    cmocka_unit_test(a_machine_that_fails_is_left_alone_and_then_asked_again),
	    cmocka_unit_test(a_fault_with_tools_does_not_cost_text_its_machines),
	    cmocka_unit_test(overload_is_refused_and_not_broken_off),
	    cmocka_unit_test(answers_survive_machines_that_die_fall_silent_or_flap),
	    cmocka_unit_test(a_cold_fleet_warms_up_though_loads_fail),
	    cmocka_unit_test(two_models_by_turns_do_not_make_machines_load_all_the_time),
	    cmocka_unit_test(machines_that_lie_get_no_more_than_their_kind),
	    cmocka_unit_test(a_second_machine_is_asked_within_the_budget),
	    cmocka_unit_test(shares_and_priorities_of_accounts_hold_in_the_queue),
	    cmocka_unit_test(families_and_pictures_go_where_they_may),
	    cmocka_unit_test(conversations_return_to_machines_that_keep_their_prompts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
