/* The prefix cache of the engine, in this process.
 *
 *     bench_cache                                     time to first token, writing; SmolLM2
 *     bench_cache writing|saving                      parts of these alone, saving as the median of more runs
 *     bench_cache identical TIER CONVERSATIONS MODEL  greedy answers with and without the cache; TIER is ram or ssd
 *
 * BENCH_RUNS: of each figure, 1 to 9, 3 if not said. BENCH_THREADS: of the engine, 0 = all cores; one is best beside other
 * work. The SSD tier lies in a folder of its own under $TMPDIR, which is removed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"
#include "provider/engine/engine.h"
#include "provider/kvcache/kv_cache.h"
#include "provider/kvcache/kv_folder.h"

#define MODEL         "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define PREFIX_TOKENS 2000
#define MAX_RUNS      9

struct answer {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended, failed;
	uint64_t first_us, end_us;
	struct buf text;
	struct chat_usage usage;
};

static void on_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	struct answer *answer = user;
	(void)call;
	pthread_mutex_lock(&answer->lock);
	if (!answer->first_us)
		answer->first_us = clock_mono_us();
	buf_append_str(&answer->text, delta->content);
	pthread_mutex_unlock(&answer->lock);
}

static void end(struct engine_call *call, struct answer *answer, const struct chat_usage *usage, bool failed)
{
	engine_call_release(call);
	pthread_mutex_lock(&answer->lock);
	answer->usage = *usage;
	answer->ended = true;
	answer->failed = failed;
	answer->end_us = clock_mono_us();
	pthread_cond_signal(&answer->changed);
	pthread_mutex_unlock(&answer->lock);
}

static void on_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	(void)finish;
	end(call, user, usage, false);
}

static void on_error(struct engine_call *call, int status, enum engine_reason reason, const char *text,
                     const struct chat_usage *so_far, void *user)
{
	(void)reason;
	fprintf(stderr, "%d %s\n", status, text);
	end(call, user, so_far, true);
}

static void die(const char *why)
{
	fprintf(stderr, "bench_cache: %s\n", why);
	exit(1);
}

/* Greedy, `tokens` tokens. The caller frees answer->text. Returns when it has ended; *start_us is when it was asked. */
static void ask(struct engine *engine, const struct buf *messages, unsigned tokens, const char *scope, struct answer *answer,
                uint64_t *start_us)
{
	static const struct engine_callbacks callbacks = {NULL, on_delta, on_finish, on_error};
	struct error error;
	*answer = (struct answer){.ended = false};
	pthread_mutex_init(&answer->lock, NULL);
	pthread_cond_init(&answer->changed, NULL);
	buf_init(&answer->text, 1 << 20);
	struct arena *arena = arena_new(0);
	struct json_doc *doc = json_parse(buf_str(messages), arena, NULL);
	if (!doc)
		die("the conversation is not JSON");
	struct chat_request chat = {.root = json_root(doc), .messages = json_root(doc), .n = 1, .max_tokens = tokens};
	chat.sampling.ignore_eos = true;
	struct engine_request request = {.chat = &chat, .tenant = STR("bench"), .cache_scope = str_of(scope)};
	struct engine_call *call;
	*start_us = clock_mono_us();
	if (engine_submit(engine, &request, &callbacks, answer, &call, &error))
		die(error.text);
	arena_free(arena);
	pthread_mutex_lock(&answer->lock);
	while (!answer->ended)
		pthread_cond_wait(&answer->changed, &answer->lock);
	pthread_mutex_unlock(&answer->lock);
	if (answer->failed)
		die("a request failed");
}

/* --- an engine with its cache --- */

struct house {
	struct kv_cache *cache;
	struct engine *engine;
};

static const uint8_t secret[KV_SECRET_BYTES] = {7};

static struct house house_open(const char *model, const char *root, uint64_t ram_bytes)
{
	struct house house = {NULL, NULL};
	struct error error = {.text = ""};
	struct kv_cache_options cache = {
	    .root = root, .secret = root ? secret : NULL, .ram_bytes = ram_bytes, .disk_bytes = UINT64_C(8) << 30, .max_writes = 8};
	if (root || ram_bytes) {
		house.cache = kv_cache_open(&cache, &error);
		if (!house.cache)
			die(error.text);
	}
	char hash[SHA256_HEX_SIZE];
	sha256_hex(model, strlen(model), hash);
	const char *threads = getenv("BENCH_THREADS");
	struct engine_llama_options options = {.model_path = model,
	                                       .threads = threads ? (uint32_t)strtoul(threads, NULL, 10) : 0,
	                                       .max_sequences = 2,
	                                       .context_tokens = 8192,
	                                       .speculation = ENGINE_SPECULATE_NEVER, /* it would round by what time steps take */
	                                       .cache = house.cache,
	                                       .model_id = model,
	                                       .weight_hash = hash};
	house.engine = engine_llama_new(&options, &error);
	if (!house.engine)
		die(error.text);
	return house;
}

