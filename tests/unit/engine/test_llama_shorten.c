/* Conversations that do not fit the context, with a real model: SmolLM2-135M-Instruct with 512 tokens of room. */
#include "llama_fixture.h"

#define CONTEXT 512

/* `turns` questions of about `words` words with answers, and a last question. */
static char *conversation(size_t from, size_t turns, size_t words)
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, 1 << 20);
	json_writer_init(&w, &text);
	json_begin_array(&w);
	json_raw(&w, STR("{\"role\":\"system\",\"content\":\"You are terse.\"}"));
	for (size_t turn = from; turn < turns; turn++) {
		char *said = long_text(words + turn % 3);
		json_begin_object(&w);
		json_put_cstr(&w, "role", "user");
		json_put_cstr(&w, "content", said);
		json_end_object(&w);
		json_raw(&w, STR("{\"role\":\"assistant\",\"content\":\"Indeed.\"}"));
		free(said);
	}
	json_raw(&w, STR("{\"role\":\"user\",\"content\":\"Name three colours.\"}"));
	json_end_array(&w);
	assert_int_equal(buf_append_byte(&text, '\0'), DB_OK);
	char *copy = strdup(text.at);
	buf_free(&text);
	return copy;
}

static struct request shortening(const char *messages, int64_t max_tokens)
{
	struct request request = request_of(messages);
	request.chat.shortens = true;
	request.chat.max_tokens = max_tokens;
	return request;
}

/* Tokens of the prompt and the answer to a conversation as it stands; 0 tokens when it does not fit. */
static uint64_t plainly(const char *messages, int64_t max_tokens, char **text)
{
	struct request request = request_of(messages);
	struct collector c;
	request.chat.max_tokens = max_tokens;
	run(shared, &request, &c);
	uint64_t tokens = c.status ? 0 : c.usage.prompt_tokens;
	*text = strdup(content_of(&c));
	collector_free(&c);
	request_free(&request);
	return tokens;
}

static void only_the_oldest_exchanges_are_left_out_and_as_few_as_possible(void **state)
{
	(void)state;
	char *all = conversation(0, 12, 60);
	struct request request = shortening(all, 16);
	struct collector c;
	run(shared, &request, &c);
	if (c.status)
		fail_msg("%d %s", c.status, c.text);
	bool found = false;
	for (size_t dropped = 1; dropped < 12 && !found; dropped++) {
		char *messages = conversation(dropped, 12, 60), *text;
		uint64_t tokens = plainly(messages, 16, &text);
		found = tokens > 0 && tokens < CONTEXT - 16;
		if (found) {
			assert_int_equal(c.usage.prompt_tokens, tokens);
			assert_string_equal(content_of(&c), text);
		}
		free(messages);
		free(text);
	}
	assert_true(found);
	assert_int_equal(c.finish == ENGINE_FINISH_LENGTH || c.finish == ENGINE_FINISH_STOP, true);
	collector_free(&c);
	request_free(&request);
	free(all);
}

static void a_quarter_is_left_for_an_answer_whose_length_nobody_limits(void **state)
{
	(void)state;
	char *all = conversation(0, 12, 60);
	struct request request = shortening(all, 8192);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_true(c.usage.prompt_tokens <= CONTEXT - CONTEXT / 4);
	assert_true(c.usage.prompt_tokens > CONTEXT / 2);
	collector_free(&c);
	request_free(&request);
	free(all);
}

static void what_fits_is_not_shortened(void **state)
{
	(void)state;
	char *messages = conversation(0, 3, 100), *text;
	uint64_t tokens = plainly(messages, 4, &text);
	struct request request = shortening(messages, 4);
	struct collector c;
	assert_true(tokens > CONTEXT / 2);
	run(shared, &request, &c);
	assert_int_equal(c.usage.prompt_tokens, tokens);
	assert_string_equal(content_of(&c), text);
	collector_free(&c);
	request_free(&request);
	free(messages);
	free(text);
}

static void a_last_message_that_alone_is_too_long_is_refused(void **state)
{
	(void)state;
	char *said = long_text(2 * CONTEXT);
	struct request request = ask_for(said, 4);
	struct collector c;
	request.chat.shortens = true;
	run(shared, &request, &c);
	assert_int_not_equal(c.status, 0);
	assert_non_null(strstr(c.text, "tokens"));
	collector_free(&c);
	request_free(&request);
	free(said);
}

static void without_the_wish_it_is_refused(void **state)
{
	(void)state;
	char *messages = conversation(0, 12, 60), *text;
	assert_int_equal(plainly(messages, 4, &text), 0);
	free(messages);
	free(text);
}

static void every_answer_of_several_has_the_same_short_prompt(void **state)
{
	(void)state;
	char *all = conversation(0, 12, 60);
	struct request request = shortening(all, 8);
	struct collector c;
	request.chat.n = 2;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_true(c.usage.prompt_tokens < CONTEXT - 8 && c.usage.prompt_tokens > CONTEXT / 2);
	collector_free(&c);
	request_free(&request);
	free(all);
}

static int start_small(void **state)
{
	(void)state;
	log_set_level(LOG_WARN);
	shared = load(2, CONTEXT);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_the_oldest_exchanges_are_left_out_and_as_few_as_possible),
	    cmocka_unit_test(a_quarter_is_left_for_an_answer_whose_length_nobody_limits),
	    cmocka_unit_test(what_fits_is_not_shortened),
	    cmocka_unit_test(a_last_message_that_alone_is_too_long_is_refused),
	    cmocka_unit_test(without_the_wish_it_is_refused),
	    cmocka_unit_test(every_answer_of_several_has_the_same_short_prompt),
	};
	return cmocka_run_group_tests(tests, start_small, stop_shared);
}
