/* Pulling from a server in this process that misbehaves as it is told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/encode.h"
#include "core/json.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "net/http_server.h"
#include "provider/models/folder.h"
#include "provider/models/manifest.h"
#include "provider/models/models.h"

#define WEIGHTS_BYTES 300000
#define WEIGHTS       "model weights.gguf" /* the space must be escaped in its URL */
#define CONFIG        "conf/config.json"

enum fault {
	FAULT_NONE,
	FAULT_BREAK,        /* half of the file, then the connection ends */
	FAULT_CORRUPT,      /* one byte is wrong */
	FAULT_IGNORE_RANGE, /* 200 and the whole file */
	FAULT_WRONG_RANGE,  /* 206, but one byte further on */
	FAULT_NO_RANGE,     /* 416 */
	FAULT_BUSY,         /* 503 with a page of text */
	FAULT_MISSING,      /* 404 with a page of text */
	FAULT_FORBIDDEN,    /* 403 */
	FAULT_SHORT,
	FAULT_LONG,
	FAULT_STALL, /* half of the file, then nothing */
};

struct world {
	struct net_loop *loop;
	struct http_server *server;
	struct http_client *client;
	char dir[64], url[128];
	uint8_t weights[WEIGHTS_BYTES];
	struct buf manifest;

	enum fault fault;
	int faulty;          /* answers for the weights that still show the fault */
	int manifest_status; /* 200 unless set */
	int asked;           /* for the weights */
	uint64_t last_from;  /* Range start of the last of them, 0 = none */
	struct http_request *hanging;

	struct models_pull *pull;
	uint32_t stall_ms;
	uint64_t stop_at; /* progress says stop there, 0 = never */
	uint64_t progress_done, progress_total;
	int done;
	bool ok;
	struct model_entry entry;
	struct error error;
};

/* --- the server --- */

static void add_file(struct json_writer *w, const char *path, const void *bytes, size_t len)
{
	char hash[SHA256_HEX_SIZE];
	sha256_hex(bytes, len, hash);
	json_begin_object(w);
	json_put_cstr(w, "path", path);
	json_put_i64(w, "size_bytes", (int64_t)len);
	json_put_cstr(w, "sha256", hash);
	json_put_cstr(w, "role", "weight");
	json_end_object(w);
}

static void write_the_manifest(struct world *world)
{
	uint8_t digests[2][SHA256_BYTES];
	char aggregate[SHA256_HEX_SIZE];
	struct json_writer w;
	sha256("{}", 2, digests[0]); /* CONFIG sorts first */
	sha256(world->weights, sizeof world->weights, digests[1]);
	sha256_hex(digests, sizeof digests, aggregate);
	buf_clear(&world->manifest);
	json_writer_init(&w, &world->manifest);
	json_begin_object(&w);
	json_put_i64(&w, "schema_version", 1);
	json_put_cstr(&w, "model_id", "acme/tiny");
	json_put_cstr(&w, "aggregate_sha256", aggregate);
	json_put_i64(&w, "total_size_bytes", WEIGHTS_BYTES + 2);
	json_put_i64(&w, "file_count", 2);
	json_key(&w, "files");
	json_begin_array(&w);
	add_file(&w, WEIGHTS, world->weights, sizeof world->weights);
	add_file(&w, CONFIG, "{}", 2);
	json_end_array(&w);
	json_end_object(&w);
	assert_false(world->manifest.failed);
}

static void forget_hanging(struct http_request *request, void *user)
{
	struct world *world = user;
	if (world->hanging == request)
		world->hanging = NULL;
}

static void send_range(struct http_request *request, struct str whole, uint64_t from, uint64_t claimed)
{
	char range[96];
	snprintf(range, sizeof range, "bytes %llu-%zu/%zu", (unsigned long long)claimed, whole.len - 1, whole.len);
	http_add_header(request, "Content-Range", str_of(range));
	http_respond(request, 206, "application/octet-stream", str_sub(whole, (size_t)from, whole.len));
}

