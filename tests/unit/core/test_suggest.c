#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/suggest.h"

/* What is offered for a mistyped word; "" when nothing is close. */
static const char *best_for(const char *word)
{
	static const char *const names[] = {"start", "status", "chat", "login", "logout", "models list", "--coordinator-url", ""};
	struct suggest suggest;
	suggest_begin(&suggest, str_of(word));
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		suggest_offer(&suggest, str_of(names[i]));
	return suggest.best.len ? suggest.best.at : "";
}

static void the_closest_name_is_meant(void **state)
{
	(void)state;
	assert_string_equal(best_for("strat"), "start"); /* neighbours swapped */
	assert_string_equal(best_for("stauts"), "status");
	assert_string_equal(best_for("cha"), "chat");
	assert_string_equal(best_for("chatt"), "chat");
	assert_string_equal(best_for("lokin"), "login");
	assert_string_equal(best_for("--coordinator"), "--coordinator-url"); /* cut short */
	assert_string_equal(best_for("model list"), "models list");
}

static void what_resembles_nothing_gets_no_suggestion(void **state)
{
	(void)state;
	assert_string_equal(best_for("wallet"), "");
	assert_string_equal(best_for("zzzzzzzzzzzzz"), "");
	assert_string_equal(best_for(""), "");
}

static void words_too_long_to_compare_are_let_be(void **state)
{
	char word[200];
	(void)state;
	memset(word, 's', sizeof word);
	struct suggest suggest;
	suggest_begin(&suggest, (struct str){word, sizeof word});
	suggest_offer(&suggest, STR("sss"));
	assert_int_equal(suggest.best.len, 0);
	suggest_begin(&suggest, STR("sss"));
	suggest_offer(&suggest, (struct str){word, sizeof word});
	assert_int_equal(suggest.best.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_closest_name_is_meant),
	    cmocka_unit_test(what_resembles_nothing_gets_no_suggestion),
	    cmocka_unit_test(words_too_long_to_compare_are_let_be),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
