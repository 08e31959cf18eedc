#include "collect.h"

#include <stdio.h>
#include <unistd.h>

static struct engine *start(struct engine_script script)
{
	struct error error;
	struct engine *engine = engine_scripted_new(&script, &error);
	assert_non_null(engine);
	return engine;
}

static void text_is_given_word_by_word_with_exact_usage(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "one two  three"});
	struct request request = ask("how many words are here");
	struct collector c;
	run(engine, &request, &c);
	assert_string_equal(content_of(&c), "one two  three");
	assert_int_equal(c.deltas, 3);
	assert_int_equal(c.started, 1);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	assert_int_equal(c.usage.prompt_tokens, 5);
	assert_int_equal(c.usage.completion_tokens, 3);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

static void words_are_repeated_or_grouped_to_the_number_of_tokens(void **state)
{
	(void)state;
	struct request request = ask("x");
	struct collector c;
	struct engine *engine = start((struct engine_script){.text = "a b c", .tokens = 7});
	run(engine, &request, &c);
	assert_string_equal(content_of(&c), "a b c a b c a ");
	assert_int_equal(c.deltas, 7);
	collector_free(&c);
	engine_free(engine);

	engine = start((struct engine_script){.text = "a b c", .tokens = 2});
	run(engine, &request, &c);
	assert_string_equal(content_of(&c), "a b c");
	assert_int_equal(c.deltas, 2);
	collector_free(&c);
	engine_free(engine);
	request_free(&request);
}

static void without_text_the_answer_depends_on_the_question_only(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){0});
	struct request first = ask("first"), second = ask("second");
	struct collector a, b, c;
	run(engine, &first, &a);
	run(engine, &second, &b);
	run(engine, &first, &c);
	assert_string_equal(content_of(&a), content_of(&c));
	assert_string_not_equal(content_of(&a), content_of(&b));
	assert_int_equal(strncmp(content_of(&a), "echo ", 5), 0);
	assert_int_equal(a.deltas, 4);
	collector_free(&a);
	collector_free(&b);
	collector_free(&c);
	request_free(&first);
	request_free(&second);
	engine_free(engine);
}

static void max_tokens_ends_with_length(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "a b c d"});
	struct request request = ask("x");
	struct collector c;
	request.chat.max_tokens = 2;
	run(engine, &request, &c);
	assert_string_equal(content_of(&c), "a b ");
	assert_int_equal(c.finish, ENGINE_FINISH_LENGTH);
	assert_int_equal(c.usage.completion_tokens, 2);
	collector_free(&c);
	request.chat.max_tokens = 4;
	run(engine, &request, &c);
	assert_string_equal(content_of(&c), "a b c d");
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

static void a_stop_string_across_words_ends_the_answer_before_it(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "alpha beta gamma delta"});
	struct request request = ask("x");
	struct collector c;
	add_stop(&request, "ta gam");
	run(engine, &request, &c);
	assert_string_equal(content_of(&c), "alpha be");
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	assert_int_equal(c.usage.completion_tokens, 3);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

static void a_fault_comes_after_the_set_number_of_tokens(void **state)
{
	(void)state;
	struct request request = ask("x");
	struct collector c;
	struct engine *engine = start((struct engine_script){.text = "a b c", .fail_status = 503, .fail_text = "no room"});
	run(engine, &request, &c);
	assert_int_equal(c.status, 503);
	assert_string_equal(c.text, "no room");
	assert_int_equal(c.deltas, 0);
	collector_free(&c);
	engine_free(engine);

	engine = start((struct engine_script){.text = "a b c", .fail_status = 500, .fail_after_tokens = 2});
	run(engine, &request, &c);
	assert_int_equal(c.status, 500);
	assert_string_equal(content_of(&c), "a b ");
	assert_int_equal(c.usage.completion_tokens, 2);
	collector_free(&c);
	engine_free(engine);

	engine = start((struct engine_script){.text = "a b c", .fail_status = 500, .fail_after_tokens = 3});
	run(engine, &request, &c);
	assert_int_equal(c.status, 500);
	assert_string_equal(content_of(&c), "a b c");
	collector_free(&c);
	engine_free(engine);
	request_free(&request);
}

static void a_hanging_engine_says_nothing_until_cancelled(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "a", .hang = true});
	struct request request = ask("x");
	struct collector c;
	collector_init(&c);
	submit(engine, &request, &c);
	pthread_mutex_lock(&c.lock);
	while (!c.started)
		pthread_cond_wait(&c.changed, &c.lock);
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(deltas_now(&c), 0);
	engine_cancel(c.call);
	wait_end(&c);
	assert_int_equal(c.status, 499);
	assert_string_equal(c.text, "request cancelled");
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

