/* The llama.cpp engine with a real model: SmolLM2-135M-Instruct. */
#include <fcntl.h>
#include <unistd.h>

#include "collect.h"

#include "core/log.h"
#include "provider/engine/engine_guard.h"
#include "provider/engine/engine_llama.h"

#define MODEL TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"

static const char question[] = "Write one sentence about the sea.";

static struct engine *shared;

static struct engine *load(uint32_t sequences, uint32_t context)
{
	struct error error = {0};
	/* one thread: llama.cpp's threads spin while they wait for each other, which is slow while other tests run beside */
	struct engine_llama_options options = {
	    .model_path = MODEL, .threads = 1, .max_sequences = sequences, .context_tokens = context};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine)
		fail_msg("%s", error.text);
	return engine;
}

static struct llama_engine *inside(struct engine *engine)
{
	return (struct llama_engine *)engine;
}

static int start_shared(void **state)
{
	(void)state;
	log_set_level(LOG_WARN);
	shared = load(8, 4096);
	return 0;
}

static int stop_shared(void **state)
{
	(void)state;
	engine_free(shared);
	return 0;
}

static struct request ask_for(const char *text, int64_t max_tokens)
{
	struct request request = ask(text);
	request.chat.max_tokens = max_tokens;
	return request;
}

/* The answer to a request that must end well; the caller frees it. */
static char *answer(struct engine *engine, const struct request *request)
{
	struct collector c;
	run(engine, request, &c);
	if (c.status)
		fail_msg("%d %s", c.status, c.text);
	assert_false(c.split_character);
	char *text = strdup(content_of(&c));
	collector_free(&c);
	return text;
}

/* --- the load --- */

static void the_model_is_described(void **state)
{
	(void)state;
	struct engine_info info;
	engine_info(shared, &info);
	assert_string_equal(info.architecture, "llama");
	assert_string_equal(info.quantization, "Q4_1");
	assert_int_equal(info.layers, 30);
	assert_int_equal(info.context_tokens, 4096);
	assert_int_equal(info.parameters, 134515008);
	assert_true(info.template_render_ok);
	assert_true(info.kv_bytes_per_token > 23039 &&
	            info.kv_bytes_per_token < 23041); /* 30 layers x 3 heads x 64 x K and V x 2 */
	struct engine_capacity capacity;
	engine_capacity(shared, &capacity);
	assert_int_equal(capacity.max_concurrency, 8);
	assert_int_equal(capacity.budget_max_tokens, 4096);
}

static void a_file_that_is_no_model_is_refused_with_a_sentence(void **state)
{
	(void)state;
	struct error error = {0};
	struct engine_llama_options options = {.model_path = TEST_SOURCE_DIR "/CMakeLists.txt"};
	assert_null(engine_llama_new(&options, &error));
	assert_int_equal(strncmp(error.text, "model load failed: ", 19), 0);
	options.model_path = "/nowhere/model.gguf";
	assert_null(engine_llama_new(&options, &error));
	assert_non_null(strstr(error.text, "/nowhere/model.gguf"));
}

static bool give_up(float fraction, void *user)
{
	*(float *)user = fraction;
	return false;
}

static void a_load_can_be_given_up(void **state)
{
	(void)state;
	struct error error = {0};
	float seen = -1;
	struct engine_llama_options options = {.model_path = MODEL, .on_progress = give_up, .user = &seen};
	assert_null(engine_llama_new(&options, &error));
	assert_true(seen >= 0);
}

/* --- answers --- */

