/* What answers usually take: a decayed average of output tokens for each model, from which holds and routing expect the next
 * (billing 4.1; routing 4). Thread: the loop's. */
#ifndef COORDINATOR_LEARN_H
#define COORDINATOR_LEARN_H

#include "core/map.h"
#include "core/str.h"

#define LEARN_MAX_MODELS     4096 /* models beyond it share the default */
#define LEARN_DEFAULT_TOKENS 256

struct learn {
	struct map models;
};

void learn_init(struct learn *learn);
void learn_free(struct learn *learn);
void learn_output(struct learn *learn, struct str model, uint64_t tokens);
/* Expected output tokens: at least 1, LEARN_DEFAULT_TOKENS for a model that was never seen. */
uint64_t learn_expect(const struct learn *learn, struct str model);
bool learn_knows(const struct learn *learn, struct str model); /* it has answered before */

#endif