static void an_engine_that_hangs_at_a_token_stops_for_all_calls_and_hears_no_cancel(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "a b c d", .hang_at_token = 2});
	struct request request = ask("x");
	struct collector first, second;
	collector_init(&first);
	collector_init(&second);
	submit(engine, &request, &first);
	struct engine_capacity capacity = {0};
	while (capacity.tokens_done < 2)
		engine_capacity(engine, &capacity);
	submit(engine, &request, &second);
	engine_cancel(first.call);
	usleep(20000);
	engine_capacity(engine, &capacity);
	assert_int_equal(capacity.tokens_done, 2);
	assert_int_equal(capacity.running + capacity.waiting, 2);
	assert_int_equal(first.ends + second.ends, 0);
	engine_free(engine);
	assert_int_equal(first.ends, 1);
	assert_int_equal(second.status, 503);
	assert_string_equal(content_of(&first), "a b ");
	collector_free(&first);
	collector_free(&second);
	request_free(&request);
}

static void cancel_after_text_finishes_with_partial_usage(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "a b", .tokens = 1000000});
	struct request request = ask("x");
	struct collector c;
	collector_init(&c);
	c.cancel_after_deltas = 3; /* from inside the callback */
	submit(engine, &request, &c);
	wait_end(&c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_CANCELLED);
	assert_int_equal(c.usage.completion_tokens, c.deltas);
	engine_cancel(c.call); /* of a call that has ended: nothing */
	engine_pause(c.call);
	engine_resume(c.call);
	assert_int_equal(c.ends, 1);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

static void a_paused_call_stands_still_while_others_go_on(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "w", .tokens = 100000});
	struct request request = ask("x");
	struct collector paused, other;
	collector_init(&paused);
	submit(engine, &request, &paused);
	wait_deltas(&paused, 10);
	engine_pause(paused.call);
	request.chat.max_tokens = 5000;
	run(engine, &request, &other); /* its end is later than the pause: the engine's thread saw it */
	int before = deltas_now(&paused);
	collector_free(&other);
	run(engine, &request, &other);
	assert_int_equal(other.finish, ENGINE_FINISH_LENGTH);
	assert_int_equal(deltas_now(&paused), before);
	assert_int_equal(paused.ends, 0);
	engine_resume(paused.call);
	wait_end(&paused);
	assert_int_equal(paused.finish, ENGINE_FINISH_STOP);
	assert_int_equal(paused.usage.completion_tokens, 100000);
	assert_int_equal(paused.deltas, 100000);
	collector_free(&other);
	collector_free(&paused);
	request_free(&request);
	engine_free(engine);
}

static void calls_above_the_concurrency_wait_and_the_queue_is_bounded(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "a", .hang = true, .max_concurrency = 2});
	struct request request = ask("x y");
	enum { COUNT = 2 + ENGINE_MAX_WAITING };
	struct collector *c = calloc(COUNT + 1, sizeof *c);
	for (int i = 0; i <= COUNT; i++)
		collector_init(&c[i]);
	for (int i = 0; i < 2; i++) {
		submit(engine, &request, &c[i]);
		pthread_mutex_lock(&c[i].lock);
		while (!c[i].started)
			pthread_cond_wait(&c[i].changed, &c[i].lock);
		pthread_mutex_unlock(&c[i].lock);
	}
	for (int i = 2; i < COUNT; i++)
		submit(engine, &request, &c[i]);
	assert_int_equal(submit_as(engine, &request, "", &c[COUNT]), 429);
	assert_non_null(strstr(c[COUNT].text, "queue full"));
	struct engine_capacity capacity;
	engine_capacity(engine, &capacity);
	assert_int_equal(capacity.running, 2);
	assert_int_equal(capacity.waiting, ENGINE_MAX_WAITING);
	assert_int_equal(capacity.max_concurrency, 2);
	assert_int_equal(capacity.active_tokens, 4);

	engine_cancel(c[0].call);
	wait_end(&c[0]);
	pthread_mutex_lock(&c[2].lock);
	while (!c[2].started) /* the next in line takes the place */
		pthread_cond_wait(&c[2].changed, &c[2].lock);
	pthread_mutex_unlock(&c[2].lock);

	engine_free(engine); /* ends the rest, running and waiting */
	for (int i = 1; i < COUNT; i++) {
		assert_int_equal(c[i].ends, 1);
		assert_int_equal(c[i].status, 503);
	}
	for (int i = 0; i <= COUNT; i++)
		collector_free(&c[i]);
	free(c);
	request_free(&request);
}

static void a_thousand_calls_run_side_by_side(void **state)
{
	(void)state;
	struct engine *engine =
	    start((struct engine_script){.text = "a b c d e", .tokens = 20, .token_delay_ms = 1, .max_concurrency = 1000});
	struct request request = ask("x");
	enum { COUNT = 1000 };
	struct collector *c = calloc(COUNT, sizeof *c);
	for (int i = 0; i < COUNT; i++) {
		collector_init(&c[i]);
		while (submit_as(engine, &request, "", &c[i]) == 429)
			sched_yield();
	}
	for (int i = 0; i < COUNT; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].deltas, 20);
		assert_int_equal(c[i].status, 0);
		collector_free(&c[i]);
	}
	struct engine_capacity capacity;
	engine_capacity(engine, &capacity);
	assert_int_equal(capacity.running + capacity.waiting, 0);
	assert_int_equal(capacity.active_tokens, 0);
	assert_int_equal(capacity.requests_done, COUNT);
	assert_int_equal(capacity.tokens_done, 20 * COUNT);
	free(c);
	request_free(&request);
	engine_free(engine);
}

