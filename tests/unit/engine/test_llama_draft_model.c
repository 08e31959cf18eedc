/* A draft model beside a real one: no answer may be another than without, whoever guesses. The target is SmolLM2-135M; it
 * guesses for itself, which is right all the time, and a double guesses that is made here: its vocabulary, random weights of
 * one layer, always wrong but by luck. */
#include "collect.h"

#include "core/log.h"
#include "provider/engine/engine_llama.h"
#include "random_model.h"

#include <unistd.h>

static const char telling[] = "Tell me a story about a lighthouse.";
static char double_path[] = "/tmp/test-draft-XXXXXX", small_path[] = "/tmp/test-small-XXXXXX";
static struct engine *plain;

static struct engine *load(const char *draft, enum engine_speculation speculation, struct error *error)
{
	struct engine_llama_options options = {.model_path = SMOL,
	                                       .threads = 1,
	                                       .max_sequences = 2,
	                                       .context_tokens = 1024,
	                                       .draft_path = draft,
	                                       .speculation = speculation};
	return engine_llama_new(&options, error);
}

static struct engine *must_load(const char *draft, enum engine_speculation speculation)
{
	struct error error = {.text = ""};
	struct engine *engine = load(draft, speculation, &error);
	if (!engine)
		fail_msg("%s", error.text);
	return engine;
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	const struct renamed other = {5000, "anotherwordthatisnone"};
	close(mkstemp(double_path));
	close(mkstemp(small_path));
	random_model_write(double_path, NULL, 0);
	random_model_write(small_path, &other, 1);
	plain = must_load(NULL, ENGINE_SPECULATE_NEVER);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	engine_free(plain);
	unlink(double_path);
	unlink(small_path);
	return 0;
}

static struct request request_for(const char *text, int64_t tokens)
{
	struct request request = ask(text);
	request.chat.max_tokens = tokens;
	request.chat.sampling.ignore_eos = true;
	return request;
}

static void same_answers(struct engine *guessing, const struct request *request)
{
	struct collector a, b;
	run(plain, request, &a);
	run(guessing, request, &b);
	assert_int_equal(b.status, 0);
	assert_string_equal(content_of(&a), content_of(&b));
	assert_int_equal(a.finish, b.finish);
	assert_int_equal(a.usage.completion_tokens, b.usage.completion_tokens);
	collector_free(&a);
	collector_free(&b);
}

static void drawn_and_greedy(struct engine *guessing)
{
	struct request greedy = request_for(telling, 48), drawn = request_for(telling, 30), stopped = request_for(telling, 30);
	struct chat_sampling *sampling = &drawn.chat.sampling;
	sampling->has_temperature = sampling->has_seed = sampling->has_top_p = true;
	sampling->temperature = 0.8;
	sampling->top_p = 0.95;
	sampling->seed = 7;
	add_stop(&stopped, "lighthouse");
	same_answers(guessing, &greedy);
	same_answers(guessing, &drawn);
	same_answers(guessing, &stopped);
	request_free(&greedy);
	request_free(&drawn);
	request_free(&stopped);
}

static void a_draft_that_is_right_saves_steps_and_changes_nothing(void **state)
{
	(void)state;
	struct engine *guessing = must_load(SMOL, ENGINE_SPECULATE_ALWAYS);
	struct engine_capacity capacity;
	drawn_and_greedy(guessing);
	engine_capacity(guessing, &capacity);
	assert_true(capacity.guesses_right >= 30); /* of some 100 tokens that were told */
	assert_true(((struct llama_engine *)guessing)->steps + capacity.guesses_right <= 108 + 3 * 4);
	engine_free(guessing);
}

static void a_draft_that_is_wrong_changes_nothing(void **state)
{
	(void)state;
	struct engine *guessing = must_load(double_path, ENGINE_SPECULATE_ALWAYS);
	struct engine_capacity capacity;
	drawn_and_greedy(guessing);
	engine_capacity(guessing, &capacity);
	assert_true(capacity.tokens_guessed > capacity.guesses_right + 20);
	engine_free(guessing);
}

static void two_answers_are_guessed_for_at_once(void **state)
{
	(void)state;
	struct engine *guessing = must_load(SMOL, ENGINE_SPECULATE_ALWAYS);
	struct request request = request_for(telling, 40);
	struct collector c[2];
	struct engine_capacity capacity;
	for (int i = 0; i < 2; i++) {
		collector_init(&c[i]);
		submit(guessing, &request, &c[i]);
	}
	for (int i = 0; i < 2; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 0);
		assert_int_equal(c[i].usage.completion_tokens, 40);
		collector_free(&c[i]);
	}
	engine_capacity(guessing, &capacity);
	assert_true(capacity.guesses_right > 10);
	request_free(&request);
	engine_free(guessing);
}

static void its_sequences_count_in_the_budget_and_nothing_is_loaded_where_nothing_is_guessed(void **state)
{
	(void)state;
	struct engine_info without, with, never;
	struct engine *guessing = must_load(double_path, ENGINE_SPECULATE_WHERE_IT_PAYS);
	struct engine *silent = must_load(double_path, ENGINE_SPECULATE_NEVER);
	engine_info(plain, &without);
	engine_info(guessing, &with);
	engine_info(silent, &never);
	assert_true(with.kv_bytes_per_token > without.kv_bytes_per_token);
	assert_int_equal((int64_t)never.kv_bytes_per_token, (int64_t)without.kv_bytes_per_token);
	assert_null(((struct llama_engine *)silent)->draft_model);
	engine_free(silent);
	engine_free(guessing);
}

static void a_draft_of_another_vocabulary_is_refused(void **state)
{
	(void)state;
	struct error error = {.text = ""};
	assert_null(load(small_path, ENGINE_SPECULATE_WHERE_IT_PAYS, &error));
	assert_non_null(strstr(error.text, "another vocabulary"));
	assert_null(load("/nonexistent.gguf", ENGINE_SPECULATE_WHERE_IT_PAYS, &error));
	assert_non_null(strstr(error.text, "cannot be read"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_draft_that_is_right_saves_steps_and_changes_nothing),
	    cmocka_unit_test(a_draft_that_is_wrong_changes_nothing),
	    cmocka_unit_test(two_answers_are_guessed_for_at_once),
	    cmocka_unit_test(its_sequences_count_in_the_budget_and_nothing_is_loaded_where_nothing_is_guessed),
	    cmocka_unit_test(a_draft_of_another_vocabulary_is_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
