/* Guesses from a sequence's own text, and when they are worth running. */
#include "provider/engine/engine_draft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define LONG 40000

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static void what_followed_the_same_three_tokens_is_guessed(void **state)
{
	(void)state;
	const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3};
	int32_t guess[ENGINE_DRAFT_MOST];
	double chances[ENGINE_DRAFT_MOST];
	struct engine_draft draft;
	engine_draft_init(&draft);
	engine_draft_learn(&draft, tokens, 11, 11);
	assert_int_equal(engine_draft_guess(&draft, tokens, 11, 4, guess, chances), 0); /* only two are the same */
	engine_draft_learn(&draft, tokens, 12, 12);
	assert_int_equal(engine_draft_guess(&draft, tokens, 12, 4, guess, chances), 4);
	for (int32_t i = 0; i < 4; i++)
		assert_int_equal(guess[i], 4 + i);
	for (size_t i = 1; i < 4; i++)
		assert_true(chances[i] < chances[i - 1] && chances[i] > 0);
	engine_draft_free(&draft);
}

static void a_loop_is_guessed_past_the_end_of_the_text(void **state)
{
	(void)state;
	const int32_t tokens[] = {7, 8, 7, 8, 7, 8, 7};
	int32_t guess[ENGINE_DRAFT_MOST];
	double chances[ENGINE_DRAFT_MOST];
	struct engine_draft draft;
	engine_draft_init(&draft);
	engine_draft_learn(&draft, tokens, 7, 0);
	assert_int_equal(engine_draft_guess(&draft, tokens, 7, 100, guess, chances), ENGINE_DRAFT_MOST);
	for (size_t i = 0; i < ENGINE_DRAFT_MOST; i++)
		assert_int_equal(guess[i], i % 2 ? 7 : 8);
	engine_draft_free(&draft);
}

/* Every token is learnt as it comes; how much of the text its guesses would have been right about. */
static double share_guessed(const int32_t *tokens, size_t count, struct engine_draft *draft)
{
	int32_t guess[ENGINE_DRAFT_MOST];
	double chances[ENGINE_DRAFT_MOST];
	size_t right = 0;
	engine_draft_init(draft);
	for (size_t i = 1; i < count; i++) {
		engine_draft_learn(draft, tokens, i, 0);
		if (engine_draft_guess(draft, tokens, i, 1, guess, chances) && guess[0] == tokens[i])
			right++;
	}
	return (double)right / (double)count;
}

static void text_that_repeats_is_guessed_and_other_text_is_not(void **state)
{
	(void)state;
	struct engine_draft draft;
	int32_t *tokens = calloc(LONG, sizeof *tokens);
	uint32_t seed = 5;
	for (size_t i = 0; i < LONG; i++)
		tokens[i] = i < 2000 ? (int32_t)(next_random(&seed) % 50000) : tokens[i - 2000];
	assert_true(share_guessed(tokens, LONG, &draft) > 0.9);
	assert_true(draft.chance[ENGINE_DRAFT_RUNS - 1] > 0.95);
	assert_true(draft.places.len <= 65536);
	engine_draft_free(&draft);
	for (size_t i = 0; i < LONG; i++)
		tokens[i] = (int32_t)(next_random(&seed) % 50000);
	assert_true(share_guessed(tokens, LONG, &draft) < 0.01);
	engine_draft_free(&draft);
	/* Few words at random: three tokens were seen before all the time and say nothing about the fourth. */
	for (size_t i = 0; i < LONG; i++)
		tokens[i] = (int32_t)(next_random(&seed) % 12);
	share_guessed(tokens, LONG, &draft);
	assert_true(draft.chance[0] < 0.3);
	engine_draft_free(&draft);
	free(tokens);
}

static void a_prompt_says_nothing_about_how_good_guesses_at_the_answer_are(void **state)
{
	(void)state;
	int32_t tokens[200];
	struct engine_draft draft, fresh;
	for (int32_t i = 0; i < 200; i++)
		tokens[i] = i % 10;
	engine_draft_init(&fresh);
	engine_draft_init(&draft);
	engine_draft_learn(&draft, tokens, 200, 200);
	for (size_t i = 0; i < ENGINE_DRAFT_RUNS; i++)
		assert_true(draft.chance[i] >= fresh.chance[i] && draft.chance[i] <= fresh.chance[i]);
	engine_draft_free(&draft);
	engine_draft_free(&fresh);
}

