/* What of a history reaches the template: golden pairs of what clients send and what is rendered. */
#include "provider/engine/chat_history.h"
#include "provider/engine/chat_plain_tools.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void write(const char *messages, bool gpt_oss, enum db_err expected, struct buf *out, struct error *error)
{
	struct json_doc *doc = json_parse(str_of(messages), NULL, NULL);
	struct chat_history_options options = {.gpt_oss = gpt_oss};
	assert_non_null(doc);
	buf_init(out, 1 << 20);
	assert_int_equal(chat_history_write(json_root(doc), &options, out, error), expected);
	json_free(doc);
}

static void assert_text(const struct buf *out, const char *expected)
{
	if (!str_is(buf_str(out), expected))
		fail_msg("%.*s\nis not\n%s", (int)out->len, out->at, expected);
}

struct golden {
	const char *given, *written;
	bool gpt_oss;
};

static void histories_take_one_shape(void **state)
{
	(void)state;
	static const struct golden goldens[] = {
	    {"[{\"role\":\"user\",\"content\":\"Hi\",\"name\":null}]", "[{\"role\":\"user\",\"content\":\"Hi\"}]", false},
	    {"[{\"role\":\"developer\",\"content\":\"Be brief\"}]", "[{\"role\":\"system\",\"content\":\"Be brief\"}]", false},
	    {"[{\"role\":\"developer\",\"content\":\"Be brief\"}]", "[{\"role\":\"developer\",\"content\":\"Be brief\"}]", true},
	    {"[{\"role\":\"assistant\",\"content\":null}]", "[{\"role\":\"assistant\",\"content\":\"\"}]", false},
	    {"[{\"role\":\"user\",\"content\":[\"a\",{\"type\":\"input_text\",\"text\":\"b\",\"x\":null},null]}]",
	     "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]", false},
	    /* the older way to call functions */
	    {"[{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}},"
	     "{\"role\":\"function\",\"name\":\"f\",\"content\":\"ok\"}]",
	     "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_legacy_0\",\"type\":\"function\","
	     "\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},"
	     "{\"role\":\"tool\",\"name\":\"f\",\"content\":\"ok\",\"tool_call_id\":\"call_legacy_0\"}]",
	     false},
	    /* arguments become objects, without nulls */
	    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":null,\"b\":[1,null]}}},"
	     "{\"id\":\"x\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]}]",
	     "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_0_0\",\"type\":\"function\",\"function\":"
	     "{\"name\":\"f\",\"arguments\":{\"b\":[1]}}},{\"id\":\"x\",\"type\":\"function\",\"function\":{\"name\":\"g\","
	     "\"arguments\":{}}}]}]",
	     false},
	    /* channel tags */
	    {"[{\"role\":\"assistant\",\"content\":\"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final"
	     "<|message|>Blue.<|return|>x\",\"reasoning_content\":\"<|start|>why<|end|>\"}]",
	     "[{\"role\":\"assistant\",\"content\":\"Blue.\",\"reasoning_content\":\"why\"}]", false},
	    {"[{\"role\":\"assistant\",\"content\":\"Blue.\",\"reasoning_content\":\"why<|channel|>\"}]", /* no final channel:
	                                                                                                     nothing */
	     "[{\"role\":\"assistant\",\"content\":\"Blue.\"}]", false},
	    {"[{\"role\":\"assistant\",\"content\":\"<|channel|>analysis<|message|>Hm.\",\"thinking\":\"t\"}]",
	     "[{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"t\"}]", true},
	    {"[{\"role\":\"assistant\",\"content\":\"a<|ret<|end|>urn|>b<|<|<|call|>end|>start|>c\"}]",
	     "[{\"role\":\"assistant\",\"content\":\"abc\"}]", false},
	    /* ... but not of what a person wrote */
	    {"[{\"role\":\"user\",\"content\":\"<|channel|>\"}]", "[{\"role\":\"user\",\"content\":\"<|channel|>\"}]", false},
	};
	for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
		struct buf out;
		struct error error;
		write(goldens[i].given, goldens[i].gpt_oss, DB_OK, &out, &error);
		assert_text(&out, goldens[i].written);
		buf_free(&out);
	}
}

static void what_is_sanitised_stays_as_it_is(void **state)
{
	(void)state;
	static const char given[] =
	    "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"U\"},{\"role\":\"assistant\",\"content\":"
	    "\"\","
	    "\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":\"b\"}}}]},"
	    "{\"role\":\"tool\",\"content\":\"R\",\"tool_call_id\":\"1\"}]";
	struct buf out;
	struct error error;
	write(given, false, DB_OK, &out, &error);
	assert_text(&out, given);
	buf_free(&out);
}

static void histories_that_no_template_could_render_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *given, *words;
		bool gpt_oss;
	} faults[] = {
	    {"[]", "non-empty", false},
	    {"[{\"content\":\"secret\"}]", "role", false},
	    {"[{\"role\":\"secret\",\"content\":\"\"}]", "role", false},
	    {"[{\"role\":\"user\",\"content\":{\"secret\":1}}]", "content", false},
	    {"[{\"role\":\"tool\",\"content\":\"secret\"}]", "must follow", false},
	    {"[{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"tool\",\"content\":\"secret\"}]", "must follow", false},
	    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]},{\"role\":\"user\",\"content\":\"\"},"
	     "{\"role\":\"tool\",\"content\":\"secret\"}]",
	     "messages[2]", false},
	    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":\"{}\"}}]}]", "function name", false},
	    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"secret\"}}]}]",
	     "not a JSON object", false},
	    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":[]}}]}]", "not a JSON object",
	     false},
	    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}},{\"function\":{\"name\":\"g\"}}]}]",
	     "one tool call", true},
	    {"[{\"role\":\"assistant\",\"content\":\"c\",\"thinking\":\"t\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}]",
	     "not both", true},
	};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct buf out;
		struct error error;
		write(faults[i].given, faults[i].gpt_oss, DB_E_INVALID, &out, &error);
		if (!strstr(error.text, faults[i].words) || strstr(error.text, "secret"))
			fail_msg("%s", error.text);
		buf_free(&out);
	}
}

