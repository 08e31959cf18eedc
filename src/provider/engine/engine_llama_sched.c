/* The two threads of the engine, admission, preemption and the end of calls. */
#include "provider/engine/engine_llama.h"

#include "core/clock.h"

#define IDLE_WAIT_US 1000000 /* how often waiting calls are looked at while nothing else happens */

/* --- budget --- */

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* What a call needs to hold so that it can go on for a while. */
static size_t wanted_reservation(const struct llama_engine *engine, const struct llama_call *call)
{
	size_t most = call->prompt_count + (size_t)call->max_tokens;
	return smaller(most, call_token_count(call) + engine->reserve_ahead);
}

static bool reserve(struct llama_engine *engine, struct llama_call *call, size_t tokens)
{
	if (engine->reserved_tokens - call->reserved + tokens > engine->budget_tokens)
		return false;
	engine->reserved_tokens += tokens - call->reserved;
	call->reserved = tokens;
	return true;
}

/* --- leaving --- */

static void leave_batch(struct llama_engine *engine, struct llama_call *call)
{
	size_t kept = 0;
	for (size_t i = 0; i < engine->running_count; i++)
		if (engine->running[i] != call)
			engine->running[kept++] = engine->running[i];
	engine->running_count = kept;
	llama_cache_leave(engine, call);
	if (kept)
		llama_memory_seq_rm(llama_get_memory(engine->context), call->seq, -1, -1);
	else /* forgets where in the cache it was too: a lone call rounds the same way every time */
		llama_memory_clear(llama_get_memory(engine->context), false);
	engine->sequence_used[call->seq] = false;
	engine->reserved_tokens -= call->reserved;
	call->seq = -1;
	call->reserved = 0;
	call->in_cache = 0;
}

static void count_not_running(struct llama_engine *engine, bool more)
{
	pthread_mutex_lock(&engine->lock);
	engine->not_running += more ? 1 : UINT32_MAX;
	pthread_mutex_unlock(&engine->lock);
}

static void leave(struct llama_engine *engine, struct llama_call *call)
{
	if (call->seq >= 0) {
		leave_batch(engine, call);
	} else {
		list_remove(&engine->waiting, &call->link);
		count_not_running(engine, false);
	}
	engine->requests_done++;
}

static void forget(struct llama_engine *engine, struct llama_call *call)
{
	llama_cache_forget(engine, call);
	llama_call_clear(call);
	engine_call_release(&call->base);
}

void llama_engine_finish_call(struct llama_engine *engine, struct llama_call *call, enum engine_finish finish)
{
	struct chat_usage usage = llama_call_usage(call);
	leave(engine, call);
	call->base.stop = call->output.stop;
	call->callbacks.on_finish(&call->base, finish, &usage, call->user);
	forget(engine, call);
}

void llama_engine_fail_call(struct llama_engine *engine, struct llama_call *call, int status, const char *reason,
                            const char *text)
{
	struct chat_usage usage = llama_call_usage(call);
	leave(engine, call);
	call->callbacks.on_error(&call->base, status, reason, text, &usage, call->user);
	forget(engine, call);
}

static void end_cancelled(struct llama_engine *engine, struct llama_call *call)
{
	if (call->said)
		llama_engine_finish_call(engine, call, ENGINE_FINISH_CANCELLED);
	else
		llama_engine_fail_call(engine, call, 499, "cancelled", "request cancelled");
}

void llama_engine_preempt_youngest(struct llama_engine *engine)
{
	struct llama_call *call = engine->running[engine->running_count - 1];
	leave_batch(engine, call);
	list_push_front(&engine->waiting, &call->link);
	count_not_running(engine, true);
}

/* --- joining --- */

static size_t running_of(const struct llama_engine *engine, struct str tenant)
{
	size_t count = 0;
	for (size_t i = 0; i < engine->running_count; i++)
		count += str_eq(engine->running[i]->tenant, tenant) ? 1 : 0;
	return count;
}

