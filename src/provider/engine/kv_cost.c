#include "provider/engine/kv_cost.h"

#include "core/log.h"
#include "core/str.h"

#include <gguf.h>
#include <stdio.h>
#include <string.h>

#define LAYERS_MAX        1024
#define HEADS_MAX         1024
#define HEAD_DIM_MAX      2048
#define WINDOW_MAX        2097152
#define STATE_MAX         (1 << 20) /* of any one recurrent dimension */
#define KV_VALUE_BYTES    2
#define STATE_VALUE_BYTES 4
#define FALLBACK_DIVISOR  25000
#define FALLBACK_LEAST    100000
#define SUSPICIOUS_BELOW  1000

/* Layers in a repeating pattern where the file does not list them; as llama.cpp fills them in. */
struct window_pattern {
	const char *architecture;
	uint32_t period; /* period - 1 with a window, then one without */
	bool full_first; /* ... or the one without comes first */
};
static const struct window_pattern patterns[] = {
    {"gemma2", 2, false},      {"gemma3", 6, false}, {"gemma3n", 5, false},   {"gpt-oss", 2, false},      {"cohere2", 4, false},
    {"cohere2moe", 4, true},   {"llama4", 4, false}, {"exaone4", 4, false},   {"exaone-moe", 4, false},   {"olmo2", 4, false},
    {"afmoe", 4, false},       {"laguna", 4, true},  {"mellum", 4, false},    {"muse-glimmer", 4, false}, {"plamo3", 8, false},
    {"smallthinker", 4, true}, {"phi3", 0, false},   {"deepseek4", 0, false},
};

struct reader {
	const struct gguf_context *gguf;
	char architecture[64];
	bool bad; /* a value is out of bounds */
};

static int64_t find(const struct reader *r, const char *name)
{
	char key[128];
	snprintf(key, sizeof key, "%s.%s", r->architecture, name);
	return gguf_find_key(r->gguf, key);
}

static int64_t element(enum gguf_type type, const void *data, size_t i)
{
	switch (type) {
	case GGUF_TYPE_UINT8:
		return ((const uint8_t *)data)[i];
	case GGUF_TYPE_INT8:
		return ((const int8_t *)data)[i];
	case GGUF_TYPE_BOOL:
		return ((const int8_t *)data)[i] != 0;
	case GGUF_TYPE_UINT16:
		return ((const uint16_t *)data)[i];
	case GGUF_TYPE_INT16:
		return ((const int16_t *)data)[i];
	case GGUF_TYPE_UINT32:
		return ((const uint32_t *)data)[i];
	case GGUF_TYPE_INT32:
		return ((const int32_t *)data)[i];
	case GGUF_TYPE_UINT64:
	case GGUF_TYPE_INT64:
		return ((const int64_t *)data)[i];
	default:
		return -1;
	}
}

/* A number, or element `layer` of a list of numbers; `absent` when there is none. Below 0 or above `most` is bad. */
static int64_t number_at(struct reader *r, const char *name, size_t layer, int64_t most, int64_t absent)
{
	int64_t key = find(r, name);
	if (key < 0)
		return absent;
	enum gguf_type type = gguf_get_kv_type(r->gguf, key);
	int64_t value = -1;
	if (type != GGUF_TYPE_ARRAY) {
		if (type != GGUF_TYPE_STRING)
			value = element(type, gguf_get_val_data(r->gguf, key), 0);
	} else if (gguf_get_arr_type(r->gguf, key) != GGUF_TYPE_STRING && layer < gguf_get_arr_n(r->gguf, key)) {
		value = element(gguf_get_arr_type(r->gguf, key), gguf_get_arr_data(r->gguf, key), layer);
	}
	if (value < 0 || value > most) {
		r->bad = true;
		return 0;
	}
	return value;
}

static int64_t number(struct reader *r, const char *name, int64_t most, int64_t absent)
{
	return number_at(r, name, 0, most, absent);
}

static const struct window_pattern *pattern_of(const char *architecture)
{
	for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
		if (strcmp(patterns[i].architecture, architecture) == 0)
			return &patterns[i];
	return NULL;
}

static bool has_window(struct reader *r, uint32_t layer, uint32_t window)
{
	if (!window)
		return false;
	const struct window_pattern *pattern = pattern_of(r->architecture);
	int64_t key = find(r, "attention.sliding_window_pattern");
	if (key >= 0 && gguf_get_kv_type(r->gguf, key) == GGUF_TYPE_ARRAY)
		return number_at(r, "attention.sliding_window_pattern", layer, 1, 0) != 0;
	int64_t period = number(r, "attention.sliding_window_pattern", LAYERS_MAX, pattern ? pattern->period : 1);
	if (period == 0)
		return true;
	return pattern && pattern->full_first ? layer % period != 0 : layer % period < period - 1;
}

/* A layer without KV heads is a recurrent one, and so are all but every n-th where the file says n. */
static bool is_recurrent(struct reader *r, uint32_t layer, int64_t kv_heads)
{
	int64_t interval = number(r, "full_attention_interval", LAYERS_MAX, 0);
	if (interval > 0)
		return (layer + 1) % interval != 0;
	return kv_heads == 0;
}

