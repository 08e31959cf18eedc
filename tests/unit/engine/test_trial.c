/* What is not quicker is not used. */
#include "provider/engine/engine_trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* Steps of `answers`; the new way gives `tokens` in `us`, the plain one a token for each answer in 100. How many went the new
 * way. */
static size_t run(struct engine_trial *trial, size_t answers, size_t steps, size_t tokens, uint64_t us)
{
	size_t new_way = 0;
	for (size_t i = 0; i < steps; i++) {
		bool wants = engine_trial_wants(trial, answers);
		engine_trial_saw(trial, answers, wants, wants ? tokens : answers, wants ? us : 100);
		new_way += wants;
	}
	return new_way;
}

static void what_is_quicker_is_used(void **state)
{
	(void)state;
	struct engine_trial trial = {0};
	size_t used = run(&trial, 1, 5000, 3, 150);
	assert_in_range(used, 5000 - 200, 5000 - ENGINE_TRIAL_STEPS);
}

static void what_is_slower_disables_itself(void **state)
{
	(void)state;
	struct engine_trial trial = {0};
	size_t used = run(&trial, 1, 5000, 2, 250);
	assert_in_range(used, ENGINE_TRIAL_STEPS, (5000 / ENGINE_TRIAL_EVERY + 1) * ENGINE_TRIAL_STEPS);
	assert_false(engine_trial_wants(&trial, 1));
}

static void a_change_is_noticed(void **state)
{
	(void)state;
	struct engine_trial trial = {0};
	run(&trial, 1, 1000, 1, 200);
	assert_false(engine_trial_wants(&trial, 1));
	run(&trial, 1, 2 * ENGINE_TRIAL_EVERY, 4, 150);
	assert_true(engine_trial_wants(&trial, 1));
	run(&trial, 1, 200, 1, 150);
	assert_false(engine_trial_wants(&trial, 1));
}

static void batches_of_each_size_are_judged_by_themselves(void **state)
{
	(void)state;
	struct engine_trial trial = {0};
	run(&trial, 1, 100, 3, 150);
	run(&trial, 8, 100, 12, 300);
	assert_true(engine_trial_wants(&trial, 1));
	assert_false(engine_trial_wants(&trial, 8));
	assert_false(engine_trial_wants(&trial, 40));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_quicker_is_used),
	    cmocka_unit_test(what_is_slower_disables_itself),
	    cmocka_unit_test(a_change_is_noticed),
	    cmocka_unit_test(batches_of_each_size_are_judged_by_themselves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
