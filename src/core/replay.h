/* What was seen lately, to refuse it a second time. Remembers a keyed 64-bit hash of each thing for at least `keep_us` and at
 * most twice that, in bounded memory: 8 to 16 bytes each. Thread: one at a time. */
#ifndef CORE_REPLAY_H
#define CORE_REPLAY_H

#include "core/error.h"
#include "core/str.h"

struct replay_half {
	uint64_t *slots; /* 0 = empty */
	size_t count, cap;
};

struct replay {
	struct replay_half now, before;
	uint64_t turned_us, keep_us;
	size_t max; /* in each half */
	uint64_t seed[2];
};

void replay_init(struct replay *replay, uint64_t keep_us, size_t max);
void replay_free(struct replay *replay);
/* DB_OK: was not seen before, and is remembered from now on; DB_E_EXISTS: was; DB_E_LIMIT or DB_E_NOMEM: cannot be remembered,
 * which the caller must treat as a refusal too. now_us is monotonic. */
enum db_err replay_note(struct replay *replay, struct str what, uint64_t now_us);

#endif
