/* Golden transcripts of /v1/completions. */
#include "api/dialect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define CHUNK(choices)            "data: {\"id\":\"c1\",\"created\":5,\"model\":\"org/build\",\"choices\":[" choices "]}\n\n"
#define SAID(index, text, reason) "{\"index\":" index ",\"delta\":{\"content\":\"" text "\"},\"finish_reason\":" reason "}"
#define HEAD                      "\"id\":\"cmpl-job\",\"object\":\"text_completion\",\"created\":5,\"model\":\"public\",\"choices\":"
#define OUT(choice, more)         "data: {" HEAD "[" choice "]" more "}\n\n"
#define TEXT(index, text, reason) "{\"text\":\"" text "\",\"index\":" index ",\"logprobs\":null,\"finish_reason\":" reason "}"
#define USAGE                     ",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}"

static void assert_answer(const char *body, bool stream, const char *frames, const char *expected)
{
	struct arena *arena = arena_new(0), *scratch = arena_new(0);
	struct chat_request request;
	struct api_error error;
	struct buf out;
	buf_init(&out, 1 << 24);
	assert_true(dialect_completions.parse(str_of(body), arena, &request, &error));
	struct chat_answer_options options = {.job_id = "job",
	                                      .requested_model = STR("public"),
	                                      .stream = stream,
	                                      .max_tokens = request.max_tokens,
	                                      .request = &request};
	struct dialect_answer *answer = dialect_completions.answer_new(arena, &options);
	assert_non_null(answer);
	for (struct str rest = str_of(frames); rest.len > 0; arena_reset(scratch)) {
		struct chat_frame frame;
		assert_int_equal(chat_frame_read(rest, scratch, &frame, &rest), DB_OK);
		assert_int_equal(dialect_completions.frame(answer, &frame, &out), DB_OK);
	}
	struct chat_answer_end end = {.has_usage = true, .usage = {.prompt_tokens = 3, .completion_tokens = 2}};
	assert_int_equal(dialect_completions.finish(answer, &end, &out), DB_OK);
	buf_append_byte(&out, '\0');
	assert_string_equal(out.at, expected);
	dialect_answer_free(answer);
	buf_free(&out);
	arena_free(arena);
	arena_free(scratch);
}

static const char two_pieces[] = CHUNK("{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}")
    CHUNK(SAID("0", "<think>a", "null")) CHUNK(SAID("0", "b", "\"stop\""));

static void a_stream_ends_with_reason_usage_and_done(void **state)
{
	(void)state;
	assert_answer("{\"model\":\"m\",\"prompt\":\"x\",\"stream\":true}", true, two_pieces,
	              OUT(TEXT("0", "<think>a", "null"), "") OUT(TEXT("0", "b", "null"), "")
	                  OUT(TEXT("0", "", "\"stop\""), USAGE) "data: [DONE]\n\n");
}

static void usage_that_was_asked_for_stands_alone(void **state)
{
	(void)state;
	assert_answer("{\"model\":\"m\",\"prompt\":\"x\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", true,
	              two_pieces,
	              OUT(TEXT("0", "<think>a", "null"), ",\"usage\":null") OUT(TEXT("0", "b", "null"), ",\"usage\":null")
	                  OUT(TEXT("0", "", "\"stop\""), ",\"usage\":null") OUT("", USAGE) "data: [DONE]\n\n");
}

static void a_whole_answer_echoes_the_prompt(void **state)
{
	(void)state;
	assert_answer("{\"model\":\"m\",\"prompt\":\"x: \",\"echo\":true}", false, two_pieces,
	              "{" HEAD "[" TEXT("0", "x: <think>ab", "\"stop\"") "]" USAGE "}");
}

static void a_reached_limit_is_length(void **state)
{
	(void)state;
	assert_answer("{\"model\":\"m\",\"prompt\":\"x\",\"max_tokens\":2}", false, two_pieces,
	              "{" HEAD "[" TEXT("0", "<think>ab", "\"length\"") "]" USAGE "}");
}

static void choices_stand_apart(void **state)
{
	(void)state;
	const char frames[] = CHUNK(SAID("1", "b", "null")) CHUNK(SAID("0", "a", "\"stop\"")) CHUNK(SAID("1", "c", "\"length\""));
	assert_answer("{\"model\":\"m\",\"prompt\":\"x\"}", false, frames,
	              "{" HEAD "[" TEXT("0", "a", "\"stop\"") "," TEXT("1", "bc", "\"length\"") "]" USAGE "}");
}

static void log_probabilities_become_lists(void **state)
{
	(void)state;
	const char frames[] = CHUNK(
	    "{\"index\":0,\"delta\":{\"content\":\"h\xc3\xa9 y\"},\"logprobs\":{\"content\":[{\"token\":\"h\xc3\xa9\","
	    "\"logprob\":-0.5,\"top_logprobs\":[{\"token\":\"h\xc3\xa9\",\"logprob\":-0.5},{\"token\":\"a\",\"logprob\":-2}]},"
	    "{\"token\":\" y\",\"logprob\":-1,\"top_logprobs\":[]}]},\"finish_reason\":\"stop\"}");
	assert_answer(
	    "{\"model\":\"m\",\"prompt\":\"x\",\"logprobs\":2}", false, frames,
	    "{" HEAD
	    "[{\"text\":\"h\xc3\xa9 y\",\"index\":0,\"logprobs\":{\"tokens\":[\"h\xc3\xa9\",\" y\"],\"token_logprobs\":[-0.5,-1],"
	    "\"top_logprobs\":[{\"h\xc3\xa9\":-0.5,\"a\":-2},{}],\"text_offset\":[0,2]},\"finish_reason\":\"stop\"}]" USAGE "}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_stream_ends_with_reason_usage_and_done),
	    cmocka_unit_test(usage_that_was_asked_for_stands_alone),
	    cmocka_unit_test(a_whole_answer_echoes_the_prompt),
	    cmocka_unit_test(a_reached_limit_is_length),
	    cmocka_unit_test(choices_stand_apart),
	    cmocka_unit_test(log_probabilities_become_lists),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
