/* A scripted answer read as that of a model family: the family's own template renders the conversation, and its reader finds
 * thoughts and tool calls in the script's text. Only the vocabulary of a GGUF file is loaded, no weights. Thread: after it was
 * made, one at a time. */
#ifndef PROVIDER_SCRIPT_FAMILY_H
#define PROVIDER_SCRIPT_FAMILY_H

#include "provider/engine/chat_conversation.h"

struct script_family;

/* `vocabulary` is a GGUF file, `chat_template` the file of a Jinja template. NULL with a sentence. */
struct script_family *script_family_new(const char *vocabulary, const char *chat_template, struct error *error);
void script_family_free(struct script_family *family);
/* Fills *out (free with chat_prompt_free). Returns 0 or an HTTP-like status with a sentence. */
int script_family_render(const struct script_family *family, const struct chat_request *chat, struct arena *arena,
                         struct chat_prompt *out, struct error *error);

#endif
