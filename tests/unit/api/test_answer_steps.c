/* Frames of every kind give the same steps. */
#include "api/answer_steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct run {
	struct arena *arena, *scratch;
	struct answer_steps steps;
	struct dialect_answer counted;
	struct buf said; /* "R:..." reasoning, "T:..." text, "C0 id name:..." a call; pieces of one kind run together */
	char last[64];
};

static enum db_err note(void *user, const struct answer_step *step)
{
	struct run *run = user;
	char head[64] = "";
	switch (step->kind) {
	case ANSWER_REASONING:
		snprintf(head, sizeof head, "R%u", step->choice);
		break;
	case ANSWER_TEXT:
		snprintf(head, sizeof head, "T%u", step->choice);
		break;
	case ANSWER_REFUSAL:
		snprintf(head, sizeof head, "X%u", step->choice);
		break;
	case ANSWER_TOOL_CALL:
		snprintf(head, sizeof head, "C%u.%d", step->choice, (int)step->tool);
		break;
	case ANSWER_LOGPROBS:
		snprintf(head, sizeof head, "L%u", step->choice);
		break;
	}
	if (strcmp(head, run->last) != 0)
		buf_printf(&run->said, "[%s]", head);
	memcpy(run->last, head, sizeof head);
	if (step->kind == ANSWER_TOOL_CALL && step->tool_name.len > 0)
		buf_printf(&run->said, "%.*s/%.*s/", STR_ARG(step->tool_id), STR_ARG(step->tool_name));
	return buf_append_str(&run->said, step->text);
}

static struct run begin(void)
{
	struct run run = {.arena = arena_new(0), .scratch = arena_new(0)};
	buf_init(&run.said, 1 << 20);
	return run;
}

static void feed(struct run *run, const char *json)
{
	struct chat_frame frame;
	struct str rest;
	assert_int_equal(chat_frame_read(str_of(json), run->scratch, &frame, &rest), DB_OK);
	assert_int_equal(answer_steps_read(&run->steps, run->arena, &frame, &run->counted, note, run), DB_OK);
	arena_reset(run->scratch);
}

static void content(struct run *run, const char *text)
{
	char json[256];
	snprintf(json, sizeof json, "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}", text);
	feed(run, json);
}

static void end(struct run *run, const char *expected)
{
	assert_int_equal(answer_steps_end(&run->steps, note, run), DB_OK);
	buf_append_byte(&run->said, '\0');
	assert_string_equal(run->said.at, expected);
	buf_free(&run->said);
	arena_free(run->arena);
	arena_free(run->scratch);
}

static void deltas_become_steps(void **state)
{
	(void)state;
	struct run run = begin();
	feed(&run, "{\"id\":\"c1\",\"created\":5,\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}");
	feed(&run, "{\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\",\"reasoning\":\"hm\"}}]}");
	content(&run, "a");
	content(&run, "b");
	feed(&run, "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":3,\"id\":\"x\",\"function\":{\"name\":\"f\","
	           "\"arguments\":\"{\"}}]}}]}");
	feed(&run, "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":3,\"function\":{\"arguments\":\"}\"}}]},"
	           "\"finish_reason\":\"tool_calls\"}]}");
	feed(&run, "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}");
	assert_string_equal(run.steps.id, "c1");
	assert_int_equal(run.steps.created_s, 5);
	assert_string_equal(answer_steps_choice(&run.steps, 0)->finish_reason, "tool_calls");
	assert_int_equal(run.steps.usage.completion_tokens, 4);
	assert_int_equal(run.counted.text_bytes, 2 + 2 + 3);
	assert_int_equal(run.counted.chunks, 5);
	end(&run, "[R0]hm[T0]ab[C0.3]x/f/{}");
}

static void a_whole_completion_gives_the_same_steps(void **state)
{
	(void)state;
	struct run run = begin();
	feed(&run,
	     "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"ab\",\"reasoning\":\"hm\","
	     "\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}]}");
	end(&run, "[R0]hm[T0]ab[C0.0]x/f/{}");
}

static void a_think_block_is_reasoning_wherever_it_is_cut(void **state)
{
	(void)state;
	const char whole[] = " <Think>so </thin it is</think>  Yes.";
	for (size_t cut = 1; cut < sizeof whole - 1; cut++)
		for (size_t cut2 = cut; cut2 < sizeof whole - 1; cut2++) {
			struct run run = begin();
			char piece[64];
			snprintf(piece, sizeof piece, "%.*s", (int)cut, whole);
			content(&run, piece);
			snprintf(piece, sizeof piece, "%.*s", (int)(cut2 - cut), whole + cut);
			content(&run, piece);
			content(&run, whole + cut2);
			end(&run, "[R0]so </thin it is[T0]Yes.");
		}
}

static void what_only_looks_like_a_think_block_is_text(void **state)
{
	(void)state;
	struct run run = begin();
	content(&run, " <thi");
	content(&run, "s>");
	content(&run, "<think>x");
	end(&run, "[T0] <this><think>x");
	run = begin();
	content(&run, "<thin");
	end(&run, "[T0]<thin");
	run = begin();
	content(&run, "<think>never closed </thi");
	end(&run, "[R0]never closed </thi");
}

static void choices_do_not_mix(void **state)
{
	(void)state;
	struct run run = begin();
	feed(&run, "{\"choices\":[{\"index\":2,\"delta\":{\"content\":\"<think>\"}},{\"index\":0,\"delta\":{\"content\":\"a\"}}]}");
	feed(&run, "{\"choices\":[{\"index\":2,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"length\"}]}");
	assert_string_equal(answer_steps_choice(&run.steps, 2)->finish_reason, "length");
	assert_string_equal(answer_steps_choice(&run.steps, 0)->finish_reason, "");
	end(&run, "[T0]a[R2]b");
}

static void a_choice_that_cannot_be_is_refused(void **state)
{
	(void)state;
	struct run run = begin();
	struct chat_frame frame;
	struct str rest;
	assert_int_equal(
	    chat_frame_read(STR("{\"choices\":[{\"index\":128,\"delta\":{\"content\":\"a\"}}]}"), run.scratch, &frame, &rest),
	    DB_OK);
	assert_int_equal(answer_steps_read(&run.steps, run.arena, &frame, &run.counted, note, &run), DB_E_LIMIT);
	end(&run, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(deltas_become_steps),
	    cmocka_unit_test(a_whole_completion_gives_the_same_steps),
	    cmocka_unit_test(a_think_block_is_reasoning_wherever_it_is_cut),
	    cmocka_unit_test(what_only_looks_like_a_think_block_is_text),
	    cmocka_unit_test(choices_do_not_mix),
	    cmocka_unit_test(a_choice_that_cannot_be_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
