/* A call from its request to the tokens to run. */
#include "provider/engine/engine_llama.h"

#include "core/clock.h"
#include "core/version.h"
#include "crypto/hash.h"
#include "provider/engine/chat_conversation.h"

#include <stdlib.h>

#define REQUEST_TEXT_MAX ((size_t)64 << 20)

static void destroy(struct engine_call *base)
{
	struct llama_call *call = (struct llama_call *)base;
	for (uint32_t i = 0; i + 1 < ENGINE_MAX_CHOICES; i++)
		if (call->siblings[i])
			engine_call_release(&call->siblings[i]->base);
	llama_call_clear(call);
	llama_call_clear_request(call);
	free(call);
}

void llama_call_clear(struct llama_call *call)
{
	engine_sampler_free(call->sampler);
	call->sampler = NULL;
	chat_prompt_free(&call->prompt);
	engine_output_free(&call->output);
	chat_verdict_free(&call->verdict);
	engine_draft_free(&call->draft);
	buf_free(&call->tokens);
	buf_free(&call->logprobs);
	buf_free(&call->fresh);
}

void llama_call_clear_request(struct llama_call *root)
{
	arena_free(root->arena);
	root->arena = NULL;
}

struct chat_usage llama_call_usage(const struct llama_call *call)
{
	return (struct chat_usage){
	    .prompt_tokens = call->prompt_count,
	    .completion_tokens = call->generated,
	    .reasoning_tokens = chat_grammar_reasoning_tokens(call->prompt.grammar),
	    .cached_tokens = call->cached_tokens,
	};
}

/* --- copying the request --- */

static bool copy_sampling(struct arena *arena, const struct chat_sampling *from, struct chat_sampling *out)
{
	*out = *from;
	for (size_t i = 0; i < from->stop_count; i++) {
		out->stops[i] = arena_str(arena, from->stops[i]);
		if (from->stops[i].len && !out->stops[i].at)
			return false;
	}
	out->biases = NULL;
	if (!from->bias_count)
		return true;
	out->biases = arena_alloc(arena, from->bias_count * sizeof *from->biases);
	if (!out->biases)
		return false;
	memcpy(out->biases, from->biases, from->bias_count * sizeof *from->biases);
	return true;
}

static bool copy_resume(struct arena *arena, const struct chat_resume *from, struct chat_resume *out)
{
	*out = (struct chat_resume){from->print, NULL, from->count};
	if (!from->count)
		return true;
	int32_t *tokens = arena_alloc(arena, from->count * sizeof *tokens);
	if (!tokens)
		return false;
	memcpy(tokens, from->tokens, from->count * sizeof *tokens);
	out->tokens = tokens;
	return true;
}

/* What this engine cannot do is refused in words, never ignored. */
static int refuse(const struct chat_request *chat, const struct chat_resume *resume, struct error *error)
{
	if (chat->n > ENGINE_MAX_CHOICES) {
		error_set(error, DB_E_UNSUPPORTED, "n must be at most %d: send the request several times instead", ENGINE_MAX_CHOICES);
		return 400;
	}
	if (chat->n > 1 && resume->count > 0) {
		error_set(error, DB_E_UNSUPPORTED, "several answers cannot be continued");
		return 409;
	}
	if (chat->sampling.logprobs && chat->has_tools) {
		error_set(error, DB_E_UNSUPPORTED, "logprobs together with tools is not supported by this provider");
		return 400;
	}
	return 0;
}

static struct llama_call *new_call(struct llama_engine *engine, const struct engine_callbacks *callbacks, void *user)
{
	struct llama_call *call = calloc(1, sizeof *call);
	if (!call)
		return NULL;
	engine_call_init(&call->base, &engine->base, destroy);
	atomic_init(&call->cancelled, false);
	atomic_init(&call->paused, false);
	atomic_init(&call->position, 0);
	call->callbacks = *callbacks;
	call->user = user;
	call->submitted_us = clock_mono_us();
	call->seq = -1;
	call->root = call;
	buf_init(&call->tokens, 0);
	buf_init(&call->logprobs, 0);
	buf_init(&call->fresh, (size_t)1 << 20);
	engine_output_init(&call->output, NULL, 0);
	engine_draft_init(&call->draft);
	return call;
}

