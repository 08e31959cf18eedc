#include "provider/engine/engine_embed.h"

#include "core/buf.h"
#include "core/clock.h"
#include "core/encode.h"
#include "core/list.h"
#include "provider/engine/chat_shim.h"
#include "provider/engine/engine_sync.h"
#include "provider/engine/engine_vocabulary.h"

#include <gguf.h>
#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define VECTOR_BASE64_MAX (4u << 20)

struct input {
	struct str text;
	int32_t *tokens; /* given instead of a text */
	size_t count;
};

struct embed_call {
	struct engine_call base;
	struct list_link link; /* in engine->waiting */
	struct engine_callbacks callbacks;
	void *user;
	struct arena *arena;
	struct input *inputs;
	size_t count;
	bool cancelled, paused; /* under the engine's lock */
	bool said;
	struct chat_usage usage;
};

struct embed_engine {
	struct engine base;
	struct llama_model *model;
	bool owns_model;
	const struct llama_vocab *vocab;
	struct llama_context *context;
	size_t input_tokens; /* the most that one input may have */
	uint32_t threads;
	struct engine_info info;
	pthread_t thread;
	bool thread_runs;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list waiting;
	bool running, stopping;
	uint64_t requests_done, tokens_done;
};

/* --- requests --- */

static void destroy_call(struct engine_call *base)
{
	struct embed_call *call = (struct embed_call *)base;
	arena_free(call->arena);
	free(call);
}

static bool read_tokens(struct arena *arena, const json_val *list, struct input *out)
{
	struct json_iter iter = json_iter(list);
	int64_t token;
	out->tokens = arena_alloc(arena, (json_len(list) + 1) * sizeof *out->tokens);
	if (!out->tokens)
		return false;
	for (json_val *value; (value = json_next(&iter, NULL));)
		out->tokens[out->count++] = json_as_i64(value, &token) && token >= 0 && token <= INT32_MAX ? (int32_t)token : -1;
	return true;
}

static bool read_input(struct arena *arena, const json_val *message, struct input *out)
{
	const json_val *content = json_get(message, "content");
	struct str text = STR_NONE;
	if (json_as_str(content, &text)) {
		out->text = arena_str(arena, text);
		return out->text.at != NULL;
	}
	struct json_iter parts = json_iter(content);
	const json_val *part = json_next(&parts, NULL);
	if (json_get(part, "tokens"))
		return read_tokens(arena, json_get(part, "tokens"), out);
	json_as_str(json_get(part, "text"), &text);
	out->text = arena_str(arena, text);
	return out->text.at != NULL;
}

static bool fill(struct embed_call *call, const struct chat_request *chat)
{
	struct json_iter iter = json_iter(chat->messages);
	call->arena = arena_new(0);
	call->inputs = call->arena ? arena_alloc(call->arena, (json_len(chat->messages) + 1) * sizeof *call->inputs) : NULL;
	if (!call->inputs)
		return false;
	for (json_val *message; (message = json_next(&iter, NULL));)
		if (!read_input(call->arena, message, &call->inputs[call->count++]))
			return false;
	return true;
}

/* --- one input --- */

static int32_t *tokens_of(struct embed_engine *engine, struct embed_call *call, const struct input *input, size_t *count)
{
	if (input->tokens) {
		*count = input->count;
		return input->tokens;
	}
	size_t most = input->text.len + 16; /* no vocabulary makes more tokens than bytes, but for a few special ones */
	int32_t *tokens = most <= INT32_MAX ? arena_alloc(call->arena, most * sizeof *tokens) : NULL;
	int32_t made =
	    tokens ? chat_shim_tokenize(engine->vocab, input->text.at, input->text.len, tokens, (int32_t)most, true, false) : -1;
	*count = made > 0 ? (size_t)made : 0;
	return made >= 0 ? tokens : NULL;
}

/* What is wrong with the tokens of an input; NULL when nothing is. */
static const char *fault_of(const struct embed_engine *engine, const int32_t *tokens, size_t count, size_t at, char text[160])
{
	int32_t known = llama_vocab_n_tokens(engine->vocab);
	if (count == 0)
		(void)snprintf(text, 160, "input %zu has no tokens", at);
	else if (count > engine->input_tokens)
		(void)snprintf(text, 160, "input %zu has %zu tokens, but the context length of this model is %zu tokens", at, count,
		               engine->input_tokens);
	else {
		for (size_t i = 0; i < count; i++)
			if (tokens[i] < 0 || tokens[i] >= known) {
				(void)snprintf(text, 160, "input %zu has a token that this model does not know", at);
				return text;
			}
		return NULL;
	}
	return text;
}

