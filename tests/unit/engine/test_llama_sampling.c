/* Sampling parameters on the real model: SmolLM2-135M-Instruct. */
#include "llama_fixture.h"

static void narrow_sampling_equals_greedy(void **state)
{
	(void)state;
	struct request request = ask_for(question, 12);
	char *greedy = answer(shared, &request);
	struct chat_sampling *s = &request.chat.sampling;
	s->has_temperature = s->has_top_k = true;
	s->temperature = 1.5;
	s->top_k = 1;
	char *top_k = answer(shared, &request);
	assert_string_equal(top_k, greedy);
	s->has_top_k = false;
	s->has_top_p = true;
	s->top_p = 0;
	char *top_p = answer(shared, &request);
	assert_string_equal(top_p, greedy);
	s->has_top_p = false;
	s->has_min_p = true;
	s->min_p = 1;
	char *min_p = answer(shared, &request);
	assert_string_equal(min_p, greedy);
	free(greedy);
	free(top_k);
	free(top_p);
	free(min_p);
	request_free(&request);
}

static void logit_bias_forbids_and_forces_tokens(void **state)
{
	(void)state;
	struct llama_engine *engine = inside(shared);
	llama_token token;
	assert_int_equal(llama_tokenize(engine->vocab, "yes", 3, &token, 1, false, false), 1);
	struct chat_logit_bias bias = {token, 100};
	struct request request = ask_for(question, 4);
	request.chat.sampling.biases = &bias;
	request.chat.sampling.bias_count = 1;
	char *forced = answer(shared, &request);
	assert_string_equal(forced, "yesyesyesyes");
	free(forced);

	bias.token = llama_vocab_n_tokens(engine->vocab);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 400);
	assert_non_null(strstr(c.text, "logit_bias"));
	collector_free(&c);
	request_free(&request);
}

static void penalties_break_repetition(void **state)
{
	(void)state;
	struct llama_engine *engine = inside(shared);
	llama_token token;
	assert_int_equal(llama_tokenize(engine->vocab, "yes", 3, &token, 1, false, false), 1);
	struct chat_logit_bias bias = {token, 30};
	struct request request = ask_for(question, 24);
	struct chat_sampling *s = &request.chat.sampling;
	s->biases = &bias;
	s->bias_count = 1;
	char *stuck = answer(shared, &request);
	assert_non_null(strstr(stuck, "yesyesyesyesyesyes"));
	s->has_frequency_penalty = s->has_presence_penalty = s->has_repetition_penalty = true;
	s->frequency_penalty = s->presence_penalty = 2;
	s->repetition_penalty = 10;
	char *freed = answer(shared, &request);
	assert_null(strstr(freed, "yesyes"));
	free(stuck);
	free(freed);
	request_free(&request);
}

static void logprobs_cover_every_token_and_the_chosen_is_the_likeliest(void **state)
{
	(void)state;
	struct request request = ask_for(question, 6);
	request.chat.sampling.logprobs = true;
	request.chat.sampling.top_logprobs = 3;
	add_stop(&request, "no such text in the answer");
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.finish, ENGINE_FINISH_LENGTH);
	struct buf whole; /* the deltas' objects, as an array */
	buf_init(&whole, 1 << 20);
	buf_append_byte(&whole, '[');
	for (size_t i = 0; i < c.logprobs.len; i++) {
		buf_append_byte(&whole, c.logprobs.at[i]);
		if (i + 1 < c.logprobs.len && c.logprobs.at[i] == '}' && c.logprobs.at[i + 1] == '{' && c.logprobs.at[i - 1] == 'l')
			buf_append_byte(&whole, ',');
	}
	buf_append_byte(&whole, ']');
	struct json_doc *doc = json_parse(buf_str(&whole), NULL, NULL);
	assert_non_null(doc);
	size_t tokens = 0, text_at = 0;
	struct json_iter parts = json_iter(json_root(doc));
	for (json_val *part; (part = json_next(&parts, NULL));) {
		struct json_iter entries = json_iter(json_get(part, "content"));
		for (json_val *entry; (entry = json_next(&entries, NULL)); tokens++) {
			struct str token, top_token;
			double logprob, best = -1e9, top;
			assert_true(json_as_str(json_get(entry, "token"), &token));
			assert_true(json_as_double(json_get(entry, "logprob"), &logprob));
			assert_memory_equal(c.content.at + text_at, token.at, token.len);
			text_at += token.len;
			assert_int_equal(json_len(json_get(entry, "bytes")), token.len);
			struct json_iter tops = json_iter(json_get(entry, "top_logprobs"));
			assert_int_equal(json_len(json_get(entry, "top_logprobs")), 3);
			for (json_val *each; (each = json_next(&tops, NULL));) {
				assert_true(json_as_str(json_get(each, "token"), &top_token));
				assert_true(json_as_double(json_get(each, "logprob"), &top));
				best = top > best ? top : best;
			}
			assert_true(logprob <= 0 && logprob >= best - 1e-6 && logprob <= best + 1e-6);
		}
	}
	assert_int_equal(tokens, 6);
	assert_int_equal(text_at, c.content.len);
	json_free(doc);
	buf_free(&whole);
	collector_free(&c);
	request_free(&request);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(narrow_sampling_equals_greedy),
	    cmocka_unit_test(logit_bias_forbids_and_forces_tokens),
	    cmocka_unit_test(penalties_break_repetition),
	    cmocka_unit_test(logprobs_cover_every_token_and_the_chosen_is_the_likeliest),
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