struct llama_call *llama_call_new(struct llama_engine *engine, const struct engine_request *request,
                                  const struct engine_callbacks *callbacks, void *user, int *status, struct error *error)
{
	*status = refuse(request->chat, &request->resume, error);
	if (*status)
		return NULL;
	struct llama_call *call = new_call(engine, callbacks, user);
	if (!call)
		goto out_of_memory;
	call->choices = request->chat->n > 1 ? (uint32_t)request->chat->n : 1;
	call->group.open = call->choices;
	call->arena = arena_new(REQUEST_TEXT_MAX);
	if (!call->arena)
		goto out_of_memory;
	call->max_prompt_tokens = request->max_prompt_tokens;
	call->max_tokens = request->chat->max_tokens;
	call->count_only = request->chat->task == CHAT_TASK_COUNT;
	call->shortens = request->chat->shortens && !call->count_only;
	call->tenant = arena_str(call->arena, request->tenant);
	call->cache_scope = arena_str(call->arena, request->cache_scope);
	call->names = request->names;
	if ((request->tenant.len && !call->tenant.at) || (request->cache_scope.len && !call->cache_scope.at) ||
	    !copy_sampling(call->arena, &request->chat->sampling, &call->sampling) ||
	    !copy_resume(call->arena, &request->resume, &call->resume) ||
	    (request->chat->prompt && !llama_plain_copy(call, request->chat->prompt)))
		goto out_of_memory;
	*status = chat_conversation_copy(request->chat, str_of(engine->info.architecture), call->arena, &call->conversation, error);
	if (!*status)
		return call;
	destroy(&call->base);
	return NULL;

out_of_memory:
	if (call)
		destroy(&call->base);
	error_set(error, DB_E_NOMEM, "insufficient memory for the request");
	*status = 503;
	return NULL;
}

/* --- preparing --- */

static void fail(struct llama_call *call, int status, enum engine_reason reason, struct error error)
{
	call->fail_status = status;
	call->fail_reason = reason;
	call->fail = error;
}

static void fail_memory(struct llama_call *call)
{
	struct error error;
	error_set(&error, DB_E_NOMEM, "insufficient memory for the request");
	fail(call, 503, ENGINE_REASON_NONE, error);
}

bool llama_call_render(struct llama_engine *engine, struct llama_call *call)
{
	struct error error;
	if (call->plain) {
		enum db_err err = llama_plain_prompt(engine, call, &error);
		if (err)
			fail(call, err == DB_E_NOMEM ? 503 : 400, ENGINE_REASON_NONE, error);
		return !err;
	}
	int status = chat_conversation_render(engine->templates, &call->conversation, call->arena, &call->prompt, &error);
	if (!status)
		return true;
	fail(call, status, ENGINE_REASON_NONE, error);
	return false;
}

/* Those of the request and those of the model's family, in one list. */
static bool collect_stops(struct llama_call *call)
{
	size_t count = call->sampling.stop_count + call->prompt.stop_count;
	call->stops = arena_alloc(call->arena, (count + 1) * sizeof *call->stops);
	if (!call->stops)
		return false;
	for (size_t i = 0; i < call->sampling.stop_count; i++)
		if (call->sampling.stops[i].len)
			call->stops[call->stop_count++] = call->sampling.stops[i];
	for (size_t i = 0; i < call->prompt.stop_count; i++)
		if (call->prompt.stops[i][0])
			call->stops[call->stop_count++] = str_of(call->prompt.stops[i]);
	engine_output_init(&call->output, call->stops, call->stop_count);
	return true;
}

