/* Builds that are wanted here, from a server in this process to a scripted engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "net/http_server.h"
#include "provider/models/folder.h"
#include "provider/node/builds.h"

#define GIB        (UINT64_C(1) << 30)
#define WAIT_TICKS 30000
#define WEIGHTS    "GGUF and what the weights are"

struct world {
	struct net_loop *loop;
	struct http_server *server;
	struct residency *residency;
	struct builds *builds;
	struct builds_options options;
	struct memory_now memory;
	char dir[64], source[64];
	int status;          /* of the server's answers; 200 unless set */
	const char *lies_as; /* the manifest's id; NULL: the one that was asked for */
	uint64_t claims;     /* size of the weights in the manifest; 0 = the true one */
	int manifests, weights, failing_loads;
	char said[512]; /* "new:pending new:downloading ..." without repeats */
	char why[200];
	struct net_timer tick;
	int ticks;
	const char *until;
};

/* --- the server --- */

static void send_manifest(struct world *world, struct http_request *request, const char *id)
{
	uint8_t digest[SHA256_BYTES];
	char hash[SHA256_HEX_SIZE], aggregate[SHA256_HEX_SIZE];
	int64_t size = world->claims ? (int64_t)world->claims : (int64_t)strlen(WEIGHTS);
	struct buf text;
	struct json_writer w;
	sha256(WEIGHTS, strlen(WEIGHTS), digest);
	sha256_hex(WEIGHTS, strlen(WEIGHTS), hash);
	sha256_hex(digest, sizeof digest, aggregate);
	buf_init(&text, 4096);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_i64(&w, "schema_version", 1);
	json_put_cstr(&w, "model_id", world->lies_as ? world->lies_as : id);
	json_put_cstr(&w, "aggregate_sha256", aggregate);
	json_put_i64(&w, "total_size_bytes", size);
	json_put_i64(&w, "file_count", 1);
	json_key(&w, "files");
	json_begin_array(&w);
	json_begin_object(&w);
	json_put_cstr(&w, "path", "weights.gguf");
	json_put_i64(&w, "size_bytes", size);
	json_put_cstr(&w, "sha256", hash);
	json_put_cstr(&w, "role", "weight");
	json_end_object(&w);
	json_end_array(&w);
	json_end_object(&w);
	http_respond(request, 200, "application/json", buf_str(&text));
	buf_free(&text);
}

static void on_request(struct http_request *request, void *context)
{
	struct world *world = context;
	struct str path = http_path(request), rest = str_sub(path, strlen("/models/"), path.len), folder;
	char name[64];
	str_cut(rest, '/', &folder);
	assert_true(str_copy(str_eq(folder, STR("acme--new")) ? STR("acme/new") : folder, name, sizeof name));
	if (world->status) {
		http_respond(request, world->status, "text/plain", STR("not now"));
	} else if (str_ends(path, STR("/manifest.json"))) {
		world->manifests++;
		send_manifest(world, request, name);
	} else {
		world->weights++;
		http_respond(request, 200, "application/octet-stream", STR(WEIGHTS));
	}
}

/* --- the provider's side --- */

static void memory(struct memory_now *out, void *context)
{
	*out = ((struct world *)context)->memory;
}

static struct engine *load(const struct residency_model *model, void (*progress)(float fraction, void *user), void *user,
                           void *context, struct error *error)
{
	struct engine_script script = {.text = "word"};
	struct world *world = context;
	(void)model;
	(void)progress;
	(void)user;
	if (world->failing_loads-- > 0) {
		error_set(error, DB_E_INVALID, "these are no weights");
		return NULL;
	}
	return engine_scripted_new(&script, error);
}

static enum db_err add(const struct model_entry *entry, void *context, struct error *error)
{
	struct residency_model model = {.size_bytes = entry->size_bytes, .held = true};
	(void)error;
	str_copy(str_of(entry->id), model.id, sizeof model.id);
	str_copy(str_of(entry->weight_hash), model.weight_hash, sizeof model.weight_hash);
	return residency_add(((struct world *)context)->residency, &model, NULL);
}

static void on_report(const struct build_view *view, void *user)
{
	struct world *world = user;
	char word[96];
	snprintf(word, sizeof word, "%.*s:%s ", STR_ARG(view->id), build_state_name(view->state));
	size_t len = strlen(world->said), more = strlen(word);
	bool repeated = len >= more && strcmp(world->said + len - more, word) == 0;
	if (!repeated && len + more < sizeof world->said)
		memcpy(world->said + len, word, more + 1);
	if (view->state == BUILD_FAILED)
		snprintf(world->why, sizeof world->why, "%s", view->why);
}

