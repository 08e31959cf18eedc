/* The SSD tier: encrypted states of prefixes that survive this process (inference 10.7, 10.8, 11).
 *
 * A file holds the state of a prefix, or, where a state can be cut, only what its conversation added to a longer one on disk.
 * The index is in memory and rebuilt from the files; recency is their modification time. Anything that is wrong with a file is
 * a miss. The whole obeys a quota; files of least worth go first, and never before those that build on them.
 * Thread: any; the lock inside is not held during reads and writes. */
#ifndef PROVIDER_KV_DISK_H
#define PROVIDER_KV_DISK_H

#include "provider/kvcache/kv_file.h"
#include "provider/kvcache/kv_ram.h"

#define KV_DISK_DEFAULT_BYTES (UINT64_C(10) << 30)
#define KV_CHAIN_MAX          48 /* files of one prefix */
#define KV_DISK_SLOTS         16

/* How states are cut; for models whose states can be. Both give a new blob, or NULL when this state cannot be handled. */
struct kv_codec {
	/* The tokens [from, to) of a state. */
	struct kv_blob *(*cut)(const struct kv_blob *state, size_t from, size_t to);
	/* One state of parts that follow each other. */
	struct kv_blob *(*join)(struct kv_blob *const *parts, size_t count);
};

struct kv_disk_options {
	const char *root;
	const uint8_t *secret; /* KV_SECRET_BYTES, copied */
	uint64_t max_bytes;    /* 0 = min(10 GiB, half of what is free), looked at again at every tick */
	int64_t ttl_us;        /* since the last hit; 0 = none */
	uint64_t (*free_bytes)(const char *path, void *user); /* NULL: ask the system */
	void *user;
};

struct kv_disk_model_options {
	uint64_t model; /* serial within the process, not 0 */
	const char *model_id;
	const struct kv_shape *shape; /* copied; model_hash must be a real one */
	const struct kv_codec *codec; /* NULL: states cannot be cut; lives as long as the disk */
};

struct kv_disk;

struct kv_disk *kv_disk_open(const struct kv_disk_options *options, struct error *error);
void kv_disk_close(struct kv_disk *disk);
const struct kv_keys *kv_disk_keys(const struct kv_disk *disk);

/* Rebuilds the index of one model. Files of other weights under the same id are removed. */
enum db_err kv_disk_model_open(struct kv_disk *disk, const struct kv_disk_model_options *options, struct error *error);
/* Forgets the index; files stay. Writes that are under way remove what they wrote. */
void kv_disk_model_close(struct kv_disk *disk, uint64_t model);

/* Points of the longest prefix on disk; *bytes is what has to be read for it. */
size_t kv_disk_find(struct kv_disk *disk, uint64_t model, const struct kv_tag *tag, const struct kv_digest *points,
                    size_t count, uint64_t *bytes);
/* Reads exactly that prefix. A file that cannot be used is removed with all that build on it, but for KV_OTHER_SCOPE. */
enum kv_why kv_disk_read(struct kv_disk *disk, uint64_t model, const struct kv_tag *tag, const struct kv_digest *points,
                         size_t count, struct kv_blob **state);
/* Writes a snapshot unless it is there: DB_E_EXISTS. DB_E_LIMIT: the quota has no room for it. */
enum db_err kv_disk_write(struct kv_disk *disk, const struct kv_snapshot *snapshot, kv_file_pace pace, void *user);

/* Whom other processes ask to forget now; kv_disk_tick does it. Forgotten in memory first, nothing is found once the files
 * went. */
size_t kv_disk_asked(struct kv_disk *disk, struct kv_tag *erased, size_t max);
/* What other processes asked for and, when `whole`, expiry and quota (every 30 s). Returns how many tenants other processes
 * asked to forget; their tags are in `erased` (at most max): whoever has them in memory must forget them too. */
size_t kv_disk_tick(struct kv_disk *disk, bool whole, struct kv_tag *erased, size_t max);
void kv_disk_erase(struct kv_disk *disk, const struct kv_tag *tag); /* in this process's slot */

struct kv_disk_stats {
	uint64_t entries, bytes, quota_bytes;
	uint64_t writes, bytes_written, reads, bytes_read, read_us;
	uint64_t evictions, expirations, read_errors, model_mismatches, shape_mismatches, name_mismatches, scope_mismatches;
};
void kv_disk_stats(struct kv_disk *disk, struct kv_disk_stats *out);

/* --- for commands, without a running cache --- */
struct kv_disk_usage {
	uint64_t files, bytes;
	bool in_use; /* a process has this slot */
};
/* One for each slot that exists; returns how many. */
size_t kv_disk_usage(const char *root, struct kv_disk_usage out[KV_DISK_SLOTS]);
/* Removes everything (KV_EVERYBODY) or one tenant's files, also those that running processes have: they are told and forget
 * what they hold in memory. */
void kv_disk_erase_root(const char *root, const struct kv_tag *tag);

#endif