bool llama_call_tokenize(struct llama_engine *engine, struct llama_call *call)
{
	if (!call->prompt.text) /* they came as tokens */
		return true;
	size_t most = call->prompt.text_len + 16; /* no vocabulary makes more tokens than bytes, but for a few special ones */
	size_t limit = most > engine->sequence_tokens ? most : engine->sequence_tokens + 1;
	buf_init(&call->tokens, limit * sizeof(int32_t));
	if (most > INT32_MAX || buf_reserve(&call->tokens, most * sizeof(int32_t)))
		return false;
	int32_t count = call->plain ? chat_shim_tokenize(engine->vocab, call->prompt.text, call->prompt.text_len, call_tokens(call),
	                                                 (int32_t)most, true, true)
	                            : chat_prompt_tokenize(&call->prompt, call_tokens(call), (int32_t)most);
	if (count < 0)
		return false;
	call->tokens.len = (size_t)count * sizeof(int32_t);
	call->prompt_count = (size_t)count;
	return true;
}

/* The longest sequence that could ever run here, were it alone. */
size_t llama_engine_longest(const struct llama_engine *engine)
{
	struct kv_budget_stats all;
	kv_budget_stats(engine->budget, &all);
	return (size_t)kv_cost_tokens(&engine->cost, all.limit_bytes, engine->sequence_tokens);
}

static bool fits(const struct llama_engine *engine, struct llama_call *call)
{
	struct error error;
	size_t room = llama_engine_longest(engine);
	size_t trained = (size_t)llama_model_n_ctx_train(engine->model);
	if (call->prompt_count == 0) {
		error_set(&error, DB_E_INVALID, "the prompt is empty");
		fail(call, 400, ENGINE_REASON_NONE, error);
	} else if (call->max_prompt_tokens && call->prompt_count > call->max_prompt_tokens) {
		error_set(&error, DB_E_LIMIT, "the prompt has %zu tokens, more than the declared %llu", call->prompt_count,
		          (unsigned long long)call->max_prompt_tokens);
		fail(call, 413, ENGINE_REASON_NONE, error);
	} else if (call->prompt_count >= trained) {
		error_set(&error, DB_E_RANGE, "the prompt has %zu tokens, but the context length of this model is %zu tokens",
		          call->prompt_count, trained);
		fail(call, 400, ENGINE_REASON_NONE, error);
	} else if (call->prompt_count >= engine->sequence_tokens) {
		error_set(&error, DB_E_LIMIT, "token_budget_exhausted: the prompt has %zu tokens, but this provider holds at most %zu",
		          call->prompt_count, engine->sequence_tokens);
		fail(call, 503, ENGINE_REASON_BUDGET, error);
	} else if (call->prompt_count >= room) {
		error_set(&error, DB_E_LIMIT,
		          "insufficient global kv cache headroom: the prompt has %zu tokens, and the models of this provider may keep "
		          "%zu together",
		          call->prompt_count, room);
		fail(call, 503, ENGINE_REASON_BUDGET, error);
	} else {
		return true;
	}
	return false;
}

static bool make_sampler(struct llama_engine *engine, struct llama_call *call)
{
	struct error error;
	enum db_err err = engine_sampler_new(&engine->sampling, &call->sampling, call->prompt.grammar, &call->sampler, &error);
	if (err) {
		fail(call->root, err == DB_E_NOMEM ? 503 : 400, ENGINE_REASON_NONE, error);
		return false;
	}
	engine_sampler_prompt(call->sampler, call_tokens(call), call->prompt_count);
	buf_init(&call->logprobs, (size_t)64 << 20);
	return true;
}

