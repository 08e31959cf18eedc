#include "provider/engine/chat_schema.h"

#include "core/utf8.h"
#include "provider/engine/chat_names.h"

#include <math.h>

#define SCHEMA_MAX_DEPTH 64
#define JUDGE_MAX_DEPTH  (4 * JSON_MAX_DEPTH) /* each level of a value is a few of its schema, with references and unions */
#define SCHEMA_MAX_STEPS 1000000              /* comparisons of one check: unions of references multiply */

static bool is_one_of(struct str text, const char *const *names)
{
	for (; *names; names++)
		if (str_is(text, *names))
			return true;
	return false;
}

/* --- can it be kept to? --- */

static enum db_err refuse(struct error *error, const char *keyword)
{
	return error_set(error, DB_E_UNSUPPORTED, "%s", keyword);
}

const char *chat_schema_unsupported(struct str key)
{
	static const char *const words[] = {"not",
	                                    "if",
	                                    "then",
	                                    "else",
	                                    "patternProperties",
	                                    "propertyNames",
	                                    "dependentRequired",
	                                    "dependentSchemas",
	                                    "dependencies",
	                                    "minProperties",
	                                    "maxProperties",
	                                    "uniqueItems",
	                                    "contains",
	                                    "minContains",
	                                    "maxContains",
	                                    "multipleOf",
	                                    "unevaluatedProperties",
	                                    "unevaluatedItems",
	                                    "$dynamicRef",
	                                    "$recursiveRef",
	                                    NULL};
	for (size_t i = 0; words[i]; i++)
		if (str_is(key, words[i]))
			return words[i];
	return NULL;
}

static bool asks_for_nothing(struct str key, const json_val *value)
{
	bool flag;
	return str_is(key, "uniqueItems") && json_as_bool(value, &flag) && !flag;
}

/* Grammars know patterns that hold for the whole text and look at nothing but the next character. */
static bool pattern_is_plain(struct str pattern)
{
	if (pattern.len < 2 || pattern.at[0] != '^' || pattern.at[pattern.len - 1] != '$')
		return false;
	for (size_t i = 0; i + 1 < pattern.len; i++) {
		if (pattern.at[i] == '(' && pattern.at[i + 1] == '?')
			return false;
		if (pattern.at[i] != '\\')
			continue;
		if (strchr("bBpPkuxAZzG123456789", pattern.at[i + 1]))
			return false;
		i++;
	}
	return true;
}

/* --- what the library's grammar leaves out ---
 * It follows one branch of a schema and says nothing of the keywords beside it. What would be left out is refused here. */

static bool has(const json_val *schema, const char *key)
{
	return json_get(schema, key) != NULL;
}

/* The first of the keywords that the schema has, or NULL. */
static const char *first_of(const json_val *schema, const char *const *keys)
{
	for (; *keys; keys++)
		if (has(schema, *keys))
			return *keys;
	return NULL;
}

static const char *const of_objects[] = {"properties", "required", "additionalProperties", NULL};
static const char *const of_arrays[] = {"items", "prefixItems", "minItems", "maxItems", NULL};
static const char *const of_strings[] = {"pattern", "minLength", "maxLength", NULL};
static const char *const of_numbers[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL};

bool chat_schema_requires_the_unknown(const json_val *schema)
{
	struct json_iter iter = json_iter(json_get(schema, "required"));
	struct chat_names known = chat_names_of(json_get(schema, "properties"));
	bool unknown = false;
	struct str name;
	for (json_val *one; !unknown && (one = json_next(&iter, NULL));)
		unknown = json_as_str(one, &name) && !chat_names_find(&known, name);
	chat_names_free(&known);
	return unknown;
}

static bool counts_a_tuple_wrong(const json_val *schema)
{
	const json_val *items = json_get(schema, has(schema, "items") ? "items" : "prefixItems");
	int64_t least = 0, most = INT64_MAX, count = (int64_t)json_len(items);
	if (json_type(items) != JSON_ARRAY)
		return false;
	json_as_i64(json_get(schema, "minItems"), &least);
	json_as_i64(json_get(schema, "maxItems"), &most);
	return count < least || count > most;
}

