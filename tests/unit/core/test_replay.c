#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/replay.h"

static struct str key(uint32_t number, char out[16])
{
	snprintf(out, 16, "key-%u", number);
	return str_of(out);
}

static void the_second_time_is_refused(void **state)
{
	(void)state;
	struct replay replay;
	char text[16];
	replay_init(&replay, 1000, 100000);
	for (uint32_t i = 0; i < 5000; i++)
		assert_int_equal(replay_note(&replay, key(i, text), 10), DB_OK);
	for (uint32_t i = 0; i < 5000; i++)
		assert_int_equal(replay_note(&replay, key(i, text), 10), DB_E_EXISTS);
	replay_free(&replay);
}

static void what_is_kept_is_kept_for_the_whole_time(void **state)
{
	(void)state;
	struct replay replay;
	replay_init(&replay, 1000, 100);
	assert_int_equal(replay_note(&replay, STR("late"), 999), DB_OK);
	assert_int_equal(replay_note(&replay, STR("other"), 1000), DB_OK); /* a turn */
	assert_int_equal(replay_note(&replay, STR("late"), 1999), DB_E_EXISTS);
	assert_int_equal(replay_note(&replay, STR("late"), 2000), DB_OK); /* more than its time has passed */
	assert_int_equal(replay_note(&replay, STR("other"), 2001), DB_E_EXISTS);
	assert_int_equal(replay_note(&replay, STR("other"), 9000), DB_OK); /* after a long silence nothing is left */
	assert_int_equal(replay_note(&replay, STR("late"), 9000), DB_OK);
	replay_free(&replay);
}

static void a_full_memory_refuses_instead_of_forgetting(void **state)
{
	(void)state;
	struct replay replay;
	char text[16];
	replay_init(&replay, 1000, 50);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(replay_note(&replay, key(i, text), 1), DB_OK);
	assert_int_equal(replay_note(&replay, STR("one more"), 1), DB_E_LIMIT);
	assert_int_equal(replay_note(&replay, key(7, text), 1), DB_E_EXISTS);
	assert_int_equal(replay_note(&replay, STR("one more"), 1000), DB_OK);
	replay_free(&replay);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_second_time_is_refused),
	    cmocka_unit_test(what_is_kept_is_kept_for_the_whole_time),
	    cmocka_unit_test(a_full_memory_refuses_instead_of_forgetting),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
