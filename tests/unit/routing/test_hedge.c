/* When a second provider is asked (routing 10, 22). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/routing/hedge.h"

static const struct hedge_backup backup = {.ttft_ms = 500, .prompt_tokens = 1000};

static void the_wait_is_the_learnt_tail_between_the_floor_and_half_the_deadline(void **state)
{
	(void)state;
	struct hedge hedge;
	hedge_init(&hedge, NULL);
	assert_true(hedge_due_ms(&hedge, 600, 1500, 6000) == 1500);
	assert_true(hedge_due_ms(&hedge, 600, 10, 6000) == hedge.policy.floor_ms);
	assert_true(hedge_due_ms(&hedge, 600, 5000, 6000) == 3000);
	assert_true(hedge_due_ms(&hedge, 600, -1, 6000) == 600 * hedge.policy.tail_factor);
	assert_true(hedge_due_ms(&hedge, -1, -1, 6000) == 3000);
	assert_true(hedge_due_ms(&hedge, 600, 1500, 100) == 50); /* the floor is never later than half the deadline */
}

static void a_model_that_must_be_loaded_is_waited_for(void **state)
{
	(void)state;
	struct hedge hedge;
	hedge_init(&hedge, NULL);
	assert_true(hedge_due_ms(&hedge, 30000, -1, 70000) == 30000);
	struct hedge_backup cold = backup;
	cold.cold = true;
	assert_false(hedge_begin(&hedge, &cold, 6000));
	assert_int_equal(hedge.started, 0);
}

static void a_second_that_would_come_too_late_is_not_asked(void **state)
{
	(void)state;
	struct hedge hedge;
	hedge_init(&hedge, NULL);
	assert_false(hedge_begin(&hedge, &backup, 400));
	assert_true(hedge_begin(&hedge, &backup, 600));
	hedge_end(&hedge, &backup, 0, 0);
}

static void the_budget_is_a_share_of_what_was_answered(void **state)
{
	(void)state;
	struct hedge hedge;
	hedge_init(&hedge, &(struct hedge_policy){.extra_share = 0.1, .burst_tokens = 2000, .floor_ms = 100, .tail_factor = 2});
	assert_true(hedge_begin(&hedge, &backup, 6000));
	assert_true(hedge_begin(&hedge, &backup, 6000));
	assert_false(hedge_begin(&hedge, &backup, 6000));
	assert_int_equal(hedge.over, 1);
	hedge_end(&hedge, &backup, 1000, 0);
	hedge_end(&hedge, &backup, 1000, 0);
	assert_false(hedge_begin(&hedge, &backup, 6000));
	for (int i = 0; i < 10; i++)
		hedge_answered(&hedge, 500, 500);
	assert_true(hedge_begin(&hedge, &backup, 6000));
	hedge_end(&hedge, &backup, 0, 0); /* the loser had done nothing: its tokens are there for the next */
	assert_true(hedge_begin(&hedge, &backup, 6000));
	hedge_end(&hedge, &backup, 1000, 0);
	for (int i = 0; i < 1000; i++) /* a long quiet time saves up for no more than a burst */
		hedge_answered(&hedge, 500, 500);
	assert_true(hedge_begin(&hedge, &backup, 6000));
	assert_true(hedge_begin(&hedge, &backup, 6000));
	assert_false(hedge_begin(&hedge, &backup, 6000));
}

static void nobody_else_is_asked_while_a_provider_is_only_busy(void **state)
{
	(void)state;
	assert_true(hedge_again_ms(2000, 2000, 6000) == 0); /* silent since the request was sent */
	assert_true(hedge_again_ms(2000, 5000, 6000) == 0);
	assert_true(hedge_again_ms(2000, 100, 6000) == HEDGE_QUIET_MS - 100);
	assert_true(hedge_again_ms(2000, HEDGE_QUIET_MS, 6000) == 0); /* silent for all of its streams */
	assert_true(hedge_again_ms(5900, 10, 6000) == 100);           /* at the deadline it is looked at again in any case */
	assert_true(hedge_again_ms(6000, 10, 6000) == 0);
}

