/* Golden transcripts of /v1/responses, event by event. Snapshots of the whole object are left out of the stream's transcript
 * and checked by themselves; tests/e2e/test_responses.py holds both against the published schema. */
#include "api/dialect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define CHUNK(delta, reason)                                                                                                   \
	"data: {\"id\":\"c1\",\"created\":5,\"model\":\"org/build\",\"choices\":[{\"index\":0,\"delta\":{" delta                   \
	"},\"finish_reason\":" reason "}]}\n\n"

struct run {
	struct arena *arena, *scratch;
	struct chat_request request;
	struct dialect_answer *answer;
	struct buf out;
};

static void begin(struct run *run, const char *body, bool stream, int64_t max_tokens)
{
	struct api_error error;
	*run = (struct run){.arena = arena_new(0), .scratch = arena_new(0)};
	buf_init(&run->out, 1 << 24);
	assert_true(dialect_responses.parse(str_of(body), run->arena, &run->request, &error));
	struct chat_answer_options options = {.job_id = "ab-cd",
	                                      .requested_model = STR("public"),
	                                      .stream = stream,
	                                      .max_tokens = max_tokens,
	                                      .request = &run->request};
	run->answer = dialect_responses.answer_new(run->arena, &options);
	assert_non_null(run->answer);
}

static void feed(struct run *run, const char *chunk)
{
	struct str rest = str_of(chunk);
	while (rest.len > 0) {
		struct chat_frame frame;
		assert_int_equal(chat_frame_read(rest, run->scratch, &frame, &rest), DB_OK);
		assert_int_equal(dialect_responses.frame(run->answer, &frame, &run->out), DB_OK);
		arena_reset(run->scratch); /* nothing of a frame may be kept by reference */
	}
}

static void finish(struct run *run, uint64_t completion_tokens)
{
	struct chat_answer_end end = {
	    .has_usage = true, .usage = {.prompt_tokens = 9, .completion_tokens = completion_tokens}, .se_signature = STR("MEUC")};
	assert_int_equal(dialect_responses.finish(run->answer, &end, &run->out), DB_OK);
}

static void end(struct run *run)
{
	dialect_answer_free(run->answer);
	buf_free(&run->out);
	arena_free(run->arena);
	arena_free(run->scratch);
}

/* One line for each event: its data without type, sequence_number and response; names and numbers are checked on the way. */
static void transcript(const struct run *run, struct buf *out)
{
	struct str rest = buf_str(&run->out);
	for (int64_t expected = 0; rest.len > 0; expected++) {
		struct str name, data, blank, key;
		int64_t sequence = -1;
		rest = str_cut(rest, '\n', &name);
		rest = str_cut(rest, '\n', &data);
		rest = str_cut(rest, '\n', &blank);
		assert_int_equal(blank.len, 0);
		struct json_doc *doc = json_parse(str_sub(data, 6, data.len), run->scratch, NULL);
		assert_non_null(doc);
		assert_true(json_as_str(json_get(json_root(doc), "type"), &key) && str_eq(key, str_sub(name, 7, name.len)));
		assert_true(json_as_i64(json_get(json_root(doc), "sequence_number"), &sequence));
		assert_int_equal(sequence, expected);
		buf_append_str(out, key);
		struct json_iter iter = json_iter(json_root(doc));
		for (json_val *value; (value = json_next(&iter, &key));) {
			if (str_is(key, "type") || str_is(key, "sequence_number") || str_is(key, "response"))
				continue;
			struct json_writer w;
			buf_printf(out, " %.*s=", STR_ARG(key));
			json_writer_init(&w, out);
			json_value(&w, value);
		}
		buf_append_byte(out, '\n');
	}
	buf_append_byte(out, '\0');
}

static void assert_transcript(const struct run *run, const char *expected)
{
	struct buf said;
	buf_init(&said, 1 << 20);
	transcript(run, &said);
	assert_string_equal(said.at, expected);
	buf_free(&said);
}

