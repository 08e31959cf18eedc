#include "provider/engine/engine_pace.h"

#include <math.h>

#define PACE_WEIGHT        0.2 /* of a new observation */
#define OUTLIER            4.0 /* an observation counts as at most so many times what is known */
#define TOKEN_OUTLIER      2.0
#define SURE_TOKENS        16
#define UNKNOWN_CHUNK      32   /* until both times are known */
#define CONCURRENCY_WEIGHT 0.25 /* inference 2.4, also the next three */
#define SAMPLES_TO_SPEAK   8
#define MARGIN             1.15

static void learn(double *known, double seen, double weight)
{
	if (*known <= 0) {
		*known = seen;
		return;
	}
	double most = *known * OUTLIER, least = *known / OUTLIER;
	seen = seen > most ? most : seen < least ? least : seen;
	*known += weight * (seen - *known);
}

/* The fewer the tokens, the more of the time was chance: what else the machine did in that step. */
static void learn_token(double *known, double step_us, size_t tokens)
{
	double seen = step_us / (double)tokens;
	if (*known <= 0) {
		*known = seen;
		return;
	}
	double ratio = seen / *known, weight = tokens < SURE_TOKENS ? PACE_WEIGHT * (double)tokens / SURE_TOKENS : PACE_WEIGHT;
	ratio = ratio > TOKEN_OUTLIER ? TOKEN_OUTLIER : ratio < 1 / TOKEN_OUTLIER ? 1 / TOKEN_OUTLIER : ratio;
	*known *= pow(ratio, weight); /* so that too slow and too fast count alike */
}

/* The nearest sizes that were seen, at most and at least `answers`; 0 = none. */
static void seen_around(const struct engine_pace *pace, size_t answers, size_t *below, size_t *above)
{
	*below = answers;
	while (*below && pace->answers_us[*below] <= 0)
		(*below)--;
	*above = answers ? answers : 1;
	while (*above <= ENGINE_PACE_ROWS && pace->answers_us[*above] <= 0)
		(*above)++;
	if (*above > ENGINE_PACE_ROWS)
		*above = 0;
}

/* A step with so many answers alone. Between two sizes that were seen it lies in the middle; past them, a row more or less
 * costs about as much as a token of a prompt. 0: not known. */
static double answers_us(const struct engine_pace *pace, size_t answers)
{
	size_t below, above;
	if (answers > ENGINE_PACE_ROWS)
		answers = ENGINE_PACE_ROWS;
	seen_around(pace, answers, &below, &above);
	if (!below && !above)
		return 0;
	if (!above)
		return pace->answers_us[below] + (double)(answers - below) * pace->prompt_token_us;
	double most = pace->answers_us[above];
	if (!below) {
		double least = most * (double)answers / (double)above;
		double less = most - (double)(above - answers) * pace->prompt_token_us;
		return pace->prompt_token_us > 0 && less > least ? less : least;
	}
	if (below == above)
		return most;
	double part = (double)(answers - below) / (double)(above - below);
	return pace->answers_us[below] + part * (most - pace->answers_us[below]);
}

/* The rows of a step that are not accounted for by an answers-only step, and the time that they took. */
static void observe_mixed(struct engine_pace *pace, size_t answers, size_t prompt_tokens, double step_us)
{
	size_t below, above, rows = prompt_tokens;
	seen_around(pace, answers, &below, &above);
	double known = 0;
	if (answers && above) {
		known = answers_us(pace, answers);
	} else if (below) {
		known = pace->answers_us[below];
		rows += answers - below;
	} else if (answers) {
		return;
	} else if (above && prompt_tokens > above) {
		known = pace->answers_us[above];
		rows -= above;
	}
	learn_token(&pace->prompt_token_us, step_us > known ? step_us - known : 1, rows);
}

void engine_pace_observe(struct engine_pace *pace, size_t answers, size_t prompt_tokens, uint64_t step_us)
{
	if (answers > ENGINE_PACE_ROWS || (!answers && !prompt_tokens))
		return;
	if (prompt_tokens) {
		pace->mixed += answers > 0;
		observe_mixed(pace, answers, prompt_tokens, (double)step_us);
	} else {
		pace->mixed = 0;
		learn(&pace->answers_us[answers], (double)step_us, PACE_WEIGHT);
	}
}

/* What the prompts may add to a step that takes `alone_us` without them. */
static double prompts_us(double alone_us, size_t answers, size_t prompts)
{
	double us = (ENGINE_PACE_STRETCH - 1) * alone_us;
	prompts *= ENGINE_PACE_PROMPT_WEIGHT;
	if (prompts <= answers || us >= ENGINE_PACE_PATIENCE_US)
		return us;
	us *= (double)prompts / (double)answers;
	return us < ENGINE_PACE_PATIENCE_US ? us : ENGINE_PACE_PATIENCE_US;
}

size_t engine_pace_chunk(const struct engine_pace *pace, size_t answers, size_t prompts, size_t most)
{
	if (!answers)
		return most;
	if (pace->mixed >= ENGINE_PACE_LOOK)
		return 0;
	double alone = answers_us(pace, answers), chunk = UNKNOWN_CHUNK;
	if (alone > 0 && pace->prompt_token_us > 0)
		chunk = prompts_us(alone, answers, prompts) / pace->prompt_token_us;
	if (chunk < ENGINE_PACE_LEAST)
		chunk = ENGINE_PACE_LEAST;
	return chunk < (double)most ? (size_t)chunk : most;
}

void engine_concurrency_init(struct engine_concurrency *concurrency, uint32_t most, double target_tps)
{
	if (most > ENGINE_PACE_ROWS)
		most = ENGINE_PACE_ROWS;
	*concurrency = (struct engine_concurrency){.most = most, .cap = most, .target_tps = target_tps};
}

void engine_concurrency_observe(struct engine_concurrency *concurrency, uint32_t answers, uint64_t step_us)
{
	if (!answers || answers > ENGINE_PACE_ROWS || !step_us)
		return;
	double seen = 1e6 / (double)step_us, *known = &concurrency->tps[answers];
	*known = concurrency->samples[answers] ? *known + CONCURRENCY_WEIGHT * (seen - *known) : seen;
	if (concurrency->samples[answers] < SAMPLES_TO_SPEAK)
		concurrency->samples[answers]++;
}

/* What a batch size is known to give: -1 too little, 1 enough, 0 not known. */
static int verdict(const struct engine_concurrency *c, uint32_t answers)
{
	if (c->samples[answers] < SAMPLES_TO_SPEAK)
		return 0;
	return c->tps[answers] >= c->target_tps ? 1 : -1;
}

/* The largest smaller size that is known to be fast enough, else one less. */
static uint32_t next_below(const struct engine_concurrency *c)
{
	for (uint32_t size = c->cap - 1; size >= 1; size--)
		if (verdict(c, size) > 0)
			return size;
	return c->cap - 1;
}

uint32_t engine_concurrency_adapt(struct engine_concurrency *c)
{
	if (c->target_tps <= 0)
		return c->cap;
	int now = verdict(c, c->cap);
	if (now < 0 && c->cap > 1)
		c->cap = next_below(c);
	else if (now > 0 && c->cap < c->most && c->tps[c->cap] >= c->target_tps * MARGIN && verdict(c, c->cap + 1) >= 0)
		c->cap++;
	return c->cap;
}
