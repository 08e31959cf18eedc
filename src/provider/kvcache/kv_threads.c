/* The writer, which also keeps house, and the reader. */
#include "core/clock.h"
#include "core/log.h"
#include "provider/kvcache/kv_cache_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#ifdef __linux__
#include <sys/resource.h>
#endif

#define TICK_MS        1000
#define TICKS_OF_QUOTA 30
#define STOP_US        2000000
#define ERASED_MAX     16
/* While models run the writer takes this part of one processor: decoding must not feel it. */
#define BUSY_REST   60
#define REST_MAX_US 2000000
#define WEIGHT      0.3
#define WRITER_NICE 10

/* Apple's pthreads cannot wait by the monotonic clock except relatively. */
void kv_cond_init(pthread_cond_t *cond)
{
#ifdef __APPLE__
	pthread_cond_init(cond, NULL);
#else
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
#endif
}

static void wait_us(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t us)
{
#ifdef __APPLE__
	struct timespec time = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
	pthread_cond_timedwait_relative_np(cond, lock, &time);
#else
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	uint64_t ns = (uint64_t)time.tv_nsec + us % 1000000 * 1000;
	time.tv_sec += (time_t)(us / 1000000 + ns / 1000000000);
	time.tv_nsec = (long)(ns % 1000000000);
	pthread_cond_timedwait(cond, lock, &time);
#endif
}

void kv_write_free(struct kv_write *write)
{
	kv_blob_release(write->snapshot.blob);
	free(write);
}

void kv_fetch_free(struct kv_fetch *fetch)
{
	kv_blob_release(fetch->state);
	kv_prompt_free(&fetch->prompt);
	free(fetch);
}

/* --- writing --- */

static bool any_busy(const struct kv_cache *cache)
{
	LIST_EACH (link, &cache->models)
		if (atomic_load_explicit(&LIST_OF(link, struct kv_model, link)->busy, memory_order_relaxed))
			return true;
	return false;
}

struct pacing {
	struct kv_cache *cache;
	uint64_t since_us;
};

/* Rests after each chunk while a model decodes. */
static bool pace(uint64_t bytes, void *user)
{
	struct pacing *pacing = user;
	struct kv_cache *cache = pacing->cache;
	(void)bytes;
	pthread_mutex_lock(&cache->lock);
	uint64_t now = clock_mono_us(), rest = (now - pacing->since_us) * BUSY_REST;
	uint64_t until = now + (rest < REST_MAX_US ? rest : REST_MAX_US);
	while (!cache->stopping && any_busy(cache) && (now = clock_mono_us()) < until)
		wait_us(&cache->writer_wake, &cache->lock, until - now);
	bool go_on = !cache->stopping || clock_mono_us() < cache->stop_by_us;
	pthread_mutex_unlock(&cache->lock);
	pacing->since_us = clock_mono_us();
	return go_on;
}

static void write_next(struct kv_cache *cache)
{
	struct pacing pacing = {cache, clock_mono_us()};
	struct kv_write *write = LIST_OF(list_pop_front(&cache->writes), struct kv_write, link);
	cache->writing = write;
	bool late = cache->stopping && clock_mono_us() >= cache->stop_by_us;
	pthread_mutex_unlock(&cache->lock);
	enum db_err err = late ? DB_E_CLOSED : kv_disk_write(cache->disk, &write->snapshot, pace, &pacing);
	if (err && err != DB_E_EXISTS && err != DB_E_CLOSED)
		log_warn("cache.write_failed", "error=%s", error_name(err));
	pthread_mutex_lock(&cache->lock);
	if (write->erased) { /* perhaps before the disk was told to write it, which then did not notice */
		pthread_mutex_unlock(&cache->lock);
		kv_disk_erase(cache->disk, &write->snapshot.tag);
		pthread_mutex_lock(&cache->lock);
	}
	cache->writing = NULL; /* from here on nobody looks at it */
	pthread_cond_broadcast(&cache->settled);
	pthread_mutex_unlock(&cache->lock);
	kv_write_free(write);
	pthread_mutex_lock(&cache->lock);
}

