/* /v1/messages: what a request is lowered to, and what becomes of frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/dialect.h"
#include "core/arena.h"

#include <stdio.h>

/* --- requests --- */

static struct chat_request parse(struct arena *arena, const char *body)
{
	struct chat_request request;
	struct api_error error = {0};
	if (!dialect_anthropic.parse(str_of(body), arena, &request, &error))
		fail_msg("refused: %s", error.message);
	return request;
}

static void assert_text(struct str text, const char *expected)
{
	assert_int_equal(text.len, strlen(expected));
	assert_memory_equal(text.at, expected, text.len);
}

static void lowers_to(const char *body, const char *expected)
{
	struct arena *arena = arena_new(0);
	struct chat_request request = parse(arena, body);
	assert_text(request.body, expected);
	arena_free(arena);
}

static void text_is_lowered_as_it_is(void **state)
{
	(void)state;
	lowers_to("{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
	          "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
}

static void system_comes_first_and_blocks_are_joined(void **state)
{
	(void)state;
	lowers_to(
	    "{\"model\":\"m\",\"max_tokens\":5,\"system\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\","
	    "\"cache_control\":{\"type\":\"ephemeral\"}}],\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
	    "\"text\":\"c\"},{\"type\":\"text\",\"text\":\"d\"}]}]}",
	    "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":\"system\",\"content\":\"a\\nb\"},{\"role\":\"user\","
	    "\"content\":\"c\\nd\"}]}");
}

static void tool_use_and_results_become_calls_and_tool_messages(void **state)
{
	(void)state;
	lowers_to(
	    "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
	    "\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"s\"},{\"type\":\"redacted_thinking\",\"data\":"
	    "\"x\"},{\"type\":\"text\",\"text\":\"ok\"},{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{\"a\":1}},{"
	    "\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"g\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":"
	    "\"tool_result\",\"tool_use_id\":\"t1\",\"content\":\"one\"},{\"type\":\"tool_result\",\"tool_use_id\":\"t2\","
	    "\"is_error\":true,\"content\":[{\"type\":\"text\",\"text\":\"two\"},{\"type\":\"text\",\"text\":\"three\"}]},{"
	    "\"type\":"
	    "\"text\",\"text\":\"go on\"}]}]}",
	    "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
	    "\"content\":\"ok\",\"reasoning_content\":\"hm\",\"tool_calls\":[{\"id\":\"t1\",\"type\":\"function\",\"function\":{"
	    "\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},{\"id\":\"t2\",\"type\":\"function\",\"function\":{\"name\":\"g\","
	    "\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"one\"},{\"role\":\"tool\","
	    "\"tool_call_id\":\"t2\",\"content\":\"Error: two\\nthree\"},{\"role\":\"user\",\"content\":\"go on\"}]}");
}

static void parameters_get_their_names_in_the_chat_api(void **state)
{
	(void)state;
	lowers_to(
	    "{\"model\":\"m\",\"max_tokens\":2000,\"stop_sequences\":[\"x\"],\"temperature\":0.50,\"top_p\":1,\"top_k\":3,"
	    "\"stream\":true,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024},\"metadata\":{\"user_id\":\"u\"},"
	    "\"output_config\":{\"effort\":\"low\",\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}},"
	    "\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}}],\"tool_choice\":{\"type\":"
	    "\"tool\",\"name\":\"f\",\"disable_parallel_tool_use\":true},\"unknown\":[1],\"service_tier\":\"auto\","
	    "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
	    "{\"model\":\"m\",\"max_tokens\":2000,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"tools\":[{\"type\":"
	    "\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"}}}],"
	    "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"parallel_tool_calls\":false,\"stop\":[\"x\"],"
	    "\"temperature\":0.5,\"top_p\":1,\"top_k\":3,\"stream\":true,\"max_reasoning_tokens\":1024,"
	    "\"chat_template_kwargs\":{\"enable_thinking\":true},\"reasoning_effort\":\"low\",\"response_format\":{\"type\":"
	    "\"json_schema\",\"json_schema\":{\"name\":\"output\",\"schema\":{\"type\":\"object\"},\"strict\":true}},\"user\":"
	    "\"u\",\"unknown\":[1]}");
}

static void refused(const char *change, const char *param)
{
	static const char whole[] = "\"model\":\"m\",\"max_tokens\":10,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]";
	struct arena *arena = arena_new(0);
	struct chat_request request;
	struct api_error error = {0};
	char body[2048];
	int len = snprintf(body, sizeof body, "{%s,%s}", whole, change); /* the last of two members counts */
	assert_true(len > 0 && (size_t)len < sizeof body);
	if (dialect_anthropic.parse(str_of(body), arena, &request, &error))
		fail_msg("taken: %s", change);
	assert_int_equal(error.status, 400);
	assert_string_equal(error.type, "invalid_request_error");
	assert_string_equal(error.param, param);
	arena_free(arena);
}

