/* Guessing ahead with real models: no answer may be another than without. Texts stay short, because from 256 tokens on a lone
 * sequence is rounded in another way than a batch, guesses or not. */
#include "collect.h"

#include "core/log.h"
#include "provider/engine/engine_llama.h"

#include <unistd.h>

#define SMOL  TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define GEMMA TEST_SOURCE_DIR "/build/deps/models/gemma-3-270m-q4_k_m.gguf"

#define SMOL_CONTEXT 8192

/* Much of the answer can be copied. */
static const char copying[] = "Repeat this list word by word, twice: red ship, blue ship, green ship, white ship, black ship.";
static const char telling[] = "Tell me a story about a lighthouse.";

static struct engine *plain, *guessing;

static struct engine *load(const char *path, enum engine_speculation speculation, uint32_t sequences, uint32_t context)
{
	struct error error = {.text = ""};
	struct engine_llama_options options = {
	    .model_path = path, .threads = 1, .max_sequences = sequences, .context_tokens = context, .speculation = speculation};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine)
		fail_msg("%s", error.text);
	return engine;
}

static void open_both(const char *path)
{
	plain = load(path, ENGINE_SPECULATE_NEVER, 4, 1024);
	guessing = load(path, ENGINE_SPECULATE_ALWAYS, 4, 1024);
}

static void close_both(void)
{
	engine_free(plain);
	engine_free(guessing);
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	open_both(SMOL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close_both();
	return 0;
}

static uint64_t guesses_right(struct engine *engine)
{
	struct engine_capacity capacity;
	engine_capacity(engine, &capacity);
	return capacity.guesses_right;
}

/* Asks both; everything that a consumer sees is the same. */
static void same_answers(const struct request *request)
{
	struct collector a, b;
	run(plain, request, &a);
	run(guessing, request, &b);
	assert_int_equal(a.status, 0);
	assert_int_equal(b.status, 0);
	assert_string_equal(content_of(&a), content_of(&b));
	assert_true(str_eq(buf_str(&a.tool_calls), buf_str(&b.tool_calls)));
	assert_int_equal(a.logprobs.len == 0, b.logprobs.len == 0);
	assert_int_equal(a.finish, b.finish);
	assert_int_equal(a.usage.completion_tokens, b.usage.completion_tokens);
	assert_int_equal(a.deltas, b.deltas);
	collector_free(&a);
	collector_free(&b);
}

static struct request request_for(const char *text, int64_t tokens)
{
	struct request request = ask(text);
	request.chat.max_tokens = tokens;
	request.chat.sampling.ignore_eos = true;
	return request;
}

static void greedy_answers_are_the_same_and_take_fewer_steps(void **state)
{
	(void)state;
	const char *const texts[] = {copying, telling};
	uint64_t before = guesses_right(guessing), steps = ((struct llama_engine *)guessing)->steps;
	for (size_t i = 0; i < 2; i++) {
		struct request request = request_for(texts[i], 70);
		same_answers(&request);
		request_free(&request);
	}
	uint64_t right = guesses_right(guessing) - before;
	assert_true(right > 10);
	assert_true(((struct llama_engine *)guessing)->steps - steps <= 2 * 70 + 4 - right);
	assert_int_equal(guesses_right(plain), 0);
}

static void drawn_answers_are_the_same_with_the_same_seed(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		struct request request = request_for(seed % 2 ? copying : telling, 50);
		struct chat_sampling *sampling = &request.chat.sampling;
		sampling->has_temperature = sampling->has_seed = sampling->has_top_p = true;
		sampling->temperature = 0.8;
		sampling->top_p = 0.95;
		sampling->seed = seed;
		same_answers(&request);
		request_free(&request);
	}
}

static void penalties_biases_and_log_probabilities_see_only_what_was_chosen(void **state)
{
	(void)state;
	struct chat_logit_bias bias = {.token = 260, .bias = -5};
	struct request request = request_for(copying, 60);
	struct chat_sampling *sampling = &request.chat.sampling;
	sampling->has_repetition_penalty = sampling->has_frequency_penalty = true;
	sampling->repetition_penalty = 1.05;
	sampling->frequency_penalty = 0.1;
	sampling->biases = &bias;
	sampling->bias_count = 1;
	sampling->logprobs = true;
	sampling->top_logprobs = 3;
	same_answers(&request);
	request_free(&request);
}

static void an_answer_ends_where_it_did(void **state)
{
	(void)state;
	struct request ended = ask("Say \"ship ship ship ship ship\"."), stopped = request_for(copying, 60);
	ended.chat.max_tokens = 40;
	same_answers(&ended);
	add_stop(&stopped, "white sh");
	same_answers(&stopped);
	request_free(&ended);
	request_free(&stopped);
	for (int64_t tokens = 1; tokens <= 8; tokens += 3) {
		struct request request = request_for(copying, tokens);
		same_answers(&request);
		request_free(&request);
	}
}

static void a_grammar_judges_every_guess(void **state)
{
	(void)state;
	static const char schema[] =
	    "{\"type\":\"array\",\"minItems\":3,\"maxItems\":3,\"items\":{\"type\":\"object\",\"properties\":{"
	    "\"ship\":{\"type\":\"string\",\"maxLength\":8},\"size\":{\"type\":\"integer\",\"maximum\":99}},"
	    "\"required\":[\"ship\",\"size\"],\"additionalProperties\":false}}";
	uint64_t before = guesses_right(guessing);
	struct request request = ask("Name six ships and their sizes.");
	struct json_doc *doc = json_parse(str_of(schema), request.arena, NULL);
	request.chat.format = CHAT_FORMAT_JSON_SCHEMA;
	request.chat.schema = json_root(doc);
	request.chat.max_tokens = 80;
	same_answers(&request);
	assert_true(guesses_right(guessing) > before);
	request_free(&request);
}