static void send_half(struct world *world, struct http_request *request, struct str whole, uint64_t from, bool then_break)
{
	char range[96];
	snprintf(range, sizeof range, "bytes %llu-%zu/%zu", (unsigned long long)from, whole.len - 1, whole.len);
	if (from)
		http_add_header(request, "Content-Range", str_of(range));
	http_set_user(request, world);
	http_set_on_gone(request, forget_hanging);
	http_stream_start(request, from ? 206 : 200, "application/octet-stream", NULL);
	http_stream_write(request, str_sub(whole, (size_t)from, (whole.len - (size_t)from) / 2));
	if (then_break)
		http_stream_abort(request);
	else
		world->hanging = request;
}

static void send_weights(struct world *world, struct http_request *request)
{
	struct str whole = {(const char *)world->weights, sizeof world->weights}, range = http_header_get(request, "range"), first;
	uint64_t from = 0;
	if (str_starts(range, STR("bytes="))) {
		str_cut(str_sub(range, 6, range.len), '-', &first);
		assert_true(str_to_u64(first, &from));
	}
	world->asked++;
	world->last_from = from;
	enum fault fault = world->faulty > 0 ? world->fault : FAULT_NONE;
	world->faulty--;
	uint8_t *changed = malloc(whole.len + 1);
	memcpy(changed, whole.at, whole.len);
	changed[whole.len] = 'x';
	switch (fault) {
	case FAULT_BREAK:
	case FAULT_STALL:
		send_half(world, request, whole, from, fault == FAULT_BREAK);
		break;
	case FAULT_CORRUPT:
		changed[whole.len - 1] ^= 1;
		whole.at = (const char *)changed;
		if (from)
			send_range(request, whole, from, from);
		else
			http_respond(request, 200, "application/octet-stream", whole);
		break;
	case FAULT_WRONG_RANGE:
		send_range(request, whole, from + 1, from + 1);
		break;
	case FAULT_NO_RANGE:
		http_respond(request, 416, "text/plain", STR("no such range"));
		break;
	case FAULT_BUSY:
		http_respond(request, 503, "text/plain", STR("a page that says try later"));
		break;
	case FAULT_MISSING:
		http_respond(request, 404, "text/plain", STR("a page that says not found"));
		break;
	case FAULT_FORBIDDEN:
		http_respond(request, 403, "text/plain", STR("a page that says no"));
		break;
	case FAULT_SHORT:
		http_respond(request, 200, "application/octet-stream", str_sub(whole, 0, whole.len - 1));
		break;
	case FAULT_LONG:
		http_respond(request, 200, "application/octet-stream", (struct str){(const char *)changed, whole.len + 1});
		break;
	case FAULT_NONE:
	case FAULT_IGNORE_RANGE:
		if (from && fault == FAULT_NONE)
			send_range(request, whole, from, from);
		else
			http_respond(request, 200, "application/octet-stream", whole);
	}
	free(changed);
}

static void on_request(struct http_request *request, void *context)
{
	struct world *world = context;
	struct str path = http_path(request);
	if (str_is(path, "/deep/er/manifest.json"))
		http_respond(request, world->manifest_status ? world->manifest_status : 200, "application/json",
		             buf_str(&world->manifest));
	else if (str_is(path, "/deep/er/model%20weights.gguf"))
		send_weights(world, request);
	else if (str_is(path, "/deep/er/" CONFIG))
		http_respond(request, 200, "application/json", STR("{}"));
	else
		http_respond(request, 404, NULL, STR("no such file"));
}

/* --- the pull --- */

static void on_done(const struct model_entry *entry, const struct error *error, void *user)
{
	struct world *world = user;
	world->done++;
	world->pull = NULL;
	world->ok = entry != NULL;
	if (entry)
		world->entry = *entry;
	else
		world->error = *error;
	net_loop_stop(world->loop);
}

