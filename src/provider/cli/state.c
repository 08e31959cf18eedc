#include "provider/cli/state.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/version.h"

#define STATE_MAX_BYTES (256u << 10)

static bool state_path(const char *state_dir, char *out, size_t size)
{
	int n = snprintf(out, size, "%s/daemon-state.json", state_dir);
	return n > 0 && (size_t)n < size;
}

static void write_guesses(struct json_writer *w, struct engine *engine)
{
	struct engine_capacity capacity = {0};
	if (engine)
		engine_capacity(engine, &capacity);
	json_put_i64(w, "tokens_guessed", (int64_t)capacity.tokens_guessed);
	json_put_i64(w, "guesses_right", (int64_t)capacity.guesses_right);
}

static void write_models(struct json_writer *w, const struct residency *residency)
{
	size_t count = residency_count(residency);
	struct residency_view view;
	json_key(w, "warm_models");
	json_begin_array(w);
	for (size_t i = 0; i < count; i++) {
		residency_view(residency, i, &view);
		if (view.state == RESIDENCY_LOADED)
			json_cstr(w, view.model->id);
	}
	json_end_array(w);
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < count; i++) {
		residency_view(residency, i, &view);
		json_begin_object(w);
		json_put_cstr(w, "id", view.model->id);
		json_put_cstr(w, "state", residency_state_name(view.state));
		if (view.state == RESIDENCY_LOADING)
			json_put_double(w, "progress", (double)view.progress);
		json_put_i64(w, "uses", view.uses);
		write_guesses(w, view.engine);
		if (view.failure[0])
			json_put_cstr(w, "failure", view.failure);
		if (view.info.template_fault && view.info.template_fault[0])
			json_put_cstr(w, "template_fault", view.info.template_fault);
		json_end_object(w);
	}
	json_end_array(w);
}

static void write_builds(struct json_writer *w, const struct state_builds *builds)
{
	json_key(w, "desired_builds");
	json_begin_array(w);
	for (size_t i = 0; i < builds->count; i++) {
		const struct build_view *build = &builds->at[i];
		json_begin_object(w);
		json_put_str(w, "id", build->id);
		json_put_cstr(w, "state", build_state_name(build->state));
		if (build->total_bytes)
			json_put_double(w, "progress", (double)build->done_bytes / (double)build->total_bytes);
		if (build->why[0])
			json_put_cstr(w, "why", build->why);
		json_end_object(w);
	}
	json_end_array(w);
}

static void write_queue(struct json_writer *w, const struct state_queue *queue)
{
	json_key(w, "queue");
	json_begin_array(w);
	for (size_t i = 0; i < queue->count; i++) {
		const struct node_queued *one = &queue->at[i];
		json_begin_object(w);
		json_put_cstr(w, "model", one->model);
		json_put_cstr(w, "request_id", one->request_id);
		json_put_i64(w, "position", one->position);
		json_put_i64(w, "waited_ms", (int64_t)one->waited_ms);
		json_end_object(w);
	}
	json_end_array(w);
}

/* --- the prefix cache --- */

static const struct {
	const char *name;
	size_t offset;
} cache_members[] = {
    {"lookups", offsetof(struct state_cache, lookups)},
    {"hits_ram", offsetof(struct state_cache, hits_ram)},
    {"hits_ssd", offsetof(struct state_cache, hits_ssd)},
    {"misses", offsetof(struct state_cache, misses)},
    {"tokens_asked", offsetof(struct state_cache, tokens_asked)},
    {"tokens_saved", offsetof(struct state_cache, tokens_saved)},
    {"restore_ms", offsetof(struct state_cache, restore_ms)},
    {"stores", offsetof(struct state_cache, stores)},
    {"ram_bytes", offsetof(struct state_cache, ram_bytes)},
    {"disk_bytes", offsetof(struct state_cache, disk_bytes)},
    {"disk_quota_bytes", offsetof(struct state_cache, disk_quota_bytes)},
    {"bytes_written", offsetof(struct state_cache, bytes_written)},
    {"bytes_read", offsetof(struct state_cache, bytes_read)},
    {"write_drops", offsetof(struct state_cache, write_drops)},
    {"evictions", offsetof(struct state_cache, evictions)},
    {"read_errors", offsetof(struct state_cache, read_errors)},
};
#define CACHE_MEMBERS (sizeof cache_members / sizeof *cache_members)

