/* Embeddings of texts: an engine of its own beside, or instead of, the one that answers. It takes requests of CHAT_TASK_EMBED
 * only: each message is one input, a text or a content part {"type":"tokens","tokens":[...]}. For each a delta is told, in
 * order: `choice` is the input's index, `content` its vector in base64 (32-bit little-endian floats, of length 1).
 *
 * Models that were made for it pool as their files say; of others the mean over the tokens' last hidden states is taken.
 * Inputs run one after the other, each whole in one step. Thread: as engine.h says. */
#ifndef PROVIDER_ENGINE_EMBED_H
#define PROVIDER_ENGINE_EMBED_H

#include "provider/engine/engine.h"

#define ENGINE_EMBED_DEFAULT_CONTEXT 2048 /* tokens of one input */

struct llama_model;

/* Over a model that somebody else has loaded and keeps until the engine is freed. */
struct engine *engine_embed_new(struct llama_model *model, uint32_t threads, uint32_t context_tokens, struct error *error);
/* Over a model of its own. Blocks while the weights load. */
struct engine *engine_embed_load(const struct engine_llama_options *options, struct error *error);
/* Is the GGUF file a model that only embeds? */
bool engine_embed_only(const char *model_path);

#endif