static bool on_progress(uint64_t done_bytes, uint64_t total_bytes, void *user)
{
	struct world *world = user;
	world->progress_done = done_bytes;
	world->progress_total = total_bytes;
	return !world->stop_at || done_bytes < world->stop_at;
}

static void begin_pull(struct world *world)
{
	struct error error;
	struct models_pull_options options = {.dir = world->dir,
	                                      .manifest_url = world->url,
	                                      .retry_ms = 1,
	                                      .stall_ms = world->stall_ms,
	                                      .progress = on_progress,
	                                      .done = on_done,
	                                      .user = world};
	world->pull = models_pull_start(world->loop, world->client, &options, &error);
	assert_non_null(world->pull);
}

static bool pull(struct world *world)
{
	begin_pull(world);
	net_loop_run(world->loop);
	assert_null(world->pull);
	return world->ok;
}

/* The fault shows in the next `count` answers for the weights. */
static bool pull_with(struct world *world, enum fault fault, int count)
{
	world->fault = fault;
	world->faulty = count;
	return pull(world);
}

/* --- fixture --- */

static int open_world(void **state)
{
	struct error error;
	struct world *world = calloc(1, sizeof *world);
	log_set_level(LOG_ERROR);
	snprintf(world->dir, sizeof world->dir, "/tmp/pull-test-XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	for (size_t i = 0; i < sizeof world->weights; i++)
		world->weights[i] = (uint8_t)(i * 7 + i / 251);
	buf_init(&world->manifest, 1 << 20);
	write_the_manifest(world);
	world->loop = net_loop_new(&error);
	struct http_server_options options = {.host = "127.0.0.1", .context = world, .on_request = on_request};
	world->server = http_server_new(world->loop, &options, &error);
	world->client = http_client_new(world->loop, &error);
	assert_non_null(world->server);
	assert_non_null(world->client);
	snprintf(world->url, sizeof world->url, "http://127.0.0.1:%u/deep/er/manifest.json?sig=a/b",
	         http_server_port(world->server));
	*state = world;
	return 0;
}

static int close_world(void **state)
{
	struct world *world = *state;
	http_client_free(world->client);
	http_server_free(world->server);
	net_loop_free(world->loop);
	buf_free(&world->manifest);
	folder_remove(world->dir);
	free(world);
	return 0;
}

static size_t entries_in(const char *dir, bool hidden_ones)
{
	char command_free_path[128];
	struct model_entry *list;
	size_t count;
	struct error error;
	if (!hidden_ones) {
		assert_int_equal(models_scan(dir, &list, &count, &error), DB_OK);
		free(list);
		return count;
	}
	size_t hidden = 0;
	static const char *const names[] = {".old-acme--tiny", ".adding-acme--tiny"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(command_free_path, sizeof command_free_path, "%s/%s", dir, names[i]);
		hidden += access(command_free_path, F_OK) == 0;
	}
	return hidden;
}

static void staged(const struct world *world, char out[256])
{
	struct manifest manifest;
	struct arena *arena = arena_new(0);
	assert_int_equal(manifest_parse(buf_str(&world->manifest), arena, &manifest, NULL), DB_OK);
	snprintf(out, 256, "%s/.staging-%.16s/%s.part", world->dir, manifest.aggregate_sha256, WEIGHTS);
	arena_free(arena);
}

static int64_t part_size(const struct world *world)
{
	char path[256];
	struct stat info;
	staged(world, path);
	return stat(path, &info) == 0 ? (int64_t)info.st_size : -1;
}

static void assert_whole(struct world *world)
{
	struct model_entry entry;
	struct error error = {0};
	assert_int_equal(models_find(world->dir, STR("acme/tiny"), &entry, &error), DB_OK);
	assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_OK);
	assert_string_equal(entry.id, "acme/tiny");
	assert_non_null(strstr(entry.folder, "/acme--tiny"));
	assert_non_null(strstr(entry.weights, "/" WEIGHTS));
	assert_int_equal(entry.size_bytes, WEIGHTS_BYTES + 2);
	assert_int_equal(entries_in(world->dir, false), 1);
	assert_int_equal(part_size(world), -1);
}

