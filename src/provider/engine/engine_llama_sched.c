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

/* Cells of this context and bytes of the budget: both or neither. */
static bool reserve(struct llama_engine *engine, struct llama_call *call, size_t tokens)
{
	if (engine->reserved_tokens - call->reserved + tokens > engine->budget_tokens)
		return false;
	uint64_t bytes = kv_cost_bytes(&engine->cost, tokens);
	if (!(call->kv.bytes ? kv_reservation_extend(&call->kv, bytes) : kv_budget_reserve(engine->budget, bytes, &call->kv)))
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
	kv_reservation_release(&call->kv);
	if (call->turn)
		call->turn->running--;
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
		atomic_store(&call->position, 0);
	}
	llama_fair_leave(engine, call);
	engine_concurrency_adapt(&engine->concurrency);
	engine->progress++;
}

/* Tells the consumer how it ended. */
static void close_group(struct llama_engine *engine, struct llama_call *root)
{
	struct llama_group *group = &root->group;
	engine->requests_done++;
	if (group->fail_status)
		root->callbacks.on_error(&root->base, group->fail_status, group->fail_reason, group->fail_text, &group->usage,
		                         root->user);
	else if (group->cancelled && !group->said)
		root->callbacks.on_error(&root->base, 499, ENGINE_REASON_CANCELLED, "request cancelled", &group->usage, root->user);
	else
		root->callbacks.on_finish(&root->base, group->cancelled ? ENGINE_FINISH_CANCELLED : group->finish, &group->usage,
		                          root->user);
}

static void tell_choice(struct llama_call *call, enum engine_finish finish)
{
	if (call->choices == 1 || finish == ENGINE_FINISH_CANCELLED)
		return;
	struct engine_delta delta = {.choice = call->choice, .ended = true, .finish = finish, .stop = call->output.stop};
	call->callbacks.on_delta(&call->root->base, &delta, call->user);
}

/* One answer is over; with the last the request is. */
static void end_answer(struct llama_engine *engine, struct llama_call *call)
{
	struct llama_call *root = call->root;
	struct llama_group *group = &root->group;
	struct chat_usage usage = llama_call_usage(call);
	group->usage.prompt_tokens = usage.prompt_tokens;
	group->usage.completion_tokens += usage.completion_tokens;
	group->usage.reasoning_tokens += usage.reasoning_tokens;
	if (call == root)
		group->usage.cached_tokens = usage.cached_tokens;
	group->said = group->said || call->said;
	root->base.stop = call->output.stop;
	leave(engine, call);
	llama_cache_forget(engine, call);
	bool over = --group->open == 0;
	if (over)
		close_group(engine, root);
	llama_call_clear(call);
	if (call != root)
		engine_call_release(&call->base);
	if (over) {
		llama_call_clear_request(root);
		engine_call_release(&root->base);
	}
}

void llama_engine_finish_call(struct llama_engine *engine, struct llama_call *call, enum engine_finish finish)
{
	call->root->group.finish = finish;
	if (finish == ENGINE_FINISH_CANCELLED)
		call->root->group.cancelled = true;
	tell_choice(call, finish);
	end_answer(engine, call);
}

void llama_engine_fail_call(struct llama_engine *engine, struct llama_call *call, int status, enum engine_reason reason,
                            const char *text)
{
	struct llama_group *group = &call->root->group;
	if (!group->fail_status) {
		group->fail_status = status;
		group->fail_reason = reason;
		str_copy(str_sub(str_of(text), 0, sizeof group->fail_text - 1), group->fail_text, sizeof group->fail_text);
	}
	end_answer(engine, call);
}

/* Its consumer does not want it any more, or another answer to the same request has failed. */
static bool is_doomed(const struct llama_call *call)
{
	return atomic_load(&call->root->cancelled) || call->root->group.fail_status;
}

static void end_doomed(struct llama_engine *engine, struct llama_call *call)
{
	llama_engine_finish_call(engine, call, ENGINE_FINISH_CANCELLED);
}

