#include "provider/kvcache/kv_cache.h"

#include "core/clock.h"
#include "core/wipe.h"
#include "provider/kvcache/kv_cache_internal.h"

#include <stdlib.h>

#define PREFILL_US_FIRST 340.0       /* per token, before anything is measured (inference 12) */
#define READ_US_FIRST    (1.0 / 400) /* per byte: 400 MB/s with decryption */
#define UPLOAD_US_FIRST  (1.0 / 2000)
#define MAX_WRITES       2
#define WEIGHT           0.3

/* --- open and close --- */

struct kv_cache *kv_cache_open(const struct kv_cache_options *options, struct error *error)
{
	struct kv_cache *cache = calloc(1, sizeof *cache);
	if (!cache) {
		error_set(error, DB_E_NOMEM, "insufficient memory for the prefix cache");
		return NULL;
	}
	cache->options = *options;
	cache->options.secret = NULL;
	cache->options.root = NULL;
	if (!cache->options.max_writes)
		cache->options.max_writes = MAX_WRITES;
	cache->read_us_per_byte = READ_US_FIRST;
	cache->next_serial = 1;
	list_init(&cache->models);
	list_init(&cache->writes);
	list_init(&cache->fetches);
	pthread_mutex_init(&cache->lock, NULL);
	kv_cond_init(&cache->writer_wake);
	kv_cond_init(&cache->reader_wake);
	kv_cond_init(&cache->settled);
	cache->ram = kv_ram_new(options->ram_bytes, KV_RAM_ENTRIES);
	enum db_err err = cache->ram ? DB_OK : error_set(error, DB_E_NOMEM, "insufficient memory for the prefix cache");
	if (!err && options->root && options->secret) {
		struct kv_disk_options disk = {.root = options->root,
		                               .secret = options->secret,
		                               .max_bytes = options->disk_bytes,
		                               .ttl_us = options->ttl_us,
		                               .free_bytes = options->free_bytes,
		                               .user = options->user};
		cache->disk = kv_disk_open(&disk, error);
		err = cache->disk ? DB_OK : DB_E_IO;
	}
	if (!err && kv_threads_start(cache))
		err = error_set(error, DB_E_NOMEM, "no threads for the prefix cache");
	if (err) {
		kv_cache_close(cache);
		return NULL;
	}
	return cache;
}

