/* One decode step: every running call adds its next token, prompts add up to a chunk, or else guesses are added where they pay.
 * llama.cpp runs them as one batch, and each call whose last token was run gets its next one, and more as long as its guesses
 * were right. */
#include "provider/engine/engine_llama.h"

#include "core/clock.h"
#include "core/log.h"

#include <stdlib.h>

#define PREFILL_LEAST_US       1000 /* inference 2.6: a shorter window, or a faster rate, is not believed */
#define PREFILL_MOST_TPS       8000.0
#define ROWS_AT_A_TIME         4 /* of the matrix kernels: a rest costs as much as that many */
#define PROMPT_TOKENS_LIKE_ONE 4 /* in a tenant's share: prompts are run many tokens at a time */

/* A call's part of the batch. */
struct part {
	struct llama_call *call;
	size_t count;
	int32_t logits_at; /* index into the batch, or -1 when its prompt goes on */
	bool captured;     /* ends where the prefix cache wants to look at the sequence */
	size_t guesses;    /* in the batch right after its tokens */
};

struct step {
	struct part parts[ENGINE_LLAMA_MAX_SEQUENCES];
	size_t part_count;
	size_t answers, prompts;       /* calls that have one token to run, and those that have more */
	size_t prompt_tokens, guesses; /* in the batch, besides the answers' next tokens */
};

static size_t unrun_tokens(const struct llama_call *call)
{
	return call_token_count(call) - call->in_cache;
}

static void start_call(struct llama_call *call)
{
	if (call->started)
		return;
	call->started = true;
	call->started_us = clock_mono_us();
	if (call == call->root && call->callbacks.on_started)
		call->callbacks.on_started(&call->root->base, call->user);
}

static void add_token(struct llama_batch *batch, const struct llama_call *call, int32_t token, size_t place, bool logits)
{
	int32_t at = batch->n_tokens++;
	batch->token[at] = token;
	batch->pos[at] = (llama_pos)place;
	batch->n_seq_id[at] = 1;
	batch->seq_id[at][0] = call->seq;
	batch->logits[at] = logits;
}

/* Adds at most `count` of the call's tokens: a chunk ends early where the prefix cache wants to look at the sequence. */
static void add_part(struct llama_engine *engine, struct step *step, struct llama_call *call, size_t count)
{
	const int32_t *tokens = call_tokens(call);
	size_t boundary = llama_cache_boundary(engine, call);
	bool captured = boundary > call->in_cache && boundary <= call->in_cache + count;
	if (captured)
		count = boundary - call->in_cache;
	else if (count < unrun_tokens(call))
		count = llama_cache_chunk(call, count);
	bool last = count == unrun_tokens(call);
	start_call(call);
	for (size_t i = 0; i < count; i++)
		add_token(&engine->batch, call, tokens[call->in_cache + i], call->in_cache + i, last && i + 1 == count);
	step->parts[step->part_count++] = (struct part){call, count, last ? engine->batch.n_tokens - 1 : -1, captured, 0};
}

static bool is_running(const struct llama_call *call)
{
	return !atomic_load(&call->root->paused);
}

static void add_guesses(struct llama_engine *engine, struct step *step, const int32_t *tokens, size_t count)
{
	struct part *part = &step->parts[step->part_count - 1];
	for (size_t i = 0; i < count; i++)
		add_token(&engine->batch, part->call, tokens[i], part->call->in_cache + part->count + i, true);
	part->guesses = count;
	step->guesses += count;
}

/* Guesses wait while a prompt does. */
static void add_answers(struct llama_engine *engine, struct step *step)
{
	struct llama_call *calls[ENGINE_LLAMA_MAX_SEQUENCES];
	struct llama_guesses guesses = {.count = {0}};
	for (size_t i = 0; i < engine->running_count; i++) {
		struct llama_call *call = engine->running[i];
		if (is_running(call) && unrun_tokens(call) == 1)
			calls[step->answers++] = call;
		else if (is_running(call))
			step->prompts++;
	}
	engine->draft_asked = false;
	if (!step->prompts)
		llama_guess(engine, calls, step->answers, &guesses);
	for (size_t i = 0; i < step->answers; i++) {
		add_part(engine, step, calls[i], 1);
		add_guesses(engine, step, guesses.tokens[i], guesses.count[i]);
	}
}

/* How many tokens to run next of those that wait. An answer that is run again goes in small pieces: attention over larger ones
 * rounds in another way than one token at a time, and the answer must go on as it would have. */
static size_t piece_of(const struct llama_call *call, size_t wanted)
{
	size_t most = call->in_cache < call->prompt_count ? call->prompt_count - call->in_cache : ENGINE_AGAIN_TOKENS;
	return wanted < most ? wanted : most;
}

/* Calls that decode come first, so that a long prompt never holds them up; then prompts share a chunk, the oldest first, that
 * is small enough for the step not to keep the others waiting. */
