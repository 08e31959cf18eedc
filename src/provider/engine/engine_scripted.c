/* The scripted engine: deterministic text at a set pace, with faults. One thread keeps all calls in a heap by the time of their
 * next event, so that thousands of calls cost no thread each. */
#include "provider/engine/engine.h"

#include "core/buf.h"
#include "core/clock.h"
#include "core/list.h"
#include "crypto/hash.h"
#include "provider/engine/chat_verdict.h"
#include "provider/engine/engine_output.h"
#include "provider/engine/engine_script.h"
#include "provider/engine/engine_sync.h"
#include "provider/engine/script_family.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DEFAULT_CONCURRENCY 8
#define CONTEXT_TOKENS      (1u << 20)

struct script_call {
	struct engine_call base;
	struct list_link signal; /* in engine->signals while another thread wants it looked at */
	struct list_link link;   /* in engine->waiting or engine->running */
	struct engine_callbacks callbacks;
	void *user;
	bool cancelled, paused; /* under the engine's lock */

	struct arena *arena; /* stops */
	struct str stops[CHAT_MAX_STOPS];
	size_t stop_count;
	struct script_text own; /* the answer when the script gives none */
	const struct script_text *text;
	uint64_t prompt_tokens, pieces, limit;
	struct chat_resume resume; /* in the arena */
	uint64_t print;
	uint32_t choices;  /* all say the same */
	atomic_uint place; /* among those that wait */

	/* the engine thread's */
	bool running, ended, said;
	size_t heap_at; /* index + 1 in the heap, 0 = not in it */
	uint64_t due_us;
	uint64_t emitted;
	struct buf fresh; /* int32_t: ids since the last delta */
	struct engine_output output;
	struct chat_verdict verdict;
	struct chat_prompt prompt; /* its reader is the family's; NULL: the text is the content as it stands */
};

struct script_engine {
	struct engine base;
	struct engine_script script;
	struct script_text text;
	struct script_family *family; /* NULL as a rule */
	char fail_text[256];
	pthread_t thread;
	bool thread_runs;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list signals; /* calls that are new, cancelled, paused or resumed */
	uint32_t running_count, waiting_count;
	uint64_t active_tokens, requests_done, tokens_done;
	bool stopping;

	/* the engine thread's */
	struct list waiting, running;
	struct script_call **heap; /* running calls that have a next event */
	size_t heap_count, heap_room;
};

/* --- requests --- */

static void clear(struct script_call *call)
{
	engine_output_free(&call->output);
	chat_verdict_free(&call->verdict);
	chat_prompt_free(&call->prompt);
	buf_free(&call->fresh);
	script_text_free(&call->own);
	arena_free(call->arena);
	call->arena = NULL;
}

static void destroy_call(struct engine_call *base)
{
	struct script_call *call = (struct script_call *)base;
	clear(call);
	free(call);
}

/* What stands for the id of a token: a digest of its text. */
static int32_t id_of(struct str piece)
{
	uint32_t hash = 2166136261u;
	for (size_t i = 0; i < piece.len; i++)
		hash = (hash ^ (unsigned char)piece.at[i]) * 16777619u;
	return (int32_t)(hash & INT32_MAX);
}

static uint64_t print_of(const struct script_call *call)
{
	struct sha256_state state;
	uint8_t digest[SHA256_BYTES];
	uint64_t print;
	sha256_begin(&state);
	sha256_update(&state, call->text->bytes.at, call->text->bytes.len);
	sha256_update(&state, &call->pieces, sizeof call->pieces);
	sha256_update(&state, &call->limit, sizeof call->limit);
	sha256_end(&state, digest);
	memcpy(&print, digest, sizeof print);
	return print;
}

static bool copy_resume(struct script_call *call, const struct chat_resume *from)
{
	int32_t *tokens = arena_alloc(call->arena, (from->count + 1) * sizeof *tokens);
	if (tokens && from->count)
		memcpy(tokens, from->tokens, from->count * sizeof *tokens);
	call->resume = (struct chat_resume){from->print, tokens, from->count};
	return tokens != NULL;
}