static void what_is_out_of_range_is_refused(void **state)
{
	(void)state;
	refused("\"model\":\"\"", "model");
	refused("\"max_tokens\":null", "max_tokens");
	refused("\"max_tokens\":0", "max_tokens");
	refused("\"max_tokens\":1.5", "max_tokens");
	refused("\"messages\":[]", "messages");
	refused("\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]", "messages");
	refused("\"messages\":[{\"role\":\"user\",\"content\":[]}]", "messages");
	refused("\"messages\":[{\"role\":\"user\"}]", "messages");
	refused("\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{}}]}]", "messages");
	refused("\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]}]", "messages");
	refused(
	    "\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"i\",\"name\":\"n\",\"input\":1}]}]",
	    "messages");
	refused("\"system\":1", "system");
	refused("\"system\":[{\"type\":\"image\"}]", "system");
	refused("\"temperature\":1.1", "temperature");
	refused("\"temperature\":\"x\"", "temperature");
	refused("\"top_p\":-0.1", "top_p");
	refused("\"top_k\":-1", "top_k");
	refused("\"stop_sequences\":\"x\"", "stop_sequences");
	refused("\"stop_sequences\":[\"\"]", "stop_sequences");
	refused("\"stream\":1", "stream");
	refused("\"tools\":{}", "tools");
	refused("\"tools\":[{\"name\":\"f\"}]", "tools");
	refused("\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]", "tools");
	refused("\"tool_choice\":{\"type\":\"any\"}", "tool_choice");
	refused("\"tool_choice\":{\"type\":\"required\"}", "tool_choice");
	refused("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5}", "thinking");
	refused("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}", "thinking"); /* not below max_tokens */
	refused("\"metadata\":{\"user_id\":1}", "metadata");
	refused("\"output_config\":{\"format\":{\"type\":\"text\"}}", "output_config");
	refused("\"mcp_servers\":[{}]", "mcp_servers");
	refused("\"n\":2", "n");
	refused("\"stop\":\"x\"", "stop");
}

/* --- answers --- */

struct made {
	struct arena *arena;
	struct chat_request request;
	struct dialect_answer *answer;
	struct buf out;
};

static struct made begin(const char *more)
{
	struct made made = {.arena = arena_new(0)};
	char body[1024];
	int len = snprintf(body, sizeof body,
	                   "{\"model\":\"m\",\"max_tokens\":100,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]%s}", more);
	assert_true(len > 0 && (size_t)len < sizeof body);
	char *kept = arena_cstr(made.arena, str_of(body));
	made.request = parse(made.arena, kept);
	return made;
}

static void start(struct made *made, bool stream)
{
	struct chat_answer_options options = {
	    .job_id = "0a-1b", .requested_model = STR("m"), .stream = stream, .max_tokens = 100, .request = &made->request};
	made->answer = dialect_anthropic.answer_new(made->arena, &options);
	assert_non_null(made->answer);
	buf_init(&made->out, 1 << 20);
}

static void feed(struct made *made, const char *choice)
{
	struct arena *scratch = arena_new(0);
	struct chat_frame frame;
	struct str rest;
	char text[2048];
	int len = snprintf(text, sizeof text,
	                   "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"b\","
	                   "\"choices\":[{\"index\":0,%s}]}\n\n",
	                   choice);
	assert_true(len > 0 && (size_t)len < sizeof text);
	assert_int_equal(chat_frame_read(str_of(text), scratch, &frame, &rest), DB_OK);
	assert_int_equal(dialect_anthropic.frame(made->answer, &frame, &made->out), DB_OK);
	arena_free(scratch);
}

static void delta(struct made *made, const char *members)
{
	char choice[2000];
	int len = snprintf(choice, sizeof choice, "\"delta\":{%s},\"finish_reason\":null", members);
	assert_true(len > 0 && (size_t)len < sizeof choice);
	feed(made, choice);
}

static void end(struct made *made)
{
	struct chat_answer_end last = {.has_usage = true, .usage = {10, 7, 2, 4}};
	assert_int_equal(dialect_anthropic.finish(made->answer, &last, &made->out), DB_OK);
}

static void over(struct made *made)
{
	dialect_anthropic.answer_free(made->answer);
	buf_free(&made->out);
	arena_free(made->arena);
}

/* The data of the events that have this type, one by one; NULL at the end. */
static const json_val *next_event(struct made *made, struct str *rest, const char *type)
{
	struct str line, name;
	while (rest->len > 0) {
		*rest = str_cut(*rest, '\n', &line);
		if (!str_starts(line, STR("data: ")))
			continue;
		const json_val *event = json_root(json_parse(str_sub(line, 6, SIZE_MAX), made->arena, NULL));
		assert_true(json_as_str(json_get(event, "type"), &name));
		if (str_is(name, type))
			return event;
	}
	return NULL;
}

