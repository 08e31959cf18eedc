/* One tool call in one of the forms of chat_foreign_calls.h: its name and its arguments as JSON. Pure; thread: any. */
#ifndef PROVIDER_CHAT_FOREIGN_READ_H
#define PROVIDER_CHAT_FOREIGN_READ_H

#include "core/json.h"
#include "provider/engine/chat_foreign_calls.h"

/* `text` is what stands between the marks, trimmed. False when it is no call of one of the tools (an array in OpenAI's form).
 * Values of the XML form get the type that the tool's schema gives them. *name is the tools' own; the arguments are appended.
 */
bool chat_foreign_read(enum chat_foreign_mark form, struct str text, const json_val *tools, struct str *name,
                       struct buf *arguments);

/* Bytes of the JSON object that the text begins with, white space before it included; 0 when it is not complete, or none. */
size_t chat_foreign_object_len(struct str text);

#endif