static bool fill(struct script_engine *engine, struct script_call *call, const struct chat_request *chat)
{
	struct str last;
	call->prompt_tokens = chat->prompt ? script_plain_words(chat->prompt, &last) : script_prompt_words(chat->messages, &last);
	for (size_t i = 0; i < chat->sampling.stop_count; i++) {
		struct str stop = arena_str(call->arena, chat->sampling.stops[i]);
		if (chat->sampling.stops[i].len && !stop.at)
			return false;
		if (stop.len)
			call->stops[call->stop_count++] = stop;
	}
	engine_output_init(&call->output, call->stops, call->stop_count);
	call->text = &engine->text;
	if (!engine->script.text) {
		if (script_text_digest(&call->own, last))
			return false;
		call->text = &call->own;
	}
	call->pieces = engine->script.tokens ? engine->script.tokens : call->text->count;
	if (chat->task == CHAT_TASK_COUNT)
		call->pieces = 0;
	call->choices = chat->n > 1 ? (uint32_t)chat->n : 1;
	call->limit = chat->max_tokens > 0 ? (uint64_t)chat->max_tokens : UINT64_MAX;
	call->print = print_of(call);
	const char *schema = chat_verdict_schema(chat, call->arena);
	chat_verdict_init(&call->verdict, schema);
	return schema != NULL;
}

/* --- heap of calls by their next event --- */

static void heap_put(struct script_engine *engine, size_t at, struct script_call *call)
{
	engine->heap[at] = call;
	call->heap_at = at + 1;
}

static void heap_up(struct script_engine *engine, size_t at)
{
	struct script_call *call = engine->heap[at];
	for (; at && engine->heap[(at - 1) / 2]->due_us > call->due_us; at = (at - 1) / 2)
		heap_put(engine, at, engine->heap[(at - 1) / 2]);
	heap_put(engine, at, call);
}

static void heap_down(struct script_engine *engine, size_t at)
{
	struct script_call *call = engine->heap[at];
	for (;;) {
		size_t child = 2 * at + 1;
		if (child >= engine->heap_count)
			break;
		if (child + 1 < engine->heap_count && engine->heap[child + 1]->due_us < engine->heap[child]->due_us)
			child++;
		if (engine->heap[child]->due_us >= call->due_us)
			break;
		heap_put(engine, at, engine->heap[child]);
		at = child;
	}
	heap_put(engine, at, call);
}

static void unschedule(struct script_engine *engine, struct script_call *call)
{
	if (!call->heap_at)
		return;
	size_t at = call->heap_at - 1;
	call->heap_at = 0;
	struct script_call *moved = engine->heap[--engine->heap_count];
	if (moved == call)
		return;
	heap_put(engine, at, moved);
	heap_up(engine, at);
	heap_down(engine, moved->heap_at - 1);
}

/* The heap has room for every running call: it is made as large as the concurrency. */
static void schedule(struct script_engine *engine, struct script_call *call, uint64_t due_us)
{
	unschedule(engine, call);
	call->due_us = due_us;
	heap_put(engine, engine->heap_count++, call);
	heap_up(engine, engine->heap_count - 1);
}

/* --- the life of a call, on the engine thread --- */

static struct chat_usage usage_of(const struct script_call *call)
{
	return (struct chat_usage){.prompt_tokens = call->prompt_tokens, .completion_tokens = call->choices * call->emitted};
}

static void leave(struct script_engine *engine, struct script_call *call)
{
	unschedule(engine, call);
	list_remove(call->running ? &engine->running : &engine->waiting, &call->link);
	call->ended = true;
	atomic_store_explicit(&call->place, 0, memory_order_relaxed);
	pthread_mutex_lock(&engine->lock);
	if (call->running) {
		engine->running_count--;
		engine->active_tokens -= call->prompt_tokens + call->emitted;
	} else {
		engine->waiting_count--;
	}
	engine->requests_done++;
	pthread_mutex_unlock(&engine->lock);
}

static void forget(struct script_call *call)
{
	clear(call);
	engine_call_release(&call->base);
}