static void assert_member(const json_val *object, const char *name, const char *expected)
{
	struct str text = STR_NONE;
	if (!json_as_str(json_get(object, name), &text))
		fail_msg("no %s", name);
	assert_text(text, expected);
}

static void thinking_text_and_tools_are_blocks_of_their_own(void **state)
{
	(void)state;
	struct made made = begin("");
	start(&made, true);
	delta(&made, "\"role\":\"assistant\",\"content\":\"\"");
	delta(&made, "\"reasoning_content\":\"hm\"");
	delta(&made, "\"content\":\"yes\"");
	delta(
	    &made,
	    "\"tool_calls\":[{\"index\":0,\"id\":\"t0\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]");
	delta(&made, "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":\"}}]");
	delta(&made, "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]");
	feed(&made, "\"delta\":{},\"finish_reason\":\"tool_calls\"");
	end(&made);
	struct str rest = buf_str(&made.out);
	static const char *const kinds[] = {"thinking", "text", "tool_use"};
	for (int64_t i = 0; i < 3; i++) {
		int64_t index = -1;
		const json_val *event = next_event(&made, &rest, "content_block_start");
		assert_true(json_as_i64(json_get(event, "index"), &index));
		assert_int_equal(index, i);
		assert_member(json_get(event, "content_block"), "type", kinds[i]);
	}
	rest = buf_str(&made.out);
	static const char *const deltas[] = {"thinking_delta", "signature_delta", "text_delta", "input_json_delta",
	                                     "input_json_delta"};
	for (size_t i = 0; i < 5; i++)
		assert_member(json_get(next_event(&made, &rest, "content_block_delta"), "delta"), "type", deltas[i]);
	assert_null(next_event(&made, &rest, "content_block_delta"));
	rest = buf_str(&made.out);
	const json_val *last = next_event(&made, &rest, "message_delta");
	assert_member(json_get(last, "delta"), "stop_reason", "tool_use");
	int64_t input = 0, cached = 0;
	json_as_i64(json_get(json_get(last, "usage"), "input_tokens"), &input);
	json_as_i64(json_get(json_get(last, "usage"), "cache_read_input_tokens"), &cached);
	assert_int_equal(input, 6); /* the API counts the cached apart */
	assert_int_equal(cached, 4);
	assert_non_null(next_event(&made, &rest, "message_stop"));
	over(&made);
}

/* Pieces of two calls that come interleaved: both are whole, and no block is open beside another. */
static void interleaved_calls_stay_whole(void **state)
{
	(void)state;
	for (int stream = 0; stream < 2; stream++) {
		struct made made = begin("");
		start(&made, stream);
		delta(&made, "\"tool_calls\":[{\"index\":0,\"id\":\"t0\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\"}},"
		             "{\"index\":3,\"id\":\"t3\",\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"b\\\":\"}}]");
		delta(&made, "\"tool_calls\":[{\"index\":3,\"function\":{\"arguments\":\"2}\"}},{\"index\":0,\"function\":{"
		             "\"arguments\":\"1}\"}}]");
		feed(&made, "\"delta\":{},\"finish_reason\":\"stop\"");
		end(&made);
		struct str rest = buf_str(&made.out);
		if (stream) {
			char got[2][64] = {"", ""};
			for (const json_val *event; (event = next_event(&made, &rest, "content_block_delta"));) {
				struct str piece = STR_NONE;
				int64_t index = 0;
				json_as_i64(json_get(event, "index"), &index);
				assert_true(index < 2 && json_as_str(json_get(json_get(event, "delta"), "partial_json"), &piece));
				size_t len = strlen(got[index]);
				assert_true(str_copy(piece, got[index] + len, sizeof got[index] - len));
			}
			assert_string_equal(got[0], "{\"a\":1}");
			assert_string_equal(got[1], "{\"b\":2}");
		} else {
			const json_val *message = json_root(json_parse(buf_str(&made.out), made.arena, NULL));
			struct json_iter iter = json_iter(json_get(message, "content"));
			int64_t value = 0;
			json_as_i64(json_get(json_get(json_next(&iter, NULL), "input"), "a"), &value);
			assert_int_equal(value, 1);
			json_as_i64(json_get(json_get(json_next(&iter, NULL), "input"), "b"), &value);
			assert_int_equal(value, 2);
			assert_member(message, "stop_reason", "tool_use");
		}
		over(&made);
	}
}

