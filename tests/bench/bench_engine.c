/* Decode speed of the engine, in this process. Alone it prints its figures; with a model's path (and a number of threads) it
 * takes orders from standard input, "STREAMS TOKENS" a line, and answers each with "TOKENS SECONDS", so that bench_engine.py
 * can alternate it with llama-server. The time of an order runs from the first submit to the last end, prompts included. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "provider/engine/engine.h"

#define MODEL       "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define MAX_STREAMS 32

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned open;
	uint64_t tokens;
	int failed;
};

static void leave(struct gate *gate, uint64_t tokens, bool failed)
{
	pthread_mutex_lock(&gate->lock);
	gate->open--;
	gate->tokens += tokens;
	gate->failed += failed;
	pthread_cond_signal(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

static void on_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	(void)call;
	(void)delta;
	(void)user;
}

static void on_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	(void)finish;
	engine_call_release(call);
	leave(user, usage->completion_tokens, false);
}

static void on_error(struct engine_call *call, int status, const char *reason, const char *text,
                     const struct chat_usage *so_far, void *user)
{
	(void)reason;
	fprintf(stderr, "%d %s\n", status, text);
	engine_call_release(call);
	leave(user, so_far->completion_tokens, true);
}

/* Streams of `tokens` tokens each, side by side; seconds, or a negative number when one failed. */
static double run(struct engine *engine, unsigned streams, unsigned tokens, uint64_t *total)
{
	static const struct engine_callbacks callbacks = {NULL, on_delta, on_finish, on_error};
	struct gate gate = {.open = streams};
	pthread_mutex_init(&gate.lock, NULL);
	pthread_cond_init(&gate.changed, NULL);
	uint64_t start_us = clock_mono_us();
	for (unsigned i = 0; i < streams; i++) {
		char messages[128];
		snprintf(messages, sizeof messages, "[{\"role\":\"user\",\"content\":\"Tell me story number %u about the sea.\"}]", i);
		struct arena *arena = arena_new(0);
		struct json_doc *doc = json_parse(str_of(messages), arena, NULL);
		struct chat_request chat = {.root = json_root(doc), .messages = json_root(doc), .n = 1, .max_tokens = tokens};
		chat.sampling.ignore_eos = true;
		struct engine_request request = {.chat = &chat};
		struct engine_call *call;
		struct error error;
		if (engine_submit(engine, &request, &callbacks, &gate, &call, &error)) {
			fprintf(stderr, "%s\n", error.text);
			leave(&gate, 0, true);
		}
		arena_free(arena);
	}
	pthread_mutex_lock(&gate.lock);
	while (gate.open)
		pthread_cond_wait(&gate.changed, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
	*total = gate.tokens;
	return gate.failed ? -1 : (double)(clock_mono_us() - start_us) / 1e6;
}

static int take_orders(struct engine *engine)
{
	unsigned streams, tokens;
	while (scanf("%u %u", &streams, &tokens) == 2) {
		uint64_t total;
		double seconds = run(engine, streams > MAX_STREAMS ? MAX_STREAMS : streams, tokens, &total);
		if (seconds < 0)
			return 1;
		printf("%llu %.6f\n", (unsigned long long)total, seconds);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct error error = {0};
	struct engine_llama_options options = {
	    .model_path = argc > 1 ? argv[1] : MODEL, .max_sequences = 8, .context_tokens = 8192};
	log_set_level(LOG_WARN);
	if (argc > 2)
		options.threads = (uint32_t)strtoul(argv[2], NULL, 10);
	if (argc < 2 && access(MODEL, R_OK))
		return 0;
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	int status = 0;
	if (argc > 1) {
		status = take_orders(engine);
	} else {
		static const unsigned streams[] = {1, 8};
		for (size_t i = 0; i < sizeof streams / sizeof *streams && !status; i++) {
			uint64_t total;
			double seconds = run(engine, streams[i], 128, &total);
			status = seconds < 0;
			if (!status)
				printf("bench engine_tokens_per_s_%u %.1f tokens/s\n", streams[i], (double)total / seconds);
		}
	}
	engine_free(engine);
	return status;
}
