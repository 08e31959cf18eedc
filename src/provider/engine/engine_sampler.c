#include "provider/engine/engine_sampler.h"

#include "core/buf.h"
#include "core/id.h"
#include "provider/engine/chat_shim.h"

#include <llama.h>
#include <math.h>
#include <stdlib.h>

/* Candidates this far below the best one (at temperature 1) are not looked at: all of a 200,000 word vocabulary together would
 * have a probability below 1e-5. */
#define NEGLIGIBLE_LOGIT_GAP 24.0f

struct engine_sampler {
	const struct engine_sampler_model *model;
	struct chat_grammar *grammar;
	struct llama_sampler *chain; /* NULL: greedy */
	uint64_t seed;
	uint32_t draws; /* of the token that is chosen now */
	float reach;    /* logits below best - reach are not candidates */
	bool ignore_end;
	int64_t min_tokens, generated;
	struct buf biases; /* struct chat_logit_bias */
	int32_t stop_tokens[CHAT_MAX_STOP_TOKENS];
	size_t stop_token_count;
	bool penalties;
	float repetition, frequency, presence;
	struct buf seen;     /* uint8_t[vocabulary]: bit 0 listed in `distinct` */
	struct buf counts;   /* uint32_t[vocabulary]: times generated */
	struct buf distinct; /* int32_t: every token of prompt and answer once */
	size_t top_logprobs;
};

enum db_err engine_sampler_model_init(struct engine_sampler_model *model, const struct llama_vocab *vocab)
{
	*model = (struct engine_sampler_model){.vocab = vocab, .tokens = llama_vocab_n_tokens(vocab)};
	size_t tokens = (size_t)model->tokens;
	for (int32_t id = 0; id < model->tokens; id++)
		model->end_count += llama_vocab_is_eog(vocab, id) ? 1 : 0;
	model->end = calloc(model->end_count + 1, sizeof *model->end);
	model->raw = calloc(tokens, sizeof *model->raw);
	model->candidates = calloc(tokens, sizeof(llama_token_data));
	if (!model->end || !model->raw || !model->candidates) {
		engine_sampler_model_free(model);
		return DB_E_NOMEM;
	}
	size_t at = 0;
	for (int32_t id = 0; id < model->tokens; id++)
		if (llama_vocab_is_eog(vocab, id))
			model->end[at++] = id;
	return DB_OK;
}

void engine_sampler_model_free(struct engine_sampler_model *model)
{
	free(model->end);
	free(model->raw);
	free(model->candidates);
	*model = (struct engine_sampler_model){0};
}

static uint64_t seed_of(const struct chat_sampling *sampling)
{
	uint64_t seed = sampling->seed;
	if (!sampling->has_seed)
		id_random(&seed, sizeof seed);
	return seed;
}

/* SplitMix64's mixer. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* In [0, 1). It depends on the seed, the token's place in the answer and how often that place was drawn for, and on nothing
 * that was drawn before: an answer that is continued elsewhere draws as it would have here. */
static double draw(struct engine_sampler *sampler)
{
	uint64_t place = mix(sampler->seed) ^ (uint64_t)sampler->generated;
	return (double)(mix(mix(place) + sampler->draws++) >> 11) * 0x1p-53;
}

static struct llama_sampler *make_chain(const struct chat_sampling *s, double temperature)
{
	struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
	if (s->has_top_k && s->top_k > 0)
		llama_sampler_chain_add(chain, llama_sampler_init_top_k(s->top_k));
	if (s->has_typical_p && s->typical_p < 1)
		llama_sampler_chain_add(chain, llama_sampler_init_typical((float)s->typical_p, 1));
	if (s->has_top_p && s->top_p < 1)
		llama_sampler_chain_add(chain, llama_sampler_init_top_p((float)s->top_p, 1));
	if (s->has_min_p && s->min_p > 0)
		llama_sampler_chain_add(chain, llama_sampler_init_min_p((float)s->min_p, 1));
	if (temperature < 1 || temperature > 1)
		llama_sampler_chain_add(chain, llama_sampler_init_temp((float)temperature));
	return chain;
}

static enum db_err copy_biases(struct engine_sampler *sampler, const struct chat_sampling *sampling, struct error *error)
{
	buf_init(&sampler->biases, CHAT_MAX_BIASES * sizeof(struct chat_logit_bias));
	for (size_t i = 0; i < sampling->bias_count; i++) {
		if (sampling->biases[i].token < 0 || sampling->biases[i].token >= sampler->model->tokens)
			return error_set(error, DB_E_RANGE, "logit_bias names token %d, but the model's tokens go from 0 to %d",
			                 sampling->biases[i].token, sampler->model->tokens - 1);
	}
	if (!sampling->bias_count)
		return DB_OK;
	return buf_append(&sampler->biases, sampling->biases, sampling->bias_count * sizeof *sampling->biases);
}

