#include "provider/engine/chat_schema_unfold.h"

#include "provider/engine/chat_schema.h"
#include "provider/engine/chat_schema_parts.h"

#define DEPTH_MAX 128   /* of references and members below one another, from the first allOf on */
#define STEPS_MAX 10000 /* schemas below any allOf of the whole, as often as they are written out */

struct unfolding {
	const json_val *root;
	bool by_library;
	size_t steps;
};

/* Where a schema stands. */
struct spot {
	unsigned depth; /* below an allOf; 0 = below none */
	bool part;      /* of an allOf: what it refers to is written out too */
};

static bool ends(struct unfolding *unfolding, const json_val *schema, struct spot spot);

static bool each_ends(struct unfolding *unfolding, const json_val *schemas, struct spot spot)
{
	struct json_iter iter = json_iter(schemas);
	for (json_val *schema; (schema = json_next(&iter, NULL));)
		if (!ends(unfolding, schema, spot))
			return false;
	return true;
}

static bool member_ends(struct unfolding *unfolding, struct str key, const json_val *value, struct spot spot)
{
	static const char *const lists[] = {"properties", "$defs", "definitions", "prefixItems", NULL};
	static const char *const schemas[] = {"items", "additionalProperties", NULL};
	static const char *const choices[] = {"anyOf", "oneOf", NULL};
	struct spot below = {.depth = spot.depth ? spot.depth + 1 : 0};
	if (str_is(key, "allOf"))
		return each_ends(unfolding, value, (struct spot){spot.depth + 1, true});
	if (schema_is_among(key, choices))
		return each_ends(unfolding, value, (struct spot){below.depth, spot.part});
	if (schema_is_among(key, lists) || (schema_is_among(key, schemas) && json_type(value) == JSON_ARRAY))
		return each_ends(unfolding, value, below);
	return !schema_is_among(key, schemas) || ends(unfolding, value, below);
}

static bool ends(struct unfolding *unfolding, const json_val *schema, struct spot spot)
{
	struct json_iter iter = json_iter(json_type(schema) == JSON_OBJECT ? schema : NULL);
	struct str key, path;
	if (spot.depth > DEPTH_MAX || (spot.depth && ++unfolding->steps > STEPS_MAX))
		return false;
	if (spot.part && json_as_str(json_get(schema, "$ref"), &path)) {
		schema = chat_schema_referred(unfolding->root, path);
		return schema && ends(unfolding, schema, (struct spot){spot.depth + 1, true});
	}
	bool follows = unfolding->by_library || !schema_sole_reference(schema);
	for (json_val *value; (value = json_next(&iter, &key));)
		if ((follows || !str_is(key, "allOf")) && !member_ends(unfolding, key, value, spot))
			return false;
	return true;
}

enum db_err chat_schema_unfolds(const char *place, const json_val *schema, bool by_library, struct error *error)
{
	struct unfolding unfolding = {.root = schema, .by_library = by_library};
	if (ends(&unfolding, schema, (struct spot){.depth = 0}))
		return DB_OK;
	return error_set(
	    error, DB_E_UNSUPPORTED,
	    "%s: this JSON schema cannot be expressed: an allOf that leads back to itself, that its references make very "
	    "large, or that refers to what is not there, is not supported",
	    place);
}
