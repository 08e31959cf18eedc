/* The prefix cache inside the llama.cpp engine with a real model: what is shared between sequences, tenants and restarts. */
#include "collect.h"

#include <unistd.h>

#include "core/log.h"
#include "crypto/secret.h"
#include "provider/engine/engine_llama.h"
#include "provider/engine/engine_llama_state.h"
#include "provider/kvcache/kv_cache_internal.h"
#include "provider/kvcache/kv_folder.h"

#define GEMMA TEST_SOURCE_DIR "/build/deps/models/gemma-3-270m-q4_k_m.gguf"
#define MODEL TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"

static struct kv_cache *cache;
static struct engine *engine;

static void open_model_of(const char *path, const char *root, uint64_t ram_bytes, uint32_t sequences, uint32_t context)
{
	static const uint8_t device_secret[KV_SECRET_BYTES] = {7};
	struct error error = {.text = ""};
	struct kv_cache_options options = {.root = root, .secret = root ? device_secret : NULL, .ram_bytes = ram_bytes};
	cache = kv_cache_open(&options, &error);
	assert_non_null(cache);
	struct engine_llama_options engine_options = {.model_path = path,
	                                              .threads = 1,
	                                              .max_sequences = sequences,
	                                              .context_tokens = context,
	                                              .cache = cache,
	                                              .model_id = "smol",
	                                              .weight_hash = "weights",
	                                              .speculation = ENGINE_SPECULATE_NEVER};
	engine = engine_llama_new(&engine_options, &error);
	if (!engine)
		fail_msg("%s", error.text);
}

static void open_model_on(const char *path, const char *root, uint64_t ram_bytes, uint32_t sequences)
{
	open_model_of(path, root, ram_bytes, sequences, 2048);
}

static void open_engine_on(const char *root, uint64_t ram_bytes, uint32_t sequences)
{
	open_model_on(MODEL, root, ram_bytes, sequences);
}

static void open_engine(uint64_t ram_bytes)
{
	open_engine_on(NULL, ram_bytes, 4);
}

static void close_engine(void)
{
	engine_free(engine);
	kv_cache_close(cache);
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_WARN);
	return crypto_init() ? -1 : 0;
}

static struct request long_question(const char *end, int64_t max_tokens)
{
	char text[2048] = "";
	for (int i = 0; i < 9; i++)
		strncat(text, "The ship carried letters from a town where people light lamps every winter night. ",
		        sizeof text - strlen(text) - 1);
	strncat(text, end, sizeof text - strlen(text) - 1);
	struct request request = ask(text);
	request.chat.max_tokens = max_tokens;
	request.chat.sampling.ignore_eos = true;
	return request;
}

static void submit_scoped(const struct request *request, const char *scope, struct collector *c)
{
	struct error error;
	struct engine_request submitted = {.chat = &request->chat, .tenant = str_of(scope), .cache_scope = str_of(scope)};
	collector_init(c);
	assert_int_equal(engine_submit(engine, &submitted, &collecting, c, &c->call, &error), 0);
}

static struct chat_usage ask_scoped(const char *end, const char *scope)
{
	struct collector c;
	struct request request = long_question(end, 2);
	submit_scoped(&request, scope, &c);
	wait_end(&c);
	assert_int_equal(c.status, 0);
	struct chat_usage usage = c.usage;
	collector_free(&c);
	request_free(&request);
	return usage;
}

static void a_tenants_prompt_is_found_by_that_tenant_only(void **state)
{
	(void)state;
	open_engine(UINT64_C(256) << 20);
	struct chat_usage cold = ask_scoped("What then?", "a");
	assert_int_equal(cold.cached_tokens, 0);
	assert_true(cold.prompt_tokens > 128);
	struct chat_usage warm = ask_scoped("Where to?", "a");
	assert_true(warm.cached_tokens >= 128 && warm.cached_tokens < warm.prompt_tokens);
	assert_int_equal(warm.cached_tokens % KV_GRID, 0);
	/* The other tenant's prompt is computed from its first token: nothing to be timed. */
	assert_int_equal(ask_scoped("What then?", "b").cached_tokens, 0);
	assert_int_equal(ask_scoped("What then?", "").cached_tokens, 0);
	assert_int_equal(ask_scoped("What then?", "").cached_tokens, 0);
	close_engine();
}

static atomic_size_t rows_run;

static int32_t counting_decode(struct llama_context *context, const struct llama_batch *batch)
{
	atomic_fetch_add(&rows_run, (size_t)batch->n_tokens);
	return chat_shim_decode(context, batch);
}

/* Rows of the model that such a question of a tenant took, to its last token. */
static size_t rows_of(const char *end, const char *scope)
{
	struct engine_capacity capacity;
	atomic_store(&rows_run, 0);
	ask_scoped(end, scope);
	do /* the end is told inside the last step */
		engine_capacity(engine, &capacity);
	while (capacity.running || capacity.waiting);
	return atomic_load(&rows_run);
}

