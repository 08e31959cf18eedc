/* Calls that run beside each other on the real model. */
#include "llama_fixture.h"

/* Each joins when the one before has begun to decode. llama.cpp's CPU attention rounds differently for batches of 64 tokens and
 * more, and for a lone sequence above 512 tokens, so prompts that are run together with others need not give the same text. */
/* A wrong cell, position or row shows at once, in the first words. Later words may differ: the CPU back end rounds a batch of
 * four rows otherwise than single rows, and where two tokens are as good as equally likely that decides. */
static void concurrent_greedy_answers_begin_like_each_alone(void **state)
{
	(void)state;
	static const char *const questions[] = {"Write one sentence about the sea.", "Count from one to ten.",
	                                        "Name the days of the week.",
	                                        "What is two plus two?"}; /* it is sure of these beginnings */
	enum { COUNT = 4 };
	struct request requests[COUNT];
	char *alone[COUNT];
	struct collector c[COUNT];
	for (int i = 0; i < COUNT; i++) {
		requests[i] = ask_for(questions[i], 24);
		requests[i].chat.sampling.ignore_eos = true;
		alone[i] = answer(shared, &requests[i]);
	}
	uint64_t before = inside(shared)->steps;
	for (int i = 0; i < COUNT; i++) {
		collector_init(&c[i]);
		submit(shared, &requests[i], &c[i]);
		wait_deltas(&c[i], 1);
	}
	for (int i = 0; i < COUNT; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].usage.completion_tokens, 24);
		assert_memory_equal(content_of(&c[i]), alone[i], 12);
		collector_free(&c[i]);
		request_free(&requests[i]);
		free(alone[i]);
	}
	assert_true(inside(shared)->steps - before < COUNT * 24); /* they did share steps */
}

static atomic_int first_answers; /* of the first step since it was set to -1 */

static int32_t counting_decode(struct llama_context *context, const struct llama_batch *batch)
{
	int answers = 0, none = -1;
	for (int32_t i = 0; i < batch->n_tokens; i++)
		answers += batch->logits[i];
	atomic_compare_exchange_strong(&first_answers, &none, answers);
	return chat_shim_decode(context, batch);
}

static void calls_that_come_together_begin_together(void **state)
{
	(void)state;
	enum { COUNT = 6 };
	struct llama_engine *engine = inside(shared);
	struct request request = ask_for("Hi.", 4);
	struct collector c[COUNT];
	wait_idle(shared, &(struct engine_capacity){0});
	engine->gather_us = UINT64_C(60000000);
	engine->decode = counting_decode;
	atomic_store(&first_answers, -1);
	llama_rendering_begin(); /* none is prepared before all have come */
	for (int i = 0; i < COUNT; i++) {
		collector_init(&c[i]);
		submit(shared, &request, &c[i]);
	}
	llama_rendering_end();
	for (int i = 0; i < COUNT; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 0);
		collector_free(&c[i]);
	}
	assert_int_equal(atomic_load(&first_answers), COUNT);
	wait_idle(shared, &(struct engine_capacity){0});
	engine->decode = chat_shim_decode;
	engine->gather_us = ENGINE_GATHER_US;
	request_free(&request);
}

static void a_paused_call_keeps_its_place_and_goes_on_with_the_same_text(void **state)
{
	(void)state;
	struct request request = ask_for(question, 24);
	char *expected = answer(shared, &request);
	struct collector paused, other;
	collector_init(&paused);
	submit(shared, &request, &paused);
	wait_deltas(&paused, 3);
	engine_pause(paused.call);
	run(shared, &request, &other);
	int before = deltas_now(&paused);
	collector_free(&other);
	run(shared, &request, &other);
	collector_free(&other);
	assert_int_equal(deltas_now(&paused), before);
	engine_resume(paused.call);
	wait_end(&paused);
	assert_string_equal(content_of(&paused), expected);
	collector_free(&paused);
	free(expected);
	request_free(&request);
}

