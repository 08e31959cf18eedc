#include "provider/engine/chat_schema_merge.h"

#include "provider/engine/chat_names.h"
#include "provider/engine/chat_schema.h"
#include "provider/engine/chat_schema_parts.h"

#define STEPS_MAX       20000   /* schemas that are written below any allOf */
#define COMPARISONS_MAX 1000000 /* of the values that parts list */
#define TEXT_MAX        ((size_t)16 << 20)

/* What the parts of an object call their members, looked up for each of them. */
struct objects {
	const struct schema_parts *parts;
	struct chat_names properties[SCHEMA_PARTS_MAX];
	struct chat_names required; /* of all */
};

static void write(struct schema_merge *merge, const json_val *schema, unsigned depth);
static void write_united(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth);

/* The parts as one schema in `out`; false when no value is left, which is no refusal yet. */
static bool unite(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth, struct buf *out)
{
	struct json_writer outer = merge->w;
	json_writer_init(&merge->w, out);
	json_begin_object(&merge->w);
	write_united(merge, parts, depth);
	json_end_object(&merge->w);
	merge->w = outer;
	if (merge->refusal != schema_parts_exclude)
		return true;
	merge->refusal = NULL;
	return false;
}

/* --- objects --- */

static const json_val *additional(const json_val *part)
{
	return json_get(part, "additionalProperties");
}

static bool forbids_others(const json_val *part)
{
	bool allowed = true;
	return json_as_bool(additional(part), &allowed) && !allowed;
}

/* A grammar of it writes members that are not described. */
static bool is_open(const struct schema_parts *parts)
{
	bool open = false;
	for (size_t i = 0; i < parts->count; i++) {
		if (forbids_others(parts->at[i].schema))
			return false;
		open = open || additional(parts->at[i].schema);
	}
	return open;
}

/* All that is said of a member; *one: the schema when it is a single one, as it stands. False: it may not be there, or what is
 * said is not known here. */
static bool describe(struct schema_merge *merge, const struct objects *objects, struct str name, unsigned depth,
                     struct schema_parts *said, const json_val **one)
{
	bool single = true, known = true;
	*said = (struct schema_parts){.count = 0};
	*one = NULL;
	for (size_t i = 0; i < objects->parts->count; i++) {
		const json_val *part = objects->parts->at[i].schema, *here = chat_names_find(&objects->properties[i], name);
		if (!here && forbids_others(part))
			return false;
		if (!here)
			here = json_type(additional(part)) == JSON_OBJECT ? additional(part) : NULL;
		if (!here || (*one && chat_schema_same(*one, here)))
			continue;
		single = !*one;
		*one = *one ? *one : here;
		known = schema_gather(merge, here, depth, said) && known;
	}
	if (!single && !known)
		schema_refuse(merge, "allOf whose parts describe one member differently, one of them so,");
	*one = single ? *one : NULL;
	return true;
}

/* Writes the member, unless nothing may stand there. */
static void write_property(struct schema_merge *merge, const struct objects *objects, struct str name, unsigned depth)
{
	struct schema_parts said;
	const json_val *one;
	struct buf united;
	bool required = chat_names_find(&objects->required, name), allowed = describe(merge, objects, name, depth, &said, &one);
	buf_init(&united, TEXT_MAX);
	if (allowed && !one)
		allowed = unite(merge, &said, depth, &united);
	if (allowed) {
		json_key_str(&merge->w, name);
		if (one)
			write(merge, one, depth);
		else
			json_raw(&merge->w, buf_str(&united));
	}
	if (!allowed && required)
		schema_refuse(merge, schema_parts_exclude);
	else if (!allowed && is_open(objects->parts))
		schema_refuse(merge, "a member that no value fits, beside additionalProperties");
	merge->w.out->failed = merge->w.out->failed || united.failed;
	buf_free(&united);
}

/* Did a part before this one describe it? */
static bool was_described(const struct objects *objects, size_t before, struct str name)
{
	for (size_t i = 0; i < before; i++)
		if (chat_names_find(&objects->properties[i], name))
			return true;
	return false;
}