#define PART(text) "{\"type\":\"output_text\",\"text\":\"" text "\",\"annotations\":[],\"logprobs\":[]}"
#define MESSAGE(id, content, status)                                                                                           \
	"{\"id\":\"" id "\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[" content "],\"status\":\"" status "\"}"
#define CALL(id, call, arguments, status)                                                                                      \
	"{\"id\":\"" id "\",\"type\":\"function_call\",\"call_id\":\"" call "\",\"name\":\"f\",\"arguments\":\"" arguments         \
	"\",\"status\":\"" status "\"}"

static void reasoning_text_and_two_calls(void **state)
{
	(void)state;
	struct run run;
	begin(&run, "{\"model\":\"public\",\"input\":\"x\",\"stream\":true}", true, 100);
	feed(&run, CHUNK("\"role\":\"assistant\",\"content\":\"\"", "null"));
	feed(&run, CHUNK("\"reasoning\":\"hm\"", "null"));
	feed(&run, CHUNK("\"content\":\"a\"", "null") CHUNK("\"content\":\"b\"", "null"));
	feed(&run, CHUNK("\"tool_calls\":[{\"index\":0,\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}},"
	                 "{\"index\":1,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]",
	                 "null"));
	feed(&run, CHUNK("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]", "\"tool_calls\""));
	finish(&run, 7);
	assert_transcript(
	    &run,
	    "response.created\n"
	    "response.in_progress\n"
	    "response.output_item.added output_index=0 "
	    "item={\"id\":\"rs_abcd_0\",\"type\":\"reasoning\",\"summary\":[],\"status\":\"in_progress\"}\n"
	    "response.reasoning_summary_part.added item_id=\"rs_abcd_0\" output_index=0 summary_index=0 "
	    "part={\"type\":\"summary_text\",\"text\":\"\"}\n"
	    "response.reasoning_summary_text.delta item_id=\"rs_abcd_0\" output_index=0 summary_index=0 delta=\"hm\"\n"
	    "response.reasoning_summary_text.done item_id=\"rs_abcd_0\" output_index=0 summary_index=0 text=\"hm\"\n"
	    "response.reasoning_summary_part.done item_id=\"rs_abcd_0\" output_index=0 summary_index=0 "
	    "part={\"type\":\"summary_text\",\"text\":\"hm\"}\n"
	    "response.output_item.done output_index=0 "
	    "item={\"id\":\"rs_abcd_0\",\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"hm\"}],"
	    "\"status\":\"completed\"}\n"
	    "response.output_item.added output_index=1 item=" MESSAGE(
	        "msg_abcd_1", "",
	        "in_progress") "\n"
	                       "response.content_part.added item_id=\"msg_abcd_1\" output_index=1 content_index=0 part=" PART(
	                           "") "\n"
	                               "response.output_text.delta item_id=\"msg_abcd_1\" output_index=1 content_index=0 "
	                               "delta=\"a\" logprobs=[]\n"
	                               "response.output_text.delta item_id=\"msg_abcd_1\" output_index=1 content_index=0 "
	                               "delta=\"b\" logprobs=[]\n"
	                               "response.output_text.done item_id=\"msg_abcd_1\" output_index=1 content_index=0 "
	                               "text=\"ab\" logprobs=[]\n"
	                               "response.content_part.done item_id=\"msg_abcd_1\" output_index=1 content_index=0 "
	                               "part=" PART(
	                                   "ab") "\n"
	                                         "response.output_item.done output_index=1 item=" MESSAGE(
	                                             "msg_abcd_1", PART("ab"),
	                                             "completed") "\n"
	                                                          "response.output_item.added output_index=2 item=" CALL(
	                                                              "fc_abcd_2", "x", "",
	                                                              "in_progress") "\n"
	                                                                             "response.function_call_arguments.delta "
	                                                                             "item_id=\"fc_abcd_2\" output_index=2 "
	                                                                             "delta=\"{\"\n"
	                                                                             "response.output_item.added output_index=3 "
	                                                                             "item=" CALL(
	                                                                                 "fc_abcd_3", "call_abcd_3", "",
	                                                                                 "in_progress") "\n"
	                                                                                                "response.function_call_"
	                                                                                                "arguments.delta "
	                                                                                                "item_id=\"fc_abcd_3\" "
	                                                                                                "output_index=3 "
	                                                                                                "delta=\"{}\"\n"
	                                                                                                "response.function_call_"
	                                                                                                "arguments.delta "
	                                                                                                "item_id=\"fc_abcd_2\" "
	                                                                                                "output_index=2 "
	                                                                                                "delta=\"}\"\n"
	                                                                                                "response.function_call_"
	                                                                                                "arguments.done "
	                                                                                                "item_id=\"fc_abcd_2\" "
	                                                                                                "output_index=2 name=\"f\" "
	                                                                                                "arguments=\"{}\"\n"
	                                                                                                "response.output_item.done "
	                                                                                                "output_index=2 item=" CALL(
	                                                                                                    "fc_abcd_2", "x", "{}",
	                                                                                                    "completed") "\n"
	                                                                                                                 "response."
	                                                                                                                 "function_"
	                                                                                                                 "call_"
	                                                                                                                 "arguments"
	                                                                                                                 ".done "
	                                                                                                                 "item_id="
	                                                                                                                 "\"fc_"
	                                                                                                                 "abcd_3\" "
	                                                                                                                 "output_"
	                                                                                                                 "index=3 "
	                                                                                                                 "name="
	                                                                                                                 "\"f\" "
	                                                                                                                 "arguments"
	                                                                                                                 "=\"{}\"\n"
	                                                                                                                 "response."
	                                                                                                                 "output_"
	                                                                                                                 "item."
	                                                                                                                 "done "
	                                                                                                                 "output_"
	                                                                                                                 "index=3 "
	                                                                                                                 "item"
	                                                                                                                 "=" CALL(
	                                                                                                                     "fc_"
	                                                                                                                     "abcd_"
	                                                                                                                     "3",
	                                                                                                                     "call_"
	                                                                                                                     "abcd_"
	                                                                                                                     "3",
	                                                                                                                     "{}",
	                                                                                                                     "compl"
	                                                                                                                     "eted") "\n"
	                                                                                                                             "response.completed\n");
	end(&run);
}

