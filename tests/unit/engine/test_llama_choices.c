/* Several answers to one request, on the real model. */
#include "llama_fixture.h"

struct choices {
	struct collector c;
	struct buf text[ENGINE_MAX_CHOICES];
	enum engine_finish finish[ENGINE_MAX_CHOICES];
	int ended[ENGINE_MAX_CHOICES];
};

static void on_choice_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	struct choices *all = user;
	assert_true(delta->choice < ENGINE_MAX_CHOICES);
	buf_append_str(&all->text[delta->choice], delta->content);
	all->ended[delta->choice] += delta->ended;
	if (delta->ended)
		all->finish[delta->choice] = delta->finish;
	on_delta(call, delta, &all->c);
}

static void run_choices(struct engine *engine, const struct request *request, struct choices *all)
{
	static const struct engine_callbacks callbacks = {on_started, on_choice_delta, on_finish, on_error};
	*all = (struct choices){.ended = {0}};
	collector_init(&all->c);
	for (int i = 0; i < ENGINE_MAX_CHOICES; i++)
		buf_init(&all->text[i], 1 << 20);
	struct error error;
	const struct engine_request submitted = {.chat = &request->chat};
	assert_int_equal(engine_submit(engine, &submitted, &callbacks, all, &all->c.call, &error), 0);
	wait_end(&all->c);
}

static void choices_free(struct choices *all)
{
	for (int i = 0; i < ENGINE_MAX_CHOICES; i++)
		buf_free(&all->text[i]);
	collector_free(&all->c);
}

static void several_answers_share_one_run_of_the_prompt(void **state)
{
	(void)state;
	enum { N = 3 };
	struct request request = ask_for(question, 12);
	struct collector one;
	run(shared, &request, &one);
	request.chat.n = N;
	struct choices all;
	uint64_t before = inside(shared)->steps;
	run_choices(shared, &request, &all);
	assert_int_equal(all.c.status, 0);
	assert_int_equal(all.c.started, 1);
	assert_int_equal(all.c.usage.prompt_tokens, one.usage.prompt_tokens);
	assert_int_equal(all.c.usage.completion_tokens, N * 12);
	assert_true(inside(shared)->steps - before <= 16); /* the prompt's, and eleven more for all three together */
	for (int i = 0; i < N; i++) {
		assert_int_equal(all.ended[i], 1);
		assert_int_equal(all.finish[i], ENGINE_FINISH_LENGTH);
		assert_true(all.text[i].len >= 8 && one.content.len >= 8);
		assert_memory_equal(all.text[i].at, one.content.at, 8); /* greedy: all the same but for rounding */
	}
	choices_free(&all);
	collector_free(&one);
	request_free(&request);
}

static void several_answers_differ_by_their_seeds_and_come_again(void **state)
{
	(void)state;
	struct request request = ask_for(question, 12);
	struct chat_sampling *s = &request.chat.sampling;
	s->has_temperature = s->has_seed = true;
	s->temperature = 1.5;
	s->seed = 11;
	request.chat.n = 2;
	struct choices first, second;
	run_choices(shared, &request, &first);
	run_choices(shared, &request, &second);
	assert_int_equal(first.c.status, 0);
	assert_true(first.text[0].len != first.text[1].len || memcmp(first.text[0].at, first.text[1].at, first.text[0].len) != 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(first.text[i].len, second.text[i].len);
		assert_memory_equal(first.text[i].at, second.text[i].at, first.text[i].len);
	}
	choices_free(&first);
	choices_free(&second);
	request_free(&request);
}

static void more_answers_than_places_come_one_after_the_other(void **state)
{
	(void)state;
	struct engine *engine = load(2, 1024);
	struct request request = ask_for(question, 5);
	request.chat.n = 5;
	struct choices all;
	run_choices(engine, &request, &all);
	assert_int_equal(all.c.status, 0);
	assert_int_equal(all.c.usage.completion_tokens, 25);
	for (int i = 0; i < 5; i++)
		assert_int_equal(all.ended[i], 1);
	choices_free(&all);
	struct collector c; /* cancelling ends them all, those that wait too */
	collector_init(&c);
	c.cancel_after_deltas = 3;
	request.chat.max_tokens = 400;
	request.chat.sampling.ignore_eos = true;
	submit(engine, &request, &c);
	wait_end(&c);
	assert_int_equal(c.finish, ENGINE_FINISH_CANCELLED);
	assert_true(c.usage.completion_tokens < 12);
	collector_free(&c);
	struct engine_capacity capacity;
	wait_idle(engine, &capacity);
	assert_int_equal(capacity.budget_used_tokens, 0);
	request_free(&request);
	engine_free(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(several_answers_share_one_run_of_the_prompt),
	    cmocka_unit_test(several_answers_differ_by_their_seeds_and_come_again),
	    cmocka_unit_test(more_answers_than_places_come_one_after_the_other),
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
