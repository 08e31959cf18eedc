#include "provider/engine/engine_draft.h"

#include <string.h>

#define PLACES_LEAST   ((size_t)256)
#define PLACES_MOST    ((size_t)16384)
#define CHANCE_WEIGHT  0.1  /* of a new observation */
#define COST_WEIGHT    0.2  /* also the next two */
#define COST_OUTLIER   4.0  /* an observation counts as at most so many times what is known */
#define COST_KEPT      1024 /* steps after which a cost is looked at anew */
#define ROW_UNKNOWN    0.1  /* what a row is taken to add to a step before it was measured: it has to be tried once */
#define WORTH_AT_LEAST 1.05 /* tokens in the same time */

/* --- guesses --- */

void engine_draft_init(struct engine_draft *draft)
{
	static const double before_anything_is_known[ENGINE_DRAFT_RUNS] = {0.3, 0.5, 0.65, 0.8, 0.9};
	*draft = (struct engine_draft){.follows = 0};
	memcpy(draft->chance, before_anything_is_known, sizeof draft->chance);
	buf_init(&draft->places, PLACES_MOST * sizeof(uint32_t));
}

void engine_draft_free(struct engine_draft *draft)
{
	buf_free(&draft->places);
}

static size_t run_class(size_t run)
{
	size_t class = 0;
	while (run > 1 && class + 1 < ENGINE_DRAFT_RUNS) {
		run /= 2;
		class ++;
	}
	return class;
}

static uint32_t *place_of(const struct engine_draft *draft, const int32_t *gram)
{
	uint64_t hash = 0;
	for (size_t i = 0; i < ENGINE_DRAFT_GRAM; i++)
		hash = (hash ^ (uint32_t)gram[i]) * UINT64_C(0x9e3779b97f4a7c15);
	size_t places = draft->places.len / sizeof(uint32_t);
	hash ^= hash >> 32;
	return (uint32_t *)(void *)draft->places.at + (hash & (places - 1));
}

static void learn_token(struct engine_draft *draft, const int32_t *tokens, size_t at, bool answer)
{
	if (draft->follows) {
		bool right = tokens[draft->follows] == tokens[at];
		double *chance = &draft->chance[run_class(draft->run)];
		if (answer)
			*chance += CHANCE_WEIGHT * ((right ? 1.0 : 0.0) - *chance);
		draft->follows = right ? draft->follows + 1 : 0;
		draft->run = right ? draft->run + 1 : 0;
	}
	if (at + 1 < ENGINE_DRAFT_GRAM || at >= UINT32_MAX)
		return;
	const int32_t *gram = tokens + at + 1 - ENGINE_DRAFT_GRAM;
	uint32_t *place = place_of(draft, gram);
	if (!draft->follows && *place && memcmp(tokens + *place - ENGINE_DRAFT_GRAM, gram, ENGINE_DRAFT_GRAM * sizeof *gram) == 0)
		draft->follows = *place;
	*place = (uint32_t)(at + 1);
}

/* As many places as the tokens so far, so that a short answer costs little. */
static bool make_room(struct engine_draft *draft, size_t count)
{
	size_t places = draft->places.len / sizeof(uint32_t), wanted = PLACES_LEAST;
	while (wanted < PLACES_MOST && wanted < count)
		wanted *= 2;
	if (places >= wanted)
		return true;
	if (buf_reserve(&draft->places, wanted * sizeof(uint32_t) - draft->places.len))
		return places > 0;
	draft->places.len = wanted * sizeof(uint32_t);
	memset(draft->places.at, 0, draft->places.len);
	draft->known = draft->follows = draft->run = 0;
	return true;
}

void engine_draft_learn(struct engine_draft *draft, const int32_t *tokens, size_t count, size_t answer)
{
	size_t told = draft->known;
	if (!make_room(draft, count))
		return;
	for (; draft->known < count; draft->known++)
		learn_token(draft, tokens, draft->known, draft->known >= answer && draft->known >= told);
}

size_t engine_draft_guess(const struct engine_draft *draft, const int32_t *tokens, size_t count, size_t most,
                          int32_t out[ENGINE_DRAFT_MOST], double chances[ENGINE_DRAFT_MOST])
{
	double chance = 1;
	if (!draft->follows || draft->known != count)
		return 0;
	most = most < ENGINE_DRAFT_MOST ? most : ENGINE_DRAFT_MOST;
	for (size_t i = 0; i < most; i++) {
		size_t from = draft->follows + i; /* past the end the guesses themselves go on: a loop */
		out[i] = from < count ? tokens[from] : out[from - count];
		chance *= draft->chance[run_class(draft->run + i)];
		chances[i] = chance;
	}
	return most;
}

/* --- costs --- */

void engine_draft_observe(struct engine_draft_cost *cost, size_t rows, uint64_t step_us)
{
	cost->steps++;
	if (rows > ENGINE_DRAFT_ROWS || !step_us)
		return;
	double *known = &cost->us[rows], seen = (double)step_us;
	if (*known > 0 && cost->steps - cost->seen_at[rows] <= COST_KEPT) {
		seen = seen > *known * COST_OUTLIER ? *known * COST_OUTLIER : seen;
		*known += COST_WEIGHT * (seen - *known);
	} else {
		*known = seen;
	}
	cost->seen_at[rows] = cost->steps;
}

static bool is_known(const struct engine_draft_cost *cost, size_t rows)
{
	return cost->us[rows] > 0 && cost->steps - cost->seen_at[rows] <= COST_KEPT;
}

/* What a step of `rows` costs, which is more than the `least` that are known: measured, or between or beyond what was. */
static double step_us(const struct engine_draft_cost *cost, size_t least, size_t rows)
{
	size_t below = rows, above = rows;
	while (below > least && !is_known(cost, below))
		below--;
	while (above <= ENGINE_DRAFT_ROWS && !is_known(cost, above))
		above++;
	double from = cost->us[below];
	if (below == rows)
		return from;
	if (above > ENGINE_DRAFT_ROWS)
		return from + (double)(rows - below) * ROW_UNKNOWN * cost->us[least];
	double share = (double)(rows - below) / (double)(above - below), to = cost->us[above];
	return to > from ? from + share * (to - from) : from;
}

size_t engine_draft_worth(const struct engine_draft_cost *cost, size_t answers, const double *chances, size_t count,
                          double stretch)
{
	if (!answers || answers > ENGINE_DRAFT_ROWS || !is_known(cost, answers))
		return 0;
	double alone = step_us(cost, answers, answers), expected = (double)answers;
	double best = WORTH_AT_LEAST * expected / alone;
	size_t worth = 0;
	for (size_t i = 0; i < count && answers + i < ENGINE_DRAFT_ROWS; i++) {
		double us = step_us(cost, answers, answers + i + 1);
		expected += chances[i];
		if (us <= stretch * alone && expected / us > best) {
			best = expected / us;
			worth = i + 1;
		}
	}
	return worth;
}
