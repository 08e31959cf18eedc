/* Tight budgets, cancels, faults and hangs of the llama.cpp engine. */
#include "llama_fixture.h"

#include "provider/engine/engine_guard.h"

static void models_share_one_budget_of_bytes(void **state)
{
	(void)state;
	uint64_t per_token = inside(shared)->cost.bytes_per_token;
	struct kv_budget *budget = kv_budget_new(100 * per_token);
	struct error error;
	struct engine_llama_options options = {
	    .model_path = MODEL, .threads = 1, .max_sequences = 4, .context_tokens = 1024, .budget = budget};
	struct engine *one = engine_llama_new(&options, &error), *two = engine_llama_new(&options, &error);
	assert_non_null(one);
	assert_non_null(two);
	char *text = long_text(120);
	struct request too_long = ask_for(text, 4), request = ask_for(question, 40);
	struct collector c, a[3], b[3];
	run(one, &too_long, &c); /* could never run, though the context has room */
	assert_int_equal(c.status, 503);
	assert_non_null(strstr(c.text, "insufficient global kv cache headroom"));
	assert_string_equal(c.reason, "token_budget_exhausted");
	collector_free(&c);
	request.chat.sampling.ignore_eos = true;
	for (int i = 0; i < 3; i++) { /* six that need about 77 tokens each take turns within 100 */
		collector_init(&a[i]);
		collector_init(&b[i]);
		submit(one, &request, &a[i]);
		submit(two, &request, &b[i]);
	}
	for (int i = 0; i < 3; i++) {
		wait_end(&a[i]);
		wait_end(&b[i]);
		assert_int_equal(a[i].status, 0);
		assert_int_equal(a[i].usage.completion_tokens, 40);
		assert_int_equal(b[i].status, 0);
		assert_int_equal(b[i].usage.completion_tokens, 40);
		collector_free(&a[i]);
		collector_free(&b[i]);
	}
	engine_free(one);
	engine_free(two);
	struct kv_budget_stats now;
	kv_budget_stats(budget, &now);
	assert_int_equal(now.reserved_bytes, 0);
	assert_true(now.peak_bytes <= now.limit_bytes);
	kv_budget_free(budget);
	request_free(&request);
	request_free(&too_long);
	free(text);
}

/* A decode that fails every batch with a certain sequence, from the first batch on in which three sequences run: by then no
 * call is left that could take the place of the one that failed and fail in its turn. */
static struct {
	atomic_bool released; /* until then no batch runs, so that the calls of a test meet in one */
	atomic_bool armed;
	atomic_int poisoned_sequence;
	atomic_int result;
} fault;

static void fault_arm(int sequence, int result, bool at_once)
{
	atomic_store(&fault.poisoned_sequence, sequence);
	atomic_store(&fault.result, result);
	atomic_store(&fault.armed, at_once);
	atomic_store(&fault.released, at_once);
}

static int32_t faulty_decode(struct llama_context *context, const struct llama_batch *batch)
{
	while (!atomic_load(&fault.released))
		sched_yield();
	unsigned running = 0;
	for (int32_t i = 0; i < batch->n_tokens; i++)
		running |= 1u << batch->seq_id[i][0];
	if (__builtin_popcount(running) == 3)
		atomic_store(&fault.armed, true);
	if (atomic_load(&fault.armed) && running & 1u << atomic_load(&fault.poisoned_sequence))
		return atomic_load(&fault.result);
	return chat_shim_decode(context, batch);
}

static void calls_that_outgrow_the_budget_give_way_and_lose_nothing(void **state)
{
	(void)state;
	struct engine *engine = load(4, 256);
	inside(engine)->reserve_ahead = 16;
	enum { COUNT = 4 };
	struct collector c[COUNT];
	struct request request = ask_for(question, 60); /* four of them need more than 256 tokens */
	request.chat.sampling.ignore_eos = true;
	char *expected = answer(engine, &request);
	for (int i = 0; i < COUNT; i++) {
		collector_init(&c[i]);
		submit(engine, &request, &c[i]);
	}
	for (int i = 0; i < COUNT; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 0);
		assert_int_equal(c[i].usage.completion_tokens, 60);
		assert_int_equal(c[i].started, 1);
		/* rounding may lead a call that was run again elsewhere, but the text before that was given out once */
		assert_memory_equal(content_of(&c[i]), expected, 12);
		collector_free(&c[i]);
	}
	struct engine_capacity capacity;
	wait_idle(engine, &capacity);
	assert_int_equal(capacity.budget_used_tokens, 0);
	free(expected);
	request_free(&request);
	engine_free(engine);
}

