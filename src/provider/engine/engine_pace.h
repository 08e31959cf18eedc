/* How much of a waiting prompt a step takes in while answers are running, and how many answers may run, both from measured
 * times. Pure; thread: one at a time. */
#ifndef PROVIDER_ENGINE_PACE_H
#define PROVIDER_ENGINE_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENGINE_PACE_ROWS 64

/* --- prompts beside answers ---
 * Each step carries one token of every answer and a chunk of prompts. The chunk is as long as lets the step take no more than
 * ENGINE_PACE_STRETCH times the time that it takes without, so a stream never waits for more than one such step. Where
 * prompts are many, each counting as ENGINE_PACE_PROMPT_WEIGHT answers, the answers give way in proportion, for at most
 * ENGINE_PACE_PATIENCE_US: a burst of prompts would else be run a few tokens at a time for the sake of the first that got
 * through. Every ENGINE_PACE_LOOK steps a step goes without a chunk, because what the answers cost alone changes: they grow,
 * and the machine has other work; laid to the prompt's charge that would shrink its chunks more and more. */
#define ENGINE_PACE_STRETCH       1.8
#define ENGINE_PACE_LEAST         4 /* tokens: a prompt always gets on; deep in a long one each costs as much as several answers */
#define ENGINE_PACE_PROMPT_WEIGHT 2
#define ENGINE_PACE_LOOK          16
#define ENGINE_PACE_PATIENCE_US   250000.0

struct engine_pace {
	double answers_us[ENGINE_PACE_ROWS + 1]; /* a step with so many answers and no prompt; 0 = not seen */
	double prompt_token_us;                  /* what a token of a prompt adds to a step; 0 = not seen */
	unsigned mixed;                          /* steps of answers and prompts since one of answers alone */
};
void engine_pace_observe(struct engine_pace *pace, size_t answers, size_t prompt_tokens, uint64_t step_us);
/* Tokens of `prompts` prompts for a step with so many answers, at most `most`; 0 for a step that only looks. */
size_t engine_pace_chunk(const struct engine_pace *pace, size_t answers, size_t prompts, size_t most);

/* --- how many at once (inference 2.4) ---
 * The cap starts at the most and moves by what each batch size was seen to give one answer. */
struct engine_concurrency {
	uint32_t most, cap;
	double target_tps; /* for one answer; 0: the cap stays at the most */
	double tps[ENGINE_PACE_ROWS + 1];
	uint32_t samples[ENGINE_PACE_ROWS + 1];
};
void engine_concurrency_init(struct engine_concurrency *concurrency, uint32_t most, double target_tps);
/* One step of `answers` answers gave each of them a token in so long a time. */
void engine_concurrency_observe(struct engine_concurrency *concurrency, uint32_t answers, uint64_t step_us);
/* To be called after an answer ended. Returns the cap. */
uint32_t engine_concurrency_adapt(struct engine_concurrency *concurrency);

#endif
