/* The grammar of bounded numbers, against the numbers themselves: it is read as a regular expression here. */
#include "provider/engine/number_grammar.h"

#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PATTERN_MAX (1 << 20)

/* Of what the grammar is written in only quotes and spaces are not a regular expression's. */
static bool compile(const struct number_bound *least, const struct number_bound *most, bool integers, regex_t *out)
{
	struct buf grammar, pattern;
	buf_init(&grammar, PATTERN_MAX);
	buf_init(&pattern, PATTERN_MAX);
	enum db_err err = number_grammar(least, most, integers, &grammar);
	buf_append_str(&pattern, STR("^"));
	for (size_t i = 0; i < grammar.len; i++) {
		char c = grammar.at[i];
		if (c == '"' || c == ' ')
			continue;
		if (c == '.')
			buf_append_byte(&pattern, '\\');
		buf_append_byte(&pattern, c);
	}
	buf_append(&pattern, "$", 2);
	assert_true(!err || err == DB_E_RANGE);
	if (!err)
		assert_int_equal(regcomp(out, pattern.at, REG_EXTENDED | REG_NOSUB), 0);
	buf_free(&grammar);
	buf_free(&pattern);
	return !err;
}

static bool within(const struct number_bound *least, const struct number_bound *most, const char *text)
{
	double value = strtod(text, NULL), low = least->text ? strtod(least->text, NULL) : -1e300,
	       high = most->text ? strtod(most->text, NULL) : 1e300;
	return (least->excluded ? value > low : value >= low) && (most->excluded ? value < high : value <= high);
}

/* Texts of few digits, where doubles tell all of them apart. */
static void make_number(unsigned seed, char out[32])
{
	static const char *const wholes[] = {"0", "1", "9", "10", "12", "99", "100", "123", "130", "999", "1000", "2500"};
	static const char *const parts[] = {"", ".0", ".5", ".05", ".25", ".250", ".99", ".999", ".001", ".1", ".9", ".49", ".51"};
	enum { WHOLES = sizeof wholes / sizeof *wholes, PARTS = sizeof parts / sizeof *parts };
	snprintf(out, 32, "%s%s%s", seed / (WHOLES * PARTS) % 2 ? "-" : "", wholes[seed % WHOLES], parts[seed / WHOLES % PARTS]);
}
#define NUMBERS (2 * 12 * 13)

static const char *const bounds[] = {NULL,      "0",     "0.5",    "-0.5",  "1",       "1.25",   "-1.25", "10",     "9.99",
                                     "99.5",    "100",   "-100",   "123.4", "0.05",    "-0",     "1000",  "999.99", "-2500",
                                     "0.00100", "12.00", "-0.001", "5e-1",  "1.25E+1", "-0.1e4", "12e0",  "1e2"};
#define BOUNDS (sizeof bounds / sizeof *bounds)

static void a_text_is_taken_exactly_when_its_number_is_within(void **state)
{
	size_t taken = 0, empty = 0;
	(void)state;
	for (size_t i = 0; i < BOUNDS * BOUNDS * 8; i++) {
		struct number_bound least = {bounds[i % BOUNDS], i / BOUNDS / BOUNDS % 2},
		                    most = {bounds[i / BOUNDS % BOUNDS], i / BOUNDS / BOUNDS / 2 % 2};
		bool integers = i / BOUNDS / BOUNDS / 4;
		regex_t pattern;
		bool some = compile(&least, &most, integers, &pattern);
		empty += !some;
		for (unsigned n = 0; n < NUMBERS; n++) {
			char text[32];
			make_number(n, text);
			bool takes = some && regexec(&pattern, text, 0, NULL, 0) == 0;
			bool other_zero = text[0] == '-' && strtod(text, NULL) >= 0; /* as a rule only 0 stands for it */
			bool fits = within(&least, &most, text) && !(integers && strchr(text, '.'));
			if (takes != fits && (takes || !other_zero))
				fail_msg("%s %s..%s%s: %s", least.excluded ? "over" : "from", least.text, most.text,
				         most.excluded ? " out" : "", text);
			taken += takes;
		}
		if (some)
			regfree(&pattern);
	}
	assert_true(taken > 10000 && empty > 100);
}

