/* The prefix cache of the engine, in this process.
 *
 *     bench_cache                                     time to first token, writing; SmolLM2
 *     bench_cache first|writing|saving                parts of these alone, saving as the median of more runs
 *     bench_cache identical TIERS CONVERSATIONS MODEL [FIRST]
 *
 * The last compares greedy answers with and without the cache; TIERS is ram, ssd or ram,ssd. The cold answers are computed once
 * for both. FIRST, 0 if not said, is the number of the first conversation: a long run may go in pieces.
 *
 * BENCH_RUNS: of each figure, 1 to 15, 3 if not said. BENCH_THREADS: of the engine, 0 = all cores; one is best beside other
 * work. The SSD tier lies in a folder of its own under $TMPDIR, which is removed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"
#include "provider/engine/engine.h"
#include "provider/kvcache/kv_cache.h"
#include "provider/kvcache/kv_folder.h"

#define MODEL         "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define PREFIX_TOKENS 2000
#define MAX_RUNS      15

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
	struct kv_cache_options cache = {.root = root,
	                                 .secret = root ? secret : NULL,
	                                 .ram_bytes = ram_bytes,
	                                 .disk_bytes = UINT64_C(8) << 30,
	                                 .max_writes = 8,
	                                 .always_read = root && !ram_bytes};
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
	for (uint64_t i = 0; i < runs; i++) {
		cold[i] = first_token_s(house.engine, i, 1000 + i, &cached);
		kv_cache_settle(house.cache);
		ram[i] = first_token_s(house.engine, i, 2000 + i, &cached);
		kv_cache_settle(house.cache);
		ram_cached += cached;
	}
	house_close(&house);
	for (uint64_t i = 0; i < runs; i++) {
		house = house_open(MODEL, root, UINT64_C(1) << 30);
		ssd[i] = first_token_s(house.engine, i, 3000 + i, &cached);
		ssd_cached += cached;
		house_close(&house);
	}
	for (size_t i = 0; i < runs; i++)
		fprintf(stderr, "first token: %.3f s cold, %.3f s from memory, %.3f s after a restart\n", cold[i], ram[i], ssd[i]);
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

#define SAVED_WORDS   1200
#define SAVING_TOKENS 128

static double decode_s(struct engine *engine, uint64_t seed, bool kept)
{
	struct buf messages;
	struct answer answer;
	uint64_t start_us;
	buf_init(&messages, 1 << 20);
	add_message(&messages, "user", seed, SAVED_WORDS);
	buf_append_byte(&messages, ']');
	ask(engine, &messages, SAVING_TOKENS, "bench", &answer, &start_us);
	if (kept != (answer.usage.cached_tokens >= SAVED_WORDS - KV_GRID))
		die("the prompt was not kept, or was before it was asked");
	buf_free(&answer.text);
	buf_free(&messages);
	return (double)(answer.end_us - answer.first_us) / 1e6;
}

/* Answers while the state of their prompt of 1,200 tokens is sealed and written, against the same answers when it is in memory
 * and there is nothing to write, and against those of the prompt before: speeds drift. */
static void bench_save_overhead(size_t runs)
{
	char root[256];
	double slowdown[MAX_RUNS], before = 0;
	make_root(root);
	struct house house = house_open(MODEL, root, UINT64_C(1) << 30);
	for (size_t i = 0; i < runs + 1; i++) {
		double with = decode_s(house.engine, 10 + i, false);
		kv_cache_settle(house.cache);
		double after = decode_s(house.engine, 10 + i, true);
		fprintf(stderr, "%d tokens: %.3f s while saving, %.3f s with nothing to save\n", SAVING_TOKENS, with, after);
		if (i > 0)
			slowdown[i - 1] = 100 * (2 * with / (before + after) - 1);
		before = after;
	}
	printf("bench ssd_save_overhead_pct %.2f percent\n", median(slowdown, runs));
	house_close(&house);
	kv_folder_remove(root);
}

/* --- identical answers --- */

#define TURNS           3
#define BRANCHING_TURN  1 /* is asked in two ways */
#define TURN_TOKENS     8
#define BEGINNINGS      4
#define BEGINNING_WORDS 75
#define LONG_EACH       40 /* so many conversations there is one whose beginning is longer than a sliding window */
#define LONG_WORDS      500
#define TELL_EACH       10 /* conversations */

struct tier {
	const char *name;
	struct house house;
	char root[256];
	uint64_t same, answers, answers_same, cached;
	bool differs; /* the conversation that is held */
};

static void tier_open(struct tier *tier, const char *name, const char *model)
{
	bool ssd = strcmp(name, "ssd") == 0;
	*tier = (struct tier){.name = name};
	make_root(tier->root);
	tier->house = house_open(model, ssd ? tier->root : NULL, ssd ? 0 : UINT64_C(1) << 30);
}

static void tier_ask(struct tier *tier, const struct buf *messages, const struct answer *cold)
{
	struct answer warm;
	uint64_t start_us;
	ask(tier->house.engine, messages, TURN_TOKENS, "bench", &warm, &start_us);
	kv_cache_settle(tier->house.cache);
	bool same = str_eq(buf_str(&warm.text), buf_str(&cold->text));
	tier->answers++;
	tier->answers_same += same;
	tier->differs |= !same;
	tier->cached += warm.usage.cached_tokens;
	buf_free(&warm.text);
}