static enum db_err copy_stop_tokens(struct engine_sampler *sampler, const struct chat_sampling *sampling, struct error *error)
{
	for (size_t i = 0; i < sampling->stop_token_count; i++) {
		int32_t token = sampling->stop_tokens[i];
		if (token >= sampler->model->tokens)
			return error_set(error, DB_E_RANGE, "stop_token_ids names token %d, but the model's tokens go from 0 to %d", token,
			                 sampler->model->tokens - 1);
		sampler->stop_tokens[sampler->stop_token_count++] = token;
	}
	return DB_OK;
}

bool engine_sampler_stops_at(const struct engine_sampler *sampler, int32_t token)
{
	for (size_t i = 0; i < sampler->stop_token_count; i++)
		if (sampler->stop_tokens[i] == token)
			return true;
	return false;
}

static enum db_err zeroed(struct buf *buf, size_t bytes)
{
	buf_init(buf, bytes);
	enum db_err err = buf_reserve(buf, bytes);
	if (err)
		return err;
	memset(buf->at, 0, bytes);
	buf->len = bytes;
	return DB_OK;
}

static enum db_err prepare_penalties(struct engine_sampler *sampler, const struct chat_sampling *s)
{
	size_t tokens = (size_t)sampler->model->tokens;
	sampler->repetition = s->has_repetition_penalty ? (float)s->repetition_penalty : 1.0f;
	sampler->frequency = s->has_frequency_penalty ? (float)s->frequency_penalty : 0.0f;
	sampler->presence = s->has_presence_penalty ? (float)s->presence_penalty : 0.0f;
	sampler->penalties = (s->has_repetition_penalty && (s->repetition_penalty < 1 || s->repetition_penalty > 1)) ||
	                     (s->has_frequency_penalty && (s->frequency_penalty < 0 || s->frequency_penalty > 0)) ||
	                     (s->has_presence_penalty && (s->presence_penalty < 0 || s->presence_penalty > 0));
	if (!sampler->penalties)
		return DB_OK;
	buf_init(&sampler->distinct, tokens * sizeof(int32_t));
	enum db_err err = zeroed(&sampler->seen, tokens);
	return err ? err : zeroed(&sampler->counts, tokens * sizeof(uint32_t));
}

enum db_err engine_sampler_new(const struct engine_sampler_model *model, const struct chat_sampling *sampling,
                               struct chat_grammar *grammar, struct engine_sampler **out, struct error *error)
{
	*out = NULL;
	struct engine_sampler *sampler = calloc(1, sizeof *sampler);
	if (!sampler)
		return error_set(error, DB_E_NOMEM, "out of memory");
	sampler->model = model;
	sampler->grammar = grammar;
	sampler->ignore_end = sampling->ignore_eos;
	sampler->min_tokens = sampling->min_tokens;
	sampler->top_logprobs = sampling->top_logprobs > 0 ? (size_t)sampling->top_logprobs : 0;
	if (sampler->top_logprobs > ENGINE_TOP_LOGPROBS_MAX)
		sampler->top_logprobs = ENGINE_TOP_LOGPROBS_MAX;
	double temperature = sampling->has_temperature ? sampling->temperature : 0;
	if (temperature > 0)
		sampler->chain = make_chain(sampling, temperature);
	sampler->seed = seed_of(sampling);
	sampler->reach = NEGLIGIBLE_LOGIT_GAP * (temperature > 1 ? (float)temperature : 1.0f);
	enum db_err err = copy_biases(sampler, sampling, error);
	if (!err)
		err = copy_stop_tokens(sampler, sampling, error);
	if (!err && prepare_penalties(sampler, sampling))
		err = error_set(error, DB_E_NOMEM, "out of memory");
	if (err) {
		engine_sampler_free(sampler);
		return err;
	}
	*out = sampler;
	return DB_OK;
}

void engine_sampler_free(struct engine_sampler *sampler)
{
	if (!sampler)
		return;
	llama_sampler_free(sampler->chain);
	buf_free(&sampler->biases);
	buf_free(&sampler->seen);
	buf_free(&sampler->counts);
	buf_free(&sampler->distinct);
	free(sampler);
}

/* --- history --- */

