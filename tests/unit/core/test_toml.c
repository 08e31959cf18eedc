#include "../vectors.h"

#include <math.h>

#include "core/toml.h"

static struct arena *arena;

static int setup(void **state)
{
	(void)state;
	arena = arena_new(0);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

static const struct toml_value *parse(const char *text)
{
	struct error error = {0};
	const struct toml_value *root = toml_parse(str_of(text), arena, &error);
	if (!root)
		fail_msg("%s", error.text);
	return root;
}

static void assert_refused(const char *text, enum db_err code, const char *sentence)
{
	struct error error = {0};
	assert_null(toml_parse(str_of(text), arena, &error));
	assert_int_equal(error.code, code);
	if (!strstr(error.text, sentence))
		fail_msg("\"%s\" does not say \"%s\"", error.text, sentence);
}

/* --- comparison with tomllib --- */

static bool same_value(const struct toml_value *ours, const json_val *theirs);

static bool same_children(const struct toml_value *ours, const json_val *theirs)
{
	struct json_iter iter = json_iter(theirs);
	const struct toml_value *child = ours->first;
	struct str key;
	size_t count = 0;
	for (json_val *wanted; (wanted = json_next(&iter, &key)); count++) {
		if (ours->type == TOML_TABLE)
			child = toml_get(ours, key);
		if (!child || !same_value(child, wanted))
			return false;
		child = child->next;
	}
	for (const struct toml_value *each = ours->first; each; each = each->next)
		count--;
	return count == 0;
}

static bool same_float(double ours, struct str theirs)
{
	double wanted;
	if (str_is(theirs, "nan"))
		return isnan(ours);
	if (str_is(theirs, "inf") || str_is(theirs, "-inf"))
		return isinf(ours) && (ours < 0) == (theirs.at[0] == '-');
	return str_to_double(theirs, &wanted) && ours == wanted && !signbit(ours) == !signbit(wanted);
}

static bool same_value(const struct toml_value *ours, const json_val *theirs)
{
	struct str type = vector_str(theirs, "t"), text = STR_NONE;
	const json_val *value = json_get(theirs, "v");
	int64_t integer;
	json_as_str(value, &text);
	switch (ours->type) {
	case TOML_TABLE:
		return str_is(type, "table") && same_children(ours, value);
	case TOML_ARRAY:
		return str_is(type, "array") && same_children(ours, value);
	case TOML_STRING:
		return str_is(type, "string") && str_eq(ours->as.string, text);
	case TOML_INT:
		return str_is(type, "integer") && str_to_i64(text, &integer) && integer == ours->as.integer;
	case TOML_FLOAT:
		return str_is(type, "float") && same_float(ours->as.real, text);
	case TOML_BOOL:
		return str_is(type, "bool") && str_is(text, ours->as.boolean ? "true" : "false");
	case TOML_DATETIME:
		return str_is(type, "datetime");
	}
	return false;
}

static void test_agrees_with_tomllib(void **state)
{
	(void)state;
	struct json_doc *cases = vectors_load("toml_cases.json");
	struct json_iter iter = json_iter(json_root(cases));
	size_t accepted = 0, refused = 0, wrong = 0;
	for (json_val *one; (one = json_next(&iter, NULL));) {
		struct error error = {0};
		struct str text = vector_str(one, "text");
		const json_val *wanted = json_get_some(one, "value");
		const struct toml_value *root = toml_parse(text, arena, &error);
		bool ok = wanted ? root && same_value(root, wanted) : !root;
		if (!ok) {
			print_error("disagreement (%s) about:\n%.*s\n---\n", root ? "accepted" : error.text, STR_ARG(text));
			wrong++;
		}
		*(wanted ? &accepted : &refused) += 1;
		arena_reset(arena);
	}
	json_free(cases);
	assert_int_equal(wrong, 0);
	assert_true(accepted > 300 && refused > 300);
}

/* --- what the comparison does not cover --- */

static void test_values_know_their_line_and_key(void **state)
{
	(void)state;
	const struct toml_value *root = parse("a = 1\n\n[server]\n# note\nport = 8080\n[[x]]\nb = '''\n\n'''\nc = 2\n");
	const struct toml_value *server = toml_get(root, STR("server")), *port = toml_get(server, STR("port"));
	assert_int_equal(toml_get(root, STR("a"))->line, 1);
	assert_int_equal(server->line, 3);
	assert_int_equal(port->line, 5);
	assert_true(str_is(port->key, "port"));
	assert_int_equal(port->as.integer, 8080);
	assert_int_equal(toml_get(toml_get(root, STR("x"))->first, STR("c"))->line, 10);
	assert_null(toml_get(root, STR("absent")));
	assert_null(toml_get(port, STR("absent")));
	assert_null(toml_get(NULL, STR("absent")));
}

static void test_children_keep_file_order(void **state)
{
	(void)state;
	const struct toml_value *child = parse("z = 1\na = 2\nm = 3\n")->first;
	assert_true(str_is(child->key, "z"));
	assert_true(str_is(child->next->key, "a"));
	assert_true(str_is(child->next->next->key, "m"));
	assert_null(child->next->next->next);
}

static void test_datetimes_keep_their_text(void **state)
{
	(void)state;
	const struct toml_value *root = parse("a = 1979-05-27 07:32:00.5-08:00\nb = 07:32:00\n");
	assert_int_equal(toml_get(root, STR("a"))->type, TOML_DATETIME);
	assert_true(str_is(toml_get(root, STR("a"))->as.string, "1979-05-27 07:32:00.5-08:00"));
	assert_true(str_is(toml_get(root, STR("b"))->as.string, "07:32:00"));
}

static void test_the_text_is_copied(void **state)
{
	(void)state;
	char text[] = "key = \"value\"";
	const struct toml_value *root = toml_parse(str_of(text), arena, NULL);
	memset(text, 'x', sizeof text - 1);
	assert_true(str_is(toml_get(root, STR("key"))->as.string, "value"));
}

static void test_errors_say_the_line(void **state)
{
	(void)state;
	assert_refused("a = 1\nb = 2\na = 3\n", DB_E_INVALID, "line 3: `a` is already defined in line 1");
	assert_refused("a = 1\n\n[t\n", DB_E_INVALID, "line 3: ");
	assert_refused("a = \"x\nb = 1", DB_E_INVALID, "line 1: a string is not closed");
	assert_refused("a = [\n1,\n2\n3]", DB_E_INVALID, "line 4: ");
	assert_refused("ok = 1\nbad = \"\xff\"\n", DB_E_INVALID, "line 2: the file is not UTF-8");
	assert_refused("a = hello", DB_E_INVALID, "`hello` is not a value; texts stand in quotes");
	assert_null(toml_parse(STR("a ="), arena, NULL));
}

static void test_numbers_beyond_64_bits_are_refused(void **state)
{
	(void)state;
	assert_refused("a = 9223372036854775808", DB_E_RANGE, "too large");
	assert_refused("a = -9223372036854775809", DB_E_RANGE, "too large");
	assert_refused("a = 0x8000000000000000", DB_E_INVALID, "64-bit");
	assert_refused("a = 0xffffffffffffffffff", DB_E_INVALID, "64-bit");
	assert_refused("a = 1e400", DB_E_RANGE, "too large");
	assert_int_equal(toml_get(parse("a = 0x7fffffffffffffff"), STR("a"))->as.integer, INT64_MAX);
}

static void fill(struct buf *out, const char *piece, size_t times)
{
	for (size_t i = 0; i < times; i++)
		buf_append_c(out, piece);
}

static void test_nesting_is_bounded(void **state)
{
	(void)state;
	static const char *const pieces[] = {"[", "{a=", "[{b="};
	for (size_t i = 0; i < 3; i++) {
		struct buf text;
		struct error error = {0};
		buf_init(&text, 1u << 20);
		buf_append_c(&text, "a = ");
		fill(&text, pieces[i], 50000);
		assert_null(toml_parse(buf_str(&text), arena, &error));
		assert_int_equal(error.code, DB_E_LIMIT);
		buf_free(&text);
	}
	struct buf key;
	struct error error = {0};
	buf_init(&key, 1u << 20);
	fill(&key, "a.", 50000);
	buf_append_c(&key, "a = 1");
	assert_null(toml_parse(buf_str(&key), arena, &error));
	assert_int_equal(error.code, DB_E_LIMIT);
	buf_free(&key);
	parse("a = [[[[[[[[[[[[[[[[[[[[{b={c=[[[[1]]]]}}]]]]]]]]]]]]]]]]]]]]");
}

static void test_a_small_arena_ends_in_no_memory(void **state)
{
	(void)state;
	const char text[] = "[server]\nport = 80\nnames = ['a', 'b']\n[client]\nx.y.z = { q = \"long text that needs room\" }\n";
	struct arena *enough = arena_new(0);
	assert_non_null(toml_parse(STR(text), enough, NULL));
	size_t needed = arena_used(enough);
	arena_free(enough);
	for (size_t limit = 16; limit < needed; limit += 16) {
		struct arena *small = arena_new(limit);
		struct error error = {0};
		assert_null(toml_parse(STR(text), small, &error));
		assert_int_equal(error.code, DB_E_NOMEM);
		arena_free(small);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_agrees_with_tomllib),
	    cmocka_unit_test(test_values_know_their_line_and_key),
	    cmocka_unit_test(test_children_keep_file_order),
	    cmocka_unit_test(test_datetimes_keep_their_text),
	    cmocka_unit_test(test_the_text_is_copied),
	    cmocka_unit_test(test_errors_say_the_line),
	    cmocka_unit_test(test_numbers_beyond_64_bits_are_refused),
	    cmocka_unit_test(test_nesting_is_bounded),
	    cmocka_unit_test(test_a_small_arena_ends_in_no_memory),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
