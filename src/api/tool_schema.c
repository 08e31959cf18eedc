#include "api/tool_schema.h"

/* One walk serves both questions: with w == NULL it only says whether something would change. */
struct walk {
	struct json_writer *w;
	bool changed;
};

static void walk_schema(struct walk *walk, const json_val *schema, unsigned depth);

static void copy(struct walk *walk, const json_val *value)
{
	if (walk->w)
		json_value(walk->w, value);
}

static void put_key(struct walk *walk, struct str key)
{
	if (walk->w)
		json_key_str(walk->w, key);
}

static void begin(struct walk *walk, bool array)
{
	if (walk->w)
		(array ? json_begin_array : json_begin_object)(walk->w);
}

static void end(struct walk *walk, bool array)
{
	if (walk->w)
		(array ? json_end_array : json_end_object)(walk->w);
}

/* The first type in a list of type names that is not "null"; empty when there is none. */
static struct str concrete_type(const json_val *list)
{
	struct json_iter iter = json_iter(list);
	struct str name;
	for (json_val *member; (member = json_next(&iter, NULL));)
		if (json_as_str(member, &name) && !str_is(name, "null"))
			return name;
	return STR_NONE;
}

static struct str union_type(const json_val *schema)
{
	static const char *const unions[] = {"anyOf", "oneOf", "allOf"};
	for (size_t i = 0; i < sizeof unions / sizeof *unions; i++) {
		const json_val *members = json_get(schema, unions[i]);
		struct json_iter iter = json_iter(json_type(members) == JSON_ARRAY ? members : NULL);
		for (json_val *member; (member = json_next(&iter, NULL));) {
			const json_val *type = json_get(member, "type");
			struct str name = STR_NONE;
			if (json_type(type) == JSON_ARRAY)
				name = concrete_type(type);
			else if (!json_as_str(type, &name) || str_is(name, "null"))
				name = STR_NONE;
			if (name.len > 0)
				return name;
		}
	}
	return STR_NONE;
}

static struct str inferred_type(const json_val *schema)
{
	if (json_get(schema, "properties") || json_get(schema, "additionalProperties"))
		return STR("object");
	if (json_get(schema, "items"))
		return STR("array");
	struct str type = union_type(schema);
	return type.len > 0 ? type : STR("string");
}

static bool asks_for_a_type(const json_val *schema)
{
	static const char *const signs[] = {"properties", "items", "additionalProperties", "enum", "description", "anyOf",
	                                    "oneOf",      "allOf"};
	for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
		if (json_get(schema, signs[i]))
			return true;
	return false;
}

/* A `type` that is no string becomes one; *nullable when the list also held "null". */
static struct str collapsed_type(const json_val *schema, const json_val *type, bool *nullable)
{
	*nullable = false;
	if (json_type(type) != JSON_ARRAY)
		return inferred_type(schema);
	struct json_iter iter = json_iter(type);
	struct str name, chosen = concrete_type(type);
	bool has_null = false;
	for (json_val *member; (member = json_next(&iter, NULL));)
		has_null |= json_as_str(member, &name) && str_is(name, "null");
	*nullable = has_null && json_len(type) > 1 && chosen.len > 0;
	if (chosen.len > 0)
		return chosen;
	return has_null ? STR("null") : inferred_type(schema);
}

static void walk_properties(struct walk *walk, const json_val *properties, unsigned depth)
{
	struct json_iter iter = json_iter(properties);
	struct str key;
	begin(walk, false);
	for (json_val *value; (value = json_next(&iter, &key));) {
		put_key(walk, key);
		walk_schema(walk, value, depth);
	}
	end(walk, false);
}

static void walk_union(struct walk *walk, const json_val *members, unsigned depth)
{
	struct json_iter iter = json_iter(members);
	begin(walk, true);
	for (json_val *value; (value = json_next(&iter, NULL));)
		walk_schema(walk, value, depth);
	end(walk, true);
}

static void walk_member(struct walk *walk, struct str key, const json_val *value, unsigned depth)
{
	enum json_type type = json_type(value);
	if (str_is(key, "properties") && type == JSON_OBJECT)
		walk_properties(walk, value, depth);
	else if ((str_is(key, "items") || str_is(key, "additionalProperties")) && type == JSON_OBJECT)
		walk_schema(walk, value, depth);
	else if ((str_is(key, "anyOf") || str_is(key, "oneOf") || str_is(key, "allOf")) && type == JSON_ARRAY)
		walk_union(walk, value, depth);
	else
		copy(walk, value);
}

static void walk_schema(struct walk *walk, const json_val *schema, unsigned depth)
{
	if (json_type(schema) != JSON_OBJECT || depth >= TOOL_SCHEMA_MAX_DEPTH) {
		copy(walk, schema);
		return;
	}
	const json_val *type = json_get(schema, "type");
	bool collapse = type && json_type(type) != JSON_STRING, nullable = false;
	bool infer = !type && asks_for_a_type(schema);
	struct str name = collapse ? collapsed_type(schema, type, &nullable) : infer ? inferred_type(schema) : STR_NONE;
	walk->changed |= collapse || infer;

	struct json_iter iter = json_iter(schema);
	struct str key;
	begin(walk, false);
	for (json_val *value; (value = json_next(&iter, &key));) {
		put_key(walk, key);
		if (collapse && str_is(key, "type") && walk->w)
			json_str(walk->w, name);
		else
			walk_member(walk, key, value, depth + 1);
	}
	if (infer && walk->w)
		json_put_str(walk->w, "type", name);
	if (nullable && !json_get(schema, "nullable") && walk->w)
		json_put_bool(walk->w, "nullable", true);
	end(walk, false);
}

static void walk_function(struct walk *walk, const json_val *function)
{
	struct json_iter iter = json_iter(function);
	struct str key;
	begin(walk, false);
	for (json_val *value; (value = json_next(&iter, &key));) {
		put_key(walk, key);
		if (str_is(key, "parameters"))
			walk_schema(walk, value, 0);
		else
			copy(walk, value);
	}
	end(walk, false);
}

static void walk_tool(struct walk *walk, const json_val *tool)
{
	if (json_type(tool) != JSON_OBJECT) {
		copy(walk, tool);
		return;
	}
	bool nested = json_type(json_get(tool, "function")) == JSON_OBJECT;
	struct json_iter iter = json_iter(tool);
	struct str key;
	begin(walk, false);
	for (json_val *value; (value = json_next(&iter, &key));) {
		put_key(walk, key);
		if (nested && str_is(key, "function") && json_type(value) == JSON_OBJECT)
			walk_function(walk, value);
		else if ((!nested && str_is(key, "parameters")) || str_is(key, "input_schema"))
			walk_schema(walk, value, 0);
		else
			copy(walk, value);
	}
	end(walk, false);
}

static void walk_tools(struct walk *walk, const json_val *tools)
{
	struct json_iter iter = json_iter(tools);
	begin(walk, true);
	for (json_val *tool; (tool = json_next(&iter, NULL));)
		walk_tool(walk, tool);
	end(walk, true);
}

bool tool_schema_needs_change(const json_val *tools)
{
	struct walk walk = {0};
	if (json_type(tools) == JSON_ARRAY)
		walk_tools(&walk, tools);
	return walk.changed;
}

void tool_schema_write(struct json_writer *w, const json_val *tools)
{
	struct walk walk = {.w = w};
	if (json_type(tools) == JSON_ARRAY)
		walk_tools(&walk, tools);
	else
		json_value(w, tools);
}
