/* The state of a sequence as llama.cpp serialises it, which the prefix cache cuts and joins. */
#include <stdlib.h>

#include "provider/engine/engine_llama_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	size_t from = data[0] % 16, to = data[1] % 32;
	struct kv_blob *state = kv_blob_new(size - 2);
	if (!state)
		return 0;
	memcpy(state->bytes, data + 2, size - 2);
	llama_state_is_whole(state, to);
	struct kv_blob *part = llama_state_codec.cut(state, from, to);
	struct kv_blob *head = from ? llama_state_codec.cut(state, 0, from) : NULL;
	if (part && head) {
		struct kv_blob *parts[2] = {head, part};
		struct kv_blob *whole = llama_state_codec.join(parts, 2);
		if (whole && !llama_state_is_whole(whole, to))
			abort();
		kv_blob_release(whole);
	}
	kv_blob_release(head);
	kv_blob_release(part);
	kv_blob_release(state);
	return 0;
}
