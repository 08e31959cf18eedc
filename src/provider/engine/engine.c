#include "provider/engine/engine.h"

const char *engine_finish_name(enum engine_finish finish)
{
	switch (finish) {
	case ENGINE_FINISH_LENGTH:
		return "length";
	case ENGINE_FINISH_TOOL_CALLS:
		return "tool_calls";
	case ENGINE_FINISH_STOP:
	case ENGINE_FINISH_CANCELLED:
		break;
	}
	return "stop";
}

const char *engine_reason_name(enum engine_reason reason)
{
	switch (reason) {
	case ENGINE_REASON_TIMEOUT:
		return "capacity_timeout";
	case ENGINE_REASON_QUEUE:
		return "queue_full";
	case ENGINE_REASON_BUDGET:
		return "token_budget_exhausted";
	case ENGINE_REASON_CANCELLED:
		return "cancelled";
	case ENGINE_REASON_FAULT:
		return "provider_error";
	case ENGINE_REASON_TEMPLATE:
		return "jinja_template";
	case ENGINE_REASON_LOAD:
		return "model_load";
	case ENGINE_REASON_NONE:
		break;
	}
	return "";
}

int engine_submit(struct engine *engine, const struct engine_request *request, const struct engine_callbacks *callbacks,
                  void *user, struct engine_call **call, struct error *error)
{
	*call = NULL;
	return engine->ops->submit(engine, request, callbacks, user, call, error);
}

void engine_cancel(struct engine_call *call)
{
	call->engine->ops->cancel(call);
}

void engine_pause(struct engine_call *call)
{
	call->engine->ops->set_paused(call, true);
}

void engine_resume(struct engine_call *call)
{
	call->engine->ops->set_paused(call, false);
}

uint32_t engine_queue_position(struct engine_call *call)
{
	return call->engine->ops->position ? call->engine->ops->position(call) : 0;
}

void engine_info(const struct engine *engine, struct engine_info *out)
{
	*out = (struct engine_info){0};
	engine->ops->info(engine, out);
}

void engine_capacity(struct engine *engine, struct engine_capacity *out)
{
	*out = (struct engine_capacity){0};
	engine->ops->capacity(engine, out);
}

size_t engine_prefixes(struct engine *engine, uint64_t *out, size_t max)
{
	return engine->ops->prefixes ? engine->ops->prefixes(engine, out, max) : 0;
}

void engine_free(struct engine *engine)
{
	if (engine)
		engine->ops->free(engine);
}

void engine_call_init(struct engine_call *call, struct engine *engine, void (*destroy)(struct engine_call *call))
{
	call->engine = engine;
	call->destroy = destroy;
	atomic_init(&call->refs, 1);
}

void engine_call_hold(struct engine_call *call)
{
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

void engine_call_release(struct engine_call *call)
{
	if (call && atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) == 1)
		call->destroy(call);
}
