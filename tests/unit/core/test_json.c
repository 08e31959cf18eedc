#include "../vectors.h"

#include <float.h>
#include <math.h>

#include "core/id.h"
#include "core/utf8.h"

static struct json_doc *parse(const char *text)
{
	struct error error = {0};
	struct json_doc *doc = json_parse(str_of(text), NULL, &error);
	if (!doc)
		fail_msg("%s: %s", text, error.text);
	return doc;
}

/* The text parsed and written again. */
static void assert_rewritten(const char *text, const char *wanted)
{
	struct json_doc *doc = parse(text);
	struct json_writer w;
	struct buf out;
	buf_init(&out, 1u << 20);
	json_writer_init(&w, &out);
	json_value(&w, json_root(doc));
	assert_false(out.failed);
	if (!str_is(buf_str(&out), wanted))
		fail_msg("%s became %.*s, not %s", text, STR_ARG(buf_str(&out)), wanted);
	buf_free(&out);
	json_free(doc);
}

/* --- reading --- */

static void test_types(void **state)
{
	(void)state;
	struct json_doc *doc = parse("[null,true,1,-1,1.5,1e400,99999999999999999999,\"\",[],{}]");
	static const enum json_type wanted[] = {JSON_NULL, JSON_BOOL, JSON_INT,    JSON_INT,   JSON_REAL,
	                                        JSON_REAL, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT};
	struct json_iter iter = json_iter(json_root(doc));
	assert_int_equal(json_len(json_root(doc)), 10);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(json_type(json_next(&iter, NULL)), wanted[i]);
	assert_null(json_next(&iter, NULL));
	assert_null(json_next(&iter, NULL));
	json_free(doc);
	assert_int_equal(json_type(NULL), JSON_ABSENT);
	assert_null(json_root(NULL));
	json_free(NULL);
}

static void test_accessors_are_strict(void **state)
{
	(void)state;
	struct json_doc *doc =
	    parse("{\"s\":\"x\",\"i\":7,\"f\":7.0,\"e\":7e0,\"b\":true,\"n\":null,\"a\":[],\"max\":9223372036854775807,"
	          "\"over\":9223372036854775808,\"min\":-9223372036854775808,\"under\":-9223372036854775809,\"zero\":-0}");
	const json_val *root = json_root(doc);
	int64_t integer = 99;
	double real = 99;
	bool truth = true;
	struct str text = STR("unchanged");

	assert_true(json_as_i64(json_get(root, "i"), &integer) && integer == 7);
	assert_true(json_as_i64(json_get(root, "max"), &integer) && integer == INT64_MAX);
	assert_true(json_as_i64(json_get(root, "min"), &integer) && integer == INT64_MIN);
	integer = 99;
	static const char *const no_integers[] = {"s", "f", "e", "b", "n", "a", "over", "under", "absent"};
	for (size_t i = 0; i < sizeof no_integers / sizeof no_integers[0]; i++)
		assert_false(json_as_i64(json_get(root, no_integers[i]), &integer));
	assert_int_equal(integer, 99);

	assert_true(json_as_double(json_get(root, "i"), &real) && real == 7);
	assert_true(json_as_double(json_get(root, "f"), &real) && real == 7);
	assert_true(json_as_double(json_get(root, "over"), &real) && real == 9223372036854775808.0);
	assert_true(json_as_double(json_get(root, "under"), &real) && real == -9223372036854775808.0);
	assert_true(json_as_double(json_get(root, "min"), &real) && real == -9223372036854775808.0);
	assert_false(json_as_double(json_get(root, "s"), &real));
	assert_false(json_as_double(json_get(root, "b"), &real));

	assert_true(json_as_bool(json_get(root, "b"), &truth) && truth);
	assert_false(json_as_bool(json_get(root, "i"), &truth));
	assert_false(json_as_bool(json_get(root, "n"), &truth));
	assert_false(json_as_str(json_get(root, "i"), &text));
	assert_false(json_as_str(NULL, &text));
	assert_true(str_is(text, "unchanged"));
	assert_true(json_as_str(json_get(root, "s"), &text) && str_is(text, "x"));
	json_free(doc);
}

static void test_numbers_beyond_double_have_no_value(void **state)
{
	(void)state;
	struct json_doc *doc = parse("[1e400,-1e400]");
	struct json_iter iter = json_iter(json_root(doc));
	double real;
	assert_false(json_as_double(json_next(&iter, NULL), &real));
	assert_false(json_as_double(json_next(&iter, NULL), &real));
	json_free(doc);
}

