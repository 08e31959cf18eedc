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
    {"{\"allOf\":[{\"type\":\"string\"},{\"maxLength\":3},{\"minLength\":1,\"maxLength\":5}]}",
     "{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}"},
    {"{\"allOf\":[{\"type\":\"number\",\"minimum\":0.5},{\"type\":[\"integer\",\"null\"],\"exclusiveMinimum\":0.5,\"maximum\":"
     "9}]}",
     "{\"type\":\"integer\",\"exclusiveMinimum\":0.5,\"maximum\":9}"},
    {"{\"type\":[\"string\",\"integer\",\"null\"],\"allOf\":[{\"type\":[\"null\",\"number\"],\"maximum\":9}]}",
     "{\"type\":[\"null\",\"integer\"],\"maximum\":9}"},
    {"{\"enum\":[1,2,\"a\"],\"allOf\":[{\"enum\":[\"a\",2.0]},{\"type\":[\"string\",\"integer\"],\"maxLength\":3}]}",
     "{\"enum\":[2,\"a\"]}"},
    {"{\"const\":\"a\",\"allOf\":[{\"type\":\"string\"}]}", "{\"enum\":[\"a\"]}"},
    {"{\"allOf\":[{\"items\":{\"type\":\"number\"},\"minItems\":1},{\"items\":{\"maximum\":1},\"maxItems\":4}]}",
     "{\"type\":\"array\",\"items\":{\"type\":\"number\",\"maximum\":1},\"minItems\":1,\"maxItems\":4}"},
    {"{\"allOf\":[" NAME ",{\"enum\":[1]}]}", "{\"enum\":[1]}"},
    /* of a union the choices that are left */
    {"{\"allOf\":[" NAME ",{\"anyOf\":[" AGE ",{\"type\":\"null\"}]}],\"type\":\"object\"}",
     "{\"anyOf\":[{\"type\":\"object\"," BOTH ",\"required\":[\"name\"]}]}"},
    {"{\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\"}},\"anyOf\":[{\"required\":[\"name\"]},"
     "{\"required\":[\"age\"]}]}",
     "{\"anyOf\":[{\"type\":\"object\"," BOTH ",\"required\":[\"name\"]},{\"type\":\"object\"," BOTH
     ",\"required\":[\"age\"]}]}"},
    /* members that two describe differently */
    {"{\"allOf\":[" NAME
     ",{\"properties\":{\"name\":{\"const\":\"a\"},\"age\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"null\"}]}}},"
     "{\"properties\":{\"age\":{\"minimum\":1,\"type\":\"number\"}}}]}",
     "{\"type\":\"object\",\"properties\":{\"name\":{\"enum\":[\"a\"]},\"age\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":1}"
     "]}},"
     "\"required\":[\"name\"]}"},
    {"{\"allOf\":[" AGE ",{\"additionalProperties\":{\"type\":\"number\",\"maximum\":9}},{\"properties\":{\"name\":{}},"
     "\"additionalProperties\":{\"maximum\":5}}]}",
     "{\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\",\"maximum\":5},\"name\":{\"type\":\"number\","
     "\"maximum\":9}},"
     "\"required\":[],\"additionalProperties\":{\"type\":\"number\",\"maximum\":5}}"},
    /* one reference is the reference, wherever it leads */
    {"{\"properties\":{\"p\":{\"description\":\"d\",\"allOf\":[{\"$ref\":\"#\"}]}}}",
     "{\"properties\":{\"p\":{\"description\":\"d\",\"$ref\":\"#\"}}}"},
    {"{\"allOf\":[{\"$ref\":\"#/nowhere\"}]}", "{\"$ref\":\"#/nowhere\"}"},
    /* what is required may be anything that is not described */
    {"{\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\"}},\"required\":[\"age\",\"p\",\"p\"]}",
     "{\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\"},\"p\":{}},\"required\":[\"age\",\"p\"]}"},
    {"{\"required\":[\"p\"],\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"}}",
     "{\"type\":\"object\",\"properties\":{\"p\":{\"type\":\"null\"}},\"required\":[\"p\"],\"additionalProperties\":{\"type\":"
     "\"null\"}}"},
    {"{\"allOf\":7}", NULL},
    {"{\"allOf\":[{}]}", "{}"},
    {"{\"allOf\":[" NAME ",{\"not\":{}}]}", NULL},
    {"true", NULL},
    {"{\"enum\":[{\"allOf\":[" NAME "]}]}", NULL},
};