/* --- keeping house --- */

static void forget_erased(struct kv_cache *cache, const struct kv_tag *erased, size_t count)
{
	pthread_mutex_lock(&cache->lock);
	for (size_t i = 0; i < count; i++)
		kv_cache_forget(cache, kv_tag_is_everybody(&erased[i]) ? NULL : &erased[i]);
	pthread_mutex_unlock(&cache->lock);
}

static void log_stats(struct kv_cache *cache)
{
	struct kv_stats s;
	kv_cache_stats(cache, &s);
	uint64_t hits = s.hits_ram + s.hits_ssd;
	log_info(
	    "cache.stats",
	    "lookups=%llu hits=%llu ram=%llu ssd=%llu misses=%llu hitRate=%.3f tokensAsked=%llu tokensSaved=%llu restoreMs=%llu "
	    "stores=%llu ssdFlushes=%llu writeDrops=%llu diskEvictions=%llu bytesRead=%llu ssdReadErrors=%llu "
	    "modelMismatch=%llu shapeMismatch=%llu prefixHashMismatch=%llu scopeMismatch=%llu ttlExpirations=%llu "
	    "ramBytes=%llu diskBytes=%llu",
	    (unsigned long long)s.lookups, (unsigned long long)hits, (unsigned long long)s.hits_ram, (unsigned long long)s.hits_ssd,
	    (unsigned long long)s.misses, s.lookups ? (double)hits / (double)s.lookups : 0, (unsigned long long)s.tokens_asked,
	    (unsigned long long)s.tokens_saved, (unsigned long long)(s.restore_us / 1000), (unsigned long long)s.stores,
	    (unsigned long long)s.disk.writes, (unsigned long long)s.write_drops, (unsigned long long)s.disk.evictions,
	    (unsigned long long)s.disk.bytes_read, (unsigned long long)s.disk.read_errors,
	    (unsigned long long)s.disk.model_mismatches, (unsigned long long)s.disk.shape_mismatches,
	    (unsigned long long)s.disk.name_mismatches, (unsigned long long)s.disk.scope_mismatches,
	    (unsigned long long)s.disk.expirations, (unsigned long long)s.ram.bytes, (unsigned long long)s.disk.bytes);
}

struct house {
	uint64_t tick_us, next_us, ticks, stats_us, next_stats_us;
};

/* Without the lock. */
static void keep_house(struct kv_cache *cache, struct house *house)
{
	struct kv_tag erased[ERASED_MAX];
	uint64_t now = clock_mono_us();
	house->next_us = now + house->tick_us;
	if (cache->disk) {
		bool whole = house->ticks++ % TICKS_OF_QUOTA == 0;
		forget_erased(cache, erased, kv_disk_asked(cache->disk, erased, ERASED_MAX));
		size_t count = kv_disk_tick(cache->disk, whole, erased, ERASED_MAX);
		if (count)
			forget_erased(cache, erased, count);
	}
	if (house->stats_us && now >= house->next_stats_us) {
		house->next_stats_us = now + house->stats_us;
		log_stats(cache);
	}
}

/* It never takes a processor from a thread that decodes. It holds the lock only to look at lists, so nobody waits long for it.
 */
static void give_way(void)
{
#ifdef __linux__
	setpriority(PRIO_PROCESS, 0, WRITER_NICE); /* of this thread */
#endif
}

