#include "provider/engine/chat_schema_merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "provider/engine/chat_schema.h"

#define NAME "{\"properties\":{\"name\":{\"type\":\"string\"}},\"required\":[\"name\"]}"
#define AGE  "{\"properties\":{\"age\":{\"type\":\"integer\"}}}"
#define BOTH "\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\"}}"

static const struct {
	const char *schema, *merged; /* merged NULL: as it is */
} united[] = {
    {"{\"allOf\":[" NAME "," AGE "]}", "{\"type\":\"object\"," BOTH ",\"required\":[\"name\"]}"},
    {"{\"type\":\"object\",\"required\":[\"age\"],\"allOf\":[" NAME "," AGE "]}",
     "{\"type\":\"object\"," BOTH ",\"required\":[\"age\",\"name\"]}"},
    {"{\"title\":\"t\",\"properties\":{\"age\":{\"type\":\"integer\"}},\"required\":[\"age\",\"name\"],\"allOf\":[" NAME "]}",
     "{\"title\":\"t\",\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\"},\"name\":{\"type\":\"string\"}},"
     "\"required\":[\"age\",\"name\"]}"},
    {"{\"$defs\":{\"a\":" NAME "},\"allOf\":[{\"$ref\":\"#/$defs/a\",\"description\":\"d\"},{\"allOf\":[" AGE "]}]}",
     "{\"$defs\":{\"a\":" NAME "},\"type\":\"object\"," BOTH ",\"required\":[\"name\"]}"},
    /* what one part forbids is gone, however another describes it */
    {"{\"allOf\":[{\"properties\":{\"name\":{\"type\":\"string\"}},\"additionalProperties\":false}," AGE "]}",
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"}},\"required\":[],\"additionalProperties\":false}"},
    /* below others, and beside a member that two describe alike */
    {"{\"items\":{\"allOf\":[" NAME "," NAME "]}}",
     "{\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"}},\"required\":[\"name\"]}}"},
    {"{\"properties\":{\"allOf\":{\"type\":\"null\"},\"p\":{\"allOf\":[" AGE "]}}}",
     "{\"properties\":{\"allOf\":{\"type\":\"null\"},\"p\":{\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\"}}"
     ","
     "\"required\":[]}}}"},
    /* not of objects alone */
    {"{\"allOf\":[{\"type\":\"string\"},{\"maxLength\":3}]}", NULL},
    {"{\"allOf\":[" NAME ",{\"enum\":[1]}]}", NULL},
    {"{\"allOf\":[" NAME ",{\"anyOf\":[" AGE "]}]}", NULL},
    {"{\"allOf\":[{\"$ref\":\"#/nowhere\"}]}", NULL},
    {"{\"allOf\":[{\"$ref\":\"#\"}]}", NULL},
    {"{\"allOf\":7}", "{\"type\":\"object\",\"properties\":{},\"required\":[]}"},
    {"true", NULL},
    {"{\"enum\":[{\"allOf\":[" NAME "]}]}", NULL},
};

static const char *merge(const char *schema, struct arena *arena, struct error *error)
{
	struct buf text;
	buf_init(&text, 1 << 20);
	struct json_doc *doc = json_parse(str_of(schema), arena, NULL);
	assert_non_null(doc);
	enum db_err err = chat_schema_merge(json_root(doc), &text, error);
	const char *merged = err ? NULL : arena_cstr(arena, buf_str(&text));
	assert_true(!err || err == DB_E_UNSUPPORTED);
	buf_free(&text);
	return merged;
}

static void parts_of_objects_become_one_object(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof united / sizeof *united; i++) {
		struct arena *arena = arena_new(0);
		struct error error = {0};
		const char *merged = merge(united[i].schema, arena, &error);
		if (!merged || strcmp(merged, united[i].merged ? united[i].merged : united[i].schema) != 0)
			fail_msg("%s: %s %s", united[i].schema, merged ? merged : "refused:", error.text);
		arena_free(arena);
	}
}

static void parts_that_cannot_be_united_are_refused_with_the_reason(void **state)
{
	static const struct {
		const char *schema, *why;
	} cases[] = {
	    {"{\"allOf\":[" NAME ",{\"properties\":{\"name\":{\"const\":\"secret\"}}}]}", "describe one member differently"},
	    {"{\"required\":[\"age\"],\"allOf\":[" AGE ",{\"properties\":{},\"additionalProperties\":false}]}", "another forbids"},
	    {"{\"allOf\":[" NAME ",{\"additionalProperties\":{\"type\":\"null\"}}]}", "additionalProperties"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena *arena = arena_new(0);
		struct error error = {0};
		assert_null(merge(cases[i].schema, arena, &error));
		assert_non_null(strstr(error.text, cases[i].why));
		assert_null(strstr(error.text, "secret"));
		arena_free(arena);
	}
}

/* An answer keeps to the merged schema exactly when it keeps to the one before. */
static void the_merged_schema_holds_for_the_same_objects(void **state)
{
	static const char *const answers[] = {
	    "{}",
	    "{\"name\":\"a\"}",
	    "{\"age\":1}",
	    "{\"name\":\"a\",\"age\":1}",
	    "{\"name\":1,\"age\":1}",
	    "{\"x\":[]}",
	    "{\"name\":\"a\",\"x\":1}",
	    "{\"age\":1,\"x\":1.5}",
	    "{\"p\":{\"age\":\"old\"}}",
	    "{\"p\":{\"age\":3}}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof united / sizeof *united; i++) {
		struct arena *arena = arena_new(0);
		struct error error;
		const char *merged = merge(united[i].schema, arena, &error);
		for (size_t j = 0; j < sizeof answers / sizeof *answers; j++)
			if (chat_schema_holds_text(str_of(united[i].schema), str_of(answers[j])) !=
			    chat_schema_holds_text(str_of(merged), str_of(answers[j])))
				fail_msg("%s for %s", united[i].schema, answers[j]);
		arena_free(arena);
	}
}

static void what_was_refused_beside_all_of_can_be_expressed_now(void **state)
{
	(void)state;
	for (size_t i = 0; i < 7; i++) {
		struct arena *arena = arena_new(0);
		struct error error = {0};
		struct json_doc *doc = json_parse(str_of(merge(united[i].schema, arena, &error)), arena, NULL);
		if (chat_schema_check(json_root(doc), &error))
			fail_msg("%s: %s", united[i].schema, error.text);
		arena_free(arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(parts_of_objects_become_one_object),
	    cmocka_unit_test(parts_that_cannot_be_united_are_refused_with_the_reason),
	    cmocka_unit_test(the_merged_schema_holds_for_the_same_objects),
	    cmocka_unit_test(what_was_refused_beside_all_of_can_be_expressed_now),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