static void run_side_by_side(struct engine *engine, const struct request *request, struct collector *c, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		collector_init(&c[i]);
		submit(engine, request, &c[i]);
		wait_deltas(&c[i], 1); /* a common prompt of many tokens would be rounded in another way */
	}
	for (size_t i = 0; i < count; i++)
		wait_end(&c[i]);
}

static void answers_side_by_side_each_get_their_own_tokens(void **state)
{
	(void)state;
	struct collector alone, c[2];
	struct request request = request_for(copying, 40);
	struct engine *apart = load(SMOL, ENGINE_SPECULATE_ALWAYS, 2, 2 * SMOL_CONTEXT); /* each its own cells */
	run(plain, &request, &alone);
	run_side_by_side(apart, &request, c, 2);
	assert_true(guesses_right(apart) > 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(c[i].usage.completion_tokens, 40);
		assert_string_equal(content_of(&c[i]), content_of(&alone));
		collector_free(&c[i]);
	}
	collector_free(&alone);
	engine_free(apart);
	request_free(&request);
}

/* In common cells an answer is rounded by where its tokens came to lie, so the words may be others. */
static void answers_in_common_cells_are_whole(void **state)
{
	(void)state;
	struct collector c[3];
	struct request request = request_for(copying, 30);
	run_side_by_side(guessing, &request, c, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(c[i].status, 0);
		assert_int_equal(c[i].usage.completion_tokens, 30);
		collector_free(&c[i]);
	}
	request.chat.n = 3;
	run(guessing, &request, &c[0]);
	assert_int_equal(c[0].usage.completion_tokens, 90);
	collector_free(&c[0]);
	request_free(&request);
}

static void a_cancelled_or_paused_answer_takes_no_more_guesses(void **state)
{
	(void)state;
	struct collector whole, c;
	struct request request = request_for(copying, 60);
	run(plain, &request, &whole);
	for (int after = 20; after < 40; after += 9) {
		collector_init(&c);
		c.cancel_after_deltas = after;
		submit(guessing, &request, &c);
		wait_end(&c);
		assert_int_equal(c.finish, ENGINE_FINISH_CANCELLED);
		assert_int_equal(c.deltas, after);
		collector_free(&c);
	}
	collector_init(&c);
	submit(guessing, &request, &c);
	for (int pauses = 1; pauses <= 3; pauses++) {
		wait_deltas(&c, pauses * 15);
		engine_pause(c.call);
		engine_resume(c.call);
	}
	wait_end(&c);
	assert_string_equal(content_of(&c), content_of(&whole));
	collector_free(&c);
	collector_free(&whole);
	request_free(&request);
}

static void a_model_with_sliding_windows_takes_its_guesses_back(void **state)
{
	(void)state;
	if (access(GEMMA, R_OK))
		skip();
	close_both();
	open_both(GEMMA);
	uint64_t before = guesses_right(guessing);
	struct request request = request_for(copying, 60);
	same_answers(&request);
	assert_true(guesses_right(guessing) > before);
	request_free(&request);
}

/* What steps with more rows were seen to cost decides, not that there is something to guess. */
static void guessing_stops_by_itself_where_rows_are_dear(void **state)
{
	(void)state;
	uint64_t guessed[2];
	for (int dear = 0; dear < 2; dear++) {
		struct engine *engine = load(SMOL, ENGINE_SPECULATE_WHERE_IT_PAYS, 1, 1024);
		struct engine_draft_cost *cost = &((struct llama_engine *)engine)->draft_cost;
		struct request request = request_for(copying, 40);
		struct engine_capacity capacity;
		struct collector c;
		cost->steps = 1;
		for (size_t rows = 1; rows <= ENGINE_DRAFT_ROWS; rows++) {
			cost->us[rows] = (rows > 1) == dear ? 1e12 : 1e3; /* far from all that will be measured */
			cost->seen_at[rows] = 1;
		}
		run(engine, &request, &c);
		assert_int_equal(c.status, 0);
		do
			engine_capacity(engine, &capacity);
		while (capacity.running || capacity.waiting);
		guessed[dear] = capacity.tokens_guessed;
		collector_free(&c);
		request_free(&request);
		engine_free(engine);
	}
	assert_true(guessed[0] > 0);
	assert_int_equal(guessed[1], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(greedy_answers_are_the_same_and_take_fewer_steps),
	    cmocka_unit_test(drawn_answers_are_the_same_with_the_same_seed),
	    cmocka_unit_test(penalties_biases_and_log_probabilities_see_only_what_was_chosen),
	    cmocka_unit_test(an_answer_ends_where_it_did),
	    cmocka_unit_test(a_grammar_judges_every_guess),
	    cmocka_unit_test(answers_side_by_side_each_get_their_own_tokens),
	    cmocka_unit_test(answers_in_common_cells_are_whole),
	    cmocka_unit_test(a_cancelled_or_paused_answer_takes_no_more_guesses),
	    cmocka_unit_test(a_model_with_sliding_windows_takes_its_guesses_back),
	    cmocka_unit_test(guessing_stops_by_itself_where_rows_are_dear),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