static void finish(struct script_engine *engine, struct script_call *call, enum engine_finish finish)
{
	struct chat_usage usage = usage_of(call);
	call->base.stop = call->output.stop;
	for (uint32_t i = 0; call->choices > 1 && finish != ENGINE_FINISH_CANCELLED && i < call->choices; i++) {
		struct engine_delta end = {.choice = i, .ended = true, .finish = finish, .stop = call->output.stop};
		call->callbacks.on_delta(&call->base, &end, call->user);
	}
	leave(engine, call);
	call->callbacks.on_finish(&call->base, finish, &usage, call->user);
	forget(call);
}

static void fail(struct script_engine *engine, struct script_call *call, int status, enum engine_reason reason,
                 const char *text)
{
	struct chat_usage usage = usage_of(call);
	leave(engine, call);
	call->callbacks.on_error(&call->base, status, reason, text, &usage, call->user);
	forget(call);
}

/* What the family's reader makes of the text. */
static void read_family(struct script_call *call, struct str text, bool final, struct engine_delta *out)
{
	struct chat_reader_delta read = {0};
	if (!chat_reader_feed(call->prompt.reader, text.at ? text.at : "", text.len, final, &read))
		return; /* without memory the rest of the answer is lost, here where only tests are run */
	out->content = (struct str){read.content, read.content_len};
	out->reasoning = (struct str){read.reasoning, read.reasoning_len};
	out->tool_calls = (struct str){read.tool_calls, read.tool_calls_len};
}

static void give_out(struct script_call *call, bool final, bool replayed)
{
	struct engine_delta delta = {.content = engine_output_take(&call->output, final), .replayed = replayed};
	if (call->prompt.reader)
		read_family(call, delta.content, final, &delta);
	if (!delta.content.len && !delta.reasoning.len && !delta.tool_calls.len)
		return;
	call->said = true;
	chat_verdict_add(&call->verdict, delta.content);
	if (call->choices == 1)
		delta.sampled =
		    (struct chat_resume){call->print, (const int32_t *)(const void *)call->fresh.at, call->fresh.len / sizeof(int32_t)};
	for (; delta.choice < call->choices; delta.choice++)
		call->callbacks.on_delta(&call->base, &delta, call->user);
	buf_clear(&call->fresh);
}

static bool faults_now(const struct script_engine *engine, const struct script_call *call)
{
	return engine->script.fail_status && call->emitted >= engine->script.fail_after_tokens;
}

enum told { TOLD_MORE, TOLD_ALL, TOLD_LENGTH };

/* One token. */
static enum told tell(struct script_engine *engine, struct script_call *call, bool replayed)
{
	struct str piece = script_text_piece(call->text, call->pieces, call->emitted);
	int32_t id = id_of(piece);
	engine_output_push(&call->output, piece);
	buf_append(&call->fresh, &id, sizeof id);
	call->emitted++;
	pthread_mutex_lock(&engine->lock);
	engine->active_tokens++;
	engine->tokens_done++;
	pthread_mutex_unlock(&engine->lock);
	bool all = call->emitted == call->pieces && !faults_now(engine, call);
	bool length = call->emitted >= call->limit && !all && !call->output.stopped;
	bool end = all || length || call->output.stopped;
	give_out(call, end, replayed);
	return !end ? TOLD_MORE : length ? TOLD_LENGTH : TOLD_ALL;
}

static enum engine_finish finish_of(const struct script_call *call, enum told told)
{
	if (call->prompt.reader && chat_reader_has_tool_calls(call->prompt.reader))
		return ENGINE_FINISH_TOOL_CALLS;
	return told == TOLD_LENGTH ? ENGINE_FINISH_LENGTH : ENGINE_FINISH_STOP;
}

static void end_told(struct script_engine *engine, struct script_call *call, enum told told)
{
	bool by_itself = told == TOLD_ALL && !call->output.stopped;
	const char *refusal = by_itself ? chat_verdict_refusal(&call->verdict) : NULL;
	if (refusal)
		fail(engine, call, 422, ENGINE_REASON_NONE, refusal);
	else
		finish(engine, call, finish_of(call, told));
}

