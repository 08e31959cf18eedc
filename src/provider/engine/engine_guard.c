#include "provider/engine/engine_guard.h"

#include "core/clock.h"
#include "core/list.h"
#include "core/log.h"
#include "provider/engine/engine_sync.h"

#include <stdio.h>
#include <stdlib.h>

#define PINNED_TOKENS    4096
#define REFUSAL_COUNTS_S 60   /* a refused request is demand for so long */
#define FREE_WAIT_MS     5000 /* for engines that hang, when the guard is freed */

enum guard_state { GUARD_SERVES, GUARD_CRASHED, GUARD_RELOADS };

struct guard {
	struct engine base;
	struct engine_guard_options options;
	pthread_t thread;
	bool thread_runs;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum guard_state state;
	struct engine *inner; /* NULL while there is none */
	unsigned using_inner; /* threads inside a function of it */
	unsigned burying;     /* threads that free an old one */
	bool stopping, left;  /* left: nobody but burying threads knows this guard */
	struct list calls;
	struct engine_info info;
	uint64_t refused_us, restarts;
	atomic_uint_least64_t heard; /* deltas: they are progress too */

	/* the guard's thread */
	uint64_t progress, moved_us, short_since_us, restarted_us;
};

struct guard_call {
	struct engine_call base;
	struct list_link link; /* in guard->calls until it ended; under the guard's lock, as is since_us */
	struct engine_callbacks callbacks;
	void *user;
	uint64_t since_us; /* it runs, and is not paused, since then; 0 = not */

	pthread_mutex_t lock;
	struct engine_call *inner;
	bool inner_ended, ended, telling, started, paused;
};

static void destroy_call(struct engine_call *base)
{
	struct guard_call *call = (struct guard_call *)base;
	pthread_mutex_destroy(&call->lock);
	free(call);
}

static struct guard *guard_of(const struct guard_call *call)
{
	return (struct guard *)call->base.engine;
}

/* --- what the inner engine says --- */

/* With the call's lock held, which comes before the guard's. */
static void note_since(struct guard_call *call)
{
	struct guard *guard = guard_of(call);
	bool runs = call->started && !call->paused && !call->ended;
	pthread_mutex_lock(&guard->lock);
	call->since_us = runs ? clock_mono_us() : 0;
	pthread_mutex_unlock(&guard->lock);
}

/* False when its consumer was told the end already. */
static bool begin_telling(struct guard_call *call)
{
	pthread_mutex_lock(&call->lock);
	bool tell = !call->ended;
	call->telling = tell;
	pthread_mutex_unlock(&call->lock);
	return tell;
}

static void end_telling(struct guard_call *call)
{
	pthread_mutex_lock(&call->lock);
	call->telling = false;
	pthread_mutex_unlock(&call->lock);
}

static void said_started(struct engine_call *inner, void *user)
{
	struct guard_call *call = user;
	(void)inner;
	if (!begin_telling(call))
		return;
	pthread_mutex_lock(&call->lock);
	call->started = true;
	note_since(call);
	pthread_mutex_unlock(&call->lock);
	if (call->callbacks.on_started)
		call->callbacks.on_started(&call->base, call->user);
	end_telling(call);
}

static void said_delta(struct engine_call *inner, const struct engine_delta *delta, void *user)
{
	struct guard_call *call = user;
	(void)inner;
	atomic_fetch_add_explicit(&guard_of(call)->heard, 1, memory_order_relaxed);
	if (!begin_telling(call))
		return;
	call->callbacks.on_delta(&call->base, delta, call->user);
	end_telling(call);
}

static void unlist(struct guard *guard, struct guard_call *call)
{
	pthread_mutex_lock(&guard->lock);
	if (list_linked(&call->link))
		list_remove(&guard->calls, &call->link);
	pthread_mutex_unlock(&guard->lock);
}

/* The inner call is over: true when the consumer has to be told. */
static bool inner_ended(struct guard_call *call, struct engine_call *inner)
{
	unlist(guard_of(call), call);
	pthread_mutex_lock(&call->lock);
	bool tell = !call->ended;
	call->ended = call->inner_ended = true;
	call->base.stop = inner->stop;
	pthread_mutex_unlock(&call->lock);
	return tell;
}

static void let_go(struct guard_call *call, struct engine_call *inner)
{
	engine_call_release(inner);
	engine_call_release(&call->base);
}

static void said_finish(struct engine_call *inner, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	struct guard_call *call = user;
	if (inner_ended(call, inner))
		call->callbacks.on_finish(&call->base, finish, usage, call->user);
	let_go(call, inner);
}

