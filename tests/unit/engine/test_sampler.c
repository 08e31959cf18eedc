/* The sampler over made-up logits, with the vocabulary of SmolLM2. Draws are seeded: every run gives the same counts. */
#include <math.h>

#include "collect.h"

#include "provider/engine/chat_shim.h"
#include "provider/engine/engine_sampler.h"

#include <llama.h>

#define MODEL TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define DRAWS 4000

static struct llama_model *model;
static struct engine_sampler_model shared;
static float *logits;

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)level;
	(void)text;
	(void)user;
}

static int load_vocabulary(void **state)
{
	(void)state;
	chat_shim_init();
	llama_log_set(quiet, NULL);
	struct llama_model_params params = llama_model_default_params();
	params.vocab_only = true;
	model = llama_model_load_from_file(MODEL, params);
	if (!model || engine_sampler_model_init(&shared, llama_model_get_vocab(model)))
		return 1;
	logits = calloc((size_t)shared.tokens, sizeof *logits);
	return logits ? 0 : 1;
}

static int free_vocabulary(void **state)
{
	(void)state;
	free(logits);
	engine_sampler_model_free(&shared);
	llama_model_free(model);
	return 0;
}

/* Tokens 1000, 1001, 1002 with probabilities 0.5, 0.3, 0.2 and nothing else. */
static void set_logits(void)
{
	for (int32_t i = 0; i < shared.tokens; i++)
		logits[i] = -1000;
	logits[1000] = logf(0.5f);
	logits[1001] = logf(0.3f);
	logits[1002] = logf(0.2f);
}

static struct engine_sampler *sampler_of(const struct chat_sampling *sampling)
{
	struct engine_sampler *sampler;
	struct error error;
	assert_int_equal(engine_sampler_new(&shared, sampling, NULL, &sampler, &error), DB_OK);
	return sampler;
}

static void expect_shares(struct chat_sampling sampling, double first, double second, double third)
{
	sampling.has_temperature = sampling.has_seed = true;
	sampling.seed = 42;
	struct engine_sampler *sampler = sampler_of(&sampling);
	double counts[3] = {0};
	for (int i = 0; i < DRAWS; i++) {
		set_logits();
		int32_t token = engine_sampler_next(sampler, logits, NULL);
		assert_in_range(token, 1000, 1002);
		counts[token - 1000] += 1;
	}
	engine_sampler_free(sampler);
	double expected[3] = {first, second, third};
	for (int i = 0; i < 3; i++)
		if (fabs(counts[i] / DRAWS - expected[i]) > 0.03)
			fail_msg("token %d has a share of %.3f, not %.3f", i, counts[i] / DRAWS, expected[i]);
}

static void tokens_are_drawn_by_their_probability(void **state)
{
	(void)state;
	expect_shares((struct chat_sampling){.temperature = 1}, 0.5, 0.3, 0.2);
}

static void a_stop_token_ends_the_answer_but_not_before_it_may(void **state)
{
	(void)state;
	struct chat_sampling sampling = {.stop_tokens = {1000}, .stop_token_count = 1, .min_tokens = 2, .ignore_eos = true};
	struct engine_sampler *sampler = sampler_of(&sampling);
	static const int32_t expected[] = {1001, 1001, 1000};
	for (int i = 0; i < 3; i++) {
		set_logits();
		assert_int_equal(engine_sampler_next(sampler, logits, NULL), expected[i]);
	}
	assert_true(engine_sampler_stops_at(sampler, 1000));
	assert_false(engine_sampler_stops_at(sampler, 1001));
	engine_sampler_free(sampler);
	sampling.stop_tokens[0] = shared.tokens;
	struct error error;
	assert_int_equal(engine_sampler_new(&shared, &sampling, NULL, &sampler, &error), DB_E_RANGE);
	assert_non_null(strstr(error.text, "stop_token_ids"));
}

static void temperature_sharpens_and_flattens(void **state)
{
	(void)state;
	expect_shares((struct chat_sampling){.temperature = 0.5}, 0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38);
	double a = sqrt(0.5), b = sqrt(0.3), c = sqrt(0.2), sum = a + b + c;
	expect_shares((struct chat_sampling){.temperature = 2}, a / sum, b / sum, c / sum);
}