/* --- costs --- */

static struct engine_draft_cost costs(double row_share)
{
	struct engine_draft_cost cost = {.steps = 0};
	for (size_t rows = 1; rows <= 20; rows++)
		engine_draft_observe(&cost, rows, (uint64_t)(10000 * (1 + row_share * (double)(rows - 1))));
	return cost;
}

static void as_many_guesses_are_run_as_their_chance_pays_for(void **state)
{
	(void)state;
	const double sure[] = {0.99, 0.98, 0.97, 0.96, 0.95, 0.94}, fading[] = {0.9, 0.7, 0.3, 0.1, 0.05, 0.01},
	             poor[] = {0.1, 0.01, 0, 0, 0, 0};
	struct engine_draft_cost cheap = costs(0.05), dear = costs(0.5), dearer = costs(1);
	assert_int_equal(engine_draft_worth(&cheap, 1, sure, 6, 100), 6);
	size_t some = engine_draft_worth(&cheap, 1, fading, 6, 100);
	assert_in_range(some, 2, 4);
	assert_int_equal(engine_draft_worth(&cheap, 1, poor, 6, 100), 0);
	assert_int_equal(engine_draft_worth(&dear, 1, sure, 6, 100), 6);
	assert_int_equal(engine_draft_worth(&dear, 1, poor, 6, 100), 0);
	assert_int_equal(engine_draft_worth(&dearer, 1, sure, 6, 100), 0);
	assert_int_equal(engine_draft_worth(&dearer, 1, fading, 6, 100), 0);
	/* Others that have no guesses are not held up for longer than they are told. */
	assert_int_equal(engine_draft_worth(&dear, 1, sure, 6, 1.1), 0);
	assert_int_equal(engine_draft_worth(&cheap, 1, sure, 6, 1.1), 2);
}

static void nothing_is_run_before_a_plain_step_was_measured(void **state)
{
	(void)state;
	const double sure[] = {1, 1, 1, 1};
	struct engine_draft_cost cost = {.steps = 0};
	assert_int_equal(engine_draft_worth(&cost, 1, sure, 4, 100), 0);
	engine_draft_observe(&cost, 1, 10000);
	assert_int_equal(engine_draft_worth(&cost, 1, sure, 4, 100), 4); /* what more rows cost has to be tried */
	engine_draft_observe(&cost, 5, 60000);
	assert_int_equal(engine_draft_worth(&cost, 1, sure, 4, 100), 0); /* it was tried */
	assert_int_equal(engine_draft_worth(&cost, 0, sure, 4, 100), 0);
}

static void a_cost_that_was_not_seen_for_long_is_tried_again(void **state)
{
	(void)state;
	const double sure[] = {1, 1, 1, 1};
	struct engine_draft_cost cost = {.steps = 0};
	engine_draft_observe(&cost, 1, 10000);
	engine_draft_observe(&cost, 5, 60000);
	size_t refused = 0;
	for (int i = 0; i < 5000; i++) {
		engine_draft_observe(&cost, 1, 10000);
		size_t worth = engine_draft_worth(&cost, 1, sure, 4, 100);
		if (!worth)
			refused++;
		else
			engine_draft_observe(&cost, 1 + worth, 60000);
	}
	assert_in_range(refused, 4900, 4998);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_followed_the_same_three_tokens_is_guessed),
	    cmocka_unit_test(a_loop_is_guessed_past_the_end_of_the_text),
	    cmocka_unit_test(text_that_repeats_is_guessed_and_other_text_is_not),
	    cmocka_unit_test(a_prompt_says_nothing_about_how_good_guesses_at_the_answer_are),
	    cmocka_unit_test(as_many_guesses_are_run_as_their_chance_pays_for),
	    cmocka_unit_test(nothing_is_run_before_a_plain_step_was_measured),
	    cmocka_unit_test(a_cost_that_was_not_seen_for_long_is_tried_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