static void a_long_prompt_does_not_stop_a_running_stream(void **state)
{
	(void)state;
	struct request running = ask_for(question, 200), late;
	running.chat.sampling.ignore_eos = true;
	inside(shared)->step_tokens = 65;
	char *text = long_text(300); /* at least four steps */
	late = ask_for(text, 1);
	struct collector a, b;
	collector_init(&a);
	collector_init(&b);
	submit(shared, &running, &a);
	wait_deltas(&a, 2);
	submit(shared, &late, &b);
	pthread_mutex_lock(&b.lock);
	while (!b.started)
		pthread_cond_wait(&b.changed, &b.lock);
	pthread_mutex_unlock(&b.lock);
	int at_start = deltas_now(&a);
	wait_end(&b);
	assert_true(deltas_now(&a) >= at_start + 3); /* a token in each of the prompt's steps but the last */
	engine_cancel(a.call);
	wait_end(&a);
	inside(shared)->step_tokens = ENGINE_STEP_TOKENS;
	collector_free(&a);
	collector_free(&b);
	request_free(&running);
	request_free(&late);
	free(text);
}

/* Rows of a prompt in the first step that has an answer beside them. */
static atomic_int beside_an_answer;

static int32_t watching_decode(struct llama_context *context, const struct llama_batch *batch)
{
	int rows[ENGINE_LLAMA_MAX_SEQUENCES] = {0}, running = 0, most = 0, none = -1;
	for (int32_t i = 0; i < batch->n_tokens; i++)
		rows[batch->seq_id[i][0]]++;
	for (int i = 0; i < ENGINE_LLAMA_MAX_SEQUENCES; i++) {
		running += rows[i] > 0;
		most = rows[i] > most ? rows[i] : most;
	}
	if (running == 2)
		atomic_compare_exchange_strong(&beside_an_answer, &none, most);
	return chat_shim_decode(context, batch);
}

/* What steps were seen to cost decides how much of a prompt goes into one beside an answer. */
static void a_chunk_follows_what_was_measured(void **state)
{
	(void)state;
	static const double token_us[] = {1e9, 1e-3};
	struct llama_engine *engine;
	struct engine_capacity capacity;
	struct engine *loaded = load(2, 2048);
	struct request running = ask_for(question, 1000), late;
	char *text = long_text(200);
	engine = inside(loaded);
	engine->decode = watching_decode;
	running.chat.sampling.ignore_eos = true;
	late = ask_for(text, 1);
	for (size_t i = 0; i < 2; i++) {
		struct collector a, b;
		engine->pace = (struct engine_pace){.prompt_token_us = token_us[i]};
		engine->pace.answers_us[1] = 10000;
		atomic_store(&beside_an_answer, -1);
		collector_init(&a);
		collector_init(&b);
		submit(loaded, &running, &a);
		wait_deltas(&a, 1);
		submit(loaded, &late, &b);
		wait_end(&b);
		engine_cancel(a.call);
		wait_end(&a);
		collector_free(&a);
		collector_free(&b);
		wait_idle(loaded, &capacity);
		int rows = atomic_load(&beside_an_answer);
		if (i == 0)
			assert_int_equal(rows, ENGINE_PACE_LEAST);
		else
			assert_true(rows >= 64);
		/* and was learnt from what came */
		assert_true(engine->pace.prompt_token_us < 1e9 && engine->pace.prompt_token_us > 1e-3);
		assert_true(engine->concurrency.samples[1] > 0);
	}
	engine_free(loaded);
	request_free(&running);
	request_free(&late);
	free(text);
}