static void test_members(void **state)
{
	(void)state;
	struct json_doc *doc =
	    parse("{\"a\":1,\"a\":2,\"\\u0061\":3,\"n\":null,\"\":4,\"long key with spaces\":5,\"a\\u0000b\":6}");
	const json_val *root = json_root(doc);
	int64_t value;
	assert_true(json_as_i64(json_get(root, "a"), &value) && value == 3); /* the last of duplicates, however it is spelt */
	assert_true(json_as_i64(json_get(root, ""), &value) && value == 4);
	assert_true(json_as_i64(json_get(root, "long key with spaces"), &value) && value == 5);
	assert_null(json_get(root, "A"));
	assert_int_equal(json_type(json_get(root, "n")), JSON_NULL);
	assert_null(json_get_some(root, "n"));
	assert_null(json_get_some(root, "absent"));
	assert_non_null(json_get_some(root, "a"));
	assert_null(json_get(json_get(root, "a"), "a"));
	assert_null(json_get(NULL, "a"));
	assert_int_equal(json_len(root), 7);

	struct json_iter iter = json_iter(root);
	struct str key = STR_NONE, last = STR_NONE;
	size_t count = 0;
	for (; json_next(&iter, &key); count++)
		last = key;
	assert_int_equal(count, 7);
	assert_true(str_eq(last, (struct str){"a\0b", 3}));
	json_free(doc);
}

static void test_iteration_over_nested_containers(void **state)
{
	(void)state;
	struct json_doc *doc = parse("[[1,[2,3]],{\"a\":[4,{}],\"b\":5},6]");
	struct json_iter iter = json_iter(json_root(doc));
	assert_int_equal(json_len(json_next(&iter, NULL)), 2);
	json_val *object = json_next(&iter, NULL);
	struct json_iter members = json_iter(object);
	struct str key;
	assert_int_equal(json_len(json_next(&members, &key)), 2);
	assert_true(str_is(key, "a"));
	assert_int_equal(json_type(json_next(&members, &key)), JSON_INT);
	assert_true(str_is(key, "b"));
	assert_null(json_next(&members, &key));
	assert_int_equal(json_type(json_next(&iter, &key)), JSON_INT);
	assert_int_equal(key.len, 0);
	assert_null(json_next(&iter, NULL));
	struct json_iter none = json_iter(NULL);
	assert_null(json_next(&none, NULL));
	none = json_iter(json_get(object, "b"));
	assert_null(json_next(&none, NULL));
	json_free(doc);
}

static void test_refuses_what_is_not_json(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "",
	    " ",
	    "{",
	    "}",
	    "[",
	    "[1,]",
	    "[1 2]",
	    "{\"a\"}",
	    "{\"a\":}",
	    "{\"a\":1,}",
	    "{a:1}",
	    "'a'",
	    "01",
	    "+1",
	    "1.",
	    ".5",
	    "1e",
	    "0x1",
	    "NaN",
	    "Infinity",
	    "-",
	    "tru",
	    "nulll",
	    "\"",
	    "\"\\x\"",
	    "\"\t\"",
	    "\"\n\"",
	    "\"\\u12\"",
	    "\"\\ud800\"",
	    "\"\\udc00x\"",
	    "\"\\ud800\\u0041\"",
	    "1 2",
	    "{} {}",
	    "[]]",
	    "// c\n1",
	    "/**/1",
	    "\"\xff\"",
	    "\"\xc0\x80\"",
	    "\"\xed\xa0\x80\"",
	    "\xef\xbb\xbf{}",
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct error error = {0};
		struct json_doc *doc = json_parse(str_of(bad[i]), NULL, &error);
		if (doc)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(error.code, DB_E_INVALID);
		assert_true(strlen(error.text) > 10);
		assert_null(json_parse(str_of(bad[i]), NULL, NULL));
	}
	assert_null(json_parse((struct str){"1\0", 2}, NULL, NULL));
}

static void test_white_space_around_is_allowed(void **state)
{
	(void)state;
	json_free(parse(" \r\n\t{ \"a\" : [ 1 , 2 ] } \n"));
}

static size_t nested(char *out, size_t depth, const char *open, const char *close)
{
	size_t len = 0;
	for (size_t i = 0; i < depth; i++, len += strlen(open))
		memcpy(out + len, open, strlen(open));
	out[len++] = '1';
	for (size_t i = 0; i < depth; i++, len += strlen(close))
		memcpy(out + len, close, strlen(close));
	return len;
}

