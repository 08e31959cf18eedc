#include "provider/engine/chat_schema_merge.h"

#include "provider/engine/chat_schema.h"

#define PARTS_MAX 32
#define DEPTH_MAX 64

struct merge {
	const json_val *root;
	struct json_writer w;
	const char *refusal; /* the first */
};

/* The schemas that an object must keep to all of. */
struct parts {
	const json_val *at[PARTS_MAX];
	size_t count;
};

static bool is_among(struct str text, const char *const *names)
{
	for (; *names; names++)
		if (str_is(text, *names))
			return true;
	return false;
}

static void refuse(struct merge *merge, const char *why)
{
	if (!merge->refusal)
		merge->refusal = why;
}

/* --- which parts there are --- */

static bool is_told_only(struct str key)
{
	static const char *const words[] = {"title",      "description", "$comment",  "examples", "default",
	                                    "deprecated", "readOnly",    "writeOnly", "$schema",  "$id",
	                                    "$defs",      "definitions", "$anchor",   NULL};
	return is_among(key, words);
}

/* Says nothing but what objects must be like. */
static bool speaks_of_objects(const json_val *schema)
{
	static const char *const words[] = {"properties", "required", "additionalProperties", "allOf", NULL};
	struct json_iter iter = json_iter(schema);
	struct str key, type;
	if (json_type(schema) != JSON_OBJECT)
		return false;
	for (json_val *value; (value = json_next(&iter, &key));) {
		bool object = str_is(key, "type") && json_as_str(value, &type) && str_is(type, "object");
		if (!object && !is_among(key, words) && !is_told_only(key))
			return false;
	}
	return true;
}

static bool is_reference_alone(const json_val *schema, struct str *path)
{
	struct json_iter iter = json_iter(schema);
	struct str key;
	if (!json_as_str(json_get(schema, "$ref"), path))
		return false;
	for (; json_next(&iter, &key);)
		if (!str_is(key, "$ref") && !is_told_only(key))
			return false;
	return true;
}

/* False when one speaks of more than objects, leads nowhere, or they are too many. */
static bool gather(const struct merge *merge, const json_val *schema, unsigned depth, struct parts *out)
{
	struct str path;
	while (is_reference_alone(schema, &path) && depth++ < DEPTH_MAX)
		schema = chat_schema_referred(merge->root, path);
	if (depth > DEPTH_MAX || out->count == PARTS_MAX || !speaks_of_objects(schema))
		return false;
	out->at[out->count++] = schema;
	struct json_iter more = json_iter(json_get(schema, "allOf"));
	for (json_val *part; (part = json_next(&more, NULL));)
		if (!gather(merge, part, depth + 1, out))
			return false;
	return true;
}

/* --- one object of them --- */

static bool forbids_others(const json_val *part)
{
	bool allowed = true;
	return json_as_bool(json_get(part, "additionalProperties"), &allowed) && !allowed;
}

static bool is_forbidden(const struct parts *parts, struct str name)
{
	for (size_t i = 0; i < parts->count; i++)
		if (forbids_others(parts->at[i]) && !chat_schema_member(json_get(parts->at[i], "properties"), name))
			return true;
	return false;
}

/* Of several that describe the member the first; they must agree. */
static const json_val *described(struct merge *merge, const struct parts *parts, struct str name, size_t *first)
{
	const json_val *found = NULL;
	for (size_t i = 0; i < parts->count; i++) {
		const json_val *here = chat_schema_member(json_get(parts->at[i], "properties"), name);
		if (found && here && !chat_schema_same(found, here))
			refuse(merge, "allOf whose parts describe one member differently");
		if (!found && here) {
			found = here;
			*first = i;
		}
	}
	return found;
}

static void write(struct merge *merge, const json_val *schema, unsigned depth);

static void write_properties(struct merge *merge, const struct parts *parts, unsigned depth)
{
	json_key(&merge->w, "properties");
	json_begin_object(&merge->w);
	for (size_t i = 0; i < parts->count; i++) {
		struct json_iter iter = json_iter(json_get(parts->at[i], "properties"));
		struct str name;
		while (json_next(&iter, &name)) {
			size_t first = 0;
			const json_val *schema = described(merge, parts, name, &first);
			if (first != i || is_forbidden(parts, name))
				continue;
			json_key_str(&merge->w, name);
			write(merge, schema, depth);
		}
	}
	json_end_object(&merge->w);
}

static bool requires(const json_val *part, struct str wanted)
{
	struct json_iter iter = json_iter(json_get(part, "required"));
	struct str name;
	for (json_val *one; (one = json_next(&iter, NULL));)
		if (json_as_str(one, &name) && str_eq(name, wanted))
			return true;
	return false;
}