/* --- tests --- */

static void pulls_verifies_and_publishes(void **state)
{
	struct world *world = *state;
	assert_true(pull(world));
	assert_whole(world);
	assert_int_equal(world->done, 1);
	assert_int_equal(world->asked, 1);
	assert_int_equal(world->progress_done, WEIGHTS_BYTES + 2);
	assert_int_equal(world->progress_total, WEIGHTS_BYTES + 2);
}

static void goes_on_where_a_broken_transfer_stopped(void **state)
{
	struct world *world = *state;
	assert_true(pull_with(world, FAULT_BREAK, 1));
	assert_whole(world);
	assert_int_equal(world->asked, 2);
	assert_true(world->last_from > 0);
}

static void resumes_a_part_of_any_length(void **state)
{
	static const size_t lengths[] = {1, 2, 4095, 4096, WEIGHTS_BYTES / 2, WEIGHTS_BYTES - 1, WEIGHTS_BYTES};
	struct world *world = *state;
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		char path[256];
		int before = world->asked;
		assert_false(pull_with(world, FAULT_MISSING, 1)); /* makes the staging folder */
		staged(world, path);
		FILE *file = fopen(path, "wb");
		assert_non_null(file);
		assert_int_equal(fwrite(world->weights, 1, lengths[i], file), lengths[i]);
		fclose(file);
		assert_true(pull(world));
		assert_whole(world);
		assert_int_equal(world->asked - before, lengths[i] == WEIGHTS_BYTES ? 1 : 2);
		if (lengths[i] < WEIGHTS_BYTES)
			assert_int_equal(world->last_from, lengths[i]);
	}
}

static void begins_anew_when_the_server_ignores_the_range(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_BREAK, 3));
	assert_true(part_size(world) > 0);
	assert_true(pull_with(world, FAULT_IGNORE_RANGE, 1));
	assert_whole(world);
}

static void throws_a_part_away_when_the_server_sends_another_range(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_BREAK, 3));
	int before = world->asked;
	assert_true(pull_with(world, FAULT_WRONG_RANGE, 1));
	assert_whole(world);
	assert_int_equal(world->asked - before, 2);
	assert_int_equal(world->last_from, 0);
}

static void throws_a_part_away_when_the_server_has_no_such_range(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_BREAK, 3));
	assert_true(pull_with(world, FAULT_NO_RANGE, 1));
	assert_whole(world);
	assert_int_equal(world->last_from, 0);
}

static void a_part_that_is_too_long_is_thrown_away(void **state)
{
	struct world *world = *state;
	char path[256];
	assert_false(pull_with(world, FAULT_MISSING, 1));
	staged(world, path);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	for (size_t i = 0; i <= WEIGHTS_BYTES; i++)
		fputc('x', file);
	fclose(file);
	assert_true(pull(world));
	assert_whole(world);
}

static void tries_a_file_with_a_wrong_hash_three_times(void **state)
{
	struct world *world = *state;
	assert_true(pull_with(world, FAULT_CORRUPT, 2));
	assert_whole(world);
	assert_int_equal(world->asked, 3);
}

static void gives_up_after_three_wrong_hashes_and_keeps_no_bad_part(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_CORRUPT, 3));
	assert_int_equal(world->asked, 3);
	assert_int_equal(world->error.code, DB_E_INVALID);
	assert_non_null(strstr(world->error.text, WEIGHTS));
	assert_int_equal(part_size(world), -1);
	assert_int_equal(entries_in(world->dir, false), 0);
}

static void a_missing_file_fails_at_once_and_its_error_page_is_not_kept(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_MISSING, 1));
	assert_int_equal(world->asked, 1);
	assert_int_equal(world->error.code, DB_E_NOT_FOUND);
	assert_non_null(strstr(world->error.text, "404"));
	assert_true(part_size(world) <= 0);
	assert_false(pull_with(world, FAULT_FORBIDDEN, 1));
	assert_int_equal(world->asked, 2);
	assert_true(pull(world));
	assert_whole(world);
}

