#include "provider/engine/engine_llama_cache.h"

#include "provider/engine/engine_llama.h"

enum db_err llama_cache_open(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error)
{
	(void)options;
	(void)error;
	engine->cache = NULL;
	return DB_OK;
}

void llama_cache_close(struct llama_engine *engine)
{
	engine->cache = NULL;
}

void llama_cache_queued(struct llama_engine *engine, struct llama_call *call)
{
	(void)engine;
	call->cached = NULL;
}

bool llama_cache_ready(struct llama_engine *engine, const struct llama_call *call)
{
	(void)engine;
	(void)call;
	return true;
}

void llama_cache_restore(struct llama_engine *engine, struct llama_call *call)
{
	(void)engine;
	call->restored = 0;
}

size_t llama_cache_boundary(struct llama_engine *engine, const struct llama_call *call)
{
	(void)engine;
	(void)call;
	return SIZE_MAX;
}

void llama_cache_captured(struct llama_engine *engine, struct llama_call *call)
{
	(void)engine;
	(void)call;
}

void llama_cache_leave(struct llama_engine *engine, struct llama_call *call)
{
	(void)engine;
	(void)call;
}

void llama_cache_forget(struct llama_engine *engine, struct llama_call *call)
{
	(void)engine;
	call->cached = NULL;
}
