/* What the engine says of itself for the heartbeat (inference 2.6) is what happened. */
#include "llama_fixture.h"

#include <unistd.h>

#include "core/clock.h"

#define STEP_US 5000 /* at least */

static int32_t slow_decode(struct llama_context *context, const struct llama_batch *batch)
{
	usleep(STEP_US);
	return chat_shim_decode(context, batch);
}

/* Without guesses a step gives one token, and takes its time. */
static struct engine *load_slow(uint32_t sequences)
{
	struct error error = {0};
	struct engine_llama_options options = {.model_path = MODEL,
	                                       .threads = 1,
	                                       .max_sequences = sequences,
	                                       .context_tokens = 1024,
	                                       .speculation = ENGINE_SPECULATE_NEVER};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine)
		fail_msg("%s", error.text);
	inside(engine)->decode = slow_decode;
	return engine;
}

static int no_talk(void **state)
{
	(void)state;
	log_set_level(LOG_WARN);
	return 0;
}

static void the_time_of_a_load_is_told(void **state)
{
	struct engine_info info;
	uint64_t before_us = clock_mono_us();
	struct engine *engine = load_slow(1);
	(void)state;
	engine_info(engine, &info);
	assert_in_range(info.load_time_ms, 1, (clock_mono_us() - before_us) / 1000);
	engine_free(engine);
}

static void the_memory_that_is_held_is_weights_and_contexts(void **state)
{
	uint64_t held[2];
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct error error = {0};
		struct engine_info info;
		struct engine_llama_options options = {.model_path = MODEL,
		                                       .threads = 1,
		                                       .max_sequences = 2,
		                                       .context_tokens = 1024u << i,
		                                       .speculation = ENGINE_SPECULATE_NEVER};
		struct engine *engine = engine_llama_new(&options, &error);
		assert_non_null(engine);
		engine_info(engine, &info);
		held[i] = info.memory_bytes;
		/* the cells are there whether they are used or not; of the rest, work space, there is no more than of the weights */
		assert_true(held[i] >= info.weight_bytes + (1024u << i) * (uint64_t)info.kv_bytes_per_token);
		assert_true(held[i] < 4 * info.weight_bytes);
		engine_free(engine);
	}
	assert_true(held[1] > held[0]);
}

/* Prefill and decoding are parts of the time that a call took here, and no step was quicker than it can be: between these two
 * lies the truth, however busy the machine. */
static void rates_lie_between_what_the_caller_saw_and_what_a_step_allows(void **state)
{
	enum { TOKENS = 24, ROUNDS = 3 };
	struct engine *engine = load_slow(1);
	struct request request = ask_for(question, TOKENS);
	struct engine_capacity capacity;
	double least_decode = 1e9, least_prefill = 1e9;
	(void)state;
	request.chat.sampling.ignore_eos = true;
	engine_capacity(engine, &capacity);
	assert_true(capacity.decode_tps == 0 && capacity.prefill_tps == 0); /* nothing was seen yet */
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		struct collector c;
		uint64_t before_us = clock_mono_us();
		run(engine, &request, &c);
		double seconds = (double)(clock_mono_us() - before_us) / 1e6;
		double decode = (TOKENS - 1) / seconds, prefill = (double)c.usage.prompt_tokens / seconds;
		least_decode = decode < least_decode ? decode : least_decode;
		least_prefill = prefill < least_prefill ? prefill : least_prefill;
		wait_idle(engine, &capacity);
		assert_true(capacity.decode_tps >= 0.99 * least_decode && capacity.decode_tps <= 1e6 / STEP_US);
		assert_true(capacity.prefill_tps >= 0.99 * least_prefill);
		assert_true(capacity.prefill_tps <= (double)c.usage.prompt_tokens * 1e6 / STEP_US);
		assert_int_equal(capacity.requests_done, round);
		assert_int_equal(capacity.tokens_done, round * TOKENS);
		collector_free(&c);
	}
	request_free(&request);
	engine_free(engine);
}

static void what_runs_and_what_waits_is_told_and_goes_to_zero(void **state)
{
	struct engine *engine = load_slow(1);
	struct request request = ask_for(question, 7), long_one = ask_for(question, 900);
	struct engine_capacity capacity;
	struct collector running, waiting;
	(void)state;
	long_one.chat.sampling.ignore_eos = true;
	collector_init(&running);
	collector_init(&waiting);
	submit(engine, &long_one, &running);
	wait_deltas(&running, 3);
	submit(engine, &request, &waiting);
	do {
		sched_yield();
		engine_capacity(engine, &capacity);
	} while (!capacity.budget_queued_tokens); /* it is prepared on another thread first */
	engine_cancel(running.call);
	wait_end(&running);
	wait_end(&waiting);
	assert_int_equal(running.finish, ENGINE_FINISH_CANCELLED);
	uint64_t prompt = running.usage.prompt_tokens, said = running.usage.completion_tokens;
	assert_int_equal(capacity.running, 1);
	assert_int_equal(capacity.waiting, 1);
	assert_int_equal(capacity.max_concurrency, 1);
	assert_int_equal(capacity.budget_queued_tokens, waiting.usage.prompt_tokens + 7);
	assert_int_equal(capacity.max_tokens_potential, prompt + 900);
	assert_in_range(capacity.active_tokens, prompt + 2, prompt + said);
	assert_in_range(capacity.budget_used_tokens, capacity.active_tokens, capacity.budget_max_tokens);
	assert_int_equal(capacity.budget_max_tokens, 1024);
	assert_false(capacity.crashed || capacity.reloading);
	wait_idle(engine, &capacity);
	assert_int_equal(capacity.active_tokens + capacity.max_tokens_potential + capacity.budget_used_tokens, 0);
	assert_int_equal(capacity.budget_queued_tokens, 0);
	assert_int_equal(capacity.budget_max_tokens, 1024);
	collector_free(&running);
	collector_free(&waiting);
	request_free(&request);
	request_free(&long_one);
	engine_free(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_time_of_a_load_is_told),
	    cmocka_unit_test(the_memory_that_is_held_is_weights_and_contexts),
	    cmocka_unit_test(rates_lie_between_what_the_caller_saw_and_what_a_step_allows),
	    cmocka_unit_test(what_runs_and_what_waits_is_told_and_goes_to_zero),
	};
	return cmocka_run_group_tests(tests, no_talk, NULL);
}