/* Another answer to the same prompt: its own reader, grammar, sampler and seed. */
static bool add_sibling(struct llama_engine *engine, struct llama_call *root, uint32_t choice)
{
	struct llama_call *call = new_call(engine, &root->callbacks, root->user);
	if (!call)
		return false;
	root->siblings[choice - 1] = call;
	call->root = root;
	call->choice = choice;
	call->choices = root->choices;
	call->submitted_us = root->submitted_us;
	call->sampling = root->sampling;
	call->sampling.seed += choice;
	call->max_tokens = root->max_tokens;
	call->prompt_count = root->prompt_count;
	call->stops = root->stops;
	call->stop_count = root->stop_count;
	engine_output_init(&call->output, call->stops, call->stop_count);
	buf_init(&call->tokens, root->tokens.max);
	if (buf_append(&call->tokens, root->tokens.at, root->tokens.len))
		return false;
	if (!root->plain) {
		char text[sizeof root->fail.text];
		if (chat_prompt_render(engine->templates, &root->conversation, &call->prompt, text, sizeof text))
			return false;
	}
	chat_verdict_init(&call->verdict, root->conversation.schema_json);
	return make_sampler(engine, call);
}

/* Two calls with the same print, sampling and tokens so far go on alike. */
static uint64_t print_of(const struct llama_engine *engine, const struct llama_call *call)
{
	struct sha256_state state;
	uint8_t digest[SHA256_BYTES];
	uint64_t facts[] = {engine->info.parameters, engine->info.weight_bytes, (uint64_t)engine->sampling.tokens,
	                    (uint64_t)call->max_tokens, call->prompt_count};
	uint64_t print;
	sha256_begin(&state);
	sha256_update(&state, DARKBLOOM_PROTOCOL_VERSION, sizeof DARKBLOOM_PROTOCOL_VERSION);
	sha256_update(&state, engine->weight_hash, sizeof engine->weight_hash);
	sha256_update(&state, facts, sizeof facts);
	sha256_update(&state, call->tokens.at, call->prompt_count * sizeof(int32_t));
	sha256_end(&state, digest);
	memcpy(&print, digest, sizeof print);
	return print;
}

static void refuse_resume(struct llama_call *call, const char *why)
{
	struct error error;
	error_set(&error, DB_E_UNSUPPORTED, "the answer cannot be continued here: %s", why);
	fail(call, 409, ENGINE_REASON_NONE, error);
}

/* Brings sampler, reader and text to where the answer was. The tokens join those of the prompt, to be run with them. */
static void replay(struct llama_engine *engine, struct llama_call *call)
{
	if (call->resume.print != call->print) {
		refuse_resume(call, "weights, program or limits differ");
		return;
	}
	call->replaying = true;
	for (size_t i = 0; i < call->resume.count && !call->fail_status; i++) {
		int32_t token = call->resume.tokens[i];
		if (call->resumed != CALL_GOES_ON || !engine_sampler_accept(call->sampler, token))
			refuse_resume(call, "it would have gone another way");
		else if ((call->resumed = llama_call_token(engine, call, token, NULL)) == CALL_FAILED)
			fail_memory(call);
	}
	call->replaying = false;
	buf_clear(&call->fresh);
}

void llama_call_prepare(struct llama_engine *engine, struct llama_call *call)
{
	const char *said = call->conversation.messages_json; /* before rendering writes other words for tools into it */
	if (!llama_call_render(engine, call))
		return;
	if (!llama_call_tokenize(engine, call) || (call->shortens && !llama_call_shorten(engine, call, said)) ||
	    !collect_stops(call)) {
		fail_memory(call);
		return;
	}
	if (call->count_only || !fits(engine, call))
		return;
	size_t most = llama_engine_longest(engine);
	int64_t room = most > call->prompt_count ? (int64_t)(most - call->prompt_count) : 1;
	if (call->max_tokens <= 0)
		call->max_tokens = CHAT_DEFAULT_MAX_TOKENS;
	if (call->max_tokens > room)
		call->max_tokens = room;
	if (!make_sampler(engine, call))
		return;
	call->print = print_of(engine, call);
	chat_verdict_init(&call->verdict, call->conversation.schema_json);
	if (call->resume.count > 0)
		replay(engine, call);
	for (uint32_t choice = 1; choice < call->choices; choice++)
		if (!add_sibling(engine, call, choice) && !call->fail_status)
			fail_memory(call);
}