/* The same model driven by hand: greedy decoding over the rendered prompt with plain llama.h calls. */
static char *reference_answer(const char *prompt, size_t steps, uint64_t *prompt_tokens)
{
	struct llama_engine *engine = inside(shared);
	struct llama_context_params params = llama_context_default_params();
	params.n_ctx = 1024;
	params.n_threads = params.n_threads_batch = llama_n_threads(engine->context);
	struct llama_context *context = llama_init_from_model(engine->model, params);
	assert_non_null(context);
	llama_token tokens[1024], next;
	int32_t count = llama_tokenize(engine->vocab, prompt, (int32_t)strlen(prompt), tokens, 1024, true, true);
	assert_true(count > 0);
	*prompt_tokens = (uint64_t)count;
	struct buf text;
	buf_init(&text, 1 << 20);
	struct llama_batch batch = llama_batch_get_one(tokens, count);
	for (size_t i = 0; i < steps; i++) {
		assert_int_equal(llama_decode(context, batch), 0);
		const float *logits = llama_get_logits_ith(context, -1);
		next = 0;
		for (int32_t id = 1; id < llama_vocab_n_tokens(engine->vocab); id++)
			if (logits[id] > logits[next])
				next = id;
		if (llama_vocab_is_eog(engine->vocab, next))
			break;
		char piece[256];
		buf_append(&text, piece, (size_t)llama_token_to_piece(engine->vocab, next, piece, sizeof piece, 0, false));
		batch = llama_batch_get_one(&next, 1);
	}
	llama_free(context);
	buf_append_byte(&text, '\0');
	char *copy = strdup(text.at);
	buf_free(&text);
	return copy;
}

static void greedy_answers_equal_plain_decoding_and_count_its_tokens(void **state)
{
	(void)state;
	const char prompt[] = "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nName three colours.<|im_end|>\n"
	                      "<|im_start|>assistant\n";
	uint64_t prompt_tokens;
	char *expected = reference_answer(prompt, 40, &prompt_tokens);
	struct request request = request_of("[{\"role\":\"system\",\"content\":\"You are terse.\"},"
	                                    "{\"role\":\"user\",\"content\":\"Name three colours.\"}]");
	request.chat.max_tokens = 40;
	struct collector c;
	run(shared, &request, &c);
	assert_string_equal(content_of(&c), expected);
	assert_int_equal(c.usage.prompt_tokens, prompt_tokens);
	assert_int_equal(c.started, 1);
	free(expected);
	collector_free(&c);
	request_free(&request);
}

/* Each joins when the one before has begun to decode. llama.cpp's CPU attention rounds differently for batches of 64 tokens and
 * more, and for a lone sequence above 512 tokens, so prompts that are run together with others need not give the same text. */
/* A wrong cell, position or row shows at once, in the first words. Later words may differ: the CPU back end rounds a batch of
 * four rows otherwise than single rows, and where two tokens are as good as equally likely that decides. */
static void concurrent_greedy_answers_begin_like_each_alone(void **state)
{
	(void)state;
	static const char *const questions[] = {"Write one sentence about the sea.", "Count from one to ten.",
	                                        "What do cats eat? Explain it to a child.", "Say hello."};
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

static void the_same_seed_gives_the_same_text_and_another_seed_another(void **state)
{
	(void)state;
	struct request request = ask_for(question, 24);
	struct chat_sampling *s = &request.chat.sampling;
	s->has_temperature = s->has_seed = true;
	s->temperature = 1.5;
	s->seed = UINT64_C(0x123456789abcdef0);
	char *first = answer(shared, &request), *second = answer(shared, &request);
	assert_string_equal(first, second);
	s->seed = 7;
	char *third = answer(shared, &request);
	assert_string_not_equal(first, third);
	free(first);
	free(second);
	free(third);
	request_free(&request);
}

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

static void the_end_of_the_answer_is_stop_and_counted(void **state)
{
	(void)state;
	struct request request = ask_for("Say only the word yes.", 200);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	struct llama_engine *engine = inside(shared);
	llama_token tokens[512];
	const char *text = content_of(&c);
	int32_t count = llama_tokenize(engine->vocab, text, (int32_t)strlen(text), tokens, 512, false, false);
	assert_int_equal(c.usage.completion_tokens, count + 1); /* and the token that ended it, as llama-server counts */
	collector_free(&c);
	request_free(&request);
}

static void max_tokens_ends_with_length_and_exact_usage(void **state)
{
	(void)state;
	struct request request = ask_for(question, 5);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.finish, ENGINE_FINISH_LENGTH);
	assert_int_equal(c.usage.completion_tokens, 5);
	collector_free(&c);
	request_free(&request);
}