static void said_error(struct engine_call *inner, int status, enum engine_reason reason, const char *text,
                       const struct chat_usage *so_far, void *user)
{
	struct guard_call *call = user;
	if (inner_ended(call, inner))
		call->callbacks.on_error(&call->base, status, reason, text, so_far, call->user);
	let_go(call, inner);
}

static const struct engine_callbacks guarding = {said_started, said_delta, said_finish, said_error};

/* --- forwarding --- */

static struct engine *use_inner(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	struct engine *inner = guard->stopping ? NULL : guard->inner;
	guard->using_inner += inner ? 1 : 0;
	pthread_mutex_unlock(&guard->lock);
	return inner;
}

static void unuse_inner(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	guard->using_inner--;
	pthread_cond_broadcast(&guard->changed);
	pthread_mutex_unlock(&guard->lock);
}

static struct guard_call *new_call(struct guard *guard, const struct engine_callbacks *callbacks, void *user)
{
	struct guard_call *call = calloc(1, sizeof *call);
	if (!call)
		return NULL;
	engine_call_init(&call->base, &guard->base, destroy_call);
	pthread_mutex_init(&call->lock, NULL);
	call->callbacks = *callbacks;
	call->user = user;
	pthread_mutex_lock(&guard->lock);
	list_push_back(&guard->calls, &call->link);
	pthread_mutex_unlock(&guard->lock);
	return call;
}

static int submit(struct engine *base, const struct engine_request *request, const struct engine_callbacks *callbacks,
                  void *user, struct engine_call **out, struct error *error)
{
	struct guard *guard = (struct guard *)base;
	struct engine *inner = use_inner(guard);
	if (!inner) {
		error_set(error, DB_E_CLOSED, "the model is being reloaded");
		return 503;
	}
	struct guard_call *call = new_call(guard, callbacks, user);
	int status = 503;
	if (call) {
		engine_call_hold(&call->base); /* the inner call's, until it ends */
		*out = &call->base;
		status = engine_submit(inner, request, &guarding, call, &call->inner, error);
	} else {
		error_set(error, DB_E_NOMEM, "insufficient memory for the request");
	}
	if (status && call) {
		*out = NULL;
		unlist(guard, call);
		engine_call_release(&call->base);
		engine_call_release(&call->base);
	}
	unuse_inner(guard);
	if (status == 429 || status == 503) {
		pthread_mutex_lock(&guard->lock);
		guard->refused_us = clock_mono_us();
		pthread_mutex_unlock(&guard->lock);
	}
	return status;
}

static void cancel(struct engine_call *base)
{
	struct guard_call *call = (struct guard_call *)base;
	pthread_mutex_lock(&call->lock);
	if (call->inner && !call->inner_ended)
		engine_cancel(call->inner);
	pthread_mutex_unlock(&call->lock);
}

static void set_paused(struct engine_call *base, bool paused)
{
	struct guard_call *call = (struct guard_call *)base;
	pthread_mutex_lock(&call->lock);
	call->paused = paused;
	if (call->inner && !call->inner_ended)
		(paused ? engine_pause : engine_resume)(call->inner);
	note_since(call);
	pthread_mutex_unlock(&call->lock);
}

static uint32_t position(struct engine_call *base)
{
	struct guard_call *call = (struct guard_call *)base;
	pthread_mutex_lock(&call->lock);
	uint32_t place = call->inner && !call->inner_ended && !call->ended ? engine_queue_position(call->inner) : 0;
	pthread_mutex_unlock(&call->lock);
	return place;
}

static void info(const struct engine *base, struct engine_info *out)
{
	*out = ((const struct guard *)base)->info;
}

static size_t prefixes(struct engine *base, uint64_t *out, size_t max)
{
	struct guard *guard = (struct guard *)base;
	struct engine *inner = use_inner(guard);
	size_t count = inner ? engine_prefixes(inner, out, max) : 0;
	if (inner)
		unuse_inner(guard);
	return count;
}

static void capacity(struct engine *base, struct engine_capacity *out)
{
	struct guard *guard = (struct guard *)base;
	struct engine *inner = use_inner(guard);
	if (inner) {
		engine_capacity(inner, out);
		unuse_inner(guard);
		return;
	}
	pthread_mutex_lock(&guard->lock);
	out->crashed = guard->state == GUARD_CRASHED;
	out->reloading = guard->state == GUARD_RELOADS;
	pthread_mutex_unlock(&guard->lock);
}

/* --- replacing --- */

struct burial {
	struct guard *guard;
	struct engine *engine;
};

static void free_guard(struct guard *guard)
{
	if (guard->options.free_user)
		guard->options.free_user(guard->options.user);
	pthread_cond_destroy(&guard->changed);
	pthread_mutex_destroy(&guard->lock);
	free(guard);
}