/* A preempted call first; otherwise the tenant that has the least running, the earliest of its calls. */
static struct llama_call *next_waiting(struct llama_engine *engine)
{
	struct llama_call *best = NULL;
	size_t best_running = 0;
	LIST_EACH (link, &engine->waiting) {
		struct llama_call *call = LIST_OF(link, struct llama_call, link);
		if (call->started)
			return call;
		if (atomic_load(&call->paused) || !llama_cache_ready(engine, call))
			continue;
		size_t running = running_of(engine, call->tenant);
		if (!best || running < best_running) {
			best = call;
			best_running = running;
		}
	}
	return best;
}

static llama_seq_id free_sequence(const struct llama_engine *engine)
{
	for (uint32_t i = 0; i < engine->max_sequences; i++)
		if (!engine->sequence_used[i])
			return (llama_seq_id)i;
	return -1;
}

static void admit(struct llama_engine *engine)
{
	while (engine->running_count < engine->max_sequences) {
		struct llama_call *call = next_waiting(engine);
		if (!call || !reserve(engine, call, wanted_reservation(engine, call)))
			return;
		list_remove(&engine->waiting, &call->link);
		count_not_running(engine, false);
		call->seq = free_sequence(engine);
		call->serial = engine->next_serial++;
		engine->sequence_used[call->seq] = true;
		engine->running[engine->running_count++] = call;
		llama_cache_restore(engine, call);
	}
}

/* Every running call that reached the end of its reservation gets a longer one; the youngest make room. */
static void extend_reservations(struct llama_engine *engine)
{
	for (size_t i = 0; i < engine->running_count; i++) {
		struct llama_call *call = engine->running[i];
		if (call_token_count(call) <= call->reserved)
			continue;
		while (i < engine->running_count && !reserve(engine, call, wanted_reservation(engine, call)))
			llama_engine_preempt_youngest(engine);
	}
}

/* --- the engine thread --- */

void llama_engine_poke(struct llama_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->poked = true;
	pthread_cond_signal(&engine->engine_wake);
	pthread_mutex_unlock(&engine->lock);
}

static void end_waiting(struct llama_engine *engine)
{
	uint64_t now = clock_mono_us();
	LIST_EACH_SAFE (link, next, &engine->waiting) {
		struct llama_call *call = LIST_OF(link, struct llama_call, link);
		if (atomic_load(&call->cancelled))
			end_cancelled(engine, call);
		else if (call->fail_status)
			llama_engine_fail_call(engine, call, call->fail_status, call->fail_reason, call->fail.text);
		else if (call->count_only)
			llama_engine_finish_call(engine, call, ENGINE_FINISH_STOP);
		else if (!call->started && now - call->submitted_us > UINT64_C(1000) * ENGINE_WAITING_TIMEOUT_MS)
			llama_engine_fail_call(engine, call, 503, "capacity_timeout", "request timed out waiting for capacity");
	}
}

static void end_cancelled_running(struct llama_engine *engine)
{
	for (size_t i = engine->running_count; i-- > 0;)
		if (atomic_load(&engine->running[i]->cancelled))
			end_cancelled(engine, engine->running[i]);
}

static bool all_paused(const struct llama_engine *engine)
{
	for (size_t i = 0; i < engine->running_count; i++)
		if (!atomic_load(&engine->running[i]->paused))
			return false;
	return true;
}

static void publish(struct llama_engine *engine)
{
	struct engine_capacity now = {
	    .crashed = engine->failures >= ENGINE_CRASHED_FAILURES,
	    .running = (uint32_t)engine->running_count,
	    .max_concurrency = engine->max_sequences,
	    .budget_used_tokens = engine->reserved_tokens,
	    .budget_max_tokens = engine->budget_tokens,
	    .decode_tps = engine->decode_tps,
	    .prefill_tps = engine->prefill_tps,
	    .requests_done = engine->requests_done,
	    .tokens_done = engine->tokens_done,
	};
	for (size_t i = 0; i < engine->running_count; i++) {
		const struct llama_call *call = engine->running[i];
		now.active_tokens += call->in_cache;
		now.max_tokens_potential += call->prompt_count + (uint64_t)call->max_tokens;
	}
	LIST_EACH (link, &engine->waiting) {
		const struct llama_call *call = LIST_OF(link, struct llama_call, link);
		now.budget_queued_tokens += call->prompt_count + (uint64_t)call->max_tokens;
	}
	pthread_mutex_lock(&engine->lock);
	engine->published = now;
	pthread_mutex_unlock(&engine->lock);
}