void llama_engine_preempt_youngest(struct llama_engine *engine)
{
	struct llama_call *call = engine->running[engine->running_count - 1];
	leave_batch(engine, call);
	list_push_front(&engine->waiting, &call->link);
	count_not_running(engine, true);
}

/* --- joining --- */

static llama_seq_id free_sequence(const struct llama_engine *engine)
{
	for (uint32_t i = 0; i < engine->max_sequences; i++)
		if (!engine->sequence_used[i])
			return (llama_seq_id)i;
	return -1;
}

/* Puts a waiting call into the batch, with an empty sequence; false when there is no room for it now. */
static bool join_batch(struct llama_engine *engine, struct llama_call *call)
{
	if (engine->running_count >= engine->concurrency.cap || !reserve(engine, call, wanted_reservation(engine, call)))
		return false;
	list_remove(&engine->waiting, &call->link);
	count_not_running(engine, false);
	atomic_store(&call->position, 0);
	call->seq = free_sequence(engine);
	call->serial = engine->next_serial++;
	engine->sequence_used[call->seq] = true;
	engine->running[engine->running_count++] = call;
	if (call->turn)
		call->turn->running++;
	return true;
}

static void admit(struct llama_engine *engine)
{
	struct llama_call *call;
	while (engine->running_count < engine->concurrency.cap && (call = llama_fair_next(engine)) && join_batch(engine, call))
		llama_cache_restore(engine, call);
	if (engine->waiting.count)
		llama_fair_number(engine);
}

size_t llama_engine_fork(struct llama_engine *engine, struct llama_call *root,
                         struct llama_call *joined[ENGINE_MAX_CHOICES - 1])
{
	size_t count = 0;
	root->group.forked = true;
	LIST_EACH_SAFE (link, next, &engine->waiting) {
		struct llama_call *call = LIST_OF(link, struct llama_call, link);
		if (call->root != root || !join_batch(engine, call))
			continue;
		llama_memory_seq_cp(llama_get_memory(engine->context), root->seq, call->seq, -1, -1);
		call->in_cache = root->in_cache;
		call->started = true;
		call->started_us = root->started_us;
		joined[count++] = call;
	}
	return count;
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
		if (is_doomed(call))
			end_doomed(engine, call);
		else if (call->fail_status)
			llama_engine_fail_call(engine, call, call->fail_status, call->fail_reason, call->fail.text);
		else if (call->count_only)
			llama_engine_finish_call(engine, call, ENGINE_FINISH_STOP);
		else if (call->resumed != CALL_GOES_ON)
			llama_engine_end_call(engine, call, call->resumed);
		else if (call == call->root && !call->started && now - call->submitted_us > UINT64_C(1000) * ENGINE_WAITING_TIMEOUT_MS)
			llama_engine_fail_call(engine, call, 503, ENGINE_REASON_TIMEOUT, "request timed out waiting for capacity");
	}
}

static void end_doomed_running(struct llama_engine *engine)
{
	for (size_t i = engine->running_count; i-- > 0;)
		if (is_doomed(engine->running[i]))
			end_doomed(engine, engine->running[i]);
}

static bool all_paused(const struct llama_engine *engine)
{
	for (size_t i = 0; i < engine->running_count; i++)
		if (!atomic_load(&engine->running[i]->root->paused))
			return false;
	return true;
}

/* Tokens of this model that admission could grant in all: the same sum that it decides by. */
static uint64_t budget_max(const struct llama_engine *engine)
{
	uint64_t per_token = engine->cost.bytes_per_token + engine->cost.window_bytes_per_token;
	uint64_t more = per_token ? kv_budget_free_bytes(engine->budget) / per_token : engine->budget_tokens;
	uint64_t all = engine->reserved_tokens + more;
	return all < engine->budget_tokens ? all : engine->budget_tokens;
}

