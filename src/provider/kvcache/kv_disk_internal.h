/* What the files of the SSD tier share. */
#ifndef PROVIDER_KV_DISK_INTERNAL_H
#define PROVIDER_KV_DISK_INTERNAL_H

#include "core/list.h"
#include "provider/kvcache/kv_disk.h"
#include "provider/kvcache/kv_folder.h"
#include "provider/kvcache/kv_points_map.h"

#include <pthread.h>

struct disk_model {
	struct list_link link;
	uint64_t serial;
	struct kv_shape shape;
	const struct kv_codec *codec;
	char folder[KV_PATH_SIZE];
};

/* One file. */
struct disk_entry {
	struct list_link link;
	struct disk_model *model;
	struct kv_tag tag;
	struct kv_digest name, parent;
	uint64_t tokens, from, bytes;
	uint64_t hits;
	int64_t last_hit_us, touched_us; /* touched: the file's time was set */
	unsigned children;               /* files whose parent this is */
	size_t count;
	struct kv_point points[];
};

struct kv_disk {
	pthread_mutex_t lock;
	struct kv_disk_options options;
	char root[KV_PATH_SIZE], folder[KV_PATH_SIZE];
	unsigned slot;
	int lock_fd;
	struct kv_keys *keys;
	struct list models, entries;
	struct map points;
	uint64_t bytes;         /* of the entries */
	uint64_t unowned_bytes; /* of files in this slot whose model is not open */
	uint64_t epoch;         /* counts erasures and closings: a write that began before one undoes itself */
	struct kv_disk_stats stats;
};

/* Under the lock. */
struct disk_model *kv_disk_model(struct kv_disk *disk, uint64_t serial);
struct disk_entry *kv_disk_entry(struct kv_disk *disk, const struct disk_model *model, const struct kv_tag *tag,
                                 const struct kv_digest *name);
enum db_err kv_disk_add(struct kv_disk *disk, struct disk_model *model, const struct kv_tag *tag, const struct kv_digest *name,
                        const struct kv_file_facts *facts, const struct kv_digest *points, uint64_t bytes, int64_t used_us);
/* Forgets an entry and all that build on it; with their files when `unlink_files`. */
void kv_disk_forget(struct kv_disk *disk, struct disk_entry *entry, bool unlink_files);
/* The entry that holds the longest prefix; *found gets its length in points. */
struct disk_entry *kv_disk_longest(struct kv_disk *disk, uint64_t model, const struct kv_tag *tag,
                                   const struct kv_digest *points, size_t count, size_t *found);
size_t kv_disk_chain_length(struct kv_disk *disk, const struct disk_entry *entry);

bool kv_disk_path(const struct disk_model *model, const struct kv_tag *tag, const struct kv_digest *name,
                  char out[KV_PATH_SIZE]);
bool kv_disk_tag_folder(const struct disk_model *model, const struct kv_tag *tag, char out[KV_PATH_SIZE]);

/* kv_disk_quota.c, under the lock: removes what is worth least until `more` bytes fit; false when they cannot. */
bool kv_disk_make_room(struct kv_disk *disk, uint64_t more);

#endif