/* What the answer said where it began. False when the call has ended. */
static bool replay(struct script_engine *engine, struct script_call *call)
{
	enum told told = TOLD_MORE;
	bool same = call->print == call->resume.print && call->choices == 1;
	for (size_t i = 0; same && i < call->resume.count; i++) {
		same = told == TOLD_MORE && id_of(script_text_piece(call->text, call->pieces, call->emitted)) == call->resume.tokens[i];
		if (same)
			told = tell(engine, call, true);
	}
	if (!same)
		fail(engine, call, 409, ENGINE_REASON_NONE, "the answer cannot be continued here: it would have gone another way");
	else if (told != TOLD_MORE)
		end_told(engine, call, told);
	return same && told == TOLD_MORE;
}

/* Until the engine is freed. */
static void hang(struct script_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	while (!engine->stopping)
		pthread_cond_wait(&engine->wake, &engine->lock);
	pthread_mutex_unlock(&engine->lock);
}

/* One token, or the end. */
static void advance(struct script_engine *engine, struct script_call *call)
{
	const struct engine_script *script = &engine->script;
	if (faults_now(engine, call)) {
		fail(engine, call, script->fail_status, ENGINE_REASON_FAULT, engine->fail_text);
		return;
	}
	if (call->pieces == 0) {
		finish(engine, call, ENGINE_FINISH_STOP);
		return;
	}
	if (script->hang_at_token && call->emitted == script->hang_at_token) {
		hang(engine);
		return;
	}
	enum told told = tell(engine, call, false);
	if (told != TOLD_MORE)
		end_told(engine, call, told);
	else
		schedule(engine, call, call->due_us + UINT64_C(1000) * script->token_delay_ms);
}

static void admit(struct script_engine *engine)
{
	struct list_link *link;
	while (engine->heap_room > engine->running_count && (link = list_pop_front(&engine->waiting))) {
		struct script_call *call = LIST_OF(link, struct script_call, link);
		call->running = true;
		atomic_store_explicit(&call->place, 0, memory_order_relaxed);
		list_push_back(&engine->running, link);
		pthread_mutex_lock(&engine->lock);
		engine->waiting_count--;
		engine->running_count++;
		engine->active_tokens += call->prompt_tokens;
		bool paused = call->paused;
		pthread_mutex_unlock(&engine->lock);
		if (call->callbacks.on_started)
			call->callbacks.on_started(&call->base, call->user);
		if (call->resume.count && !replay(engine, call))
			continue;
		call->due_us = clock_mono_us() + UINT64_C(1000) * engine->script.first_delay_ms;
		if (!engine->script.hang && !paused)
			schedule(engine, call, call->due_us);
	}
}

/* A call that another thread touched. */
static void look_at(struct script_engine *engine, struct script_call *call, bool cancelled, bool paused)
{
	if (call->ended)
		return;
	if (cancelled) {
		if (call->said)
			finish(engine, call, ENGINE_FINISH_CANCELLED);
		else
			fail(engine, call, 499, ENGINE_REASON_CANCELLED, "request cancelled");
	} else if (!call->running) {
		if (!list_linked(&call->link))
			list_push_back(&engine->waiting, &call->link);
	} else if (paused) {
		unschedule(engine, call);
	} else if (!call->heap_at && !engine->script.hang) {
		uint64_t now = clock_mono_us();
		schedule(engine, call, call->due_us > now ? call->due_us : now);
	}
}

static void number(struct list *waiting)
{
	uint32_t place = 0;
	LIST_EACH (link, waiting)
		atomic_store_explicit(&LIST_OF(link, struct script_call, link)->place, ++place, memory_order_relaxed);
}

static void take_signals(struct script_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	for (struct list_link *link; (link = list_pop_front(&engine->signals));) {
		struct script_call *call = LIST_OF(link, struct script_call, signal);
		bool cancelled = call->cancelled, paused = call->paused;
		pthread_mutex_unlock(&engine->lock);
		look_at(engine, call, cancelled, paused);
		engine_call_release(&call->base);
		pthread_mutex_lock(&engine->lock);
	}
	pthread_mutex_unlock(&engine->lock);
}