static void fill_batch(struct llama_engine *engine, struct step *step)
{
	engine->batch.n_tokens = 0;
	add_answers(engine, step);
	size_t others = (size_t)engine->batch.n_tokens;
	size_t chunk = engine_pace_chunk(&engine->pace, step->answers, step->prompts, engine->step_tokens);
	size_t end = others + chunk < engine->step_tokens ? others + chunk : engine->step_tokens;
	if (chunk >= 4 * ROWS_AT_A_TIME)
		end -= end % ROWS_AT_A_TIME;
	for (size_t i = 0; i < engine->running_count; i++) {
		struct llama_call *call = engine->running[i];
		size_t taken = (size_t)engine->batch.n_tokens, wanted = piece_of(call, unrun_tokens(call));
		size_t room = end > taken ? end - taken : 0;
		if (!is_running(call) || unrun_tokens(call) <= 1 || room == 0)
			continue;
		add_part(engine, step, call, wanted < room ? wanted : room);
	}
	step->prompt_tokens = (size_t)engine->batch.n_tokens - others;
}

/* --- what came out --- */

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static void observe(double *average, double value)
{
	*average = *average > 0 ? 0.7 * *average + 0.3 * value : value; /* inference 2.6 */
}

/* Rates are learnt from whole answers, as one consumer saw them. A prompt that was in part restored, or that another answer
 * ran, says nothing about prefill. */
static void observe_call(struct llama_engine *engine, const struct llama_call *call)
{
	uint64_t now = clock_mono_us();
	if (call->resume.count > 0) /* most of it was made elsewhere */
		return;
	if (call->generated > 1 && now > call->first_token_us)
		observe(&engine->decode_tps, (double)(call->generated - 1) * 1e6 / (double)(now - call->first_token_us));
	bool cold = call == call->root && !call->restored && call->first_token_us > call->started_us + PREFILL_LEAST_US;
	if (cold)
		observe(&engine->prefill_tps, smaller(PREFILL_MOST_TPS, (double)call->prompt_count * 1e6 /
		                                                            (double)(call->first_token_us - call->started_us)));
}

void llama_engine_end_call(struct llama_engine *engine, struct llama_call *call, enum call_state state)
{
	if (state == CALL_FAILED) {
		llama_engine_fail_call(engine, call, 500, ENGINE_REASON_FAULT, "the answer could not be written down: out of memory");
		return;
	}
	observe_call(engine, call);
	bool tools = state == CALL_STOPPED && call->prompt.reader && chat_reader_has_tool_calls(call->prompt.reader);
	bool by_itself = state == CALL_STOPPED && !call->cut;
	const char *refusal = by_itself && !tools ? chat_verdict_refusal(&call->verdict) : NULL;
	if (refusal) {
		llama_engine_fail_call(engine, call, 422, ENGINE_REASON_NONE, refusal);
		return;
	}
	llama_engine_finish_call(engine, call,
	                         state == CALL_AT_LENGTH ? ENGINE_FINISH_LENGTH
	                         : tools                 ? ENGINE_FINISH_TOOL_CALLS
	                                                 : ENGINE_FINISH_STOP);
}

/* The call has ended when it does not go on. */
static enum call_state sample(struct llama_engine *engine, struct llama_call *call, float *logits)
{
	struct engine_logprobs values;
	struct engine_logprobs *logprobs = call->sampling.logprobs ? &values : NULL;
	int32_t token = logits ? engine_sampler_next(call->sampler, logits, logprobs) : -1;
	if (token < 0) {
		llama_engine_fail_call(engine, call, 500, ENGINE_REASON_FAULT, "generation failed: the model gave no usable token");
		return CALL_FAILED;
	}
	engine->tokens_done++;
	if (call->turn)
		call->turn->served++;
	enum call_state state = llama_call_token(engine, call, token, logprobs);
	if (state != CALL_GOES_ON)
		llama_engine_end_call(engine, call, state);
	return state;
}

/* The first answer's prompt was run: the others go on from a copy of it. Each changes the logits it draws from. */
static void sample_all(struct llama_engine *engine, struct llama_call *root, float *logits)
{
	struct llama_call *joined[ENGINE_MAX_CHOICES - 1];
	size_t count = llama_engine_fork(engine, root, joined), bytes = (size_t)engine->sampling.tokens * sizeof *logits;
	float *copy = count && logits ? malloc(bytes) : NULL;
	if (copy)
		memcpy(copy, logits, bytes);
	sample(engine, root, logits);
	for (size_t i = 0; i < count; i++) {
		if (copy)
			memcpy(logits, copy, bytes);
		sample(engine, joined[i], copy ? logits : NULL);
	}
	free(copy);
}

