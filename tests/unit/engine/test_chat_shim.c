/* Templates and readers of llama.cpp's source tree, through the shim, with the vocabulary of SmolLM2. */
#include "shim_fixture.h"

/* Feeds `answer` in two pieces cut at `border`, or byte by byte when border is 0, and collects the deltas. */
struct reading {
	struct buf content, reasoning;
	struct buf name, arguments, id;
	size_t calls;
};

static void take_calls(struct reading *reading, struct str json)
{
	if (!json.len)
		return;
	struct json_doc *doc = json_parse(json, NULL, NULL);
	assert_non_null(doc);
	struct json_iter deltas = json_iter(json_root(doc));
	for (json_val *delta; (delta = json_next(&deltas, NULL));) {
		struct str text;
		int64_t index;
		assert_true(json_as_i64(json_get(delta, "index"), &index));
		assert_int_equal(index, 0);
		const json_val *function = json_get(delta, "function");
		if (json_as_str(json_get(delta, "id"), &text)) {
			reading->calls++;
			buf_append_str(&reading->id, text);
		}
		if (json_as_str(json_get(function, "name"), &text))
			buf_append_str(&reading->name, text);
		if (json_as_str(json_get(function, "arguments"), &text))
			buf_append_str(&reading->arguments, text);
	}
	json_free(doc);
}

static void read_pieces(struct chat_reader *reader, const char *answer, size_t border, struct reading *out)
{
	size_t len = strlen(answer);
	struct buf *bufs[] = {&out->content, &out->reasoning, &out->name, &out->arguments, &out->id};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_init(bufs[i], 1 << 20);
	out->calls = 0;
	for (size_t at = 0; at <= len;) {
		size_t next = border == 0 ? at + 1 : at < border ? border : len;
		if (next > len)
			next = len;
		struct chat_reader_delta delta;
		assert_true(chat_reader_feed(reader, answer + at, next - at, next == len, &delta));
		buf_append(&out->content, delta.content, delta.content_len);
		buf_append(&out->reasoning, delta.reasoning, delta.reasoning_len);
		take_calls(out, (struct str){delta.tool_calls, delta.tool_calls_len});
		if (next == len)
			break;
		at = next;
	}
}

static void reading_free(struct reading *reading)
{
	struct buf *bufs[] = {&reading->content, &reading->reasoning, &reading->name, &reading->arguments, &reading->id};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_free(bufs[i]);
}

static void plain_answers_need_no_reader(void **state)
{
	(void)state;
	char error[320];
	struct chat_templates *templates = chat_templates_new(model, NULL, error, sizeof error);
	assert_non_null(templates);
	struct chat_conversation conversation = {.messages_json = hello, .parallel_tool_calls = -1};
	struct chat_prompt prompt;
	rendered(templates, &conversation, &prompt);
	assert_non_null(memmem(prompt.text, prompt.text_len, "<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n", 55));
	assert_null(prompt.reader);
	assert_null(prompt.grammar);
	chat_prompt_free(&prompt);
	chat_templates_free(templates);
}

static void reasoning_is_split_off_whatever_the_border(void **state)
{
	(void)state;
	static const char answer[] = "<think>\nLet me think.\n</think>\n\nIt is blue.";
	struct chat_templates *templates = template_of("Qwen-Qwen3-0.6B.jinja");
	struct chat_conversation conversation = {.messages_json = hello, .parallel_tool_calls = -1};
	for (size_t border = 0; border < strlen(answer); border++) {
		struct chat_prompt prompt;
		struct reading reading;
		rendered(templates, &conversation, &prompt);
		assert_non_null(prompt.reader);
		read_pieces(prompt.reader, answer, border, &reading);
		assert_true(str_is(str_trim(buf_str(&reading.reasoning)), "Let me think."));
		assert_true(str_is(str_trim(buf_str(&reading.content)), "It is blue."));
		assert_false(chat_reader_has_tool_calls(prompt.reader));
		reading_free(&reading);
		chat_prompt_free(&prompt);
	}
	chat_templates_free(templates);
}