/* Waits for the next event or signal; false when the engine stops. */
static bool await(struct script_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	while (!engine->stopping && !engine->signals.count) {
		uint64_t now = clock_mono_us();
		if (!engine->heap_count)
			pthread_cond_wait(&engine->wake, &engine->lock);
		else if (engine->heap[0]->due_us > now)
			engine_cond_wait_us(&engine->wake, &engine->lock, engine->heap[0]->due_us - now);
		else
			break;
	}
	bool go_on = !engine->stopping;
	pthread_mutex_unlock(&engine->lock);
	return go_on;
}

static void end_all(struct script_engine *engine, struct list *calls)
{
	for (struct list_link *link; (link = list_first(calls));)
		fail(engine, LIST_OF(link, struct script_call, link), 503, ENGINE_REASON_NONE, "the engine is shutting down");
}

static void *script_main(void *user)
{
	struct script_engine *engine = user;
	while (await(engine)) {
		take_signals(engine);
		admit(engine);
		if (engine->heap_count && engine->heap[0]->due_us <= clock_mono_us())
			advance(engine, engine->heap[0]);
		admit(engine);
		number(&engine->waiting);
	}
	take_signals(engine);
	end_all(engine, &engine->running);
	end_all(engine, &engine->waiting);
	return NULL;
}

/* --- what other threads call --- */

static void signal_call(struct script_engine *engine, struct script_call *call)
{
	if (!list_linked(&call->signal)) {
		engine_call_hold(&call->base);
		list_push_back(&engine->signals, &call->signal);
	}
	pthread_cond_signal(&engine->wake);
}

static int submit(struct engine *base, const struct engine_request *request, const struct engine_callbacks *callbacks,
                  void *user, struct engine_call **out, struct error *error)
{
	struct script_engine *engine = (struct script_engine *)base;
	int status = 0;
	if (request->chat->task == CHAT_TASK_EMBED) {
		error_set(error, DB_E_UNSUPPORTED, "the scripted engine makes no embeddings");
		return 400;
	}
	struct script_call *call = calloc(1, sizeof *call);
	if (!call) {
		error_set(error, DB_E_NOMEM, "insufficient memory for the request");
		return 503;
	}
	engine_call_init(&call->base, base, destroy_call);
	engine_output_init(&call->output, NULL, 0);
	buf_init(&call->fresh, (size_t)1 << 20);
	call->callbacks = *callbacks;
	call->user = user;
	call->arena = arena_new(0);
	if (!call->arena || !fill(engine, call, request->chat) || !copy_resume(call, &request->resume)) {
		error_set(error, DB_E_NOMEM, "insufficient memory for the request");
		engine_call_release(&call->base);
		return 503;
	}
	if (engine->family && request->chat->task == CHAT_TASK_ANSWER && !request->chat->prompt)
		status = script_family_render(engine->family, request->chat, call->arena, &call->prompt, error);
	if (status) {
		engine_call_release(&call->base);
		return status;
	}
	pthread_mutex_lock(&engine->lock);
	if (request->max_prompt_tokens && call->prompt_tokens > request->max_prompt_tokens) {
		status = 413;
		error_set(error, DB_E_LIMIT, "the prompt has %llu tokens, more than the declared %llu",
		          (unsigned long long)call->prompt_tokens, (unsigned long long)request->max_prompt_tokens);
	} else if (engine->stopping) {
		status = 503;
		error_set(error, DB_E_CLOSED, "the engine is shutting down");
	} else if (engine->waiting_count >= ENGINE_MAX_WAITING) {
		status = 429;
		error_set(error, DB_E_LIMIT, "queue full: %d requests are waiting", ENGINE_MAX_WAITING);
	} else {
		*out = &call->base;
		engine->waiting_count++;
		engine_call_hold(&call->base);
		signal_call(engine, call);
	}
	pthread_mutex_unlock(&engine->lock);
	if (status)
		engine_call_release(&call->base);
	return status;
}

static void cancel(struct engine_call *base)
{
	struct script_engine *engine = (struct script_engine *)base->engine;
	struct script_call *call = (struct script_call *)base;
	pthread_mutex_lock(&engine->lock);
	call->cancelled = true;
	signal_call(engine, call);
	pthread_mutex_unlock(&engine->lock);
}

static void set_paused(struct engine_call *base, bool paused)
{
	struct script_engine *engine = (struct script_engine *)base->engine;
	struct script_call *call = (struct script_call *)base;
	pthread_mutex_lock(&engine->lock);
	call->paused = paused;
	signal_call(engine, call);
	pthread_mutex_unlock(&engine->lock);
}

