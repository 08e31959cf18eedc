/* Names of prompts as text: exactly as many hex digits, or none at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/prefix.h"

static void names_come_back_as_they_were(void **state)
{
	(void)state;
	const uint64_t names[] = {0, 0x0123456789abcdef, UINT64_MAX};
	uint64_t back[3];
	char text[3 * WIRE_PREFIX_HEX];
	struct str written = wire_prefixes_write(names, 3, text);
	assert_true(str_is(written, "00000000000000000123456789abcdefffffffffffffffff"));
	assert_int_equal(wire_prefixes_read(written, back, 3), 3);
	assert_memory_equal(back, names, sizeof names);
	assert_int_equal(wire_prefixes_write(names, 0, text).len, 0);
}

static void what_is_no_list_of_names_is_none(void **state)
{
	(void)state;
	uint64_t out[2];
	assert_int_equal(wire_prefixes_read(STR(""), out, 2), 0);
	assert_int_equal(wire_prefixes_read(STR("0123456789abcde"), out, 2), 0);
	assert_int_equal(wire_prefixes_read(STR("0123456789abcdef0"), out, 2), 0);
	assert_int_equal(wire_prefixes_read(STR("0123456789ABCDEF"), out, 2), 0);
	assert_int_equal(wire_prefixes_read(STR("0123456789abcdeg"), out, 2), 0);
	assert_int_equal(wire_prefixes_read(STR("000000000000000100000000000000020000000000000003"), out, 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(names_come_back_as_they_were),
	                                   cmocka_unit_test(what_is_no_list_of_names_is_none)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
