/* Does an ended answer satisfy response_format? */
#include "collect.h"

#include "provider/engine/chat_verdict.h"

#define SCHEMA                                                                                                                 \
	"{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],\"additionalProperties\":false}"

static const char *judged(const char *schema, bool whole, const char *answer, enum chat_ending ending)
{
	struct chat_verdict verdict;
	chat_verdict_init(&verdict, schema, whole);
	for (const char *at = answer; *at; at++)
		chat_verdict_add(&verdict, (struct str){at, 1});
	const char *refusal = chat_verdict_refusal(&verdict, ending);
	chat_verdict_free(&verdict);
	return refusal;
}

static void an_answer_that_ended_by_itself_must_satisfy_the_schema(void **state)
{
	(void)state;
	static const char *const wrong[] = {
	    "", "{", "n is 3", "{\"n\":3.5}", "{\"m\":3}", "{\"n\":3}}", "[{\"n\":3}]", "```\n{\"n\":3}\n```", "{\"n\":3,\"m\":1}"};
	for (int whole = 0; whole < 2; whole++) {
		for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
			assert_non_null(judged(SCHEMA, whole, wrong[i], CHAT_ENDED));
		assert_null(judged(SCHEMA, whole, " {\"n\": 3}\n", CHAT_ENDED));
		assert_null(judged("{}", whole, "{\"any\": [1]}", CHAT_ENDED));
		assert_non_null(judged("{}", whole, "[1]", CHAT_ENDED));
	}
}

static void a_cut_answer_is_refused_only_where_it_is_asked_for_whole(void **state)
{
	(void)state;
	const char *length = judged(SCHEMA, true, "{\"n\":", CHAT_CUT_AT_LENGTH),
	           *stop = judged(SCHEMA, true, "{", CHAT_CUT_AT_STOP);
	assert_non_null(strstr(length, "max_tokens"));
	assert_non_null(strstr(stop, "stop string"));
	assert_null(judged(SCHEMA, false, "{\"n\":", CHAT_CUT_AT_LENGTH));
	assert_null(judged(SCHEMA, false, "{", CHAT_CUT_AT_STOP));
	assert_null(judged(SCHEMA, true, "{\"n\":3}", CHAT_CUT_AT_LENGTH)); /* all that was missing was the end */
}

static void text_without_a_format_is_never_refused(void **state)
{
	(void)state;
	assert_null(judged("", true, "anything", CHAT_ENDED));
	assert_null(judged(NULL, true, "", CHAT_CUT_AT_LENGTH));
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
	assert_null(judged(tree, true, answer.at, CHAT_ENDED));
	answer.at[answer.len - 2] = ']';
	assert_non_null(judged(tree, true, answer.at, CHAT_ENDED));
	buf_free(&answer);
	assert_non_null(judged("{\"$ref\":\"#\"}", true, "1", CHAT_ENDED)); /* a schema that never arrives anywhere */
}

/* --- through an engine --- */

static void said(const char *text, bool stream, uint32_t choices, int64_t max_tokens, struct collector *c)
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
	run(engine, &request, c);
	request_free(&request);
	engine_free(engine);
}

static void the_engine_refuses_with_422_after_the_text(void **state)
{
	(void)state;
	struct collector c;
	for (uint32_t choices = 1; choices <= 2; choices++) {
		said("no JSON at all", true, choices, 0, &c);
		assert_int_equal(c.status, 422);
		assert_non_null(strstr(c.text, "response_format"));
		assert_null(strstr(c.text, "no JSON"));
		assert_int_equal(c.ends, 1);
		collector_free(&c);
	}
	said("{\"n\": 3}", false, 1, 0, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	collector_free(&c);
	said("{\"n\": 3 }", true, 1, 1, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_LENGTH);
	collector_free(&c);
	said("{\"n\": 3 }", false, 1, 1, &c);
	assert_int_equal(c.status, 422);
	collector_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_answer_that_ended_by_itself_must_satisfy_the_schema),
	    cmocka_unit_test(a_cut_answer_is_refused_only_where_it_is_asked_for_whole),
	    cmocka_unit_test(text_without_a_format_is_never_refused),
	    cmocka_unit_test(a_deep_answer_to_a_recursive_schema_stands),
	    cmocka_unit_test(the_engine_refuses_with_422_after_the_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