/* Sleeps until there is something to do; false when the engine stops. */
static bool await_work(struct llama_engine *engine)
{
	bool idle = all_paused(engine);
	pthread_mutex_lock(&engine->lock);
	if (idle && !engine->prepare_ended && !engine->poked && !engine->prepared.count)
		engine_cond_wait_us(&engine->engine_wake, &engine->lock, IDLE_WAIT_US);
	engine->poked = false;
	struct list arrived;
	list_init(&arrived);
	for (struct list_link *link; (link = list_pop_front(&engine->prepared));)
		list_push_back(&arrived, link);
	bool ended = engine->prepare_ended;
	pthread_mutex_unlock(&engine->lock);
	for (struct list_link *link; (link = list_pop_front(&arrived));) {
		llama_cache_queued(engine, LIST_OF(link, struct llama_call, link));
		list_push_back(&engine->waiting, link);
	}
	return !ended;
}

static void *engine_main(void *user)
{
	struct llama_engine *engine = user;
	while (await_work(engine)) {
		end_waiting(engine);
		end_cancelled_running(engine);
		extend_reservations(engine);
		admit(engine);
		publish(engine);
		llama_engine_step(engine);
		if (!engine->running_count)
			publish(engine);
	}
	static const char stopped[] = "the engine is shutting down";
	while (engine->running_count)
		llama_engine_fail_call(engine, engine->running[0], 503, NULL, stopped);
	for (struct list_link *link; (link = list_first(&engine->waiting));)
		llama_engine_fail_call(engine, LIST_OF(link, struct llama_call, link), 503, NULL, stopped);
	publish(engine);
	return NULL;
}

/* --- the prepare thread --- */

static void *prepare_main(void *user)
{
	struct llama_engine *engine = user;
	pthread_mutex_lock(&engine->lock);
	for (;;) {
		while (!engine->to_prepare.count && !engine->stopping)
			pthread_cond_wait(&engine->prepare_wake, &engine->lock);
		struct list_link *link = list_pop_front(&engine->to_prepare);
		if (!link)
			break;
		struct llama_call *call = LIST_OF(link, struct llama_call, link);
		bool skip = engine->stopping || atomic_load(&call->cancelled);
		pthread_mutex_unlock(&engine->lock);
		if (!skip)
			llama_call_prepare(engine, call);
		pthread_mutex_lock(&engine->lock);
		list_push_back(&engine->prepared, &call->link);
		pthread_cond_signal(&engine->engine_wake);
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

/* --- start and stop --- */

enum db_err llama_engine_start(struct llama_engine *engine)
{
	if (pthread_create(&engine->prepare_thread, NULL, prepare_main, engine))
		return DB_E_NOMEM;
	if (pthread_create(&engine->engine_thread, NULL, engine_main, engine)) {
		pthread_mutex_lock(&engine->lock);
		engine->stopping = true;
		pthread_cond_signal(&engine->prepare_wake);
		pthread_mutex_unlock(&engine->lock);
		pthread_join(engine->prepare_thread, NULL);
		return DB_E_NOMEM;
	}
	engine->threads_run = true;
	return DB_OK;
}

/* The prepare thread ends first, so that whatever it still held reaches the engine thread, which ends every call. */
void llama_engine_stop(struct llama_engine *engine)
{
	if (!engine->threads_run)
		return;
	pthread_mutex_lock(&engine->lock);
	engine->stopping = true;
	pthread_cond_signal(&engine->prepare_wake);
	pthread_mutex_unlock(&engine->lock);
	pthread_join(engine->prepare_thread, NULL);
	pthread_mutex_lock(&engine->lock);
	engine->prepare_ended = true;
	pthread_cond_signal(&engine->engine_wake);
	pthread_mutex_unlock(&engine->lock);
	pthread_join(engine->engine_thread, NULL);
	engine->threads_run = false;
}