static bool was_required(const struct parts *parts, size_t before, struct str name)
{
	for (size_t i = 0; i < before; i++)
		if (requires(parts->at[i], name))
			return true;
	return false;
}

static void write_required(struct merge *merge, const struct parts *parts)
{
	json_key(&merge->w, "required");
	json_begin_array(&merge->w);
	for (size_t i = 0; i < parts->count; i++) {
		struct json_iter iter = json_iter(json_get(parts->at[i], "required"));
		struct str name;
		for (json_val *one; (one = json_next(&iter, NULL));) {
			if (!json_as_str(one, &name) || was_required(parts, i, name))
				continue;
			if (is_forbidden(parts, name))
				refuse(merge, "allOf of which one part requires what another forbids");
			json_str(&merge->w, name);
		}
	}
	json_end_array(&merge->w);
}

static void write_others(struct merge *merge, const struct parts *parts)
{
	bool forbidden = false;
	for (size_t i = 0; i < parts->count; i++) {
		if (json_type(json_get(parts->at[i], "additionalProperties")) == JSON_OBJECT)
			refuse(merge, "allOf with a schema for additionalProperties");
		forbidden = forbidden || forbids_others(parts->at[i]);
	}
	if (forbidden)
		json_put_bool(&merge->w, "additionalProperties", false);
}

static void write_member(struct merge *merge, struct str key, const json_val *value, unsigned depth);

static void write_merged(struct merge *merge, const json_val *schema, const struct parts *parts, unsigned depth)
{
	struct json_iter iter = json_iter(schema);
	struct str key;
	json_begin_object(&merge->w);
	for (json_val *value; (value = json_next(&iter, &key));)
		if (is_told_only(key))
			write_member(merge, key, value, depth);
	json_put_cstr(&merge->w, "type", "object");
	write_properties(merge, parts, depth);
	write_required(merge, parts);
	write_others(merge, parts);
	json_end_object(&merge->w);
}

/* --- the whole schema --- */

static void write_members(struct merge *merge, const json_val *schemas, unsigned depth)
{
	struct json_iter iter = json_iter(schemas);
	struct str key;
	json_begin_object(&merge->w);
	for (json_val *value; (value = json_next(&iter, &key));) {
		json_key_str(&merge->w, key);
		write(merge, value, depth);
	}
	json_end_object(&merge->w);
}

static void write_list(struct merge *merge, const json_val *schemas, unsigned depth)
{
	struct json_iter iter = json_iter(schemas);
	json_begin_array(&merge->w);
	for (json_val *value; (value = json_next(&iter, NULL));)
		write(merge, value, depth);
	json_end_array(&merge->w);
}

static void write_member(struct merge *merge, struct str key, const json_val *value, unsigned depth)
{
	static const char *const maps[] = {"properties", "$defs", "definitions", NULL};
	static const char *const schemas[] = {"items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems", NULL};
	json_key_str(&merge->w, key);
	if (is_among(key, maps) && json_type(value) == JSON_OBJECT)
		write_members(merge, value, depth + 1);
	else if (is_among(key, schemas) && json_type(value) == JSON_ARRAY)
		write_list(merge, value, depth + 1);
	else if (is_among(key, schemas))
		write(merge, value, depth + 1);
	else
		json_value(&merge->w, value);
}

static void write(struct merge *merge, const json_val *schema, unsigned depth)
{
	struct parts parts = {.count = 0};
	struct json_iter iter = json_iter(schema);
	struct str key;
	if (depth > DEPTH_MAX)
		refuse(merge, "nesting so deep");
	if (merge->refusal || json_type(schema) != JSON_OBJECT) {
		json_value(&merge->w, schema);
		return;
	}
	if (json_get(schema, "allOf") && gather(merge, schema, depth, &parts)) {
		write_merged(merge, schema, &parts, depth + 1);
		return;
	}
	json_begin_object(&merge->w);
	for (json_val *value; (value = json_next(&iter, &key));)
		write_member(merge, key, value, depth);
	json_end_object(&merge->w);
}

enum db_err chat_schema_merge(const json_val *schema, struct buf *out, struct error *error)
{
	struct merge merge = {.root = schema};
	json_writer_init(&merge.w, out);
	write(&merge, schema, 0);
	if (merge.refusal)
		return error_set(error, DB_E_UNSUPPORTED, "response_format: this JSON schema cannot be expressed: %s is not supported",
		                 merge.refusal);
	return out->failed ? error_set(error, DB_E_NOMEM, "insufficient memory for the request") : DB_OK;
}
