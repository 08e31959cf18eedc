/* The engine in this process. Alone it prints its decode speed. With arguments it takes orders from standard input, one a line,
 * and answers each with one line, so that bench_engine.py can alternate it with llama-server:
 *
 *   bench_engine MODEL [THREADS [SEQUENCES [CONTEXT]]]
 *
 *   decode STREAMS TOKENS     -> "TOKENS SECONDS": from the first submit to the last end, prompts included
 *   first WORDS SALT          -> "PROMPT_TOKENS SECONDS": submit to first token of a prompt of that many words
 *   gap STREAMS TOKENS WORDS  -> "P50 P50 P50 P95 RATIO": gaps in seconds between the tokens of the streams, undisturbed for so
 *                                many tokens before and after a prompt of that many words runs beside them, and while it does;
 *                                the p95 of those over the undisturbed gap of streams as long
 *   say NUMBER TOKENS         -> a greedy answer as a JSON string
 *   repeat TOKENS             -> "TOKENS SECONDS" of an answer that repeats itself
 *   memory                    -> "BYTES": resident now
 *
 * DARKBLOOM_BENCH_CACHE names a folder for a prefix cache, which then is used; DARKBLOOM_BENCH_GUESSES=0 turns speculation off.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"
#include "provider/engine/engine.h"
#include "provider/kvcache/kv_cache.h"

#define MODEL       "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define MAX_STREAMS 64
#define MAX_TOKENS  2048 /* of a stream whose tokens are timed */

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned open;
	uint64_t tokens;
	int failed;
};

struct stream {
	struct gate *gate;
	struct engine_call *call;
	struct arena *arena;
	struct chat_request chat;
	uint64_t started_us, prompt_tokens;
	uint64_t times_us[MAX_TOKENS]; /* when each delta came */
	size_t times;
	struct buf *text; /* of the answer; NULL: nobody wants it */
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
	struct stream *stream = user;
	pthread_mutex_lock(&stream->gate->lock);
	if (stream->text)
		buf_append_str(stream->text, delta->content);
	if (stream->times < MAX_TOKENS)
		stream->times_us[stream->times++] = clock_mono_us();
	pthread_cond_signal(&stream->gate->changed);
	pthread_mutex_unlock(&stream->gate->lock);
}

static void on_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	(void)finish;
	struct stream *stream = user;
	stream->prompt_tokens = usage->prompt_tokens;
	engine_call_release(call);
	leave(stream->gate, usage->completion_tokens, false);
}

static void on_error(struct engine_call *call, int status, enum engine_reason reason, const char *text,
                     const struct chat_usage *so_far, void *user)
{
	(void)reason;
	struct stream *stream = user;
	if (status != 499)
		fprintf(stderr, "%d %s\n", status, text);
	engine_call_release(call);
	leave(stream->gate, so_far->completion_tokens, status != 499);
}

static const char *scope = ""; /* of the prefix cache; empty: none */

static void start(struct engine *engine, struct gate *gate, struct stream *stream, const char *prompt, unsigned tokens)
{
	struct buf *text = stream->text;
	static const struct engine_callbacks callbacks = {NULL, on_delta, on_finish, on_error};
	struct buf messages;
	struct json_writer w;
	buf_init(&messages, 1 << 20);
	json_writer_init(&w, &messages);
	json_begin_array(&w);
	json_begin_object(&w);
	json_put_str(&w, "role", STR("user"));
	json_put_str(&w, "content", str_of(prompt));
	json_end_object(&w);
	json_end_array(&w);
	*stream = (struct stream){.gate = gate, .arena = arena_new(0), .text = text};
	struct json_doc *doc = json_parse(buf_str(&messages), stream->arena, NULL);
	stream->chat = (struct chat_request){.root = json_root(doc), .messages = json_root(doc), .n = 1, .max_tokens = tokens};
	stream->chat.sampling.ignore_eos = true;
	struct engine_request request = {.chat = &stream->chat, .tenant = STR("bench"), .cache_scope = str_of(scope)};
	struct error error;
	pthread_mutex_lock(&gate->lock);
	gate->open++;
	pthread_mutex_unlock(&gate->lock);
	stream->started_us = clock_mono_us();
	if (engine_submit(engine, &request, &callbacks, stream, &stream->call, &error)) {
		fprintf(stderr, "%s\n", error.text);
		leave(gate, 0, true);
	}
	buf_free(&messages);
	arena_free(stream->arena);
}