static void test_depth_is_bounded(void **state)
{
	(void)state;
	static char text[4000000];
	static const char *const opens[] = {"[", "{\"a\":", "[[]  ,"};
	static const char *const closes[] = {"]", "}", "]"};
	for (size_t i = 0; i < 3; i++) {
		struct error error = {0};
		size_t most = i == 2 ? JSON_MAX_DEPTH - 1 : JSON_MAX_DEPTH; /* the third has one more level inside */
		struct json_doc *doc = json_parse((struct str){text, nested(text, most, opens[i], closes[i])}, NULL, &error);
		if (!doc)
			fail_msg("%s", error.text);
		struct buf out;
		struct json_writer w;
		buf_init(&out, 1u << 20);
		json_writer_init(&w, &out);
		json_value(&w, json_root(doc)); /* as deep as can be parsed can be written */
		assert_false(out.failed);
		buf_free(&out);
		json_free(doc);
		assert_null(json_parse((struct str){text, nested(text, most + 1, opens[i], closes[i])}, NULL, &error));
		assert_int_equal(error.code, DB_E_LIMIT);
		assert_null(json_parse((struct str){text, nested(text, 500000, opens[i], closes[i])}, NULL, &error));
		assert_int_equal(error.code, DB_E_LIMIT);
	}
}

static void test_brackets_in_strings_are_not_depth(void **state)
{
	(void)state;
	char text[5000] = "[\"\\\"";
	memset(text + 4, '[', 4000);
	memcpy(text + 4004, "\",[1],[2]]", 11);
	json_free(parse(text));
	char many[8000];
	size_t len = 0;
	many[len++] = '[';
	for (int i = 0; i < 2000; i++, len += 3)
		memcpy(many + len, "{},", 3);
	memcpy(many + len - 1, "]", 2);
	json_free(parse(many));
}

static void test_a_document_lives_in_its_arena(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	char text[] = "{\"prompt\":\"something private\"}";
	struct json_doc *doc = json_parse(str_of(text), arena, NULL);
	assert_non_null(doc);
	memset(text, 0, sizeof text); /* the document does not borrow the text */
	struct str prompt;
	assert_true(json_as_str(json_get(json_root(doc), "prompt"), &prompt));
	assert_true(str_is(prompt, "something private"));
	assert_true(arena_used(arena) > 0);
	json_free(doc); /* allowed, not needed */
	arena_free(arena);
}

static void test_an_arena_too_small_is_no_memory(void **state)
{
	(void)state;
	const char text[] = "{\"a\":[1,2,3,\"text\"],\"b\":{\"c\":null}}";
	size_t refused = 0;
	for (size_t limit = 16; limit < 4096; limit += 16) {
		struct arena *arena = arena_new(limit);
		struct error error = {0};
		if (!json_parse(STR(text), arena, &error)) {
			assert_int_equal(error.code, DB_E_NOMEM);
			refused++;
		}
		arena_free(arena);
	}
	assert_true(refused > 3 && refused < 100);
}

/* --- raw members --- */

static const char *const blob_path[] = {"attestation", "attestation", NULL};

static void test_raw_member_keeps_the_bytes(void **state)
{
	(void)state;
	struct str raw;
	const char text[] = " { \"type\" : \"register\", \"attestation\" : { \"signature\":\"x\", \"attestation\"\n:  {\"k\" : "
	                    "\"a\\/b}\", \"n\":[1, {}]}  } } ";
	assert_int_equal(json_raw_member(STR(text), blob_path, &raw), DB_OK);
	assert_true(str_is(raw, "{\"k\" : \"a\\/b}\", \"n\":[1, {}]}"));
	assert_int_equal(
	    json_raw_member(STR("{\"s\":\"q\\\"\\\\\",\"t\":12.5e3 ,\"u\":true}"), (const char *const[]){"s", NULL}, &raw), DB_OK);
	assert_true(str_is(raw, "\"q\\\"\\\\\""));
	assert_int_equal(json_raw_member(STR("{\"s\":\"\",\"t\":12.5e3 ,\"u\":true}"), (const char *const[]){"t", NULL}, &raw),
	                 DB_OK);
	assert_true(str_is(raw, "12.5e3"));
	assert_int_equal(json_raw_member(STR("{\"u\":true}"), (const char *const[]){"u", NULL}, &raw), DB_OK);
	assert_true(str_is(raw, "true"));
	assert_int_equal(json_raw_member(STR("[1]"), (const char *const[]){NULL}, &raw), DB_OK);
	assert_true(str_is(raw, "[1]"));
}

