/* JSON, schemas and tools on the real model. */
#include "llama_fixture.h"
#include "random_model.h"

#include <unistd.h>

static void json_object_answers_are_json(void **state)
{
	(void)state;
	struct request request = ask_for("Give me a JSON object about a cat with a name and an age.", 200);
	request.chat.format = CHAT_FORMAT_JSON_OBJECT;
	request.chat.sampling.has_temperature = request.chat.sampling.has_seed = true;
	request.chat.sampling.temperature = 0.7;
	request.chat.sampling.seed = 3;
	request.chat.sampling.has_frequency_penalty = true;
	request.chat.sampling.frequency_penalty = 0.5;
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(content_of(&c)[strspn(content_of(&c), " \n")], '{');
	if (c.finish == ENGINE_FINISH_STOP) {
		struct json_doc *doc = json_parse(buf_str(&c.content), NULL, NULL);
		assert_non_null(doc);
		json_free(doc);
	}
	collector_free(&c);
	request_free(&request);
}

static void json_schema_answers_match_the_schema(void **state)
{
	(void)state;
	struct request request = ask_for("Is the sky blue?", 60);
	struct json_doc *schema =
	    json_parse(STR("{\"type\":\"object\",\"properties\":{\"verdict\":{\"enum\":[\"certainly\",\"never\"]},"
	                   "\"n\":{\"type\":\"boolean\"}},\"required\":[\"verdict\",\"n\"],"
	                   "\"additionalProperties\":false}"),
	               request.arena, NULL);
	request.chat.format = CHAT_FORMAT_JSON_SCHEMA;
	request.chat.schema = json_root(schema);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	struct json_doc *doc = json_parse(buf_str(&c.content), NULL, NULL);
	assert_non_null(doc);
	struct str verdict;
	bool n;
	assert_true(json_as_str(json_get(json_root(doc), "verdict"), &verdict));
	assert_true(str_is(verdict, "certainly") || str_is(verdict, "never"));
	assert_true(json_as_bool(json_get(json_root(doc), "n"), &n));
	assert_int_equal(json_len(json_root(doc)), 2);
	json_free(doc);
	collector_free(&c);
	request_free(&request);
}

static void parts_of_objects_and_bounds_of_numbers_are_kept_to(void **state)
{
	(void)state;
	struct request request = ask_for("How likely is rain, from 0 to 100?", 60);
	struct json_doc *schema =
	    json_parse(STR("{\"required\":[\"likely\",\"sure\"],\"allOf\":[{\"properties\":{\"likely\":{\"type\":\"number\","
	                   "\"exclusiveMinimum\":1.25,\"maximum\":1.5}}},{\"properties\":{\"sure\":{\"type\":\"boolean\"},"
	                   "\"likely\":{\"type\":\"number\",\"maximum\":1.5,\"exclusiveMinimum\":1.25}},"
	                   "\"additionalProperties\":false}]}"),
	               request.arena, NULL);
	request.chat.format = CHAT_FORMAT_JSON_SCHEMA;
	request.chat.schema = json_root(schema);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	struct json_doc *doc = json_parse(buf_str(&c.content), NULL, NULL);
	assert_non_null(doc);
	double likely;
	bool sure;
	assert_true(json_as_double(json_get(json_root(doc), "likely"), &likely));
	assert_true(likely > 1.25 && likely <= 1.5);
	assert_true(json_as_bool(json_get(json_root(doc), "sure"), &sure));
	assert_int_equal(json_len(json_root(doc)), 2);
	json_free(doc);
	collector_free(&c);
	request_free(&request);
}

/* Followed, it would end the process. */
static void a_schema_without_an_end_is_refused_wherever_it_stands(void **state)
{
	struct str tools =
	    STR("[{\"type\":\"function\",\"function\":{\"name\":\"grow\",\"parameters\":"
	        "{\"type\":\"object\",\"x-kind\":1,\"properties\":{\"left\":{\"allOf\":[{\"$ref\":\"#\"},{\"required\":[\"x\"]}]},"
	        "\"right\":{\"allOf\":[{\"$ref\":\"#/properties/left\"}]}}}}}]");
	(void)state;
	for (int asked_as_tool = 0; asked_as_tool <= 1; asked_as_tool++) {
		struct request request = ask_for("Grow a tree.", 20);
		struct json_doc *doc = json_parse(tools, request.arena, NULL);
		json_val *function = json_get(json_at(json_root(doc), 0), "function");
		request.chat.has_tools = asked_as_tool;
		request.chat.tools = asked_as_tool ? json_root(doc) : NULL;
		request.chat.format = asked_as_tool ? CHAT_FORMAT_TEXT : CHAT_FORMAT_JSON_SCHEMA;
		request.chat.schema = asked_as_tool ? NULL : json_get(function, "parameters");
		struct collector c;
		collector_init(&c);
		assert_int_equal(submit_as(shared, &request, "", &c), 400);
		assert_non_null(strstr(c.text, "allOf"));
		assert_null(strstr(c.text, "left"));
		collector_free(&c);
		request_free(&request);
	}
}

