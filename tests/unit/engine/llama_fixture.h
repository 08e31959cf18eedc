/* The llama.cpp engine with a real model, SmolLM2-135M-Instruct, for the tests of one subject each. */
#ifndef TEST_ENGINE_LLAMA_FIXTURE_H
#define TEST_ENGINE_LLAMA_FIXTURE_H

#include "collect.h"

#include "core/log.h"
#include "provider/engine/engine_llama.h"

#define GEMMA TEST_SOURCE_DIR "/build/deps/models/gemma-3-270m-q4_k_m.gguf"
#define MODEL TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"

static const char question[] = "Write one sentence about the sea.";

static struct engine *shared;

static inline struct engine *load_file(const char *path, uint32_t sequences, uint32_t context)
{
	struct error error = {0};
	/* one thread: llama.cpp's threads spin while they wait for each other, which is slow while other tests run beside */
	struct engine_llama_options options = {
	    .model_path = path, .threads = 1, .max_sequences = sequences, .context_tokens = context};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine)
		fail_msg("%s", error.text);
	return engine;
}

static inline struct engine *load(uint32_t sequences, uint32_t context)
{
	return load_file(MODEL, sequences, context);
}

static inline struct llama_engine *inside(struct engine *engine)
{
	return (struct llama_engine *)engine;
}

static inline int start_shared(void **state)
{
	(void)state;
	log_set_level(LOG_WARN);
	shared = load(8, 4096);
	return 0;
}

static inline int stop_shared(void **state)
{
	(void)state;
	engine_free(shared);
	return 0;
}

static inline struct request ask_for(const char *text, int64_t max_tokens)
{
	struct request request = ask(text);
	request.chat.max_tokens = max_tokens;
	return request;
}

/* The answer to a request that must end well; the caller frees it. */
static inline char *answer(struct engine *engine, const struct request *request)
{
	struct collector c;
	run(engine, request, &c);
	if (c.status)
		fail_msg("%d %s", c.status, c.text);
	assert_false(c.split_character);
	char *text = strdup(content_of(&c));
	collector_free(&c);
	return text;
}

static inline char *long_text(size_t words)
{
	char *text = malloc(words * 5 + 1);
	for (size_t i = 0; i < words; i++)
		memcpy(text + i * 5, "word ", 6);
	return text;
}

static inline void wait_idle(struct engine *engine, struct engine_capacity *capacity)
{
	do {
		sched_yield();
		engine_capacity(engine, capacity);
	} while (capacity->running + capacity->waiting);
}

/* The same model driven by hand: greedy decoding over the rendered prompt with plain llama.h calls. */
static inline char *reference_answer(struct engine *model, const char *prompt, size_t steps, enum llama_flash_attn_type flash,
                                     uint64_t *prompt_tokens)
{
	struct llama_engine *engine = inside(model);
	struct llama_context_params params = llama_context_default_params();
	params.n_ctx = 1024;
	params.flash_attn_type = flash;
	params.n_threads = params.n_threads_batch = llama_n_threads(engine->context);
	struct llama_context *context = llama_init_from_model(engine->model, params);
	assert_non_null(context);
	llama_token tokens[1024], next;
	int32_t count = llama_tokenize(engine->vocab, prompt, (int32_t)strlen(prompt), tokens, 1024, true, true);
	assert_true(count > 0);
	*prompt_tokens = (uint64_t)count;
	struct buf text;
	buf_init(&text, 1 << 20);
	struct llama_batch batch = llama_batch_get_one(tokens, count);
	for (size_t i = 0; i < steps; i++) {
		assert_int_equal(llama_decode(context, batch), 0);
		const float *logits = llama_get_logits_ith(context, -1);
		next = 0;
		for (int32_t id = 1; id < llama_vocab_n_tokens(engine->vocab); id++)
			if (logits[id] > logits[next])
				next = id;
		if (llama_vocab_is_eog(engine->vocab, next))
			break;
		char piece[256];
		buf_append(&text, piece, (size_t)llama_token_to_piece(engine->vocab, next, piece, sizeof piece, 0, false));
		batch = llama_batch_get_one(&next, 1);
	}
	llama_free(context);
	buf_append_byte(&text, '\0');
	char *copy = strdup(text.at);
	buf_free(&text);
	return copy;
}

#endif