static void house_close(struct house *house)
{
	engine_free(house->engine);
	kv_cache_close(house->cache);
}

static void make_root(char root[256])
{
	const char *folder = getenv("TMPDIR");
	snprintf(root, 256, "%s/bench-cache-XXXXXX", folder && folder[0] ? folder : "/var/tmp");
	if (!mkdtemp(root))
		die("no folder for the SSD tier");
}

/* --- conversations --- */

static uint64_t mix(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = *state;
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void add_words(struct buf *out, uint64_t seed, unsigned words)
{
	static const char *const some[] = {"the",  "sea",   "old",    "ship",  "carried", "letters", "from",   "a",
	                                   "town", "where", "people", "light", "lamps",   "every",   "winter", "night"};
	for (unsigned i = 0; i < words; i++)
		buf_printf(out, "%s%s", i ? " " : "", some[mix(&seed) % (sizeof some / sizeof *some)]);
}

static void add_message(struct buf *out, const char *role, uint64_t seed, unsigned words)
{
	buf_printf(out, "%s{\"role\":\"%s\",\"content\":\"", out->len ? "," : "[", role);
	add_words(out, seed, words);
	buf_append_c(out, "\"}");
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof *values, compare);
	return values[count / 2];
}

/* --- time to first token --- */

static double first_token_s(struct engine *engine, uint64_t seed, uint64_t question, uint64_t *cached)
{
	struct buf messages;
	struct answer answer;
	uint64_t start_us;
	buf_init(&messages, 1 << 20);
	add_message(&messages, "system", seed, PREFIX_TOKENS);
	add_message(&messages, "user", question, 8);
	buf_append_byte(&messages, ']');
	ask(engine, &messages, 2, "bench", &answer, &start_us);
	*cached = answer.usage.cached_tokens;
	buf_free(&answer.text);
	buf_free(&messages);
	return (double)(answer.first_us - start_us) / 1e6;
}

static void bench_first_token(size_t runs)
{
	char root[256];
	double cold[MAX_RUNS], ram[MAX_RUNS], ssd[MAX_RUNS];
	uint64_t cached, ram_cached = 0, ssd_cached = 0;
	make_root(root);
	struct house house = house_open(MODEL, root, UINT64_C(1) << 30);
	for (uint64_t i = 0; i < runs; i++)
		cold[i] = first_token_s(house.engine, i, 1000 + i, &cached);
	for (uint64_t i = 0; i < runs; i++) {
		ram[i] = first_token_s(house.engine, i, 2000 + i, &cached);
		ram_cached += cached;
	}
	house_close(&house);
	for (uint64_t i = 0; i < runs; i++) {
		house = house_open(MODEL, root, UINT64_C(1) << 30);
		ssd[i] = first_token_s(house.engine, i, 3000 + i, &cached);
		ssd_cached += cached;
		house_close(&house);
	}
	double base = median(cold, runs);
	printf("bench ttft_cold_s %.3f s\n", base);
	printf("bench ttft_ram_ratio %.4f ratio\n", median(ram, runs) / base);
	printf("bench ttft_ssd_ratio %.4f ratio\n", median(ssd, runs) / base);
	if (ram_cached < runs * (PREFIX_TOKENS - KV_GRID) || ssd_cached < runs * (PREFIX_TOKENS - KV_GRID))
		die("the prefix was not found");
	kv_folder_remove(root);
}

/* --- writing --- */

static void bench_writing(void)
{
	char root[256];
	struct kv_stats stats;
	make_root(root);
	struct house house = house_open(MODEL, root, UINT64_C(1) << 30);
	/* Conversations of five turns, the third of which is asked anew. */
	for (uint64_t i = 0; i < 3; i++) {
		struct buf messages;
		buf_init(&messages, 1 << 20);
		add_message(&messages, "system", i, 300);
		for (uint64_t turn = 0; turn < 5; turn++) {
			size_t before = messages.len;
			for (uint64_t again = 0; again < (turn == 2 ? 2 : 1); again++) {
				struct answer answer;
				uint64_t start_us;
				messages.len = before;
				add_message(&messages, "user", 100 * i + 10 * turn + again, 60);
				buf_append_byte(&messages, ']');
				ask(house.engine, &messages, 8, "bench", &answer, &start_us);
				kv_cache_settle(house.cache);
				buf_free(&answer.text);
				messages.len--;
			}
			add_message(&messages, "assistant", 100 * i + turn, 40);
		}
		buf_free(&messages);
	}
	kv_cache_stats(house.cache, &stats);
	house_close(&house);
	/* Kept: what a reader gets back, once for each token of each conversation and branch. */
	printf("bench ssd_write_amplification %.3f ratio\n",
	       (double)stats.disk.bytes_written / (double)(stats.disk.bytes ? stats.disk.bytes : 1));
	kv_folder_remove(root);
}

