/* Rows of one batch keep to themselves, on the real models: the faults that the engine before this one had (inference 2.5), and
 * seeds alone and among many. */
#include "llama_fixture.h"

#include <math.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

static struct request plain(const char *text, int64_t max_tokens)
{
	struct request request = {.arena = arena_new(0)};
	struct buf json;
	struct json_writer w;
	buf_init(&json, 1 << 20);
	json_writer_init(&w, &json);
	json_begin_array(&w);
	json_str(&w, str_of(text));
	json_end_array(&w);
	struct json_doc *doc = json_parse(arena_str(request.arena, buf_str(&json)), request.arena, NULL);
	assert_non_null(doc);
	buf_free(&json);
	struct json_iter first = json_iter(json_root(doc));
	request.chat = (struct chat_request){
	    .root = json_root(doc), .prompt = json_next(&first, NULL), .stream = true, .n = 1, .max_tokens = max_tokens};
	request.chat.sampling.ignore_eos = true;
	return request;
}

static char *story(size_t sentences)
{
	static const char sentence[] = "The sea was calm and the small boat went on to the north. ";
	char *text = calloc(sentences + 1, sizeof sentence);
	for (size_t i = 0; i < sentences; i++)
		memcpy(text + i * (sizeof sentence - 1), sentence, sizeof sentence);
	return text;
}

/* The log probability of the first token that was chosen. Fails where it is no number. */
static double first_logprob(const struct collector *c)
{
	size_t end = 0;
	while (end < c->logprobs.len && (c->logprobs.at[end] != '}' || c->logprobs.at[end - 1] != 'l'))
		end++; /* the first object of those that stand one behind the other ends with "refusal":null} */
	struct json_doc *doc = json_parse((struct str){c->logprobs.at, end + 1}, NULL, NULL);
	assert_non_null(doc);
	struct json_iter entries = json_iter(json_get(json_root(doc), "content"));
	double out = 0;
	assert_true(json_as_double(json_get(json_next(&entries, NULL), "logprob"), &out));
	json_free(doc);
	return out;
}

static void ask_for_logprobs(struct request *request)
{
	request->chat.sampling.logprobs = true;
	request->chat.sampling.top_logprobs = 1;
}

/* Rows of different lengths in one batch: no row may read another's mask or position, and every probability is a number. What
 * the CPU back end rounds otherwise in a larger batch is far below what a wrong row would do. */
static void mixed_lengths_share_a_batch(const char *model)
{
	static const size_t sentences[] = {1, 3, 6, 12, 2};
	enum { COUNT = sizeof sentences / sizeof *sentences };
	struct engine *engine = load_file(model, COUNT, 2048);
	struct request requests[COUNT];
	double alone[COUNT], furthest = 0;
	struct collector c[COUNT];
	for (int i = 0; i < COUNT; i++) {
		char *text = story(sentences[i]);
		requests[i] = plain(text, 6);
		free(text);
		ask_for_logprobs(&requests[i]);
		run(engine, &requests[i], &c[i]);
		alone[i] = first_logprob(&c[i]);
		collector_free(&c[i]);
	}
	for (int i = 0; i < COUNT; i++) {
		collector_init(&c[i]);
		submit(engine, &requests[i], &c[i]);
	}
	for (int i = 0; i < COUNT; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 0);
		assert_int_equal(c[i].usage.completion_tokens, 6);
		furthest = fmax(furthest, fabs(first_logprob(&c[i]) - alone[i]));
		assert_null(memmem(c[i].logprobs.at, c[i].logprobs.len, "prob\":null", 10)); /* how JSON writes what is no number */
		collector_free(&c[i]);
		request_free(&requests[i]);
	}
	engine_free(engine);
	if (furthest > 0.3)
		fail_msg("a row's log probability is off by %g beside others", furthest);
}

static void rows_of_mixed_lengths_keep_to_themselves(void **state)
{
	(void)state;
	mixed_lengths_share_a_batch(MODEL);
}

static void rows_of_mixed_lengths_keep_to_themselves_with_a_sliding_window(void **state)
{
	(void)state;
	mixed_lengths_share_a_batch(GEMMA);
}

