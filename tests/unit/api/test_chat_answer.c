/* Golden transcripts: frames of both provider generations in, what the consumer reads out. */
#include "api/chat_answer.h"
#include "api/chat_request.h"
#include "api/chat_response.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define HEAD   "\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"org/build\""
#define HEADED "\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"public\""
#define CHUNK(delta, reason)                                                                                                   \
	"data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" reason "}]}\n\n"
#define OUT(delta, reason)                                                                                                     \
	"data: {" HEADED ",\"choices\":[{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" reason "}]}\n\n"

struct run {
	struct arena *arena, *scratch;
	struct chat_answer *answer;
	struct buf out;
};

static struct run begin_choices(bool stream, int64_t max_tokens, int64_t n)
{
	struct run run = {.arena = arena_new(0), .scratch = arena_new(0)};
	struct chat_request request = {.n = n};
	struct chat_answer_options options = {
	    .job_id = "job", .requested_model = STR("public"), .stream = stream, .max_tokens = max_tokens, .request = &request};
	run.answer = chat_answer_new(run.arena, &options);
	buf_init(&run.out, 1 << 24);
	assert_non_null(run.answer);
	return run;
}

static struct run begin(bool stream, int64_t max_tokens)
{
	return begin_choices(stream, max_tokens, 1);
}

static void feed(struct run *run, const char *chunk)
{
	struct str rest = str_of(chunk);
	do {
		struct chat_frame frame;
		assert_int_equal(chat_frame_read(rest, run->scratch, &frame, &rest), DB_OK);
		assert_int_equal(chat_answer_frame(run->answer, &frame, &run->out), DB_OK);
		arena_reset(run->scratch); /* nothing of a frame may be kept by reference */
	} while (rest.len > 0);
}

static void end(struct run *run)
{
	chat_answer_free(run->answer);
	buf_free(&run->out);
	arena_free(run->arena);
	arena_free(run->scratch);
}

static void assert_out(struct run *run, const char *expected)
{
	buf_append_byte(&run->out, '\0');
	assert_string_equal(run->out.at, expected);
	buf_clear(&run->out);
}

static const struct chat_answer_end usage_2 = {.has_usage = true, .usage = {.prompt_tokens = 11, .completion_tokens = 2}};

static void a_stream_of_the_newer_generation(void **state)
{
	(void)state;
	struct run run = begin(true, 100);
	feed(&run, CHUNK("\"role\":\"assistant\",\"content\":\"\"", "null"));
	assert_out(&run, OUT("\"role\":\"assistant\",\"content\":\"\"", "null"));
	feed(&run, CHUNK("\"content\":\"Hi\"", "null"));
	assert_out(&run, OUT("\"content\":\"Hi\"", "null"));
	feed(&run, CHUNK("", "\"stop\""));
	feed(&run,
	     "data: {" HEAD ",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":1,\"total_tokens\":11}}\n\n");
	feed(&run, "data: [DONE]\n\n");
	assert_out(&run, "");
	struct chat_answer_end over = usage_2;
	over.se_signature = STR("MEUC");
	over.response_hash = STR("5e88");
	assert_int_equal(chat_answer_finish(run.answer, &over, &run.out), DB_OK);
	assert_out(&run,
	           OUT("", "\"stop\"") "data: {" HEADED ",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,"
	                               "\"total_tokens\":13},\"se_signature\":\"MEUC\",\"response_hash\":\"5e88\"}\n\n"
	                               "data: [DONE]\n\n");
	assert_int_equal(run.answer->base.text_bytes, 2);
	assert_int_equal(run.answer->base.chunks, 1);
	end(&run);
}

static void a_stream_of_the_older_generation(void **state)
{
	(void)state;
	struct run run = begin(true, 100);
	/* no line end, spaces, escapes, no role, no usage, no finish */
	feed(&run,
	     "data: {\"id\": \"c1\", \"object\": \"chat.completion.chunk\", \"created\": 5, \"model\": \"org/build\", "
	     "\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"caf\\u00e9 \\ud83d\\ude00\"}, \"finish_reason\": null}]}");
	assert_out(&run, OUT("\"content\":\"caf\xc3\xa9 \xf0\x9f\x98\x80\"", "null"));
	feed(&run, "data: [DONE]");
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	assert_out(&run,
	           "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"public\",\"choices\":"
	           "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	           "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"public\",\"choices\":[],"
	           "\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,\"total_tokens\":13}}\n\ndata: [DONE]\n\n");
	end(&run);
}

