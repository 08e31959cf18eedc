#include "provider/engine/engine_llama_draft.h"

#include "core/log.h"
#include "provider/engine/engine_llama.h"
#include "provider/engine/engine_trial.h"
#include "provider/engine/engine_vocabulary.h"

#include <math.h>
#include <stdlib.h>

#define READ_MOST 64 /* tokens of what came so far, of one answer in one step: reading must not hold the others up */

struct llama_draft {
	struct llama_model *model;
	struct llama_context *context;
	struct llama_batch batch;
	struct engine_trial trial;
	bool reading; /* of some answer it had not read all: such a step tells nothing about its worth */
	struct {
		uint64_t serial; /* of the call that it belongs to */
		size_t read;     /* tokens of the call that it has */
		int32_t ahead[LLAMA_DRAFT_MOST];
		size_t ahead_count; /* guesses that it has behind them */
	} sequences[ENGINE_LLAMA_MAX_SEQUENCES];
};

/* --- loading --- */

static bool same_text(const struct llama_vocab *a, const struct llama_vocab *b, int32_t token)
{
	const char *left = llama_vocab_get_text(a, token), *right = llama_vocab_get_text(b, token);
	return left && right && strcmp(left, right) == 0;
}

/* Ids must mean the same, or every guess would be wrong. */
static bool same_vocabulary(const struct llama_vocab *a, const struct llama_vocab *b)
{
	int32_t count = llama_vocab_n_tokens(a);
	bool same = count == llama_vocab_n_tokens(b) && llama_vocab_type(a) == llama_vocab_type(b);
	for (int32_t token = 0; same && token < count; token++)
		same = same_text(a, b, token);
	return same;
}

static bool can_be_taken_back(const struct llama_model *model)
{
	return llama_model_has_decoder(model) && !llama_model_has_encoder(model) && !llama_model_is_recurrent(model) &&
	       !llama_model_is_hybrid(model) && !llama_model_is_diffusion(model);
}

static struct llama_context *make_context(const struct llama_engine *engine, struct llama_model *model)
{
	struct llama_context_params params = llama_context_default_params();
	params.n_ctx = llama_n_ctx(engine->context);
	params.n_batch = params.n_ubatch = ENGINE_STEP_TOKENS;
	params.n_seq_max = engine->max_sequences;
	params.n_threads = params.n_threads_batch = llama_n_threads(engine->context);
	params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;
	params.kv_unified = true;
	params.swa_full = true; /* wrong guesses are cut off again */
	params.no_perf = true;
	return llama_init_from_model(model, params);
}

static void add_cost(struct llama_engine *engine, const char *path, const struct llama_model *model)
{
	struct kv_cost cost;
	kv_cost_read_file(path, llama_model_size(model), &cost);
	/* windows are kept whole here: they cost like full attention */
	engine->cost.bytes_per_token += cost.bytes_per_token + cost.window_bytes_per_token;
	engine->info.kv_bytes_per_token = (double)engine->cost.bytes_per_token;
}

enum db_err llama_draft_open(struct llama_engine *engine, const char *path, struct error *error)
{
	struct llama_draft *draft = calloc(1, sizeof *draft);
	if (!draft)
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
	engine->draft_model = draft;
	enum db_err err = engine_vocabulary_check(path, error);
	if (err)
		return err;
	draft->model = llama_model_load_from_file(path, llama_model_default_params());
	if (!draft->model)
		return error_set(error, DB_E_IO, "model load failed: the draft model %s cannot be read", path);
	if (!can_be_taken_back(draft->model))
		return error_set(error, DB_E_UNSUPPORTED, "model load failed: %s cannot guess: its state cannot be taken back", path);
	if (!same_vocabulary(engine->vocab, llama_model_get_vocab(draft->model)))
		return error_set(error, DB_E_UNSUPPORTED, "model load failed: the draft model %s has another vocabulary", path);
	draft->context = make_context(engine, draft->model);
	if (!draft->context)
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory for the draft model's context");
	llama_attach_threadpool(draft->context, engine->pool, NULL);
	draft->batch = llama_batch_init(ENGINE_STEP_TOKENS, 0, 1);
	if (!draft->batch.token)
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
	add_cost(engine, path, draft->model);
	log_info("engine.draft", "parameters=%llu", (unsigned long long)llama_model_n_params(draft->model));
	return DB_OK;
}

uint64_t llama_draft_memory_bytes(const struct llama_engine *engine)
{
	return engine->draft_model ? chat_shim_memory_bytes(engine->draft_model->context, true) : 0;
}

void llama_draft_close(struct llama_engine *engine)
{
	struct llama_draft *draft = engine->draft_model;
	engine->draft_model = NULL;
	if (!draft)
		return;
	if (draft->batch.token)
		llama_batch_free(draft->batch);
	if (draft->context) {
		llama_memory_clear(llama_get_memory(draft->context), true);
		llama_free(draft->context);
	}
	llama_model_free(draft->model);
	free(draft);
}

/* --- guessing --- */

static void add_token(struct llama_draft *draft, llama_seq_id seq, int32_t token, size_t place, bool logits)
{
	int32_t at = draft->batch.n_tokens++;
	draft->batch.token[at] = token;
	draft->batch.pos[at] = (llama_pos)place;
	draft->batch.n_seq_id[at] = 1;
	draft->batch.seq_id[at][0] = seq;
	draft->batch.logits[at] = logits;
}

static void forget_all(struct llama_draft *draft)
{
	llama_memory_clear(llama_get_memory(draft->context), false);
	memset(draft->sequences, 0, sizeof draft->sequences);
}