static void gate_init(struct gate *gate)
{
	*gate = (struct gate){0};
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->changed, NULL);
}

static bool wait_for_all(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->open)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
	return !gate->failed;
}

/* Waits until the stream has `tokens` deltas or everything has ended. */
static void wait_for_tokens(struct stream *stream, size_t tokens)
{
	pthread_mutex_lock(&stream->gate->lock);
	while (stream->times < tokens && stream->gate->open)
		pthread_cond_wait(&stream->gate->changed, &stream->gate->lock);
	pthread_mutex_unlock(&stream->gate->lock);
}

static struct stream streams[MAX_STREAMS];

/* Streams of `tokens` tokens each, side by side; seconds, or a negative number when one failed. */
static double decode(struct engine *engine, unsigned count, unsigned tokens, uint64_t *total)
{
	struct gate gate;
	gate_init(&gate);
	uint64_t start_us = clock_mono_us();
	for (unsigned i = 0; i < count; i++) {
		char prompt[96];
		snprintf(prompt, sizeof prompt, "Tell me story number %u about the sea.", i);
		start(engine, &gate, &streams[i], prompt, tokens);
	}
	bool ok = wait_for_all(&gate);
	*total = gate.tokens;
	return ok ? (double)(clock_mono_us() - start_us) / 1e6 : -1;
}

/* Words of one token each, a different beginning for each salt. */
static void long_prompt(struct buf *out, unsigned words, unsigned salt)
{
	static const char *const some[] = {"the", "sea", "is", "calm", "and", "a", "ship", "with", "blue", "water", "was", "there"};
	char head[64];
	snprintf(head, sizeof head, "Story %u:", salt);
	buf_append_c(out, head);
	uint32_t state = salt * 2654435761u + 1;
	for (unsigned i = 0; i < words; i++) {
		state = state * 1664525u + 1013904223u;
		buf_append_c(out, " ");
		buf_append_c(out, some[(state >> 16) % (sizeof some / sizeof *some)]);
	}
	buf_append(out, "", 1);
}

static bool first(struct engine *engine, unsigned words, unsigned salt)
{
	struct gate gate;
	struct buf prompt;
	gate_init(&gate);
	buf_init(&prompt, 1 << 20);
	long_prompt(&prompt, words, salt);
	start(engine, &gate, &streams[0], prompt.at, 2);
	bool ok = wait_for_all(&gate) && streams[0].times > 0;
	buf_free(&prompt);
	if (ok)
		printf("%llu %.6f\n", (unsigned long long)streams[0].prompt_tokens,
		       (double)(streams[0].times_us[0] - streams[0].started_us) / 1e6);
	return ok;
}

