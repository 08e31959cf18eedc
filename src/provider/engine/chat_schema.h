/* JSON schemas of response_format: which ones can be kept to, and does an answer keep to one (inference 4). Pure; thread: any.
 */
#ifndef PROVIDER_CHAT_SCHEMA_H
#define PROVIDER_CHAT_SCHEMA_H

#include "core/error.h"
#include "core/json.h"

/* DB_E_UNSUPPORTED with a sentence naming the keyword when the schema asks for something that no grammar holds an answer to; it
 * begins with `place`. What is only told (title, description, examples, ...) passes. Keywords are words of the schema language,
 * never of the client. `bounds`: those of numbers are held by a grammar of ours (chat_shim_numbers.cpp); the library leaves
 * some out.
 */
enum db_err chat_schema_check(const char *place, const json_val *schema, bool bounds, struct error *error);

/* The backstop behind the grammar: does the value keep to the schema? Checks type, enum, const, properties, required,
 * additionalProperties, items, prefixItems, anyOf, oneOf, allOf, local $ref, and the bounds of numbers, lengths and counts.
 * What would take more than a million comparisons is believed. */
bool chat_schema_holds(const json_val *schema, const json_val *value);
/* The same for a schema that stands in `root`, by at most so many comparisons; those made are taken off. */
bool chat_schema_holds_within(size_t *steps, const json_val *root, const json_val *schema, const json_val *value);
/* The same of texts; false when `answer` is not JSON. An empty schema means any object. */
bool chat_schema_holds_text(struct str schema, struct str answer);

/* --- reading schemas --- */
/* NULL: it has none, or is no object. The last of several, as the library takes it. */
json_val *chat_schema_member(const json_val *object, struct str name);
const json_val *chat_schema_referred(const json_val *root, struct str path); /* "#/a/b"; NULL: nothing is there */
bool chat_schema_same(const json_val *a, const json_val *b);                 /* equal as JSON, in whatever order */
/* The keyword as a text when it asks for what no grammar holds, or NULL. */
const char *chat_schema_unsupported(struct str key);
/* Does an object require a member that it does not describe? */
bool chat_schema_requires_the_unknown(const json_val *schema);

#endif