void state_write_cache(struct json_writer *w, const struct state_cache *cache)
{
	json_key(w, "prefix_cache");
	json_begin_object(w);
	json_put_bool(w, "on", cache->on);
	if (cache->on && cache->secret.len)
		json_put_str(w, "secret", cache->secret);
	for (size_t i = 0; cache->on && i < CACHE_MEMBERS; i++)
		json_put_i64(w, cache_members[i].name, *(const int64_t *)(const void *)((const char *)cache + cache_members[i].offset));
	json_end_object(w);
}

static void read_cache(const json_val *object, struct state_cache *out)
{
	json_as_bool(json_get(object, "on"), &out->on);
	json_as_str(json_get(object, "secret"), &out->secret);
	for (size_t i = 0; i < CACHE_MEMBERS; i++)
		json_as_i64(json_get(object, cache_members[i].name), (int64_t *)(void *)((char *)out + cache_members[i].offset));
}

static struct state_cache cache_now(struct kv_cache *cache)
{
	struct kv_stats s;
	if (!cache)
		return (struct state_cache){.on = false};
	kv_cache_stats(cache, &s);
	return (struct state_cache){.on = true,
	                            .secret = s.kept ? str_of(s.kept) : (struct str){0},
	                            .lookups = (int64_t)s.lookups,
	                            .hits_ram = (int64_t)s.hits_ram,
	                            .hits_ssd = (int64_t)s.hits_ssd,
	                            .misses = (int64_t)s.misses,
	                            .tokens_asked = (int64_t)s.tokens_asked,
	                            .tokens_saved = (int64_t)s.tokens_saved,
	                            .restore_ms = (int64_t)(s.restore_us / 1000),
	                            .stores = (int64_t)s.stores,
	                            .ram_bytes = (int64_t)s.ram.bytes,
	                            .disk_bytes = (int64_t)s.disk.bytes,
	                            .disk_quota_bytes = (int64_t)s.disk.quota_bytes,
	                            .bytes_written = (int64_t)s.disk.bytes_written,
	                            .bytes_read = (int64_t)s.disk.bytes_read,
	                            .write_drops = (int64_t)s.write_drops,
	                            .evictions = (int64_t)(s.disk.evictions + s.ram.evicted),
	                            .read_errors = (int64_t)s.disk.read_errors};
}

/* --- all of it --- */

enum db_err state_write(const char *state_dir, const struct node_status *status, const char *coordinator_url,
                        const struct residency *residency, const struct state_builds *builds, const struct state_queue *queue,
                        struct kv_budget *budget, struct kv_cache *cache, int64_t started_at_us, struct error *error)
{
	char path[4096];
	if (!state_path(state_dir, path, sizeof path))
		return error_set(error, DB_E_LIMIT, "the state folder's path is too long");
	struct buf text;
	struct json_writer w;
	struct kv_budget_stats kv;
	struct state_cache cached = cache_now(cache);
	buf_init(&text, STATE_MAX_BYTES);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_i64(&w, "schema", STATE_SCHEMA);
	json_put_i64(&w, "pid", getpid());
	json_put_cstr(&w, "version", DARKBLOOM_VERSION);
	json_put_i64(&w, "written_at", clock_wall_us());
	json_put_i64(&w, "started_at", started_at_us);
	json_put_cstr(&w, "coordinator_url", coordinator_url);
	json_put_cstr(&w, "connection", node_state_name(status->state));
	json_put_cstr(&w, "last_error", status->last_error);
	json_key(&w, "trust");
	json_begin_object(&w);
	json_put_cstr(&w, "trust_level", status->trust_level);
	json_put_cstr(&w, "status", status->trust_status);
	json_put_cstr(&w, "reason", status->trust_reason);
	json_end_object(&w);
	write_models(&w, residency);
	write_builds(&w, builds);
	write_queue(&w, queue);
	kv_budget_stats(budget, &kv);
	json_key(&w, "kv_memory");
	json_begin_object(&w);
	json_put_i64(&w, "limit_bytes", (int64_t)kv.limit_bytes);
	json_put_i64(&w, "reserved_bytes", (int64_t)kv.reserved_bytes);
	json_put_i64(&w, "peak_bytes", (int64_t)kv.peak_bytes);
	json_end_object(&w);
	state_write_cache(&w, &cached);
	json_key(&w, "stats");
	json_begin_object(&w);
	json_put_i64(&w, "requests_active", (int64_t)status->requests_active);
	json_put_i64(&w, "requests_served", (int64_t)status->requests_served);
	json_put_i64(&w, "tokens_generated", (int64_t)status->tokens_generated);
	json_end_object(&w);
	json_end_object(&w);
	enum db_err err =
	    text.failed ? error_set(error, DB_E_NOMEM, "out of memory") : platform_write_private(path, buf_str(&text), error);
	buf_free(&text);
	return err;
}