static void *cancel_and_release(void *user)
{
	struct collector *c = user;
	for (int i = 0; i < 50; i++) {
		engine_pause(c->call);
		engine_resume(c->call);
	}
	engine_cancel(c->call);
	return NULL;
}

static void calls_may_be_touched_while_they_end(void **state)
{
	(void)state;
	struct engine *engine = start((struct engine_script){.text = "a b c d e f"});
	struct request request = ask("x");
	for (int i = 0; i < 200; i++) {
		struct collector c;
		pthread_t thread;
		collector_init(&c);
		submit(engine, &request, &c);
		assert_int_equal(pthread_create(&thread, NULL, cancel_and_release, &c), 0);
		wait_end(&c);
		pthread_join(thread, NULL);
		assert_int_equal(c.ends, 1);
		collector_free(&c);
	}
	request_free(&request);
	engine_free(engine);
}

static void a_script_is_read_from_json(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct engine_script script;
	struct error error;
	struct str json = STR("{\"text\":\"hi there\",\"tokens\":5,\"first_delay_ms\":1,\"token_delay_ms\":2,\"load_delay_ms\":3,"
	                      "\"max_concurrency\":4,\"fail_status\":503,\"fail_text\":\"no\",\"fail_after_tokens\":6,\"hang\":"
	                      "true,\"hang_at_token\":7}");
	assert_int_equal(engine_script_parse(json, arena, &script, &error), DB_OK);
	assert_string_equal(script.text, "hi there");
	assert_int_equal(script.tokens, 5);
	assert_int_equal(script.first_delay_ms, 1);
	assert_int_equal(script.token_delay_ms, 2);
	assert_int_equal(script.load_delay_ms, 3);
	assert_int_equal(script.max_concurrency, 4);
	assert_int_equal(script.fail_status, 503);
	assert_string_equal(script.fail_text, "no");
	assert_int_equal(script.fail_after_tokens, 6);
	assert_true(script.hang);
	assert_int_equal(script.hang_at_token, 7);
	assert_int_equal(engine_script_parse(STR("{}"), arena, &script, &error), DB_OK);
	assert_null(script.text);
	arena_free(arena);
}

static void a_wrong_script_is_refused_with_the_field(void **state)
{
	(void)state;
	static const char *const wrong[] = {"[]",
	                                    "nope",
	                                    "{\"txet\":\"typo\"}",
	                                    "{\"tokens\":-1}",
	                                    "{\"tokens\":1.5}",
	                                    "{\"fail_status\":200}",
	                                    "{\"hang\":1}",
	                                    "{\"text\":\"a\\u0000b\"}",
	                                    "{\"first_delay_ms\":99999999999}"};
	struct arena *arena = arena_new(0);
	struct engine_script script;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct error error = {0};
		assert_int_equal(engine_script_parse(str_of(wrong[i]), arena, &script, &error), DB_E_INVALID);
		assert_true(error.text[0] != '\0');
	}
	struct error error;
	engine_script_parse(STR("{\"txet\":\"typo\"}"), arena, &script, &error);
	assert_non_null(strstr(error.text, "txet"));
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(text_is_given_word_by_word_with_exact_usage),
	    cmocka_unit_test(words_are_repeated_or_grouped_to_the_number_of_tokens),
	    cmocka_unit_test(without_text_the_answer_depends_on_the_question_only),
	    cmocka_unit_test(max_tokens_ends_with_length),
	    cmocka_unit_test(a_stop_string_across_words_ends_the_answer_before_it),
	    cmocka_unit_test(a_fault_comes_after_the_set_number_of_tokens),
	    cmocka_unit_test(a_hanging_engine_says_nothing_until_cancelled),
	    cmocka_unit_test(an_engine_that_hangs_at_a_token_stops_for_all_calls_and_hears_no_cancel),
	    cmocka_unit_test(cancel_after_text_finishes_with_partial_usage),
	    cmocka_unit_test(a_paused_call_stands_still_while_others_go_on),
	    cmocka_unit_test(calls_above_the_concurrency_wait_and_the_queue_is_bounded),
	    cmocka_unit_test(a_thousand_calls_run_side_by_side),
	    cmocka_unit_test(calls_may_be_touched_while_they_end),
	    cmocka_unit_test(a_script_is_read_from_json),
	    cmocka_unit_test(a_wrong_script_is_refused_with_the_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
