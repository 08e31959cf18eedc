/* What the files of the prefix cache share. */
#ifndef PROVIDER_KV_CACHE_INTERNAL_H
#define PROVIDER_KV_CACHE_INTERNAL_H

#include "core/list.h"
#include "provider/kvcache/kv_cache.h"

#include <pthread.h>

/* What others call a prompt. */
struct kv_named {
	struct kv_digest end; /* its last boundary */
	uint64_t names[KV_NAMES_EACH];
	size_t count; /* 0: none */
};

struct kv_model {
	struct list_link link;
	struct kv_cache *cache;
	uint64_t serial;
	const struct kv_codec *codec;
	bool on_disk;
	atomic_bool busy;
	double prefill_us_per_token, upload_us_per_byte; /* averages; under the lock */
	struct kv_named named[KV_NAMES];                 /* a ring; under the lock */
	size_t next_named;
};

/* A snapshot that waits for the disk. */
struct kv_write {
	struct list_link link;
	struct kv_model *model;
	struct kv_snapshot snapshot;
	bool erased; /* its tenant was, while it was written */
	struct kv_digest points[];
};

struct kv_fetch {
	struct list_link link;
	struct kv_model *model;
	struct kv_prompt prompt;  /* up to the prefix that is read */
	void (*done)(void *user); /* NULL once it was called, or the fetch was given up */
	void *user;
	bool running, erased;  /* erased: its tenant was, meanwhile */
	struct kv_blob *state; /* once finished; NULL when it could not be read */
	atomic_bool finished;
};

struct kv_cache {
	struct kv_cache_options options;
	struct kv_disk *disk; /* NULL: memory only */
	pthread_mutex_t lock;
	pthread_cond_t writer_wake, reader_wake, settled;
	struct list models, writes, fetches;
	struct kv_ram *ram;
	struct kv_stats stats;
	uint64_t next_serial;
	double read_us_per_byte;
	struct kv_write *writing;
	struct kv_fetch *fetching;
	bool stopping;
	uint64_t stop_by_us; /* writes are given up then */
	bool writer_runs, reader_runs;
	pthread_t writer, reader;
};

/* kv_threads.c */
enum db_err kv_threads_start(struct kv_cache *cache);
void kv_threads_stop(struct kv_cache *cache);
void kv_fetch_free(struct kv_fetch *fetch);
void kv_write_free(struct kv_write *write);
void kv_cond_init(pthread_cond_t *cond);
/* Forgets what memory, queues and threads hold of a tenant; NULL: of all. The lock is held. */
void kv_cache_forget(struct kv_cache *cache, const struct kv_tag *tag);

#endif
