/* How much of a prompt a step takes in, and how many answers run at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provider/engine/engine_pace.h"

/* As the engine does it: a machine where an answer costs so much alone, and a token of a prompt so much more. */
static void run_step(struct engine_pace *pace, size_t answers, size_t prompts, uint64_t alone_us, uint64_t token_us)
{
	size_t chunk = engine_pace_chunk(pace, answers, prompts, 512);
	engine_pace_observe(pace, answers, chunk, alone_us + token_us * chunk);
}

static size_t chunk_of(struct engine_pace *pace, size_t answers, size_t prompts)
{
	pace->mixed = 0;
	return engine_pace_chunk(pace, answers, prompts, 512);
}

/* Now and then another program has the machine, for many times as long as a step. */
static void a_busy_machine_does_not_starve_a_prompt(void **state)
{
	(void)state;
	struct engine_pace pace = {0};
	for (int i = 0; i < 30; i++)
		engine_pace_observe(&pace, 7, 0, 40000);
	for (int i = 0; i < 30; i++)
		run_step(&pace, 7, 1, 40000, 4000);
	for (int i = 0; i < 2000; i++)
		run_step(&pace, 7, 1, i % 10 == 5 ? 400000 : 40000, 4000);
	assert_in_range(chunk_of(&pace, 7, 1), 5, 24);
}

static void answers_that_grow_do_not_starve_a_prompt(void **state)
{
	(void)state;
	struct engine_pace pace = {0};
	for (int i = 0; i < 30; i++)
		engine_pace_observe(&pace, 7, 0, 40000);
	for (uint64_t i = 0; i < 2000; i++)
		run_step(&pace, 7, 1, 40000 + 40 * i, 4000);
	assert_in_range(chunk_of(&pace, 7, 1), 20, 25); /* 120 ms alone: 0.8 * 120 / 4 */
}

static void a_prompt_alone_is_run_in_whole_steps(void **state)
{
	(void)state;
	struct engine_pace pace = {0};
	assert_int_equal(engine_pace_chunk(&pace, 0, 1, 512), 512);
}

static void chunks_stretch_a_step_no_further_than_promised(void **state)
{
	(void)state;
	struct engine_pace pace = {0};
	assert_true(engine_pace_chunk(&pace, 7, 1, 512) < 64); /* nothing is known: careful */
	for (int i = 0; i < 30; i++)
		engine_pace_observe(&pace, 7, 0, 60000);
	for (int i = 0; i < 60; i++)
		run_step(&pace, 7, 1, 60000, 4000);
	assert_int_equal(chunk_of(&pace, 7, 1), 12);
	for (int i = 0; i < 60; i++) /* deeper in the prompt a token costs more */
		run_step(&pace, 7, 1, 60000, 6000);
	size_t deep = chunk_of(&pace, 7, 1);
	assert_in_range(deep, 7, 8);
	for (int i = 0; i < 200; i++)
		engine_pace_observe(&pace, 7, 8, 60000 + 100000 * 8);
	assert_int_equal(chunk_of(&pace, 7, 1), ENGINE_PACE_LEAST); /* it always gets on */
	assert_true(engine_pace_chunk(&pace, 12, 1, 4) <= 4);
}

static void answers_give_way_to_a_burst_of_prompts(void **state)
{
	(void)state;
	struct engine_pace pace = {0};
	for (int i = 0; i < 30; i++)
		engine_pace_observe(&pace, 2, 0, 20000);
	for (int i = 0; i < 60; i++)
		engine_pace_observe(&pace, 2, 20, 20000 + 1000 * 20);
	size_t alone = chunk_of(&pace, 2, 1);
	assert_in_range(alone, 15, 17);
	assert_in_range(chunk_of(&pace, 2, 4), 4 * alone - 4, 4 * alone + 4);
	assert_in_range(chunk_of(&pace, 2, 62), 245, 255); /* and no further than is borne with */
	for (int i = 0; i < 60; i++)                       /* steps that take longer than that are not cut down */
		engine_pace_observe(&pace, 32, 0, 400000);
	assert_in_range(chunk_of(&pace, 32, 20), 310, 330);
}

