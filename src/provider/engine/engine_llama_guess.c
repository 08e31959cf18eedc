/* Which guesses a step runs beside the next tokens of its answers. */
#include "provider/engine/engine_llama.h"

#include <math.h>

#define GOOD_ENOUGH 0.8 /* chance of a guess from the text, above which no draft model is asked */
#define OTHERS_WAIT 1.1 /* times as long may a step take for the guesses of some while others have none */

struct guess {
	int32_t tokens[ENGINE_DRAFT_MOST];
	double chances[ENGINE_DRAFT_MOST];
	size_t count;
};

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* No further than its answer and its reservation go: each guess takes a cell. */
static size_t most_guesses(const struct llama_call *call)
{
	size_t left = (size_t)call->max_tokens - (size_t)call->generated, room = call->reserved - call_token_count(call);
	return smaller(left - 1, room);
}

static void guess_call(struct llama_call *call, struct guess *out)
{
	size_t count = call_token_count(call);
	engine_draft_learn(&call->draft, call_tokens(call), count, call->prompt_count);
	out->count = engine_draft_guess(&call->draft, call_tokens(call), count, most_guesses(call), out->tokens, out->chances);
}

/* The draft model guesses where the text itself tells little. */
static void ask_draft(struct llama_engine *engine, struct llama_call *const *calls, size_t count, struct guess *guesses)
{
	struct llama_draft_ask asks[ENGINE_LLAMA_MAX_SEQUENCES];
	for (size_t i = 0; i < count; i++) {
		bool tells = guesses[i].count && guesses[i].chances[0] >= GOOD_ENOUGH;
		asks[i].call = calls[i];
		asks[i].most = calls[i]->generated && !tells ? most_guesses(calls[i]) : 0;
	}
	llama_draft_guess(engine, asks, count);
	for (size_t i = 0; i < count; i++) {
		if (!asks[i].count || (guesses[i].count && guesses[i].chances[0] >= asks[i].chances[0]))
			continue;
		memcpy(guesses[i].tokens, asks[i].tokens, asks[i].count * sizeof *asks[i].tokens);
		memcpy(guesses[i].chances, asks[i].chances, asks[i].count * sizeof *asks[i].chances);
		guesses[i].count = asks[i].count;
	}
}

struct merged {
	double chances[ENGINE_DRAFT_TOTAL];
	size_t owners[ENGINE_DRAFT_TOTAL];
	size_t count;
	bool all; /* every answer has guesses */
};

/* The likeliest first; those of one answer come in their order, because each is less likely than the one before. */
static void merge(const struct guess *guesses, size_t count, struct merged *out)
{
	size_t taken[ENGINE_LLAMA_MAX_SEQUENCES] = {0};
	*out = (struct merged){.all = true};
	for (size_t i = 0; i < count; i++)
		out->all = out->all && guesses[i].count;
	while (out->count < ENGINE_DRAFT_TOTAL) {
		size_t best = count;
		for (size_t i = 0; i < count; i++)
			if (taken[i] < guesses[i].count &&
			    (best == count || guesses[i].chances[taken[i]] > guesses[best].chances[taken[best]]))
				best = i;
		if (best == count)
			return;
		out->chances[out->count] = guesses[best].chances[taken[best]++];
		out->owners[out->count++] = best;
	}
}

void llama_guess(struct llama_engine *engine, struct llama_call *const *calls, size_t count, struct llama_guesses *out)
{
	struct guess guesses[ENGINE_LLAMA_MAX_SEQUENCES];
	struct merged merged;
	for (size_t i = 0; i < count; i++) {
		out->count[i] = guesses[i].count = 0;
		if (engine->speculation != ENGINE_SPECULATE_NEVER && calls[i]->generated)
			guess_call(calls[i], &guesses[i]);
	}
	engine->draft_asked = count && llama_draft_wanted(engine, count);
	if (engine->draft_asked)
		ask_draft(engine, calls, count, guesses);
	merge(guesses, count, &merged);
	size_t worth = engine->speculation == ENGINE_SPECULATE_ALWAYS
	                   ? merged.count
	                   : engine_draft_worth(&engine->draft_cost, count, merged.chances, merged.count,
	                                        merged.all ? (double)INFINITY : OTHERS_WAIT);
	for (size_t i = 0; i < worth; i++) {
		size_t owner = merged.owners[i], at = out->count[owner]++;
		out->tokens[owner][at] = guesses[owner].tokens[at];
	}
}