static int by_size(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

struct gaps {
	uint64_t us[MAX_STREAMS * MAX_TOKENS];
	size_t count;
};

static bool within(const struct stream *stream, size_t at, uint64_t from_us, uint64_t to_us)
{
	return stream->times_us[at] > from_us && stream->times_us[at] <= to_us;
}

/* The gaps that end within the period. */
static void collect(const struct stream *stream, uint64_t from_us, uint64_t to_us, struct gaps *gaps)
{
	for (size_t i = 1; i < stream->times; i++)
		if (within(stream, i, from_us, to_us))
			gaps->us[gaps->count++] = stream->times_us[i] - stream->times_us[i - 1];
}

static double percentile(struct gaps *gaps, unsigned percent)
{
	if (!gaps->count)
		return 0;
	qsort(gaps->us, gaps->count, sizeof *gaps->us, by_size);
	return (double)gaps->us[(gaps->count - 1) * percent / 100] / 1e6;
}

/* What the gap is when nothing disturbs the streams, seen at two lengths of them. */
struct undisturbed {
	double before_us, after_us;
	size_t before, after; /* tokens */
};

/* Streams slow down as they grow, so each gap is held against that of streams as long: in millionths. */
static void collect_ratios(const struct stream *stream, uint64_t from_us, uint64_t to_us, const struct undisturbed *alone,
                           struct gaps *ratios)
{
	double per_token = (alone->after_us - alone->before_us) / (double)(alone->after - alone->before);
	for (size_t i = 1; i < stream->times; i++) {
		double alone_us = alone->before_us + ((double)i - (double)alone->before) * per_token;
		if (within(stream, i, from_us, to_us))
			ratios->us[ratios->count++] = (uint64_t)((double)(stream->times_us[i] - stream->times_us[i - 1]) * 1e6 / alone_us);
	}
}

/* A period of `tokens` tokens of the first stream, whose middle is written to `middle`. */
struct period {
	uint64_t from_us, to_us;
	size_t middle;
};
static struct period pass(struct stream *stream, size_t tokens)
{
	struct period period = {.from_us = clock_mono_us(), .middle = stream->times + tokens / 2};
	wait_for_tokens(stream, stream->times + tokens);
	period.to_us = clock_mono_us();
	return period;
}

static void print_gaps(unsigned count, const struct period *before, const struct period *after)
{
	static struct gaps quiet, later, under, ratios;
	quiet.count = later.count = under.count = ratios.count = 0;
	for (unsigned i = 0; i < count; i++) {
		collect(&streams[i], before->from_us, before->to_us, &quiet);
		collect(&streams[i], after->from_us, after->to_us, &later);
		collect(&streams[i], before->to_us, after->from_us, &under);
	}
	double quiet_s = percentile(&quiet, 50), later_s = percentile(&later, 50);
	struct undisturbed alone = {quiet_s * 1e6, later_s * 1e6, before->middle, after->middle};
	for (unsigned i = 0; i < count; i++)
		collect_ratios(&streams[i], before->to_us, after->from_us, &alone, &ratios);
	printf("%.6f %.6f %.6f %.6f %.3f\n", quiet_s, later_s, percentile(&under, 50), percentile(&under, 95),
	       percentile(&ratios, 95));
}

/* The streams run alone, then beside the long prompt, then alone again. */
static bool gap(struct engine *engine, unsigned count, unsigned tokens, unsigned words)
{
	struct gate gate;
	struct buf prompt;
	struct stream *intruder = &streams[count];
	gate_init(&gate);
	buf_init(&prompt, 1 << 20);
	long_prompt(&prompt, words, tokens + words);
	for (unsigned i = 0; i < count; i++) {
		char text[96];
		snprintf(text, sizeof text, "Tell me story number %u about the sea.", i);
		start(engine, &gate, &streams[i], text, MAX_TOKENS);
	}
	for (unsigned i = 0; i < count; i++)
		wait_for_tokens(&streams[i], 8);
	struct period before = pass(&streams[0], tokens);
	start(engine, &gate, intruder, prompt.at, 1);
	wait_for_tokens(intruder, 1);
	struct period after = pass(&streams[0], tokens);
	if (intruder->times)
		after.from_us = intruder->times_us[0];
	for (unsigned i = 0; i < count; i++)
		engine_cancel(streams[i].call);
	bool ok = wait_for_all(&gate) && intruder->times > 0;
	buf_free(&prompt);
	if (ok)
		print_gaps(count, &before, &after);
	return ok;
}

static bool say(struct engine *engine, unsigned number, unsigned tokens)
{
	struct gate gate;
	struct buf text, json;
	struct json_writer w;
	char prompt[96];
	gate_init(&gate);
	buf_init(&text, 1 << 20);
	buf_init(&json, 8 << 20);
	snprintf(prompt, sizeof prompt, "Tell me story number %u about the sea.", number);
	streams[0].text = &text;
	start(engine, &gate, &streams[0], prompt, tokens);
	bool ok = wait_for_all(&gate);
	streams[0].text = NULL;
	json_writer_init(&w, &json);
	json_str(&w, buf_str(&text));
	if (ok)
		printf("%.*s\n", STR_ARG(buf_str(&json)));
	buf_free(&text);
	buf_free(&json);
	return ok;
}

static bool repeat(struct engine *engine, unsigned tokens)
{
	static const char prompt[] =
	    "Repeat this line again and again: the red ship, the blue ship, the green ship, the white ship.";
	struct gate gate;
	gate_init(&gate);
	uint64_t start_us = clock_mono_us();
	start(engine, &gate, &streams[0], prompt, tokens);
	bool ok = wait_for_all(&gate);
	if (ok)
		printf("%llu %.6f\n", (unsigned long long)gate.tokens, (double)(clock_mono_us() - start_us) / 1e6);
	return ok;
}

static bool memory(void)
{
	unsigned long long size, resident;
	FILE *file = fopen("/proc/self/statm", "r");
	bool ok = file && fscanf(file, "%llu %llu", &size, &resident) == 2;
	if (file)
		fclose(file);
	if (ok)
		printf("%llu\n", resident * (unsigned long long)sysconf(_SC_PAGESIZE));
	return ok;
}

static bool take_order(struct engine *engine, const char *line)
{
	unsigned a, b, c;
	uint64_t total;
	if (sscanf(line, "decode %u %u", &a, &b) == 2 && a <= MAX_STREAMS) {
		double seconds = decode(engine, a, b, &total);
		if (seconds >= 0)
			printf("%llu %.6f\n", (unsigned long long)total, seconds);
		return seconds >= 0;
	}
	if (sscanf(line, "first %u %u", &a, &b) == 2)
		return first(engine, a, b);
	if (sscanf(line, "gap %u %u %u", &a, &b, &c) == 3 && a < MAX_STREAMS)
		return gap(engine, a, b, c);
	if (sscanf(line, "say %u %u", &a, &b) == 2)
		return say(engine, a, b);
	if (sscanf(line, "repeat %u", &a) == 1)
		return repeat(engine, a);
	return str_starts(str_of(line), STR("memory")) && memory();
}

static int take_orders(struct engine *engine)
{
	char line[128];
	while (fgets(line, sizeof line, stdin)) {
		if (!take_order(engine, line))
			return 1;
		fflush(stdout);
	}
	return 0;
}

static int print_decode_speed(struct engine *engine)
{
	static const unsigned counts[] = {1, 8};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		uint64_t total;
		double seconds = decode(engine, counts[i], 128, &total);
		if (seconds < 0)
			return 1;
		printf("bench engine_tokens_per_s_%u %.1f tokens/s\n", counts[i], (double)total / seconds);
	}
	return 0;
}

