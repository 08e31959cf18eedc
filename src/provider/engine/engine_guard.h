/* Watches an engine and replaces it in place when it hangs (inference 2.7). It is an engine itself and forwards everything.
 *
 * Wedged: a call that runs and is not paused, and nothing has moved in the engine for a while. Pinned: the engine has hardly
 * any token budget, somebody wants it, and nothing has moved for a longer while. Either: the engine's calls are failed with
 * 503, so that they go elsewhere, its model is loaded anew, and the old engine is freed whenever it lets itself be freed. Until
 * then the capacity says crashed, then reloading. */
#ifndef PROVIDER_ENGINE_GUARD_H
#define PROVIDER_ENGINE_GUARD_H

#include "provider/engine/engine.h"

struct engine_guard_options {
	/* Makes the engine, at first and again; blocks. On the caller's thread at first, then on the guard's. */
	struct engine *(*make)(void *user, struct error *error);
	void (*free_user)(void *user); /* with the guard; may be NULL */
	void *user;
	uint32_t poll_ms, wedged_ms, pinned_ms, cooldown_ms; /* 0: 2 s, 120 s, 180 s, 120 s */
};
/* NULL when the engine cannot be made; then free_user was called too. */
struct engine *engine_guard_new(const struct engine_guard_options *options, struct error *error);
/* Times that the engine was replaced. */
uint64_t engine_guard_restarts(struct engine *guard);
/* The engine behind it, for tests; NULL while there is none. */
struct engine *engine_guard_inner(struct engine *guard);

#endif
