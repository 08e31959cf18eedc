/* From a request to the prompt: what of the body the template sees, in the form it can take (inference 2.1).
 * Thread: chat_conversation_copy the caller's, chat_conversation_render the engine's prepare thread. */
#ifndef PROVIDER_CHAT_CONVERSATION_H
#define PROVIDER_CHAT_CONVERSATION_H

#include "api/chat_request.h"
#include "core/arena.h"
#include "core/error.h"
#include "provider/engine/chat_shim.h"

/* Takes over what rendering needs, sanitised, into the arena. `architecture` is the model's. Returns 0 or an HTTP-like status
 * (400 for what the client did, 503 for memory) with a sentence. */
int chat_conversation_copy(const struct chat_request *chat, struct str architecture, struct arena *arena,
                           struct chat_conversation *out, struct error *error);

/* As chat_prompt_render, for a template that may have no place for tools. The conversation is changed: it then holds what was
 * rendered. */
int chat_conversation_render(const struct chat_templates *templates, struct chat_conversation *conversation,
                             struct arena *arena, struct chat_prompt *out, struct error *error);

#endif