static void *writer_main(void *user)
{
	struct kv_cache *cache = user;
	give_way();
	uint64_t tick_us = UINT64_C(1000) * (cache->options.tick_ms ? cache->options.tick_ms : TICK_MS);
	struct house house = {.tick_us = tick_us, .stats_us = UINT64_C(1000000) * cache->options.stats_interval_s};
	house.next_stats_us = clock_mono_us() + house.stats_us;
	pthread_mutex_lock(&cache->lock);
	while (!cache->stopping || cache->writes.count) {
		uint64_t now = clock_mono_us();
		if (cache->writes.count) {
			write_next(cache);
		} else if (now >= house.next_us) {
			pthread_mutex_unlock(&cache->lock);
			keep_house(cache, &house);
			pthread_mutex_lock(&cache->lock);
		} else {
			wait_us(&cache->writer_wake, &cache->lock, house.next_us - now);
		}
	}
	pthread_mutex_unlock(&cache->lock);
	return NULL;
}

/* --- reading --- */

/* Into memory too, for those that ask next. */
static void keep(struct kv_cache *cache, const struct kv_fetch *fetch)
{
	struct kv_snapshot snapshot = {.model = fetch->model->serial,
	                               .tag = fetch->prompt.tag,
	                               .cuttable = fetch->model->codec != NULL,
	                               .points = fetch->prompt.points,
	                               .point_count = fetch->prompt.count,
	                               .blob = fetch->state};
	kv_ram_put(cache->ram, &snapshot, clock_wall_us());
}

static void fetch_next(struct kv_cache *cache)
{
	struct kv_fetch *fetch = LIST_OF(list_pop_front(&cache->fetches), struct kv_fetch, link);
	uint64_t serial = fetch->model->serial, start_us = clock_mono_us();
	struct kv_blob *state = NULL;
	cache->fetching = fetch;
	fetch->running = true;
	pthread_mutex_unlock(&cache->lock);
	enum kv_why why = kv_disk_read(cache->disk, serial, &fetch->prompt.tag, fetch->prompt.points, fetch->prompt.count, &state);
	uint64_t us = clock_mono_us() - start_us;
	pthread_mutex_lock(&cache->lock);
	cache->fetching = NULL;
	fetch->running = false;
	if (why == KV_GOOD) {
		cache->read_us_per_byte += WEIGHT * ((double)us / (double)state->len - cache->read_us_per_byte);
		fetch->state = state;
	}
	if (fetch->erased) {
		kv_blob_release(fetch->state);
		fetch->state = NULL;
	}
	if (!fetch->model) { /* nobody waits for it any more */
		kv_fetch_free(fetch);
	} else {
		if (fetch->state)
			keep(cache, fetch);
		atomic_store(&fetch->finished, true);
		if (fetch->done)
			fetch->done(fetch->user);
	}
	pthread_cond_broadcast(&cache->settled);
}

static void *reader_main(void *user)
{
	struct kv_cache *cache = user;
	pthread_mutex_lock(&cache->lock);
	while (!cache->stopping) {
		if (cache->fetches.count)
			fetch_next(cache);
		else
			pthread_cond_wait(&cache->reader_wake, &cache->lock);
	}
	pthread_mutex_unlock(&cache->lock);
	return NULL;
}

/* --- start and stop --- */

enum db_err kv_threads_start(struct kv_cache *cache)
{
	cache->writer_runs = pthread_create(&cache->writer, NULL, writer_main, cache) == 0;
	cache->reader_runs = cache->writer_runs && cache->disk && pthread_create(&cache->reader, NULL, reader_main, cache) == 0;
	return cache->writer_runs && (!cache->disk || cache->reader_runs) ? DB_OK : DB_E_NOMEM;
}

void kv_threads_stop(struct kv_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	cache->stopping = true;
	cache->stop_by_us = clock_mono_us() + STOP_US;
	pthread_cond_broadcast(&cache->writer_wake);
	pthread_cond_broadcast(&cache->reader_wake);
	pthread_mutex_unlock(&cache->lock);
	if (cache->writer_runs)
		pthread_join(cache->writer, NULL);
	if (cache->reader_runs)
		pthread_join(cache->reader, NULL);
}