/* What a request takes is what it computes: a clock would only measure that less well. */
static void another_tenants_prompt_saves_no_work_that_could_be_timed(void **state)
{
	(void)state;
	struct engine_capacity cold, warm;
	open_engine(UINT64_C(256) << 20);
	((struct llama_engine *)engine)->decode = counting_decode;
	size_t first = rows_of("What then?", "a");
	engine_capacity(engine, &cold);
	size_t again = rows_of("What then?", "a");
	engine_capacity(engine, &warm);
	assert_true(again + 128 <= first);                                         /* its own saves it the work */
	assert_true(cold.prefill_tps > 0 && warm.prefill_tps == cold.prefill_tps); /* and says nothing about computing */
	assert_int_equal(rows_of("What then?", "b"), first); /* with the whole prompt in a's cache: as if nobody had been there */
	assert_int_equal(rows_of("What then?", "b"), again);
	close_engine();
}

/* Without memory for states a prefix can only come from a sequence that runs. */
static void a_running_sequence_shares_its_prefix_with_its_own_tenant(void **state)
{
	(void)state;
	struct collector running;
	open_engine(0);
	struct request request = long_question("Tell all of it.", 1500);
	submit_scoped(&request, "a", &running);
	wait_deltas(&running, 1);
	struct chat_usage shared = ask_scoped("And the end?", "a"), apart = ask_scoped("And the end?", "b");
	assert_int_equal(running.ends, 0);
	engine_cancel(running.call);
	wait_end(&running);
	assert_true(shared.cached_tokens >= 128);
	assert_int_equal(apart.cached_tokens, 0);
	assert_int_equal(ask_scoped("And the end?", "a").cached_tokens, 0); /* it has gone */
	collector_free(&running);
	request_free(&request);
	close_engine();
}

static void a_cancelled_request_leaves_no_reservation(void **state)
{
	(void)state;
	struct collector c[3];
	struct engine_capacity capacity;
	open_engine(UINT64_C(256) << 20);
	struct request request = long_question("What then?", 50);
	ask_scoped("What then?", "a");
	for (int i = 0; i < 3; i++) {
		submit_scoped(&request, "a", &c[i]);
		if (i)
			wait_deltas(&c[i], i);
		engine_cancel(c[i].call);
	}
	for (int i = 0; i < 3; i++) {
		wait_end(&c[i]);
		collector_free(&c[i]);
	}
	do /* the end is told before the books are */
		engine_capacity(engine, &capacity);
	while (capacity.budget_used_tokens || capacity.running || capacity.waiting);
	assert_true(ask_scoped("What then?", "a").cached_tokens >= 128);
	request_free(&request);
	close_engine();
}

/* What only the disk has is read while the request waits for its place, not when it has one. */
static void a_state_is_read_from_disk_while_its_request_waits(void **state)
{
	char root[] = "/var/tmp/test-restore-XXXXXX";
	struct collector running, waiting;
	struct kv_stats stats;
	(void)state;
	assert_non_null(mkdtemp(root));
	open_engine_on(root, UINT64_C(256) << 20, 1);
	assert_int_equal(ask_scoped("What then?", "a").cached_tokens, 0);
	kv_cache_settle(cache);
	close_engine();
	open_engine_on(root, UINT64_C(256) << 20, 1);
	struct request request = long_question("What then?", 2), other = long_question("Tell all of it.", 1500);
	submit_scoped(&other, "", &running);
	wait_deltas(&running, 1);
	submit_scoped(&request, "a", &waiting);
	do {
		usleep(1000);
		kv_cache_stats(cache, &stats);
	} while (!stats.disk.reads);
	kv_cache_settle(cache);
	kv_cache_stats(cache, &stats);
	pthread_mutex_lock(&waiting.lock);
	int started = waiting.started;
	pthread_mutex_unlock(&waiting.lock);
	uint64_t reads = stats.disk.reads;
	assert_int_equal(started, 0);
	assert_int_equal(running.ends, 0);
	engine_cancel(running.call);
	wait_end(&running);
	wait_end(&waiting);
	assert_int_equal(waiting.status, 0);
	assert_true(waiting.usage.cached_tokens >= 128);
	kv_cache_stats(cache, &stats);
	assert_int_equal(stats.hits_ssd, 1);
	assert_int_equal(stats.disk.reads, reads);
	collector_free(&running);
	collector_free(&waiting);
	request_free(&request);
	request_free(&other);
	close_engine();
	kv_folder_remove(root);
}