static void nulls_become_what_clients_can_read(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
	} cases[] = {
	    {"\"content\":null", "\"content\":\"\""},
	    {"\"content\":\"a\",\"tool_calls\":null", "\"content\":\"a\",\"tool_calls\":[]"},
	    {"\"content\":\"a\",\"refusal\":null", "\"content\":\"a\",\"refusal\":\"\""},
	    {"\"reasoning\":\"r\"", "\"reasoning\":\"r\",\"reasoning_content\":\"r\""},
	    {"\"reasoning_content\":\"r\"", "\"reasoning\":\"r\",\"reasoning_content\":\"r\""},
	    {"\"reasoning\":null,\"reasoning_content\":\"r\"", "\"reasoning\":\"r\",\"reasoning_content\":\"r\""},
	    {"\"content\":\"Hi\",\"reasoning_content\":null", "\"content\":\"Hi\",\"reasoning\":\"\",\"reasoning_content\":\"\""},
	    {"\"content\":\"a\",\"annotations\":[{\"x\":1.25}]", "\"content\":\"a\",\"annotations\":[{\"x\":1.25}]"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char in[512], out[512];
		struct run run = begin(true, 0);
		snprintf(in, sizeof in, CHUNK("%s", "null"), cases[i].in);
		snprintf(out, sizeof out, OUT("%s", "null"), cases[i].out);
		feed(&run, in);
		assert_out(&run, out);
		end(&run);
	}
	struct run run = begin(true, 0);
	feed(&run, "data: {" HEAD ",\"usage\":null,\"system_fingerprint\":null,\"service_tier\":\"x\","
	           "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":[]}}]}\n\n");
	assert_out(&run, "data: {" HEADED ",\"service_tier\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},"
	                 "\"logprobs\":{\"content\":[]},\"finish_reason\":null}]}\n\n");
	end(&run);
}

static void what_a_finish_frame_says_is_not_held(void **state)
{
	(void)state;
	struct run run = begin(true, 2);
	feed(&run, CHUNK("\"content\":\"end\"", "\"stop\""));
	assert_out(&run, OUT("\"content\":\"end\"", "null"));
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	buf_append_byte(&run.out, '\0');
	/* as many tokens as allowed: the engine's stop was a cut */
	assert_non_null(strstr(run.out.at, "\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"));
	assert_null(strstr(run.out.at, "org/build"));
	assert_null(strstr(run.out.at, "end"));
	end(&run);
}

static void tool_calls_name_their_reason(void **state)
{
	(void)state;
	struct run run = begin(true, 100);
	feed(&run, CHUNK("\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"f\","
	                 "\"arguments\":\"{}\"}}]",
	                 "null") CHUNK("", "\"stop\""));
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	buf_append_byte(&run.out, '\0');
	assert_non_null(strstr(run.out.at, "\"finish_reason\":\"tool_calls\""));
	end(&run);
}