static void a_stop_string_inside_and_across_tokens_is_cut(void **state)
{
	(void)state;
	struct request request = ask_for(question, 24);
	char *whole = answer(shared, &request);
	size_t len = strlen(whole);
	assert_true(len > 20);
	for (size_t at = 3; at < 12; at += 2) { /* five characters anywhere: some of them cross a token border */
		char stop[6] = {0};
		memcpy(stop, whole + at, 5);
		size_t first = (size_t)(strstr(whole, stop) - whole);
		request.chat.sampling.stop_count = 0;
		add_stop(&request, stop);
		struct collector c;
		run(shared, &request, &c);
		assert_int_equal(c.finish, ENGINE_FINISH_STOP);
		assert_int_equal(c.content.len, first);
		assert_memory_equal(c.content.at ? c.content.at : "", whole, first);
		collector_free(&c);
	}
	free(whole);
	request_free(&request);
}

static void ignore_eos_and_min_tokens_keep_the_answer_going(void **state)
{
	(void)state;
	struct request request = ask_for("Say only the word yes.", 60);
	request.chat.sampling.ignore_eos = true;
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.finish, ENGINE_FINISH_LENGTH);
	assert_int_equal(c.usage.completion_tokens, 60);
	collector_free(&c);
	request.chat.sampling.ignore_eos = false;
	request.chat.max_tokens = 200;
	run(shared, &request, &c);
	uint64_t usual = c.usage.completion_tokens;
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	collector_free(&c);
	request.chat.sampling.min_tokens = (int64_t)usual + 5;
	run(shared, &request, &c);
	assert_true(c.usage.completion_tokens >= usual + 5);
	collector_free(&c);
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

static void json_object_answers_are_json(void **state)
{
	(void)state;
	struct request request = ask_for("Give me a JSON object about a cat with a name and an age.", 200);
	request.chat.format = CHAT_FORMAT_JSON_OBJECT;
	request.chat.sampling.has_temperature = request.chat.sampling.has_seed = true;
	request.chat.sampling.temperature = 0.7;
	request.chat.sampling.seed = 3;
	request.chat.sampling.has_frequency_penalty = true;
	request.chat.sampling.frequency_penalty = 0.5;
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(content_of(&c)[strspn(content_of(&c), " \n")], '{');
	if (c.finish == ENGINE_FINISH_STOP) {
		struct json_doc *doc = json_parse(buf_str(&c.content), NULL, NULL);
		assert_non_null(doc);
		json_free(doc);
	}
	collector_free(&c);
	request_free(&request);
}

static void json_schema_answers_match_the_schema(void **state)
{
	(void)state;
	struct request request = ask_for("Is the sky blue?", 60);
	struct json_doc *schema =
	    json_parse(STR("{\"type\":\"object\",\"properties\":{\"verdict\":{\"enum\":[\"certainly\",\"never\"]},"
	                   "\"n\":{\"type\":\"boolean\"}},\"required\":[\"verdict\",\"n\"],"
	                   "\"additionalProperties\":false}"),
	               request.arena, NULL);
	request.chat.format = CHAT_FORMAT_JSON_SCHEMA;
	request.chat.schema = json_root(schema);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	struct json_doc *doc = json_parse(buf_str(&c.content), NULL, NULL);
	assert_non_null(doc);
	struct str verdict;
	bool n;
	assert_true(json_as_str(json_get(json_root(doc), "verdict"), &verdict));
	assert_true(str_is(verdict, "certainly") || str_is(verdict, "never"));
	assert_true(json_as_bool(json_get(json_root(doc), "n"), &n));
	assert_int_equal(json_len(json_root(doc)), 2);
	json_free(doc);
	collector_free(&c);
	request_free(&request);
}