static void tool_calls_are_read_whatever_the_border(void **state)
{
	(void)state;
	static const char answer[] =
	    "One moment.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par\xc3\xads\"}}\n</tool_call>";
	struct chat_templates *templates = template_of("Qwen-Qwen2.5-7B-Instruct.jinja");
	struct chat_conversation conversation = {.messages_json = hello, .tools_json = tools, .parallel_tool_calls = -1};
	for (size_t border = 0; border < strlen(answer); border++) {
		if (border && ((unsigned char)answer[border] & 0xc0) == 0x80)
			continue; /* the engine feeds whole characters */
		struct chat_prompt prompt;
		struct reading reading;
		rendered(templates, &conversation, &prompt);
		assert_non_null(prompt.reader);
		assert_non_null(prompt.grammar);
		read_pieces(prompt.reader, answer, border ? border : strlen(answer), &reading);
		assert_true(str_is(buf_str(&reading.name), "get_weather"));
		assert_int_equal(reading.calls, 1);
		assert_true(str_starts(buf_str(&reading.id), STR("call_")));
		struct json_doc *doc = json_parse(buf_str(&reading.arguments), NULL, NULL);
		assert_non_null(doc);
		struct str city;
		assert_true(json_as_str(json_get(json_root(doc), "city"), &city));
		assert_true(str_is(city, "Par\xc3\xads"));
		json_free(doc);
		assert_true(str_is(str_trim(buf_str(&reading.content)), "One moment."));
		assert_true(chat_reader_has_tool_calls(prompt.reader));
		reading_free(&reading);
		chat_prompt_free(&prompt);
	}
	chat_templates_free(templates);
}

static void a_broken_tool_call_is_not_lost(void **state)
{
	(void)state;
	static const char answer[] = "<tool_call>\nget_weather in Paris please";
	struct chat_templates *templates = template_of("Qwen-Qwen2.5-7B-Instruct.jinja");
	struct chat_conversation conversation = {.messages_json = hello, .tools_json = tools, .parallel_tool_calls = -1};
	struct chat_prompt prompt;
	struct reading reading;
	rendered(templates, &conversation, &prompt);
	read_pieces(prompt.reader, answer, 0, &reading);
	assert_non_null(memmem(reading.content.at, reading.content.len, "in Paris please", 15));
	reading_free(&reading);
	chat_prompt_free(&prompt);
	chat_templates_free(templates);
}

static void a_refusal_of_the_template_is_told_in_its_words_only(void **state)
{
	(void)state;
	struct chat_templates *templates = template_of("google-gemma-2-2b-it.jinja");
	struct chat_conversation conversation = {
	    .messages_json = "[{\"role\":\"user\",\"content\":\"secret one\"},{\"role\":\"user\",\"content\":\"secret two\"}]",
	    .parallel_tool_calls = -1};
	struct chat_prompt prompt;
	char error[320] = "";
	assert_int_equal(chat_prompt_render(templates, &conversation, &prompt, error, sizeof error), 400);
	assert_non_null(strstr(error, "roles must alternate"));
	assert_null(strstr(error, "secret"));
	chat_templates_free(templates);
}

static void client_faults_are_told_without_the_text(void **state)
{
	(void)state;
	static const struct {
		struct chat_conversation conversation;
		const char *words;
	} faults[] = {
	    {{.messages_json = "[]"}, "non-empty"},
	    {{.messages_json = "{\"secret\":1}"}, "non-empty"},
	    {{.messages_json = "[{\"secret\":1}]"}, "OpenAI"},
	    {{.messages_json = "[{\"role\":\"user\",\"content\":[{\"type\":\"secret\"}]}]"}, "text only"},
	    {{.messages_json = hello, .tools_json = "[{\"secret\":1}]"}, "tools"},
	    {{.messages_json = hello,
	      .tools_json = tools,
	      .tool_choice_json = "{\"type\":\"function\",\"function\":{\"name\":\"secret\"}}"},
	     "tool_choice"},
	    {{.messages_json = hello, .schema_json = "{\"type\":\"secret\"}"}, "schema"},
	    {{.messages_json = hello, .template_args_json = "{\"enable_thinking\":\"secret\"}"}, "enable_thinking"},
	};
	struct chat_templates *templates = template_of("Qwen-Qwen3-0.6B.jinja");
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct chat_prompt prompt;
		char error[320] = "";
		assert_int_equal(chat_prompt_render(templates, &faults[i].conversation, &prompt, error, sizeof error), 400);
		assert_non_null(strstr(error, faults[i].words));
		assert_null(strstr(error, "secret"));
		chat_prompt_free(&prompt);
	}
	chat_templates_free(templates);
}

static void a_template_that_does_not_parse_is_refused(void **state)
{
	(void)state;
	char error[320] = "";
	assert_null(chat_templates_new(model, "{% for x in %}{{ nope", error, sizeof error));
	assert_true(error[0] != '\0');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(plain_answers_need_no_reader),
	    cmocka_unit_test(reasoning_is_split_off_whatever_the_border),
	    cmocka_unit_test(tool_calls_are_read_whatever_the_border),
	    cmocka_unit_test(a_broken_tool_call_is_not_lost),
	    cmocka_unit_test(a_refusal_of_the_template_is_told_in_its_words_only),
	    cmocka_unit_test(client_faults_are_told_without_the_text),
	    cmocka_unit_test(a_template_that_does_not_parse_is_refused),
	};
	return cmocka_run_group_tests(tests, load_vocabulary, free_vocabulary);
}
