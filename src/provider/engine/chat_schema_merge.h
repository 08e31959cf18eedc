/* A schema that says the same in fewer words: what an allOf joins becomes one schema, which a grammar can hold an answer to.
 * Pure; thread: any. */
#ifndef PROVIDER_CHAT_SCHEMA_MERGE_H
#define PROVIDER_CHAT_SCHEMA_MERGE_H

#include "core/error.h"
#include "core/json.h"

/* Parts of an allOf are united: the types, values, bounds, lengths and members that all of them allow; of unions the choices
 * that the other parts leave. An allOf that comes to one reference becomes that reference. A member that is required and not
 * described is described as anything that may stand there. DB_E_UNSUPPORTED with the reason, in words of the schema language,
 * never of the client, when that cannot be written, or nothing is left; it begins with `place`. Other schemas are written as
 * they are. The schema unfolds (chat_schema_unfold.h), or this may take for ever. */
enum db_err chat_schema_merge(const char *place, const json_val *schema, struct buf *out, struct error *error);

#endif
