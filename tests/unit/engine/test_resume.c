/* An answer that began on one engine goes on, on another, to the last byte as it would have gone on: killed after any token. */
#include "collect.h"

#include "core/log.h"

#define MODEL        TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define DELTAS_MAX   512
#define TOKENS_MAX   2048
#define LLAMA_TOKENS 20

/* What was said, delta by delta, and which tokens lay behind it. */
struct heard {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct engine_call *call;
	struct buf said, repeated; /* content; of replayed deltas apart */
	size_t said_at[DELTAS_MAX], tokens_at[DELTAS_MAX], deltas;
	int32_t tokens[TOKENS_MAX];
	size_t token_count;
	uint64_t print;
	bool ended, late_repeat;
	enum engine_finish finish;
	int status;
	struct chat_usage usage;
};

static void hear_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	struct heard *h = user;
	(void)call;
	pthread_mutex_lock(&h->lock);
	h->late_repeat |= delta->replayed && h->said.len > 0;
	buf_append_str(delta->replayed ? &h->repeated : &h->said, delta->content);
	for (size_t i = 0; i < delta->sampled.count && h->token_count < TOKENS_MAX; i++)
		h->tokens[h->token_count++] = delta->sampled.tokens[i];
	h->print = delta->sampled.print;
	if (h->deltas < DELTAS_MAX) {
		h->said_at[h->deltas] = h->said.len;
		h->tokens_at[h->deltas++] = h->token_count;
	}
	pthread_mutex_unlock(&h->lock);
}

static void hear_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	struct heard *h = user;
	(void)call;
	pthread_mutex_lock(&h->lock);
	h->ended = true;
	h->finish = finish;
	h->usage = *usage;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

static void hear_error(struct engine_call *call, int status, enum engine_reason reason, const char *text,
                       const struct chat_usage *so_far, void *user)
{
	(void)reason;
	(void)text;
	((struct heard *)user)->status = status;
	hear_finish(call, ENGINE_FINISH_CANCELLED, so_far, user);
}

static const struct engine_callbacks hearing = {.on_delta = hear_delta, .on_finish = hear_finish, .on_error = hear_error};

static void hear(struct engine *engine, const struct request *request, const struct chat_resume *resume, struct heard *h)
{
	struct error error;
	struct engine_request what = {.chat = &request->chat};
	*h = (struct heard){0};
	if (resume)
		what.resume = *resume;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	buf_init(&h->said, 1 << 20);
	buf_init(&h->repeated, 1 << 20);
	int status = engine_submit(engine, &what, &hearing, h, &h->call, &error);
	if (status) {
		h->status = status;
		return;
	}
	pthread_mutex_lock(&h->lock);
	while (!h->ended)
		pthread_cond_wait(&h->changed, &h->lock);
	pthread_mutex_unlock(&h->lock);
	engine_call_release(h->call);
}

static void heard_free(struct heard *h)
{
	buf_free(&h->said);
	buf_free(&h->repeated);
}

/* The provider dies after every `step`-th delta; what the next one says must be the rest. */
static void continue_after(struct engine *first, struct engine *second, const struct request *request, size_t step)
{
	struct heard whole, rest;
	hear(first, request, NULL, &whole);
	assert_int_equal(whole.status, 0);
	assert_true(whole.deltas > 1 && whole.deltas < DELTAS_MAX);
	for (size_t i = 0; i < whole.deltas; i += step) {
		struct chat_resume resume = {whole.print, whole.tokens, whole.tokens_at[i]};
		hear(second, request, &resume, &rest);
		assert_int_equal(rest.status, 0);
		assert_false(rest.late_repeat);
		assert_int_equal(rest.repeated.len, whole.said_at[i]);
		assert_memory_equal(rest.repeated.at, whole.said.at, rest.repeated.len);
		assert_int_equal(rest.said.len, whole.said.len - whole.said_at[i]);
		if (rest.said.len)
			assert_memory_equal(rest.said.at, whole.said.at + whole.said_at[i], rest.said.len);
		assert_int_equal(rest.finish, whole.finish);
		assert_int_equal(rest.usage.completion_tokens, whole.usage.completion_tokens);
		assert_int_equal(rest.usage.prompt_tokens, whole.usage.prompt_tokens);
		heard_free(&rest);
	}
	heard_free(&whole);
}

/* --- scripted --- */

static struct engine *scripted(const char *text, uint32_t tokens)
{
	struct error error;
	struct engine_script script = {.text = text, .tokens = tokens};
	struct engine *engine = engine_scripted_new(&script, &error);
	assert_non_null(engine);
	return engine;
}

static void a_scripted_answer_goes_on_after_any_token(void **state)
{
	(void)state;
	struct engine *first = scripted("one two \xc3\xa4\xe2\x82\xac three four", 60);
	struct engine *second = scripted("one two \xc3\xa4\xe2\x82\xac three four", 60);
	struct request plain = ask("x"), stopped = ask("x"), short_one = ask("x");
	add_stop(&stopped, "four one two \xc3\xa4\xe2\x82\xac three four one");
	short_one.chat.max_tokens = 7;
	continue_after(first, second, &plain, 1);
	continue_after(first, second, &short_one, 1);
	struct heard whole;
	hear(first, &stopped, NULL, &whole);
	heard_free(&whole);
	request_free(&plain);
	request_free(&stopped);
	request_free(&short_one);
	engine_free(first);
	engine_free(second);
}