static void check_kept(const char *text, const char *what)
{
	struct collector c;
	struct request request = long_question("What then?", 6);
	submit_scoped(&request, "a", &c);
	wait_end(&c);
	assert_int_equal(c.status, 0);
	if (!(c.usage.cached_tokens >= 128))
		fail_msg("%s: nothing was kept", what);
	assert_string_equal(content_of(&c), text);
	collector_free(&c);
	request_free(&request);
}

/* A context as large as that of all sequences together: none looks at the cells of another, and states are copied. */
static void sequences_with_cells_of_their_own_go_on_from_what_is_kept(void **state)
{
	char root[] = "/var/tmp/test-apart-XXXXXX", text[256];
	struct collector c;
	(void)state;
	assert_non_null(mkdtemp(root));
	open_model_of(MODEL, root, UINT64_C(256) << 20, 2, 2 * 2048);
	struct request request = long_question("What then?", 6), other = long_question("Tell all of it.", 1500);
	submit_scoped(&request, "a", &c);
	wait_end(&c);
	assert_int_equal(c.status, 0);
	assert_int_equal(c.usage.cached_tokens, 0);
	snprintf(text, sizeof text, "%s", content_of(&c));
	collector_free(&c);
	check_kept(text, "alone");
	submit_scoped(&other, "", &c);
	wait_deltas(&c, 1);
	check_kept(text, "beside another");
	engine_cancel(c.call);
	wait_end(&c);
	collector_free(&c);
	kv_cache_settle(cache);
	close_engine();
	open_model_of(MODEL, root, UINT64_C(256) << 20, 2, 2 * 2048);
	check_kept(text, "after a restart");
	close_engine();
	request_free(&request);
	request_free(&other);
	kv_folder_remove(root);
}

/* --- a model whose states cannot be cut --- */

#define SENTENCE "The ship carried letters from a town where people light lamps every winter night. "
#define FOUR     SENTENCE SENTENCE SENTENCE SENTENCE

/* What two conversations have in common ends long before the last boundary of either: only a checkpoint on the way is of use
 * (inference 10.3). */
static void a_model_with_a_window_is_found_again_at_a_checkpoint_on_the_way(void **state)
{
	static const char *const ends[] = {FOUR FOUR "Where to?", "Nobody wrote back. " FOUR FOUR "And then?"};
	struct chat_usage usage[2];
	(void)state;
	open_model_on(GEMMA, NULL, UINT64_C(256) << 20, 1);
	for (int i = 0; i < 2; i++) {
		struct collector c;
		char text[4096];
		snprintf(text, sizeof text, "%s%s%s%s%s%s", FOUR, FOUR, FOUR, FOUR, FOUR, ends[i]);
		struct request request = ask(text);
		request.chat.max_tokens = 2;
		submit_scoped(&request, "a", &c);
		wait_end(&c);
		assert_int_equal(c.status, 0);
		usage[i] = c.usage;
		collector_free(&c);
		request_free(&request);
	}
	assert_int_equal(usage[0].cached_tokens, 0);
	assert_int_equal(usage[1].cached_tokens, 256);
	assert_true(usage[1].prompt_tokens > 256 + 2 * KV_GRID);
	close_engine();
}

/* --- a state that the library does not take --- */

