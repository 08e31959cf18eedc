/* The provider's part of blind mode (docs/reference/blind-mode.md): a body that a consumer sealed is run only within the limits
 * that stand inside it, only once, and only while it is fresh; what was done is signed. Thread: the loop's. */
#ifndef PROVIDER_NODE_BLIND_H
#define PROVIDER_NODE_BLIND_H

#include "api/chat_request.h"
#include "core/replay.h"
#include "wire/blind.h"
#include "wire/message.h"

#define NODE_BLIND_WINDOW_S   600     /* how old a sealed body may be, queueing included, and how far clocks may differ */
#define NODE_BLIND_REMEMBERED 1000000 /* sealed bodies in one window */

/* What is kept of one blind request. */
struct node_blind {
	char consumer_key[48]; /* base64 */
	int64_t max_prompt_tokens;
	struct blind_transcript transcript; /* of the chunks that were made */
};

/* Whether an opened body may run. A body and its message must agree that it is blind, so that a coordinator cannot have it run
 * as an ordinary one. NULL, with `limits` set in `chat` when it is blind; else the refusal, which quotes nothing. */
const char *node_blind_admit(struct replay *seen, const struct wire_request *message, struct chat_request *chat);
void node_blind_begin(struct node_blind *blind, const struct wire_request *message);

#endif