static void a_begun_stop_string_is_neither_lost_nor_said_twice(void **state)
{
	(void)state;
	struct engine *first = scripted("a b c d e f g", 0), *second = scripted("a b c d e f g", 0);
	struct request request = ask("x");
	add_stop(&request, "c d x");
	add_stop(&request, "f g");
	continue_after(first, second, &request, 1);
	request_free(&request);
	engine_free(first);
	engine_free(second);
}

static void what_would_have_gone_another_way_is_refused(void **state)
{
	(void)state;
	struct engine *first = scripted("one two three", 30), *other = scripted("one two four", 30);
	struct request request = ask("x");
	struct heard whole, rest;
	hear(first, &request, NULL, &whole);
	struct chat_resume resume = {whole.print, whole.tokens, 5};
	hear(other, &request, &resume, &rest);
	assert_int_equal(rest.status, 409);
	assert_int_equal(rest.said.len + rest.repeated.len, 0);
	heard_free(&rest);
	int32_t wrong[] = {1, 2, 3};
	resume = (struct chat_resume){whole.print, wrong, 3};
	hear(first, &request, &resume, &rest);
	assert_int_equal(rest.status, 409);
	heard_free(&rest);
	heard_free(&whole);
	request_free(&request);
	engine_free(first);
	engine_free(other);
}

/* --- a real model --- */

static struct engine *first_llama, *second_llama;

static struct engine *load(void)
{
	struct error error = {0};
	struct engine_llama_options options = {.model_path = MODEL, .threads = 1, .max_sequences = 2, .context_tokens = 1024};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine)
		fail_msg("%s", error.text);
	return engine;
}

static int load_both(void **state)
{
	(void)state;
	log_set_level(LOG_WARN);
	first_llama = load();
	second_llama = load();
	return 0;
}

static int free_both(void **state)
{
	(void)state;
	engine_free(first_llama);
	engine_free(second_llama);
	return 0;
}

static struct request question(void)
{
	struct request request = ask("Tell me three things about the sea.");
	request.chat.max_tokens = LLAMA_TOKENS;
	return request;
}

static void a_greedy_answer_goes_on(void **state)
{
	(void)state;
	struct request request = question();
	continue_after(first_llama, second_llama, &request, 9);
	request_free(&request);
}

static void a_drawn_answer_goes_on_with_the_same_draws(void **state)
{
	(void)state;
	struct request request = question();
	struct chat_sampling *s = &request.chat.sampling;
	s->has_temperature = s->has_seed = s->has_top_p = s->has_top_k = true;
	s->temperature = 1.1;
	s->seed = 20261123;
	s->top_p = 0.95;
	s->top_k = 60;
	s->has_frequency_penalty = s->has_presence_penalty = s->has_repetition_penalty = true;
	s->frequency_penalty = 0.4;
	s->presence_penalty = 0.3;
	s->repetition_penalty = 1.1;
	continue_after(first_llama, second_llama, &request, 9);
	request_free(&request);
}

static void an_answer_within_a_grammar_goes_on_within_it(void **state)
{
	(void)state;
	struct request request = question();
	struct chat_sampling *s = &request.chat.sampling;
	s->has_temperature = s->has_seed = true;
	s->temperature = 0.9;
	s->seed = 5;
	request.chat.format = CHAT_FORMAT_JSON_OBJECT;
	continue_after(first_llama, second_llama, &request, 9);
	request_free(&request);
}

static void stop_strings_hold_across_the_seam(void **state)
{
	(void)state;
	struct request request = question();
	struct heard whole;
	hear(first_llama, &request, NULL, &whole);
	char stop[13] = {0};
	assert_true(whole.said.len > 40);
	memcpy(stop, whole.said.at + whole.said.len - 24, sizeof stop - 1);
	heard_free(&whole);
	add_stop(&request, stop);
	continue_after(first_llama, second_llama, &request, 9);
	request_free(&request);
}

static void another_prompt_is_no_place_to_go_on(void **state)
{
	(void)state;
	struct request request = question(), other = ask("Something else.");
	struct heard whole, rest;
	other.chat.max_tokens = LLAMA_TOKENS;
	hear(first_llama, &request, NULL, &whole);
	struct chat_resume resume = {whole.print, whole.tokens, 4};
	hear(second_llama, &other, &resume, &rest);
	assert_int_equal(rest.status, 409);
	heard_free(&rest);
	int32_t wild[] = {INT32_MAX, 1};
	resume = (struct chat_resume){whole.print, wild, 2};
	hear(second_llama, &request, &resume, &rest);
	assert_int_equal(rest.status, 409);
	heard_free(&rest);
	heard_free(&whole);
	request_free(&request);
	request_free(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_scripted_answer_goes_on_after_any_token),
	    cmocka_unit_test(a_begun_stop_string_is_neither_lost_nor_said_twice),
	    cmocka_unit_test(what_would_have_gone_another_way_is_refused),
	    cmocka_unit_test_setup(a_greedy_answer_goes_on, load_both),
	    cmocka_unit_test(a_drawn_answer_goes_on_with_the_same_draws),
	    cmocka_unit_test(an_answer_within_a_grammar_goes_on_within_it),
	    cmocka_unit_test(stop_strings_hold_across_the_seam),
	    cmocka_unit_test_teardown(another_prompt_is_no_place_to_go_on, free_both),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