static json_val *weather_tools(struct request *request)
{
	struct json_doc *tools = json_parse(
	    STR("[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Weather\",\"parameters\":"
	        "{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":[\"Paris\",\"Rome\"]}},\"required\":[\"city\"],"
	        "\"additionalProperties\":false}}}]"),
	    request->arena, NULL);
	request->chat.has_tools = true;
	request->chat.tools = json_root(tools);
	return json_root(tools);
}

static void a_model_without_a_tool_template_calls_what_it_must(void **state)
{
	(void)state;
	static const char *const choices[] = {"\"required\"", "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\"}}"};
	for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
		struct request request = ask_for("What is the weather in Paris?", 60);
		weather_tools(&request);
		struct json_doc *choice = json_parse(str_of(choices[i]), request.arena, NULL);
		request.chat.tool_choice = json_root(choice);
		struct collector c;
		run(shared, &request, &c);
		if (c.status)
			fail_msg("%d %s", c.status, c.text);
		assert_int_equal(c.finish, ENGINE_FINISH_TOOL_CALLS);
		assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"name\":\"get_weather\"", 20));
		assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"id\":\"call_", 11));
		collector_free(&c);
		request_free(&request);
	}
}

static void tools_are_not_shown_where_none_may_be_called(void **state)
{
	(void)state;
	struct request with = ask_for("What is the weather in Paris?", 8), without = ask_for("What is the weather in Paris?", 8);
	weather_tools(&with);
	struct json_doc *choice = json_parse(STR("\"none\""), with.arena, NULL);
	with.chat.tool_choice = json_root(choice);
	struct collector a, b;
	run(shared, &with, &a);
	run(shared, &without, &b);
	assert_int_equal(a.status, 0);
	assert_int_equal(a.usage.prompt_tokens, b.usage.prompt_tokens);
	assert_int_equal(a.tool_calls.len, 0);
	collector_free(&a);
	collector_free(&b);
	request_free(&with);
	request_free(&without);
}

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	char *text = calloc(1, 1 << 16);
	assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
	fclose(file);
	return text;
}

static void a_required_tool_is_called_with_valid_arguments(void **state)
{
	(void)state;
	struct error error = {0};
	char *template = read_file(TEST_SOURCE_DIR "/build/deps/src/llama.cpp/models/templates/Qwen-Qwen2.5-7B-Instruct.jinja");
	struct engine_llama_options options = {
	    .model_path = MODEL, .threads = 1, .max_sequences = 1, .context_tokens = 1024, .chat_template = template};
	struct engine *engine = engine_llama_new(&options, &error);
	assert_non_null(engine);
	struct request request = ask_for("What is the weather in Paris?", 100);
	weather_tools(&request);
	struct json_doc *choice = json_parse(STR("\"required\""), request.arena, NULL);
	request.chat.tool_choice = json_root(choice);
	struct collector c;
	run(engine, &request, &c);
	if (c.status)
		fail_msg("%d %s", c.status, c.text);
	assert_int_equal(c.finish, ENGINE_FINISH_TOOL_CALLS);
	assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"name\":\"get_weather\"", 20));
	assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "\"id\":\"call_", 11));
	assert_non_null(memmem(c.tool_calls.at, c.tool_calls.len, "city", 4));
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
	free(template);
}

/* --- refusals --- */

static void what_cannot_be_honoured_is_refused(void **state)
{
	(void)state;
	struct collector c;
	collector_init(&c);
	struct request request = ask_for(question, 4);
	request.chat.n = ENGINE_MAX_CHOICES + 1;
	assert_int_equal(submit_as(shared, &request, "", &c), 400);
	assert_non_null(strstr(c.text, "n must be at most"));
	collector_free(&c);
	request_free(&request);

	request =
	    request_of("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:secret\"}}]}]");
	run(shared, &request, &c);
	assert_int_equal(c.status, 400);
	assert_non_null(strstr(c.text, "text only"));
	assert_null(strstr(c.text, "secret"));
	collector_free(&c);
	request_free(&request);

	request = request_of("[{\"role\":\"user\",\"content\":{\"hidden\":1}}]");
	assert_int_equal(submit_as(shared, &request, "", &c), 400);
	assert_null(strstr(c.text, "hidden"));
	collector_free(&c);
	request_free(&request);
}