/* Of requirements of one name. */
static bool is_last(const struct objects *objects, const json_val *one, struct str name)
{
	return chat_names_find(&objects->required, name) == one;
}

static void write_properties(struct schema_merge *merge, const struct objects *objects, unsigned depth)
{
	const struct schema_parts *parts = objects->parts;
	struct json_iter required = json_iter(objects->required.of);
	struct str name;
	json_key(&merge->w, "properties");
	json_begin_object(&merge->w);
	for (size_t i = 0; i < parts->count; i++) {
		struct json_iter iter = json_iter(objects->properties[i].of);
		while (!merge->refusal && json_next(&iter, &name))
			if (!was_described(objects, i, name))
				write_property(merge, objects, name, depth);
	}
	for (json_val *one; !merge->refusal && (one = json_next(&required, &name));)
		if (is_last(objects, one, name) && !was_described(objects, parts->count, name))
			write_property(merge, objects, name, depth);
	json_end_object(&merge->w);
}

static void write_required(struct schema_merge *merge, const struct objects *objects)
{
	struct json_iter iter = json_iter(objects->required.of);
	struct str name;
	json_key(&merge->w, "required");
	json_begin_array(&merge->w);
	for (json_val *one; (one = json_next(&iter, &name));)
		if (is_last(objects, one, name))
			json_str(&merge->w, name);
	json_end_array(&merge->w);
}

/* What members may be that no part describes. */
static void write_others(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth)
{
	struct schema_parts said = {.count = 0};
	bool forbidden = false, allowed = false, any;
	struct buf united;
	for (size_t i = 0; i < parts->count; i++) {
		const json_val *others = additional(parts->at[i].schema);
		forbidden = forbidden || forbids_others(parts->at[i].schema);
		allowed = allowed || (json_as_bool(others, &any) && any);
		if (json_type(others) == JSON_OBJECT && !schema_gather(merge, others, depth, &said))
			schema_refuse(merge, "allOf with such a schema for additionalProperties");
	}
	buf_init(&united, TEXT_MAX);
	if (said.count && !forbidden)
		forbidden = !unite(merge, &said, depth, &united);
	if (forbidden) {
		json_put_bool(&merge->w, "additionalProperties", false);
	} else if (said.count) {
		json_key(&merge->w, "additionalProperties");
		json_raw(&merge->w, buf_str(&united));
	} else if (allowed) {
		json_put_bool(&merge->w, "additionalProperties", true);
	}
	merge->w.out->failed = merge->w.out->failed || united.failed;
	buf_free(&united);
}

/* An object whose members are what any part requires. NULL: no memory. */
static struct json_doc *requirements(const struct schema_parts *parts)
{
	struct buf text;
	struct json_writer w;
	struct str name;
	buf_init(&text, TEXT_MAX);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	for (size_t i = 0; i < parts->count; i++) {
		struct json_iter iter = json_iter(json_get(parts->at[i].schema, "required"));
		for (json_val *one; (one = json_next(&iter, NULL));)
			if (json_as_str(one, &name)) {
				json_key_str(&w, name);
				json_null(&w);
			}
	}
	json_end_object(&w);
	struct json_doc *doc = text.failed ? NULL : json_parse(buf_str(&text), NULL, NULL);
	buf_free(&text);
	return doc;
}

static void write_object(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth)
{
	struct objects objects = {.parts = parts};
	struct json_doc *required = requirements(parts);
	merge->w.out->failed = merge->w.out->failed || !required;
	objects.required = chat_names_of(json_root(required));
	for (size_t i = 0; i < parts->count; i++) {
		const json_val *properties = json_get(parts->at[i].schema, "properties");
		objects.properties[i] = chat_names_of(json_type(properties) == JSON_OBJECT ? properties : NULL);
	}
	write_properties(merge, &objects, depth);
	write_required(merge, &objects);
	write_others(merge, parts, depth);
	for (size_t i = 0; i < parts->count; i++)
		chat_names_free(&objects.properties[i]);
	chat_names_free(&objects.required);
	json_free(required);
}