/* While a burst comes in no step has answers alone: what they cost must not be laid to the prompts' charge. */
static void a_burst_is_run_although_no_batch_of_its_size_was_seen(void **state)
{
	(void)state;
	struct engine_pace pace = {0};
	for (int i = 0; i < 30; i++)
		engine_pace_observe(&pace, 1, 0, 10000);
	engine_pace_observe(&pace, 0, 40, 10000 + 39 * 5000);
	size_t left = 31 * 40, done = 0, steps = 0;
	for (; left; steps++) {
		size_t answers = 1 + done / 40;
		size_t chunk = engine_pace_chunk(&pace, answers, (left + 39) / 40, 512);
		chunk = chunk < left ? chunk : left;
		engine_pace_observe(&pace, answers, chunk, 10000 + (answers - 1 + chunk) * 5000);
		left -= chunk;
		done += chunk;
	}
	assert_in_range(steps, 20, 60);
	assert_true(pace.prompt_token_us > 4500 && pace.prompt_token_us < 5500);
	size_t chunk = chunk_of(&pace, 16, 1); /* 85 ms of answers that were never seen alone */
	assert_in_range(chunk, 12, 15);
}

static void one_slow_step_does_not_upset_what_is_known(void **state)
{
	(void)state;
	struct engine_pace pace = {0};
	for (int i = 0; i < 30; i++)
		engine_pace_observe(&pace, 4, 0, 40000);
	engine_pace_observe(&pace, 4, 0, 40000000); /* the machine slept */
	assert_true(pace.answers_us[4] < 70000);
}

/* A machine that gives 100 tokens a second to one answer, and 200 to all together. */
static uint64_t step_us(uint32_t answers)
{
	double each = answers == 1 ? 100 : 200.0 / answers;
	return (uint64_t)(1e6 / each);
}

static void the_cap_settles_where_every_answer_is_fast_enough(void **state)
{
	(void)state;
	struct engine_concurrency c;
	engine_concurrency_init(&c, 24, 15);
	assert_int_equal(c.cap, 24); /* a fresh model starts at the most */
	for (int round = 0; round < 60; round++) {
		for (int i = 0; i < 8; i++)
			engine_concurrency_observe(&c, c.cap, step_us(c.cap));
		engine_concurrency_adapt(&c);
	}
	assert_int_equal(c.cap, 13); /* 200 / 13 = 15.4; 14 would give 14.3 */
}

static void few_samples_say_nothing_and_no_target_changes_nothing(void **state)
{
	(void)state;
	struct engine_concurrency c;
	engine_concurrency_init(&c, 8, 15);
	for (int i = 0; i < 7; i++)
		engine_concurrency_observe(&c, 8, 1000000);
	assert_int_equal(engine_concurrency_adapt(&c), 8);
	engine_concurrency_observe(&c, 8, 1000000);
	assert_int_equal(engine_concurrency_adapt(&c), 7);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 8; i++)
			engine_concurrency_observe(&c, c.cap, 1000000);
		engine_concurrency_adapt(&c);
	}
	assert_int_equal(c.cap, 1); /* never none */
	engine_concurrency_init(&c, 8, 0);
	for (int i = 0; i < 20; i++)
		engine_concurrency_observe(&c, 8, 1000000);
	assert_int_equal(engine_concurrency_adapt(&c), 8);
}

static void a_cap_that_was_lowered_grows_again_when_there_is_room(void **state)
{
	(void)state;
	struct engine_concurrency c;
	engine_concurrency_init(&c, 8, 15);
	c.cap = 4;
	for (int i = 0; i < 8; i++)
		engine_concurrency_observe(&c, 4, 10000); /* 100 tokens a second each */
	assert_int_equal(engine_concurrency_adapt(&c), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_prompt_alone_is_run_in_whole_steps),
	    cmocka_unit_test(chunks_stretch_a_step_no_further_than_promised),
	    cmocka_unit_test(a_busy_machine_does_not_starve_a_prompt),
	    cmocka_unit_test(answers_that_grow_do_not_starve_a_prompt),
	    cmocka_unit_test(answers_give_way_to_a_burst_of_prompts),
	    cmocka_unit_test(a_burst_is_run_although_no_batch_of_its_size_was_seen),
	    cmocka_unit_test(one_slow_step_does_not_upset_what_is_known),
	    cmocka_unit_test(the_cap_settles_where_every_answer_is_fast_enough),
	    cmocka_unit_test(few_samples_say_nothing_and_no_target_changes_nothing),
	    cmocka_unit_test(a_cap_that_was_lowered_grows_again_when_there_is_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
