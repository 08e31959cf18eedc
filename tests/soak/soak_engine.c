/* Hours in minutes: two copies of a real model share a KV budget that is too small for both, and a few consumers each submit,
 * read, pause, cancel and leave at random while the models are unloaded and loaded again under them. Both share a prefix cache
 * whose tiers hold a part of what its tenants begin their prompts with: states are stored, found, read and evicted all the
 * time.
 *
 *   soak_engine SECONDS [MODEL]
 *
 * Fails when a call does not end, an engine keeps tokens or the budget bytes after all calls ended, an answer ends in a way
 * that it must not, a tier of the cache outgrows what it may have or cannot read what it wrote, or resident memory grows after
 * the first half. */
#include <ftw.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "provider/engine/engine.h"
#include "provider/engine/kv_budget.h"
#include "provider/kvcache/kv_cache.h"

#define DEFAULT_MODEL    "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define BUDGET_BYTES     (UINT64_C(700) * 23040) /* of SmolLM2-135M: less than one of its contexts */
#define CALL_PATIENCE_US UINT64_C(180000000)
#define GROWTH_ALLOWED   1.15
#define GROWTH_BYTES     (24u << 20)

/* The states of all openings, of three tenants at two engines, take some 50 MB. */
#define CACHE_RAM_BYTES  (UINT64_C(28) << 20)
#define CACHE_DISK_BYTES (UINT64_C(48) << 20)
#define LOOKUPS_ENOUGH   200 /* ... that some of them must find something */
#define WEIGHT_HASH      "5041c5041c5041c5041c5041c5041c5041c5041c5041c5041c5041c5041c5041"

enum { ENGINES = 2, CONSUMERS = 6, WORDS_MAX = 160, OPENINGS = 2, OPENING_WORDS = 32, TAIL_WORDS = 24 };

struct slot {
	pthread_rwlock_t lock; /* read: somebody submits; write: the engine is replaced */
	struct engine *engine;
};

static struct {
	const char *model;
	struct kv_budget *budget;
	struct kv_cache *cache;
	char cache_dir[32];
	struct slot slots[ENGINES];
	atomic_bool over;
	atomic_uint submitted, finished, cancelled, refused, failed, loads, faults;
} soak;

struct watch {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct engine_call *call;
	unsigned deltas, cancel_at, pause_at;
	bool ended, resumed;
	int status;
};

static unsigned pick(unsigned *seed, unsigned below)
{
	return (unsigned)rand_r(seed) % below;
}

static void fault(const char *what, int status, const char *text)
{
	fprintf(stderr, "fault: %s %d %s\n", what, status, text);
	atomic_fetch_add(&soak.faults, 1);
}

static void on_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	struct watch *watch = user;
	(void)delta;
	pthread_mutex_lock(&watch->lock);
	unsigned deltas = ++watch->deltas;
	if (deltas == watch->pause_at && !watch->resumed)
		engine_pause(call);
	pthread_mutex_unlock(&watch->lock);
	if (deltas == watch->cancel_at)
		engine_cancel(call);
}

static void end(struct watch *watch, int status)
{
	pthread_mutex_lock(&watch->lock);
	if (watch->ended)
		fault("a call ended twice", status, "");
	watch->ended = true;
	watch->status = status;
	pthread_cond_signal(&watch->changed);
	pthread_mutex_unlock(&watch->lock);
}

static void on_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	(void)call;
	if (!usage->prompt_tokens || !usage->completion_tokens)
		fault("an answer without usage", (int)finish, "");
	atomic_fetch_add(finish == ENGINE_FINISH_CANCELLED ? &soak.cancelled : &soak.finished, 1);
	end(user, 0);
}

static void on_error(struct engine_call *call, int status, enum engine_reason reason, const char *text,
                     const struct chat_usage *so_far, void *user)
{
	(void)call;
	(void)reason;
	(void)so_far;
	atomic_fetch_add(status == 499 ? &soak.cancelled : &soak.failed, 1);
	if (status != 499 && status != 503) /* 503: its engine was unloaded */
		fault("a call failed", status, text);
	end(user, status);
}