/* --- arrays --- */

static void write_member(struct schema_merge *merge, struct str key, const json_val *value, unsigned depth);

static void write_items(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth)
{
	static const char *const words[] = {"prefixItems", "items"};
	const json_val *first = NULL;
	struct schema_parts said = {.count = 0};
	bool differ = false, tuples = false;
	for (size_t i = 0; i < parts->count; i++) {
		const json_val *part = parts->at[i].schema, *items = json_get(part, "items");
		if (!items && !json_get(part, "prefixItems"))
			continue;
		tuples = tuples || json_get(part, "prefixItems") || json_type(items) == JSON_ARRAY;
		differ = differ || (first && !(items && chat_schema_same(json_get(first, "items"), items)));
		first = first ? first : part;
		if (!schema_gather(merge, items, depth, &said))
			tuples = true;
	}
	if (differ && tuples) {
		schema_refuse(merge, "allOf of arrays whose items are described differently");
	} else if (differ) {
		json_key(&merge->w, "items");
		json_begin_object(&merge->w);
		write_united(merge, &said, depth);
		json_end_object(&merge->w);
		return;
	}
	for (size_t i = 0; first && i < 2; i++)
		if (json_get(first, words[i]))
			write_member(merge, str_of(words[i]), json_get(first, words[i]), depth);
}

static void write_array(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth)
{
	write_items(merge, parts, depth);
	if (!schema_write_counts(merge, parts, "minItems", "maxItems"))
		schema_refuse(merge, schema_parts_exclude);
}

/* --- unions --- */

static const json_val *union_of(const struct schema_part *part)
{
	const json_val *any = json_get(part->schema, "anyOf"), *one = json_get(part->schema, "oneOf");
	return part->chosen || (any && one) ? NULL : any ? any : one;
}

/* The choices of one part, each with all that the others say. False when no part has any. */
static bool write_union(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth)
{
	size_t at = 0, count = 0;
	while (at < parts->count && !union_of(&parts->at[at]))
		at++;
	if (at == parts->count)
		return false;
	struct json_iter iter = json_iter(union_of(&parts->at[at]));
	json_key(&merge->w, "anyOf");
	json_begin_array(&merge->w);
	for (json_val *choice; !merge->refusal && (choice = json_next(&iter, NULL));) {
		struct schema_parts chosen = *parts;
		struct buf united;
		chosen.at[at].chosen = true;
		if (!schema_gather(merge, choice, depth, &chosen))
			schema_refuse(merge, "a choice of that kind beside allOf");
		buf_init(&united, TEXT_MAX);
		if (unite(merge, &chosen, depth, &united)) {
			json_raw(&merge->w, buf_str(&united));
			count++;
		}
		merge->w.out->failed = merge->w.out->failed || united.failed;
		buf_free(&united);
	}
	json_end_array(&merge->w);
	if (!count)
		schema_refuse(merge, schema_parts_exclude);
	return true;
}

/* --- one schema of them --- */

static void write_united_now(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth)
{
	if (write_union(merge, parts, depth + 1))
		return;
	unsigned types = schema_types_of(merge, parts);
	if (!types)
		schema_refuse(merge, schema_parts_exclude);
	if (merge->refusal || schema_write_values(merge, parts))
		return;
	schema_write_types(merge, types);
	if (types == SCHEMA_ANY)
		return;
	if (types & SCHEMA_OBJECT)
		write_object(merge, parts, depth + 1);
	if (types & SCHEMA_ARRAY)
		write_array(merge, parts, depth + 1);
	if (types & SCHEMA_STRING)
		schema_write_string(merge, parts);
	if (types & SCHEMA_INTEGER)
		schema_write_number(merge, parts);
}

