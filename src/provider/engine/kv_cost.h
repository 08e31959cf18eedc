/* What a sequence costs in KV memory, from a GGUF file's metadata (inference 5.1): layers with full attention grow with every
 * token, layers with a sliding window until the window is full, recurrent layers have a state of fixed size. 16-bit K and V,
 * 32-bit recurrent state. Pure; thread: any. */
#ifndef PROVIDER_KV_COST_H
#define PROVIDER_KV_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_context;

struct kv_cost {
	uint32_t full_layers, window_layers, recurrent_layers, shared_layers; /* shared: they read another layer's cache */
	uint32_t window;                                                      /* tokens; 0 = no layer has one */
	uint64_t bytes_per_token;                                             /* of the layers with full attention */
	uint64_t window_bytes_per_token;                                      /* of those with a window, while it fills */
	uint64_t recurrent_bytes;
	bool estimated; /* the metadata could not be used: bytes_per_token comes from the size of the weights */
};

void kv_cost_read(const struct gguf_context *gguf, uint64_t weight_bytes, struct kv_cost *out);
/* From a file; estimated when it cannot be read. */
void kv_cost_read_file(const char *path, uint64_t weight_bytes, struct kv_cost *out);
/* A sequence of so many tokens. */
uint64_t kv_cost_bytes(const struct kv_cost *cost, uint64_t tokens);
/* The longest sequence that costs no more than `bytes`, at most `most` tokens. */
uint64_t kv_cost_tokens(const struct kv_cost *cost, uint64_t bytes, uint64_t most);

#endif
