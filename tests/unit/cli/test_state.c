#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "provider/cli/state.h"
#include "provider/platform/platform.h"

static char dir[64], path[128];

static int open_folder(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/state-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/daemon-state.json", dir);
	return 0;
}

static int close_folder(void **state)
{
	(void)state;
	state_remove(dir);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

static struct node_status some_status(void)
{
	return (struct node_status){.state = NODE_REGISTERED,
	                            .trust_level = "self_signed",
	                            .trust_status = "online",
	                            .trust_reason = "a \"quoted\" reason\n\xc3\xbc",
	                            .last_error = "the connection ended",
	                            .requests_served = 12,
	                            .tokens_generated = 3456,
	                            .requests_active = 7};
}

static void look_up(struct kv_cache *cache)
{
	int32_t tokens[200] = {0};
	struct error error;
	struct kv_prompt prompt;
	struct kv_taken taken;
	struct kv_model *model = kv_model_open(cache, &(struct kv_model_options){.model_id = "acme/one"}, &error);
	assert_non_null(model);
	assert_int_equal(kv_prompt_make(model, STR("a"), STR("a"), tokens, 200, &prompt), DB_OK);
	kv_take(model, &prompt, NULL, &taken);
	assert_null(taken.state);
	kv_prompt_free(&prompt);
	kv_model_close(model);
}

/* With a prefix cache that was asked once in vain, when there are models. */
static void write_it(const struct node_status *status, size_t model_count)
{
	struct error error = {0};
	struct engine_script script = {.text = "word"};
	struct residency_model models[2] = {{.id = "acme/one"}, {.id = "two"}};
	struct net_loop *loop = net_loop_new(&error);
	struct kv_budget *budget = kv_budget_new(1 << 20);
	struct kv_reservation held = {0};
	assert_true(kv_budget_reserve(budget, 4096, &held));
	struct kv_cache *cache = model_count ? kv_cache_open(&(struct kv_cache_options){.ram_bytes = 1 << 20}, &error) : NULL;
	if (cache)
		look_up(cache);
	struct residency *residency = residency_new(loop, &(struct residency_options){.poll_ms = 1000});
	for (size_t i = 0; i < model_count; i++)
		assert_int_equal(residency_add(residency, &models[i], i == 0 ? engine_scripted_new(&script, &error) : NULL), DB_OK);
	struct build_view wanted[] = {{.id = STR("new"), .state = BUILD_DOWNLOADING, .done_bytes = 1, .total_bytes = 4, .why = ""},
	                              {.id = STR("other"), .state = BUILD_FAILED, .why = "no room"}};
	struct state_builds builds = {wanted, model_count};
	struct node_queued waiting[] = {{.model = "acme/one", .request_id = "r1", .position = 1, .waited_ms = 70},
	                                {.model = "acme/one", .request_id = "r2", .position = 2, .waited_ms = 30}};
	struct state_queue queue = {waiting, model_count};
	if (state_write(dir, status, "wss://coordinator.example", residency, &builds, &queue, budget, cache, 1700000000000000,
	                &error))
		fail_msg("%s", error.text);
	kv_reservation_release(&held);
	kv_budget_free(budget);
	kv_cache_close(cache);
	residency_free(residency);
	net_loop_free(loop);
}

static void what_is_written_is_read_again(void **state)
{
	struct state read;
	struct error error;
	struct node_status status = some_status();
	struct stat info;
	(void)state;
	int64_t before = clock_wall_us();
	write_it(&status, 2);
	struct arena *arena = arena_new(0);
	assert_int_equal(state_read(dir, arena, &read, &error), DB_OK);
	assert_int_equal(read.schema, STATE_SCHEMA);
	assert_int_equal(read.pid, getpid());
	assert_true(read.written_at_us >= before && read.written_at_us <= clock_wall_us());
	assert_int_equal(read.started_at_us, 1700000000000000);
	assert_true(str_is(read.coordinator_url, "wss://coordinator.example"));
	assert_true(str_is(read.connection, "registered"));
	assert_true(str_is(read.trust_level, status.trust_level));
	assert_true(str_is(read.trust_status, status.trust_status));
	assert_true(str_is(read.trust_reason, status.trust_reason));
	assert_true(str_is(read.last_error, status.last_error));
	assert_int_equal(read.model_count, 2);
	assert_true(str_is(read.models[0].id, "acme/one"));
	assert_true(str_is(read.models[0].state, "loaded"));
	assert_true(str_is(read.models[1].id, "two"));
	assert_true(str_is(read.models[1].state, "cold"));
	assert_int_equal(read.queue_count, 2);
	assert_true(str_is(read.queue[1].request_id, "r2"));
	assert_int_equal(read.queue[1].position, 2);
	assert_int_equal(read.queue[0].waited_ms, 70);
	assert_int_equal(read.models[0].waiting, 2);
	assert_int_equal(read.models[0].longest_wait_ms, 70);
	assert_int_equal(read.models[1].waiting, 0);
	assert_int_equal(read.build_count, 2);
	assert_true(str_is(read.builds[0].id, "new"));
	assert_true(str_is(read.builds[0].state, "downloading"));
	assert_true(read.builds[0].progress > 0.24 && read.builds[0].progress < 0.26);
	assert_true(str_is(read.builds[1].why, "no room"));
	assert_int_equal(read.requests_active, 7);
	assert_int_equal(read.kv_limit_bytes, 1 << 20);
	assert_int_equal(read.kv_reserved_bytes, 4096);
	assert_int_equal(read.kv_peak_bytes, 4096);
	assert_true(read.cache.on);
	assert_int_equal(read.cache.lookups, 1);
	assert_int_equal(read.cache.misses, 1);
	assert_int_equal(read.cache.tokens_asked, 200 / KV_GRID * KV_GRID);
	assert_int_equal(read.cache.hits_ram + read.cache.hits_ssd, 0);
	assert_int_equal(read.requests_served, 12);
	assert_int_equal(read.tokens_generated, 3456);
	arena_free(arena);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
}

static void writing_again_replaces(void **state)
{
	struct state read;
	struct node_status status = some_status();
	(void)state;
	write_it(&status, 2);
	status.requests_served = 99;
	status.trust_reason[0] = '\0';
	write_it(&status, 0);
	struct arena *arena = arena_new(0);
	assert_int_equal(state_read(dir, arena, &read, NULL), DB_OK);
	assert_int_equal(read.requests_served, 99);
	assert_int_equal(read.trust_reason.len, 0);
	assert_int_equal(read.model_count, 0);
	arena_free(arena);
}

static void without_a_provider_there_is_none(void **state)
{
	struct state read;
	struct error error;
	struct node_status status = some_status();
	(void)state;
	struct arena *arena = arena_new(0);
	assert_int_equal(state_read(dir, arena, &read, &error), DB_E_NOT_FOUND);
	write_it(&status, 1);
	state_remove(dir);
	assert_int_equal(state_read(dir, arena, &read, &error), DB_E_NOT_FOUND);
	arena_free(arena);
}

static void damaged_and_foreign_files_are_refused(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "7", "{}", "{\"schema\":2}", "{\"schema\":\"1\"}", "{\"schema\":1"};
	struct state read;
	struct error error;
	(void)state;
	struct arena *arena = arena_new(0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(platform_write_private(path, str_of(bad[i]), &error), DB_OK);
		assert_int_equal(state_read(dir, arena, &read, &error), DB_E_INVALID);
		assert_non_null(strstr(error.text, path));
	}
	const char *odd =
	    "{\"schema\":1,\"pid\":\"x\",\"trust\":[],\"models\":[1,null,{\"id\":7},{\"id\":\"m\",\"state\":[]}],\"stats\":7}";
	assert_int_equal(platform_write_private(path, str_of(odd), &error), DB_OK);
	assert_int_equal(state_read(dir, arena, &read, &error), DB_OK);
	assert_int_equal(read.pid, 0);
	assert_int_equal(read.model_count, 1);
	assert_true(str_is(read.models[0].id, "m"));
	arena_free(arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(what_is_written_is_read_again),
	    TEST(writing_again_replaces),
	    TEST(without_a_provider_there_is_none),
	    TEST(damaged_and_foreign_files_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