static const char *left_out_of_object(const json_val *schema)
{
	bool merged = has(schema, "allOf") && !has(schema, "properties") && !has(schema, "additionalProperties");
	if (merged)
		return has(schema, "required") ? "required beside allOf" : NULL;
	if (has(schema, "allOf"))
		return "allOf beside properties";
	return chat_schema_requires_the_unknown(schema) ? "a required member that is not in properties" : NULL;
}

static const char *left_out_of_array(const json_val *schema)
{
	if (has(schema, "allOf"))
		return "allOf of arrays";
	if (has(schema, "items") && has(schema, "prefixItems"))
		return "prefixItems beside items";
	return counts_a_tuple_wrong(schema) ? "a number of items that is not that of the tuple" : NULL;
}

static const char *left_out_of_string(const json_val *schema)
{
	bool sized = has(schema, "minLength") || has(schema, "maxLength");
	if (has(schema, "allOf"))
		return first_of(schema, of_strings) ? "a length or pattern beside allOf" : NULL;
	return has(schema, "pattern") && sized ? "a length beside a pattern" : NULL;
}

/* What the library makes of bounds without help. */
static const char *left_out_of_bounds(const json_val *schema, bool whole)
{
	static const char *const beside[][2] = {{"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}};
	if (!whole)
		return first_of(schema, of_numbers) ? "a bound on a number that may have a fraction" : NULL;
	for (size_t i = 0; i < 2; i++)
		if (has(schema, beside[i][0]) && has(schema, beside[i][1]))
			return "a bound beside an exclusive one";
	return NULL;
}

/* Without a type the keywords tell what it is, in the library's order. */
static const char *left_out_of_untyped(const json_val *schema)
{
	if (has(schema, "properties") || has(schema, "additionalProperties"))
		return left_out_of_object(schema);
	if (has(schema, "allOf")) {
		bool more = has(schema, "required") || first_of(schema, of_arrays) || first_of(schema, of_strings) ||
		            first_of(schema, of_numbers);
		return more ? "another keyword beside allOf" : NULL;
	}
	if (has(schema, "items") || has(schema, "prefixItems"))
		return left_out_of_array(schema);
	if (first_of(schema, of_strings))
		return left_out_of_string(schema);
	if (first_of(schema, of_numbers))
		return "a bound without a type";
	return has(schema, "required") || first_of(schema, of_arrays) ? "required, minItems or maxItems without a type" : NULL;
}

static const char *left_out_of_type(const json_val *schema, struct str type, bool bounds)
{
	if (str_is(type, "object"))
		return left_out_of_object(schema);
	if (str_is(type, "array"))
		return left_out_of_array(schema);
	if (str_is(type, "string"))
		return left_out_of_string(schema);
	if (str_is(type, "number") || str_is(type, "integer"))
		return has(schema, "allOf") ? "allOf of numbers" : bounds ? NULL : left_out_of_bounds(schema, str_is(type, "integer"));
	return NULL;
}

/* `bounds`: all bounds of numbers are held. */
static const char *left_out(const json_val *schema, bool bounds)
{
	static const char *const unions[] = {"$ref", "anyOf", "oneOf", NULL};
	const char *chosen = first_of(schema, unions);
	struct str type;
	if (json_type(schema) != JSON_OBJECT)
		return NULL;
	if (chosen) {
		bool more = has(schema, "allOf") || first_of(schema, of_objects) || first_of(schema, of_arrays) ||
		            first_of(schema, of_strings) || first_of(schema, of_numbers) ||
		            (has(schema, "anyOf") && has(schema, "oneOf"));
		return more ? "a keyword beside $ref, anyOf or oneOf" : NULL;
	}
	if (has(schema, "const") || has(schema, "enum"))
		return NULL;
	if (json_as_str(json_get(schema, "type"), &type))
		return left_out_of_type(schema, type, bounds);
	struct json_iter types = json_iter(json_get(schema, "type"));
	const char *word = json_len(json_get(schema, "type")) ? NULL : left_out_of_untyped(schema);
	for (json_val *one; !word && (one = json_next(&types, NULL));)
		word = json_as_str(one, &type) ? left_out_of_type(schema, type, bounds) : NULL;
	return word;
}

/* --- the whole schema --- */

struct checking {
	bool bounds;
	struct error *error;
};

static enum db_err check(const json_val *schema, unsigned depth, const struct checking *how);

static enum db_err check_each(const json_val *schemas, unsigned depth, const struct checking *how)
{
	struct json_iter iter = json_iter(schemas);
	enum db_err err = DB_OK;
	for (json_val *schema; !err && (schema = json_next(&iter, NULL));)
		err = check(schema, depth, how);
	return err;
}

static enum db_err check_member(struct str key, const json_val *value, unsigned depth, const struct checking *how)
{
	static const char *const maps[] = {"properties", "$defs", "definitions", NULL};
	static const char *const lists[] = {"anyOf", "oneOf", "allOf", "prefixItems", NULL};
	static const char *const schemas[] = {"items", "additionalProperties", NULL};
	struct str pattern;
	const char *word = chat_schema_unsupported(key);
	if (word && !asks_for_nothing(key, value))
		return refuse(how->error, word);
	if (str_is(key, "pattern") && (!json_as_str(value, &pattern) || !pattern_is_plain(pattern)))
		return refuse(how->error, "a pattern that is not anchored with ^ and $, or that looks around,");
	if (is_one_of(key, maps) || is_one_of(key, lists))
		return check_each(value, depth, how);
	if (!is_one_of(key, schemas))
		return DB_OK;
	return json_type(value) == JSON_ARRAY ? check_each(value, depth, how) : check(value, depth, how);
}

static enum db_err check(const json_val *schema, unsigned depth, const struct checking *how)
{
	struct json_iter iter = json_iter(json_type(schema) == JSON_OBJECT ? schema : NULL);
	struct str key;
	enum db_err err = DB_OK;
	if (depth > SCHEMA_MAX_DEPTH)
		return refuse(how->error, "nesting so deep");
	const char *word = left_out(schema, how->bounds);
	if (word)
		return refuse(how->error, word);
	for (json_val *value; !err && (value = json_next(&iter, &key));)
		err = check_member(key, value, depth + 1, how);
	return err;
}

enum db_err chat_schema_check(const char *place, const json_val *schema, bool bounds, struct error *error)
{
	struct error found;
	if (!check(schema, 0, &(struct checking){bounds, &found}))
		return DB_OK;
	return error_set(error, DB_E_UNSUPPORTED, "%s: this JSON schema cannot be expressed: %s is not supported", place,
	                 found.text);
}

/* --- does the answer keep to it? --- */

struct judge {
	const json_val *root;
	size_t steps; /* that are left */
};

static bool holds(struct judge *judge, const json_val *schema, const json_val *value, unsigned depth);

static bool is_whole(double number)
{
	return isfinite(number) && fabs(number - trunc(number)) <= 0;
}

static bool same(const json_val *a, const json_val *b, unsigned depth);

static bool same_items(const json_val *a, const json_val *b, unsigned depth)
{
	struct json_iter ours = json_iter(a), theirs = json_iter(b);
	for (json_val *item; (item = json_next(&ours, NULL));)
		if (!same(item, json_next(&theirs, NULL), depth))
			return false;
	return true;
}

static bool same_members(const json_val *a, const json_val *b, unsigned depth)
{
	struct json_iter ours = json_iter(a);
	struct chat_names theirs = chat_names_of(b);
	struct str key;
	bool equal = true;
	for (json_val *member; equal && (member = json_next(&ours, &key));) {
		const json_val *other = chat_names_find(&theirs, key);
		equal = other && same(member, other, depth);
	}
	chat_names_free(&theirs);
	return equal;
}

static bool same(const json_val *a, const json_val *b, unsigned depth)
{
	struct str left, right;
	double x, y;
	bool p, q;
	if (depth > JSON_MAX_DEPTH)
		return false;
	if (json_as_double(a, &x))
		return json_as_double(b, &y) && x <= y && x >= y;
	if (json_type(a) != json_type(b))
		return false;
	if (json_as_str(a, &left))
		return json_as_str(b, &right) && str_eq(left, right);
	if (json_as_bool(a, &p))
		return json_as_bool(b, &q) && p == q;
	if (json_len(a) != json_len(b))
		return false;
	return json_type(a) == JSON_ARRAY ? same_items(a, b, depth + 1) : same_members(a, b, depth + 1);
}

static bool has_type(struct str type, const json_val *value)
{
	double number;
	switch (json_type(value)) {
	case JSON_NULL:
		return str_is(type, "null");
	case JSON_BOOL:
		return str_is(type, "boolean");
	case JSON_INT:
		return str_is(type, "integer") || str_is(type, "number");
	case JSON_REAL:
		return str_is(type, "number") || (str_is(type, "integer") && json_as_double(value, &number) && is_whole(number));
	case JSON_STRING:
		return str_is(type, "string");
	case JSON_ARRAY:
		return str_is(type, "array");
	case JSON_OBJECT:
		return str_is(type, "object");
	case JSON_ABSENT:
		break;
	}
	return false;
}

static bool type_holds(const json_val *type, const json_val *value)
{
	struct json_iter iter = json_iter(type);
	struct str name;
	if (json_as_str(type, &name))
		return has_type(name, value);
	if (json_type(type) != JSON_ARRAY)
		return true;
	for (json_val *one; (one = json_next(&iter, NULL));)
		if (json_as_str(one, &name) && has_type(name, value))
			return true;
	return false;
}

bool chat_schema_same(const json_val *a, const json_val *b)
{
	return same(a, b, 0);
}

static bool is_among(const json_val *values, const json_val *value)
{
	struct json_iter iter = json_iter(values);
	for (json_val *one; (one = json_next(&iter, NULL));)
		if (same(one, value, 0))
			return true;
	return false;
}

static bool within(const json_val *schema, const char *least_name, const char *most_name, double measure)
{
	double bound;
	if (json_as_double(json_get(schema, least_name), &bound) && measure < bound)
		return false;
	return !json_as_double(json_get(schema, most_name), &bound) || measure <= bound;
}

static bool number_holds(const json_val *schema, double number)
{
	double bound;
	if (json_as_double(json_get(schema, "exclusiveMinimum"), &bound) && number <= bound)
		return false;
	if (json_as_double(json_get(schema, "exclusiveMaximum"), &bound) && number >= bound)
		return false;
	return within(schema, "minimum", "maximum", number);
}

static double characters(struct str text)
{
	double count = 0;
	for (size_t i = 0; i < text.len; i++)
		count += ((unsigned char)text.at[i] & 0xc0) != 0x80;
	return count;
}

json_val *chat_schema_member(const json_val *object, struct str name)
{
	struct chat_names names = {.of = json_type(object) == JSON_OBJECT ? object : NULL};
	return chat_names_find(&names, name);
}

static bool has_all_required(const json_val *schema, const json_val *object)
{
	struct json_iter required = json_iter(json_get(schema, "required"));
	struct chat_names given = chat_names_of(object);
	struct str key;
	bool all = true;
	for (json_val *name; all && (name = json_next(&required, NULL));)
		all = !json_as_str(name, &key) || chat_names_find(&given, key);
	chat_names_free(&given);
	return all;
}

static bool object_holds(struct judge *judge, const json_val *schema, const json_val *object, unsigned depth)
{
	const json_val *others = json_get(schema, "additionalProperties"), *properties = json_get(schema, "properties");
	struct json_iter members = json_iter(object);
	struct str key;
	bool allowed = true, all = has_all_required(schema, object);
	struct chat_names described = chat_names_of(json_type(properties) == JSON_OBJECT ? properties : NULL);
	json_as_bool(others, &allowed);
	for (json_val *value; all && (value = json_next(&members, &key));) {
		const json_val *property = chat_names_find(&described, key);
		all = property || allowed;
		if (!property)
			property = json_type(others) == JSON_OBJECT ? others : NULL;
		all = all && (!property || holds(judge, property, value, depth));
	}
	chat_names_free(&described);
	return all;
}

static bool array_holds(struct judge *judge, const json_val *schema, const json_val *array, unsigned depth)
{
	const json_val *rest = json_get(schema, "items"), *first = json_get(schema, "prefixItems");
	if (json_type(rest) == JSON_ARRAY) {
		first = rest;
		rest = NULL;
	}
	struct json_iter each = json_iter(array), places = json_iter(first);
	if (!within(schema, "minItems", "maxItems", (double)json_len(array)))
		return false;
	for (json_val *value; (value = json_next(&each, NULL));) {
		const json_val *place = json_next(&places, NULL);
		place = place ? place : rest;
		if (place && !holds(judge, place, value, depth))
			return false;
	}
	return true;
}

const json_val *chat_schema_referred(const json_val *root, struct str path)
{
	const json_val *at = root;
	if (!path.len || path.at[0] != '#')
		return NULL;
	path = str_sub(path, 1, path.len);
	while (at && path.len) {
		const char *slash = path.len > 1 ? memchr(path.at + 1, '/', path.len - 1) : NULL;
		size_t len = slash ? (size_t)(slash - path.at) : path.len;
		at = chat_schema_member(at, str_sub(path, 1, len - 1));
		path = str_sub(path, len, path.len);
	}
	return at;
}

static bool unions_hold(struct judge *judge, const json_val *schema, const json_val *value, unsigned depth)
{
	static const char *const choices[] = {"anyOf", "oneOf"};
	for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
		const json_val *members = json_get_some(schema, choices[i]);
		struct json_iter iter = json_iter(members);
		bool one = !members;
		for (json_val *member; !one && (member = json_next(&iter, NULL));)
			one = holds(judge, member, value, depth);
		if (!one)
			return false;
	}
	struct json_iter all = json_iter(json_get(schema, "allOf"));
	for (json_val *member; (member = json_next(&all, NULL));)
		if (!holds(judge, member, value, depth))
			return false;
	return true;
}

static bool holds(struct judge *judge, const json_val *schema, const json_val *value, unsigned depth)
{
	struct str text;
	double number;
	bool anything;
	if (depth > JUDGE_MAX_DEPTH || !judge->steps)
		return false;
	judge->steps--;
	if (json_as_bool(schema, &anything))
		return anything;
	if (json_as_str(json_get(schema, "$ref"), &text)) {
		const json_val *target = chat_schema_referred(judge->root, text);
		return target && holds(judge, target, value, depth + 1);
	}
	if (!type_holds(json_get(schema, "type"), value) || !unions_hold(judge, schema, value, depth + 1))
		return false;
	if (json_get(schema, "const") && !same(json_get(schema, "const"), value, 0))
		return false;
	if (json_get(schema, "enum") && !is_among(json_get(schema, "enum"), value))
		return false;
	if (json_as_double(value, &number))
		return number_holds(schema, number);
	if (json_as_str(value, &text))
		return within(schema, "minLength", "maxLength", characters(text));
	if (json_type(value) == JSON_OBJECT)
		return object_holds(judge, schema, value, depth + 1);
	return json_type(value) != JSON_ARRAY || array_holds(judge, schema, value, depth + 1);
}

bool chat_schema_holds_within(size_t *steps, const json_val *root, const json_val *schema, const json_val *value)
{
	struct judge judge = {.root = root, .steps = *steps};
	bool kept = holds(&judge, schema, value, 0);
	*steps = judge.steps;
	return kept || !judge.steps;
}

bool chat_schema_holds(const json_val *schema, const json_val *value)
{
	size_t steps = SCHEMA_MAX_STEPS;
	return chat_schema_holds_within(&steps, schema, schema, value);
}

bool chat_schema_holds_text(struct str schema, struct str answer)
{
	struct json_doc *rules = json_parse(schema, NULL, NULL), *doc = json_parse(answer, NULL, NULL);
	bool any_object = json_type(json_root(rules)) == JSON_OBJECT && !json_len(json_root(rules));
	bool ok = rules && doc &&
	          (any_object ? json_type(json_root(doc)) == JSON_OBJECT : chat_schema_holds(json_root(rules), json_root(doc)));
	json_free(rules);
	json_free(doc);
	return ok;
}
