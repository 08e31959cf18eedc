/* Cutting and joining what llama_state_seq_get_data_ext gives for a plain attention cache, so that a prefix of a kept state can
 * be used, and a file of the prefix cache needs to hold only what a conversation added. Anything that does not look exactly as
 * this version of llama.cpp writes it is left alone (NULL). Pure; thread: any. */
#ifndef PROVIDER_ENGINE_LLAMA_STATE_H
#define PROVIDER_ENGINE_LLAMA_STATE_H

#include "provider/kvcache/kv_disk.h"

extern const struct kv_codec llama_state_codec;

/* Does the state hold exactly the tokens [0, count), in this order? */
bool llama_state_is_whole(const struct kv_blob *state, size_t count);

#endif