static char *long_text(size_t words)
{
	char *text = malloc(words * 5 + 1);
	for (size_t i = 0; i < words; i++)
		memcpy(text + i * 5, "word ", 6);
	return text;
}

static void a_prompt_longer_than_the_context_is_refused(void **state)
{
	(void)state;
	char *text = long_text(9000);
	struct request request = ask_for(text, 4);
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 400);
	assert_non_null(strstr(c.text, "context length"));
	collector_free(&c);
	request_free(&request);
	text[5 * 4500] = '\0'; /* less than the model's 8,192, more than this engine's 4,096 */
	request = ask_for(text, 4);
	run(shared, &request, &c);
	assert_int_equal(c.status, 503);
	assert_int_equal(strncmp(c.text, "token_budget_exhausted:", 23), 0);
	assert_string_equal(c.reason, "token_budget_exhausted");
	collector_free(&c);
	request_free(&request);
	free(text);
}

/* --- running --- */

static void wait_idle(struct engine *engine, struct engine_capacity *capacity)
{
	do {
		sched_yield();
		engine_capacity(engine, capacity);
	} while (capacity->running + capacity->waiting);
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

/* --- several answers to one request --- */

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

/* --- turns --- */

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

/* --- a tight budget, and faults --- */

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

static int32_t (*real_decode)(struct llama_context *context, const struct llama_batch *batch) = chat_shim_decode;
static atomic_int fail_after, fail_result; /* batches until every batch with a certain sequence fails */
static atomic_int poisoned_sequence;

static int32_t faulty_decode(struct llama_context *context, const struct llama_batch *batch)
{
	if (atomic_fetch_sub(&fail_after, 1) <= 0)
		for (int32_t i = 0; i < batch->n_tokens; i++)
			if (batch->seq_id[i][0] == atomic_load(&poisoned_sequence))
				return atomic_load(&fail_result);
	return real_decode(context, batch);
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
	atomic_store(&fail_after, 8);
	atomic_store(&fail_result, -2);
	atomic_store(&poisoned_sequence, 1);
	engine->decode = faulty_decode;
	for (int i = 0; i < 3; i++) {
		collector_init(&c[i]);
		submit(shared, &request, &c[i]);
		wait_deltas(&c[i], 1);
	}
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

/* --- secrets --- */

#ifdef __linux__
#define CANARY_LEN 24
#define MASK       0x55

/* Occurrences, in all writable memory of this process, of a text that is known only in masked form. */
static size_t find_in_memory(const char masked[CANARY_LEN])
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int memory = open("/proc/self/mem", O_RDONLY);
	assert_non_null(maps);
	assert_true(memory >= 0);
	size_t found = 0;
	char line[512];
	enum { WINDOW = 1 << 20 };
	char *window = malloc(WINDOW);
	while (fgets(line, sizeof line, maps)) {
		unsigned long from, to;
		char access[5];
		if (sscanf(line, "%lx-%lx %4s", &from, &to, access) != 3 || access[0] != 'r' || access[1] != 'w' ||
		    to - from > 1u << 29)
			continue; /* larger ones are a sanitizer's shadow */
		for (unsigned long at = from; at < to; at += WINDOW - CANARY_LEN) {
			ssize_t got = pread(memory, window, to - at < WINDOW ? to - at : WINDOW, (off_t)at);
			for (ssize_t i = 0; i + CANARY_LEN <= got; i++) {
				ssize_t same = 0;
				while (same < CANARY_LEN && (window[i + same] ^ MASK) == masked[same])
					same++;
				found += same == CANARY_LEN;
			}
		}
	}
	memset(window, 0, WINDOW);
	free(window);
	close(memory);
	fclose(maps);
	return found;
}

static void nothing_of_a_request_stays_in_memory(void **state)
{
	(void)state;
	char masked[CANARY_LEN], text[64] = "Say ";
	for (int i = 0; i < CANARY_LEN; i++) {
		text[4 + i] = (char)('a' + (i * i * 7 + 3) % 26);
		masked[i] = text[4 + i] ^ MASK;
	}
	struct request request = ask_for(text, 20);
	memset(text, 0, sizeof text);
	request.chat.format = CHAT_FORMAT_JSON_OBJECT;
	assert_true(find_in_memory(masked) > 0); /* the search does find it */
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.status, 0);
	collector_free(&c);
	request_free(&request);
	struct engine_capacity capacity;
	wait_idle(shared, &capacity);
	assert_int_equal(find_in_memory(masked), 0);
}
#endif

