#include "provider/engine/engine_trial.h"

#define FADES 0.98 /* with every step: the last fifty count */

static size_t size_of(size_t answers)
{
	size_t size = 0;
	while (answers > 1 && size + 1 < ENGINE_TRIAL_SIZES) {
		answers /= 2;
		size++;
	}
	return size;
}

bool engine_trial_wants(const struct engine_trial *trial, size_t answers)
{
	size_t at = size_of(answers);
	const uint32_t *steps = trial->sizes[at].steps;
	const double *tokens = trial->sizes[at].tokens, *us = trial->sizes[at].us;
	if (steps[0] < ENGINE_TRIAL_STEPS || steps[1] < ENGINE_TRIAL_STEPS)
		return steps[1] < steps[0];
	return tokens[1] * us[0] > ENGINE_TRIAL_GAIN * tokens[0] * us[1];
}

void engine_trial_saw(struct engine_trial *trial, size_t answers, bool new_way, size_t tokens, uint64_t us)
{
	size_t at = size_of(answers), way = new_way ? 1 : 0;
	double *sum_tokens = &trial->sizes[at].tokens[way], *sum_us = &trial->sizes[at].us[way];
	if (trial->sizes[at].steps[way] < ENGINE_TRIAL_STEPS)
		trial->sizes[at].steps[way]++;
	*sum_tokens = FADES * *sum_tokens + (double)tokens;
	*sum_us = FADES * *sum_us + (double)us;
	if (++trial->sizes[at].since < ENGINE_TRIAL_EVERY)
		return;
	trial->sizes[at].since = 0;
	way = engine_trial_wants(trial, answers) ? 0 : 1; /* the worse one is asked anew */
	trial->sizes[at].steps[way] = 0;
	trial->sizes[at].tokens[way] = trial->sizes[at].us[way] = 0;
}