static void no_more_calls_run_than_are_fast_enough_together(void **state)
{
	(void)state;
	struct engine *engine = load(4, 1024);
	struct request request = ask_for(question, 900), short_one = ask_for(question, 2);
	struct collector running, waiting;
	inside(engine)->concurrency.cap = 1;
	request.chat.sampling.ignore_eos = true;
	collector_init(&running);
	collector_init(&waiting);
	submit(engine, &request, &running);
	wait_deltas(&running, 1);
	submit(engine, &short_one, &waiting);
	while (!engine_queue_position(waiting.call) && !deltas_now(&waiting))
		sched_yield();
	assert_int_equal(deltas_now(&waiting), 0);
	assert_int_equal(engine_queue_position(waiting.call), 1);
	engine_cancel(running.call);
	wait_end(&running);
	wait_end(&waiting);
	assert_int_equal(waiting.status, 0);
	collector_free(&running);
	collector_free(&waiting);
	request_free(&request);
	request_free(&short_one);
	engine_free(engine);
}

static void a_full_queue_refuses_until_there_is_room(void **state)
{
	(void)state;
	struct request request = ask_for("Hi.", 1);
	struct collector *c = calloc(ENGINE_MAX_WAITING + 1, sizeof *c);
	assert_non_null(c);
	wait_idle(shared, &(struct engine_capacity){0});
	llama_rendering_begin(); /* nothing leaves the queue */
	for (int i = 0; i < ENGINE_MAX_WAITING; i++) {
		collector_init(&c[i]);
		submit(shared, &request, &c[i]);
	}
	collector_init(&c[ENGINE_MAX_WAITING]);
	int status = submit_as(shared, &request, "", &c[ENGINE_MAX_WAITING]);
	for (int i = 0; i < ENGINE_MAX_WAITING; i++)
		engine_cancel(c[i].call);
	llama_rendering_end();
	assert_int_equal(status, 429);
	assert_non_null(strstr(c[ENGINE_MAX_WAITING].text, "queue full"));
	for (int i = 0; i < ENGINE_MAX_WAITING; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 499);
		collector_free(&c[i]);
	}
	collector_free(&c[ENGINE_MAX_WAITING]);
	free(answer(shared, &request));
	free(c);
	request_free(&request);
}

static void tenants_take_turns_and_know_their_place(void **state)
{
	(void)state;
	struct engine *engine = load(1, 1024);
	struct request request = ask_for(question, 3), long_one = ask_for(question, 900);
	long_one.chat.sampling.ignore_eos = true;
	struct collector running, a[4], b;
	collector_init(&running);
	assert_int_equal(submit_as(engine, &long_one, "first", &running), 0);
	wait_deltas(&running, 1);
	for (int i = 0; i < 4; i++) {
		collector_init(&a[i]);
		assert_int_equal(submit_as(engine, &request, "many", &a[i]), 0);
	}
	collector_init(&b);
	assert_int_equal(submit_as(engine, &request, "few", &b), 0);
	while (engine_queue_position(b.call) != 2 || engine_queue_position(a[3].call) != 5)
		sched_yield();
	assert_int_equal(engine_queue_position(a[0].call), 1);
	assert_int_equal(engine_queue_position(running.call), 0);
	engine_cancel(running.call);
	wait_end(&b);
	for (int i = 0; i < 4; i++) {
		wait_end(&a[i]);
		collector_free(&a[i]);
	}
	wait_end(&running);
	collector_free(&running);
	collector_free(&b);
	request_free(&request);
	request_free(&long_one);
	engine_free(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(concurrent_greedy_answers_begin_like_each_alone),
	    cmocka_unit_test(calls_that_come_together_begin_together),
	    cmocka_unit_test(a_paused_call_keeps_its_place_and_goes_on_with_the_same_text),
	    cmocka_unit_test(a_long_prompt_does_not_stop_a_running_stream),
	    cmocka_unit_test(a_chunk_follows_what_was_measured),
	    cmocka_unit_test(no_more_calls_run_than_are_fast_enough_together),
	    cmocka_unit_test(a_full_queue_refuses_until_there_is_room),
	    cmocka_unit_test(tenants_take_turns_and_know_their_place),
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
