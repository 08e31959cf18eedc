#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "core/str.h"

static void test_comparisons(void **state)
{
	(void)state;
	assert_true(str_eq(STR_NONE, STR("")));
	assert_true(str_eq(STR("ab"), STR("ab")));
	assert_false(str_eq(STR("ab"), STR("aB")));
	assert_false(str_eq(STR("ab"), STR("abc")));
	assert_true(str_is(STR_NONE, ""));
	assert_true(str_eq_nocase(STR("Content-TYPE"), STR("content-type")));
	assert_false(str_eq_nocase(STR("@"), STR("`"))); /* they differ by the case bit only */
	assert_false(str_eq_nocase(STR("\xc4"), STR("\xe4")));
	assert_true(str_eq(str_of(NULL), STR_NONE));
}

static void test_starts_ends_contains(void **state)
{
	(void)state;
	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_true(str_starts(STR("abc"), STR_NONE));
	assert_true(str_starts(STR_NONE, STR_NONE));
	assert_false(str_starts(STR("ab"), STR("abc")));
	assert_true(str_ends(STR("abc"), STR("bc")));
	assert_false(str_ends(STR("abc"), STR("ab")));
	assert_false(str_ends(STR("c"), STR("bc")));
	assert_true(str_contains_nocase(STR("keep-alive, Upgrade"), STR("upgrade")));
	assert_true(str_contains_nocase(STR("x"), STR_NONE));
	assert_false(str_contains_nocase(STR("upgrad"), STR("upgrade")));
	assert_false(str_contains_nocase(STR_NONE, STR("a")));
}

static void test_trim_and_sub(void **state)
{
	(void)state;
	assert_true(str_is(str_trim(STR(" \t\r\n a b \v\f")), "a b"));
	assert_int_equal(str_trim(STR(" \n ")).len, 0);
	assert_int_equal(str_trim(STR_NONE).len, 0);
	assert_true(str_is(str_sub(STR("hello"), 1, 3), "ell"));
	assert_true(str_is(str_sub(STR("hello"), 3, SIZE_MAX), "lo"));
	assert_int_equal(str_sub(STR("hello"), 5, 1).len, 0);
	assert_int_equal(str_sub(STR("hello"), SIZE_MAX, SIZE_MAX).len, 0);
	assert_int_equal(str_sub(STR_NONE, 0, 1).len, 0);
}

static void test_cut(void **state)
{
	(void)state;
	struct str head, rest = str_cut(STR("a,b,"), ',', &head);
	assert_true(str_is(head, "a"));
	rest = str_cut(rest, ',', &head);
	assert_true(str_is(head, "b"));
	assert_non_null(rest.at); /* an empty last part is still a part */
	rest = str_cut(rest, ',', &head);
	assert_true(str_is(head, ""));
	assert_null(rest.at);
	rest = str_cut(STR_NONE, ',', &head);
	assert_null(rest.at);
	assert_int_equal(head.len, 0);
}

static void test_unsigned_integers(void **state)
{
	(void)state;
	uint64_t value = 7;
	assert_true(str_to_u64(STR("0"), &value) && value == 0);
	assert_true(str_to_u64(STR("0018"), &value) && value == 18);
	assert_true(str_to_u64(STR("18446744073709551615"), &value) && value == UINT64_MAX);
	value = 7;
	static const char *const bad[] = {
	    "", "-1", "+1", " 1", "1 ", "1.0", "0x1", "18446744073709551616", "99999999999999999999999"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(str_to_u64(str_of(bad[i]), &value));
	assert_false(str_to_u64((struct str){"1\0", 2}, &value));
	assert_int_equal(value, 7);
}

static void test_signed_integers(void **state)
{
	(void)state;
	int64_t value = 7;
	assert_true(str_to_i64(STR("-9223372036854775808"), &value) && value == INT64_MIN);
	assert_true(str_to_i64(STR("9223372036854775807"), &value) && value == INT64_MAX);
	assert_true(str_to_i64(STR("-0"), &value) && value == 0);
	assert_true(str_to_i64(STR("-1"), &value) && value == -1);
	value = 7;
	static const char *const bad[] = {"", "-", "--1", "+1", "9223372036854775808", "-9223372036854775809", "1e3"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(str_to_i64(str_of(bad[i]), &value));
	assert_int_equal(value, 7);
}

static void test_doubles(void **state)
{
	(void)state;
	double value = 7;
	assert_true(str_to_double(STR("0.25"), &value) && value == 0.25);
	assert_true(str_to_double(STR("-1e3"), &value) && value == -1000);
	assert_true(str_to_double(STR("+2E-2"), &value) && value == 0.02);
	assert_true(str_to_double(STR("1e-400"), &value) && value == 0);
	value = 7;
	static const char *const bad[] = {"",    ".",    "-",  "1.", ".5",    "1e",     "1e+", "inf",
	                                  "nan", "0x10", " 1", "1 ", "1e999", "-1e999", "1,5", "1.2.3"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(str_to_double(str_of(bad[i]), &value));
	char nines[600];
	memset(nines, '9', sizeof nines);
	assert_false(str_to_double((struct str){nines, sizeof nines}, &value));
	assert_true(value == 7);
}

static void test_copy_never_cuts(void **state)
{
	(void)state;
	char out[4] = "???";
	assert_true(str_copy(STR("abc"), out, sizeof out));
	assert_string_equal(out, "abc");
	assert_false(str_copy(STR("abcd"), out, sizeof out));
	assert_string_equal(out, "");
	assert_true(str_copy(STR_NONE, out, sizeof out));
	assert_false(str_copy(STR_NONE, out, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_comparisons), cmocka_unit_test(test_starts_ends_contains), cmocka_unit_test(test_trim_and_sub),
	    cmocka_unit_test(test_cut),         cmocka_unit_test(test_unsigned_integers),    cmocka_unit_test(test_signed_integers),
	    cmocka_unit_test(test_doubles),     cmocka_unit_test(test_copy_never_cuts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
