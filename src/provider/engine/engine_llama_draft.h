/* Guesses of a draft model: a smaller one with the same vocabulary, named by the manifest, says greedily what the answer may go
 * on with. The guesses are run and judged like those of engine_draft.h, so no answer changes. It has its own context, with a
 * sequence for each of the engine's; what it has read of an answer it keeps from step to step.
 *
 * Whether it pays is tried (engine_trial.h): steps with it against steps without, its own time included. Thread: the engine's.
 */
#ifndef PROVIDER_ENGINE_LLAMA_DRAFT_H
#define PROVIDER_ENGINE_LLAMA_DRAFT_H

#include "core/error.h"
#include "provider/engine/engine_draft.h"
#include "provider/engine/kv_cost.h"

#include <stdbool.h>
#include <stdint.h>

#define LLAMA_DRAFT_MOST  6    /* tokens guessed for one answer in one step */
#define LLAMA_DRAFT_LEAST 0.35 /* a guess that is less likely than this is the last */

struct llama_engine;
struct llama_call;
struct llama_draft;

/* `path`: a GGUF file. DB_E_UNSUPPORTED when its vocabulary is another, or its state cannot be taken back. Needs the engine's
 * model, threads and limits; adds what its sequences cost to engine->cost. */
enum db_err llama_draft_open(struct llama_engine *engine, const char *path, struct error *error);
uint64_t llama_draft_memory_bytes(const struct llama_engine *engine); /* 0 without one */
void llama_draft_close(struct llama_engine *engine);                  /* NULL in engine->draft_model allowed */

/* Is the next step of so many answers to be run with guesses of the draft model? */
bool llama_draft_wanted(const struct llama_engine *engine, size_t answers);

struct llama_draft_ask {
	struct llama_call *call;
	size_t most; /* 0: nothing is asked for this answer */
	int32_t tokens[ENGINE_DRAFT_MOST];
	double chances[ENGINE_DRAFT_MOST];
	size_t count;
};
/* Fills in tokens, chances and count of each. Answers whose text the model has yet to read get none until it has. */
void llama_draft_guess(struct llama_engine *engine, struct llama_draft_ask *asks, size_t count);

/* A step that ran no prompts is over. */
void llama_draft_saw(struct llama_engine *engine, size_t answers, bool asked, size_t tokens, uint64_t us);

#endif
