/* Notes of tokens in front of frames, and the member of a body that continues an answer. */
#include "api/chat_event.h"
#include "api/chat_resume.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const int32_t ids[] = {0, 7, 151645, INT32_MAX};

static void a_note_comes_back_as_it_was_written(void **state)
{
	(void)state;
	struct chat_resume note = {0x0123456789abcdefull, ids, 4};
	struct buf out, tokens;
	uint64_t print = 0;
	buf_init(&out, 4096);
	buf_init(&tokens, 4096);
	chat_resume_note(&note, &out);
	buf_append_str(&out, STR("data: {}\n\n"));
	assert_int_equal(chat_resume_read_note(buf_str(&out), &print, &tokens), DB_OK);
	assert_true(print == note.print);
	assert_int_equal(tokens.len, sizeof ids);
	assert_memory_equal(tokens.at, ids, sizeof ids);
	buf_free(&out);
	buf_free(&tokens);
}

static void a_reader_of_frames_does_not_see_the_note(void **state)
{
	(void)state;
	struct chat_frame_head head = {"chatcmpl-1", 1, "m"};
	struct chat_resume note = {5, ids, 4};
	struct chat_frame frame;
	struct str rest;
	struct buf out;
	struct arena *arena = arena_new(0);
	buf_init(&out, 4096);
	chat_resume_note(&note, &out);
	chat_frame_delta(&head, 0, STR("hello"), STR_NONE, STR_NONE, STR_NONE, &out);
	assert_int_equal(chat_frame_read(buf_str(&out), arena, &frame, &rest), DB_OK);
	assert_int_equal(frame.kind, CHAT_FRAME_CONTENT);
	assert_int_equal(rest.len, 0);
	buf_free(&out);
	arena_free(arena);
}

static void broken_notes_leave_nothing_behind(void **state)
{
	(void)state;
	static const char *const broken[] = {": resume \n",
	                                     ": resume 0123456789abcde 1\n",
	                                     ": resume 0123456789abcdef -1\n",
	                                     ": resume 0123456789abcdef 1  2\n",
	                                     ": resume 0123456789abcdef 1 2147483648\n",
	                                     ": resume 0123456789abcdef 1 x\n"};
	struct buf tokens;
	uint64_t print = 0;
	buf_init(&tokens, 4096);
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		assert_int_equal(chat_resume_read_note(str_of(broken[i]), &print, &tokens), DB_E_INVALID);
		assert_int_equal(tokens.len, 0);
		assert_int_equal(print, 0);
	}
	assert_int_equal(chat_resume_read_note(STR("data: {}\n\n"), &print, &tokens), DB_E_NOT_FOUND);
	struct buf small;
	buf_init(&small, 4);
	assert_int_equal(chat_resume_read_note(STR(": resume 0123456789abcdef 1 2\n"), &print, &small), DB_E_LIMIT);
	assert_int_equal(small.len, 0);
	buf_free(&small);
	buf_free(&tokens);
}

static void a_body_says_where_to_go_on(void **state)
{
	(void)state;
	static const char *const bodies[] = {"{\"model\":\"m\"}", "{}", " {\"a\":[1]} \n"};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		struct arena *arena = arena_new(0);
		struct chat_resume resume = {77, ids, 4}, back;
		struct buf body;
		buf_init(&body, 4096);
		buf_append_c(&body, bodies[i]);
		assert_int_equal(chat_body_add_u64(&body, "seed", 9007199254740991), DB_OK);
		assert_int_equal(chat_resume_add(&body, &resume), DB_OK);
		struct json_doc *doc = json_parse(buf_str(&body), arena, NULL);
		assert_non_null(doc);
		assert_int_equal(chat_resume_read(json_root(doc), arena, &back), DB_OK);
		assert_true(back.print == 77);
		assert_int_equal(back.count, 4);
		assert_memory_equal(back.tokens, ids, sizeof ids);
		int64_t seed = 0;
		assert_true(json_as_i64(json_get(json_root(doc), "seed"), &seed));
		assert_true(seed == 9007199254740991);
		buf_free(&body);
		arena_free(arena);
	}
}

static void broken_members_are_refused_and_absent_ones_say_nothing(void **state)
{
	(void)state;
	static const char *const broken[] = {"{\"darkbloom_resume\":1}", "{\"darkbloom_resume\":{\"print\":\"0123456789abcdef\"}}",
	                                     "{\"darkbloom_resume\":{\"print\":\"xyz\",\"tokens\":[]}}",
	                                     "{\"darkbloom_resume\":{\"print\":\"0123456789abcdef\",\"tokens\":[-1]}}",
	                                     "{\"darkbloom_resume\":{\"print\":\"0123456789abcdef\",\"tokens\":[1.5]}}"};
	struct arena *arena = arena_new(0);
	struct chat_resume back;
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		struct json_doc *doc = json_parse(str_of(broken[i]), arena, NULL);
		assert_int_equal(chat_resume_read(json_root(doc), arena, &back), DB_E_INVALID);
	}
	struct json_doc *doc = json_parse(STR("{\"model\":\"m\"}"), arena, NULL);
	assert_int_equal(chat_resume_read(json_root(doc), arena, &back), DB_OK);
	assert_int_equal(back.count, 0);
	struct buf body;
	buf_init(&body, 64);
	buf_append_c(&body, "[1]");
	assert_int_equal(chat_body_add_u64(&body, "seed", 1), DB_E_INVALID);
	buf_free(&body);
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_note_comes_back_as_it_was_written),
	    cmocka_unit_test(a_reader_of_frames_does_not_see_the_note),
	    cmocka_unit_test(broken_notes_leave_nothing_behind),
	    cmocka_unit_test(a_body_says_where_to_go_on),
	    cmocka_unit_test(broken_members_are_refused_and_absent_ones_say_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
