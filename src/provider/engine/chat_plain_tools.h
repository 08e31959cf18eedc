/* Tools for a model whose chat template has no place for them. The conversation is rewritten so that any template can render
 * it: the tools and how to call them stand in the system message, calls of the history become the text a model would have said,
 * results become user messages. Calls look as most families write them: <tool_call>{"name":...,"arguments":{...}}</tool_call>.
 * Pure; thread: any. */
#ifndef PROVIDER_CHAT_PLAIN_TOOLS_H
#define PROVIDER_CHAT_PLAIN_TOOLS_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

#define CHAT_PLAIN_TOOLS_OPEN  "<tool_call>"
#define CHAT_PLAIN_TOOLS_CLOSE "</tool_call>"

/* Does the sanitised history (chat_history.h) hold calls or results? */
bool chat_plain_tools_in(struct str messages_json);

/* Appends the messages array rewritten. `tools_json` and `tool_choice_json` may be empty: then only the history is. */
enum db_err chat_plain_tools_write(struct str messages_json, struct str tools_json, struct str tool_choice_json,
                                   struct buf *out);

#endif
