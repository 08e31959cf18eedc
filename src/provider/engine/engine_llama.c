/* The llama.cpp engine as engine.h shows it: what other threads may call. */
#include "provider/engine/engine_llama.h"

#include "provider/engine/engine_embed.h"

#include <stdlib.h>

static int submit(struct engine *base, const struct engine_request *request, const struct engine_callbacks *callbacks,
                  void *user, struct engine_call **out, struct error *error)
{
	struct llama_engine *engine = (struct llama_engine *)base;
	int status = 0;
	if (request->chat->task == CHAT_TASK_EMBED) {
		if (engine->embedder)
			return engine_submit(engine->embedder, request, callbacks, user, out, error);
		error_set(error, DB_E_UNSUPPORTED, "this provider makes no embeddings with this model");
		return 400;
	}
	struct llama_call *call = llama_call_new(engine, request, callbacks, user, &status, error);
	if (!call)
		return status;
	pthread_mutex_lock(&engine->lock);
	if (engine->stopping) {
		status = 503;
		error_set(error, DB_E_CLOSED, "the engine is shutting down");
	} else if (engine->not_running >= ENGINE_MAX_WAITING) {
		status = 429;
		error_set(error, DB_E_LIMIT, "queue full: %d requests are waiting", ENGINE_MAX_WAITING);
	} else {
		*out = &call->base;
		engine_call_hold(&call->base);
		engine->not_running++;
		list_push_back(&engine->to_prepare, &call->link);
		pthread_cond_signal(&engine->prepare_wake);
	}
	pthread_mutex_unlock(&engine->lock);
	if (status)
		engine_call_release(&call->base);
	return status;
}

static void cancel(struct engine_call *base)
{
	struct llama_call *call = (struct llama_call *)base;
	atomic_store(&call->cancelled, true);
	llama_engine_poke((struct llama_engine *)base->engine);
}

static void set_paused(struct engine_call *base, bool paused)
{
	struct llama_call *call = (struct llama_call *)base;
	atomic_store(&call->paused, paused);
	if (!paused)
		llama_engine_poke((struct llama_engine *)base->engine);
}

static void info(const struct engine *base, struct engine_info *out)
{
	*out = ((const struct llama_engine *)base)->info;
}

static size_t prefixes(struct engine *base, uint64_t *out, size_t max)
{
	return llama_cache_names((const struct llama_engine *)base, out, max);
}

static void capacity(struct engine *base, struct engine_capacity *out)
{
	struct llama_engine *engine = (struct llama_engine *)base;
	pthread_mutex_lock(&engine->lock);
	*out = engine->published;
	out->waiting = engine->not_running;
	pthread_mutex_unlock(&engine->lock);
}

static void destroy(struct engine *base)
{
	struct llama_engine *engine = (struct llama_engine *)base;
	llama_engine_stop(engine);
	engine_free(engine->embedder);
	llama_cache_close(engine);
	if (engine->budget)
		kv_budget_unwatch(engine->budget, &engine->watcher);
	if (engine->owns_budget)
		kv_budget_free(engine->budget);
	engine_llama_unload(engine);
	pthread_cond_destroy(&engine->prepare_wake);
	pthread_cond_destroy(&engine->engine_wake);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

static uint32_t position(struct engine_call *base)
{
	return atomic_load(&((struct llama_call *)base)->position);
}

static const struct engine_ops llama_ops = {.submit = submit,
                                            .cancel = cancel,
                                            .set_paused = set_paused,
                                            .position = position,
                                            .info = info,
                                            .capacity = capacity,
                                            .prefixes = prefixes,
                                            .free = destroy};

static void on_room(void *user)
{
	llama_engine_poke(user);
}

/* Without a shared budget: what the context holds, so that the cells alone decide. */
static enum db_err open_budget(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error)
{
	const struct kv_cost *cost = &engine->cost;
	engine->budget = options->budget;
	if (!engine->budget) {
		uint64_t all = kv_cost_bytes(cost, engine->budget_tokens) + engine->max_sequences * kv_cost_bytes(cost, cost->window);
		engine->budget = kv_budget_new(all);
		engine->owns_budget = true;
	}
	if (!engine->budget)
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
	engine->watcher = (struct kv_budget_watcher){.on_room = on_room, .user = engine};
	kv_budget_watch(engine->budget, &engine->watcher);
	return DB_OK;
}

static void add_memory(struct llama_engine *engine)
{
	struct engine_info embedder;
	engine_info(engine->embedder, &embedder);
	engine->info.memory_bytes += embedder.memory_bytes;
}

struct engine *engine_llama_new(const struct engine_llama_options *options, struct error *error)
{
	struct llama_engine *engine = calloc(1, sizeof *engine);
	if (!engine) {
		error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
		return NULL;
	}
	engine->base.ops = &llama_ops;
	engine->decode = chat_shim_decode;
	list_init(&engine->to_prepare);
	list_init(&engine->prepared);
	list_init(&engine->waiting);
	list_init(&engine->tenants);
	pthread_mutex_init(&engine->lock, NULL);
	engine_cond_init(&engine->prepare_wake);
	engine_cond_init(&engine->engine_wake);
	enum db_err err = engine_llama_load(engine, options, error);
	if (!err)
		err = open_budget(engine, options, error);
	if (!err)
		err = llama_cache_open(engine, options, error);
	if (!err && options->embeddings) {
		engine->embedder = engine_embed_new(engine->model, options->threads, 0, error);
		engine->info.can_embed = engine->embedder != NULL;
		err = engine->embedder ? DB_OK : error->code;
		if (!err)
			add_memory(engine);
	}
	if (!err) {
		engine->published.max_concurrency = engine->max_sequences;
		engine->published.budget_max_tokens = engine->budget_tokens;
		if (llama_engine_start(engine))
			err = error_set(error, DB_E_NOMEM, "model load failed: no threads");
	}
	if (err) {
		destroy(&engine->base);
		return NULL;
	}
	return &engine->base;
}