static void on_tick(struct net_timer *timer)
{
	struct world *world = LIST_OF(timer, struct world, tick);
	if (!strstr(world->said, world->until) && ++world->ticks < WAIT_TICKS)
		return;
	net_timer_stop(timer);
	net_loop_stop(world->loop);
}

static void run_until_said(struct world *world, const char *what)
{
	world->until = what;
	world->ticks = 0;
	net_timer_start(world->loop, &world->tick, 0, 1, on_tick);
	net_loop_run(world->loop);
	if (!strstr(world->said, what))
		fail_msg("never said \"%s\", but \"%s\" (%s)", what, world->said, world->why);
}

static int open_world(void **state)
{
	struct error error;
	struct world *world = calloc(1, sizeof *world);
	log_set_level(LOG_ERROR);
	snprintf(world->dir, sizeof world->dir, "/tmp/builds-test-XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	world->loop = net_loop_new(&error);
	struct http_server_options options = {.host = "127.0.0.1", .context = world, .on_request = on_request};
	world->server = http_server_new(world->loop, &options, &error);
	assert_non_null(world->server);
	snprintf(world->source, sizeof world->source, "http://127.0.0.1:%u/models/", http_server_port(world->server));
	world->memory = (struct memory_now){.physical_gb = 64, .available_gb = 60};
	struct residency_options how = {.policy = memory_policy_of(64, -1), .memory = memory, .load = load, .context = world};
	world->residency = residency_new(world->loop, &how);
	struct residency_model old = {.id = "old", .weight_hash = "1"};
	assert_int_equal(residency_add(world->residency, &old, NULL), DB_OK);
	world->options = (struct builds_options){.source = world->source,
	                                         .models_dir = world->dir,
	                                         .retry_ms = 1,
	                                         .residency = world->residency,
	                                         .add = add,
	                                         .context = world,
	                                         .report = on_report,
	                                         .user = world};
	world->builds = builds_new(world->loop, &world->options, &error);
	assert_non_null(world->builds);
	*state = world;
	return 0;
}

static int close_world(void **state)
{
	struct world *world = *state;
	builds_free(world->builds);
	residency_free(world->residency);
	http_server_free(world->server);
	net_loop_free(world->loop);
	folder_remove(world->dir);
	free(world);
	return 0;
}

static void want(struct world *world, const char *id, const char *hash)
{
	struct build_wanted wanted = {str_of(id), str_of(hash)};
	builds_want(world->builds, &wanted, 1);
}

/* --- the tests --- */

static void a_build_is_fetched_loaded_and_only_then_offered(void **state)
{
	struct world *world = *state;
	want(world, "acme/new", NULL);
	run_until_said(world, "acme/new:ready");
	assert_string_equal(world->said,
	                    "acme/new:pending acme/new:downloading acme/new:verifying acme/new:loading acme/new:ready ");
	assert_false(residency_find(world->residency, STR("acme/new"))->held);
	assert_int_equal(world->weights, 1);
	want(world, "acme/new", NULL); /* as after a new connection */
	struct build_view view;
	assert_int_equal(builds_list(world->builds, &view, 1), 1);
	assert_int_equal(view.state, BUILD_READY);
	assert_int_equal(world->weights, 1);
}

static void one_comes_after_the_other(void **state)
{
	struct world *world = *state;
	struct build_wanted both[] = {{STR("one"), STR_NONE}, {STR("two"), STR_NONE}};
	builds_want(world->builds, both, 2);
	run_until_said(world, "two:ready");
	assert_non_null(strstr(world->said, "one:ready two:downloading"));
}

static void what_is_served_already_is_ready_at_once(void **state)
{
	struct world *world = *state;
	want(world, "old", NULL);
	run_until_said(world, "old:ready");
	assert_int_equal(world->manifests, 0);
}

static void a_served_build_with_other_files_than_pinned_is_not_replaced(void **state)
{
	struct world *world = *state;
	want(world, "old", "2");
	run_until_said(world, "old:failed");
	assert_non_null(strstr(world->why, "owner"));
	assert_int_equal(world->manifests, 0);
}

static void a_server_without_it_is_asked_again_five_times_until_told_anew(void **state)
{
	struct world *world = *state;
	world->status = 404;
	want(world, "new", NULL);
	run_until_said(world, "new:failed new:pending new:failed new:pending new:failed new:pending new:failed new:pending "
	                      "new:failed new:pending new:failed");
	world->until = "new:ready"; /* nothing more comes by itself */
	world->ticks = WAIT_TICKS - 100;
	net_timer_start(world->loop, &world->tick, 0, 1, on_tick);
	net_loop_run(world->loop);
	assert_null(strstr(world->said, "new:ready"));
	world->status = 0;
	want(world, "new", NULL);
	run_until_said(world, "new:ready");
}

static void another_model_under_the_name_is_refused_for_good(void **state)
{
	struct world *world = *state;
	world->lies_as = "something/else";
	want(world, "new", NULL);
	run_until_said(world, "new:failed");
	assert_non_null(strstr(world->why, "something/else"));
	assert_int_equal(world->weights, 0);
	assert_int_equal(world->manifests, 1);
}

static void what_could_never_be_loaded_is_not_fetched(void **state)
{
	struct world *world = *state;
	world->claims = 60 * GIB;
	want(world, "new", NULL);
	run_until_said(world, "new:failed");
	assert_non_null(strstr(world->why, "needs 76.0 GB"));
	assert_int_equal(world->weights, 0);
	assert_string_equal(world->said, "new:pending new:failed ");
}

static void a_load_that_fails_is_tried_again_and_nothing_is_offered_meanwhile(void **state)
{
	struct world *world = *state;
	world->failing_loads = 2;
	want(world, "new", NULL);
	run_until_said(world, "new:failed");
	assert_true(residency_find(world->residency, STR("new"))->held);
	run_until_said(world, "new:ready");
	assert_false(residency_find(world->residency, STR("new"))->held);
	assert_int_equal(world->weights, 1);
}

static void memory_that_is_taken_now_is_waited_for(void **state)
{
	struct world *world = *state;
	world->memory.available_gb = 1;
	want(world, "new", NULL);
	run_until_said(world, "new:failed");
	assert_non_null(strstr(world->why, "insufficient memory"));
	world->memory.available_gb = 60;
	run_until_said(world, "new:ready");
}

static void a_prefetch_fills_the_disk_and_offers_nothing(void **state)
{
	struct world *world = *state;
	struct model_entry entry;
	struct error error;
	builds_prefetch(world->builds, STR("later"), 9);
	run_until_said(world, "later:ready");
	assert_null(residency_find(world->residency, STR("later")));
	assert_int_equal(models_find(world->dir, STR("later"), &entry, &error), DB_OK);
	want(world, "later", NULL); /* from the disk now */
	run_until_said(world, "later:loading later:ready");
	assert_int_equal(world->weights, 1);
}

static void what_is_not_wanted_any_more_is_forgotten(void **state)
{
	struct world *world = *state;
	struct build_view view;
	want(world, "new", NULL);
	builds_want(world->builds, NULL, 0);
	assert_int_equal(builds_list(world->builds, &view, 1), 0);
	want(world, "old", NULL);
	run_until_said(world, "old:ready");
	assert_int_equal(world->weights, 0);
}

static void an_id_that_is_none_fails_with_a_reason(void **state)
{
	struct world *world = *state;
	want(world, "../etc/passwd", NULL);
	run_until_said(world, "../etc/passwd:failed");
	assert_non_null(strstr(world->why, "not a model id"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_build_is_fetched_loaded_and_only_then_offered),
	    TEST(one_comes_after_the_other),
	    TEST(what_is_served_already_is_ready_at_once),
	    TEST(a_served_build_with_other_files_than_pinned_is_not_replaced),
	    TEST(a_server_without_it_is_asked_again_five_times_until_told_anew),
	    TEST(another_model_under_the_name_is_refused_for_good),
	    TEST(what_could_never_be_loaded_is_not_fetched),
	    TEST(a_load_that_fails_is_tried_again_and_nothing_is_offered_meanwhile),
	    TEST(memory_that_is_taken_now_is_waited_for),
	    TEST(a_prefetch_fills_the_disk_and_offers_nothing),
	    TEST(what_is_not_wanted_any_more_is_forgotten),
	    TEST(an_id_that_is_none_fails_with_a_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
