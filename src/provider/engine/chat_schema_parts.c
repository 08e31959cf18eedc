#include "provider/engine/chat_schema_parts.h"

#include "provider/engine/chat_schema.h"

const char schema_parts_exclude[] = "allOf whose parts exclude one another";

void schema_refuse(struct schema_merge *merge, const char *why)
{
	if (!merge->refusal)
		merge->refusal = why;
}

bool schema_is_among(struct str text, const char *const *names)
{
	for (; *names; names++)
		if (str_is(text, *names))
			return true;
	return false;
}

/* --- which parts there are --- */

bool schema_is_told_only(struct str key)
{
	static const char *const words[] = {"title",      "description", "$comment",  "examples", "default",
	                                    "deprecated", "readOnly",    "writeOnly", "$schema",  "$id",
	                                    "$defs",      "definitions", "$anchor",   NULL};
	return schema_is_among(key, words);
}

static bool is_known(const json_val *schema)
{
	struct json_iter iter = json_iter(schema);
	struct str key;
	while (json_next(&iter, &key))
		if (chat_schema_unsupported(key) || str_is(key, "$ref"))
			return false;
	return json_type(schema) == JSON_OBJECT && !(json_get(schema, "anyOf") && json_get(schema, "oneOf"));
}

/* It has the keyword, and nothing else that says anything. */
static bool is_alone(const json_val *schema, const char *keyword)
{
	struct json_iter iter = json_iter(schema);
	struct str key;
	if (json_type(schema) != JSON_OBJECT || !json_get(schema, keyword))
		return false;
	while (json_next(&iter, &key))
		if (!str_is(key, keyword) && !schema_is_told_only(key))
			return false;
	return true;
}

static bool says_nothing(const json_val *schema)
{
	struct json_iter iter = json_iter(schema);
	struct str key;
	bool anything = json_type(schema) != JSON_OBJECT;
	if (json_as_bool(schema, &anything))
		return anything;
	while (!anything && json_next(&iter, &key))
		anything = !schema_is_told_only(key);
	return !anything;
}

bool schema_gather(const struct schema_merge *merge, const json_val *schema, unsigned depth, struct schema_parts *out)
{
	struct str path;
	while (is_alone(schema, "$ref") && json_as_str(json_get(schema, "$ref"), &path) && depth++ < SCHEMA_DEPTH_MAX)
		schema = chat_schema_referred(merge->root, path);
	if (says_nothing(schema))
		return true;
	if (depth > SCHEMA_DEPTH_MAX || !is_known(schema))
		return false;
	if (!is_alone(schema, "allOf")) {
		if (out->count == SCHEMA_PARTS_MAX)
			return false;
		out->at[out->count++] = (struct schema_part){.schema = schema};
	}
	struct json_iter more = json_iter(json_get(schema, "allOf"));
	for (json_val *part; (part = json_next(&more, NULL));)
		if (!schema_gather(merge, part, depth + 1, out))
			return false;
	return true;
}

const json_val *schema_sole_reference(const json_val *schema)
{
	for (unsigned depth = 0; depth < SCHEMA_DEPTH_MAX && is_alone(schema, "allOf"); depth++) {
		struct json_iter iter = json_iter(json_get(schema, "allOf"));
		const json_val *only = NULL;
		for (json_val *part; (part = json_next(&iter, NULL));) {
			if (says_nothing(part))
				continue;
			if (only)
				return NULL;
			only = part;
		}
		schema = only;
	}
	return is_alone(schema, "$ref") ? json_get(schema, "$ref") : NULL;
}

/* --- types --- */

static const struct {
	const char *name;
	unsigned types;
} type_names[] = {{"null", SCHEMA_NULL},      {"boolean", SCHEMA_BOOLEAN}, {"number", SCHEMA_INTEGER | SCHEMA_FRACTION},
                  {"string", SCHEMA_STRING},  {"array", SCHEMA_ARRAY},     {"object", SCHEMA_OBJECT},
                  {"integer", SCHEMA_INTEGER}};
#define TYPE_NAMES (sizeof type_names / sizeof *type_names)

static unsigned types_called(const json_val *name)
{
	struct str text;
	for (size_t i = 0; json_as_str(name, &text) && i < TYPE_NAMES; i++)
		if (str_is(text, type_names[i].name))
			return type_names[i].types;
	return 0;
}

static unsigned types_said(const json_val *type)
{
	struct json_iter iter = json_iter(type);
	unsigned types = types_called(type);
	if (json_type(type) == JSON_ABSENT)
		return SCHEMA_ANY;
	for (json_val *one; (one = json_next(&iter, NULL));)
		types |= types_called(one);
	return types;
}

static unsigned kinds_spoken_of(const json_val *schema)
{
	static const struct {
		unsigned types;
		const char *const words[7];
	} kinds[] = {
	    {SCHEMA_OBJECT, {"properties", "required", "additionalProperties", NULL}},
	    {SCHEMA_ARRAY, {"items", "prefixItems", "minItems", "maxItems", NULL}},
	    {SCHEMA_STRING, {"pattern", "format", "minLength", "maxLength", NULL}},
	    {SCHEMA_INTEGER | SCHEMA_FRACTION, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL}},
	};
	unsigned types = 0;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		for (const char *const *word = kinds[i].words; *word; word++)
			if (json_get(schema, *word))
				types |= kinds[i].types;
	return types;
}

bool schema_has_more_than_a_union(const json_val *schema)
{
	return (json_get(schema, "anyOf") || json_get(schema, "oneOf")) && kinds_spoken_of(schema);
}

static bool is_one_kind(unsigned types)
{
	return types == (SCHEMA_INTEGER | SCHEMA_FRACTION) || (types & (types - 1)) == 0;
}

