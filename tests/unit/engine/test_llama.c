/* The llama.cpp engine with a real model: SmolLM2-135M-Instruct. */
#include <fcntl.h>
#include <unistd.h>

#include "llama_fixture.h"
#include "provider/engine/engine_embed.h"
#include "random_model.h"

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

/* llama.cpp ends the process over such a file. */
static void a_vocabulary_that_names_a_token_twice_is_refused(void **state)
{
	(void)state;
	static const struct renamed twice[] = {{5000, "anotherwordthatisnone"}, {7000, "anotherwordthatisnone"}},
	                            unnamed[] = {{5000, ""}, {7000, "[EMPTY_5000]"}}, /* as the library names what has no text */
	    once[] = {{5000, ""}, {7000, "[EMPTY_5001]"}};
	const struct renamed *const wrong[] = {twice, unnamed};
	char path[] = "/tmp/test-vocabulary-XXXXXX";
	close(mkstemp(path));
	struct engine_llama_options options = {.model_path = path, .threads = 1, .max_sequences = 1, .context_tokens = 256};
	for (int i = 0; i < 2; i++) {
		struct error error = {0}, draft = {0}, embedding = {0};
		random_model_write(path, wrong[i], 2);
		assert_null(engine_llama_new(&options, &error));
		assert_int_equal(strncmp(error.text, "model load failed: ", 19), 0);
		assert_non_null(strstr(error.text, "names tokens 5000 and 7000 alike"));
		assert_null(engine_embed_load(&options, &embedding));
		assert_non_null(strstr(embedding.text, "5000 and 7000"));
		struct engine_llama_options guessing = {
		    .model_path = MODEL, .threads = 1, .max_sequences = 1, .context_tokens = 256, .draft_path = path};
		assert_null(engine_llama_new(&guessing, &draft));
		assert_non_null(strstr(draft.text, "5000 and 7000"));
	}
	random_model_write(path, once, 2);
	engine_free(load_file(path, 1, 256));
	unlink(path);
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

static void greedy_answers_equal_plain_decoding_and_count_its_tokens(void **state)
{
	(void)state;
	const char prompt[] = "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nName three colours.<|im_end|>\n"
	                      "<|im_start|>assistant\n";
	uint64_t prompt_tokens;
	char *expected = reference_answer(shared, prompt, 40, LLAMA_FLASH_ATTN_TYPE_AUTO, &prompt_tokens);
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

/* Gemma 3 with its sliding windows; text to go on with, which no template touches. */
static void greedy_answers_of_a_model_with_windows_equal_plain_decoding(void **state)
{
	(void)state;
	const char prompt[] = "The three primary colours are";
	uint64_t prompt_tokens;
	struct engine *gemma = load_file(GEMMA, 1, 1024);
	char *expected = reference_answer(gemma, prompt, 24, LLAMA_FLASH_ATTN_TYPE_AUTO, &prompt_tokens);
	struct request request = request_of("[\"The three primary colours are\"]");
	struct json_iter texts = json_iter(request.chat.messages);
	request.chat.prompt = json_next(&texts, NULL);
	request.chat.max_tokens = 24;
	struct collector c;
	run(gemma, &request, &c);
	assert_int_equal(c.status, 0);
	assert_true(c.content.len > 0);
	assert_string_equal(content_of(&c), expected);
	assert_int_equal(c.usage.prompt_tokens, prompt_tokens);
	free(expected);
	collector_free(&c);
	request_free(&request);
	engine_free(gemma);
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

static void a_stop_token_ends_the_answer_before_its_text(void **state)
{
	(void)state;
	struct llama_engine *engine = inside(shared);
	struct request request = ask_for(question, 24);
	char *whole = answer(shared, &request);
	llama_token tokens[64];
	int32_t count = llama_tokenize(engine->vocab, whole, (int32_t)strlen(whole), tokens, 64, false, false);
	assert_true(count > 8);
	request.chat.sampling.stop_tokens[0] = tokens[5];
	request.chat.sampling.stop_token_count = 1;
	struct collector c;
	run(shared, &request, &c);
	assert_int_equal(c.finish, ENGINE_FINISH_STOP);
	assert_true(c.usage.completion_tokens <= 6);
	assert_true(c.content.len < strlen(whole));
	assert_memory_equal(c.content.at ? c.content.at : "", whole, c.content.len);
	collector_free(&c);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_model_is_described),
	    cmocka_unit_test(a_file_that_is_no_model_is_refused_with_a_sentence),
	    cmocka_unit_test(a_vocabulary_that_names_a_token_twice_is_refused),
	    cmocka_unit_test(a_load_can_be_given_up),
	    cmocka_unit_test(greedy_answers_equal_plain_decoding_and_count_its_tokens),
	    cmocka_unit_test(greedy_answers_of_a_model_with_windows_equal_plain_decoding),
	    cmocka_unit_test(the_same_seed_gives_the_same_text_and_another_seed_another),
	    cmocka_unit_test(the_end_of_the_answer_is_stop_and_counted),
	    cmocka_unit_test(max_tokens_ends_with_length_and_exact_usage),
	    cmocka_unit_test(a_stop_string_inside_and_across_tokens_is_cut),
	    cmocka_unit_test(a_stop_token_ends_the_answer_before_its_text),
	    cmocka_unit_test(ignore_eos_and_min_tokens_keep_the_answer_going),
	    cmocka_unit_test(what_cannot_be_honoured_is_refused),
	    cmocka_unit_test(a_prompt_longer_than_the_context_is_refused),
#ifdef __linux__
	    cmocka_unit_test(nothing_of_a_request_stays_in_memory),
#endif
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
