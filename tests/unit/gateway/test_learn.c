/* Expected answers: what is learnt from answers, for each model by itself, within bounds. */
#include "coordinator/gateway/learn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void an_unknown_model_has_the_default(void **state)
{
	(void)state;
	struct learn learn;
	learn_init(&learn);
	assert_int_equal(learn_expect(&learn, STR("m")), LEARN_DEFAULT_TOKENS);
	assert_false(learn_knows(&learn, STR("m")));
	learn_free(&learn);
}

static void answers_move_the_average_of_their_model_only(void **state)
{
	(void)state;
	struct learn learn;
	learn_init(&learn);
	for (int i = 0; i < 300; i++)
		learn_output(&learn, STR("long"), 4000);
	for (int i = 0; i < 300; i++)
		learn_output(&learn, STR("short"), 0);
	assert_true(learn_expect(&learn, STR("long")) > 3900 && learn_expect(&learn, STR("long")) <= 4000);
	assert_int_equal(learn_expect(&learn, STR("short")), 1);
	assert_int_equal(learn_expect(&learn, STR("other")), LEARN_DEFAULT_TOKENS);
	assert_true(learn_knows(&learn, STR("short")));
	/* one odd answer hardly counts */
	learn_output(&learn, STR("long"), 0);
	assert_true(learn_expect(&learn, STR("long")) > 3600);
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
		learn_output(&learn, str_of(name), 10);
	}
	assert_int_equal(learn.models.count, LEARN_MAX_MODELS);
	assert_true(learn_knows(&learn, STR("model-0")));
	assert_false(learn_knows(&learn, STR("model-4099")));
	learn_free(&learn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_unknown_model_has_the_default),
	    cmocka_unit_test(answers_move_the_average_of_their_model_only),
	    cmocka_unit_test(names_beyond_the_bound_are_not_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
