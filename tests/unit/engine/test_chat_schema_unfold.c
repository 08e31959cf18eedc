#include "provider/engine/chat_schema_unfold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TREE(link)                                                                                                             \
	"{\"$defs\":{\"node\":{\"x-kind\":1,\"properties\":{\"secret\":" link "}}},\"allOf\":[{\"$ref\":\"#/$defs/node\"}]}"
#define AGAIN "{\"$ref\":\"#/$defs/node\"}"

static bool unfolds_as(bool by_library, const char *schema)
{
	struct error error = {0};
	struct json_doc *doc = json_parse(str_of(schema), NULL, NULL);
	assert_non_null(doc);
	enum db_err err = chat_schema_unfolds("parameters", json_root(doc), by_library, &error);
	json_free(doc);
	assert_true(!err || err == DB_E_UNSUPPORTED);
	assert_true(!err || strstr(error.text, "parameters: ") == error.text);
	assert_null(strstr(error.text, "secret"));
	return !err;
}

static bool unfolds(const char *schema)
{
	return unfolds_as(true, schema);
}

static void an_all_of_that_is_one_reference_is_not_followed_by_us(void **state)
{
	static const char *const references[] = {
	    TREE("{\"allOf\":[" AGAIN "]}"),
	    TREE("{\"allOf\":[{\"title\":\"t\"},{\"allOf\":[" AGAIN "]}],\"description\":\"d\"}"),
	};
	static const char *const more[] = {
	    TREE("{\"allOf\":[" AGAIN ",{\"required\":[\"a\"]}]}"),
	    TREE("{\"allOf\":[" AGAIN "," AGAIN "]}"),
	    TREE("{\"allOf\":[" AGAIN "],\"type\":\"object\"}"),
	};
	(void)state;
	for (size_t i = 0; i < sizeof references / sizeof *references; i++)
		assert_true(unfolds_as(false, references[i]) && !unfolds_as(true, references[i]));
	for (size_t i = 0; i < sizeof more / sizeof *more; i++)
		assert_false(unfolds_as(false, more[i]));
}

static void what_has_no_end_is_refused(void **state)
{
	static const char *const endless[] = {
	    TREE("{\"allOf\":[" AGAIN "]}"),
	    TREE("{\"items\":{\"anyOf\":[{\"type\":\"null\"},{\"allOf\":[{},{\"oneOf\":[" AGAIN "]}]}]}}"),
	    TREE("{\"prefixItems\":[{\"allOf\":[" AGAIN "]}]}"),
	    TREE("{\"items\":[{\"allOf\":[" AGAIN "]}]}"),
	    TREE("{\"additionalProperties\":{\"type\":\"string\",\"allOf\":[" AGAIN "]}}"),
	    "{\"allOf\":[{\"$ref\":\"#\"}]}",
	    "{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}},\"allOf\":[{\"$ref\":\"#/$defs/a\"}]}",
	    /* of members of one name the last counts, wherever it is followed */
	    "{\"$defs\":{\"a\":{},\"a\":{\"properties\":{\"p\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"}]}}}}}",
	    "{\"allOf\":[{\"$ref\":\"#/nowhere\"}]}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof endless / sizeof *endless; i++)
		if (unfolds(endless[i]))
			fail_msg("%s", endless[i]);
}

static void what_ends_passes(void **state)
{
	static const char *const ends[] = {
	    TREE(AGAIN), /* not of an allOf: the library follows it once */
	    TREE("{\"items\":" AGAIN "}"),
	    TREE("{\"allOf\":[{\"type\":\"object\"},{\"properties\":{\"next\":" AGAIN "}}]}"),
	    "{\"$ref\":\"#\"}",
	    "{\"$ref\":\"#/nowhere\"}",
	    "{\"properties\":{\"allOf\":{\"$ref\":\"#\"}}}",
	    "{\"enum\":[{\"allOf\":[{\"$ref\":\"#\"}]}]}",
	    "{\"allOf\":7,\"properties\":[],\"items\":null}",
	    "true",
	    "[]",
	};
	(void)state;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (!unfolds(ends[i]))
			fail_msg("%s", ends[i]);
}

/* Each definition has two members that are the one before: so many times two. */
static bool doubling_unfolds(unsigned times)
{
	char text[8192];
	size_t len = (size_t)snprintf(text, sizeof text, "{\"$defs\":{\"a0\":{\"properties\":{}}");
	for (unsigned i = 1; i <= times; i++)
		len += (size_t)snprintf(text + len, sizeof text - len,
		                        ",\"a%u\":{\"properties\":{\"p\":{\"allOf\":[{\"$ref\":\"#/$defs/a%u\"}]},"
		                        "\"q\":{\"allOf\":[{\"$ref\":\"#/$defs/a%u\"}]}}}",
		                        i, i - 1, i - 1);
	snprintf(text + len, sizeof text - len, "},\"allOf\":[{\"$ref\":\"#/$defs/a%u\"}]}", times);
	return unfolds(text);
}

static void references_that_double_are_refused_before_they_are_too_many(void **state)
{
	(void)state;
	assert_true(doubling_unfolds(6));
	assert_false(doubling_unfolds(20));
	assert_false(doubling_unfolds(60));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_has_no_end_is_refused),
	    cmocka_unit_test(what_ends_passes),
	    cmocka_unit_test(an_all_of_that_is_one_reference_is_not_followed_by_us),
	    cmocka_unit_test(references_that_double_are_refused_before_they_are_too_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