static void usage_keeps_what_it_does_not_know(void **state)
{
	(void)state;
	struct run run = begin(true, 100);
	feed(&run, CHUNK("\"content\":\"a\"", "null"));
	buf_clear(&run.out);
	feed(&run, "data: {" HEAD ",\"choices\":[],\"timings\":{\"ms\":1},\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,"
	           "\"total_tokens\":2,\"cost\":0.5,\"completion_tokens_details\":{\"audio_tokens\":0}}}\n\n");
	struct chat_answer_end over = usage_2;
	over.usage.reasoning_tokens = 1;
	assert_int_equal(chat_answer_finish(run.answer, &over, &run.out), DB_OK);
	assert_out(&run, "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"public\",\"choices\":"
	                 "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	                 "data: {" HEADED ",\"choices\":[],\"timings\":{\"ms\":1},\"usage\":{\"prompt_tokens\":11,"
	                 "\"completion_tokens\":2,\"total_tokens\":13,\"completion_tokens_details\":{\"audio_tokens\":0,"
	                 "\"reasoning_tokens\":1},\"cost\":0.5}}\n\ndata: [DONE]\n\n");
	end(&run);
}

static void a_whole_answer_is_put_together(void **state)
{
	(void)state;
	struct run run = begin(false, 100);
	feed(&run, CHUNK("\"role\":\"assistant\"", "null"));
	feed(&run, CHUNK("\"content\":\"<THINK>\\nhm</think>\\n\\nfour\"", "null"));
	feed(&run, CHUNK("\"reasoning_content\":\"2+2\"", "null"));
	feed(&run, CHUNK("\"tool_calls\":[{\"index\":2,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}]", "null"));
	feed(&run, CHUNK("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\","
	                 "\"arguments\":\"1\"}},{\"index\":2,\"function\":{\"arguments\":\"}\"}}]",
	                 "null"));
	feed(&run, CHUNK("", "\"stop\""));
	assert_out(&run, "");
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	assert_out(&run,
	           "{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":5,\"model\":\"public\",\"choices\":[{\"index\":0,"
	           "\"message\":{\"role\":\"assistant\",\"content\":\"four\",\"reasoning\":\"2+2hm\",\"tool_calls\":["
	           "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"1\"}},"
	           "{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}],\"refusal\":null},"
	           "\"logprobs\":null,\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,"
	           "\"total_tokens\":13,\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n");
	end(&run);
}

#define WHOLE                                                                                                                  \
	"data: {\"id\": \"w\", \"object\": \"chat.completion\", \"created\": 5, \"model\": \"org/build\", \"choices\": "           \
	"[{\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": \"four\", \"tool_calls\": null, \"x\": 1}, "          \
	"\"finish_reason\": \"stop\"}], \"usage\": {\"prompt_tokens\": 1, \"completion_tokens\": 1, \"total_tokens\": 2}, "        \
	"\"system_fingerprint\": null}"

static void a_completion_that_came_whole_passes_through(void **state)
{
	(void)state;
	struct run run = begin(false, 100);
	feed(&run, WHOLE);
	feed(&run, "data: [DONE]");
	assert_int_equal(run.answer->base.text_bytes, 4);
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	assert_out(&run,
	           "{\"id\":\"w\",\"object\":\"chat.completion\",\"created\":5,\"choices\":[{\"index\":0,\"message\":{\"role\":"
	           "\"assistant\",\"x\":1,\"content\":\"four\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
	           "\"model\":\"public\",\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,\"total_tokens\":13}}\n");
	end(&run);
}

static void a_completion_that_came_whole_can_be_streamed(void **state)
{
	(void)state;
	struct run run = begin(true, 100);
	feed(&run, WHOLE);
	assert_out(&run,
	           "data: {\"id\":\"w\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"public\",\"choices\":[{"
	           "\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"four\"},\"finish_reason\":null}]}\n\n");
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	buf_append_byte(&run.out, '\0');
	assert_non_null(strstr(run.out.at, "\"finish_reason\":\"stop\""));
	assert_non_null(strstr(run.out.at, "data: [DONE]\n\n"));
	end(&run);
}

#define CHOICE(index, delta, reason) "{\"index\":" index ",\"delta\":{" delta "},\"finish_reason\":" reason "}"
#define CHOSEN(choices)              "data: {" HEAD ",\"choices\":[" choices "]}\n\n"
#define CHOSEN_OUT(choices)          "data: {" HEADED ",\"choices\":[" choices "]}\n\n"

static void feed_two_choices(struct run *run)
{
	feed(run, CHOSEN(CHOICE("1", "\"content\":\"b\"", "null")));
	feed(run, CHOSEN(CHOICE("0", "\"content\":\"a\"", "null")));
	feed(run, CHOSEN(CHOICE("1", "", "\"length\"")));
	feed(run, CHOSEN(CHOICE("0", "\"content\":\"A\"", "null") "," CHOICE("7", "\"content\":\"none asked\"", "null")));
	feed(run, CHOSEN(CHOICE("7", "\"content\":\"none asked\"", "null")));
	feed(run, CHOSEN(CHOICE("-1", "\"content\":\"none asked\"", "\"stop\"")));
	feed(run, CHOSEN(CHOICE("0", "", "\"stop\"")));
	feed(run, "data: [DONE]\n\n");
}

static void every_choice_of_a_stream_ends_once_before_the_usage(void **state)
{
	(void)state;
	struct run run = begin_choices(true, 2, 2);
	feed_two_choices(&run);
	assert_out(&run, CHOSEN_OUT(CHOICE("1", "\"content\":\"b\"", "null")) CHOSEN_OUT(CHOICE("0", "\"content\":\"a\"", "null"))
	                     CHOSEN_OUT(CHOICE("0", "\"content\":\"A\"", "null")));
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	buf_append_byte(&run.out, '\0');
	static const char expected[] = CHOSEN_OUT(CHOICE("0", "", "\"stop\"")) CHOSEN_OUT(CHOICE("1", "", "\"length\""));
	assert_memory_equal(run.out.at, expected, sizeof expected - 1);
	assert_non_null(strstr(run.out.at, "\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,"));
	end(&run);
}

static void every_choice_of_a_whole_answer_is_put_together(void **state)
{
	(void)state;
	struct run run = begin_choices(false, 2, 3);
	feed_two_choices(&run);
	assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
	assert_out(&run, "{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":5,\"model\":\"public\",\"choices\":["
	                 "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"aA\",\"refusal\":null},\"logprobs\":null,"
	                 "\"finish_reason\":\"stop\"},"
	                 "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"b\",\"refusal\":null},\"logprobs\":null,"
	                 "\"finish_reason\":\"length\"},"
	                 "{\"index\":2,\"message\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,"
	                 "\"finish_reason\":\"stop\"}],"
	                 "\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,\"total_tokens\":13}}\n");
	end(&run);
}

static void tool_calls_end_only_the_choice_that_made_them(void **state)
{
	(void)state;
	for (int stream = 0; stream < 2; stream++) {
		struct run run = begin_choices(stream, 100, 2);
		feed(&run,
		     CHOSEN(CHOICE("1", "\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"function\":{\"name\":\"f\"}}]", "\"stop\"")));
		feed(&run, CHOSEN(CHOICE("0", "\"content\":\"a\"", "\"stop\"")));
		assert_int_equal(chat_answer_finish(run.answer, &usage_2, &run.out), DB_OK);
		buf_append_byte(&run.out, '\0');
		const char *stop = strstr(run.out.at, "\"finish_reason\":\"stop\"");
		const char *called = strstr(run.out.at, "\"finish_reason\":\"tool_calls\"");
		assert_true(stop && called && stop < called);
		end(&run);
	}
}

static void whole_answers_are_bounded(void **state)
{
	(void)state;
	struct run run = begin(false, 0);
	struct buf chunk;
	buf_init(&chunk, 4 << 20);
	buf_append_str(&chunk, STR("data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{\"content\":\""));
	for (size_t i = 0; i < 1 << 20; i++)
		buf_append_byte(&chunk, 'x');
	buf_append_str(&chunk, STR("\"}}]}"));
	enum db_err err = DB_OK;
	int fed = 0;
	for (; !err && fed < 20; fed++) {
		struct chat_frame frame;
		struct str rest;
		assert_int_equal(chat_frame_read(buf_str(&chunk), run.scratch, &frame, &rest), DB_OK);
		err = chat_answer_frame(run.answer, &frame, &run.out);
		arena_reset(run.scratch);
	}
	assert_int_equal(err, DB_E_LIMIT);
	assert_int_equal(fed, 17);
	buf_free(&chunk);
	end(&run);
}

static void frames_are_told_apart(void **state)
{
	(void)state;
	static const struct {
		const char *chunk;
		enum chat_frame_kind kind;
	} cases[] = {
	    {"", CHAT_FRAME_EMPTY},
	    {"\n\n", CHAT_FRAME_EMPTY},
	    {": keepalive\n\n", CHAT_FRAME_EMPTY},
	    {"data: [DONE]\n\n", CHAT_FRAME_DONE},
	    {"data:[DONE]", CHAT_FRAME_DONE},
	    {"event: x\r\ndata: [DONE]\r\n\r\n", CHAT_FRAME_DONE},
	    {CHUNK("\"role\":\"assistant\"", "null"), CHAT_FRAME_PREAMBLE},
	    {CHUNK("\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]", "null"), CHAT_FRAME_PREAMBLE},
	    {CHUNK("\"role\":\"assistant\",\"content\":\"x\"", "null"), CHAT_FRAME_CONTENT},
	    {CHUNK("\"role\":\"assistant\",\"odd\":1", "null"), CHAT_FRAME_CONTENT},
	    {CHUNK("\"content\":\"\"", "null"), CHAT_FRAME_CONTENT},
	    {CHUNK("\"content\":\"response.created [DONE]\"", "null"), CHAT_FRAME_CONTENT},
	    {CHUNK("", "\"\""), CHAT_FRAME_CONTENT},
	    {CHUNK("", "\"length\""), CHAT_FRAME_FINISH},
	    {"data: {\"usage\":{\"prompt_tokens\":1}}", CHAT_FRAME_USAGE},
	    {"data: {\"choices\":[],\"usage\":{}}", CHAT_FRAME_USAGE},
	    {"data: {\"choices\":[]}", CHAT_FRAME_OTHER},
	    {"data: {\"type\":\"ping\"}", CHAT_FRAME_OTHER},
	    {"data: 7", CHAT_FRAME_OTHER},
	    {WHOLE, CHAT_FRAME_WHOLE},
	    {"{\"object\":\"chat.completion\"}", CHAT_FRAME_OTHER},
	};
	struct arena *arena = arena_new(0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct chat_frame frame;
		struct str rest;
		assert_int_equal(chat_frame_read(str_of(cases[i].chunk), arena, &frame, &rest), DB_OK);
		if (frame.kind != cases[i].kind)
			print_error("%s\n", cases[i].chunk);
		assert_int_equal(frame.kind, cases[i].kind);
		assert_int_equal(rest.len, 0);
	}
	struct chat_frame frame;
	struct str rest;
	assert_int_equal(chat_frame_read(STR("data: {broken"), arena, &frame, &rest), DB_E_INVALID);
	arena_free(arena);
}

static void our_own_frames_read_back(void **state)
{
	(void)state;
	const struct chat_frame_head head = {"c1", 5, "org/build"};
	struct buf out;
	struct arena *arena = arena_new(0);
	buf_init(&out, 1 << 16);
	chat_frame_role(&head, 0, &out);
	chat_frame_delta(&head, 0, STR("a\n\"b"), STR("why"), STR("[{\"index\":0}]"), STR("{\"content\":[]}"), &out);
	chat_frame_finish(&head, 0, "stop", STR_NONE, &out);
	chat_frame_usage(&head, &(struct chat_usage){3, 4, 2, 1}, &out);
	chat_frame_done(&out);
	static const enum chat_frame_kind kinds[] = {CHAT_FRAME_PREAMBLE, CHAT_FRAME_CONTENT, CHAT_FRAME_FINISH, CHAT_FRAME_USAGE,
	                                             CHAT_FRAME_DONE};
	struct str rest = buf_str(&out);
	for (size_t i = 0; i < 5; i++) {
		struct chat_frame frame;
		assert_int_equal(chat_frame_read(rest, arena, &frame, &rest), DB_OK);
		assert_int_equal(frame.kind, kinds[i]);
		if (frame.kind == CHAT_FRAME_USAGE) {
			assert_int_equal(frame.usage.prompt_tokens, 3);
			assert_int_equal(frame.usage.completion_tokens, 4);
			assert_int_equal(frame.usage.reasoning_tokens, 2);
			assert_int_equal(frame.usage.cached_tokens, 1);
		}
	}
	assert_int_equal(rest.len, 0);
	arena_free(arena);
	buf_free(&out);
}

static void failures_have_two_shapes(void **state)
{
	(void)state;
	struct api_error error;
	struct buf out;
	buf_init(&out, 4096);
	api_fail(&error, 502, "provider_error", NULL, NULL, "It \"broke\".");
	chat_stream_fail(&error, false, &out);
	buf_append_byte(&out, '\0');
	assert_string_equal(out.at, "data: {\"error\":{\"type\":\"provider_error\",\"code\":\"provider_error\",\"message\":"
	                            "\"It \\\"broke\\\".\",\"param\":null}}\n\ndata: [DONE]\n\n");
	buf_clear(&out);
	chat_stream_fail(&error, true, &out);
	buf_append_byte(&out, '\0');
	assert_string_equal(out.at, "data: {\"error\":{\"message\":\"It \\\"broke\\\".\",\"type\":\"provider_error\"}}\n\n");
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_stream_of_the_newer_generation),
	    cmocka_unit_test(a_stream_of_the_older_generation),
	    cmocka_unit_test(nulls_become_what_clients_can_read),
	    cmocka_unit_test(what_a_finish_frame_says_is_not_held),
	    cmocka_unit_test(tool_calls_name_their_reason),
	    cmocka_unit_test(usage_keeps_what_it_does_not_know),
	    cmocka_unit_test(a_whole_answer_is_put_together),
	    cmocka_unit_test(a_completion_that_came_whole_passes_through),
	    cmocka_unit_test(a_completion_that_came_whole_can_be_streamed),
	    cmocka_unit_test(every_choice_of_a_stream_ends_once_before_the_usage),
	    cmocka_unit_test(every_choice_of_a_whole_answer_is_put_together),
	    cmocka_unit_test(tool_calls_end_only_the_choice_that_made_them),
	    cmocka_unit_test(whole_answers_are_bounded),
	    cmocka_unit_test(frames_are_told_apart),
	    cmocka_unit_test(our_own_frames_read_back),
	    cmocka_unit_test(failures_have_two_shapes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
