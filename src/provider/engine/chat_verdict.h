/* The validator behind response_format (inference 4): the grammar holds a model to the schema while it writes, and here an
 * answer that ended by itself is judged: it fails with 422 when it does not keep to the schema, streamed or whole. One that
 * max_tokens or a stop string cut is given with its finish_reason, as OpenAI does, and paid for: the consumer asked for no
 * more, and an answer that costs nothing would be work for nothing.
 * Thread: one at a time. */
#ifndef PROVIDER_CHAT_VERDICT_H
#define PROVIDER_CHAT_VERDICT_H

#include "api/chat_request.h"
#include "core/arena.h"
#include "core/buf.h"
#include "core/str.h"

#include <stdbool.h>

struct chat_verdict {
	const char *schema; /* NULL: nothing is asked of the text */
	struct buf text;    /* of the answer so far; wiped */
};

/* What the request asks of its answer's text, in the arena: "" = any text, "{}" = any object. NULL: out of memory. */
const char *chat_verdict_schema(const struct chat_request *chat, struct arena *arena);

/* `schema_json` as above (NULL = ""); borrowed, it must outlive the verdict. */
void chat_verdict_init(struct chat_verdict *verdict, const char *schema_json);
void chat_verdict_free(struct chat_verdict *verdict);

void chat_verdict_add(struct chat_verdict *verdict, struct str content);

/* Of an answer that ended: NULL when it may stand, else the sentence to refuse it with; it holds nothing of the answer. */
const char *chat_verdict_refusal(const struct chat_verdict *verdict);

#endif