static void only_numbers_of_json_are_taken(void **state)
{
	static const char *const bad[] = {"", "-", ".5", "1.", "01", "-01", "1e3", "+1", "1.5.5", " 1", "00", "1 ", "--1", "1,5"};
	struct number_bound none = {NULL, false}, low = {"-50", false}, high = {"50", true};
	regex_t free_one, between;
	(void)state;
	assert_true(compile(&none, &none, false, &free_one) && compile(&low, &high, false, &between));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(regexec(&free_one, bad[i], 0, NULL, 0), REG_NOMATCH);
		assert_int_equal(regexec(&between, bad[i], 0, NULL, 0), REG_NOMATCH);
	}
	assert_int_equal(regexec(&free_one, "-1234567890123456.1234567890123456", 0, NULL, 0), 0);
	assert_int_equal(regexec(&between, "49.9999999999999999", 0, NULL, 0), 0);
	assert_int_equal(regexec(&between, "50.0000000000000001", 0, NULL, 0), REG_NOMATCH);
	assert_int_equal(regexec(&between, "-50.0000000000000001", 0, NULL, 0), REG_NOMATCH);
	regfree(&free_one);
	regfree(&between);
}

static void bounds_that_are_no_numbers_are_refused(void **state)
{
	static const char *const bad[] = {"", "-", "x", "1.5x", ".5", "1.", "1e", "1e+", "1e5x", "--1", "+1", "0x10", "inf"};
	struct number_bound none = {NULL, false};
	struct buf out;
	char text[1024];
	(void)state;
	buf_init(&out, PATTERN_MAX);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct number_bound bound = {bad[i], false};
		assert_int_equal(number_grammar(&bound, &none, i % 2, &out), DB_E_INVALID);
		assert_int_equal(number_grammar(&none, &bound, i % 2, &out), DB_E_INVALID);
	}
	memset(text, '7', sizeof text);
	text[sizeof text - 1] = '\0';
	struct number_bound longest = {text, false};
	assert_int_equal(number_grammar(&longest, &none, false, &out), DB_E_INVALID);
	buf_free(&out);
}

/* Of what the grammar writes: what such a bound holds back is held back, and no more. */
static void bounds_of_more_digits_than_are_written_hold_the_same_numbers_back(void **state)
{
	static const struct {
		const char *least, *most;
		bool integers;
		const char *taken, *left;
	} cases[] = {
	    {"1e-5", NULL, false, "0.00001", "0.000009"},
	    {"1e-20", NULL, false, "0.0000000000000001", "0"},
	    {"-1e-20", NULL, false, "0", "-0.0000000000000001"},
	    {NULL, "1e-20", false, "0", "0.0000000000000001"},
	    {NULL, "-1e-20", false, "-0.0000000000000001", "0"},
	    {"0.12345678901234567", NULL, false, "0.1234567890123457", "0.1234567890123456"},
	    {NULL, "-0.12345678901234567", false, "-0.1234567890123457", "-0.1234567890123456"},
	    {NULL, "1e300", false, "9999999999999999.5", NULL},
	    {"-1e300", NULL, true, "-9999999999999999", NULL},
	    {"0.5", "2.5", true, "1", "0"},
	    {"0.5", "2.5", true, "2", "3"},
	    {"-2.5", "-0.5", true, "-2", "-3"},
	    {"-2.5", "-0.5", true, "-1", "0"},
	    {"-0.5", NULL, true, "0", "-1"},
	    {NULL, "-1e-9", true, "-1", "0"},
	    {"-9223372036854775808", "18446744073709551615", true, "18446744073709551615", "18446744073709551616"},
	    {"-9223372036854775808", "18446744073709551615", true, "-9223372036854775808", "-9223372036854775809"},
	    {"10000000000000000000", NULL, true, "10000000000000000000", "9999999999999999999"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct number_bound least = {cases[i].least, false}, most = {cases[i].most, false};
		regex_t pattern;
		assert_true(compile(&least, &most, cases[i].integers, &pattern));
		if (regexec(&pattern, cases[i].taken, 0, NULL, 0) || (cases[i].left && !regexec(&pattern, cases[i].left, 0, NULL, 0)))
			fail_msg("case %zu", i);
		regfree(&pattern);
	}
}

static void bounds_that_only_longer_numbers_keep_are_refused(void **state)
{
	struct number_bound none = {NULL, false}, high = {"1e20", false}, low = {"-1e20", false};
	struct buf out;
	(void)state;
	buf_init(&out, PATTERN_MAX);
	assert_int_equal(number_grammar(&high, &none, true, &out), DB_E_LIMIT);
	assert_int_equal(number_grammar(&none, &low, false, &out), DB_E_LIMIT);
	assert_int_equal(number_grammar(&low, &high, false, &out), DB_OK);
	struct number_bound half = {"0.5", false}, more = {"0.9", false};
	assert_int_equal(number_grammar(&half, &more, true, &out), DB_E_RANGE);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_text_is_taken_exactly_when_its_number_is_within),
	    cmocka_unit_test(only_numbers_of_json_are_taken),
	    cmocka_unit_test(bounds_that_are_no_numbers_are_refused),
	    cmocka_unit_test(bounds_of_more_digits_than_are_written_hold_the_same_numbers_back),
	    cmocka_unit_test(bounds_that_only_longer_numbers_keep_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
