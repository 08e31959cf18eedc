/* Loading: weights, context, threads, template, and the facts about the model. */
#include "provider/engine/engine_llama.h"

#include "core/clock.h"
#include "core/log.h"
#include "provider/engine/engine_vocabulary.h"
#include "provider/engine/template_check.h"

#include <ggml-cpu.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_CONTEXT_TOKENS 8192
#define DEFAULT_SEQUENCES      8
#define LOGICAL_BATCH          2048 /* n_batch as llama.cpp's own server has it */

/* llama.cpp's log is one for the process. It is silent, but the last complaint during a load explains a failure. */
struct load_log {
	char complaint[160];
};
static _Thread_local struct load_log *loading;

static void on_llama_log(enum ggml_log_level level, const char *text, void *user)
{
	(void)user;
	if (!loading || level != GGML_LOG_LEVEL_ERROR)
		return;
	snprintf(loading->complaint, sizeof loading->complaint, "%s", text);
	loading->complaint[strcspn(loading->complaint, "\n")] = '\0';
}

static bool on_load_progress(float fraction, void *user)
{
	const struct engine_llama_options *options = user;
	return !options->on_progress || options->on_progress(fraction, options->user);
}

static enum db_err load_weights(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error)
{
	enum db_err err = engine_vocabulary_check(options->model_path, error);
	if (err)
		return err;
	struct llama_model_params params = llama_model_default_params();
	params.progress_callback = on_load_progress;
	params.progress_callback_user_data = (void *)(uintptr_t)options;
	struct load_log log = {""};
	loading = &log;
	engine->model = llama_model_load_from_file(options->model_path, params);
	loading = NULL;
	if (!engine->model)
		return error_set(error, DB_E_IO, "model load failed: %s: %s", options->model_path,
		                 log.complaint[0] ? log.complaint : "stopped or unreadable");
	if (!llama_model_has_decoder(engine->model) || llama_model_has_encoder(engine->model) ||
	    llama_model_is_diffusion(engine->model))
		return error_set(error, DB_E_UNSUPPORTED, "model load failed: %s is not a decoder-only language model",
		                 options->model_path);
	engine->vocab = llama_model_get_vocab(engine->model);
	return DB_OK;
}

static bool is_aborting(void *user)
{
	return atomic_load(&((struct llama_engine *)user)->aborting);
}

static enum db_err make_context(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error)
{
	uint32_t trained = (uint32_t)llama_model_n_ctx_train(engine->model);
	uint32_t threads = options->threads ? options->threads : (uint32_t)chat_shim_default_threads();
	struct llama_context_params params = llama_context_default_params();
	params.n_ctx = options->context_tokens ? options->context_tokens : DEFAULT_CONTEXT_TOKENS;
	if (!options->context_tokens && trained < params.n_ctx)
		params.n_ctx = trained;
	params.n_batch = LOGICAL_BATCH;
	params.n_ubatch = ENGINE_STEP_TOKENS;
	params.n_seq_max = engine->max_sequences;
	engine->speculation = options->speculation;
	if (llama_model_is_recurrent(engine->model) || llama_model_is_hybrid(engine->model))
		engine->speculation = ENGINE_SPECULATE_NEVER;
	bool guesses = engine->speculation != ENGINE_SPECULATE_NEVER;
	params.n_outputs_max = engine->max_sequences + (guesses ? ENGINE_DRAFT_TOTAL : 0);
	params.n_outputs_max_per_seq = 1 + (guesses ? ENGINE_DRAFT_MOST : 0);
	params.n_threads = params.n_threads_batch = (int32_t)threads;
	params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;
	/* One cache for all: the budget belongs to whoever needs it. Only where each sequence can have the model's whole context
	 * are they kept apart, because attention then need not skip the others' cells. */
	params.kv_unified = params.n_ctx / engine->max_sequences < trained;
	params.swa_full = false;
	params.no_perf = true;
	struct load_log log = {""};
	loading = &log;
	(void)str_copy(str_of(options->weight_hash), engine->weight_hash, sizeof engine->weight_hash);
	engine->context = llama_init_from_model(engine->model, params);
	loading = NULL;
	if (!engine->context)
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory for a context of %u tokens%s%s",
		                 params.n_ctx, log.complaint[0] ? ": " : "", log.complaint);

	struct ggml_threadpool_params pool;
	ggml_threadpool_params_init(&pool, (int)threads);
	engine->pool = ggml_threadpool_new(&pool);
	if (!engine->pool)
		return error_set(error, DB_E_NOMEM, "model load failed: no threads");
	llama_attach_threadpool(engine->context, engine->pool, NULL);
	llama_set_abort_callback(engine->context, is_aborting, engine);

	uint32_t longest = llama_n_ctx_seq(engine->context);
	engine->budget_tokens = llama_n_ctx(engine->context);
	engine->sequence_tokens = longest < trained ? longest : trained;
	engine->step_tokens = ENGINE_STEP_TOKENS;
	engine->reserve_ahead = ENGINE_RESERVE_AHEAD;
	engine->gather_us = ENGINE_GATHER_US;
	engine_concurrency_init(&engine->concurrency, engine->max_sequences, options->target_tps);
	engine->batch = llama_batch_init(ENGINE_STEP_TOKENS, 0, 1);
	return DB_OK;
}