static void test_raw_member_that_is_missing(void **state)
{
	(void)state;
	static const char *const texts[] = {"{}",
	                                    "{\"attestation\":{}}",
	                                    "{\"attestation\":null}",
	                                    "{\"attestation\":[]}",
	                                    "{\"attestation\":\"attestation\"}",
	                                    "[{\"attestation\":{\"attestation\":1}}]",
	                                    "{\"x\":{\"attestation\":{\"attestation\":1}}}",
	                                    "{\"Attestation\":{\"attestation\":1}}"};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct str raw = STR("unchanged");
		assert_int_equal(json_raw_member(str_of(texts[i]), blob_path, &raw), DB_E_NOT_FOUND);
		assert_true(str_is(raw, "unchanged"));
	}
}

static void test_raw_member_given_twice_is_invalid(void **state)
{
	(void)state;
	static const char *const texts[] = {
	    "{\"attestation\":{\"attestation\":1},\"attestation\":{\"attestation\":2}}",
	    "{\"attestation\":{\"attestation\":1,\"attestation\":1}}",
	    "{\"attestation\":{\"attestation\":1},\"\\u0061ttestation\":{\"attestation\":2}}",
	    "{\"attestation\":{\"attest\\u0061tion\":1,\"attestation\":1}}",
	};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct str raw;
		assert_int_equal(json_raw_member(str_of(texts[i]), blob_path, &raw), DB_E_INVALID);
	}
	struct str raw;
	assert_int_equal(json_raw_member(STR("{\"\\u0061ttestation\":{\"attestation\":7}}"), blob_path, &raw), DB_OK);
	assert_true(str_is(raw, "7"));
}

static void test_raw_member_of_cut_text_never_reads_past_it(void **state)
{
	(void)state;
	const char text[] = "{\"a\\\"\":[\"x\\\\\",{\"b\":null}],\"attestation\":{\"z\":-1,\"attestation\":{\"k\":\"v\\\"\"}}}";
	for (size_t len = 0; len < sizeof text - 1; len++) {
		char *copy = malloc(len + 1); /* so that a sanitizer sees a read past the end */
		memcpy(copy, text, len);
		copy = realloc(copy, len ? len : 1);
		struct str raw;
		assert_int_not_equal(json_raw_member((struct str){copy, len}, blob_path, &raw), DB_OK);
		free(copy);
	}
}

/* --- writing --- */

struct writing {
	struct buf out;
	struct json_writer w;
};

static struct json_writer *start(struct writing *writing)
{
	buf_init(&writing->out, 1u << 20);
	json_writer_init(&writing->w, &writing->out);
	return &writing->w;
}

static void assert_written(struct writing *writing, const char *wanted)
{
	assert_false(writing->out.failed);
	if (!str_is(buf_str(&writing->out), wanted))
		fail_msg("wrote %.*s, not %s", STR_ARG(buf_str(&writing->out)), wanted);
	buf_free(&writing->out);
}

static void test_commas_and_colons(void **state)
{
	(void)state;
	struct writing writing;
	struct json_writer *w = start(&writing);
	json_begin_object(w);
	json_put_str(w, "a", STR("x"));
	json_key(w, "b");
	json_begin_array(w);
	json_end_array(w);
	json_key(w, "c");
	json_begin_array(w);
	json_i64(w, 1);
	json_begin_object(w);
	json_end_object(w);
	json_begin_array(w);
	json_null(w);
	json_bool(w, true);
	json_end_array(w);
	json_end_array(w);
	json_put_cstr(w, "d", NULL);
	json_put_cstr(w, "e", "y");
	json_put_i64(w, "f", -5);
	json_put_double(w, "g", 0.5);
	json_put_bool(w, "h", false);
	json_key_str(w, STR("i"));
	json_raw(w, STR("{\"raw\": 1}"));
	json_end_object(w);
	assert_written(&writing,
	               "{\"a\":\"x\",\"b\":[],\"c\":[1,{},[null,true]],\"d\":null,\"e\":\"y\",\"f\":-5,\"g\":0.5,\"h\":false,"
	               "\"i\":{\"raw\": 1}}");
}