static bool run(struct embed_engine *engine, int32_t *tokens, size_t count)
{
	llama_memory_t memory = llama_get_memory(engine->context);
	if (memory)
		llama_memory_clear(memory, true);
	struct llama_batch batch = llama_batch_init((int32_t)count, 0, 1);
	if (!batch.token)
		return false;
	batch.n_tokens = (int32_t)count;
	for (size_t i = 0; i < count; i++) {
		batch.token[i] = tokens[i];
		batch.pos[i] = (llama_pos)i;
		batch.n_seq_id[i] = 1;
		batch.seq_id[i][0] = 0;
		batch.logits[i] = 1;
	}
	int32_t result = chat_shim_decode(engine->context, &batch);
	llama_batch_free(batch);
	return result == 0;
}

/* The vector of what ran last, as text. False when the model gave none that means anything. */
static bool vector_text(const struct embed_engine *engine, struct buf *out)
{
	const float *given = llama_get_embeddings_seq(engine->context, 0);
	size_t size = (size_t)llama_model_n_embd_out(engine->model);
	double sum = 0;
	for (size_t i = 0; given && i < size; i++)
		sum += (double)given[i] * (double)given[i];
	if (!given || !isfinite(sum) || sum <= 0 || buf_reserve(out, BASE64_ENCODED_LEN(size * sizeof(float))))
		return false;
	float *unit = malloc(size * sizeof *unit);
	if (!unit)
		return false;
	double scale = 1 / sqrt(sum);
	for (size_t i = 0; i < size; i++)
		unit[i] = (float)((double)given[i] * scale);
	out->len += base64_encode(unit, size * sizeof *unit, out->at + out->len);
	memset(unit, 0, size * sizeof *unit);
	free(unit);
	return true;
}

/* --- the life of a call, on the engine's thread --- */

static bool is_cancelled(struct embed_engine *engine, struct embed_call *call)
{
	pthread_mutex_lock(&engine->lock);
	while (call->paused && !call->cancelled && !engine->stopping)
		pthread_cond_wait(&engine->wake, &engine->lock);
	bool over = call->cancelled || engine->stopping;
	pthread_mutex_unlock(&engine->lock);
	return over;
}

static void fail(struct embed_call *call, int status, enum engine_reason reason, const char *text)
{
	call->callbacks.on_error(&call->base, status, reason, text, &call->usage, call->user);
}

/* False when the call has ended. */
static bool embed_one(struct embed_engine *engine, struct embed_call *call, size_t at)
{
	char text[160];
	size_t count;
	int32_t *tokens = tokens_of(engine, call, &call->inputs[at], &count);
	const char *fault = tokens ? fault_of(engine, tokens, count, at, text) : NULL;
	if (!tokens || fault) {
		fail(call, tokens ? 400 : 503, ENGINE_REASON_NONE, fault ? fault : "insufficient memory for the request");
		return false;
	}
	struct buf vector;
	buf_init(&vector, VECTOR_BASE64_MAX);
	bool good = run(engine, tokens, count) && vector_text(engine, &vector);
	if (good) {
		struct engine_delta delta = {.choice = (uint32_t)at, .content = buf_str(&vector)};
		call->usage.prompt_tokens += count;
		call->said = true;
		call->callbacks.on_delta(&call->base, &delta, call->user);
	} else {
		fail(call, 500, ENGINE_REASON_FAULT, "the model could not embed the input");
	}
	buf_free(&vector);
	return good;
}

static void embed_all(struct embed_engine *engine, struct embed_call *call)
{
	if (call->callbacks.on_started)
		call->callbacks.on_started(&call->base, call->user);
	for (size_t at = 0; at < call->count; at++) {
		if (is_cancelled(engine, call)) {
			if (call->said)
				call->callbacks.on_finish(&call->base, ENGINE_FINISH_CANCELLED, &call->usage, call->user);
			else
				fail(call, 499, ENGINE_REASON_CANCELLED, "request cancelled");
			return;
		}
		if (!embed_one(engine, call, at))
			return;
	}
	call->callbacks.on_finish(&call->base, ENGINE_FINISH_STOP, &call->usage, call->user);
}