/* The first decode pages the weights in and builds what is built once. */
static void warm_up(struct llama_engine *engine)
{
	llama_token token = llama_vocab_bos(engine->vocab);
	if (token == LLAMA_TOKEN_NULL)
		token = 0;
	struct llama_batch batch = llama_batch_get_one(&token, 1);
	chat_shim_decode(engine->context, &batch);
	llama_memory_clear(llama_get_memory(engine->context), true);
}

static void describe(struct llama_engine *engine, const char *path)
{
	struct engine_info *info = &engine->info;
	if (llama_model_meta_val_str(engine->model, "general.architecture", info->architecture, sizeof info->architecture) < 0)
		info->architecture[0] = '\0';
	snprintf(info->quantization, sizeof info->quantization, "%s", llama_ftype_name(llama_model_ftype(engine->model)));
	info->parameters = llama_model_n_params(engine->model);
	info->weight_bytes = llama_model_size(engine->model);
	info->context_tokens = (uint32_t)engine->sequence_tokens;
	info->layers = (uint32_t)llama_model_n_layer(engine->model);
	kv_cost_read_file(path, info->weight_bytes, &engine->cost);
	info->kv_bytes_per_token = (double)engine->cost.bytes_per_token;
	llama_rendering_begin();
	enum template_fault fault = template_check(engine->templates, str_of(info->architecture));
	llama_rendering_end();
	info->template_render_ok = fault == TEMPLATE_FINE;
	info->template_fault = template_fault_name(fault);
	info->can_constrain = true;
	info->can_choose = true;
}

static enum db_err make_public(struct llama_engine *engine, const char *prompts_json, struct error *error)
{
	llama_rendering_begin();
	enum db_err err = llama_public_new(engine->templates, str_of(prompts_json), &engine->public_prompts, error);
	llama_rendering_end();
	return err;
}

enum db_err engine_llama_load(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error)
{
	uint64_t start_us = clock_mono_us();
	chat_shim_init();
	llama_log_set(on_llama_log, NULL);
	llama_backend_init();
	engine->max_sequences = options->max_sequences ? options->max_sequences : DEFAULT_SEQUENCES;
	if (engine->max_sequences > ENGINE_LLAMA_MAX_SEQUENCES)
		return error_set(error, DB_E_RANGE, "at most %d sequences can run at once", ENGINE_LLAMA_MAX_SEQUENCES);
	enum db_err err = load_weights(engine, options, error);
	if (!err)
		err = make_context(engine, options, error);
	if (err)
		return err;
	char reason[200];
	engine->templates = chat_templates_new(engine->model, options->chat_template, reason, sizeof reason);
	if (!engine->templates)
		return error_set(error, DB_E_INVALID, "model load failed: %s", reason);
	if (engine_sampler_model_init(&engine->sampling, engine->vocab))
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
	if (options->public_prompts && make_public(engine, options->public_prompts, error))
		return error->code;
	warm_up(engine);
	describe(engine, options->model_path);
	if (options->draft_path && engine->speculation != ENGINE_SPECULATE_NEVER &&
	    llama_draft_open(engine, options->draft_path, error))
		return error->code;
	engine->info.memory_bytes = chat_shim_memory_bytes(engine->context, true) + llama_draft_memory_bytes(engine);
	engine->info.load_time_ms = (clock_mono_us() - start_us) / 1000;
	log_info("engine.loaded", "architecture=%s quantization=%s parameters=%llu context=%zu sequences=%u ms=%llu",
	         engine->info.architecture, engine->info.quantization, (unsigned long long)engine->info.parameters,
	         engine->budget_tokens, engine->max_sequences, (unsigned long long)engine->info.load_time_ms);
	return DB_OK;
}

void engine_llama_unload(struct llama_engine *engine)
{
	engine_sampler_model_free(&engine->sampling);
	llama_draft_close(engine);
	llama_public_free(engine->public_prompts);
	chat_templates_free(engine->templates);
	if (engine->batch.token)
		llama_batch_free(engine->batch);
	if (engine->context) {
		llama_memory_clear(llama_get_memory(engine->context), true);
		llama_free(engine->context);
	}
	if (engine->pool)
		ggml_threadpool_free(engine->pool);
	llama_model_free(engine->model);
}