static const char *merge(const char *schema, struct arena *arena, struct error *error)
{
	struct buf text;
	buf_init(&text, 1 << 20);
	struct json_doc *doc = json_parse(str_of(schema), arena, NULL);
	assert_non_null(doc);
	enum db_err err = chat_schema_merge("here", json_root(doc), &text, error);
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
	    {"{\"allOf\":[" NAME ",{\"properties\":{\"name\":{\"pattern\":\"^secret$\"}}},{\"properties\":{\"name\":{\"pattern\":"
	     "\"^a$\"}}}]}",
	     "different patterns"},
	    {"{\"allOf\":[" NAME ",{\"properties\":{\"name\":{\"not\":{}}}}]}", "describe one member differently"},
	    {"{\"required\":[\"age\"],\"allOf\":[" AGE ",{\"properties\":{},\"additionalProperties\":false}]}",
	     "exclude one another"},
	    {"{\"allOf\":[" NAME ",{\"properties\":{\"name\":{\"const\":7}}}]}", "exclude one another"},
	    {"{\"additionalProperties\":{},\"allOf\":[" AGE ",{\"properties\":{\"age\":{\"const\":\"a\"}}}]}", "no value fits"},
	    {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "exclude one another"},
	    {"{\"allOf\":[{\"enum\":[\"secret\"]},{\"enum\":[2]}]}", "exclude one another"},
	    {"{\"allOf\":[{\"minLength\":4},{\"maxLength\":3}]}", "exclude one another"},
	    {"{\"allOf\":[{\"type\":\"number\",\"minimum\":4},{\"exclusiveMaximum\":4}]}", "exclude one another"},
	    {"{\"allOf\":[{\"minimum\":4},{\"maxLength\":3}]}", "several types"},
	    {"{\"allOf\":[{\"prefixItems\":[{}]},{\"items\":{\"type\":\"null\"}}]}", "items"},
	    {"{\"$defs\":{\"a\":{\"properties\":{\"l\":{\"$ref\":\"#/$defs/a\"},\"r\":{\"$ref\":\"#/$defs/a\"}}},"
	     "\"b\":{\"properties\":{\"l\":{\"$ref\":\"#/$defs/b\"},\"r\":{\"$ref\":\"#/$defs/b\"}}}},"
	     "\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/b\"}]}",
	     "allOf"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena *arena = arena_new(0);
		struct error error = {0};
		const char *merged = merge(cases[i].schema, arena, &error);
		if (merged || !strstr(error.text, cases[i].why))
			fail_msg("%s: %s", cases[i].schema, merged ? merged : error.text);
		assert_null(strstr(error.text, "secret"));
		arena_free(arena);
	}
}

/* Without a type, what is said of one kind is taken for the type: what is no such value is not held any more. */
static bool names_its_types(const char *schema)
{
	static const char *const beginnings[] = {"{\"type", "{\"allOf\":[{\"type", "{\"enum", "{\"const"};
	for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
		if (strncmp(schema, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	return false;
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
	    "1",
	    "2",
	    "9",
	    "9.5",
	    "0.75",
	    "null",
	    "\"a\"",
	    "\"abcd\"",
	    "[]",
	    "[1]",
	    "[2]",
	    "{\"name\":7,\"age\":5}",
	    "{\"name\":7,\"age\":6}",
	    "{\"name\":\"a\",\"age\":null}",
	    "{\"age\":0,\"p\":{}}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof united / sizeof *united; i++) {
		struct arena *arena = arena_new(0);
		struct error error;
		const char *merged = merge(united[i].schema, arena, &error);
		for (size_t j = 0; j < sizeof answers / sizeof *answers; j++) {
			bool before = chat_schema_holds_text(str_of(united[i].schema), str_of(answers[j]));
			bool after = chat_schema_holds_text(str_of(merged), str_of(answers[j]));
			bool exact = (answers[j][0] == '{' && strstr(united[i].schema, "properties")) || names_its_types(united[i].schema);
			if (exact ? before != after : after && !before)
				fail_msg("%s for %s", united[i].schema, answers[j]);
		}
		arena_free(arena);
	}
}

/* A grammar writes no member that is not described. */
static void a_member_that_no_value_fits_is_left_out(void **state)
{
	struct arena *arena = arena_new(0);
	struct error error;
	(void)state;
	const char *merged = merge("{\"allOf\":[" NAME ",{\"properties\":{\"age\":{\"type\":\"null\"}}}," AGE "]}", arena, &error);
	assert_string_equal(merged,
	                    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"}},\"required\":[\"name\"]}");
	arena_free(arena);
}

static void what_was_refused_beside_all_of_can_be_expressed_now(void **state)
{
	(void)state;
	for (size_t i = 0; i < 23; i++) {
		struct arena *arena = arena_new(0);
		struct error error = {0};
		struct json_doc *doc = json_parse(str_of(merge(united[i].schema, arena, &error)), arena, NULL);
		if (chat_schema_check("here", json_root(doc), true, &error))
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
	    cmocka_unit_test(a_member_that_no_value_fits_is_left_out),
	    cmocka_unit_test(what_was_refused_beside_all_of_can_be_expressed_now),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