static uint32_t position(struct engine_call *base)
{
	return atomic_load_explicit(&((struct script_call *)base)->place, memory_order_relaxed);
}

static void info(const struct engine *base, struct engine_info *out)
{
	const struct script_engine *engine = (const struct script_engine *)base;
	*out = (struct engine_info){
	    .architecture = "scripted",
	    .quantization = "none",
	    .context_tokens = CONTEXT_TOKENS,
	    .template_render_ok = true,
	    .can_choose = true,
	    .kv_bytes_per_token = 1,
	    .load_time_ms = engine->script.load_delay_ms,
	};
}

static void capacity(struct engine *base, struct engine_capacity *out)
{
	struct script_engine *engine = (struct script_engine *)base;
	pthread_mutex_lock(&engine->lock);
	*out = (struct engine_capacity){
	    .running = engine->running_count,
	    .waiting = engine->waiting_count,
	    .max_concurrency = (uint32_t)engine->heap_room,
	    .active_tokens = engine->active_tokens,
	    .max_tokens_potential = engine->active_tokens,
	    .budget_used_tokens = engine->active_tokens,
	    .budget_max_tokens = CONTEXT_TOKENS,
	    .decode_tps = engine->script.token_delay_ms ? 1000.0 / engine->script.token_delay_ms : 0,
	    .requests_done = engine->requests_done,
	    .tokens_done = engine->tokens_done,
	    .progress = engine->requests_done + engine->tokens_done,
	};
	pthread_mutex_unlock(&engine->lock);
}

static void destroy(struct engine *base)
{
	struct script_engine *engine = (struct script_engine *)base;
	if (engine->thread_runs) {
		pthread_mutex_lock(&engine->lock);
		engine->stopping = true;
		pthread_cond_signal(&engine->wake);
		pthread_mutex_unlock(&engine->lock);
		pthread_join(engine->thread, NULL);
	}
	pthread_cond_destroy(&engine->wake);
	pthread_mutex_destroy(&engine->lock);
	script_text_free(&engine->text);
	script_family_free(engine->family);
	free(engine->heap);
	free(engine);
}

static const struct engine_ops script_ops = {.submit = submit,
                                             .cancel = cancel,
                                             .set_paused = set_paused,
                                             .position = position,
                                             .info = info,
                                             .capacity = capacity,
                                             .free = destroy};

static void sleep_ms(uint32_t ms)
{
	struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
	while (nanosleep(&left, &left))
		continue;
}

struct engine *engine_scripted_new(const struct engine_script *script, struct error *error)
{
	struct script_engine *engine = calloc(1, sizeof *engine);
	if (!engine)
		goto out_of_memory;
	engine->base.ops = &script_ops;
	engine->script = *script;
	engine->heap_room = script->max_concurrency ? script->max_concurrency : DEFAULT_CONCURRENCY;
	snprintf(engine->fail_text, sizeof engine->fail_text, "%s", script->fail_text ? script->fail_text : "scripted failure");
	engine->script.fail_text = NULL;
	engine->script.vocabulary = engine->script.chat_template = NULL;
	list_init(&engine->signals);
	list_init(&engine->waiting);
	list_init(&engine->running);
	pthread_mutex_init(&engine->lock, NULL);
	engine_cond_init(&engine->wake);
	engine->heap = calloc(engine->heap_room, sizeof(struct script_call *));
	if (!engine->heap || (script->text && script_text_set(&engine->text, str_of(script->text))))
		goto out_of_memory;
	if (script->vocabulary && !(engine->family = script_family_new(script->vocabulary, script->chat_template, error))) {
		destroy(&engine->base);
		return NULL;
	}
	sleep_ms(script->load_delay_ms);
	if (pthread_create(&engine->thread, NULL, script_main, engine))
		goto out_of_memory;
	engine->thread_runs = true;
	return &engine->base;

out_of_memory:
	error_set(error, DB_E_NOMEM, "insufficient memory for the scripted engine");
	if (engine)
		destroy(&engine->base);
	return NULL;
}