static struct {
	pthread_mutex_t lock;
	int32_t tokens[2048];
	size_t count;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int32_t noting_decode(struct llama_context *context, const struct llama_batch *batch)
{
	pthread_mutex_lock(&seen.lock);
	for (int32_t i = 0; i < batch->n_tokens; i++)
		if ((size_t)batch->pos[i] == seen.count && seen.count < sizeof seen.tokens / sizeof *seen.tokens)
			seen.tokens[seen.count++] = batch->token[i];
	pthread_mutex_unlock(&seen.lock);
	return chat_shim_decode(context, batch);
}

/* What lies in memory for the prompt that was noted; shared with the cache. */
static struct kv_blob *kept_state(size_t prompt_tokens)
{
	struct kv_model *model = LIST_OF(list_first(&cache->models), struct kv_model, link);
	struct kv_prompt prompt;
	struct kv_taken taken;
	assert_int_equal(kv_prompt_make(model, STR("a"), STR("a"), seen.tokens, prompt_tokens, &prompt), DB_OK);
	kv_take(model, &prompt, NULL, &taken);
	kv_prompt_free(&prompt);
	assert_non_null(taken.state);
	return taken.state;
}

static void a_state_that_cannot_be_restored_is_a_cold_start_and_is_not_tried_again(void **state)
{
	struct engine_capacity capacity;
	struct collector c;
	char text[2][256];
	(void)state;
	open_engine(UINT64_C(256) << 20);
	((struct llama_engine *)engine)->decode = noting_decode;
	struct request request = long_question("What then?", 6);
	for (int i = 0; i < 3; i++) {
		submit_scoped(&request, "a", &c);
		wait_end(&c);
		assert_int_equal(c.status, 0);
		if (i < 2) {
			assert_int_equal(c.usage.cached_tokens, 0);
			snprintf(text[i], sizeof text[i], "%s", content_of(&c));
		} else {
			assert_true(c.usage.cached_tokens >= 128);
		}
		if (i == 0) {
			do
				engine_capacity(engine, &capacity);
			while (capacity.running || capacity.waiting);
			struct kv_blob *kept = kept_state(c.usage.prompt_tokens);
			kept->len -= 8; /* torn: its last values are missing */
			kv_blob_release(kept);
		}
		collector_free(&c);
	}
	assert_string_equal(text[0], text[1]);
	request_free(&request);
	close_engine();
}

/* --- cutting and joining --- */

/* Two layers, keys of 4 bytes and values of 6 for each token; what a byte says is its token's place. */
static struct kv_blob *made_state(size_t count, bool backwards)
{
	struct kv_blob *state = kv_blob_new(12 + 4 + 12 * count + 8 + 2 * (12 + 4 * count) + 2 * (12 + 6 * count));
	uint8_t *at = state->bytes;
	const uint32_t head[] = {0xabcd, 3, 1, (uint32_t)count}, data[] = {0, 2}, one[] = {1, 3};
	memcpy(at, head, sizeof head);
	at += sizeof head;
	for (size_t i = 0; i < count; i++, at += 12) {
		int32_t place = (int32_t)(backwards ? count - 1 - i : i);
		memcpy(at, &place, 4);
		memcpy(at + 4, one, sizeof one);
	}
	memcpy(at, data, sizeof data);
	at += sizeof data;
	for (size_t section = 0; section < 4; section++) {
		uint64_t row = section < 2 ? 4 : 6;
		const int32_t type = 1;
		memcpy(at, &type, 4);
		memcpy(at + 4, &row, 8);
		at += 12;
		for (size_t i = 0; i < count; i++, at += row)
			memset(at, (int)((backwards ? count - 1 - i : i) + section * 50), row);
	}
	assert_int_equal(at - state->bytes, state->len);
	return state;
}

static void a_state_cut_and_joined_is_the_state(void **state)
{
	(void)state;
	struct kv_blob *whole = made_state(40, false), *backwards = made_state(40, true);
	assert_true(llama_state_is_whole(whole, 40));
	assert_false(llama_state_is_whole(whole, 39));
	assert_false(llama_state_is_whole(backwards, 40));
	for (size_t at = 1; at < 40; at++) {
		struct kv_blob *parts[3] = {llama_state_codec.cut(at % 2 ? whole : backwards, 0, at),
		                            llama_state_codec.cut(whole, at, at + (40 - at) / 2 + (at == 39)),
		                            llama_state_codec.cut(backwards, at + (40 - at) / 2 + (at == 39), 40)};
		size_t count = at == 39 ? 2 : 3;
		assert_true(llama_state_is_whole(parts[0], at));
		struct kv_blob *joined = llama_state_codec.join(parts, count);
		assert_non_null(joined);
		assert_int_equal(joined->len, whole->len);
		assert_memory_equal(joined->bytes, whole->bytes, whole->len);
		kv_blob_release(joined);
		struct kv_blob *swapped[2] = {parts[1], parts[0]};
		assert_null(llama_state_codec.join(swapped, 2));
		for (size_t i = 0; i < 3; i++)
			kv_blob_release(parts[i]);
	}
	assert_null(llama_state_codec.cut(whole, 0, 41));
	assert_null(llama_state_codec.cut(whole, 5, 5));
	size_t keys_only = 16 + 12 * 40 + 8 + 2 * (12 + 4 * 40); /* a model without values of its own */
	for (size_t len = 0; len < whole->len; len++) {
		if (len == keys_only)
			continue;
		struct kv_blob *part = kv_blob_new(len);
		memcpy(part->bytes, whole->bytes, len);
		assert_null(llama_state_codec.cut(part, 0, 10));
		kv_blob_release(part);
	}
	kv_blob_release(whole);
	kv_blob_release(backwards);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_tenants_prompt_is_found_by_that_tenant_only),
	    cmocka_unit_test(another_tenants_prompt_saves_no_work_that_could_be_timed),
	    cmocka_unit_test(a_running_sequence_shares_its_prefix_with_its_own_tenant),
	    cmocka_unit_test(a_cancelled_request_leaves_no_reservation),
	    cmocka_unit_test(a_state_is_read_from_disk_while_its_request_waits),
	    cmocka_unit_test(sequences_with_cells_of_their_own_go_on_from_what_is_kept),
	    cmocka_unit_test(a_model_with_a_window_is_found_again_at_a_checkpoint_on_the_way),
	    cmocka_unit_test(a_state_that_cannot_be_restored_is_a_cold_start_and_is_not_tried_again),
	    cmocka_unit_test(a_state_cut_and_joined_is_the_state),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