static void list_token(struct engine_sampler *sampler, int32_t token)
{
	if (token < 0 || token >= sampler->model->tokens || sampler->seen.at[token])
		return;
	sampler->seen.at[token] = 1;
	buf_append(&sampler->distinct, &token, sizeof token); /* cannot fail for lack of room: at most once per token */
}

void engine_sampler_prompt(struct engine_sampler *sampler, const int32_t *tokens, size_t count)
{
	if (!sampler->penalties)
		return;
	for (size_t i = 0; i < count; i++)
		list_token(sampler, tokens[i]);
}

static bool take(struct engine_sampler *sampler, int32_t token)
{
	sampler->generated++;
	sampler->draws = 0;
	if (sampler->penalties) {
		list_token(sampler, token);
		((uint32_t *)(void *)sampler->counts.at)[token]++;
	}
	return !sampler->grammar || chat_grammar_accept(sampler->grammar, token);
}

bool engine_sampler_accept(struct engine_sampler *sampler, int32_t token)
{
	return token >= 0 && token < sampler->model->tokens && take(sampler, token);
}

/* --- logits --- */

static void apply_biases(const struct engine_sampler *sampler, float *logits)
{
	const struct chat_logit_bias *biases = (const void *)sampler->biases.at;
	for (size_t i = 0; i < sampler->biases.len / sizeof *biases; i++)
		logits[biases[i].token] += biases[i].bias;
	int32_t suppressed = 0;
	const llama_token *suppress = llama_vocab_get_suppress_tokens(sampler->model->vocab, &suppressed);
	for (int32_t i = 0; i < suppressed; i++)
		logits[suppress[i]] = -INFINITY;
}

static void apply_penalties(const struct engine_sampler *sampler, float *logits)
{
	const int32_t *distinct = (const void *)sampler->distinct.at;
	const uint32_t *counts = (const void *)sampler->counts.at;
	for (size_t i = 0; i < sampler->distinct.len / sizeof *distinct; i++) {
		int32_t token = distinct[i];
		float *logit = &logits[token];
		*logit = *logit <= 0 ? *logit * sampler->repetition : *logit / sampler->repetition;
		if (counts[token])
			*logit -= (float)counts[token] * sampler->frequency + sampler->presence;
	}
}

static void forbid_end(const struct engine_sampler *sampler, float *logits)
{
	bool too_early = sampler->generated < sampler->min_tokens;
	for (size_t i = 0; too_early && i < sampler->stop_token_count; i++)
		logits[sampler->stop_tokens[i]] = -INFINITY;
	if (!sampler->ignore_end && !too_early)
		return;
	for (size_t i = 0; i < sampler->model->end_count; i++)
		logits[sampler->model->end[i]] = -INFINITY;
}

#define LANES 16
#define BLOCK 1024 /* of logits, a multiple of LANES: it is still in the nearest cache when it is searched */

/* Independent lanes of nothing but maxima, which compilers turn into vectors. What is not a number is not larger. */
static float largest(const float *logits, int32_t count)
{
	float lanes[LANES];
	int32_t i = 0;
	for (int lane = 0; lane < LANES; lane++)
		lanes[lane] = -INFINITY;
	for (; i + LANES <= count; i += LANES)
		for (int lane = 0; lane < LANES; lane++)
			lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
	for (; i < count; i++)
		lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
	for (int lane = 1; lane < LANES; lane++)
		lanes[0] = lanes[lane] > lanes[0] ? lanes[lane] : lanes[0];
	return lanes[0];
}

/* The first of the largest; -1: none is above -infinity. */
static int32_t best_logit(const float *logits, int32_t count)
{
	float best = -INFINITY;
	int32_t block = -1;
	for (int32_t from = 0; from < count; from += BLOCK) {
		float most = largest(logits + from, count - from < BLOCK ? count - from : BLOCK);
		if (most > best) {
			best = most;
			block = from;
		}
	}
	if (block < 0)
		return -1;
	while (logits[block] < best || logits[block] > best || isnan(logits[block]))
		block++;
	return block;
}

/* --- choice --- */

static llama_token_data_array gather(const struct engine_sampler *sampler, const float *logits, float least)
{
	llama_token_data *out = sampler->model->candidates;
	size_t count = 0;
	for (int32_t id = 0; id < sampler->model->tokens; id++)
		if (logits[id] >= least && logits[id] > -INFINITY)
			out[count++] = (llama_token_data){id, logits[id], 0.0f};
	return (llama_token_data_array){out, count, -1, false};
}