unsigned schema_types_of(struct schema_merge *merge, const struct schema_parts *parts)
{
	unsigned types = SCHEMA_ANY, spoken = 0;
	for (size_t i = 0; i < parts->count; i++) {
		types &= types_said(json_get(parts->at[i].schema, "type"));
		spoken |= kinds_spoken_of(parts->at[i].schema);
	}
	if (types != SCHEMA_ANY || !spoken)
		return types;
	if (!is_one_kind(spoken))
		schema_refuse(merge, "allOf of several types without their names");
	return spoken;
}

void schema_write_types(struct schema_merge *merge, unsigned types)
{
	if (types == SCHEMA_ANY)
		return;
	json_key(&merge->w, "type");
	bool list = !is_one_kind(types);
	if (list)
		json_begin_array(&merge->w);
	for (size_t i = 0; i < TYPE_NAMES; i++)
		if ((types & type_names[i].types) == type_names[i].types) {
			json_cstr(&merge->w, type_names[i].name);
			types &= ~type_names[i].types;
		}
	if (list)
		json_end_array(&merge->w);
}

/* --- values --- */

static bool all_allow(struct schema_merge *merge, const struct schema_parts *parts, const json_val *value)
{
	for (size_t i = 0; i < parts->count; i++)
		if (!chat_schema_holds_within(&merge->comparisons, merge->root, parts->at[i].schema, value))
			return false;
	return true;
}

static const json_val *listed(const struct schema_parts *parts, const char *keyword)
{
	for (size_t i = 0; i < parts->count; i++)
		if (json_get(parts->at[i].schema, keyword))
			return json_get(parts->at[i].schema, keyword);
	return NULL;
}

bool schema_write_values(struct schema_merge *merge, const struct schema_parts *parts)
{
	const json_val *only = listed(parts, "const"), *values = listed(parts, "enum");
	struct json_iter iter = json_iter(only ? NULL : values);
	size_t count = 0;
	if (!only && !values)
		return false;
	if (listed(parts, "pattern"))
		schema_refuse(merge, "a pattern beside const or enum in an allOf");
	json_key(&merge->w, "enum");
	json_begin_array(&merge->w);
	for (const json_val *value = only ? only : json_next(&iter, NULL); value; value = json_next(&iter, NULL)) {
		if (!all_allow(merge, parts, value))
			continue;
		json_value(&merge->w, value);
		count++;
	}
	json_end_array(&merge->w);
	if (!merge->comparisons)
		schema_refuse(merge, "an allOf so large");
	if (!count)
		schema_refuse(merge, schema_parts_exclude);
	return true;
}

/* --- strings and numbers --- */

bool schema_write_counts(struct schema_merge *merge, const struct schema_parts *parts, const char *least, const char *most)
{
	int64_t low = 0, high = INT64_MAX, value;
	for (size_t i = 0; i < parts->count; i++) {
		if (json_as_i64(json_get(parts->at[i].schema, least), &value) && value > low)
			low = value;
		if (json_as_i64(json_get(parts->at[i].schema, most), &value) && value < high)
			high = value;
	}
	if (low > 0)
		json_put_i64(&merge->w, least, low);
	if (high < INT64_MAX)
		json_put_i64(&merge->w, most, high);
	return low <= high;
}

/* What all parts say alike. */
static void write_alike(struct schema_merge *merge, const struct schema_parts *parts, const char *keyword, const char *refusal)
{
	const json_val *first = listed(parts, keyword);
	if (!first)
		return;
	for (size_t i = 0; i < parts->count; i++) {
		const json_val *other = json_get(parts->at[i].schema, keyword);
		if (other && !chat_schema_same(first, other))
			schema_refuse(merge, refusal);
	}
	json_key(&merge->w, keyword);
	json_value(&merge->w, first);
}

void schema_write_string(struct schema_merge *merge, const struct schema_parts *parts)
{
	write_alike(merge, parts, "pattern", "allOf of different patterns");
	write_alike(merge, parts, "format", "allOf of different formats");
	if (!schema_write_counts(merge, parts, "minLength", "maxLength"))
		schema_refuse(merge, schema_parts_exclude);
}

struct limit {
	const json_val *text;
	double value;
	bool excluded;
};

static void narrow(struct limit *limit, const json_val *schema, const char *keyword, bool excluded, bool lowest)
{
	double value;
	if (!json_as_double(json_get(schema, keyword), &value))
		return;
	bool nearer = lowest ? value > limit->value : value < limit->value, same = value <= limit->value && value >= limit->value;
	if (!limit->text || nearer || (same && excluded))
		*limit = (struct limit){json_get(schema, keyword), value, excluded};
}

static void write_limit(struct schema_merge *merge, const struct limit *limit, const char *included, const char *excluded)
{
	if (!limit->text)
		return;
	json_key(&merge->w, limit->excluded ? excluded : included);
	json_value(&merge->w, limit->text);
}

void schema_write_number(struct schema_merge *merge, const struct schema_parts *parts)
{
	struct limit least = {0}, most = {0};
	for (size_t i = 0; i < parts->count; i++) {
		narrow(&least, parts->at[i].schema, "minimum", false, true);
		narrow(&least, parts->at[i].schema, "exclusiveMinimum", true, true);
		narrow(&most, parts->at[i].schema, "maximum", false, false);
		narrow(&most, parts->at[i].schema, "exclusiveMaximum", true, false);
	}
	write_limit(merge, &least, "minimum", "exclusiveMinimum");
	write_limit(merge, &most, "maximum", "exclusiveMaximum");
	bool both = least.text && most.text, closed = !least.excluded && !most.excluded;
	if (both && (closed ? least.value > most.value : least.value >= most.value))
		schema_refuse(merge, schema_parts_exclude);
}
