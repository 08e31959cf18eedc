/* Speculation by looking back: what a sequence said after its last three tokens the last time is a guess at what it says next.
 * Guessed tokens are run in the step that runs the next token anyway, and kept as long as the sampler picks the same ones.
 *
 * Whether that pays is measured, not believed. Every token of an answer tells whether it could have been guessed, guesses that
 * were not run included; the chance of a guess is what its sequence has shown so far, by how many were right in a row before.
 * Every step tells what so many rows cost. Guesses are run only where both together give more tokens in the same time, so an
 * answer that repeats nothing is decoded as if there were no guessing. Pure; thread: one at a time. */
#ifndef PROVIDER_ENGINE_DRAFT_H
#define PROVIDER_ENGINE_DRAFT_H

#include "core/buf.h"

#define ENGINE_DRAFT_GRAM  3
#define ENGINE_DRAFT_MOST  12 /* tokens guessed for one sequence in one step */
#define ENGINE_DRAFT_TOTAL 16 /* ... and for all */
#define ENGINE_DRAFT_RUNS  5  /* 0-1, 2-3, 4-7, 8-15 and more right in a row */
#define ENGINE_DRAFT_ROWS  (64 + ENGINE_DRAFT_TOTAL)

/* One sequence. Zeroed: nothing known yet. */
struct engine_draft {
	struct buf places; /* uint32_t[a power of two]: by hash of a gram, where its last follower stands; at most 64 KiB */
	size_t known;      /* tokens that were taken in */
	size_t follows;    /* the place of the next token's guess; 0 = no guess */
	size_t run;        /* guesses right in a row */
	double chance[ENGINE_DRAFT_RUNS];
};
void engine_draft_init(struct engine_draft *draft);
void engine_draft_free(struct engine_draft *draft); /* wipes */
/* Takes in what the sequence has more of; the tokens from `answer` on tell how good the guesses were. Without memory for the
 * places nothing is ever guessed. */
void engine_draft_learn(struct engine_draft *draft, const int32_t *tokens, size_t count, size_t answer);
/* Guesses at what follows the `count` tokens, all of which were learnt: up to `most` tokens, and for each the chance that it
 * and all before it are right. Returns how many. */
size_t engine_draft_guess(const struct engine_draft *draft, const int32_t *tokens, size_t count, size_t most,
                          int32_t out[ENGINE_DRAFT_MOST], double chances[ENGINE_DRAFT_MOST]);

/* What steps cost, by the number of tokens in them; prompts not counted. Zeroed: nothing known yet. */
struct engine_draft_cost {
	double us[ENGINE_DRAFT_ROWS + 1];
	uint64_t seen_at[ENGINE_DRAFT_ROWS + 1]; /* in steps */
	uint64_t steps;
};
void engine_draft_observe(struct engine_draft_cost *cost, size_t rows, uint64_t step_us);
/* How many of `count` guesses, the likeliest first, are worth running beside `answers` tokens. `stretch`: the step may take so
 * many times as long as without. */
size_t engine_draft_worth(const struct engine_draft_cost *cost, size_t answers, const double *chances, size_t count,
                          double stretch);

#endif
