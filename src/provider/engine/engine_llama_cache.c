/* The prefix cache of a llama.cpp engine (inference 10-12).
 *
 * A prompt is looked up when it is queued; what only the disk has is read while it waits. When it runs, the longest prefix is
 * taken from, in this order: a sequence that runs and shares it (copied on write, where all sequences live in one cache), the
 * RAM tier, the SSD tier. Only states of prompts are kept, never of answers: those were rounded one token at a time.
 *
 * A prompt is always computed up to its last boundary first and then the rest, whether or not there is a cache. So what is
 * restored at any boundary and computed from there is, for a call that runs alone, what a cold run computes, to the last bit.
 */
#include "provider/engine/engine_llama_cache.h"

#include "core/clock.h"
#include "core/log.h"
#include "provider/engine/engine_llama.h"
#include "provider/engine/engine_llama_public.h"
#include "provider/engine/engine_llama_state.h"
#include "provider/kvcache/kv_cache.h"

#include <stdio.h>
#include <stdlib.h>

#define SHARE_MIN_TOKENS 256 /* a prefix that is worth waiting for while another sequence computes it */

struct llama_cache {
	struct kv_model *model;
	bool cuttable;                  /* plain attention: the state of a prefix is part of every longer one */
	bool shared;                    /* ... and all sequences live in one cache */
	uint32_t ladder[KV_LADDER_MAX]; /* where states that cannot be cut are taken, besides the last boundary */
	size_t rungs;
};

struct llama_cache_call {
	struct kv_prompt prompt;
	struct kv_fetch *fetch;
	/* Where the prompt begins with a public system prompt: what all tenants share of it (engine_llama_public.h). */
	struct kv_prompt open;
	struct kv_fetch *open_fetch;
	size_t open_tokens;  /* 0 = nothing */
	size_t parent;       /* the last boundary that was restored or captured */
	uint64_t started_us; /* when the computing of the prompt began */
	size_t started_at;   /* ... and from which token */
};

/* --- open and close --- */

static int64_t head_dim(const struct llama_model *model)
{
	int32_t heads = llama_model_n_head(model);
	return heads > 0 ? llama_model_n_embd(model) / heads : 0;
}

static void fill_shape(const struct llama_engine *engine, const char *weight_hash, struct kv_shape *shape)
{
	const struct llama_model *model = engine->model;
	snprintf(shape->engine, sizeof shape->engine, "llama.cpp");
	snprintf(shape->engine_version, sizeof shape->engine_version, "%.20s", DB_LLAMA_PIN);
	snprintf(shape->kv_type, sizeof shape->kv_type, "f16");
	snprintf(shape->context_flags, sizeof shape->context_flags, "streams=%u fa=auto swa=window grid=%d",
	         llama_n_ctx_seq(engine->context) == llama_n_ctx(engine->context) ? 1 : engine->max_sequences, KV_GRID);
	snprintf(shape->model_arch, sizeof shape->model_arch, "%s", engine->info.architecture);
	snprintf(shape->model_dtype, sizeof shape->model_dtype, "%.31s", engine->info.quantization);
	snprintf(shape->model_hash, sizeof shape->model_hash, "%.64s", weight_hash ? weight_hash : "");
	shape->vocab_size = llama_vocab_n_tokens(engine->vocab);
	shape->layers = llama_model_n_layer(model);
	shape->kv_heads = llama_model_n_head_kv(model);
	shape->head_dim = head_dim(model);
}

static struct kv_blob *export_state(struct llama_engine *engine, llama_seq_id seq)
{
	size_t size = llama_state_seq_get_size_ext(engine->context, seq, LLAMA_STATE_SEQ_FLAGS_NONE);
	struct kv_blob *state = size ? kv_blob_new(size) : NULL;
	if (state && llama_state_seq_get_data_ext(engine->context, state->bytes, size, seq, LLAMA_STATE_SEQ_FLAGS_NONE) == size)
		return state;
	kv_blob_release(state);
	return NULL;
}

/* Asks the library itself: two tokens, their state, and does it look like plain attention? */
static bool probe_cuttable(struct llama_engine *engine)
{
	if (llama_model_is_recurrent(engine->model) || llama_model_is_hybrid(engine->model) || llama_model_n_swa(engine->model) > 0)
		return false;
	llama_token tokens[2] = {0, 0};
	struct llama_batch batch = llama_batch_get_one(tokens, 2);
	bool cuttable = false;
	if (chat_shim_decode(engine->context, &batch) == 0) {
		struct kv_blob *state = export_state(engine, 0);
		cuttable = state && llama_state_is_whole(state, 2);
		kv_blob_release(state);
	}
	llama_memory_clear(llama_get_memory(engine->context), true);
	return cuttable;
}