static void add_answer(struct buf *out, const struct buf *text)
{
	struct json_writer writer;
	buf_append_c(out, ",{\"role\":\"assistant\",\"content\":");
	json_writer_init(&writer, out);
	json_str(&writer, buf_str(text));
	buf_append_byte(out, '}');
}

/* Three turns on one of a few beginnings, one of them asked in two ways, of which the last goes on. */
static void converse(const struct house *cold, struct tier *tiers, size_t tier_count, uint64_t number)
{
	struct buf messages;
	struct answer answer;
	uint64_t start_us;
	bool long_one = number % LONG_EACH == LONG_EACH - 1;
	buf_init(&messages, 1 << 20);
	add_message(&messages, "system", number % BEGINNINGS, long_one ? LONG_WORDS : BEGINNING_WORDS);
	for (uint64_t turn = 0; turn < TURNS; turn++) {
		size_t before = messages.len, ways = turn == BRANCHING_TURN ? 2 : 1;
		for (uint64_t way = 0; way < ways; way++) {
			messages.len = before;
			add_message(&messages, "user", 1000 * (number / 2) + 10 * turn + way, 15);
			buf_append_byte(&messages, ']');
			ask(cold->engine, &messages, TURN_TOKENS, "bench", &answer, &start_us);
			for (size_t i = 0; i < tier_count; i++)
				tier_ask(&tiers[i], &messages, &answer);
			messages.len--;
			if (way + 1 == ways)
				add_answer(&messages, &answer.text);
			buf_free(&answer.text);
		}
	}
	buf_free(&messages);
}

static void count_conversation(struct tier *tier, uint64_t number)
{
	if (tier->differs)
		fprintf(stderr, "conversation %llu differs (%s)\n", (unsigned long long)number, tier->name);
	else
		tier->same++;
	tier->differs = false;
}

static void tell(const struct tier *tier, unsigned conversations)
{
	struct kv_stats stats;
	kv_cache_stats(tier->house.cache, &stats);
	fprintf(stderr,
	        "%s: %llu of %u conversations and %llu of %llu answers are the same; hits ram=%llu ssd=%llu, misses=%llu, "
	        "cached %llu of %llu tokens\n",
	        tier->name, (unsigned long long)tier->same, conversations, (unsigned long long)tier->answers_same,
	        (unsigned long long)tier->answers, (unsigned long long)stats.hits_ram, (unsigned long long)stats.hits_ssd,
	        (unsigned long long)stats.misses, (unsigned long long)tier->cached, (unsigned long long)stats.tokens_asked);
}

/* Nothing is shown by answers that the cache had no part in. */
static void check_use(const struct tier *tier)
{
	struct kv_stats stats;
	kv_cache_stats(tier->house.cache, &stats);
	bool ssd = strcmp(tier->name, "ssd") == 0;
	uint64_t hits = ssd ? stats.hits_ssd : stats.hits_ram, others = ssd ? stats.hits_ram : stats.hits_ssd;
	if (others || hits * 2 < tier->answers)
		die("most answers did not begin with what the tier has kept");
}

static void tier_close(struct tier *tier)
{
	house_close(&tier->house);
	kv_folder_remove(tier->root);
}

static void bench_identical(const char *names, unsigned conversations, const char *model, uint64_t first)
{
	static const char *const both[] = {"ram", "ssd"};
	struct tier tiers[2];
	size_t count = 0;
	for (size_t i = 0; i < 2; i++)
		if (strstr(names, both[i]))
			tier_open(&tiers[count++], both[i], model);
	if (!count || !conversations)
		die("no tier, or no conversations");
	struct house cold = house_open(model, NULL, 0);
	for (unsigned i = 0; i < conversations; i++) {
		converse(&cold, tiers, count, first + i);
		for (size_t t = 0; t < count; t++) {
			count_conversation(&tiers[t], first + i);
			if ((i + 1) % TELL_EACH == 0 || i + 1 == conversations)
				tell(&tiers[t], i + 1);
		}
	}
	for (size_t t = 0; t < count; t++)
		printf("bench cache_identical_pct_%s %.2f percent\n", tiers[t].name, 100.0 * (double)tiers[t].same / conversations);
	for (size_t t = 0; t < count; t++) {
		check_use(&tiers[t]);
		tier_close(&tiers[t]);
	}
	house_close(&cold);
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
	if ((argc == 5 || argc == 6) && strcmp(argv[1], "identical") == 0) {
		bench_identical(argv[2], (unsigned)strtoul(argv[3], NULL, 10), argv[4], argc == 6 ? strtoull(argv[5], NULL, 10) : 0);
		return 0;
	}
	if (access(MODEL, R_OK))
		return 0;
	const char *given = getenv("BENCH_RUNS");
	size_t runs = given ? (size_t)strtoul(given, NULL, 10) : 3;
	if (runs < 1 || runs > MAX_RUNS)
		runs = 3;
	if (argc == 2 && strcmp(argv[1], "first") == 0) {
		bench_first_token(runs);
		return 0;
	}
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