static struct str text_of(const json_val *object, const char *key)
{
	struct str out = STR_NONE;
	json_as_str(json_get(object, key), &out);
	return out;
}

static int64_t number_of(const json_val *object, const char *key)
{
	int64_t out = 0;
	json_as_i64(json_get(object, key), &out);
	return out;
}

static enum db_err read_builds(const json_val *list, struct arena *arena, struct state *out)
{
	struct state_build *all = arena_alloc(arena, (json_len(list) + 1) * sizeof *all);
	struct json_iter each = json_iter(list);
	for (json_val *build; all && (build = json_next(&each, NULL));) {
		struct state_build *one = &all[out->build_count];
		*one = (struct state_build){.id = text_of(build, "id"), .state = text_of(build, "state"), .why = text_of(build, "why")};
		json_as_double(json_get(build, "progress"), &one->progress);
		out->build_count += one->id.len > 0;
	}
	out->builds = all;
	return all ? DB_OK : DB_E_NOMEM;
}

static void count_waiting(struct state_model *models, size_t count, const struct state_queued *one)
{
	for (size_t i = 0; i < count; i++) {
		if (!str_eq(models[i].id, one->model))
			continue;
		models[i].waiting++;
		if (one->waited_ms > models[i].longest_wait_ms)
			models[i].longest_wait_ms = one->waited_ms;
	}
}

static enum db_err read_queue(const json_val *list, struct state_model *models, struct arena *arena, struct state *out)
{
	struct state_queued *all = arena_alloc(arena, (json_len(list) + 1) * sizeof *all);
	struct json_iter each = json_iter(list);
	for (json_val *queued; all && (queued = json_next(&each, NULL));) {
		struct state_queued *one = &all[out->queue_count++];
		*one = (struct state_queued){.model = text_of(queued, "model"),
		                             .request_id = text_of(queued, "request_id"),
		                             .position = number_of(queued, "position"),
		                             .waited_ms = number_of(queued, "waited_ms")};
		count_waiting(models, out->model_count, one);
	}
	out->queue = all;
	return all ? DB_OK : DB_E_NOMEM;
}

