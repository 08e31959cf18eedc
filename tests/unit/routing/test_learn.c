/* Expected answers: what is learnt from answers, for each model by itself, within bounds. */
#include "coordinator/routing/learn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void an_unknown_model_has_the_default(void **state)
{
	(void)state;
	struct learn learn;
	learn_init(&learn);
	assert_int_equal(learn_expect(&learn, STR("m"), STR_NONE), LEARN_DEFAULT_TOKENS);
	assert_false(learn_knows(&learn, STR("m")));
	learn_free(&learn);
}

static void answers_move_the_average_of_their_model_only(void **state)
{
	(void)state;
	struct learn learn;
	learn_init(&learn);
	for (int i = 0; i < 300; i++)
		learn_output(&learn, STR("long"), STR_NONE, 4000);
	for (int i = 0; i < 300; i++)
		learn_output(&learn, STR("short"), STR_NONE, 0);
	assert_true(learn_expect(&learn, STR("long"), STR_NONE) > 3900 && learn_expect(&learn, STR("long"), STR_NONE) <= 4000);
	assert_int_equal(learn_expect(&learn, STR("short"), STR_NONE), 1);
	assert_int_equal(learn_expect(&learn, STR("other"), STR_NONE), LEARN_DEFAULT_TOKENS);
	assert_true(learn_knows(&learn, STR("short")));
	/* one odd answer hardly counts */
	learn_output(&learn, STR("long"), STR_NONE, 0);
	assert_true(learn_expect(&learn, STR("long"), STR_NONE) > 3600);
	learn_free(&learn);
}

static void names_beyond_the_bound_are_not_kept(void **state)
{
	(void)state;
	struct learn learn;
	learn_init(&learn);
	for (int i = 0; i < LEARN_MAX_MODELS + 10; i++) {
		char name[32];
		snprintf(name, sizeof name, "model-%d", i);
		learn_output(&learn, str_of(name), STR_NONE, 10);
	}
	assert_int_equal(learn.models.count, LEARN_MAX_MODELS);
	assert_true(learn_knows(&learn, STR("model-0")));
	assert_false(learn_knows(&learn, STR("model-4099")));
	learn_free(&learn);
}

static void an_account_that_asks_for_long_answers_is_expected_to(void **state)
{
	(void)state;
	struct learn learn;
	learn_init(&learn);
	for (int i = 0; i < 400; i++)
		learn_output(&learn, STR("m"), i % 4 ? STR("chat") : STR("novel"), i % 4 ? 100 : 3000);
	assert_true(learn_expect(&learn, STR("m"), STR("novel")) > 2400);
	assert_true(learn_expect(&learn, STR("m"), STR("chat")) < 300);
	uint64_t stranger = learn_expect(&learn, STR("m"), STR("new"));
	assert_int_equal(stranger, learn_expect(&learn, STR("m"), STR_NONE));
	assert_true(stranger > 300 && stranger < 2400);
	assert_int_equal(learn_expect(&learn, STR("other"), STR("novel")), LEARN_DEFAULT_TOKENS);
	learn_free(&learn);
}

static void the_account_that_asked_longest_ago_is_forgotten(void **state)
{
	(void)state;
	struct learn learn;
	learn_init(&learn);
	for (int i = 0; i < LEARN_MAX_PAIRS + 10; i++) {
		char account[32];
		snprintf(account, sizeof account, "acct-%d", i);
		learn_output(&learn, STR("m"), str_of(account), 10);
		learn_output(&learn, STR("m"), STR("regular"), 5000);
	}
	assert_int_equal(learn.pairs.count, LEARN_MAX_PAIRS);
	assert_true(learn_expect(&learn, STR("m"), STR("regular")) > 4000);
	learn_free(&learn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_unknown_model_has_the_default),
	    cmocka_unit_test(answers_move_the_average_of_their_model_only),
	    cmocka_unit_test(an_account_that_asks_for_long_answers_is_expected_to),
	    cmocka_unit_test(the_account_that_asked_longest_ago_is_forgotten),
	    cmocka_unit_test(names_beyond_the_bound_are_not_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