static double look(double since_sent_ms, double since_progress_ms, bool accepted, bool owes_others)
{
	struct hedge hedge;
	struct hedge_silence silence = {since_sent_ms, since_progress_ms, accepted, owes_others};
	hedge_init(&hedge, NULL);
	return hedge_look_ms(&hedge, 3000, &silence, 6000);
}

static void one_that_owes_a_word_and_is_silent_is_not_waited_for(void **state)
{
	(void)state;
	assert_true(look(400, HEDGE_QUIET_MS, true, true) == 0); /* streams that it began got nothing */
	assert_true(look(399, 9000, true, true) == 1);           /* but not before the floor */
	assert_true(look(600, 100, true, true) == HEDGE_QUIET_MS - 100);
	assert_true(look(HEDGE_QUIET_MS, HEDGE_QUIET_MS, false, false) == 0); /* it did not even accept */
	assert_true(look(100, 9000, false, false) == HEDGE_QUIET_MS - 100);
	assert_true(look(2000, 9000, true, false) == HEDGE_QUIET_MS); /* it accepted, and reads: nothing else is to be heard */
	assert_true(look(2900, 9000, true, false) == 100);            /* and is due after all */
	assert_true(look(3000, 9000, true, false) == 0);
	assert_true(look(3000, 100, true, true) == HEDGE_QUIET_MS - 100); /* it gets on with others */
}

static void a_provider_that_works_for_others_is_waited_for(void **state)
{
	(void)state;
	assert_false(hedge_gives_up(5999, 10000, 6000));    /* before the deadline nothing is given up */
	assert_true(hedge_waits_ms(5999.25, 6000) == 0.75); /* but then: who looked too early does not wait for a second deadline */
	assert_true(hedge_waits_ms(6000, 6000) == 6000);
	assert_true(hedge_gives_up(6000, 6000, 6000));  /* it has said nothing since */
	assert_false(hedge_gives_up(6000, 100, 6000));  /* it gave content to somebody just now */
	assert_true(hedge_gives_up(12000, 7000, 6000)); /* but that was long ago */
	assert_true(hedge_gives_up(60000, 100, 6000));  /* and not without end */
}

static uint32_t random_below(uint64_t *seed, uint32_t bound)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((*seed >> 33) % bound);
}

static void over_any_history_losers_take_no_more_than_the_share_and_the_burst(void **state)
{
	(void)state;
	struct hedge hedge;
	uint64_t seed = 7, most_output = 0;
	hedge_init(&hedge, NULL);
	for (int i = 0; i < 200000; i++) {
		struct hedge_backup second = {.ttft_ms = random_below(&seed, 9000), .prompt_tokens = random_below(&seed, 4000)};
		if (random_below(&seed, 3)) {
			hedge_answered(&hedge, random_below(&seed, 4000), random_below(&seed, 1000));
		} else if (hedge_begin(&hedge, &second, 6000)) {
			uint64_t prompt = random_below(&seed, (uint32_t)second.prompt_tokens + 1), output = random_below(&seed, 20);
			most_output = output > most_output ? output : most_output;
			hedge_end(&hedge, &second, prompt, output);
		}
		double allowed = hedge.policy.extra_share * (double)hedge.answered + hedge.policy.burst_tokens;
		assert_true((double)hedge.extra <= allowed + (double)most_output);
		assert_true(hedge.held == 0);
	}
	assert_true(hedge.started > 1000 && hedge.over > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_wait_is_the_learnt_tail_between_the_floor_and_half_the_deadline),
	    cmocka_unit_test(a_model_that_must_be_loaded_is_waited_for),
	    cmocka_unit_test(a_second_that_would_come_too_late_is_not_asked),
	    cmocka_unit_test(nobody_else_is_asked_while_a_provider_is_only_busy),
	    cmocka_unit_test(one_that_owes_a_word_and_is_silent_is_not_waited_for),
	    cmocka_unit_test(a_provider_that_works_for_others_is_waited_for),
	    cmocka_unit_test(the_budget_is_a_share_of_what_was_answered),
	    cmocka_unit_test(over_any_history_losers_take_no_more_than_the_share_and_the_burst),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
