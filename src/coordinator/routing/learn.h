/* What answers usually take: decayed averages of output tokens, for each model and for each account with it, from which holds
 * and routing expect the next (billing 4.1; routing 4, and the trap of 22 that the most that is allowed is not what comes).
 * Bounded: the account that asked longest ago is forgotten first. Pure. Thread: one at a time. */
#ifndef COORDINATOR_LEARN_H
#define COORDINATOR_LEARN_H

#include "core/list.h"
#include "core/map.h"
#include "core/str.h"

#define LEARN_MAX_MODELS     4096  /* models beyond it share the default */
#define LEARN_MAX_PAIRS      32768 /* of an account and a model */
#define LEARN_DEFAULT_TOKENS 256

struct learn {
	struct map models, pairs;
	struct list recent; /* pairs, last used last */
};

void learn_init(struct learn *learn);
void learn_free(struct learn *learn);
/* `account` may be empty: then only the model learns. */
void learn_output(struct learn *learn, struct str model, struct str account, uint64_t tokens);
/* Expected output tokens: at least 1, LEARN_DEFAULT_TOKENS for a model that was never seen. What is known of the account weighs
 * more the more it asked. */
uint64_t learn_expect(const struct learn *learn, struct str model, struct str account);

/* Over a restart (memory.h). A pair's name is the account, a 0 byte and the model. */
struct learn_known {
	struct str name;
	double tokens;
	uint32_t answers; /* of a pair */
};
/* One after the other from *cursor = 0, in no order; false at the end. */
bool learn_next(const struct learn *learn, bool pairs, size_t *cursor, struct learn_known *out);
void learn_put(struct learn *learn, bool pair, const struct learn_known *known); /* nothing when it is known, or no room */

bool learn_knows(const struct learn *learn, struct str model); /* it has answered before */

#endif