static void text_reasoning_text_are_three_items_that_do_not_repeat(void **state)
{
	(void)state;
	struct run run;
	begin(&run, "{\"model\":\"public\",\"input\":\"x\"}", false, 100);
	feed(&run, CHUNK("\"content\":\"a\"", "null") CHUNK("\"reasoning\":\"r\"", "null") CHUNK("\"content\":\"b\"", "\"stop\""));
	assert_int_equal(run.out.len, 0);
	finish(&run, 7);
	struct json_doc *doc = json_parse(buf_str(&run.out), run.scratch, NULL);
	struct buf output;
	struct json_writer w;
	buf_init(&output, 1 << 20);
	json_writer_init(&w, &output);
	json_value(&w, json_get(json_root(doc), "output"));
	buf_append_byte(&output, '\0');
	assert_string_equal(
	    output.at,
	    "[" MESSAGE("msg_abcd_0", PART("a"),
	                "completed") ","
	                             "{\"id\":\"rs_abcd_1\",\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\","
	                             "\"text\":\"r\"}],\"status\":\"completed\"}," MESSAGE("msg_abcd_2", PART("b"),
	                                                                                   "completed") "]");
	buf_free(&output);
	end(&run);
}

static void an_answer_of_nothing_is_an_empty_message(void **state)
{
	(void)state;
	struct run run;
	begin(&run, "{\"model\":\"public\",\"input\":\"x\"}", true, 100);
	finish(&run, 0);
	assert_transcript(
	    &run, "response.created\n"
	          "response.in_progress\n"
	          "response.output_item.added output_index=0 item=" MESSAGE(
	              "msg_abcd_0", "",
	              "in_progress") "\n"
	                             "response.content_part.added item_id=\"msg_abcd_0\" output_index=0 content_index=0 part=" PART(
	                                 "") "\n"
	                                     "response.output_text.done item_id=\"msg_abcd_0\" output_index=0 content_index=0 "
	                                     "text=\"\" logprobs=[]\n"
	                                     "response.content_part.done item_id=\"msg_abcd_0\" output_index=0 content_index=0 "
	                                     "part=" PART("") "\n"
	                                                      "response.output_item.done output_index=0 item=" MESSAGE(
	                                                          "msg_abcd_0", PART(""), "completed") "\n"
	                                                                                               "response.completed\n");
	end(&run);
}