/* Takes back what a failed batch, or wrong guesses, may have left in the cache. A state that cannot be cut starts over. */
static void cut(struct llama_engine *engine, struct llama_call *call)
{
	llama_memory_t memory = llama_get_memory(engine->context);
	if (llama_memory_seq_rm(memory, call->seq, (llama_pos)call->in_cache, -1))
		return;
	llama_memory_seq_rm(memory, call->seq, -1, -1);
	call->in_cache = 0;
}

/* The sampler goes through the guesses as if each had been run after the one before was chosen. */
static void sample_guessed(struct llama_engine *engine, const struct part *part)
{
	struct llama_call *call = part->call;
	engine->tokens_guessed += part->guesses;
	for (size_t right = 0;; right++) {
		int32_t at = part->logits_at + (int32_t)right;
		if (sample(engine, call, llama_get_logits_ith(engine->context, at)) != CALL_GOES_ON)
			return;
		bool wanted = is_running(call) && !atomic_load(&call->root->cancelled);
		if (right == part->guesses || !wanted || call_tokens(call)[call_token_count(call) - 1] != engine->batch.token[at + 1])
			break;
		call->in_cache++;
		engine->guesses_right++;
	}
	cut(engine, call);
}

static void sample_next(struct llama_engine *engine, const struct part *part)
{
	struct llama_call *call = part->call;
	if (part->guesses)
		sample_guessed(engine, part);
	else if (call->choices > 1 && call == call->root && !call->group.forked)
		sample_all(engine, call, llama_get_logits_ith(engine->context, part->logits_at));
	else
		sample(engine, call, llama_get_logits_ith(engine->context, part->logits_at));
}

static void take_results(struct llama_engine *engine, const struct step *step)
{
	engine->failures = 0;
	for (size_t i = 0; i < step->part_count; i++) {
		struct llama_call *call = step->parts[i].call;
		call->in_cache += step->parts[i].count;
		if (call->turn && step->parts[i].count > 1)
			call->turn->served += (double)step->parts[i].count / PROMPT_TOKENS_LIKE_ONE;
		if (step->parts[i].captured)
			llama_cache_captured(engine, call);
	}
	for (size_t i = 0; i < step->part_count; i++)
		if (step->parts[i].logits_at >= 0)
			sample_next(engine, &step->parts[i]);
}

/* --- when decoding fails --- */

/* Every call alone, so that only those that cannot be run fail. */
static void run_apart(struct llama_engine *engine, const struct step *failed)
{
	for (size_t i = 0; i < failed->part_count; i++) {
		struct llama_call *call = failed->parts[i].call;
		struct step alone = {.part_count = 0};
		size_t wanted = piece_of(call, unrun_tokens(call));
		size_t count = wanted < engine->step_tokens ? wanted : engine->step_tokens;
		engine->batch.n_tokens = 0;
		add_part(engine, &alone, call, count);
		int32_t result = engine->decode(engine->context, &engine->batch);
		if (result == 0) {
			take_results(engine, &alone);
			continue;
		}
		engine->failures++;
		log_warn("engine.call_failed", "result=%d tokens=%zu", result, count);
		llama_engine_fail_call(engine, call, 500, ENGINE_REASON_FAULT, "generation failed: the model could not be run");
	}
}

static void observe_step(struct llama_engine *engine, const struct step *step, uint64_t took_us)
{
	if (!step->prompt_tokens)
		engine_draft_observe(&engine->draft_cost, step->answers + step->guesses, took_us);
	if (!step->guesses)
		engine_pace_observe(&engine->pace, step->answers, step->prompt_tokens, took_us);
	if (!step->guesses && !step->prompt_tokens)
		engine_concurrency_observe(&engine->concurrency, (uint32_t)step->answers, took_us);
}

void llama_engine_step(struct llama_engine *engine)
{
	if (!engine->running_count)
		return;
	struct step step = {.part_count = 0};
	uint64_t begun_us = clock_mono_us(), told = engine->tokens_done;
	fill_batch(engine, &step);
	if (!step.part_count)
		return;
	uint64_t start_us = clock_mono_us();
	int32_t result = engine->decode(engine->context, &engine->batch);
	uint64_t took_us = clock_mono_us() - start_us;
	engine->steps++;
	engine->progress++;
	if (result == 0) {
		observe_step(engine, &step, took_us);
		take_results(engine, &step);
		if (!step.prompt_tokens)
			llama_draft_saw(engine, step.answers, engine->draft_asked, (size_t)(engine->tokens_done - told),
			                clock_mono_us() - begun_us);
		return;
	}
	if (atomic_load(&engine->aborting))
		return;
	log_warn("engine.decode_failed", "result=%d calls=%zu tokens=%d", result, step.part_count, engine->batch.n_tokens);
	for (size_t i = 0; i < step.part_count; i++)
		cut(engine, step.parts[i].call);
	if (result == 1 && engine->running_count > 1)
		llama_engine_preempt_youngest(engine); /* no room in the cache after all */
	else
		run_apart(engine, &step);
}