enum db_err llama_cache_open(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error)
{
	engine->cache = NULL;
	if (!options->cache)
		return DB_OK;
	struct llama_cache *cache = calloc(1, sizeof *cache);
	if (!cache)
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
	cache->cuttable = probe_cuttable(engine);
	cache->shared = cache->cuttable && llama_n_ctx_seq(engine->context) == llama_n_ctx(engine->context);
	int32_t window = llama_model_n_swa(engine->model);
	if (!cache->cuttable)
		cache->rungs = kv_ladder(window > 0 ? (uint32_t)window : 0, true, (uint32_t)engine->sequence_tokens, cache->ladder);
	struct kv_model_options model = {.model_id = options->model_id ? options->model_id : "",
	                                 .codec = cache->cuttable ? &llama_state_codec : NULL};
	fill_shape(engine, options->weight_hash, &model.shape);
	cache->model = kv_model_open(options->cache, &model, error);
	if (!cache->model) {
		free(cache);
		return DB_E_NOMEM;
	}
	engine->cache = cache;
	return DB_OK;
}

void llama_cache_close(struct llama_engine *engine)
{
	if (!engine->cache)
		return;
	kv_model_close(engine->cache->model);
	free(engine->cache);
	engine->cache = NULL;
}

/* --- waiting --- */

static void fetched(void *user)
{
	llama_engine_poke(user);
}

static void open_up(struct llama_engine *engine, struct llama_call *call)
{
	struct llama_cache_call *cached = call->cached;
	size_t tokens = llama_public_tokens(engine->public_prompts, call_tokens(call), call->prompt_count) / KV_GRID * KV_GRID;
	if (!tokens || tokens >= call->prompt_count ||
	    kv_prompt_make(engine->cache->model, STR(LLAMA_PUBLIC_SCOPE), STR(LLAMA_PUBLIC_SCOPE), call_tokens(call), tokens + 1,
	                   &cached->open))
		return;
	cached->open_tokens = tokens;
	cached->open_fetch = kv_fetch_begin(engine->cache->model, &cached->open, fetched, engine);
}

void llama_cache_queued(struct llama_engine *engine, struct llama_call *call)
{
	struct llama_cache *cache = engine->cache;
	call->cached = NULL;
	if (!cache || call->fail_status || !call->cache_scope.len)
		return;
	struct llama_cache_call *cached = calloc(1, sizeof *cached);
	if (!cached)
		return;
	if (kv_prompt_make(cache->model, call->tenant, call->cache_scope, call_tokens(call), call->prompt_count, &cached->prompt)) {
		free(cached);
		return;
	}
	cached->fetch = kv_fetch_begin(cache->model, &cached->prompt, fetched, engine);
	call->cached = cached;
	open_up(engine, call);
}

/* How many tokens two prompts of one scope begin with alike, in whole grid steps. */
static size_t common_tokens(const struct kv_prompt *a, const struct kv_prompt *b)
{
	size_t low = 0, high = a->count < b->count ? a->count : b->count;
	while (low < high) { /* a digest is that of all tokens up to its point */
		size_t middle = (low + high + 1) / 2;
		if (memcmp(&a->points[middle - 1], &b->points[middle - 1], sizeof *a->points) == 0)
			low = middle;
		else
			high = middle - 1;
	}
	return low * KV_GRID;
}

/* The running sequence that has most of the call's prompt, or will have it (`soon`). */
static const struct llama_call *donor_of(const struct llama_engine *engine, const struct llama_call *call, bool soon,
                                         size_t *tokens)
{
	const struct llama_call *best = NULL;
	*tokens = 0;
	for (size_t i = 0; engine->cache->shared && i < engine->running_count; i++) {
		const struct llama_call *other = engine->running[i];
		if (other == call || !other->cached || (soon && atomic_load(&other->paused)))
			continue;
		size_t common = common_tokens(&call->cached->prompt, &other->cached->prompt);
		size_t there = other->in_cache / KV_GRID * KV_GRID;
		if (!soon && there < common)
			common = there;
		if (common > *tokens) {
			*tokens = common;
			best = other;
		}
	}
	return best;
}