static void a_busy_server_is_asked_again_and_costs_no_bytes(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_BREAK, 3));
	int64_t kept = part_size(world);
	assert_true(kept > 0);
	assert_false(pull_with(world, FAULT_BUSY, 3));
	assert_int_equal(world->error.code, DB_E_NOT_FOUND);
	assert_int_equal(part_size(world), kept);
	assert_true(pull_with(world, FAULT_BUSY, 2));
	assert_int_equal(world->last_from, kept);
	assert_whole(world);
}

static void files_of_another_length_than_promised_fail(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_SHORT, 3));
	assert_int_equal(world->error.code, DB_E_INVALID);
	assert_non_null(strstr(world->error.text, "shorter"));
	assert_false(pull_with(world, FAULT_LONG, 3));
	assert_int_equal(world->error.code, DB_E_INVALID);
	assert_non_null(strstr(world->error.text, "longer"));
	assert_int_equal(part_size(world), -1);
	assert_true(pull_with(world, FAULT_LONG, 2));
	assert_whole(world);
}

static void a_transfer_that_stalls_is_broken_off_and_resumed(void **state)
{
	struct world *world = *state;
	world->stall_ms = 200;
	assert_true(pull_with(world, FAULT_STALL, 1));
	assert_whole(world);
	assert_true(world->last_from > 0);
}

static void a_server_that_is_gone_fails_with_what_was_staged_kept(void **state)
{
	struct world *world = *state;
	assert_false(pull_with(world, FAULT_BREAK, 3));
	int64_t kept = part_size(world);
	char url[128];
	memcpy(url, world->url, sizeof url);
	snprintf(world->url, sizeof world->url, "http://127.0.0.1:1/manifest.json");
	assert_false(pull(world));
	assert_int_equal(world->error.code, DB_E_NOT_FOUND);
	assert_int_equal(part_size(world), kept);
	memcpy(world->url, url, sizeof url);
	assert_true(pull(world));
	assert_whole(world);
}

static void a_stop_from_progress_keeps_the_part(void **state)
{
	struct world *world = *state;
	world->stop_at = 1000;
	assert_false(pull(world));
	assert_int_equal(world->error.code, DB_E_CLOSED);
	assert_true(part_size(world) >= 1000 - 2);
	world->stop_at = 0;
	assert_true(pull(world));
	assert_whole(world);
}

static void stop_when_half_is_there(struct net_timer *timer);

struct watcher {
	struct net_timer timer;
	struct world *world;
};

static void stop_when_half_is_there(struct net_timer *timer)
{
	struct watcher *watcher = LIST_OF(timer, struct watcher, timer);
	if (!watcher->world->hanging || watcher->world->progress_done < WEIGHTS_BYTES / 2)
		return;
	net_timer_stop(timer);
	models_pull_cancel(watcher->world->pull);
	net_loop_stop(watcher->world->loop);
}

static void a_cancel_keeps_the_part_and_calls_nobody(void **state)
{
	struct world *world = *state;
	struct watcher watcher = {.world = world};
	world->fault = FAULT_STALL;
	world->faulty = 1;
	begin_pull(world);
	net_timer_start(world->loop, &watcher.timer, 1, 1, stop_when_half_is_there);
	net_loop_run(world->loop);
	assert_int_equal(world->done, 0);
	assert_int_equal(part_size(world), WEIGHTS_BYTES / 2);
	assert_true(pull(world));
	assert_int_equal(world->last_from, WEIGHTS_BYTES / 2);
	assert_whole(world);
}

static void a_cancel_at_once_calls_nobody(void **state)
{
	struct world *world = *state;
	begin_pull(world);
	models_pull_cancel(world->pull);
	assert_int_equal(world->done, 0);
}

