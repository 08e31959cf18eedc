/* Hours in minutes: two copies of a real model share a KV budget that is too small for both, and a few consumers each submit,
 * read, pause, cancel and leave at random while the models are unloaded and loaded again under them.
 *
 *   soak_engine SECONDS [MODEL]
 *
 * Fails when a call does not end, an engine keeps tokens or the budget bytes after all calls ended, an answer ends in a way
 * that it must not, or resident memory grows after the first third. */
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
#include "provider/engine/engine.h"
#include "provider/engine/kv_budget.h"

#define DEFAULT_MODEL    "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define BUDGET_BYTES     (UINT64_C(700) * 23040) /* of SmolLM2-135M: less than one of its contexts */
#define CALL_PATIENCE_US UINT64_C(180000000)
#define GROWTH_ALLOWED   1.15
#define GROWTH_BYTES     (24u << 20)

enum { ENGINES = 2, CONSUMERS = 6, WORDS_MAX = 160 };

struct slot {
	pthread_rwlock_t lock; /* read: somebody submits; write: the engine is replaced */
	struct engine *engine;
};

static struct {
	const char *model;
	struct kv_budget *budget;
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

static struct chat_request *make_request(struct arena *arena, unsigned *seed)
{
	char messages[WORDS_MAX * 8 + 128];
	size_t len = (size_t)snprintf(messages, sizeof messages, "[{\"role\":\"user\",\"content\":\"Tell me");
	for (unsigned words = 1 + pick(seed, WORDS_MAX); words; words--)
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
	struct arena *arena = arena_new(0);
	struct error error;
	struct engine_request request = {.chat = arena ? make_request(arena, seed) : NULL,
	                                 .tenant = str_of(tenants[pick(seed, 3)])};
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

static struct engine *load(void)
{
	struct error error = {0};
	struct engine_llama_options options = {
	    .model_path = soak.model, .threads = 1, .max_sequences = 4, .context_tokens = 1024, .budget = soak.budget};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	atomic_fetch_add(&soak.loads, 1);
	return engine;
}

static size_t resident(void)
{
	unsigned long pages = 0, shared = 0, total = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (file && fscanf(file, "%lu %lu %lu", &total, &pages, &shared) != 3)
		pages = 0;
	if (file)
		fclose(file);
	return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void reload(struct slot *slot)
{
	pthread_rwlock_wrlock(&slot->lock);
	engine_free(slot->engine);
	slot->engine = load();
	pthread_rwlock_unlock(&slot->lock);
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
	soak.budget = kv_budget_new(BUDGET_BYTES);
	log_set_level(LOG_WARN);
	for (int i = 0; i < ENGINES; i++) {
		pthread_rwlock_init(&soak.slots[i].lock, NULL);
		soak.slots[i].engine = load();
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
		bool first_third = clock_mono_us() - start_us < length_us / 3;
		if (first_third && now > early)
			early = now;
		if (!first_third && now > late)
			late = now;
	}
	atomic_store(&soak.over, true);
	for (int i = 0; i < CONSUMERS; i++)
		pthread_join(consumers[i], NULL);
	check_empty();
	printf("soak: %u submitted, %u finished, %u cancelled, %u ended by unloading, %u refused, %u loads\n", soak.submitted,
	       soak.finished, soak.cancelled, soak.failed, soak.refused, soak.loads);
	printf("resident: %.1f MB at most in the first third, %.1f MB later\n", (double)early / 1e6, (double)late / 1e6);
	if (seconds >= 60 && (double)late > (double)early * GROWTH_ALLOWED && late > early + GROWTH_BYTES)
		fault("resident memory grows", 0, "");
	if (!soak.finished || !soak.cancelled)
		fault("nothing was answered or cancelled", 0, "");
	kv_budget_free(soak.budget);
	return soak.faults != 0;
}
