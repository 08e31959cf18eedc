/* One sequence's choice of the next token (inference 4). Everything is honoured: bias, minimum length, penalties and grammar on
 * the logits; then top_k, typical_p, top_p, min_p and temperature in llama.cpp's own order; then a draw with the sequence's own
 * seed. Defaults are greedy decoding without penalties. Frequency and presence penalties count generated tokens, repetition
 * penalty also those of the prompt. State is wiped. Thread: one at a time. */
#ifndef PROVIDER_ENGINE_SAMPLER_H
#define PROVIDER_ENGINE_SAMPLER_H

#include "api/chat_request.h"
#include "core/error.h"

struct llama_vocab;
struct chat_grammar;
struct engine_sampler;

#define ENGINE_TOP_LOGPROBS_MAX 20

/* Log probabilities of one step, from the model's logits before anything was applied to them. */
struct engine_logprob {
	int32_t token;
	double logprob;
};
struct engine_logprobs {
	double chosen;
	struct engine_logprob top[ENGINE_TOP_LOGPROBS_MAX]; /* most likely first */
	size_t top_count;
};

/* What all samplers of a model share. */
struct engine_sampler_model {
	const struct llama_vocab *vocab;
	int32_t tokens; /* size of the vocabulary */
	int32_t *end;   /* tokens that end a generation */
	size_t end_count;
	float *raw;       /* `tokens` floats of scratch */
	void *candidates; /* `tokens` llama_token_data of scratch */
};
enum db_err engine_sampler_model_init(struct engine_sampler_model *model, const struct llama_vocab *vocab);
void engine_sampler_model_free(struct engine_sampler_model *model);

/* `grammar` (may be NULL) is borrowed. DB_E_RANGE for a biased token or a stop token that is not in the vocabulary. */
enum db_err engine_sampler_new(const struct engine_sampler_model *model, const struct chat_sampling *sampling,
                               struct chat_grammar *grammar, struct engine_sampler **out, struct error *error);
void engine_sampler_free(struct engine_sampler *sampler);

/* The request named this token as one that ends its answer. It cannot come before min_tokens. */
bool engine_sampler_stops_at(const struct engine_sampler *sampler, int32_t token);

/* Tells the sampler about tokens of the prompt, for the repetition penalty. */
void engine_sampler_prompt(struct engine_sampler *sampler, const int32_t *tokens, size_t count);
/* Chooses and takes the next token from `logits`, which are changed. -1 when no token is possible: the logits are not numbers
 * or the grammar has nowhere to go. `logprobs` may be NULL. */
int32_t engine_sampler_next(struct engine_sampler *sampler, float *logits, struct engine_logprobs *logprobs);
/* Takes a token that was chosen elsewhere, as if it had been chosen here: the next draw is the one that follows it. False for
 * one that the vocabulary or the grammar does not have. */
bool engine_sampler_accept(struct engine_sampler *sampler, int32_t token);

#endif