static void publish(struct llama_engine *engine)
{
	struct engine_capacity now = {
	    .crashed = engine->failures >= ENGINE_CRASHED_FAILURES,
	    .running = (uint32_t)engine->running_count,
	    .max_concurrency = engine->concurrency.cap,
	    .budget_used_tokens = engine->reserved_tokens,
	    .budget_max_tokens = budget_max(engine),
	    .decode_tps = engine->decode_tps,
	    .prefill_tps = engine->prefill_tps,
	    .requests_done = engine->requests_done,
	    .tokens_done = engine->tokens_done,
	    .tokens_guessed = engine->tokens_guessed,
	    .guesses_right = engine->guesses_right,
	    .progress = engine->progress,
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

/* A request comes from the prepare thread as its first answer, which brings the others along. */
static void arrive(struct llama_engine *engine, struct llama_call *root)
{
	bool alone = root->choices == 1 || root->fail_status || atomic_load(&root->cancelled);
	if (alone)
		root->group.open = 1;
	llama_fair_join(engine, root);
	llama_cache_queued(engine, root);
	list_push_back(&engine->waiting, &root->link);
	for (uint32_t i = 0; !alone && i + 1 < root->choices; i++) {
		struct llama_call *call = root->siblings[i];
		root->siblings[i] = NULL;
		llama_fair_join(engine, call);
		llama_cache_queued(engine, call);
		list_push_back(&engine->waiting, &call->link);
		count_not_running(engine, true);
	}
}

/* Calls that came together begin together: the first of them would else run alone, and hold up the prompts of all others. The
 * lock is held. */
static void gather(struct llama_engine *engine)
{
	uint64_t start_us = clock_mono_us(), waited_us = 0;
	while (engine->prepared.count && engine->not_running > engine->prepared.count && !engine->stopping &&
	       waited_us < engine->gather_us) {
		engine_cond_wait_us(&engine->engine_wake, &engine->lock, engine->gather_us - waited_us);
		waited_us = clock_mono_us() - start_us;
	}
}

/* Sleeps until there is something to do; false when the engine stops. */
static bool await_work(struct llama_engine *engine)
{
	bool idle = all_paused(engine);
	pthread_mutex_lock(&engine->lock);
	if (idle && !engine->prepare_ended && !engine->poked && !engine->prepared.count)
		engine_cond_wait_us(&engine->engine_wake, &engine->lock, IDLE_WAIT_US);
	engine->poked = false;
	if (!engine->running_count && !engine->waiting.count)
		gather(engine);
	struct list arrived;
	list_init(&arrived);
	for (struct list_link *link; (link = list_pop_front(&engine->prepared));)
		list_push_back(&arrived, link);
	bool ended = engine->prepare_ended;
	pthread_mutex_unlock(&engine->lock);
	for (struct list_link *link; (link = list_pop_front(&arrived));)
		arrive(engine, LIST_OF(link, struct llama_call, link));
	return !ended;
}

static void *engine_main(void *user)
{
	struct llama_engine *engine = user;
	while (await_work(engine)) {
		end_waiting(engine);
		end_doomed_running(engine);
		extend_reservations(engine);
		admit(engine);
		publish(engine);
		llama_engine_step(engine);
		if (!engine->running_count)
			publish(engine);
	}
	static const char stopped[] = "the engine is shutting down";
	while (engine->running_count)
		llama_engine_fail_call(engine, engine->running[0], 503, ENGINE_REASON_NONE, stopped);
	for (struct list_link *link; (link = list_first(&engine->waiting));)
		llama_engine_fail_call(engine, LIST_OF(link, struct llama_call, link), 503, ENGINE_REASON_NONE, stopped);
	publish(engine);
	return NULL;
}

/* --- the prepare thread --- */

static pthread_mutex_t rendering = PTHREAD_MUTEX_INITIALIZER; /* one for all models of the process */

void llama_rendering_begin(void)
{
	pthread_mutex_lock(&rendering);
}

void llama_rendering_end(void)
{
	pthread_mutex_unlock(&rendering);
}

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
		if (!skip) {
			llama_rendering_begin();
			llama_call_prepare(engine, call);
			llama_rendering_end();
		}
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
	atomic_store(&engine->aborting, true);
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