enum db_err state_parse(struct str text, struct arena *arena, struct state *out)
{
	struct json_doc *doc = json_parse(text, arena, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	*out = (struct state){.schema = number_of(root, "schema")};
	if (out->schema != STATE_SCHEMA)
		return DB_E_INVALID;
	const json_val *trust = json_get(root, "trust"), *stats = json_get(root, "stats"), *kv = json_get(root, "kv_memory"),
	               *models = json_get(root, "models");
	out->pid = number_of(root, "pid");
	out->written_at_us = number_of(root, "written_at");
	out->started_at_us = number_of(root, "started_at");
	out->version = text_of(root, "version");
	out->coordinator_url = text_of(root, "coordinator_url");
	out->connection = text_of(root, "connection");
	out->last_error = text_of(root, "last_error");
	out->trust_level = text_of(trust, "trust_level");
	out->trust_status = text_of(trust, "status");
	out->trust_reason = text_of(trust, "reason");
	read_cache(json_get(root, "prefix_cache"), &out->cache);
	out->kv_limit_bytes = number_of(kv, "limit_bytes");
	out->kv_reserved_bytes = number_of(kv, "reserved_bytes");
	out->kv_peak_bytes = number_of(kv, "peak_bytes");
	out->requests_active = number_of(stats, "requests_active");
	out->requests_served = number_of(stats, "requests_served");
	out->tokens_generated = number_of(stats, "tokens_generated");
	struct state_model *all = arena_alloc(arena, (json_len(models) + 1) * sizeof *all);
	struct json_iter each = json_iter(models);
	for (json_val *model; all && (model = json_next(&each, NULL));) {
		struct state_model *one = &all[out->model_count];
		*one = (struct state_model){.id = text_of(model, "id"),
		                            .state = text_of(model, "state"),
		                            .uses = number_of(model, "uses"),
		                            .failure = text_of(model, "failure"),
		                            .template_fault = text_of(model, "template_fault"),
		                            .tokens_guessed = number_of(model, "tokens_guessed"),
		                            .guesses_right = number_of(model, "guesses_right")};
		json_as_double(json_get(model, "progress"), &one->progress);
		out->model_count += one->id.len > 0;
	}
	out->models = all;
	if (!all || read_queue(json_get(root, "queue"), all, arena, out))
		return DB_E_NOMEM;
	return read_builds(json_get(root, "desired_builds"), arena, out);
}

enum db_err state_read(const char *state_dir, struct arena *arena, struct state *out, struct error *error)
{
	char path[4096];
	struct buf text;
	if (!state_path(state_dir, path, sizeof path))
		return error_set(error, DB_E_LIMIT, "the state folder's path is too long");
	buf_init(&text, STATE_MAX_BYTES + 4096);
	enum db_err err = platform_read_file(path, STATE_MAX_BYTES, &text, error);
	if (!err) {
		err = state_parse(buf_str(&text), arena, out);
		if (err)
			error_set(error, err, "%s was not written by this version of darkbloom", path);
	}
	buf_free(&text);
	return err;
}

void state_remove(const char *state_dir)
{
	char path[4096];
	if (state_path(state_dir, path, sizeof path))
		unlink(path);
}

static enum db_err already_runs(int file, const char *state_dir, struct error *error)
{
	char text[24] = "";
	int64_t pid = 0;
	ssize_t n = pread(file, text, sizeof text - 1, 0);
	if (n > 0 && str_to_i64(str_trim((struct str){text, (size_t)n}), &pid))
		return error_set(error, DB_E_EXISTS,
		                 "a provider already runs with %s (process %lld): stop it, or give another --state-dir", state_dir,
		                 (long long)pid);
	return error_set(error, DB_E_EXISTS, "a provider already runs with %s: stop it, or give another --state-dir", state_dir);
}

enum db_err state_lock(const char *state_dir, struct error *error)
{
	char path[4096], text[24];
	int n = snprintf(path, sizeof path, "%s/provider.lock", state_dir);
	if (n < 0 || (size_t)n >= sizeof path)
		return error_set(error, DB_E_LIMIT, "the state folder's path is too long");
	int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file < 0)
		return error_set(error, DB_E_IO, "%s cannot be opened: check who owns the folder", path);
	if (flock(file, LOCK_EX | LOCK_NB) != 0) {
		enum db_err err = already_runs(file, state_dir, error);
		close(file);
		return err;
	}
	int len = snprintf(text, sizeof text, "%lld\n", (long long)getpid());
	bool named = ftruncate(file, 0) == 0 && pwrite(file, text, (size_t)len, 0) == len;
	(void)named;  /* only the sentence above suffers */
	return DB_OK; /* the file stays open: the lock goes with the process */
}