/* Of Mamba and its relatives: the last inputs of the convolution and the state itself. */
static uint64_t recurrent_bytes(struct reader *r)
{
	uint64_t embedding = (uint64_t)number(r, "embedding_length", STATE_MAX, 0);
	uint64_t short_conv = (uint64_t)number(r, "shortconv.l_cache", 64, 0);
	if (short_conv)
		return (short_conv - 1) * embedding * STATE_VALUE_BYTES;
	uint64_t kernel = (uint64_t)number(r, "ssm.conv_kernel", 64, 0);
	uint64_t inner = (uint64_t)number(r, "ssm.inner_size", STATE_MAX, 0);
	uint64_t state = (uint64_t)number(r, "ssm.state_size", STATE_MAX, 0);
	uint64_t groups = (uint64_t)number(r, "ssm.group_count", HEADS_MAX, 0);
	uint64_t head = (uint64_t)number(r, "wkv.head_size", HEAD_DIM_MAX, 0);
	uint64_t mamba = (kernel ? kernel - 1 : 0) * (inner + 2 * groups * state) + state * inner;
	uint64_t rwkv = head ? 2 * embedding + embedding * head : 0;
	return (mamba + rwkv) * STATE_VALUE_BYTES;
}

static void add_layer(struct reader *r, uint32_t layer, struct kv_cost *out)
{
	int64_t heads = number_at(r, "attention.head_count", layer, HEADS_MAX, 0);
	int64_t kv_heads = number_at(r, "attention.head_count_kv", layer, HEADS_MAX, heads);
	if (is_recurrent(r, layer, kv_heads)) {
		out->recurrent_layers++;
		out->recurrent_bytes += recurrent_bytes(r);
		return;
	}
	bool both = find(r, "ssm.inner_size") >= 0 && strcmp(r->architecture, "falcon-h1") == 0;
	if (both)
		out->recurrent_bytes += recurrent_bytes(r);
	bool window = has_window(r, layer, out->window);
	int64_t width = heads ? number(r, "embedding_length", STATE_MAX, 0) / heads : 0;
	int64_t key = number(r, "attention.key_length", HEAD_DIM_MAX, width);
	int64_t value = number(r, "attention.value_length", HEAD_DIM_MAX, width);
	if (window) {
		key = number(r, "attention.key_length_swa", HEAD_DIM_MAX, key);
		value = number(r, "attention.value_length_swa", HEAD_DIM_MAX, value);
		out->window_layers++;
		out->window_bytes_per_token += (uint64_t)kv_heads * (uint64_t)(key + value) * KV_VALUE_BYTES;
	} else {
		out->full_layers++;
		out->bytes_per_token += (uint64_t)kv_heads * (uint64_t)(key + value) * KV_VALUE_BYTES;
	}
}

static bool read_shape(const struct gguf_context *gguf, struct kv_cost *out)
{
	struct reader r = {.gguf = gguf};
	int64_t key = gguf_find_key(gguf, "general.architecture");
	if (key < 0 || gguf_get_kv_type(gguf, key) != GGUF_TYPE_STRING)
		return false;
	if (!str_copy(str_of(gguf_get_val_str(gguf, key)), r.architecture, sizeof r.architecture))
		return false;
	int64_t layers = number(&r, "block_count", LAYERS_MAX, 0);
	int64_t shared = number(&r, "attention.shared_kv_layers", layers, 0);
	out->window = (uint32_t)number(&r, "attention.sliding_window", WINDOW_MAX, 0);
	out->shared_layers = (uint32_t)shared;
	for (int64_t i = 0; i < layers - shared && !r.bad; i++)
		add_layer(&r, (uint32_t)i, out);
	if (!out->window_layers)
		out->window = 0;
	return !r.bad && layers > shared;
}

static uint64_t fallback(uint64_t weight_bytes)
{
	uint64_t guess = weight_bytes / FALLBACK_DIVISOR;
	return guess > FALLBACK_LEAST ? guess : FALLBACK_LEAST;
}

void kv_cost_read(const struct gguf_context *gguf, uint64_t weight_bytes, struct kv_cost *out)
{
	*out = (struct kv_cost){0};
	bool usable = gguf && read_shape(gguf, out);
	if (usable && (out->recurrent_layers || out->bytes_per_token + out->window_bytes_per_token >= SUSPICIOUS_BELOW))
		return;
	if (usable)
		log_warn("engine.kv_cost", "the metadata gives only %llu bytes per token: estimating from the weights",
		         (unsigned long long)out->bytes_per_token);
	*out = (struct kv_cost){.bytes_per_token = fallback(weight_bytes), .estimated = true};
}

void kv_cost_read_file(const char *path, uint64_t weight_bytes, struct kv_cost *out)
{
	struct gguf_context *gguf = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true, .ctx = NULL});
	kv_cost_read(gguf, weight_bytes, out);
	gguf_free(gguf);
}

uint64_t kv_cost_bytes(const struct kv_cost *cost, uint64_t tokens)
{
	uint64_t inside = tokens < cost->window ? tokens : cost->window;
	return tokens * cost->bytes_per_token + inside * cost->window_bytes_per_token + cost->recurrent_bytes;
}

uint64_t kv_cost_tokens(const struct kv_cost *cost, uint64_t bytes, uint64_t most)
{
	uint64_t fits = 0;
	for (uint64_t step = UINT64_C(1) << 32; step; step >>= 1)
		if (step <= most - fits && kv_cost_bytes(cost, fits + step) <= bytes)
			fits += step;
	return fits;
}