static void *bury_main(void *user)
{
	struct burial *burial = user;
	struct guard *guard = burial->guard;
	engine_free(burial->engine); /* blocks as long as the engine hangs */
	free(burial);
	pthread_mutex_lock(&guard->lock);
	bool last = --guard->burying == 0 && guard->left;
	pthread_cond_broadcast(&guard->changed);
	pthread_mutex_unlock(&guard->lock);
	if (last)
		free_guard(guard);
	return NULL;
}

static void bury(struct guard *guard, struct engine *engine)
{
	struct burial *burial = malloc(sizeof *burial);
	pthread_t thread;
	pthread_mutex_lock(&guard->lock);
	guard->burying++;
	pthread_mutex_unlock(&guard->lock);
	if (burial)
		*burial = (struct burial){guard, engine};
	if (burial && pthread_create(&thread, NULL, bury_main, burial) == 0) {
		pthread_detach(thread);
		return;
	}
	free(burial); /* without memory for a thread the old engine is left as it is */
	pthread_mutex_lock(&guard->lock);
	guard->burying--;
	pthread_mutex_unlock(&guard->lock);
}

/* Ends one call from outside its engine; false when the engine is just telling it something. */
static bool fail_over(struct guard_call *call)
{
	static const struct chat_usage nothing = {0};
	pthread_mutex_lock(&call->lock);
	bool tell = !call->ended && !call->telling, done = call->ended;
	if (tell)
		call->ended = true;
	pthread_mutex_unlock(&call->lock);
	if (tell)
		call->callbacks.on_error(&call->base, 503, ENGINE_REASON_FAULT, "the engine hung and its model is reloaded", &nothing,
		                         call->user);
	return tell || done;
}

static void fail_all_over(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	for (struct list_link *link; (link = list_pop_front(&guard->calls));) {
		struct guard_call *call = LIST_OF(link, struct guard_call, link);
		engine_call_hold(&call->base);
		pthread_mutex_unlock(&guard->lock);
		if (!fail_over(call)) /* its consumer is at fault if this never ends, and hears of it when the engine is freed */
			log_warn("engine.guard_busy", "a consumer holds up its engine");
		engine_call_release(&call->base);
		pthread_mutex_lock(&guard->lock);
	}
	pthread_mutex_unlock(&guard->lock);
}

static struct engine *take_inner(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	struct engine *old = guard->inner;
	guard->inner = NULL;
	guard->state = GUARD_CRASHED;
	while (guard->using_inner)
		pthread_cond_wait(&guard->changed, &guard->lock);
	pthread_mutex_unlock(&guard->lock);
	return old;
}

static void reload(struct guard *guard)
{
	struct error error = {0};
	pthread_mutex_lock(&guard->lock);
	guard->state = GUARD_RELOADS;
	pthread_mutex_unlock(&guard->lock);
	struct engine *fresh = guard->options.make(guard->options.user, &error);
	pthread_mutex_lock(&guard->lock);
	guard->inner = fresh;
	guard->state = fresh ? GUARD_SERVES : GUARD_CRASHED;
	guard->restarts++;
	pthread_mutex_unlock(&guard->lock);
	guard->restarted_us = guard->moved_us = clock_mono_us();
	guard->short_since_us = 0;
	if (fresh)
		log_warn("engine.reloaded", "restarts=%llu", (unsigned long long)guard->restarts);
	else
		log_error("engine.reload_failed", "why=\"%s\"", error.text);
}

/* --- watching --- */

/* When the call that has run longest without anything moving began to; 0 = none runs. */
static uint64_t oldest_runner(struct guard *guard)
{
	uint64_t oldest = 0;
	LIST_EACH (link, &guard->calls) {
		const struct guard_call *call = LIST_OF(link, struct guard_call, link);
		if (call->since_us && (!oldest || call->since_us < oldest))
			oldest = call->since_us;
	}
	return oldest;
}

static bool hangs(struct guard *guard, uint64_t now)
{
	struct engine_capacity at;
	capacity(&guard->base, &at);
	at.progress += atomic_load_explicit(&guard->heard, memory_order_relaxed);
	if (at.progress != guard->progress)
		guard->moved_us = now;
	guard->progress = at.progress;
	if (at.budget_max_tokens > PINNED_TOKENS)
		guard->short_since_us = 0;
	else if (!guard->short_since_us)
		guard->short_since_us = now;
	pthread_mutex_lock(&guard->lock);
	uint64_t runs_since = oldest_runner(guard);
	bool demand = guard->calls.count || (guard->refused_us && now - guard->refused_us < UINT64_C(1000000) * REFUSAL_COUNTS_S);
	pthread_mutex_unlock(&guard->lock);
	uint64_t still_us = now - guard->moved_us, wedged_us = UINT64_C(1000) * guard->options.wedged_ms;
	uint64_t pinned_us = UINT64_C(1000) * guard->options.pinned_ms;
	if (runs_since && still_us >= wedged_us && now >= runs_since + wedged_us)
		return true;
	return demand && still_us >= pinned_us && guard->short_since_us && now - guard->short_since_us >= pinned_us;
}