/* The same words for the same number, some 160 tokens. */
static size_t write_opening(unsigned number, char *out, size_t size)
{
	size_t len = 0;
	unsigned seed = number + 1;
	for (int i = 0; i < OPENING_WORDS; i++)
		len += (size_t)snprintf(out + len, size - len, " of %u", pick(&seed, 1000));
	return len;
}

static struct chat_request *make_request(struct arena *arena, bool begins_as_others, unsigned *seed)
{
	char messages[WORDS_MAX * 8 + 128];
	size_t len = (size_t)snprintf(messages, sizeof messages, "[{\"role\":\"user\",\"content\":\"Tell me");
	if (begins_as_others)
		len += write_opening(pick(seed, OPENINGS), messages + len, sizeof messages - len);
	for (unsigned words = 1 + pick(seed, begins_as_others ? TAIL_WORDS : WORDS_MAX); words; words--)
		len += (size_t)snprintf(messages + len, sizeof messages - len, " of %u", pick(seed, 1000));
	snprintf(messages + len, sizeof messages - len, ".\"}]");
	struct json_doc *doc = json_parse(str_of(messages), arena, NULL);
	struct chat_request *chat = arena_alloc(arena, sizeof *chat);
	if (!doc || !chat)
		return NULL;
	*chat = (struct chat_request){
	    .root = json_root(doc), .messages = json_root(doc), .n = pick(seed, 8) ? 1 : 3, .max_tokens = 1 + pick(seed, 60)};
	chat->sampling.ignore_eos = pick(seed, 2);
	if (pick(seed, 2)) {
		chat->sampling.has_temperature = chat->sampling.has_top_p = true;
		chat->sampling.temperature = 0.9;
		chat->sampling.top_p = 0.9;
	}
	chat->sampling.has_frequency_penalty = pick(seed, 4) == 0;
	chat->sampling.frequency_penalty = 0.5;
	chat->sampling.logprobs = pick(seed, 5) == 0;
	return chat;
}

/* True when the call ended in time. */
static bool wait_end(struct watch *watch, uint64_t wait_us)
{
	uint64_t until_us = clock_mono_us() + wait_us;
	pthread_mutex_lock(&watch->lock);
	while (!watch->ended && clock_mono_us() < until_us) {
		struct timespec at;
		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_nsec += 50000000;
		if (at.tv_nsec >= 1000000000) {
			at.tv_sec++;
			at.tv_nsec -= 1000000000;
		}
		pthread_cond_timedwait(&watch->changed, &watch->lock, &at);
	}
	bool ended = watch->ended;
	pthread_mutex_unlock(&watch->lock);
	return ended;
}

static bool submit_one(unsigned *seed, struct watch *watch)
{
	static const struct engine_callbacks callbacks = {NULL, on_delta, on_finish, on_error};
	static const char *const tenants[] = {"a", "b", "c"};
	struct slot *slot = &soak.slots[pick(seed, ENGINES)];
	struct str tenant = str_of(tenants[pick(seed, 3)]);
	struct arena *arena = arena_new(0);
	struct error error;
	bool begins_as_others = pick(seed, 3) > 0, kept = begins_as_others || pick(seed, 8) == 0;
	struct engine_request request = {.chat = arena ? make_request(arena, begins_as_others, seed) : NULL,
	                                 .tenant = tenant,
	                                 .cache_scope = kept ? tenant : STR_NONE};
	pthread_rwlock_rdlock(&slot->lock);
	int status = request.chat ? engine_submit(slot->engine, &request, &callbacks, watch, &watch->call, &error) : 503;
	pthread_rwlock_unlock(&slot->lock);
	arena_free(arena);
	atomic_fetch_add(status ? &soak.refused : &soak.submitted, 1);
	return !status;
}