static void a_call_that_cannot_be_run_fails_alone(void **state)
{
	(void)state;
	struct llama_engine *engine = inside(shared);
	struct request request = ask_for(question, 40);
	request.chat.sampling.ignore_eos = true;
	char *expected = answer(shared, &request);
	struct collector c[3];
	fault_arm(1, -2, false);
	engine->decode = faulty_decode;
	for (int i = 0; i < 3; i++) {
		collector_init(&c[i]);
		submit(shared, &request, &c[i]);
	}
	atomic_store(&fault.released, true);
	int failed = 0;
	for (int i = 0; i < 3; i++) {
		wait_end(&c[i]);
		if (c[i].status) {
			failed++;
			assert_int_equal(c[i].status, 500);
			assert_string_equal(c[i].reason, "provider_error");
		} else {
			assert_int_equal(c[i].usage.completion_tokens, 40);
		}
		collector_free(&c[i]);
	}
	engine->decode = chat_shim_decode;
	assert_int_equal(failed, 1);
	char *again = answer(shared, &request); /* and the engine goes on */
	assert_string_equal(again, expected);
	free(again);
	free(expected);
	request_free(&request);
}

static atomic_bool hang_released;

static int32_t hanging_decode(struct llama_context *context, const struct llama_batch *batch)
{
	while (!atomic_load(&hang_released))
		sched_yield();
	return chat_shim_decode(context, batch);
}

static struct engine *load_that_hangs_once(void *user, struct error *error)
{
	struct engine_llama_options options = {.model_path = MODEL, .threads = 1, .max_sequences = 2, .context_tokens = 512};
	struct engine *engine = engine_llama_new(&options, error);
	if (engine && atomic_fetch_add((atomic_int *)user, 1) == 0)
		inside(engine)->decode = hanging_decode;
	return engine;
}

static void a_step_that_hangs_is_noticed_and_the_model_is_loaded_anew(void **state)
{
	(void)state;
	atomic_int loads = 0;
	struct error error;
	struct engine_guard_options options = {
	    .make = load_that_hangs_once, .user = &loads, .poll_ms = 20, .wedged_ms = 500, .cooldown_ms = 600000};
	struct engine *engine = engine_guard_new(&options, &error);
	assert_non_null(engine);
	struct request request = ask_for(question, 3);
	struct collector c[2];
	for (int i = 0; i < 2; i++) {
		collector_init(&c[i]);
		submit(engine, &request, &c[i]);
	}
	for (int i = 0; i < 2; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 503);
		collector_free(&c[i]);
	}
	while (!engine_guard_restarts(engine))
		sched_yield();
	char *text = answer(engine, &request); /* the cooldown keeps this one from being taken for hung on a busy machine */
	assert_true(strlen(text) > 0);
	free(text);
	atomic_store(&hang_released, true); /* the old engine can go now */
	engine_free(engine);
	assert_int_equal(loads, 2);
	request_free(&request);
}

static void an_engine_that_fails_every_call_reports_a_crash_until_one_runs(void **state)
{
	(void)state;
	struct request request = ask_for(question, 2);
	struct engine_capacity capacity;
	struct collector c;
	fault_arm(0, -3, true);
	inside(shared)->decode = faulty_decode;
	for (int i = 0; i < ENGINE_CRASHED_FAILURES; i++) {
		engine_capacity(shared, &capacity);
		assert_false(capacity.crashed);
		run(shared, &request, &c);
		assert_int_equal(c.status, 500);
		collector_free(&c);
		wait_idle(shared, &capacity);
	}
	while (!capacity.crashed)
		wait_idle(shared, &capacity);
	inside(shared)->decode = chat_shim_decode;
	free(answer(shared, &request));
	while (capacity.crashed)
		wait_idle(shared, &capacity);
	request_free(&request);
}

static struct llama_call *_Atomic grows_old;