static void a_call_cut_short_is_shown(void **state)
{
	(void)state;
	struct made made = begin("");
	start(&made, false);
	delta(&made, "\"tool_calls\":[{\"index\":0,\"id\":\"t0\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\"}}]");
	feed(&made, "\"delta\":{},\"finish_reason\":\"length\"");
	end(&made);
	const json_val *message = json_root(json_parse(buf_str(&made.out), made.arena, NULL));
	struct json_iter iter = json_iter(json_get(message, "content"));
	assert_member(json_get(json_next(&iter, NULL), "input"), "INVALID_JSON", "{\"a\":");
	assert_member(message, "stop_reason", "max_tokens");
	over(&made);
}

static void the_stop_sequence_that_matched_is_named(void **state)
{
	(void)state;
	struct made made = begin(",\"stop_sequences\":[\"A\",\"B\"]");
	start(&made, false);
	delta(&made, "\"content\":\"x\"");
	feed(&made, "\"delta\":{},\"stop_reason\":\"B\",\"finish_reason\":\"stop\"");
	end(&made);
	const json_val *message = json_root(json_parse(buf_str(&made.out), made.arena, NULL));
	assert_member(message, "stop_reason", "stop_sequence");
	assert_member(message, "stop_sequence", "B");
	over(&made);
}

/* A family's own stop string is nobody's business. */
static void a_stop_that_was_not_asked_for_is_the_end_of_the_turn(void **state)
{
	(void)state;
	struct made made = begin(",\"stop_sequences\":[\"A\"]");
	start(&made, false);
	delta(&made, "\"content\":\"x\"");
	feed(&made, "\"delta\":{},\"stop_reason\":\"<end>\",\"finish_reason\":\"stop\"");
	end(&made);
	const json_val *message = json_root(json_parse(buf_str(&made.out), made.arena, NULL));
	assert_member(message, "stop_reason", "end_turn");
	assert_int_equal(json_type(json_get(message, "stop_sequence")), JSON_NULL);
	over(&made);
}

static void hidden_thinking_has_a_signature_and_no_text(void **state)
{
	(void)state;
	for (int stream = 0; stream < 2; stream++) {
		struct made made = begin(",\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"}");
		start(&made, stream);
		delta(&made, "\"reasoning_content\":\"secret\"");
		delta(&made, "\"content\":\"x\"");
		feed(&made, "\"delta\":{},\"finish_reason\":\"stop\"");
		end(&made);
		assert_false(str_contains_nocase(buf_str(&made.out), STR("secret")));
		assert_true(str_contains_nocase(buf_str(&made.out), STR("\"signature\":\"")));
		over(&made);
	}
}

static void errors_carry_the_types_of_the_api(void **state)
{
	(void)state;
	static const struct {
		int status;
		const char *type, *name;
	} cases[] = {{400, "invalid_request_error", "invalid_request_error"},
	             {401, "authentication_error", "authentication_error"},
	             {402, "insufficient_funds", "billing_error"},
	             {403, "model_not_allowed", "permission_error"},
	             {404, "model_not_found", "not_found_error"},
	             {413, "invalid_request_error", "request_too_large"},
	             {422, "invalid_request_error", "invalid_request_error"},
	             {429, "rate_limit_exceeded", "rate_limit_error"},
	             {500, "internal_error", "api_error"},
	             {502, "provider_error", "api_error"},
	             {503, "model_unavailable", "overloaded_error"},
	             {504, "timeout", "timeout_error"},
	             {0, "timeout", "timeout_error"},
	             {0, "consumer_too_slow", "api_error"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena *arena = arena_new(0);
		struct api_error error;
		struct buf out;
		buf_init(&out, 4096);
		api_fail(&error, cases[i].status, cases[i].type, NULL, NULL, "why");
		error.request_id = "r1";
		dialect_anthropic.error_write(&error, &out);
		const json_val *root = json_root(json_parse(buf_str(&out), arena, NULL));
		assert_member(root, "type", "error");
		assert_member(root, "request_id", "r1");
		assert_member(json_get(root, "error"), "type", cases[i].name);
		assert_member(json_get(root, "error"), "message", "why");
		buf_free(&out);
		arena_free(arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(text_is_lowered_as_it_is),
	    cmocka_unit_test(system_comes_first_and_blocks_are_joined),
	    cmocka_unit_test(tool_use_and_results_become_calls_and_tool_messages),
	    cmocka_unit_test(parameters_get_their_names_in_the_chat_api),
	    cmocka_unit_test(what_is_out_of_range_is_refused),
	    cmocka_unit_test(thinking_text_and_tools_are_blocks_of_their_own),
	    cmocka_unit_test(interleaved_calls_stay_whole),
	    cmocka_unit_test(a_call_cut_short_is_shown),
	    cmocka_unit_test(the_stop_sequence_that_matched_is_named),
	    cmocka_unit_test(a_stop_that_was_not_asked_for_is_the_end_of_the_turn),
	    cmocka_unit_test(hidden_thinking_has_a_signature_and_no_text),
	    cmocka_unit_test(errors_carry_the_types_of_the_api),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
