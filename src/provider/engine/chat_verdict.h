/* The validator behind response_format (inference 4): the grammar holds a model to the schema while it writes, and here the
 * answer is judged when it has ended. It fails with 422 when
 * - it ended by itself and does not keep to the schema, streamed or whole;
 * - it was asked for whole and was cut (max_tokens, a stop string) before it was a document that keeps to the schema.
 * A stream that was cut ends with its finish_reason: what came has been seen, and the consumer knows that more is missing.
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
	bool whole;         /* the consumer gets the answer in one piece */
	struct buf text;    /* of the answer so far; wiped */
};

/* What the request asks of its answer's text, in the arena: "" = any text, "{}" = any object. NULL: out of memory. */
const char *chat_verdict_schema(const struct chat_request *chat, struct arena *arena);

/* `schema_json` as above (NULL = ""); borrowed, it must outlive the verdict. */
void chat_verdict_init(struct chat_verdict *verdict, const char *schema_json, bool whole);
void chat_verdict_free(struct chat_verdict *verdict);

void chat_verdict_add(struct chat_verdict *verdict, struct str content);

enum chat_ending { CHAT_ENDED, CHAT_CUT_AT_LENGTH, CHAT_CUT_AT_STOP };
/* NULL when the answer may stand, else the sentence to refuse it with; it holds nothing of the answer. */
const char *chat_verdict_refusal(const struct chat_verdict *verdict, enum chat_ending ending);

#endif
