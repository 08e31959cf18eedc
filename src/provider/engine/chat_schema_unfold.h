/* Parts of an `allOf` are written out where it stands, by us (chat_schema_merge.h) and by the library, which looks for no end:
 * a part that leads back to itself would take its stack, and references that double at each step its time. Pure; thread: any.
 */
#ifndef PROVIDER_CHAT_SCHEMA_UNFOLD_H
#define PROVIDER_CHAT_SCHEMA_UNFOLD_H

#include "core/error.h"
#include "core/json.h"

/* An allOf that comes to one reference is followed by the library and not by us. DB_E_UNSUPPORTED when what is to be written
 * out has no end or is too much, or a part refers to what cannot be found; the sentence begins with `place` and holds nothing
 * of the client's. Anything but an object is no schema, and passes. */
enum db_err chat_schema_unfolds(const char *place, const json_val *schema, bool by_library, struct error *error);

#endif