static void tools_are_repaired(void **state)
{
	(void)state;
	static const struct golden goldens[] = {
	    {"[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":[\"string\","
	     "\"null\"],\"default\":null}}}}},{\"type\":\"web_search\"},{\"type\":\"custom\",\"custom\":{\"name\":\"c\"}}]",
	     "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\","
	     "\"nullable\":true}},\"type\":\"object\"}}}]",
	     false},
	    {"[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"required\":\"a\","
	     "\"properties\":{\"enum\":{\"type\":\"integer\",\"enum\":[1,2],\"default\":1,\"items\":7}}}}}]",
	     "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":"
	     "{\"enum\":{\"type\":\"integer\",\"enum\":[1,2],\"default\":\"1\"}}},\"description\":\"\"}}]",
	     true},
	};
	for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
		struct json_doc *doc = json_parse(str_of(goldens[i].given), NULL, NULL);
		struct chat_history_options options = {.gpt_oss = goldens[i].gpt_oss};
		struct buf out;
		buf_init(&out, 1 << 20);
		assert_int_equal(chat_history_write_tools(json_root(doc), &options, &out), DB_OK);
		assert_text(&out, goldens[i].written);
		buf_free(&out);
		json_free(doc);
	}
}

static void the_family_is_known_by_its_name(void **state)
{
	(void)state;
	assert_true(chat_history_is_gpt_oss(STR("openai/gpt-oss-20b")));
	assert_true(chat_history_is_gpt_oss(STR("gpt_oss")));
	assert_true(chat_history_is_gpt_oss(STR("my-gptoss")));
	assert_false(chat_history_is_gpt_oss(STR("llama")));
	assert_false(chat_history_is_gpt_oss(STR_NONE));
}

static void tools_become_text_where_the_template_has_no_place_for_them(void **state)
{
	(void)state;
	static const char messages[] =
	    "[{\"role\":\"system\",\"content\":\"Be kind.\"},{\"role\":\"user\",\"content\":\"Weather?\"},"
	    "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
	    "{\"name\":\"w\",\"arguments\":{\"c\":\"Rome\"}}}]},{\"role\":\"tool\",\"content\":\"sun\",\"tool_call_id\":\"1\"},"
	    "{\"role\":\"tool\",\"content\":\"wind\"},{\"role\":\"user\",\"content\":\"And?\"}]";
	struct buf out;
	buf_init(&out, 1 << 20);
	assert_true(chat_plain_tools_in(str_of(messages)));
	assert_int_equal(chat_plain_tools_write(str_of(messages), STR_NONE, STR_NONE, &out), DB_OK);
	assert_text(&out,
	            "[{\"role\":\"system\",\"content\":\"Be kind.\"},{\"role\":\"user\",\"content\":\"Weather?\"},"
	            "{\"role\":\"assistant\",\"content\":\"<tool_call>\\n{\\\"name\\\":\\\"w\\\",\\\"arguments\\\":{\\\"c\\\":"
	            "\\\"Rome\\\"}}\\n</tool_call>\"},{\"role\":\"user\",\"content\":\"<tool_response>\\nsun\\n"
	            "</tool_response>\\n<tool_response>\\nwind\\n</tool_response>\\n\\nAnd?\"}]");
	assert_false(chat_plain_tools_in(buf_str(&out)));
	buf_clear(&out);
	assert_int_equal(chat_plain_tools_write(str_of(messages), STR("[{\"type\":\"function\",\"function\":{\"name\":\"w\"}}]"),
	                                        STR("\"required\""), &out),
	                 DB_OK);
	assert_non_null(memmem(out.at, out.len, "Be kind.\\n\\nYou can call", 23));
	assert_non_null(memmem(out.at, out.len, "{\\\"name\\\":\\\"w\\\"}", 16));
	assert_non_null(memmem(out.at, out.len, "Answer with a function call", 27));
	buf_clear(&out);
	assert_int_equal(chat_plain_tools_write(STR("[{\"role\":\"user\",\"content\":\"U\"}]"),
	                                        STR("[{\"type\":\"function\",\"function\":{\"name\":\"w\"}}]"),
	                                        STR("{\"type\":\"function\",\"function\":{\"name\":\"w\"}}"), &out),
	                 DB_OK);
	assert_true(str_starts(buf_str(&out), STR("[{\"role\":\"system\",\"content\":\"You can call")));
	assert_non_null(memmem(out.at, out.len, "call of the function w", 22));
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(histories_take_one_shape),
	    cmocka_unit_test(what_is_sanitised_stays_as_it_is),
	    cmocka_unit_test(histories_that_no_template_could_render_are_refused),
	    cmocka_unit_test(tools_are_repaired),
	    cmocka_unit_test(the_family_is_known_by_its_name),
	    cmocka_unit_test(tools_become_text_where_the_template_has_no_place_for_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
