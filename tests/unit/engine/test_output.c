#include "collect.h"

#include "provider/engine/engine_output.h"

#include <stdio.h>

/* Feeds `text` cut at the borders given by the bits of `cuts` (bit i: cut behind byte i), taking after every piece. */
static void assemble(const char *text, size_t len, uint64_t cuts, const struct str *stops, size_t stop_count, struct buf *out,
                     bool *stopped)
{
	struct engine_output output;
	engine_output_init(&output, stops, stop_count);
	size_t from = 0;
	for (size_t i = 0; i < len; i++) {
		if (i + 1 < len && !(cuts >> (i % 64) & 1))
			continue;
		assert_int_equal(engine_output_push(&output, (struct str){text + from, i + 1 - from}), DB_OK);
		from = i + 1;
		struct str given = engine_output_take(&output, false);
		assert_true(utf8_valid(given));
		buf_append_str(out, given);
	}
	struct str rest = engine_output_take(&output, true);
	assert_true(utf8_valid(rest));
	buf_append_str(out, rest);
	*stopped = output.stopped;
	engine_output_free(&output);
}

static void expect(const char *text, const struct str *stops, size_t stop_count, const char *expected, bool expect_stopped)
{
	size_t len = strlen(text);
	assert_true(len <= 16);
	for (uint64_t cuts = 0; cuts < UINT64_C(1) << len; cuts++) {
		struct buf out;
		bool stopped;
		buf_init(&out, 1024);
		assemble(text, len, cuts, stops, stop_count, &out, &stopped);
		if (!str_is(buf_str(&out), expected))
			fail_msg("cuts %llx gave \"%.*s\"", (unsigned long long)cuts, STR_ARG(buf_str(&out)));
		assert_int_equal(stopped, expect_stopped);
		buf_free(&out);
	}
}

static void characters_are_whole_whatever_the_cuts(void **state)
{
	(void)state;
	expect("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", NULL, 0, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", false);
}

static void a_character_that_is_never_completed_is_dropped(void **state)
{
	(void)state;
	expect("ab\xf0\x9f\x98", NULL, 0, "ab", false);
}

static void bytes_that_are_not_utf8_are_replaced(void **state)
{
	(void)state;
	expect("a\xff\xe2\x82z\x80", NULL, 0, "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd", false);
	expect("\xed\xa0\x80.", NULL, 0, "\xef\xbf\xbd\xef\xbf\xbd.",
	       false); /* a surrogate: lead and second byte, then the third */
}

static void a_stop_string_is_found_across_all_borders_and_never_leaks(void **state)
{
	(void)state;
	struct str stops[] = {STR("</end>")};
	expect("text</end>more", stops, 1, "text", true);
	expect("</end>", stops, 1, "", true);
}

static void a_begun_stop_string_is_text_at_the_end(void **state)
{
	(void)state;
	struct str stops[] = {STR("</end>")};
	expect("text</en", stops, 1, "text</en", false);
	expect("</en</end>", stops, 1, "</en", true);
}

static void a_begun_stop_string_is_held_back(void **state)
{
	(void)state;
	struct str stops[] = {STR("STOP")};
	struct engine_output output;
	engine_output_init(&output, stops, 1);
	engine_output_push(&output, STR("so ST"));
	assert_true(str_is(engine_output_take(&output, false), "so "));
	engine_output_push(&output, STR("AY"));
	assert_true(str_is(engine_output_take(&output, false), "STAY"));
	engine_output_free(&output);
}

static void the_stop_string_that_is_complete_first_wins(void **state)
{
	(void)state;
	struct str stops[] = {STR("abcd"), STR("bc")};
	expect("xabcd", stops, 2, "xa", true);
	struct str same_end[] = {STR("c"), STR("bc")};
	expect("abcd", same_end, 2, "a", true);
}

static void stop_strings_may_overlap_themselves(void **state)
{
	(void)state;
	struct str stops[] = {STR("aab")};
	expect("aaaab", stops, 1, "aa", true);
	struct str accents[] = {STR("\xc3\xa9!")};
	expect("\xc3\xa9\xc3\xa9!x", accents, 1, "\xc3\xa9", true);
}

static void text_after_a_stop_is_ignored(void **state)
{
	(void)state;
	struct str stops[] = {STR("\n")};
	struct engine_output output;
	engine_output_init(&output, stops, 1);
	engine_output_push(&output, STR("one\ntwo"));
	assert_true(str_is(engine_output_take(&output, false), "one"));
	engine_output_push(&output, STR("three"));
	assert_int_equal(engine_output_take(&output, true).len, 0);
	assert_true(output.stopped);
	engine_output_free(&output);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(characters_are_whole_whatever_the_cuts),
	    cmocka_unit_test(a_character_that_is_never_completed_is_dropped),
	    cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
	    cmocka_unit_test(a_stop_string_is_found_across_all_borders_and_never_leaks),
	    cmocka_unit_test(a_begun_stop_string_is_text_at_the_end),
	    cmocka_unit_test(a_begun_stop_string_is_held_back),
	    cmocka_unit_test(the_stop_string_that_is_complete_first_wins),
	    cmocka_unit_test(stop_strings_may_overlap_themselves),
	    cmocka_unit_test(text_after_a_stop_is_ignored),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