static void *embed_main(void *user)
{
	struct embed_engine *engine = user;
	pthread_mutex_lock(&engine->lock);
	for (;;) {
		while (!engine->waiting.count && !engine->stopping)
			pthread_cond_wait(&engine->wake, &engine->lock);
		struct list_link *link = list_pop_front(&engine->waiting);
		if (!link)
			break;
		struct embed_call *call = LIST_OF(link, struct embed_call, link);
		bool stopping = engine->stopping;
		engine->running = true;
		pthread_mutex_unlock(&engine->lock);
		if (stopping)
			fail(call, 503, ENGINE_REASON_NONE, "the engine is shutting down");
		else
			embed_all(engine, call);
		uint64_t tokens = call->usage.prompt_tokens;
		engine_call_release(&call->base);
		pthread_mutex_lock(&engine->lock);
		engine->running = false;
		engine->requests_done++;
		engine->tokens_done += tokens;
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

/* --- what other threads call --- */

static int submit(struct engine *base, const struct engine_request *request, const struct engine_callbacks *callbacks,
                  void *user, struct engine_call **out, struct error *error)
{
	struct embed_engine *engine = (struct embed_engine *)base;
	int status = 0;
	if (request->chat->task != CHAT_TASK_EMBED) {
		error_set(error, DB_E_UNSUPPORTED, "this model only makes embeddings: use /v1/embeddings");
		return 400;
	}
	struct embed_call *call = calloc(1, sizeof *call);
	if (!call) {
		error_set(error, DB_E_NOMEM, "insufficient memory for the request");
		return 503;
	}
	engine_call_init(&call->base, base, destroy_call);
	call->callbacks = *callbacks;
	call->user = user;
	if (!fill(call, request->chat)) {
		error_set(error, DB_E_NOMEM, "insufficient memory for the request");
		engine_call_release(&call->base);
		return 503;
	}
	pthread_mutex_lock(&engine->lock);
	if (engine->stopping) {
		status = 503;
		error_set(error, DB_E_CLOSED, "the engine is shutting down");
	} else if (engine->waiting.count >= ENGINE_MAX_WAITING) {
		status = 429;
		error_set(error, DB_E_LIMIT, "queue full: %d requests are waiting", ENGINE_MAX_WAITING);
	} else {
		*out = &call->base;
		engine_call_hold(&call->base);
		list_push_back(&engine->waiting, &call->link);
		pthread_cond_broadcast(&engine->wake);
	}
	pthread_mutex_unlock(&engine->lock);
	if (status)
		engine_call_release(&call->base);
	return status;
}

static void cancel(struct engine_call *base)
{
	struct embed_engine *engine = (struct embed_engine *)base->engine;
	pthread_mutex_lock(&engine->lock);
	((struct embed_call *)base)->cancelled = true;
	pthread_cond_broadcast(&engine->wake);
	pthread_mutex_unlock(&engine->lock);
}

static void set_paused(struct engine_call *base, bool paused)
{
	struct embed_engine *engine = (struct embed_engine *)base->engine;
	pthread_mutex_lock(&engine->lock);
	((struct embed_call *)base)->paused = paused;
	pthread_cond_broadcast(&engine->wake);
	pthread_mutex_unlock(&engine->lock);
}

static void info(const struct engine *base, struct engine_info *out)
{
	*out = ((const struct embed_engine *)base)->info;
}

static void capacity(struct engine *base, struct engine_capacity *out)
{
	struct embed_engine *engine = (struct embed_engine *)base;
	pthread_mutex_lock(&engine->lock);
	*out = (struct engine_capacity){
	    .running = engine->running,
	    .waiting = (uint32_t)engine->waiting.count,
	    .max_concurrency = ENGINE_MAX_WAITING,
	    .budget_max_tokens = (uint64_t)ENGINE_MAX_WAITING * engine->input_tokens,
	    .requests_done = engine->requests_done,
	    .tokens_done = engine->tokens_done,
	};
	pthread_mutex_unlock(&engine->lock);
}

static void destroy(struct engine *base)
{
	struct embed_engine *engine = (struct embed_engine *)base;
	pthread_mutex_lock(&engine->lock);
	engine->stopping = true;
	pthread_cond_broadcast(&engine->wake);
	pthread_mutex_unlock(&engine->lock);
	if (engine->thread_runs)
		pthread_join(engine->thread, NULL);
	if (engine->context)
		llama_free(engine->context);
	if (engine->owns_model)
		llama_model_free(engine->model);
	pthread_cond_destroy(&engine->wake);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

static const struct engine_ops embed_ops = {
    .submit = submit, .cancel = cancel, .set_paused = set_paused, .info = info, .capacity = capacity, .free = destroy};

/* --- loading --- */

static bool make_context(struct embed_engine *engine, uint32_t context_tokens)
{
	uint32_t trained = (uint32_t)llama_model_n_ctx_train(engine->model);
	uint32_t most = context_tokens ? context_tokens : ENGINE_EMBED_DEFAULT_CONTEXT;
	struct llama_context_params params = llama_context_default_params();
	params.n_ctx = params.n_batch = params.n_ubatch = trained && trained < most ? trained : most;
	params.n_seq_max = 1;
	params.embeddings = true;
	params.n_threads = params.n_threads_batch = engine->threads ? (int32_t)engine->threads : chat_shim_default_threads();
	params.no_perf = true;
	engine->context = llama_init_from_model(engine->model, params);
	if (engine->context && llama_pooling_type(engine->context) == LLAMA_POOLING_TYPE_NONE) {
		llama_free(engine->context);
		params.pooling_type = LLAMA_POOLING_TYPE_MEAN;
		engine->context = llama_init_from_model(engine->model, params);
	}
	if (!engine->context)
		return false;
	engine->input_tokens = params.n_ctx;
	return true;
}

static void describe(struct embed_engine *engine)
{
	struct engine_info *out = &engine->info;
	if (llama_model_meta_val_str(engine->model, "general.architecture", out->architecture, sizeof out->architecture) < 0)
		out->architecture[0] = '\0';
	(void)snprintf(out->quantization, sizeof out->quantization, "%s", llama_ftype_name(llama_model_ftype(engine->model)));
	out->parameters = llama_model_n_params(engine->model);
	out->weight_bytes = llama_model_size(engine->model);
	out->memory_bytes = chat_shim_memory_bytes(engine->context, engine->owns_model);
	out->context_tokens = (uint32_t)engine->input_tokens;
	out->layers = (uint32_t)llama_model_n_layer(engine->model);
	out->template_render_ok = true;
	out->can_embed = true;
	out->only_embeds = true;
}

static struct engine *open_engine(struct llama_model *model, bool owns, uint32_t threads, uint32_t context_tokens,
                                  struct error *error)
{
	struct embed_engine *engine = calloc(1, sizeof *engine);
	if (!engine) {
		if (owns)
			llama_model_free(model);
		error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
		return NULL;
	}
	engine->base.ops = &embed_ops;
	engine->model = model;
	engine->owns_model = owns;
	engine->threads = threads;
	engine->vocab = llama_model_get_vocab(model);
	list_init(&engine->waiting);
	pthread_mutex_init(&engine->lock, NULL);
	engine_cond_init(&engine->wake);
	if (!make_context(engine, context_tokens)) {
		error_set(error, DB_E_NOMEM, "model load failed: insufficient memory for a context");
		goto failed;
	}
	describe(engine);
	if (pthread_create(&engine->thread, NULL, embed_main, engine)) {
		error_set(error, DB_E_NOMEM, "model load failed: no threads");
		goto failed;
	}
	engine->thread_runs = true;
	return &engine->base;
failed:
	destroy(&engine->base);
	return NULL;
}

struct engine *engine_embed_new(struct llama_model *model, uint32_t threads, uint32_t context_tokens, struct error *error)
{
	return open_engine(model, false, threads, context_tokens, error);
}

static void silent(enum ggml_log_level level, const char *text, void *user)
{
	(void)level;
	(void)text;
	(void)user;
}

struct engine *engine_embed_load(const struct engine_llama_options *options, struct error *error)
{
	uint64_t started_us = clock_mono_us();
	chat_shim_init();
	llama_log_set(silent, NULL);
	llama_backend_init();
	if (engine_vocabulary_check(options->model_path, error))
		return NULL;
	struct llama_model *model = llama_model_load_from_file(options->model_path, llama_model_default_params());
	if (!model) {
		error_set(error, DB_E_INVALID, "model load failed: the file cannot be read as a model");
		return NULL;
	}
	struct engine *engine = open_engine(model, true, options->threads, options->context_tokens, error);
	if (engine)
		((struct embed_engine *)engine)->info.load_time_ms = (clock_mono_us() - started_us) / 1000;
	return engine;
}

bool engine_embed_only(const char *model_path)
{
	static const char *const encoders[] = {"bert",         "modern-bert",  "nomic-bert", "nomic-bert-moe", "neo-bert",
	                                       "jina-bert-v2", "jina-bert-v3", "eurobert",   "gemma-embedding"};
	struct gguf_init_params params = {.no_alloc = true};
	struct gguf_context *file = gguf_init_from_file(model_path, params);
	int64_t key = file ? gguf_find_key(file, "general.architecture") : -1;
	bool found = false;
	if (key >= 0 && gguf_get_kv_type(file, key) == GGUF_TYPE_STRING)
		for (size_t i = 0; i < sizeof encoders / sizeof *encoders; i++)
			found = found || strcmp(gguf_get_val_str(file, key), encoders[i]) == 0;
	if (file)
		gguf_free(file);
	return found;
}
