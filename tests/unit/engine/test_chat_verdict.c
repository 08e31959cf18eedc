/* Does an ended answer satisfy response_format? */
#include "collect.h"

#include "provider/engine/chat_verdict.h"

#define SCHEMA                                                                                                                 \
	"{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],\"additionalProperties\":false}"

static const char *judged(const char *schema, const char *answer)
{
	struct chat_verdict verdict;
	chat_verdict_init(&verdict, schema);
	for (const char *at = answer; *at; at++)
		chat_verdict_add(&verdict, (struct str){at, 1});
	const char *refusal = chat_verdict_refusal(&verdict);
	chat_verdict_free(&verdict);
	return refusal;
}

static void an_answer_that_ended_by_itself_must_satisfy_the_schema(void **state)
{
	(void)state;
	static const char *const wrong[] = {
	    "", "{", "n is 3", "{\"n\":3.5}", "{\"m\":3}", "{\"n\":3}}", "[{\"n\":3}]", "```\n{\"n\":3}\n```", "{\"n\":3,\"m\":1}"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_non_null(judged(SCHEMA, wrong[i]));
	assert_null(judged(SCHEMA, " {\"n\": 3}\n"));
	assert_null(judged("{}", "{\"any\": [1]}"));
	assert_non_null(judged("{}", "[1]"));
}

static void text_without_a_format_is_never_refused(void **state)
{
	(void)state;
	assert_null(judged("", "anything"));
	assert_null(judged(NULL, ""));
}

static void a_deep_answer_to_a_recursive_schema_stands(void **state)
{
	(void)state;
	static const char tree[] =
	    "{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"t\":{\"anyOf\":[{\"$ref\":\"#/$defs/t\"},"
	    "{\"type\":\"null\"}]}},\"required\":[\"t\"]}},\"$ref\":\"#/$defs/t\"}";
	struct buf answer;
	buf_init(&answer, 1 << 16);
	for (int i = 0; i < 100; i++)
		buf_append_c(&answer, "{\"t\":");
	buf_append_c(&answer, "null");
	for (int i = 0; i < 100; i++)
		buf_append_c(&answer, "}");
	buf_append_byte(&answer, '\0');
	assert_null(judged(tree, answer.at));
	answer.at[answer.len - 2] = ']';
	assert_non_null(judged(tree, answer.at));
	buf_free(&answer);
	assert_non_null(judged("{\"$ref\":\"#\"}", "1")); /* a schema that never arrives anywhere */
}

/* --- through an engine --- */

static void said(const char *text, bool stream, uint32_t choices, int64_t max_tokens, const char *stop, struct collector *c)
{
	struct error error;
	struct engine_script script = {.text = text};
	struct engine *engine = engine_scripted_new(&script, &error);
	struct request request = ask("n?");
	struct json_doc *schema = json_parse(STR(SCHEMA), request.arena, NULL);
	request.chat.format = CHAT_FORMAT_JSON_SCHEMA;
	request.chat.schema = json_root(schema);
	request.chat.stream = stream;
	request.chat.n = choices;
	request.chat.max_tokens = max_tokens;
	if (stop)
		request.chat.sampling.stops[request.chat.sampling.stop_count++] = str_of(stop);
	run(engine, &request, c);
	request_free(&request);
	engine_free(engine);
}

static void the_engine_refuses_with_422_after_the_text(void **state)
{
	(void)state;
	struct collector c;
	for (uint32_t choices = 1; choices <= 2; choices++) {
		said("no JSON at all", true, choices, 0, NULL, &c);
		assert_int_equal(c.status, 422);
		assert_non_null(strstr(c.text, "response_format"));
		assert_null(strstr(c.text, "no JSON"));
		assert_int_equal(c.ends, 1);
		collector_free(&c);
	}
	said("{\"n\": 3}", false, 1, 0, NULL, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	collector_free(&c);
}

static void a_cut_answer_is_given_as_far_as_it_came(void **state)
{
	(void)state;
	struct collector c;
	for (int stream = 0; stream < 2; stream++) {
		said("{\"n\": 3 }", stream, 1, 1, NULL, &c);
		assert_int_equal(c.status, 0);
		assert_int_equal(c.finish, ENGINE_FINISH_LENGTH);
		assert_int_equal(c.usage.completion_tokens, 1);
		collector_free(&c);
		said("{\"n\": 3 }", stream, 1, 0, "3", &c);
		assert_int_equal(c.status, 0);
		assert_int_equal(c.finish, ENGINE_FINISH_STOP);
		assert_true(str_is(buf_str(&c.content), "{\"n\": "));
		collector_free(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_answer_that_ended_by_itself_must_satisfy_the_schema),
	    cmocka_unit_test(a_cut_answer_is_given_as_far_as_it_came),
	    cmocka_unit_test(text_without_a_format_is_never_refused),
	    cmocka_unit_test(a_deep_answer_to_a_recursive_schema_stands),
	    cmocka_unit_test(the_engine_refuses_with_422_after_the_text),
	    cmocka_unit_test(a_cut_answer_is_given_as_far_as_it_came),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
