/* Tool schemas as engines of both provider generations can read them (http-api 2.5): every schema says its `type` as one
 * string. Pure; thread: any. */
#ifndef API_TOOL_SCHEMA_H
#define API_TOOL_SCHEMA_H

#include "core/json.h"

#define TOOL_SCHEMA_MAX_BODY  (4u << 20) /* larger bodies travel as they are */
#define TOOL_SCHEMA_MAX_DEPTH 64         /* deeper schemas travel as they are */

/* Does normalising this `tools` array change anything? */
bool tool_schema_needs_change(const json_val *tools);
/* Writes the array normalised. */
void tool_schema_write(struct json_writer *w, const json_val *tools);

#endif