static void a_refusal_has_events_of_its_own(void **state)
{
	(void)state;
	struct run run;
	begin(&run, "{\"model\":\"public\",\"input\":\"x\"}", true, 100);
	feed(&run, CHUNK("\"refusal\":\"No.\"", "\"stop\""));
	finish(&run, 2);
#define REFUSED(text) "{\"type\":\"refusal\",\"refusal\":\"" text "\"}"
	assert_transcript(
	    &run,
	    "response.created\n"
	    "response.in_progress\n"
	    "response.output_item.added output_index=0 item=" MESSAGE(
	        "msg_abcd_0", "",
	        "in_progress") "\n"
	                       "response.content_part.added item_id=\"msg_abcd_0\" output_index=0 content_index=0 part=" REFUSED(
	                           "") "\n"
	                               "response.refusal.delta item_id=\"msg_abcd_0\" output_index=0 content_index=0 "
	                               "delta=\"No.\"\n"
	                               "response.refusal.done item_id=\"msg_abcd_0\" output_index=0 content_index=0 "
	                               "refusal=\"No.\"\n"
	                               "response.content_part.done item_id=\"msg_abcd_0\" output_index=0 content_index=0 "
	                               "part=" REFUSED("No.") "\n"
	                                                      "response.output_item.done output_index=0 item=" MESSAGE(
	                                                          "msg_abcd_0", REFUSED("No."),
	                                                          "completed") "\n"
	                                                                       "response.completed\n");
	end(&run);
}

static void log_probabilities_go_with_their_text(void **state)
{
	(void)state;
	struct run run;
	begin(&run, "{\"model\":\"public\",\"input\":\"x\",\"top_logprobs\":1}", true, 100);
	feed(&run,
	     "data: "
	     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":"
	     "-1.5,\"bytes\":[97],\"top_logprobs\":[]}]}}]}\n\n");
	struct str said = buf_str(&run.out);
	assert_true(
	    str_contains_nocase(said, STR("\"delta\":\"a\",\"logprobs\":[{\"token\":\"a\",\"logprob\":-1.5,\"bytes\":[97]")));
	finish(&run, 1);
	assert_true(
	    str_contains_nocase(buf_str(&run.out), STR("\"text\":\"a\",\"annotations\":[],\"logprobs\":[{\"token\":\"a\"")));
	end(&run);
}

static void a_failure_behind_keepalives_is_one_error_event(void **state)
{
	(void)state;
	struct api_error error;
	struct buf out;
	buf_init(&out, 1 << 16);
	api_fail(&error, 503, "provider_error", NULL, NULL, "No provider.");
	(dialect_responses.fail)(NULL, &error, false, &out);
	buf_append_byte(&out, '\0');
	assert_string_equal(out.at, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":0,\"code\":\"provider_error\","
	                            "\"message\":\"No provider.\",\"param\":null,\"error\":{\"type\":\"provider_error\",\"code\":"
	                            "\"provider_error\",\"message\":\"No provider.\",\"param\":null}}\n\n");
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reasoning_text_and_two_calls),
	    cmocka_unit_test(text_reasoning_text_are_three_items_that_do_not_repeat),
	    cmocka_unit_test(an_answer_of_nothing_is_an_empty_message),
	    cmocka_unit_test(a_refusal_has_events_of_its_own),
	    cmocka_unit_test(log_probabilities_go_with_their_text),
	    cmocka_unit_test(a_failure_behind_keepalives_is_one_error_event),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
