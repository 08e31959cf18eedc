/* Inside of uniting schemas (chat_schema_merge.h): the parts that a value must keep to all of, and what they say of anything
 * but objects and arrays. Pure; thread: any. */
#ifndef PROVIDER_CHAT_SCHEMA_PARTS_H
#define PROVIDER_CHAT_SCHEMA_PARTS_H

#include "core/json.h"

#define SCHEMA_PARTS_MAX 32
#define SCHEMA_DEPTH_MAX 64

struct schema_merge {
	const json_val *root;
	struct json_writer w;
	const char *refusal; /* the first */
	unsigned within;     /* so many unions of parts, one in the other */
	size_t steps;        /* there */
	size_t comparisons;  /* that are still allowed */
};

/* No value keeps to all parts: a reason like others, unless there is another choice. */
extern const char schema_parts_exclude[];

struct schema_part {
	const json_val *schema;
	bool chosen; /* another part stands for its anyOf or oneOf */
};
struct schema_parts {
	struct schema_part at[SCHEMA_PARTS_MAX];
	size_t count;
};

void schema_refuse(struct schema_merge *merge, const char *why);
bool schema_is_among(struct str text, const char *const *names);
/* Says nothing of the value: a title, a description. */
bool schema_is_told_only(struct str key);

/* Adds the schema's parts. False when one says what is not known here, leads nowhere, or they are too many. */
bool schema_gather(const struct schema_merge *merge, const json_val *schema, unsigned depth, struct schema_parts *out);
/* Something beside an anyOf or oneOf, which holds for all of its choices. */
bool schema_has_more_than_a_union(const json_val *schema);
/* The one reference that an allOf comes to, which need not be followed; NULL: it is more. */
const json_val *schema_sole_reference(const json_val *schema);

enum schema_types {
	SCHEMA_NULL = 1,
	SCHEMA_BOOLEAN = 2,
	SCHEMA_INTEGER = 4,
	SCHEMA_FRACTION = 8,
	SCHEMA_STRING = 16,
	SCHEMA_ARRAY = 32,
	SCHEMA_OBJECT = 64,
	SCHEMA_ANY = 127
};
/* What a value may be. Without a type the keywords tell, where they speak of one kind; 0: nothing. */
unsigned schema_types_of(struct schema_merge *merge, const struct schema_parts *parts);
void schema_write_types(struct schema_merge *merge, unsigned types);

/* An enum of the values that all parts allow; false when no part lists any. */
bool schema_write_values(struct schema_merge *merge, const struct schema_parts *parts);
void schema_write_string(struct schema_merge *merge, const struct schema_parts *parts);
void schema_write_number(struct schema_merge *merge, const struct schema_parts *parts);
/* The larger of the least and the smaller of the most; false when nothing lies between. */
bool schema_write_counts(struct schema_merge *merge, const struct schema_parts *parts, const char *least, const char *most);

#endif