static uint32_t number(int argc, char **argv, int at, uint32_t otherwise)
{
	return at < argc ? (uint32_t)strtoul(argv[at], NULL, 10) : otherwise;
}

/* NULL when none is asked for, or it cannot be had. */
static struct kv_cache *open_cache(struct engine_llama_options *options, char hash[SHA256_HEX_SIZE])
{
	static const uint8_t secret[KV_SECRET_BYTES] = {7};
	struct error error = {0};
	struct kv_cache_options cache = {.root = getenv("DARKBLOOM_BENCH_CACHE"),
	                                 .secret = secret,
	                                 .ram_bytes = UINT64_C(1) << 30,
	                                 .disk_bytes = UINT64_C(8) << 30,
	                                 .max_writes = 8};
	if (!cache.root)
		return NULL;
	sha256_hex(options->model_path, strlen(options->model_path), hash);
	options->cache = kv_cache_open(&cache, &error);
	options->model_id = options->model_path;
	options->weight_hash = hash;
	scope = "bench";
	if (!options->cache)
		fprintf(stderr, "%s\n", error.text);
	return options->cache;
}

int main(int argc, char **argv)
{
	char hash[SHA256_HEX_SIZE];
	const char *guesses = getenv("DARKBLOOM_BENCH_GUESSES");
	struct error error = {0};
	struct engine_llama_options options = {.model_path = argc > 1 ? argv[1] : MODEL,
	                                       .threads = number(argc, argv, 2, 0),
	                                       .max_sequences = number(argc, argv, 3, 8),
	                                       .context_tokens = number(argc, argv, 4, 8192)};
	log_set_level(LOG_WARN);
	if (argc < 2 && access(MODEL, R_OK))
		return 0;
	if (crypto_init())
		return 1;
	if (guesses && strcmp(guesses, "0") == 0)
		options.speculation = ENGINE_SPECULATE_NEVER;
	struct kv_cache *cache = open_cache(&options, hash);
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	int status = argc > 1 ? take_orders(engine) : print_decode_speed(engine);
	if (cache)
		kv_cache_settle(cache);
	engine_free(engine);
	kv_cache_close(cache);
	return status;
}
