/* Public system prompts (inference 10.4): texts that the model's publisher names in the manifest as nobody's secret. Of such a
 * prompt, and only up to the end of the system message, states are kept in a scope that all tenants share; whatever follows
 * stays its tenant's own. Nothing is public unless the publisher says so. */
#ifndef PROVIDER_ENGINE_LLAMA_PUBLIC_H
#define PROVIDER_ENGINE_LLAMA_PUBLIC_H

#include "core/error.h"
#include "core/str.h"
#include "provider/engine/chat_shim.h"

#define LLAMA_PUBLIC_MOST      64
#define LLAMA_PUBLIC_MAX_BYTES ((size_t)1 << 20)      /* of the file */
#define LLAMA_PUBLIC_SCOPE     "public-system-prompt" /* no tenant's: theirs are digests */

struct llama_public;

/* `prompts_json`: an array of texts. *out is NULL for an empty array. Renders and tokenises each once. Thread: where templates
 * may be used. DB_E_INVALID with a sentence; a text that the template has no place for is left out. */
enum db_err llama_public_new(const struct chat_templates *templates, struct str prompts_json, struct llama_public **out,
                             struct error *error);
void llama_public_free(struct llama_public *list);

/* How many of the prompt's tokens, from its first on, are a public system prompt in the template's clothes; 0 = none. */
size_t llama_public_tokens(const struct llama_public *list, const int32_t *tokens, size_t count);

#endif
