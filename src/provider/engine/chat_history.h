/* The history of a conversation as chat templates can take it (inference 2.1, 3.1, 3.3, 3.4).
 *
 * Bodies come from many clients: with nulls, with the older function_call, with control words of a reasoning model copied into
 * the history. What is written here is in one shape:
 *   - role is system, user, assistant or tool ("developer" becomes system, but for GPT-OSS, whose template knows it; "function"
 *     becomes tool)
 *   - content is always there: a string or an array of {"type":"text","text"} (parts of other types stand as they are)
 *   - no null anywhere; tool_calls are {"id","type","function":{"name","arguments"}} with arguments decoded to an object
 *   - what a model said is free of channel tags
 * Pure; thread: any. */
#ifndef PROVIDER_CHAT_HISTORY_H
#define PROVIDER_CHAT_HISTORY_H

#include "core/buf.h"
#include "core/error.h"
#include "core/json.h"

struct chat_history_options {
	bool gpt_oss; /* the family's corrections (inference 3.4) */
};

/* Is this the family that needs corrections? Of a model id or an architecture's name. */
bool chat_history_is_gpt_oss(struct str model);

/* Appends the messages sanitised. DB_E_INVALID with a sentence (it names places, never text) for a history that no template
 * could render: the client's fault, 400. DB_E_LIMIT or DB_E_NOMEM when `out` is full. */
enum db_err chat_history_write(const json_val *messages, const struct chat_history_options *options, struct buf *out,
                               struct error *error);

/* Appends the tools array: schemas repaired so that each says its type in one word (http-api 2.5), entries without a function
 * or a name left out, nulls removed, GPT-OSS corrections. */
enum db_err chat_history_write_tools(const json_val *tools, const struct chat_history_options *options, struct buf *out);

/* Text of a model without channel tags (inference 3.3): what the last final channel said, or nothing when channels are there
 * but no final one; stray tags dropped. */
enum db_err chat_history_strip_channels(struct str text, struct buf *out);

#endif
