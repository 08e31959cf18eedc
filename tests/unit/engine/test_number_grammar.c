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
static bool compile(const struct number_bound *least, const struct number_bound *most, regex_t *out)
{
	struct buf grammar, pattern;
	buf_init(&grammar, PATTERN_MAX);
	buf_init(&pattern, PATTERN_MAX);
	enum db_err err = number_grammar(least, most, &grammar);
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

static const char *const bounds[] = {NULL, "0",    "0.5",    "-0.5",  "1",       "1.25",  "-1.25",
                                     "10", "9.99", "99.5",   "100",   "-100",    "123.4", "0.05",
                                     "-0", "1000", "999.99", "-2500", "0.00100", "12.00", "-0.001"};
#define BOUNDS (sizeof bounds / sizeof *bounds)

static void a_text_is_taken_exactly_when_its_number_is_within(void **state)
{
	size_t taken = 0, empty = 0;
	(void)state;
	for (size_t i = 0; i < BOUNDS * BOUNDS * 4; i++) {
		struct number_bound least = {bounds[i % BOUNDS], i / BOUNDS / BOUNDS % 2},
		                    most = {bounds[i / BOUNDS % BOUNDS], i / BOUNDS / BOUNDS / 2};
		regex_t pattern;
		bool some = compile(&least, &most, &pattern);
		empty += !some;
		for (unsigned n = 0; n < NUMBERS; n++) {
			char text[32];
			make_number(n, text);
			bool takes = some && regexec(&pattern, text, 0, NULL, 0) == 0;
			bool other_zero = text[0] == '-' && strtod(text, NULL) >= 0; /* as a rule only 0 stands for it */
			if (takes != within(&least, &most, text) && (takes || !other_zero))
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
	assert_true(compile(&none, &none, &free_one) && compile(&low, &high, &between));
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

static void bounds_that_cannot_be_written_so_are_refused(void **state)
{
	static const char *const bad[] = {"1e3", "", "-", "x", "1.5x", "12345678901234567", "0.12345678901234567", ".5"};
	struct number_bound none = {NULL, false};
	struct buf out;
	(void)state;
	buf_init(&out, PATTERN_MAX);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct number_bound bound = {bad[i], false};
		assert_int_equal(number_grammar(&bound, &none, &out), DB_E_LIMIT);
		assert_int_equal(number_grammar(&none, &bound, &out), DB_E_LIMIT);
	}
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_text_is_taken_exactly_when_its_number_is_within),
	    cmocka_unit_test(only_numbers_of_json_are_taken),
	    cmocka_unit_test(bounds_that_cannot_be_written_so_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