static void *consume(void *user)
{
	unsigned seed = 1 + (unsigned)(uintptr_t)user;
	while (!atomic_load(&soak.over)) {
		struct watch watch = {.cancel_at = pick(&seed, 3) ? 0 : 1 + pick(&seed, 20),
		                      .pause_at = pick(&seed, 6) ? 0 : 1 + pick(&seed, 10)};
		pthread_mutex_init(&watch.lock, NULL);
		pthread_cond_init(&watch.changed, NULL);
		if (submit_one(&seed, &watch)) {
			if (pick(&seed, 6) == 0) /* gone before it began, or soon after */
				engine_cancel(watch.call);
			if (watch.pause_at) {
				wait_end(&watch, 10000 * pick(&seed, 50));
				pthread_mutex_lock(&watch.lock);
				watch.resumed = true;
				pthread_mutex_unlock(&watch.lock);
				engine_resume(watch.call);
			}
			if (!wait_end(&watch, CALL_PATIENCE_US)) {
				fault("a call does not end", 0, "");
				exit(1); /* its memory is still in use */
			}
			engine_call_release(watch.call);
		}
		pthread_cond_destroy(&watch.changed);
		pthread_mutex_destroy(&watch.lock);
	}
	return NULL;
}

static struct engine *load(const struct slot *slot)
{
	struct error error = {0};
	struct engine_llama_options options = {.model_path = soak.model,
	                                       .threads = 1,
	                                       .max_sequences = 4,
	                                       .context_tokens = 1024,
	                                       .budget = soak.budget,
	                                       .cache = soak.cache,
	                                       .model_id = slot == soak.slots ? "soak-one" : "soak-two",
	                                       .weight_hash = WEIGHT_HASH};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	atomic_fetch_add(&soak.loads, 1);
	return engine;
}

/* What the cache may hold in memory is filled now sooner, now later: it is not counted. */
static size_t resident(void)
{
	unsigned long pages = 0, shared = 0, total = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (file && fscanf(file, "%lu %lu %lu", &total, &pages, &shared) != 3)
		pages = 0;
	if (file)
		fclose(file);
	struct kv_stats cached;
	kv_cache_stats(soak.cache, &cached);
	size_t bytes = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
	return bytes > cached.ram.bytes ? bytes - (size_t)cached.ram.bytes : 0;
}

static void reload(struct slot *slot)
{
	pthread_rwlock_wrlock(&slot->lock);
	engine_free(slot->engine);
	slot->engine = load(slot);
	pthread_rwlock_unlock(&slot->lock);
}

static void open_cache(void)
{
	static const uint8_t secret[KV_SECRET_BYTES] = {7};
	struct error error = {0};
	snprintf(soak.cache_dir, sizeof soak.cache_dir, "/tmp/soak-XXXXXX");
	if (crypto_init())
		exit(1);
	struct kv_cache_options options = {.root = mkdtemp(soak.cache_dir),
	                                   .secret = secret,
	                                   .ram_bytes = CACHE_RAM_BYTES,
	                                   .disk_bytes = CACHE_DISK_BYTES,
	                                   .min_persist_tokens = KV_GRID};
	soak.cache = options.root ? kv_cache_open(&options, &error) : NULL;
	if (soak.cache)
		return;
	fprintf(stderr, "the cache cannot be opened: %s\n", error.text);
	exit(1);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
	(void)info;
	(void)kind;
	(void)at;
	return remove(path);
}