bool llama_cache_ready(struct llama_engine *engine, const struct llama_call *call)
{
	size_t there, soon;
	if (!call->cached)
		return true;
	if (call->cached->fetch && !kv_fetch_done(call->cached->fetch))
		return false;
	if (call->cached->open_fetch && !kv_fetch_done(call->cached->open_fetch))
		return false;
	donor_of(engine, call, false, &there);
	donor_of(engine, call, true, &soon);
	return soon < there + SHARE_MIN_TOKENS;
}

/* --- restoring --- */

static size_t share_live(struct llama_engine *engine, struct llama_call *call, const struct llama_call *donor, size_t tokens)
{
	llama_memory_t memory = llama_get_memory(engine->context);
	llama_memory_seq_cp(memory, donor->seq, call->seq, 0, (llama_pos)tokens);
	if (llama_memory_seq_pos_max(memory, call->seq) == (llama_pos)tokens - 1)
		return tokens;
	llama_memory_seq_rm(memory, call->seq, -1, -1);
	return 0;
}

/* Puts a state into the call's sequence. What does not fit exactly is no use at all. */
static bool import_state(struct llama_engine *engine, struct llama_call *call, const struct kv_blob *state, size_t tokens)
{
	llama_memory_t memory = llama_get_memory(engine->context);
	size_t read =
	    llama_state_seq_set_data_ext(engine->context, state->bytes, state->len, call->seq, LLAMA_STATE_SEQ_FLAGS_NONE);
	if (read == state->len && llama_memory_seq_pos_max(memory, call->seq) == (llama_pos)tokens - 1)
		return true;
	llama_memory_seq_rm(memory, call->seq, -1, -1);
	return false;
}

/* The longest prefix that was kept: the tenant's own, or else what all share. Returns whose. */
static const struct kv_prompt *take_kept(const struct llama_cache *cache, struct llama_cache_call *cached, struct kv_taken *out)
{
	struct kv_taken open;
	kv_take(cache->model, &cached->prompt, cached->fetch, out);
	if (cached->open_tokens <= out->tokens)
		return &cached->prompt;
	kv_take(cache->model, &cached->open, cached->open_fetch, &open);
	if (!open.state || (out->state && open.tokens <= out->tokens)) {
		kv_blob_release(open.state);
		return &cached->prompt;
	}
	kv_blob_release(out->state);
	*out = open;
	return &cached->open;
}

static size_t restore_kept(struct llama_engine *engine, struct llama_call *call, size_t at_least)
{
	struct llama_cache *cache = engine->cache;
	struct llama_cache_call *cached = call->cached;
	struct kv_taken taken;
	uint64_t start_us = clock_mono_us();
	size_t tokens = 0;
	const struct kv_prompt *prompt = take_kept(cache, cached, &taken);
	if (!taken.state || taken.tokens <= at_least)
		goto out;
	if (taken.state_tokens != taken.tokens) {
		struct kv_blob *prefix = llama_state_codec.cut(taken.state, 0, taken.tokens);
		kv_blob_release(taken.state);
		taken.state = prefix;
	}
	if (!taken.state || !import_state(engine, call, taken.state, taken.tokens)) {
		log_warn("cache.restore_failed", "tokens=%zu", taken.tokens);
		kv_reject(cache->model, prompt, &taken);
		goto out;
	}
	uint64_t us = clock_mono_us() - start_us;
	tokens = taken.tokens;
	kv_model_uploaded(cache->model, taken.state->len, us);
	kv_restored(cache->model, &taken, us);
	/* A checkpoint on the way that is used again is worth a file; the last boundary's was written when it was made. */
	if (!cache->cuttable && !taken.from_disk)
		kv_store(cache->model, prompt, tokens, 0, taken.state, true);
	cached->parent = prompt == &cached->prompt ? tokens : 0;
out:
	kv_blob_release(taken.state);
	return tokens;
}

void llama_cache_restore(struct llama_engine *engine, struct llama_call *call)
{
	struct llama_cache_call *cached = call->cached;
	size_t tokens = 0, live = 0;
	call->restored = 0;
	if (!cached)
		return;
	kv_model_busy(engine->cache->model, true);
	const struct llama_call *donor = donor_of(engine, call, false, &live);
	tokens = restore_kept(engine, call, live);
	if (!tokens)
		cached->parent = tokens = donor ? share_live(engine, call, donor, live) : 0;
	kv_fetch_end(cached->fetch);
	kv_fetch_end(cached->open_fetch);
	cached->fetch = cached->open_fetch = NULL;
	call->in_cache = call->restored = tokens;
	if (!call->started)
		call->cached_tokens = tokens;
	cached->started_at = tokens;
	cached->started_us = clock_mono_us();
}