static void an_engine_that_fails_every_call_reports_a_crash_until_one_runs(void **state)
{
	(void)state;
	struct request request = ask_for(question, 2);
	struct engine_capacity capacity;
	struct collector c;
	atomic_store(&fail_after, 0);
	atomic_store(&fail_result, -3);
	atomic_store(&poisoned_sequence, 0);
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
	    cmocka_unit_test(the_model_is_described),
	    cmocka_unit_test(a_file_that_is_no_model_is_refused_with_a_sentence),
	    cmocka_unit_test(a_load_can_be_given_up),
	    cmocka_unit_test(greedy_answers_equal_plain_decoding_and_count_its_tokens),
	    cmocka_unit_test(concurrent_greedy_answers_begin_like_each_alone),
	    cmocka_unit_test(the_same_seed_gives_the_same_text_and_another_seed_another),
	    cmocka_unit_test(narrow_sampling_equals_greedy),
	    cmocka_unit_test(the_end_of_the_answer_is_stop_and_counted),
	    cmocka_unit_test(max_tokens_ends_with_length_and_exact_usage),
	    cmocka_unit_test(a_stop_string_inside_and_across_tokens_is_cut),
	    cmocka_unit_test(ignore_eos_and_min_tokens_keep_the_answer_going),
	    cmocka_unit_test(logit_bias_forbids_and_forces_tokens),
	    cmocka_unit_test(penalties_break_repetition),
	    cmocka_unit_test(logprobs_cover_every_token_and_the_chosen_is_the_likeliest),
	    cmocka_unit_test(json_object_answers_are_json),
	    cmocka_unit_test(json_schema_answers_match_the_schema),
	    cmocka_unit_test(a_model_without_a_tool_template_calls_what_it_must),
	    cmocka_unit_test(tools_are_not_shown_where_none_may_be_called),
	    cmocka_unit_test(a_required_tool_is_called_with_valid_arguments),
	    cmocka_unit_test(what_cannot_be_honoured_is_refused),
	    cmocka_unit_test(a_prompt_longer_than_the_context_is_refused),
	    cmocka_unit_test(cancel_frees_the_sequence_and_its_budget),
	    cmocka_unit_test(a_cancelled_prompt_never_answers),
	    cmocka_unit_test(a_paused_call_keeps_its_place_and_goes_on_with_the_same_text),
	    cmocka_unit_test(a_long_prompt_does_not_stop_a_running_stream),
	    cmocka_unit_test(several_answers_share_one_run_of_the_prompt),
	    cmocka_unit_test(several_answers_differ_by_their_seeds_and_come_again),
	    cmocka_unit_test(more_answers_than_places_come_one_after_the_other),
	    cmocka_unit_test(tenants_take_turns_and_know_their_place),
	    cmocka_unit_test(models_share_one_budget_of_bytes),
	    cmocka_unit_test(calls_that_outgrow_the_budget_give_way_and_lose_nothing),
	    cmocka_unit_test(a_call_that_cannot_be_run_fails_alone),
	    cmocka_unit_test(an_engine_that_fails_every_call_reports_a_crash_until_one_runs),
	    cmocka_unit_test(a_step_that_hangs_is_noticed_and_the_model_is_loaded_anew),
	    cmocka_unit_test(stopping_ends_every_call),
#ifdef __linux__
	    cmocka_unit_test(nothing_of_a_request_stays_in_memory),
#endif
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