static void replaces_a_model_and_leaves_nothing_of_the_old_one(void **state)
{
	struct world *world = *state;
	char extra[128];
	assert_true(pull(world));
	snprintf(extra, sizeof extra, "%s/acme--tiny/left-over", world->dir);
	FILE *file = fopen(extra, "wb");
	assert_non_null(file);
	fclose(file);
	snprintf(extra, sizeof extra, "%s/.old-acme--tiny", world->dir); /* of a process that was killed while it published */
	assert_int_equal(mkdir(extra, 0755), 0);
	char first[65];
	memcpy(first, world->entry.weight_hash, sizeof first);
	world->weights[17] ^= 0xff;
	write_the_manifest(world);
	assert_true(pull(world));
	assert_whole(world);
	assert_string_not_equal(world->entry.weight_hash, first);
	snprintf(extra, sizeof extra, "%s/acme--tiny/left-over", world->dir);
	assert_int_not_equal(access(extra, F_OK), 0);
	assert_int_equal(entries_in(world->dir, true), 0);
}

static void a_bad_manifest_fails_with_its_reason(void **state)
{
	struct world *world = *state;
	world->manifest_status = 404;
	assert_false(pull(world));
	assert_int_equal(world->error.code, DB_E_NOT_FOUND);
	world->manifest_status = 0;
	buf_clear(&world->manifest);
	buf_append_c(&world->manifest, "{\"schema_version\":1}");
	assert_false(pull(world));
	assert_int_equal(world->error.code, DB_E_INVALID);
	assert_int_equal(world->asked, 0);
}

static void a_disk_that_cannot_be_written_fails_at_once(void **state)
{
	struct world *world = *state;
	char path[256];
	assert_false(pull_with(world, FAULT_MISSING, 1));
	staged(world, path);
	unlink(path);
	assert_int_equal(mkdir(path, 0755), 0); /* a folder where the part should be */
	int before = world->asked;
	assert_false(pull(world));
	assert_int_equal(world->error.code, DB_E_IO);
	assert_int_equal(world->asked, before);
}

static void addresses_that_are_none_are_refused(void **state)
{
	static const char *const bad[] = {"", "manifest.json", "file:///etc/passwd", "http://", "http://host", "ftp://host/m.json"};
	struct world *world = *state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct error error = {0};
		struct models_pull_options options = {.dir = world->dir, .manifest_url = bad[i], .done = on_done, .user = world};
		assert_null(models_pull_start(world->loop, world->client, &options, &error));
		assert_int_equal(error.code, DB_E_INVALID);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(pulls_verifies_and_publishes),
	    TEST(goes_on_where_a_broken_transfer_stopped),
	    TEST(resumes_a_part_of_any_length),
	    TEST(begins_anew_when_the_server_ignores_the_range),
	    TEST(throws_a_part_away_when_the_server_sends_another_range),
	    TEST(throws_a_part_away_when_the_server_has_no_such_range),
	    TEST(a_part_that_is_too_long_is_thrown_away),
	    TEST(tries_a_file_with_a_wrong_hash_three_times),
	    TEST(gives_up_after_three_wrong_hashes_and_keeps_no_bad_part),
	    TEST(a_missing_file_fails_at_once_and_its_error_page_is_not_kept),
	    TEST(a_busy_server_is_asked_again_and_costs_no_bytes),
	    TEST(files_of_another_length_than_promised_fail),
	    TEST(a_transfer_that_stalls_is_broken_off_and_resumed),
	    TEST(a_server_that_is_gone_fails_with_what_was_staged_kept),
	    TEST(a_stop_from_progress_keeps_the_part),
	    TEST(a_cancel_keeps_the_part_and_calls_nobody),
	    TEST(a_cancel_at_once_calls_nobody),
	    TEST(replaces_a_model_and_leaves_nothing_of_the_old_one),
	    TEST(a_bad_manifest_fails_with_its_reason),
	    TEST(a_disk_that_cannot_be_written_fails_at_once),
	    TEST(addresses_that_are_none_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
