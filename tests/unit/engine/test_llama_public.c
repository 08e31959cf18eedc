/* Public system prompts in the prefix cache: shared between tenants where the model's publisher names them, and nothing else.
 */
#include "collect.h"

#include "core/log.h"
#include "crypto/secret.h"
#include "provider/engine/engine_llama.h"
#include "provider/kvcache/kv_cache.h"

#define MODEL TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"

#define SENTENCE "You are the ship's clerk and answer letters with care, one after the other, by the light of a lamp. "
#define PUBLIC   SENTENCE SENTENCE SENTENCE SENTENCE
#define OTHER    "Nobody may know of this. " SENTENCE SENTENCE SENTENCE SENTENCE

static struct kv_cache *cache;
static struct engine *engine;

static void open_engine(const char *public_prompts, bool with_cache)
{
	struct error error = {.text = ""};
	struct kv_cache_options options = {.ram_bytes = UINT64_C(256) << 20};
	cache = with_cache ? kv_cache_open(&options, &error) : NULL;
	struct engine_llama_options engine_options = {.model_path = MODEL,
	                                              .threads = 1,
	                                              .max_sequences = 2,
	                                              .context_tokens = 1024,
	                                              .cache = cache,
	                                              .public_prompts = public_prompts,
	                                              .model_id = "smol",
	                                              .weight_hash = "weights"};
	engine = engine_llama_new(&engine_options, &error);
	if (!engine)
		fail_msg("%s", error.text);
}

static void close_engine(void)
{
	engine_free(engine);
	if (cache)
		kv_cache_close(cache);
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	return crypto_init() ? -1 : 0;
}

struct told {
	uint64_t cached, prompt;
	char text[512];
};

static struct told ask_as(const char *tenant, const char *system, const char *question)
{
	struct buf messages;
	struct collector c;
	struct error error;
	buf_init(&messages, 1 << 16);
	buf_printf(&messages, "[{\"role\":\"system\",\"content\":\"%s\"},{\"role\":\"user\",\"content\":\"%s\"}]", system,
	           question);
	buf_append_byte(&messages, '\0');
	struct request request = request_of(messages.at);
	request.chat.max_tokens = 6;
	request.chat.sampling.ignore_eos = true;
	struct engine_request submitted = {.chat = &request.chat, .tenant = str_of(tenant), .cache_scope = str_of(tenant)};
	collector_init(&c);
	assert_int_equal(engine_submit(engine, &submitted, &collecting, &c, &c.call, &error), 0);
	wait_end(&c);
	assert_int_equal(c.status, 0);
	struct told told = {.cached = c.usage.cached_tokens, .prompt = c.usage.prompt_tokens};
	snprintf(told.text, sizeof told.text, "%s", content_of(&c));
	collector_free(&c);
	request_free(&request);
	buf_free(&messages);
	return told;
}

#define LONG_QUESTION SENTENCE SENTENCE SENTENCE SENTENCE "What then?"

static void another_tenant_finds_a_public_prompt_up_to_its_end(void **state)
{
	(void)state;
	open_engine("[\"" PUBLIC "\"]", true);
	struct told first = ask_as("a", PUBLIC, LONG_QUESTION), same = ask_as("b", PUBLIC, LONG_QUESTION);
	struct told again = ask_as("b", PUBLIC, LONG_QUESTION), bare = ask_as("c", PUBLIC, "x");
	assert_int_equal(first.cached, 0);
	/* the same question too: only the system prompt is shared, and the question is longer than a grid step */
	assert_true(same.cached >= KV_GRID);
	assert_true(same.cached <= bare.prompt);
	assert_int_equal(same.cached % KV_GRID, 0);
	assert_int_equal(bare.cached, same.cached);
	assert_true(again.cached > same.cached); /* its own question is b's to find */
	assert_string_equal(first.text, same.text);
	assert_string_equal(first.text, again.text);
	close_engine();
	open_engine(NULL, false);
	assert_string_equal(ask_as("a", PUBLIC, LONG_QUESTION).text, first.text);
	close_engine();
}

static void nothing_is_shared_that_the_publisher_does_not_name(void **state)
{
	(void)state;
	open_engine("[\"" PUBLIC "\"]", true);
	ask_as("a", OTHER, "x");
	assert_int_equal(ask_as("b", OTHER, "x").cached, 0);
	ask_as("a", PUBLIC "And a secret.", "x"); /* goes on where the public one ends */
	assert_int_equal(ask_as("b", PUBLIC "And a secret.", "x").cached, 0);
	ask_as("", PUBLIC, "x"); /* of nobody nothing is kept, and nobody finds anything */
	assert_int_equal(ask_as("c", PUBLIC, "x").cached, 0);
	assert_int_equal(ask_as("", PUBLIC, "x").cached, 0);
	close_engine();
	open_engine(NULL, true);
	ask_as("a", PUBLIC, "x");
	assert_int_equal(ask_as("b", PUBLIC, "x").cached, 0);
	assert_true(ask_as("a", PUBLIC, "x").cached > 0);
	close_engine();
}

static void a_list_that_is_none_is_refused_at_the_load(void **state)
{
	(void)state;
	static const char *const wrong[] = {"{}", "[\"a\",null]"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct error error = {.text = ""};
		struct engine_llama_options options = {
		    .model_path = MODEL, .threads = 1, .max_sequences = 1, .context_tokens = 256, .public_prompts = wrong[i]};
		assert_null(engine_llama_new(&options, &error));
		assert_non_null(strstr(error.text, "public prompts"));
	}
	open_engine("[]", true);
	close_engine();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(another_tenant_finds_a_public_prompt_up_to_its_end),
	    cmocka_unit_test(nothing_is_shared_that_the_publisher_does_not_name),
	    cmocka_unit_test(a_list_that_is_none_is_refused_at_the_load),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
