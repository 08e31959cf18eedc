/* A double of a model: the vocabulary of SmolLM2, random weights of one layer, the same every time. Some tokens may have other
 * texts. */
#ifndef TEST_RANDOM_MODEL_H
#define TEST_RANDOM_MODEL_H

#include <ggml.h>
#include <gguf.h>
#include <stdlib.h>

#define SMOL TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"

struct renamed {
	int64_t token;
	const char *text;
};

static inline float random_weight(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (float)(int32_t)(*state >> 32) / 2147483648.0f;
}

static inline void random_tensor(struct gguf_context *out, struct ggml_context *memory, const char *name, int64_t columns,
                                 int64_t rows, bool ones)
{
	struct ggml_tensor *tensor = rows > 1 ? ggml_new_tensor_2d(memory, GGML_TYPE_F32, columns, rows)
	                                      : ggml_new_tensor_1d(memory, GGML_TYPE_F32, columns);
	uint64_t state = (uint64_t)columns * 31 + (uint64_t)rows + (unsigned char)name[strlen(name) / 2];
	ggml_set_name(tensor, name);
	for (int64_t i = 0; i < columns * rows; i++)
		((float *)tensor->data)[i] = ones ? 1.0f : random_weight(&state);
	gguf_add_tensor(out, tensor);
}

static inline void random_model_write(const char *path, const struct renamed *renamed, size_t count)
{
	const int64_t width = 64, wide = 64;
	struct gguf_init_params params = {.no_alloc = true};
	struct gguf_context *smol = gguf_init_from_file(SMOL, params), *out = gguf_init_empty();
	assert_non_null(smol);
	gguf_set_kv(out, smol);
	int64_t at = gguf_find_key(out, "tokenizer.ggml.tokens"), vocabulary = (int64_t)gguf_get_arr_n(out, at);
	const char **texts = calloc((size_t)vocabulary, sizeof *texts);
	for (int64_t i = 0; i < vocabulary; i++)
		texts[i] = gguf_get_arr_str(smol, gguf_find_key(smol, "tokenizer.ggml.tokens"), (size_t)i);
	for (size_t i = 0; i < count; i++)
		texts[renamed[i].token] = renamed[i].text;
	if (count)
		gguf_set_arr_str(out, "tokenizer.ggml.tokens", texts, (size_t)vocabulary);
	free(texts);
	gguf_set_val_u32(out, "llama.block_count", 1);
	gguf_set_val_u32(out, "llama.embedding_length", (uint32_t)width);
	gguf_set_val_u32(out, "llama.feed_forward_length", (uint32_t)wide);
	gguf_set_val_u32(out, "llama.attention.head_count", 4);
	gguf_set_val_u32(out, "llama.attention.head_count_kv", 2);
	gguf_set_val_u32(out, "llama.rope.dimension_count", 16);
	struct ggml_init_params size = {.mem_size = (size_t)(vocabulary * width * 4) + ((size_t)1 << 20)};
	struct ggml_context *memory = ggml_init(size);
	random_tensor(out, memory, "token_embd.weight", width, vocabulary, false);
	random_tensor(out, memory, "output_norm.weight", width, 1, true);
	random_tensor(out, memory, "blk.0.attn_norm.weight", width, 1, true);
	random_tensor(out, memory, "blk.0.ffn_norm.weight", width, 1, true);
	random_tensor(out, memory, "blk.0.attn_q.weight", width, width, false);
	random_tensor(out, memory, "blk.0.attn_k.weight", width, 32, false);
	random_tensor(out, memory, "blk.0.attn_v.weight", width, 32, false);
	random_tensor(out, memory, "blk.0.attn_output.weight", width, width, false);
	random_tensor(out, memory, "blk.0.ffn_gate.weight", width, wide, false);
	random_tensor(out, memory, "blk.0.ffn_up.weight", width, wide, false);
	random_tensor(out, memory, "blk.0.ffn_down.weight", wide, width, false);
	assert_true(gguf_write_to_file(out, path, false));
	ggml_free(memory);
	gguf_free(out);
	gguf_free(smol);
}

#endif