void kv_cache_close(struct kv_cache *cache)
{
	if (!cache)
		return;
	kv_threads_stop(cache);
	kv_ram_free(cache->ram);
	kv_disk_close(cache->disk);
	pthread_cond_destroy(&cache->writer_wake);
	pthread_cond_destroy(&cache->reader_wake);
	pthread_cond_destroy(&cache->settled);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

struct kv_model *kv_model_open(struct kv_cache *cache, const struct kv_model_options *options, struct error *error)
{
	struct kv_model *model = calloc(1, sizeof *model);
	if (!model) {
		error_set(error, DB_E_NOMEM, "insufficient memory for the prefix cache");
		return NULL;
	}
	model->cache = cache;
	model->codec = options->codec;
	model->prefill_us_per_token = PREFILL_US_FIRST;
	model->upload_us_per_byte = UPLOAD_US_FIRST;
	atomic_init(&model->busy, false);
	pthread_mutex_lock(&cache->lock);
	model->serial = cache->next_serial++;
	pthread_mutex_unlock(&cache->lock);
	struct kv_disk_model_options disk = {model->serial, options->model_id, &options->shape, options->codec};
	if (cache->disk && options->shape.model_hash[0])
		model->on_disk = kv_disk_model_open(cache->disk, &disk, error) == DB_OK;
	pthread_mutex_lock(&cache->lock);
	list_push_back(&cache->models, &model->link);
	pthread_mutex_unlock(&cache->lock);
	return model;
}

static void drop_queued(struct kv_cache *cache, const struct kv_model *model)
{
	LIST_EACH_SAFE (link, next, &cache->fetches) {
		struct kv_fetch *fetch = LIST_OF(link, struct kv_fetch, link);
		if (fetch->model == model)
			list_remove(&cache->fetches, &fetch->link);
	}
}

static bool is_writing(const struct kv_cache *cache, const struct kv_model *model)
{
	LIST_EACH (link, &cache->writes)
		if (LIST_OF(link, struct kv_write, link)->model == model)
			return true;
	return cache->writing && cache->writing->model == model;
}

/* What it still has to write is written first: the model is unloaded, not forgotten. */
void kv_model_close(struct kv_model *model)
{
	if (!model)
		return;
	struct kv_cache *cache = model->cache;
	atomic_store(&model->busy, false);
	pthread_mutex_lock(&cache->lock);
	drop_queued(cache, model);
	while (is_writing(cache, model) || (cache->fetching && cache->fetching->model == model))
		pthread_cond_wait(&cache->settled, &cache->lock);
	kv_ram_drop(cache->ram, model->serial, NULL);
	list_remove(&cache->models, &model->link);
	pthread_mutex_unlock(&cache->lock);
	if (model->on_disk)
		kv_disk_model_close(cache->disk, model->serial);
	free(model);
}

/* --- prompts --- */

static void make_tag(const struct kv_cache *cache, struct str tenant, struct kv_tag *out)
{
	if (cache->disk)
		kv_keys_tag(kv_disk_keys(cache->disk), tenant, out);
	else
		sha256(tenant.at ? tenant.at : "", tenant.len, out->bytes);
}

enum db_err kv_prompt_make(const struct kv_model *model, struct str tenant, struct str scope, const int32_t *tokens,
                           size_t count, struct kv_prompt *out)
{
	size_t points = kv_last_boundary(count) / KV_GRID;
	*out = (struct kv_prompt){.count = 0};
	if (!points)
		return DB_E_NOT_FOUND;
	if (points > KV_FILE_POINTS_MAX)
		return DB_E_LIMIT;
	out->points = malloc(points * sizeof *out->points);
	if (!out->points)
		return DB_E_NOMEM;
	out->count = kv_points(scope, tokens, points * KV_GRID, out->points);
	make_tag(model->cache, tenant.len ? tenant : scope, &out->tag);
	return DB_OK;
}

void kv_prompt_free(struct kv_prompt *prompt)
{
	if (prompt->points)
		wipe(prompt->points, prompt->count * sizeof *prompt->points);
	free(prompt->points);
	*prompt = (struct kv_prompt){.count = 0};
}

/* --- measures --- */

static void observe(double *average, double value)
{
	*average += WEIGHT * (value - *average);
}

void kv_model_prefilled(struct kv_model *model, uint64_t tokens, uint64_t us)
{
	if (!tokens || !us)
		return;
	pthread_mutex_lock(&model->cache->lock);
	observe(&model->prefill_us_per_token, (double)us / (double)tokens);
	pthread_mutex_unlock(&model->cache->lock);
}

void kv_model_uploaded(struct kv_model *model, uint64_t bytes, uint64_t us)
{
	if (!bytes)
		return;
	pthread_mutex_lock(&model->cache->lock);
	observe(&model->upload_us_per_byte, (double)us / (double)bytes);
	pthread_mutex_unlock(&model->cache->lock);
}

void kv_model_busy(struct kv_model *model, bool busy)
{
	atomic_store_explicit(&model->busy, busy, memory_order_relaxed);
}

/* --- fetching --- */

/* How long a prefix on disk is, in points, when reading it is quicker than computing what memory has not. */
static size_t worth_reading(struct kv_model *model, const struct kv_prompt *prompt)
{
	struct kv_cache *cache = model->cache;
	uint64_t bytes = 0;
	size_t on_disk = kv_disk_find(cache->disk, model->serial, &prompt->tag, prompt->points, prompt->count, &bytes);
	pthread_mutex_lock(&cache->lock);
	size_t in_memory = kv_ram_find(cache->ram, model->serial, prompt->points, prompt->count);
	double computing = on_disk > in_memory ? (double)((on_disk - in_memory) * KV_GRID) * model->prefill_us_per_token : 0;
	double reading = (double)bytes * (cache->read_us_per_byte + model->upload_us_per_byte);
	pthread_mutex_unlock(&cache->lock);
	return computing > reading || (computing > 0 && cache->options.always_read) ? on_disk : 0;
}

struct kv_fetch *kv_fetch_begin(struct kv_model *model, const struct kv_prompt *prompt, void (*done)(void *user), void *user)
{
	struct kv_cache *cache = model->cache;
	size_t points = model->on_disk && prompt->count ? worth_reading(model, prompt) : 0;
	if (!points)
		return NULL;
	struct kv_fetch *fetch = calloc(1, sizeof *fetch);
	struct kv_digest *copy = malloc(points * sizeof *copy);
	if (!fetch || !copy) {
		free(fetch);
		free(copy);
		return NULL;
	}
	memcpy(copy, prompt->points, points * sizeof *copy);
	*fetch = (struct kv_fetch){
	    .model = model, .prompt = {.tag = prompt->tag, .points = copy, .count = points}, .done = done, .user = user};
	atomic_init(&fetch->finished, false);
	pthread_mutex_lock(&cache->lock);
	list_push_back(&cache->fetches, &fetch->link);
	pthread_cond_signal(&cache->reader_wake);
	pthread_mutex_unlock(&cache->lock);
	return fetch;
}

bool kv_fetch_done(const struct kv_fetch *fetch)
{
	return atomic_load(&fetch->finished);
}

void kv_fetch_end(struct kv_fetch *fetch)
{
	if (!fetch)
		return;
	struct kv_cache *cache = fetch->model->cache;
	pthread_mutex_lock(&cache->lock);
	list_remove(&cache->fetches, &fetch->link);
	fetch->done = NULL;
	bool running = fetch->running;
	if (running)
		fetch->model = NULL; /* the reader frees it */
	pthread_mutex_unlock(&cache->lock);
	if (running)
		return;
	kv_fetch_free(fetch);
}

/* --- taking and storing --- */

static unsigned size_class(size_t tokens)
{
	unsigned class = 0;
	for (size_t points = tokens / KV_GRID; points > 1 && class < 15; points /= 2)
		class ++;
	return class;
}

static void take_fetched(const struct kv_fetch *fetch, struct kv_taken *out)
{
	size_t tokens = fetch && atomic_load(&fetch->finished) && fetch->state ? fetch->prompt.count * KV_GRID : 0;
	if (tokens <= out->tokens)
		return;
	kv_blob_release(out->state);
	*out = (struct kv_taken){kv_blob_hold(fetch->state), tokens, tokens, true};
}

void kv_take(struct kv_model *model, const struct kv_prompt *prompt, const struct kv_fetch *fetch, struct kv_taken *out)
{
	struct kv_cache *cache = model->cache;
	size_t found = 0;
	*out = (struct kv_taken){NULL, 0, 0, false};
	pthread_mutex_lock(&cache->lock);
	out->state =
	    kv_ram_take(cache->ram, model->serial, prompt->points, prompt->count, clock_wall_us(), &found, &out->state_tokens);
	out->tokens = found * KV_GRID;
	take_fetched(fetch, out);
	/* The reader puts what it fetched into memory too. */
	out->from_disk = fetch && out->state && out->state == fetch->state;
	cache->stats.lookups++;
	cache->stats.tokens_asked += prompt->count * KV_GRID;
	if (!out->state)
		cache->stats.misses++;
	pthread_mutex_unlock(&cache->lock);
}

void kv_reject(struct kv_model *model, const struct kv_prompt *prompt, const struct kv_taken *taken)
{
	pthread_mutex_lock(&model->cache->lock);
	kv_ram_drop_one(model->cache->ram, model->serial, prompt->points, taken->tokens / KV_GRID);
	model->cache->stats.misses++;
	pthread_mutex_unlock(&model->cache->lock);
}

void kv_restored(struct kv_model *model, const struct kv_taken *taken, uint64_t us)
{
	struct kv_stats *stats = &model->cache->stats;
	pthread_mutex_lock(&model->cache->lock);
	*(taken->from_disk ? &stats->hits_ssd : &stats->hits_ram) += 1;
	stats->tokens_saved += taken->tokens;
	stats->restore_us += us;
	stats->hits_by_size[size_class(taken->tokens)]++;
	pthread_mutex_unlock(&model->cache->lock);
}

bool kv_wants(struct kv_model *model, const struct kv_prompt *prompt, size_t tokens)
{
	size_t points = tokens / KV_GRID;
	if (!points || tokens % KV_GRID || points > prompt->count)
		return false;
	pthread_mutex_lock(&model->cache->lock);
	const struct kv_digest *point = &prompt->points[points - 1];
	bool here = kv_ram_find(model->cache->ram, model->serial, point, 1) != 0;
	pthread_mutex_unlock(&model->cache->lock);
	return !here;
}

/* The oldest that waits makes room: what was computed last is what is asked for next. */
static void queue_write(struct kv_cache *cache, struct kv_model *model, const struct kv_snapshot *snapshot)
{
	size_t bytes = snapshot->point_count * sizeof *snapshot->points;
	struct kv_write *write = malloc(sizeof *write + bytes);
	if (!write) {
		cache->stats.write_drops++;
		return;
	}
	*write = (struct kv_write){.model = model, .snapshot = *snapshot};
	memcpy(write->points, snapshot->points, bytes);
	write->snapshot.points = write->points;
	kv_blob_hold(snapshot->blob);
	if (cache->writes.count >= cache->options.max_writes) {
		kv_write_free(LIST_OF(list_pop_front(&cache->writes), struct kv_write, link));
		cache->stats.write_drops++;
	}
	list_push_back(&cache->writes, &write->link);
	pthread_cond_signal(&cache->writer_wake);
}

void kv_store(struct kv_model *model, const struct kv_prompt *prompt, size_t tokens, size_t parent_tokens,
              struct kv_blob *state, bool persist)
{
	struct kv_cache *cache = model->cache;
	struct kv_snapshot snapshot = {.model = model->serial,
	                               .tag = prompt->tag,
	                               .cuttable = model->codec != NULL,
	                               .points = prompt->points,
	                               .point_count = tokens / KV_GRID,
	                               .parent_points = parent_tokens / KV_GRID,
	                               .blob = state};
	if (!snapshot.point_count || snapshot.point_count > prompt->count)
		return;
	pthread_mutex_lock(&cache->lock);
	if (kv_ram_put(cache->ram, &snapshot, clock_wall_us()) == DB_OK)
		cache->stats.stores++;
	if (persist && model->on_disk && tokens >= cache->options.min_persist_tokens)
		queue_write(cache, model, &snapshot);
	pthread_mutex_unlock(&cache->lock);
}

/* --- the whole --- */

static bool is_of(const struct kv_tag *one, const struct kv_tag *tag)
{
	return !tag || memcmp(one, tag, sizeof *tag) == 0;
}

/* What a thread is at work on cannot be taken from it: it drops that when it is done. */
void kv_cache_forget(struct kv_cache *cache, const struct kv_tag *tag)
{
	LIST_EACH_SAFE (link, next, &cache->writes) {
		struct kv_write *write = LIST_OF(link, struct kv_write, link);
		if (!is_of(&write->snapshot.tag, tag))
			continue;
		list_remove(&cache->writes, &write->link);
		kv_write_free(write);
	}
	LIST_EACH (link, &cache->fetches) {
		struct kv_fetch *fetch = LIST_OF(link, struct kv_fetch, link);
		fetch->erased = fetch->erased || is_of(&fetch->prompt.tag, tag);
	}
	if (cache->writing && is_of(&cache->writing->snapshot.tag, tag))
		cache->writing->erased = true;
	if (cache->fetching && is_of(&cache->fetching->prompt.tag, tag))
		cache->fetching->erased = true;
	kv_ram_drop(cache->ram, 0, tag);
	pthread_cond_broadcast(&cache->settled);
}

static void forget_locked(struct kv_cache *cache, const struct kv_tag *tag)
{
	pthread_mutex_lock(&cache->lock);
	kv_cache_forget(cache, tag);
	pthread_mutex_unlock(&cache->lock);
}

void kv_cache_erase(struct kv_cache *cache, struct str tenant)
{
	struct kv_tag tag;
	make_tag(cache, tenant, &tag);
	forget_locked(cache, &tag);
	if (cache->disk) {
		kv_disk_erase(cache->disk, &tag);
		forget_locked(cache, &tag); /* what a thread began to read while its file was still there */
	}
}

void kv_cache_settle(struct kv_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	while (cache->writes.count || cache->writing || cache->fetches.count || cache->fetching)
		pthread_cond_wait(&cache->settled, &cache->lock);
	pthread_mutex_unlock(&cache->lock);
}

void kv_cache_stats(struct kv_cache *cache, struct kv_stats *out)
{
	pthread_mutex_lock(&cache->lock);
	*out = cache->stats;
	kv_ram_use(cache->ram, &out->ram);
	pthread_mutex_unlock(&cache->lock);
	if (cache->disk) {
		kv_disk_stats(cache->disk, &out->disk);
		out->kept = cache->options.kept;
	}
}

/* --- names --- */

void kv_model_name(struct kv_model *model, const struct kv_prompt *prompt, const uint64_t *names, size_t count)
{
	if (!prompt->count || !count)
		return;
	struct kv_named named = {.end = prompt->points[prompt->count - 1], .count = count < KV_NAMES_EACH ? count : KV_NAMES_EACH};
	memcpy(named.names, names, named.count * sizeof *names);
	pthread_mutex_lock(&model->cache->lock);
	model->named[model->next_named] = named;
	model->next_named = (model->next_named + 1) % KV_NAMES;
	pthread_mutex_unlock(&model->cache->lock);
	wipe(&named, sizeof named);
}

static size_t add_names(const struct kv_named *named, uint64_t *out, size_t count, size_t max)
{
	for (size_t i = 0; i < named->count; i++) {
		size_t at = 0;
		while (at < count && out[at] != named->names[i])
			at++;
		if (at == count && count < max)
			out[count++] = named->names[i];
	}
	return count;
}

size_t kv_model_names(struct kv_model *model, uint64_t *out, size_t max)
{
	size_t count = 0;
	pthread_mutex_lock(&model->cache->lock);
	for (size_t back = 1; back <= KV_NAMES && count < max; back++) {
		const struct kv_named *named = &model->named[(model->next_named + KV_NAMES - back) % KV_NAMES];
		if (named->count && kv_ram_find(model->cache->ram, model->serial, &named->end, 1))
			count = add_names(named, out, count, max);
	}
	pthread_mutex_unlock(&model->cache->lock);
	return count;
}