/* --- capturing --- */

static bool is_rung(const struct llama_cache *cache, size_t tokens)
{
	for (size_t i = 0; i < cache->rungs; i++)
		if (cache->ladder[i] == tokens)
			return true;
	return false;
}

static size_t own_boundary(const struct llama_engine *engine, const struct llama_call *call)
{
	size_t last = kv_last_boundary(call->prompt_count);
	if (call->in_cache >= last)
		return SIZE_MAX;
	for (size_t i = 0; engine->cache && i < engine->cache->rungs; i++)
		if (engine->cache->ladder[i] > call->in_cache && engine->cache->ladder[i] < last &&
		    engine->cache->ladder[i] % KV_GRID == 0)
			return engine->cache->ladder[i];
	return last;
}

size_t llama_cache_boundary(struct llama_engine *engine, const struct llama_call *call)
{
	size_t own = own_boundary(engine, call), open = call->cached ? call->cached->open_tokens : 0;
	return open > call->in_cache && open < own ? open : own;
}

size_t llama_cache_chunk(const struct llama_call *call, size_t count)
{
	size_t over = (call->in_cache + count) % KV_GRID;
	return over < count ? count - over : count;
}

static void learn_speed(struct llama_engine *engine, const struct llama_call *call)
{
	const struct llama_cache_call *cached = call->cached;
	if (engine->running_count == 1 && call->in_cache > cached->started_at)
		kv_model_prefilled(engine->cache->model, call->in_cache - cached->started_at, clock_mono_us() - cached->started_us);
}

static struct kv_blob *export_in_order(struct llama_engine *engine, const struct llama_call *call)
{
	struct kv_blob *state = export_state(engine, call->seq);
	if (!state || !engine->cache->cuttable || llama_state_is_whole(state, call->in_cache))
		return state;
	struct kv_blob *ordered = llama_state_codec.cut(state, 0, call->in_cache);
	kv_blob_release(state);
	return ordered;
}

static void store_open(struct llama_engine *engine, struct llama_call *call)
{
	struct kv_model *model = engine->cache->model;
	struct kv_blob *state = kv_wants(model, &call->cached->open, call->in_cache) ? export_in_order(engine, call) : NULL;
	if (state)
		kv_store(model, &call->cached->open, call->in_cache, 0, state, true);
	kv_blob_release(state);
}

void llama_cache_captured(struct llama_engine *engine, struct llama_call *call)
{
	struct llama_cache *cache = engine->cache;
	struct llama_cache_call *cached = call->cached;
	if (!cache || !cached)
		return;
	bool last = call->in_cache == kv_last_boundary(call->prompt_count);
	if (last)
		learn_speed(engine, call);
	if (cached->open_tokens == call->in_cache)
		store_open(engine, call);
	if (!last && !is_rung(cache, call->in_cache))
		return;
	if (!kv_wants(cache->model, &cached->prompt, call->in_cache))
		return;
	struct kv_blob *state = export_in_order(engine, call);
	if (!state)
		return;
	kv_store(cache->model, &cached->prompt, call->in_cache, cached->parent, state, last);
	kv_blob_release(state);
	cached->parent = call->in_cache;
}

/* --- the end --- */

size_t llama_cache_names(const struct llama_engine *engine, uint64_t *out, size_t max)
{
	return engine->cache ? kv_model_names(engine->cache->model, out, max) : 0;
}

void llama_cache_leave(struct llama_engine *engine, struct llama_call *call)
{
	if (engine->cache && call->cached && call->names.count)
		kv_model_name(engine->cache->model, &call->cached->prompt, call->names.at, call->names.count);
	if (engine->cache && engine->running_count == 0)
		kv_model_busy(engine->cache->model, false);
}

void llama_cache_forget(struct llama_engine *engine, struct llama_call *call)
{
	(void)engine;
	if (!call->cached)
		return;
	kv_fetch_end(call->cached->fetch);
	kv_fetch_end(call->cached->open_fetch);
	kv_prompt_free(&call->cached->open);
	kv_prompt_free(&call->cached->prompt);
	free(call->cached);
	call->cached = NULL;
}
