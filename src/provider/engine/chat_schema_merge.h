/* A schema that says the same with fewer allOf: where all parts speak of objects alone they become one object schema, which a
 * grammar can hold an answer to. Pure; thread: any. */
#ifndef PROVIDER_CHAT_SCHEMA_MERGE_H
#define PROVIDER_CHAT_SCHEMA_MERGE_H

#include "core/error.h"
#include "core/json.h"

/* Members are united, and so is what is required; what one part forbids (additionalProperties: false) is left out. Parts that
 * cannot be united are DB_E_UNSUPPORTED with the reason: in words of the schema language, never of the client. Other schemas
 * are written as they are. The schema unfolds (chat_schema_unfold.h), or this may take for ever. */
enum db_err chat_schema_merge(const json_val *schema, struct buf *out, struct error *error);

#endif
