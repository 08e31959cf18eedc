/* Where the prefix cache meets the scheduler. Every function runs on the engine thread but llama_cache_open and
 * llama_cache_close, which run while it does not. The scheduler promises:
 *
 *   queued -> (ready?) -> restore -> { boundary, captured }* -> leave -> forget
 *
 * `queued` and `forget` come exactly once for each call that reaches the engine thread; `restore` and `leave` once for each
 * time that the call runs: a call that lost its place is run again. Nothing here may block on a disk. */
#ifndef PROVIDER_ENGINE_LLAMA_CACHE_H
#define PROVIDER_ENGINE_LLAMA_CACHE_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct llama_engine;
struct llama_call;
struct engine_llama_options;

/* After the model and its context were made, before the threads run; sets engine->cache or leaves it NULL. */
enum db_err llama_cache_open(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error);
/* After the threads ended, before the context is freed. */
void llama_cache_close(struct llama_engine *engine);

/* The call waits, its tokens are known: a look-up may begin, and a slow tier may start to read. */
void llama_cache_queued(struct llama_engine *engine, struct llama_call *call);
/* False while something is read for the call that is worth waiting for. Whoever finishes reading calls llama_engine_poke. */
bool llama_cache_ready(struct llama_engine *engine, const struct llama_call *call);
/* The call was admitted: call->seq is its empty sequence. May fill it with the first n tokens and set call->in_cache to n, and
 * call->restored too where they are tokens of the prompt; n is less than the call's tokens. */
void llama_cache_restore(struct llama_engine *engine, struct llama_call *call);
/* The count of tokens, above call->in_cache, at which a chunk of this prompt has to end; SIZE_MAX: none. */
size_t llama_cache_boundary(struct llama_engine *engine, const struct llama_call *call);
/* A chunk of at most `count` tokens that ends before the prompt does: it ends on the cache's grid where it can, so that
 * attention is rounded the same wherever the computing began. */
size_t llama_cache_chunk(const struct llama_call *call, size_t count);
/* The sequence holds exactly the tokens up to the boundary that was asked for, and nothing was sampled from it since. */
void llama_cache_captured(struct llama_engine *engine, struct llama_call *call);
size_t llama_cache_names(const struct llama_engine *engine, uint64_t *out, size_t max); /* engine_prefixes; any thread */
/* call->seq holds call->in_cache tokens and is emptied right after this. */
void llama_cache_leave(struct llama_engine *engine, struct llama_call *call);
/* The call has ended; its tokens are still readable. Lets go of everything that was kept for it. */
void llama_cache_forget(struct llama_engine *engine, struct llama_call *call);

#endif