/* The sequence holds the call's first `read` tokens and nothing else. */
static void cut_back(struct llama_draft *draft, const struct llama_call *call)
{
	llama_memory_t memory = llama_get_memory(draft->context);
	size_t *read = &draft->sequences[call->seq].read;
	if (draft->sequences[call->seq].serial != call->serial + 1) {
		draft->sequences[call->seq].serial = call->serial + 1;
		*read = draft->sequences[call->seq].ahead_count = 0;
	}
	for (size_t i = 0; i < draft->sequences[call->seq].ahead_count && *read + 1 < call_token_count(call); i++, ++*read)
		if (call_tokens(call)[*read] != draft->sequences[call->seq].ahead[i])
			break;
	draft->sequences[call->seq].ahead_count = 0;
	if (!llama_memory_seq_rm(memory, call->seq, (llama_pos)*read, -1)) {
		llama_memory_seq_rm(memory, call->seq, -1, -1);
		*read = 0;
	}
}

/* Adds what the model has not read of the answer yet. True: all of it, so that it can say what comes next. */
static bool add_unread(struct llama_draft *draft, const struct llama_call *call)
{
	size_t *read = &draft->sequences[call->seq].read, all = call_token_count(call);
	size_t room = (size_t)(ENGINE_STEP_TOKENS - draft->batch.n_tokens), end = all - *read > READ_MOST ? *read + READ_MOST : all;
	end = end - *read > room ? *read + room : end;
	for (; *read < end; ++*read)
		add_token(draft, call->seq, call_tokens(call)[*read], *read, *read + 1 == all);
	return end == all;
}

/* The likeliest token, and how likely it is. */
static int32_t likeliest(const struct llama_draft *draft, int32_t row, double *chance)
{
	const float *logits = llama_get_logits_ith(draft->context, row);
	int32_t count = llama_vocab_n_tokens(llama_model_get_vocab(draft->model)), best = 0;
	double sum = 0;
	if (!logits)
		return -1;
	for (int32_t i = 1; i < count; i++)
		best = logits[i] > logits[best] ? i : best;
	for (int32_t i = 0; i < count; i++)
		sum += exp((double)(logits[i] - logits[best]));
	*chance = sum > 0 ? 1 / sum : 0;
	return best;
}

/* Takes the next guess from its row. True when another may follow. */
static bool take_guess(const struct llama_draft *draft, struct llama_draft_ask *ask, int32_t row)
{
	double chance = 0, before = ask->count ? ask->chances[ask->count - 1] : 1;
	int32_t token = likeliest(draft, row, &chance);
	if (token < 0 || chance < LLAMA_DRAFT_LEAST)
		return false;
	ask->tokens[ask->count] = token;
	ask->chances[ask->count++] = before * chance;
	return ask->count < ask->most && ask->count < LLAMA_DRAFT_MOST &&
	       !llama_vocab_is_eog(llama_model_get_vocab(draft->model), token);
}

static bool run(struct llama_draft *draft)
{
	if (draft->batch.n_tokens == 0)
		return false;
	if (chat_shim_decode(draft->context, &draft->batch) == 0)
		return true;
	forget_all(draft);
	return false;
}

/* Those of calls that have gone take no room from the others. */
static void forget_gone(const struct llama_engine *engine, struct llama_draft *draft)
{
	for (uint32_t seq = 0; seq < engine->max_sequences; seq++) {
		if (engine->sequence_used[seq] || !draft->sequences[seq].serial)
			continue;
		llama_memory_seq_rm(llama_get_memory(draft->context), (llama_seq_id)seq, -1, -1);
		memset(&draft->sequences[seq], 0, sizeof draft->sequences[seq]);
	}
}

/* Runs a guess, to hear what follows it. */
static void add_guess(struct llama_draft *draft, const struct llama_draft_ask *ask)
{
	llama_seq_id seq = ask->call->seq;
	int32_t token = ask->tokens[ask->count - 1];
	add_token(draft, seq, token, call_token_count(ask->call) + ask->count - 1, true);
	draft->sequences[seq].ahead[draft->sequences[seq].ahead_count++] = token;
}

void llama_draft_guess(struct llama_engine *engine, struct llama_draft_ask *asks, size_t count)
{
	struct llama_draft *draft = engine->draft_model;
	int32_t rows[ENGINE_LLAMA_MAX_SEQUENCES];
	draft->batch.n_tokens = 0;
	draft->reading = false;
	forget_gone(engine, draft);
	for (size_t i = 0; i < count; i++) {
		asks[i].count = 0;
		rows[i] = -1;
		if (!asks[i].most)
			continue;
		cut_back(draft, asks[i].call);
		if (add_unread(draft, asks[i].call))
			rows[i] = draft->batch.n_tokens - 1;
		else
			draft->reading = true;
	}
	while (run(draft)) {
		draft->batch.n_tokens = 0;
		for (size_t i = 0; i < count; i++) {
			bool more = rows[i] >= 0 && take_guess(draft, &asks[i], rows[i]);
			rows[i] = more ? draft->batch.n_tokens : -1;
			if (more)
				add_guess(draft, &asks[i]);
		}
	}
}

/* --- does it pay? --- */

bool llama_draft_wanted(const struct llama_engine *engine, size_t answers)
{
	if (!engine->draft_model || engine->speculation == ENGINE_SPECULATE_NEVER)
		return false;
	return engine->speculation == ENGINE_SPECULATE_ALWAYS || engine_trial_wants(&engine->draft_model->trial, answers);
}

void llama_draft_saw(struct llama_engine *engine, size_t answers, bool asked, size_t tokens, uint64_t us)
{
	if (engine->draft_model && answers && !(asked && engine->draft_model->reading))
		engine_trial_saw(&engine->draft_model->trial, answers, asked, tokens, us);
}
