/* The folders of the SSD tier:
 *
 *   <root>/slot-N/            one for each process at a time; `lock` is held by an advisory lock while the process lives
 *   <root>/slot-N/<12 hex of SHA-256(model id)>/<12 hex of the model hash>/<tenant tag>/<name>.darkbloom-kv
 *   <root>/slot-N/erase-<tenant tag>    a request to forget a tenant, for the process that has the slot
 *   <root>/ledger             bytes of every slot, 16 x u64 LE, written under a lock
 *
 * Links are never followed. Everything blocks; thread: any. */
#ifndef PROVIDER_KV_FOLDER_H
#define PROVIDER_KV_FOLDER_H

#include "core/error.h"
#include "provider/kvcache/kv_keys.h"

#define KV_PATH_SIZE 1024
#define KV_SLOTS     16

/* Takes the first slot that no living process has. `path` gets its folder, *lock_fd its lock (close to give it back). */
enum db_err kv_slot_take(const char *root, char path[KV_PATH_SIZE], unsigned *slot, int *lock_fd, struct error *error);
/* Takes that slot if nobody has it; -1 otherwise. */
int kv_slot_try(const char *root, unsigned slot, char path[KV_PATH_SIZE]);

enum db_err kv_folder_make(const char *path); /* with its parents, mode 0700 */
enum db_err kv_folder_sync(const char *path);
/* Removes a folder with everything in it. */
void kv_folder_remove(const char *path);

struct kv_found {
	const char *path, *name;
	uint64_t bytes;
	int64_t used_us; /* modification time: when it was made or last hit */
	bool temporary;  /* left by a write that did not finish */
};
/* Calls fn for every regular file below, at any level, that is a cache file or a temporary one. */
void kv_folder_walk(const char *path, void (*fn)(const struct kv_found *found, void *user), void *user);

/* Records this slot's bytes and tells those of all others. 0 when the ledger cannot be used. */
uint64_t kv_ledger_update(const char *root, unsigned slot, uint64_t bytes);

#endif
