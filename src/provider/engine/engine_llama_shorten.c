/* A conversation that does not fit, without as many of its oldest parts as it takes. */
#include "provider/engine/chat_conversation.h"
#include "provider/engine/chat_shorten.h"
#include "provider/engine/engine_llama.h"

#define TRIAL_MAX       ((size_t)64 << 20)
#define ANSWER_PART     4  /* of the context is left for the answer, unless it may not be that long */
#define BYTES_PER_TOKEN 16 /* more than text has: what is longer need not be rendered to know that it does not fit */

/* The longest prompt that can run here. */
static size_t prompt_limit(const struct llama_engine *engine)
{
	size_t trained = (size_t)llama_model_n_ctx_train(engine->model), limit = engine->sequence_tokens;
	size_t room = llama_engine_longest(engine);
	limit = trained < limit ? trained : limit;
	limit = room < limit ? room : limit;
	return limit ? limit - 1 : 0;
}

static size_t prompt_aim(const struct llama_call *call, size_t limit)
{
	size_t answer = limit / ANSWER_PART;
	if (call->max_tokens > 0 && (uint64_t)call->max_tokens < answer)
		answer = (size_t)call->max_tokens;
	return limit - answer;
}

static bool count_tokens(const struct chat_prompt *prompt, size_t *count)
{
	size_t most = prompt->text_len + 16;
	struct buf tokens;
	buf_init(&tokens, most * sizeof(int32_t));
	bool ok = most <= INT32_MAX && buf_reserve(&tokens, most * sizeof(int32_t)) == DB_OK;
	int32_t found = ok ? chat_prompt_tokenize(prompt, (int32_t *)(void *)tokens.at, (int32_t)most) : -1;
	tokens.len = found > 0 ? (size_t)found * sizeof(int32_t) : 0; /* to be wiped */
	buf_free(&tokens);
	*count = found > 0 ? (size_t)found : 0;
	return found >= 0;
}

/* Is the prompt short enough without these parts? A template that refuses what is left counts as no. */
static bool fits_without(const struct llama_engine *engine, const struct llama_call *call, const struct chat_shorten *shorten,
                         size_t dropped, size_t aim)
{
	struct chat_conversation conversation = call->conversation;
	struct chat_prompt prompt = {0};
	struct error error;
	size_t count = SIZE_MAX;
	struct arena *arena;
	if (chat_shorten_bytes(shorten, dropped) > aim * BYTES_PER_TOKEN || !(arena = arena_new(TRIAL_MAX)))
		return false;
	conversation.messages_json = chat_shorten_write(shorten, dropped, arena);
	bool ok =
	    conversation.messages_json && chat_conversation_render(engine->templates, &conversation, arena, &prompt, &error) == 0;
	ok = ok && count_tokens(&prompt, &count) && count <= aim;
	chat_prompt_free(&prompt);
	arena_free(arena);
	return ok;
}

/* The fewest parts; SIZE_MAX when it does not fit without all of them. */
static size_t fewest(const struct llama_engine *engine, const struct llama_call *call, const struct chat_shorten *shorten,
                     size_t aim)
{
	size_t too_few = 0, enough = chat_shorten_parts(shorten);
	if (!enough || !fits_without(engine, call, shorten, enough, aim))
		return SIZE_MAX;
	while (enough - too_few > 1) {
		size_t middle = too_few + (enough - too_few) / 2;
		if (fits_without(engine, call, shorten, middle, aim))
			enough = middle;
		else
			too_few = middle;
	}
	return enough;
}

bool llama_call_shorten(struct llama_engine *engine, struct llama_call *call, const char *said)
{
	size_t limit = prompt_limit(engine);
	if (call->plain || call->prompt_count <= limit)
		return true;
	struct chat_shorten *shorten = chat_shorten_new(said, call->arena);
	if (!shorten)
		return false;
	size_t dropped = fewest(engine, call, shorten, prompt_aim(call, limit));
	if (dropped == SIZE_MAX) /* what the last message alone needs may be more than was set aside for it */
		dropped = fewest(engine, call, shorten, limit);
	if (dropped == SIZE_MAX)
		return true;
	call->conversation.messages_json = chat_shorten_write(shorten, dropped, call->arena);
	if (!call->conversation.messages_json)
		return false;
	chat_prompt_free(&call->prompt);
	buf_free(&call->tokens);
	return llama_call_render(engine, call) && llama_call_tokenize(engine, call);
}