static double decode_s(struct engine *engine, uint64_t seed, const char *scope)
{
	struct buf messages;
	struct answer answer;
	uint64_t start_us;
	buf_init(&messages, 1 << 20);
	add_message(&messages, "user", seed, 1200);
	buf_append_byte(&messages, ']');
	ask(engine, &messages, 256, scope, &answer, &start_us);
	buf_free(&answer.text);
	buf_free(&messages);
	return (double)(answer.end_us - answer.first_us) / 1e6;
}

/* 256 tokens decoded while the state of 1,200 tokens is sealed and written, against the same with nothing to write right before
 * and after it. */
static void bench_save_overhead(size_t runs)
{
	char root[256];
	double slowdown[MAX_RUNS];
	make_root(root);
	struct house house = house_open(MODEL, root, UINT64_C(1) << 30);
	for (uint64_t i = 0; i < runs; i++) {
		double before = decode_s(house.engine, 10 + 2 * i, ""), with = decode_s(house.engine, 50 + i, "bench");
		kv_cache_settle(house.cache);
		double after = decode_s(house.engine, 11 + 2 * i, "");
		slowdown[i] = 100 * (2 * with / (before + after) - 1);
	}
	printf("bench ssd_save_overhead_pct %.2f percent\n", median(slowdown, runs));
	house_close(&house);
	kv_folder_remove(root);
}

/* --- identical answers --- */

#define TURN_TOKENS 12

/* Three turns on one of four beginnings, each turn asked in two ways; the answers go on in the conversation. */
static void converse(const struct house *house, uint64_t number, struct buf *answers, uint64_t *cached)
{
	struct buf messages;
	buf_init(&messages, 1 << 20);
	add_message(&messages, "system", number % 4, 75);
	for (uint64_t turn = 0; turn < 3; turn++) {
		size_t before = messages.len;
		for (uint64_t branch = 0; branch < 2; branch++) {
			struct answer answer;
			uint64_t start_us;
			messages.len = before;
			add_message(&messages, "user", 1000 * (number / 2) + 10 * turn + branch, 15);
			buf_append_byte(&messages, ']');
			ask(house->engine, &messages, TURN_TOKENS, "bench", &answer, &start_us);
			if (house->cache)
				kv_cache_settle(house->cache);
			buf_append_str(answers, buf_str(&answer.text));
			buf_append_byte(answers, '\n');
			*cached += answer.usage.cached_tokens;
			buf_free(&answer.text);
			messages.len--;
		}
		add_message(&messages, "assistant", 7000 + 1000 * number + turn, 10);
	}
	buf_free(&messages);
}

static void bench_identical(const char *tier, unsigned conversations, const char *model)
{
	char root[256];
	bool ssd = strcmp(tier, "ssd") == 0;
	unsigned same = 0;
	uint64_t cached = 0, none = 0;
	make_root(root);
	struct house warm = house_open(model, ssd ? root : NULL, ssd ? 0 : UINT64_C(1) << 30);
	struct house cold = house_open(model, NULL, 0);
	for (unsigned i = 0; i < conversations; i++) {
		struct buf a, b;
		buf_init(&a, 1 << 20);
		buf_init(&b, 1 << 20);
		converse(&warm, i, &a, &cached);
		converse(&cold, i, &b, &none);
		if (str_eq(buf_str(&a), buf_str(&b)))
			same++;
		else
			fprintf(stderr, "conversation %u differs\n", i);
		buf_free(&a);
		buf_free(&b);
	}
	struct kv_stats stats;
	kv_cache_stats(warm.cache, &stats);
	fprintf(stderr, "cached=%llu asked=%llu ram=%llu ssd=%llu misses=%llu\n", (unsigned long long)cached,
	        (unsigned long long)stats.tokens_asked, (unsigned long long)stats.hits_ram, (unsigned long long)stats.hits_ssd,
	        (unsigned long long)stats.misses);
	printf("bench cache_identical_pct %.2f percent\n", 100.0 * same / (conversations ? conversations : 1));
	if (!cached || none || (ssd ? !stats.hits_ssd || stats.hits_ram : !stats.hits_ram))
		die("the tier was not used");
	house_close(&warm);
	house_close(&cold);
	kv_folder_remove(root);
}

int main(int argc, char **argv)
{
	log_set_level(LOG_WARN);
	if (crypto_init())
		die("the cryptographic libraries could not be started");
	if (argc == 2 && strcmp(argv[1], "writing") == 0) {
		bench_writing();
		return 0;
	}
	if (argc == 5 && strcmp(argv[1], "identical") == 0) {
		bench_identical(argv[2], (unsigned)strtoul(argv[3], NULL, 10), argv[4]);
		return 0;
	}
	if (access(MODEL, R_OK))
		return 0;
	const char *given = getenv("BENCH_RUNS");
	size_t runs = given ? (size_t)strtoul(given, NULL, 10) : 3;
	if (runs < 1 || runs > MAX_RUNS)
		runs = 3;
	if (argc == 2 && strcmp(argv[1], "saving") == 0) {
		bench_save_overhead(given ? runs : MAX_RUNS);
		return 0;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	bench_first_token(runs);
	bench_writing();
	bench_save_overhead(runs);
	return 0;
}