/* Sleeps until it is time to look again; false when the guard stops. */
static bool wait_turn(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	if (!guard->stopping)
		engine_cond_wait_us(&guard->changed, &guard->lock, UINT64_C(1000) * guard->options.poll_ms);
	bool go_on = !guard->stopping;
	pthread_mutex_unlock(&guard->lock);
	return go_on;
}

static void *guard_main(void *user)
{
	struct guard *guard = user;
	while (wait_turn(guard)) {
		uint64_t now = clock_mono_us();
		bool cooled = !guard->restarted_us || now - guard->restarted_us >= UINT64_C(1000) * guard->options.cooldown_ms;
		bool hung = guard->inner && hangs(guard, now); /* only this thread changes inner */
		if (!cooled || (guard->inner && !hung))
			continue;
		struct engine *old = take_inner(guard);
		if (old)
			log_error("engine.hangs", "its calls are failed over and its model is reloaded");
		fail_all_over(guard);
		if (old)
			bury(guard, old);
		reload(guard);
	}
	return NULL;
}

/* --- beginning and end --- */

static void destroy(struct engine *base)
{
	struct guard *guard = (struct guard *)base;
	pthread_mutex_lock(&guard->lock);
	guard->stopping = true;
	pthread_cond_broadcast(&guard->changed);
	pthread_mutex_unlock(&guard->lock);
	if (guard->thread_runs)
		pthread_join(guard->thread, NULL);
	struct engine *inner = take_inner(guard);
	engine_free(inner); /* ends its calls */
	uint64_t until_us = clock_mono_us() + UINT64_C(1000) * FREE_WAIT_MS;
	pthread_mutex_lock(&guard->lock);
	while (guard->burying && clock_mono_us() < until_us)
		engine_cond_wait_us(&guard->changed, &guard->lock, 100000);
	bool last = !guard->burying;
	guard->left = true;
	pthread_mutex_unlock(&guard->lock);
	if (last)
		free_guard(guard);
}

static const struct engine_ops guard_ops = {.submit = submit,
                                            .cancel = cancel,
                                            .set_paused = set_paused,
                                            .position = position,
                                            .info = info,
                                            .capacity = capacity,
                                            .prefixes = prefixes,
                                            .free = destroy};

static uint32_t or_default(uint32_t given, uint32_t usual)
{
	return given ? given : usual;
}

struct engine *engine_guard_new(const struct engine_guard_options *options, struct error *error)
{
	struct guard *guard = calloc(1, sizeof *guard);
	if (!guard) {
		if (options->free_user)
			options->free_user(options->user);
		error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
		return NULL;
	}
	guard->base.ops = &guard_ops;
	guard->options = *options;
	guard->options.poll_ms = or_default(options->poll_ms, 2000);
	guard->options.wedged_ms = or_default(options->wedged_ms, 120000);
	guard->options.pinned_ms = or_default(options->pinned_ms, 180000);
	guard->options.cooldown_ms = or_default(options->cooldown_ms, 120000);
	list_init(&guard->calls);
	pthread_mutex_init(&guard->lock, NULL);
	engine_cond_init(&guard->changed);
	guard->moved_us = clock_mono_us();
	guard->inner = options->make(options->user, error);
	if (!guard->inner) {
		free_guard(guard);
		return NULL;
	}
	engine_info(guard->inner, &guard->info);
	guard->thread_runs = pthread_create(&guard->thread, NULL, guard_main, guard) == 0;
	if (guard->thread_runs)
		return &guard->base;
	destroy(&guard->base);
	error_set(error, DB_E_NOMEM, "model load failed: no threads");
	return NULL;
}

uint64_t engine_guard_restarts(struct engine *base)
{
	struct guard *guard = (struct guard *)base;
	pthread_mutex_lock(&guard->lock);
	uint64_t restarts = guard->restarts;
	pthread_mutex_unlock(&guard->lock);
	return restarts;
}

struct engine *engine_guard_inner(struct engine *base)
{
	struct guard *guard = (struct guard *)base;
	pthread_mutex_lock(&guard->lock);
	struct engine *inner = guard->inner;
	pthread_mutex_unlock(&guard->lock);
	return inner;
}