static void truncation_keeps_the_likeliest(void **state)
{
	(void)state;
	expect_shares((struct chat_sampling){.temperature = 1, .has_top_k = true, .top_k = 2}, 0.625, 0.375, 0);
	expect_shares((struct chat_sampling){.temperature = 1, .has_top_p = true, .top_p = 0.6}, 0.625, 0.375, 0);
	expect_shares((struct chat_sampling){.temperature = 1, .has_min_p = true, .min_p = 0.5}, 0.625, 0.375, 0);
	expect_shares((struct chat_sampling){.temperature = 1, .has_top_k = true, .top_k = 0}, 0.5, 0.3, 0.2); /* 0 = off */
}

static void typical_p_keeps_what_is_near_the_expected_surprise(void **state)
{
	(void)state;
	/* the entropy is 1.03; the surprises are 0.69, 1.20 and 1.61: the second is the most typical */
	expect_shares((struct chat_sampling){.temperature = 1, .has_typical_p = true, .typical_p = 0.2}, 0, 1, 0);
}

static void penalties_count_the_answer_and_repetition_also_the_prompt(void **state)
{
	(void)state;
	struct chat_sampling sampling = {.has_presence_penalty = true, .presence_penalty = 2};
	struct engine_sampler *sampler = sampler_of(&sampling);
	const int32_t prompt[] = {1000};
	engine_sampler_prompt(sampler, prompt, 1);
	static const int32_t order[] = {1000, 1001, 1002, 1000}; /* each is put behind those not yet said */
	for (size_t i = 0; i < 4; i++) {
		set_logits();
		assert_int_equal(engine_sampler_next(sampler, logits, NULL), order[i]);
	}
	engine_sampler_free(sampler);

	sampling = (struct chat_sampling){.has_repetition_penalty = true, .repetition_penalty = 10};
	sampler = sampler_of(&sampling);
	engine_sampler_prompt(sampler, prompt, 1);
	set_logits();
	assert_int_equal(engine_sampler_next(sampler, logits, NULL), 1001);
	engine_sampler_free(sampler);
}

static void log_probabilities_are_those_of_the_model(void **state)
{
	(void)state;
	struct chat_logit_bias bias = {1002, 100};
	struct chat_sampling sampling = {.biases = &bias, .bias_count = 1, .logprobs = true, .top_logprobs = 2};
	struct engine_sampler *sampler = sampler_of(&sampling);
	struct engine_logprobs logprobs;
	set_logits();
	assert_int_equal(engine_sampler_next(sampler, logits, &logprobs), 1002);
	assert_true(fabs(logprobs.chosen - log(0.2)) < 1e-4);
	assert_int_equal(logprobs.top_count, 2);
	assert_int_equal(logprobs.top[0].token, 1000);
	assert_int_equal(logprobs.top[1].token, 1001);
	assert_true(fabs(logprobs.top[0].logprob - log(0.5)) < 1e-4);
	engine_sampler_free(sampler);
}

static void logits_that_are_no_numbers_give_no_token(void **state)
{
	(void)state;
	struct chat_sampling sampling = {.has_temperature = true, .temperature = 1};
	struct engine_sampler *sampler = sampler_of(&sampling);
	for (int32_t i = 0; i < shared.tokens; i++)
		logits[i] = NAN;
	assert_int_equal(engine_sampler_next(sampler, logits, NULL), -1);
	engine_sampler_free(sampler);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tokens_are_drawn_by_their_probability),
	    cmocka_unit_test(a_stop_token_ends_the_answer_but_not_before_it_may),
	    cmocka_unit_test(temperature_sharpens_and_flattens),
	    cmocka_unit_test(truncation_keeps_the_likeliest),
	    cmocka_unit_test(typical_p_keeps_what_is_near_the_expected_surprise),
	    cmocka_unit_test(penalties_count_the_answer_and_repetition_also_the_prompt),
	    cmocka_unit_test(log_probabilities_are_those_of_the_model),
	    cmocka_unit_test(logits_that_are_no_numbers_give_no_token),
	};
	return cmocka_run_group_tests(tests, load_vocabulary, free_vocabulary);
}
