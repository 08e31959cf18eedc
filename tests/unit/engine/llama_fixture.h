/* The llama.cpp engine with a real model, SmolLM2-135M-Instruct, for the tests of one subject each. */
#ifndef TEST_ENGINE_LLAMA_FIXTURE_H
#define TEST_ENGINE_LLAMA_FIXTURE_H

#include "collect.h"

#include "core/log.h"
#include "provider/engine/engine_llama.h"

#define MODEL TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"

static const char question[] = "Write one sentence about the sea.";

static struct engine *shared;

static inline struct engine *load(uint32_t sequences, uint32_t context)
{
	struct error error = {0};
	/* one thread: llama.cpp's threads spin while they wait for each other, which is slow while other tests run beside */
	struct engine_llama_options options = {
	    .model_path = MODEL, .threads = 1, .max_sequences = sequences, .context_tokens = context};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine)
		fail_msg("%s", error.text);
	return engine;
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

#endif