/* Each alone would be refused by the library or broken by what it makes of it. */
static void joined_members_and_bounds_of_all_kinds_are_kept_to(void **state)
{
	(void)state;
	struct request request = ask_for("Give me numbers.", 120);
	struct json_doc *schema =
	    json_parse(STR("{\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{\"low\":{\"type\":\"integer\",\"minimum\":0."
	                   "5,\"maximum\":1.5},"
	                   "\"next\":{\"allOf\":[{\"$ref\":\"#/$defs/tree\"}]}},\"required\":[\"low\"]}},"
	                   "\"type\":\"object\",\"properties\":{"
	                   "\"small\":{\"type\":\"number\",\"exclusiveMinimum\":1e-5,\"maximum\":2e-5},"
	                   "\"wide\":{\"type\":\"integer\",\"minimum\":18446744073709551000,\"maximum\":18446744073709551615},"
	                   "\"some\":{\"type\":[\"integer\",\"null\"],\"minimum\":6.5,\"exclusiveMaximum\":8},"
	                   "\"both\":{\"allOf\":[{\"type\":\"number\",\"minimum\":3},{\"type\":\"integer\",\"maximum\":3.5}]},"
	                   "\"tree\":{\"$ref\":\"#/$defs/tree\"}},"
	                   "\"required\":[\"small\",\"wide\",\"some\",\"both\",\"tree\"],\"additionalProperties\":false}"),
	               request.arena, NULL);
	request.chat.format = CHAT_FORMAT_JSON_SCHEMA;
	request.chat.schema = json_root(schema);
	struct collector c;
	run(shared, &request, &c);
	if (c.status)
		fail_msg("%d %s", c.status, c.text);
	if (c.finish == ENGINE_FINISH_STOP) {
		struct json_doc *doc = json_parse(buf_str(&c.content), NULL, NULL);
		double value;
		assert_true(json_as_double(json_get(json_root(doc), "small"), &value) && value > 1e-5 && value <= 2e-5);
		assert_true(json_as_double(json_get(json_root(doc), "both"), &value) && value >= 3 && value <= 3);
		if (json_type(json_get(json_root(doc), "some")) != JSON_NULL)
			assert_true(json_as_double(json_get(json_root(doc), "some"), &value) && value >= 7 && value <= 7);
		assert_true(json_as_double(json_get(json_get(json_root(doc), "tree"), "low"), &value) && value >= 1 && value <= 1);
		json_free(doc);
	}
	collector_free(&c);
	request_free(&request);
}

static json_val *weather_tools(struct request *request)
{
	struct json_doc *tools = json_parse(
	    STR("[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Weather\",\"parameters\":"
	        "{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":[\"Paris\",\"Rome\"]}},\"required\":[\"city\"],"
	        "\"additionalProperties\":false}}}]"),
	    request->arena, NULL);
	request->chat.has_tools = true;
	request->chat.tools = json_root(tools);
	return json_root(tools);
}

static void a_model_without_a_tool_template_calls_what_it_must(void **state)
{
	(void)state;
	static const char *const choices[] = {"\"required\"", "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\"}}"};
	for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
		struct request request = ask_for("What is the weather in Paris?", 60);
		weather_tools(&request);
		struct json_doc *choice = json_parse(str_of(choices[i]), request.arena, NULL);
		request.chat.tool_choice = json_root(choice);
		struct collector c;
		run(shared, &request, &c);
		if (c.status)
			fail_msg("%d %s", c.status, c.text);
		assert_int_equal(c.finish, ENGINE_FINISH_TOOL_CALLS);
		assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"name\":\"get_weather\"", 20));
		assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"id\":\"call_", 11));
		collector_free(&c);
		request_free(&request);
	}
}

static void tools_are_not_shown_where_none_may_be_called(void **state)
{
	(void)state;
	struct request with = ask_for("What is the weather in Paris?", 8), without = ask_for("What is the weather in Paris?", 8);
	weather_tools(&with);
	struct json_doc *choice = json_parse(STR("\"none\""), with.arena, NULL);
	with.chat.tool_choice = json_root(choice);
	struct collector a, b;
	run(shared, &with, &a);
	run(shared, &without, &b);
	assert_int_equal(a.status, 0);
	assert_int_equal(a.usage.prompt_tokens, b.usage.prompt_tokens);
	assert_int_equal(a.tool_calls.len, 0);
	collector_free(&a);
	collector_free(&b);
	request_free(&with);
	request_free(&without);
}

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	char *text = calloc(1, 1 << 16);
	assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
	fclose(file);
	return text;
}

