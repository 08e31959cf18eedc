#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/money/code.h"

static void codes_are_trimmed_and_in_upper_case(void **state)
{
	(void)state;
	char code[21];
	assert_true(code_read(STR(" abc-1 "), code, sizeof code));
	assert_string_equal(code, "ABC-1");
	assert_true(code_read(STR("abcdefghijklmnopqrst"), code, sizeof code));
	assert_string_equal(code, "ABCDEFGHIJKLMNOPQRST");
}

static void what_is_no_code_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
	    "", "ab", "-abc", "abc-", "a b", "\xc3\xa4\xc3\xb6\xc3\xbc", "abcdefghijklmnopqrstu", "a_b_c"};
	char code[21];
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_false(code_read(str_of(wrong[i]), code, sizeof code));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(codes_are_trimmed_and_in_upper_case),
	    cmocka_unit_test(what_is_no_code_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