/* Counts what is written, and where. False: no more. */
static bool step(struct schema_merge *merge, unsigned depth)
{
	if (depth > SCHEMA_DEPTH_MAX)
		schema_refuse(merge, "nesting so deep");
	if (merge->within && ++merge->steps > STEPS_MAX)
		schema_refuse(merge, "an allOf so large");
	return !merge->refusal;
}

static void write_united(struct schema_merge *merge, const struct schema_parts *parts, unsigned depth)
{
	merge->within++;
	if (step(merge, depth))
		write_united_now(merge, parts, depth);
	merge->within--;
}

static void write_told(struct schema_merge *merge, const json_val *schema, unsigned depth)
{
	struct json_iter iter = json_iter(schema);
	struct str key;
	for (json_val *value; (value = json_next(&iter, &key));)
		if (schema_is_told_only(key))
			write_member(merge, key, value, depth);
}

/* --- the whole schema --- */

static void write_members(struct schema_merge *merge, const json_val *schemas, unsigned depth)
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

static void write_list(struct schema_merge *merge, const json_val *schemas, unsigned depth)
{
	struct json_iter iter = json_iter(schemas);
	json_begin_array(&merge->w);
	for (json_val *value; (value = json_next(&iter, NULL));)
		write(merge, value, depth);
	json_end_array(&merge->w);
}

static void write_member(struct schema_merge *merge, struct str key, const json_val *value, unsigned depth)
{
	static const char *const maps[] = {"properties", "$defs", "definitions", NULL};
	static const char *const schemas[] = {"items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems", NULL};
	json_key_str(&merge->w, key);
	if (schema_is_among(key, maps) && json_type(value) == JSON_OBJECT)
		write_members(merge, value, depth + 1);
	else if (schema_is_among(key, schemas) && json_type(value) == JSON_ARRAY)
		write_list(merge, value, depth + 1);
	else if (schema_is_among(key, schemas))
		write(merge, value, depth + 1);
	else
		json_value(&merge->w, value);
}

/* An object alone, with requirements that it does not describe. */
static bool requires_more(const json_val *schema)
{
	static const char *const others[] = {"$ref", "anyOf", "oneOf", "const", "enum"};
	struct str type;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (json_get(schema, others[i]))
			return false;
	bool object = json_as_str(json_get(schema, "type"), &type) && str_is(type, "object");
	bool implied = !json_get(schema, "type") && json_get(schema, "properties");
	return (object || implied) && chat_schema_requires_the_unknown(schema);
}

static void write(struct schema_merge *merge, const json_val *schema, unsigned depth)
{
	struct schema_parts parts = {.count = 0};
	struct json_iter iter = json_iter(schema);
	const json_val *reference = schema_sole_reference(schema), *joined = json_get(schema, "allOf");
	struct str key;
	if (!step(merge, depth) || json_type(schema) != JSON_OBJECT) {
		json_value(&merge->w, schema);
		return;
	}
	bool unites = json_type(joined) == JSON_ARRAY || requires_more(schema) || schema_has_more_than_a_union(schema);
	unites = unites && !reference && schema_gather(merge, schema, depth, &parts);
	json_begin_object(&merge->w);
	if (joined && reference) {
		write_told(merge, schema, depth);
		json_key(&merge->w, "$ref");
		json_value(&merge->w, reference);
	} else if (unites) {
		write_told(merge, schema, depth);
		write_united(merge, &parts, depth + 1);
	} else {
		for (json_val *value; (value = json_next(&iter, &key));)
			write_member(merge, key, value, depth);
	}
	json_end_object(&merge->w);
}

enum db_err chat_schema_merge(const char *place, const json_val *schema, struct buf *out, struct error *error)
{
	struct schema_merge merge = {.root = schema, .comparisons = COMPARISONS_MAX};
	json_writer_init(&merge.w, out);
	write(&merge, schema, 0);
	if (merge.refusal)
		return error_set(error, DB_E_UNSUPPORTED, "%s: this JSON schema cannot be expressed: %s is not supported", place,
		                 merge.refusal);
	return out->failed ? error_set(error, DB_E_NOMEM, "insufficient memory for the request") : DB_OK;
}