static void a_required_tool_is_called_with_valid_arguments(void **state)
{
	(void)state;
	struct error error = {0};
	char *template = read_file(TEST_SOURCE_DIR "/build/deps/src/llama.cpp/models/templates/Qwen-Qwen2.5-7B-Instruct.jinja");
	struct engine_llama_options options = {
	    .model_path = MODEL, .threads = 1, .max_sequences = 1, .context_tokens = 1024, .chat_template = template};
	struct engine *engine = engine_llama_new(&options, &error);
	assert_non_null(engine);
	struct request request = ask_for("What is the weather in Paris?", 100);
	weather_tools(&request);
	struct json_doc *choice = json_parse(STR("\"required\""), request.arena, NULL);
	request.chat.tool_choice = json_root(choice);
	struct collector c;
	run(engine, &request, &c);
	if (c.status)
		fail_msg("%d %s", c.status, c.text);
	assert_int_equal(c.finish, ENGINE_FINISH_TOOL_CALLS);
	assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"name\":\"get_weather\"", 20));
	assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"id\":\"call_", 11));
	assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "city", 4));
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
	free(template);
}

/* Of the harmony format (inference 3.6): a call that does not end would run on. A double with the tokens of GPT-OSS says the
 * one that it is told to. */
static void the_end_tokens_of_gpt_oss_end_an_answer(void **state)
{
	(void)state;
	static const struct renamed tokens[] = {{3, "<|return|>"}, {4, "<|call|>"},    {5, "<|end|>"},
	                                        {6, "<|start|>"},  {7, "<|channel|>"}, {8, "<|message|>"}};
	char path[] = "/tmp/test-harmony-XXXXXX";
	struct error error = {.text = ""};
	close(mkstemp(path));
	random_model_write(path, tokens, sizeof tokens / sizeof *tokens);
	char *template = read_file(TEST_SOURCE_DIR "/build/deps/src/llama.cpp/models/templates/openai-gpt-oss-120b.jinja");
	struct engine_llama_options options = {
	    .model_path = path, .threads = 1, .max_sequences = 1, .context_tokens = 1024, .chat_template = template};
	struct engine *engine = engine_llama_new(&options, &error);
	unlink(path);
	if (!engine)
		fail_msg("%s", error.text);
	for (int32_t token = 3; token <= 5; token++) {
		struct request request = ask_for("Hi", 4);
		struct chat_logit_bias bias = {.token = token, .bias = 100};
		struct collector c;
		request.chat.sampling.biases = &bias;
		request.chat.sampling.bias_count = 1;
		run(engine, &request, &c);
		assert_int_equal(c.status, 0);
		assert_int_equal(c.finish, token == 5 ? ENGINE_FINISH_LENGTH : ENGINE_FINISH_STOP); /* <|end|> only ends a part */
		assert_int_equal(c.usage.completion_tokens, token == 5 ? 4 : 1);
		assert_true(token == 5 || c.content.len == 0);
		collector_free(&c);
		request_free(&request);
	}
	engine_free(engine);
	free(template);
}

static void a_template_that_loses_messages_is_told_with_its_fault(void **state)
{
	(void)state;
	struct error error = {.text = ""};
	struct engine_info info;
	struct engine_llama_options options = {.model_path = MODEL,
	                                       .threads = 1,
	                                       .max_sequences = 1,
	                                       .context_tokens = 256,
	                                       .chat_template = "{{ messages[0]['content'] }}"};
	engine_info(shared, &info);
	assert_true(info.template_render_ok);
	assert_string_equal(info.template_fault, "");
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine)
		fail_msg("%s", error.text);
	engine_info(engine, &info);
	assert_false(info.template_render_ok);
	assert_string_equal(info.template_fault, "jinja_template");
	engine_free(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(json_object_answers_are_json),
	    cmocka_unit_test(json_schema_answers_match_the_schema),
	    cmocka_unit_test(parts_of_objects_and_bounds_of_numbers_are_kept_to),
	    cmocka_unit_test(joined_members_and_bounds_of_all_kinds_are_kept_to),
	    cmocka_unit_test(a_schema_without_an_end_is_refused_wherever_it_stands),
	    cmocka_unit_test(a_model_without_a_tool_template_calls_what_it_must),
	    cmocka_unit_test(tools_are_not_shown_where_none_may_be_called),
	    cmocka_unit_test(a_required_tool_is_called_with_valid_arguments),
	    cmocka_unit_test(the_end_tokens_of_gpt_oss_end_an_answer),
	    cmocka_unit_test(a_template_that_loses_messages_is_told_with_its_fault),
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