static void test_strings_are_escaped_as_little_as_possible(void **state)
{
	(void)state;
	struct writing writing;
	struct json_writer *w = start(&writing);
	json_str(w, STR("quote \" backslash \\ slash / < > & del \x7f \b\f\n\r\t\x01\x1f \xc3\xa9 \xe2\x80\xa8 \xf0\x9f\x98\x80"));
	assert_written(&writing,
	               "\"quote \\\" backslash \\\\ slash / < > & del \x7f \\b\\f\\n\\r\\t\\u0001\\u001f \xc3\xa9 \xe2\x80\xa8 "
	               "\xf0\x9f\x98\x80\"");
	w = start(&writing);
	w->escape_slash = true;
	json_begin_object(w);
	json_put_str(w, "a/b", STR("//x/"));
	json_end_object(w);
	assert_written(&writing, "{\"a\\/b\":\"\\/\\/x\\/\"}");
	w = start(&writing);
	json_str(w, (struct str){"a\0b", 3});
	assert_written(&writing, "\"a\\u0000b\"");
	w = start(&writing);
	json_str(w, STR_NONE);
	assert_written(&writing, "\"\"");
}

static void test_bytes_that_are_not_utf8_become_replacement_characters(void **state)
{
	(void)state;
	static const struct {
		const char *bytes, *wanted;
	} cases[] = {
	    {"a\xff"
	     "b",
	     "\"a\xEF\xBF\xBD"
	     "b\""},
	    {"\xc3", "\"\xEF\xBF\xBD\""},
	    {"\xe2\x82", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
	    {"\xed\xa0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
	    {"12345678\x80"
	     "12345678",
	     "\"12345678\xEF\xBF\xBD"
	     "12345678\""},
	    {"\xc3\"", "\"\xEF\xBF\xBD\\\"\""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct writing writing;
		json_str(start(&writing), str_of(cases[i].bytes));
		assert_written(&writing, cases[i].wanted);
	}
}

/* Every byte at every place of a word, so that the eight-at-a-time test is right for each of them. */
static void test_any_bytes_are_written_so_that_they_parse(void **state)
{
	(void)state;
	for (size_t place = 0; place < 20; place++)
		for (int byte = 0; byte < 256; byte++) {
			char text[20];
			struct writing writing;
			memset(text, 'x', sizeof text);
			text[place] = (char)byte;
			struct json_writer *w = start(&writing);
			w->escape_slash = byte % 2;
			json_str(w, (struct str){text, sizeof text});
			struct json_doc *doc = json_parse(buf_str(&writing.out), NULL, NULL);
			assert_non_null(doc);
			struct str back;
			assert_true(json_as_str(json_root(doc), &back));
			if (byte < 0x80)
				assert_true(str_eq(back, (struct str){text, sizeof text}));
			else
				assert_int_equal(back.len, sizeof text + 2);
			json_free(doc);
			buf_free(&writing.out);
		}
	for (int round = 0; round < 3000; round++) {
		char text[64];
		struct writing writing;
		id_random(text, sizeof text);
		size_t len = (unsigned char)text[0] % sizeof text;
		json_str(start(&writing), (struct str){text, len});
		struct json_doc *doc = json_parse(buf_str(&writing.out), NULL, NULL);
		assert_non_null(doc);
		struct str back;
		if (utf8_valid((struct str){text, len})) {
			assert_true(json_as_str(json_root(doc), &back));
			assert_true(str_eq(back, (struct str){text, len}));
		}
		json_free(doc);
		buf_free(&writing.out);
	}
}

static void test_integers(void **state)
{
	(void)state;
	struct writing writing;
	struct json_writer *w = start(&writing);
	json_begin_array(w);
	json_i64(w, 0);
	json_i64(w, INT64_MAX);
	json_i64(w, INT64_MIN);
	json_u64(w, UINT64_MAX);
	json_u64(w, 10);
	json_end_array(w);
	assert_written(&writing, "[0,9223372036854775807,-9223372036854775808,18446744073709551615,10]");
}

static void test_doubles_are_shortest_and_read_back_equal(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("core_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "doubles"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		uint8_t bytes[8];
		uint64_t bits = 0;
		int64_t digits;
		double value, back;
		vector_hex(one, "bits", bytes, sizeof bytes);
		for (size_t i = 0; i < 8; i++)
			bits = bits << 8 | bytes[i];
		memcpy(&value, &bits, sizeof value);
		struct writing writing;
		json_double(start(&writing), value);
		assert_true(str_to_double(buf_str(&writing.out), &back));
		assert_memory_equal(&back, &value, sizeof value);
		/* As many significant digits as the shortest form of another implementation. */
		assert_true(json_as_i64(json_get(one, "digits"), &digits));
		int64_t ours = 0, zeros = 0;
		for (size_t i = 0; i < writing.out.len && writing.out.at[i] != 'e'; i++) {
			char c = writing.out.at[i];
			if (c < '0' || c > '9' || (c == '0' && ours == 0))
				continue;
			zeros = c == '0' ? zeros + 1 : 0;
			ours++;
		}
		assert_int_equal(ours - zeros, digits);
		buf_free(&writing.out);
	}
	assert_true(count >= 300);
	json_free(doc);

	struct writing writing;
	struct json_writer *w = start(&writing);
	json_begin_array(w);
	json_double(w, 0.7);
	json_double(w, 1);
	json_double(w, -2000);
	json_double(w, (double)NAN);
	json_double(w, (double)INFINITY);
	json_double(w, -(double)INFINITY);
	json_double(w, DBL_MAX);
	json_end_array(w);
	assert_written(&writing, "[0.7,1,-2000,null,null,null,1.7976931348623157e308]");
}

static void test_parsed_values_are_written_compact_and_unchanged(void **state)
{
	(void)state;
	assert_rewritten(" { \"b\" : [ 1 , 2.5 , -3 ] , \"a\" : { } , \"a\" : null } ", "{\"b\":[1,2.5,-3],\"a\":{},\"a\":null}");
	assert_rewritten("[1.0,1e2,0.1,1e400,-123456789012345678901234567890,18446744073709551615,9007199254740993]",
	                 "[1.0,100.0,0.1,1e400,-123456789012345678901234567890,18446744073709551615,9007199254740993]");
	assert_rewritten("\"a\\/b \\u00e9 \\ud83d\\ude00 \\u0000\"", "\"a/b \xc3\xa9 \xf0\x9f\x98\x80 \\u0000\"");
	assert_rewritten("true", "true");
	assert_rewritten("[[],[[]],{},{\"\":{}}]", "[[],[[]],{},{\"\":{}}]");
}

static void test_writer_errors_are_sticky(void **state)
{
	(void)state;
	struct json_writer w;
	struct buf out;
	buf_init(&out, 10);
	json_writer_init(&w, &out);
	json_begin_object(&w);
	json_put_str(&w, "key", STR("a value that is too long"));
	json_end_object(&w);
	assert_true(out.failed);
	buf_free(&out);
	buf_init(&out, 1u << 20);
	json_writer_init(&w, &out);
	for (int i = 0; i < JSON_MAX_DEPTH + 1; i++)
		json_begin_array(&w);
	assert_true(out.failed);
	buf_free(&out);
	json_writer_init(&w, &out);
	json_end_object(&w);
	assert_true(out.failed);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_types),
	    cmocka_unit_test(test_accessors_are_strict),
	    cmocka_unit_test(test_numbers_beyond_double_have_no_value),
	    cmocka_unit_test(test_members),
	    cmocka_unit_test(test_iteration_over_nested_containers),
	    cmocka_unit_test(test_refuses_what_is_not_json),
	    cmocka_unit_test(test_white_space_around_is_allowed),
	    cmocka_unit_test(test_depth_is_bounded),
	    cmocka_unit_test(test_brackets_in_strings_are_not_depth),
	    cmocka_unit_test(test_a_document_lives_in_its_arena),
	    cmocka_unit_test(test_an_arena_too_small_is_no_memory),
	    cmocka_unit_test(test_raw_member_keeps_the_bytes),
	    cmocka_unit_test(test_raw_member_that_is_missing),
	    cmocka_unit_test(test_raw_member_given_twice_is_invalid),
	    cmocka_unit_test(test_raw_member_of_cut_text_never_reads_past_it),
	    cmocka_unit_test(test_commas_and_colons),
	    cmocka_unit_test(test_strings_are_escaped_as_little_as_possible),
	    cmocka_unit_test(test_bytes_that_are_not_utf8_become_replacement_characters),
	    cmocka_unit_test(test_any_bytes_are_written_so_that_they_parse),
	    cmocka_unit_test(test_integers),
	    cmocka_unit_test(test_doubles_are_shortest_and_read_back_equal),
	    cmocka_unit_test(test_parsed_values_are_written_compact_and_unchanged),
	    cmocka_unit_test(test_writer_errors_are_sticky),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
