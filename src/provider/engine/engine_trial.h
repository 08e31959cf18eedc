/* Does it pay? A way of running steps that may or may not be quicker is tried beside the plain one, for each size of batch, and
 * then only the better of the two is used. Every so often the other one is tried again. Pure; thread: one at a time. */
#ifndef PROVIDER_ENGINE_TRIAL_H
#define PROVIDER_ENGINE_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENGINE_TRIAL_SIZES 4    /* 1, 2-3, 4-7, 8 and more answers */
#define ENGINE_TRIAL_STEPS 8    /* of each way, before anything is believed */
#define ENGINE_TRIAL_EVERY 512  /* steps, after which the worse way is tried again */
#define ENGINE_TRIAL_GAIN  1.05 /* tokens in the same time, from which the new way is the better one */

/* Zeroed: nothing known yet. */
struct engine_trial {
	struct {
		double tokens[2], us[2]; /* sums that fade, of steps without and with */
		uint32_t steps[2];       /* of the trial that runs */
		uint32_t since;          /* the last trial */
	} sizes[ENGINE_TRIAL_SIZES];
};

/* Is the next step, with so many answers in it, to be run the new way? */
bool engine_trial_wants(const struct engine_trial *trial, size_t answers);
/* A step was: `tokens` came in `us`. */
void engine_trial_saw(struct engine_trial *trial, size_t answers, bool new_way, size_t tokens, uint64_t us);

#endif
