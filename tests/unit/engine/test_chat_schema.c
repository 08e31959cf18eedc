/* Which JSON schemas can be kept to, and which answers keep to them. */
#include "provider/engine/chat_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void answers_are_judged(void **state)
{
	(void)state;
	static const struct {
		const char *schema, *answer;
		bool holds;
	} cases[] = {
	    {"{}", "{\"a\":1}", true},
	    {"{}", "[1]", false},
	    {"{\"type\":\"object\"}", "{\"a\":", false},
	    {"{\"type\":\"integer\",\"minimum\":1,\"maximum\":3}", "3", true},
	    {"{\"type\":\"integer\",\"minimum\":1,\"maximum\":3}", "4", false},
	    {"{\"type\":\"integer\",\"exclusiveMinimum\":1}", "1", false},
	    {"{\"type\":\"integer\"}", "1.0", true},
	    {"{\"type\":\"integer\"}", "1.5", false},
	    {"{\"type\":[\"string\",\"null\"]}", "null", true},
	    {"{\"type\":[\"string\",\"null\"]}", "7", false},
	    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":2}", "\"\xc3\xa9\xc3\xa9\"", true},
	    {"{\"type\":\"string\",\"maxLength\":1}", "\"ab\"", false},
	    {"{\"enum\":[\"a\",{\"b\":[1]}]}", "{\"b\":[1.0]}", true},
	    {"{\"enum\":[\"a\",{\"b\":[1]}]}", "{\"b\":[2]}", false},
	    {"{\"const\":true}", "false", false},
	    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}", "{}", false},
	    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}", "{\"a\":1}", false},
	    {"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"a\":1,\"b\":2}", false},
	    {"{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"b\":\"x\"}", false},
	    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1}", "[1,2]", true},
	    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}", "[1,\"2\"]", false},
	    {"{\"type\":\"array\",\"maxItems\":1}", "[1,2]", false},
	    {"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":{\"type\":\"integer\"}}", "[\"a\",1]", true},
	    {"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":{\"type\":\"integer\"}}", "[1,1]", false},
	    {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", "1", true},
	    {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", "[]", false},
	    {"{\"allOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}", "{\"a\":1}", false},
	    {"{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"integer\"}}}", "1", true},
	    {"{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"integer\"}}}", "\"1\"", false},
	    {"{\"$ref\":\"#\"}", "1", false}, /* ends, though it never gets anywhere */
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (chat_schema_holds_text(str_of(cases[i].schema), str_of(cases[i].answer)) != cases[i].holds)
			fail_msg("%s against %s", cases[i].answer, cases[i].schema);
}

static void what_no_grammar_can_hold_is_refused_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *schema, *word; /* NULL = is fine */
	} cases[] = {
	    {"{\"type\":\"object\",\"title\":\"T\",\"properties\":{\"not\":{\"type\":\"string\",\"format\":\"email\"}}}", NULL},
	    {"{\"type\":\"array\",\"uniqueItems\":false}", NULL},
	    {"{\"type\":\"string\",\"pattern\":\"^[a-z]+$\"}", NULL},
	    {"{\"type\":\"integer\",\"minimum\":1}", NULL},
	    {"{\"properties\":{\"a\":{\"not\":{}}}}", "not is"},
	    {"{\"items\":{\"if\":{}}}", "if is"},
	    {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems"},
	    {"{\"multipleOf\":2}", "multipleOf"},
	    {"{\"type\":\"string\",\"pattern\":\"secret\"}", "pattern"},
	    {"{\"type\":\"string\",\"pattern\":\"^(?=secret)$\"}", "pattern"},
	    {"{\"type\":\"number\",\"maximum\":1}", NULL},
	    {"{\"anyOf\":[{\"minProperties\":1}]}", "minProperties"},
	    /* what the grammar would leave out */
	    {"{\"minimum\":1}", "a bound without a type"},
	    {"{\"type\":[\"number\",\"null\"],\"minimum\":1}", NULL},
	    {"{\"type\":[\"integer\",\"null\"],\"minimum\":1}", NULL},
	    {"{\"type\":\"integer\",\"minimum\":1,\"exclusiveMinimum\":3}", NULL},
	    {"{\"type\":\"integer\",\"minimum\":1,\"exclusiveMaximum\":3}", NULL},
	    {"{\"type\":\"object\",\"required\":[\"a\"]}", "required member"},
	    {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"]}", NULL},
	    {"{\"required\":[\"a\"]}", "without a type"},
	    {"{\"minItems\":1}", "without a type"},
	    {"{\"type\":\"array\",\"minItems\":1}", NULL},
	    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"}],\"minItems\":1,\"maxItems\":1}", NULL},
	    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"}],\"minItems\":2}", "tuple"},
	    {"{\"prefixItems\":[{\"type\":\"null\"}],\"items\":{\"type\":\"null\"}}", "prefixItems"},
	    {"{\"type\":\"string\",\"pattern\":\"^a+$\",\"maxLength\":3}", "pattern"},
	    {"{\"minLength\":3}", NULL},
	    {"{\"$ref\":\"#/$defs/a\",\"minimum\":1,\"$defs\":{\"a\":{\"type\":\"integer\"}}}", "$ref"},
	    {"{\"$ref\":\"#/$defs/a\",\"description\":\"d\",\"$defs\":{\"a\":{\"type\":\"integer\"}}}", NULL},
	    {"{\"type\":\"object\",\"properties\":{},\"anyOf\":[{\"type\":\"object\"}]}", "anyOf"},
	    {"{\"properties\":{},\"allOf\":[{\"type\":\"object\"}]}", "allOf"},
	    {"{\"allOf\":[{\"$ref\":\"#/$defs/a\"}],\"$defs\":{\"a\":{\"type\":\"object\"}}}", NULL},
	    {"{\"enum\":[1,2],\"type\":\"integer\",\"minimum\":0}", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct json_doc *doc = json_parse(str_of(cases[i].schema), NULL, NULL);
		struct error error = {0};
		enum db_err err = chat_schema_check("here", json_root(doc), true, &error);
		if (cases[i].word ? err != DB_E_UNSUPPORTED || !strstr(error.text, cases[i].word) || strstr(error.text, "secret") : err)
			fail_msg("%s: %s", cases[i].schema, error.text);
		json_free(doc);
	}
}

/* There the library makes the grammar by itself. */
static void bounds_that_the_library_leaves_out_are_refused_for_strict_functions(void **state)
{
	static const char *const schemas[] = {
	    "{\"properties\":{\"a\":{\"type\":\"number\",\"maximum\":1}}}",
	    "{\"type\":[\"number\",\"null\"],\"minimum\":1}",
	    "{\"type\":\"integer\",\"minimum\":1,\"exclusiveMinimum\":3}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
		struct error error = {0};
		struct json_doc *doc = json_parse(str_of(schemas[i]), NULL, NULL);
		assert_int_equal(chat_schema_check("here", json_root(doc), false, &error), DB_E_UNSUPPORTED);
		assert_non_null(strstr(error.text, "a bound"));
		assert_int_equal(chat_schema_check("here", json_root(doc), true, &error), DB_OK);
		json_free(doc);
	}
}

/* Compared with each other they would be as many as their square. */
static void objects_of_thousands_of_members_are_checked_and_judged(void **state)
{
	enum { MEMBERS = 20000 };
	struct buf schema, answer;
	struct error error = {0};
	(void)state;
	buf_init(&schema, 1 << 22);
	buf_init(&answer, 1 << 22);
	buf_append_str(&schema, STR("{\"type\":\"object\",\"properties\":{\"m7\":{\"type\":\"string\"}"));
	for (int i = 0; i < MEMBERS; i++)
		buf_printf(&schema, ",\"m%d\":{\"type\":\"integer\"}", i);
	buf_append_str(&schema, STR("},\"required\":[\"m0\""));
	buf_append_str(&answer, STR("{\"m7\":\"x\""));
	for (int i = 1; i < MEMBERS; i++)
		buf_printf(&schema, ",\"m%d\"", i);
	for (int i = MEMBERS - 1; i >= 0; i--)
		buf_printf(&answer, ",\"m%d\":%d", i, i);
	size_t missing = schema.len;
	buf_append_str(&schema, STR("],\"additionalProperties\":false}"));
	buf_append_str(&answer, STR("}"));
	struct json_doc *doc = json_parse(buf_str(&schema), NULL, NULL);
	assert_int_equal(chat_schema_check("here", json_root(doc), true, &error), DB_OK);
	json_free(doc);
	assert_false(chat_schema_holds_text(buf_str(&schema), buf_str(&answer))); /* the first m7 is none of the integers */
	memcpy(answer.at, "{\"m7\": 70", 9);
	assert_true(chat_schema_holds_text(buf_str(&schema), buf_str(&answer)));
	schema.len = missing;
	buf_append_str(&schema, STR(",\"other\"]}"));
	doc = json_parse(buf_str(&schema), NULL, NULL);
	assert_int_equal(chat_schema_check("here", json_root(doc), true, &error), DB_E_UNSUPPORTED);
	json_free(doc);
	assert_false(chat_schema_holds_text(buf_str(&schema), buf_str(&answer)));
	buf_free(&schema);
	buf_free(&answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(answers_are_judged),
	    cmocka_unit_test(what_no_grammar_can_hold_is_refused_by_name),
	    cmocka_unit_test(bounds_that_the_library_leaves_out_are_refused_for_strict_functions),
	    cmocka_unit_test(objects_of_thousands_of_members_are_checked_and_judged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