static int32_t draw_from(struct engine_sampler *sampler, llama_token_data_array *candidates)
{
	llama_token_data *data = candidates->data;
	float most = -INFINITY;
	double sum = 0, reached = 0;
	for (size_t i = 0; i < candidates->size; i++)
		most = data[i].logit > most ? data[i].logit : most;
	for (size_t i = 0; i < candidates->size; i++) {
		data[i].p = expf(data[i].logit - most);
		sum += (double)data[i].p;
	}
	double wanted = draw(sampler) * sum;
	int32_t last = -1;
	for (size_t i = 0; i < candidates->size; i++) {
		if (!(data[i].p > 0))
			continue;
		last = data[i].id;
		reached += (double)data[i].p;
		if (reached > wanted)
			break;
	}
	return last;
}

static int32_t choose(struct engine_sampler *sampler, llama_token_data_array *candidates)
{
	size_t count = 0;
	for (size_t i = 0; i < candidates->size; i++)
		if (candidates->data[i].logit > -INFINITY)
			candidates->data[count++] = candidates->data[i];
	candidates->size = count;
	if (!count)
		return -1;
	if (sampler->chain) {
		llama_sampler_apply(sampler->chain, candidates);
		return draw_from(sampler, candidates);
	}
	size_t best = 0;
	for (size_t i = 1; i < count; i++)
		if (candidates->data[i].logit > candidates->data[best].logit)
			best = i;
	return candidates->data[best].id;
}

static bool fits(const struct engine_sampler *sampler, int32_t token)
{
	llama_token_data one = {token, 1.0f, 0.0f};
	llama_token_data_array alone = {&one, 1, -1, false};
	chat_grammar_apply(sampler->grammar, &alone);
	return one.logit > -INFINITY;
}

/* A grammar is dear to apply, so it first judges only the token that would be chosen without it, then only the likely ones. */
static int32_t choose_within_grammar(struct engine_sampler *sampler, const float *logits, float least, int32_t wish)
{
	if (wish >= 0 && fits(sampler, wish))
		return wish;
	for (int attempt = 0; attempt < 2; attempt++) {
		llama_token_data_array candidates = gather(sampler, logits, attempt ? -INFINITY : least);
		chat_grammar_apply(sampler->grammar, &candidates);
		int32_t token = choose(sampler, &candidates);
		if (token >= 0)
			return token;
	}
	return -1;
}

static int32_t pick(struct engine_sampler *sampler, const float *logits)
{
	int32_t best = best_logit(logits, sampler->model->tokens);
	if (best < 0)
		return -1;
	int32_t token = best;
	float least = logits[best] - sampler->reach;
	if (sampler->chain) {
		llama_token_data_array candidates = gather(sampler, logits, least);
		token = choose(sampler, &candidates);
	}
	return sampler->grammar ? choose_within_grammar(sampler, logits, least, token) : token;
}

/* --- log probabilities --- */

static double log_sum_exp(const float *logits, int32_t count, float max)
{
	double sum = 0;
	for (int32_t i = 0; i < count; i++)
		sum += (double)expf(logits[i] - max);
	return (double)max + log(sum);
}

static void top_logprobs(const struct engine_sampler *sampler, double total, struct engine_logprobs *out)
{
	const float *raw = sampler->model->raw;
	size_t want = sampler->top_logprobs;
	for (int32_t id = 0; want && id < sampler->model->tokens; id++) {
		double logprob = (double)raw[id] - total;
		if (out->top_count == want && logprob <= out->top[want - 1].logprob)
			continue;
		size_t at = out->top_count < want ? out->top_count++ : want - 1;
		for (; at && out->top[at - 1].logprob < logprob; at--)
			out->top[at] = out->top[at - 1];
		out->top[at] = (struct engine_logprob){id, logprob};
	}
}

int32_t engine_sampler_next(struct engine_sampler *sampler, float *logits, struct engine_logprobs *logprobs)
{
	const struct engine_sampler_model *model = sampler->model;
	if (logprobs)
		memcpy(model->raw, logits, (size_t)model->tokens * sizeof *logits);
	apply_biases(sampler, logits);
	if (sampler->penalties)
		apply_penalties(sampler, logits);
	forbid_end(sampler, logits);
	int32_t token = pick(sampler, logits);
	if (token < 0)
		return -1;
	if (logprobs) {
		int32_t best = best_logit(model->raw, model->tokens);
		double total = log_sum_exp(model->raw, model->tokens, model->raw[best < 0 ? token : best]);
		*logprobs = (struct engine_logprobs){.chosen = (double)model->raw[token] - total};
		top_logprobs(sampler, total, logprobs);
	}
	return take(sampler, token) ? token : -1;
}