static void four_bit_weights_with_a_window_answer_as_without_fused_attention(void **state)
{
	(void)state;
	struct engine *engine = load_file(GEMMA, 1, 1024);
	char *text = story(5);
	uint64_t prompt_tokens;
	char *expected = reference_answer(engine, text, 24, LLAMA_FLASH_ATTN_TYPE_DISABLED, &prompt_tokens);
	struct request request = plain(text, 24);
	char *said = answer(engine, &request);
	assert_true(strlen(expected) > 24);
	assert_memory_equal(said, expected, 24);
	free(said);
	free(expected);
	free(text);
	request_free(&request);
	engine_free(engine);
}

#ifdef __GLIBC__
static size_t in_use_after(struct request *request, int64_t tokens)
{
	struct engine_capacity idle;
	request->chat.max_tokens = tokens;
	free(answer(shared, request));
	wait_idle(shared, &idle);
	return mallinfo2().uordblks;
}

/* A leak of one buffer in each step, however small, would show in the longer answer and not in the shorter. */
static void steps_leave_nothing_behind(void **state)
{
	(void)state;
	struct request request = ask_for(question, 0);
	request.chat.sampling.ignore_eos = true;
	in_use_after(&request, 110); /* what is built once */
	size_t start = in_use_after(&request, 10), few = in_use_after(&request, 10), many = in_use_after(&request, 110);
	size_t of_few = few > start ? few - start : 0, of_many = many > few ? many - few : 0;
	if (of_many > of_few + 100 * 16)
		fail_msg("an answer of 10 tokens left %zu bytes, one of 110 tokens %zu", of_few, of_many);
	request_free(&request);
}
#endif

/* --- seeds --- */

/* The draws of a call do not depend on who runs beside it. What may: the CPU back end rounds rows of large batches otherwise,
 * and where two tokens are nearly as likely that turns a draw. So some of the texts part on the way; were draws mixed up
 * between calls, none would be alike. */
static void a_seed_draws_alike_alone_and_among_thirty_two(void **state)
{
	(void)state;
	enum { COUNT = 32, SEEDS = 8, TOKENS = 8 };
	struct engine *engine = load(COUNT, 4096);
	struct request request = plain("The sea was calm", TOKENS);
	struct chat_sampling *s = &request.chat.sampling;
	s->has_temperature = s->has_seed = true;
	s->temperature = 0.8;
	struct collector *c = calloc(COUNT, sizeof *c);
	char *alone[SEEDS];
	for (uint64_t i = 0; i < SEEDS; i++) {
		s->seed = 100 + i;
		alone[i] = answer(engine, &request);
	}
	assert_string_not_equal(alone[0], alone[1]);
	uint64_t steps = inside(engine)->steps;
	for (uint64_t i = 0; i < COUNT; i++) {
		collector_init(&c[i]);
		s->seed = 100 + i % SEEDS;
		submit(engine, &request, &c[i]);
	}
	int same = 0;
	for (int i = 0; i < COUNT; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 0);
		same += strcmp(content_of(&c[i]), alone[i % SEEDS]) == 0;
		collector_free(&c[i]);
	}
	assert_true(inside(engine)->steps - steps < COUNT * TOKENS); /* they did share steps */
	print_message("%d of %d answers were equal to the end\n", same, COUNT);
	assert_true(same >= COUNT / 4);
	for (int i = 0; i < SEEDS; i++)
		free(alone[i]);
	free(c);
	request_free(&request);
	engine_free(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rows_of_mixed_lengths_keep_to_themselves),
	    cmocka_unit_test(rows_of_mixed_lengths_keep_to_themselves_with_a_sliding_window),
	    cmocka_unit_test(four_bit_weights_with_a_window_answer_as_without_fused_attention),
#ifdef __GLIBC__
	    cmocka_unit_test(steps_leave_nothing_behind),
#endif
	    cmocka_unit_test(a_seed_draws_alike_alone_and_among_thirty_two),
	};
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, 1); /* or what other threads hold is not counted */
#endif
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