/* On the engine's thread, which alone looks at the time. */
static int32_t ageing_decode(struct llama_context *context, const struct llama_batch *batch)
{
	struct llama_call *call = atomic_exchange(&grows_old, NULL);
	if (call)
		call->submitted_us -= UINT64_C(1000) * ENGINE_WAITING_TIMEOUT_MS;
	return chat_shim_decode(context, batch);
}

static void a_call_that_waits_too_long_is_told_so_and_the_others_go_on(void **state)
{
	(void)state;
	struct engine *engine = load(1, 1024);
	struct request request = ask_for(question, 900);
	request.chat.sampling.ignore_eos = true;
	struct collector running, waiting;
	collector_init(&running);
	collector_init(&waiting);
	inside(engine)->decode = ageing_decode;
	submit(engine, &request, &running);
	wait_deltas(&running, 1);
	submit(engine, &request, &waiting);
	while (engine_queue_position(waiting.call) != 1)
		sched_yield();
	atomic_store(&grows_old, (struct llama_call *)waiting.call);
	wait_end(&waiting);
	assert_int_equal(waiting.status, 503);
	assert_string_equal(waiting.reason, "capacity_timeout");
	assert_string_equal(waiting.text, "request timed out waiting for capacity");
	int before = deltas_now(&running);
	wait_deltas(&running, before + 1);
	assert_int_equal(running.ends, 0);
	engine_cancel(running.call);
	wait_end(&running);
	assert_int_equal(running.finish, ENGINE_FINISH_CANCELLED);
	collector_free(&running);
	collector_free(&waiting);
	request_free(&request);
	engine_free(engine);
}

static void cancel_frees_the_sequence_and_its_budget(void **state)
{
	(void)state;
	struct request request = ask_for(question, 4000);
	request.chat.sampling.ignore_eos = true;
	struct collector c;
	collector_init(&c);
	c.cancel_after_deltas = 5;
	submit(shared, &request, &c);
	wait_end(&c);
	assert_int_equal(c.finish, ENGINE_FINISH_CANCELLED);
	assert_int_equal(c.deltas, 5); /* cancelled inside the fifth: not one step more */
	assert_int_equal(c.usage.completion_tokens, 5);
	collector_free(&c);
	struct engine_capacity capacity;
	wait_idle(shared, &capacity);
	assert_int_equal(capacity.budget_used_tokens, 0);
	assert_int_equal(capacity.active_tokens, 0);
	assert_int_equal(llama_memory_seq_pos_max(llama_get_memory(inside(shared)->context), 0), -1);
	request_free(&request);
}

static void a_cancelled_prompt_never_answers(void **state)
{
	(void)state;
	char *text = long_text(2000);
	struct request request = ask_for(text, 4);
	struct collector c;
	collector_init(&c);
	submit(shared, &request, &c);
	engine_cancel(c.call);
	wait_end(&c);
	assert_int_equal(c.status, 499);
	assert_int_equal(c.deltas, 0);
	collector_free(&c);
	request_free(&request);
	free(text);
}

static void stopping_ends_every_call(void **state)
{
	(void)state;
	struct engine *engine = load(2, 1024);
	struct request request = ask_for(question, 900);
	request.chat.sampling.ignore_eos = true;
	struct collector c[4];
	for (int i = 0; i < 4; i++) {
		collector_init(&c[i]);
		submit(engine, &request, &c[i]);
	}
	wait_deltas(&c[0], 2);
	engine_free(engine);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(c[i].ends, 1);
		assert_int_equal(c[i].status, 503);
		collector_free(&c[i]);
	}
	request_free(&request);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(models_share_one_budget_of_bytes),
	    cmocka_unit_test(calls_that_outgrow_the_budget_give_way_and_lose_nothing),
	    cmocka_unit_test(a_call_that_cannot_be_run_fails_alone),
	    cmocka_unit_test(a_step_that_hangs_is_noticed_and_the_model_is_loaded_anew),
	    cmocka_unit_test(an_engine_that_fails_every_call_reports_a_crash_until_one_runs),
	    cmocka_unit_test(a_call_that_waits_too_long_is_told_so_and_the_others_go_on),
	    cmocka_unit_test(cancel_frees_the_sequence_and_its_budget),
	    cmocka_unit_test(a_cancelled_prompt_never_answers),
	    cmocka_unit_test(stopping_ends_every_call),
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
