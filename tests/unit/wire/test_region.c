/* Regions as consumers and providers write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "wire/region.h"

static void countries_and_their_parts_are_read_in_any_case(void **state)
{
	(void)state;
	static const char *const good[][2] = {{"DE", "DE"},         {"us", "US"},       {"us-ca", "US-CA"},
	                                      {"Gb-ENG", "GB-ENG"}, {"FR-75", "FR-75"}, {"jp-1", "JP-1"}};
	char out[REGION_SIZE];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(region_read(str_of(good[i][0]), out), DB_OK);
		assert_string_equal(out, good[i][1]);
	}
}

static void anything_else_is_no_region(void **state)
{
	(void)state;
	static const char *const bad[] = {"",      "D",     "DEU", "D1",     "1D",        "DE-",     "DE-BAVA",
	                                  "DE BY", "DE_BY", "-DE", "DE-B Y", "D\xc3\x89", "US-C\x01"};
	char out[REGION_SIZE];
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(region_read(str_of(bad[i]), out), DB_E_INVALID);
	assert_int_equal(region_read((struct str){"DE\0BY", 5}, out), DB_E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(countries_and_their_parts_are_read_in_any_case),
	    cmocka_unit_test(anything_else_is_no_region),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