/* The engines are gone; what they stored is still counted. */
static void close_cache(void)
{
	struct kv_stats now;
	kv_cache_settle(soak.cache);
	kv_cache_stats(soak.cache, &now);
	if (now.ram.bytes > CACHE_RAM_BYTES || now.disk.bytes > CACHE_DISK_BYTES)
		fault("the cache outgrows its tiers", (int)(now.disk.bytes >> 20), "MiB on disk");
	/* a file may be evicted between being found and being opened */
	if (now.disk.read_errors > now.disk.evictions || now.disk.shape_mismatches || now.disk.model_mismatches ||
	    now.disk.name_mismatches)
		fault("the cache cannot read what it wrote", (int)now.disk.read_errors, "times");
	if (now.lookups >= LOOKUPS_ENOUGH && (now.hits_ram + now.hits_ssd == 0 || !now.disk.writes))
		fault("the cache was not in use", (int)now.lookups, "look-ups");
	printf("cache: %llu look-ups, %llu from memory, %llu from disk; %llu stored, %llu files written, %llu evicted; %.1f MB on "
	       "disk\n",
	       (unsigned long long)now.lookups, (unsigned long long)now.hits_ram, (unsigned long long)now.hits_ssd,
	       (unsigned long long)now.stores, (unsigned long long)now.disk.writes, (unsigned long long)now.disk.evictions,
	       (double)now.disk.bytes / 1e6);
	kv_cache_close(soak.cache);
	nftw(soak.cache_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void check_empty(void)
{
	struct kv_budget_stats now;
	for (int i = 0; i < ENGINES; i++) {
		struct engine_capacity capacity;
		uint64_t until_us = clock_mono_us() + CALL_PATIENCE_US;
		do
			engine_capacity(soak.slots[i].engine, &capacity);
		while ((capacity.running || capacity.waiting || capacity.budget_used_tokens) && clock_mono_us() < until_us &&
		       usleep(10000) == 0);
		if (capacity.running || capacity.waiting || capacity.budget_used_tokens || capacity.active_tokens)
			fault("an engine keeps something", (int)capacity.budget_used_tokens, "tokens");
		engine_free(soak.slots[i].engine);
	}
	kv_budget_stats(soak.budget, &now);
	if (now.reserved_bytes || now.reservations || now.peak_bytes > now.limit_bytes)
		fault("the budget does not return to zero", (int)now.reservations, "reservations");
	printf("budget: limit %llu, peak %llu, refusals %llu\n", (unsigned long long)now.limit_bytes,
	       (unsigned long long)now.peak_bytes, (unsigned long long)now.refusals);
}

int main(int argc, char **argv)
{
	uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 300;
	soak.model = argc > 2 ? argv[2] : DEFAULT_MODEL;
	/* States are large and come and go on many threads: what was freed must be seen to be gone. */
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	soak.budget = kv_budget_new(BUDGET_BYTES);
	open_cache();
	log_set_level(LOG_WARN);
	for (int i = 0; i < ENGINES; i++) {
		pthread_rwlock_init(&soak.slots[i].lock, NULL);
		soak.slots[i].engine = load(&soak.slots[i]);
	}
	pthread_t consumers[CONSUMERS];
	for (uintptr_t i = 0; i < CONSUMERS; i++)
		if (pthread_create(&consumers[i], NULL, consume, (void *)i))
			return 1;
	uint64_t start_us = clock_mono_us(), length_us = seconds * 1000000;
	size_t early = 0, late = 0;
	for (unsigned round = 0, seed = 7; clock_mono_us() - start_us < length_us; round++) {
		sleep(1);
		if (round % 15 == 14)
			reload(&soak.slots[pick(&seed, ENGINES)]);
		size_t now = resident();
		bool first_half = clock_mono_us() - start_us < length_us / 2;
		if (first_half && now > early)
			early = now;
		if (!first_half && now > late)
			late = now;
	}
	atomic_store(&soak.over, true);
	for (int i = 0; i < CONSUMERS; i++)
		pthread_join(consumers[i], NULL);
	check_empty();
	close_cache();
	printf("soak: %u submitted, %u finished, %u cancelled, %u ended by unloading, %u refused, %u loads\n", soak.submitted,
	       soak.finished, soak.cancelled, soak.failed, soak.refused, soak.loads);
	printf("resident without the cache: %.1f MB at most in the first half, %.1f MB later\n", (double)early / 1e6,
	       (double)late / 1e6);
	if (seconds >= 60 && (double)late > (double)early * GROWTH_ALLOWED && late > early + GROWTH_BYTES)
		fault("resident memory grows", 0, "");
	if (!soak.finished || !soak.cancelled)
		fault("nothing was answered or cancelled", 0, "");
	kv_budget_free(soak.budget);
	return soak.faults != 0;
}
