/* What goes when the disk is full, too old, or not wanted any more (inference 10.8). */
#include "core/clock.h"
#include "core/encode.h"
#include "provider/kvcache/kv_disk_internal.h"
#include "provider/kvcache/kv_score.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ERASE_MARK "erase-"

/* --- quota --- */

static uint64_t system_free_bytes(const char *path)
{
	struct statvfs stat;
	return statvfs(path, &stat) == 0 ? (uint64_t)stat.f_bavail * stat.f_frsize : 0;
}

/* Of all processes together. What the cache itself holds could be free: without it the quota would shrink as it fills. */
static uint64_t ceiling(const struct kv_disk *disk, uint64_t held)
{
	const struct kv_disk_options *options = &disk->options;
	if (options->max_bytes)
		return options->max_bytes;
	uint64_t free_bytes = options->free_bytes ? options->free_bytes(disk->root, options->user) : system_free_bytes(disk->root);
	uint64_t half = (free_bytes + held) / 2;
	return half < KV_DISK_DEFAULT_BYTES ? half : KV_DISK_DEFAULT_BYTES;
}

static struct kv_worth worth(const struct disk_entry *entry)
{
	return (struct kv_worth){
	    .uses = (double)entry->hits + 1,
	    .tokens = entry->tokens - entry->from,
	    .bytes = entry->bytes,
	    .last_hit_us = entry->last_hit_us,
	    .digest = &entry->name,
	};
}

/* Only what nothing else builds on. */
static struct disk_entry *least_worth(struct kv_disk *disk, int64_t now_us)
{
	struct disk_entry *first = NULL;
	struct kv_worth least = {0};
	LIST_EACH (link, &disk->entries) {
		struct disk_entry *entry = LIST_OF(link, struct disk_entry, link);
		struct kv_worth value = worth(entry);
		if (entry->children || (first && !kv_goes_first(&value, &least, now_us)))
			continue;
		first = entry;
		least = value;
	}
	return first;
}

struct oldest {
	char path[KV_PATH_SIZE];
	int64_t used_us;
	uint64_t bytes;
	struct kv_disk *disk; /* NULL: every file counts; else only those of models that are not open */
};

static bool is_open(const struct kv_disk *disk, const char *path)
{
	LIST_EACH (link, &disk->models) {
		struct str folder = str_of(LIST_OF(link, struct disk_model, link)->folder);
		if (str_starts(str_of(path), folder))
			return true;
	}
	return false;
}

static void note_oldest(const struct kv_found *found, void *user)
{
	struct oldest *oldest = user;
	if (found->temporary || (oldest->disk && is_open(oldest->disk, found->path)) ||
	    (oldest->path[0] && found->used_us >= oldest->used_us))
		return;
	if (str_copy(str_of(found->path), oldest->path, sizeof oldest->path)) {
		oldest->used_us = found->used_us;
		oldest->bytes = found->bytes;
	}
}

/* A file of a model that is not loaded, the oldest. */
static bool evict_unowned(struct kv_disk *disk)
{
	struct oldest oldest = {.path = "", .disk = disk};
	kv_folder_walk(disk->folder, note_oldest, &oldest);
	if (!oldest.path[0] || unlink(oldest.path) != 0) {
		disk->unowned_bytes = 0;
		return false;
	}
	disk->unowned_bytes -= oldest.bytes < disk->unowned_bytes ? oldest.bytes : disk->unowned_bytes;
	return true;
}

static void sum_bytes(const struct kv_found *found, void *user)
{
	*(uint64_t *)user += found->bytes;
}

/* The lock of another slot, when no process has it; else -1. */
static int try_dead_slot(const struct kv_disk *disk, unsigned slot, char folder[KV_PATH_SIZE])
{
	int n = snprintf(folder, KV_PATH_SIZE, "%s/slot-%u", disk->root, slot);
	bool there = slot != disk->slot && n > 0 && n < KV_PATH_SIZE && access(folder, F_OK) == 0;
	return there ? kv_slot_try(disk->root, slot, folder) : -1;
}

/* Slots that no process has give theirs first. */
static void empty_dead_slots(struct kv_disk *disk)
{
	for (unsigned i = 0; i < KV_SLOTS; i++) {
		char folder[KV_PATH_SIZE];
		int fd = try_dead_slot(disk, i, folder);
		if (fd < 0)
			continue;
		uint64_t bytes = 0;
		kv_folder_walk(folder, sum_bytes, &bytes);
		if (bytes)
			kv_folder_remove(folder);
		kv_ledger_update(disk->root, i, 0);
		close(fd);
	}
}

bool kv_disk_make_room(struct kv_disk *disk, uint64_t more)
{
	uint64_t own = disk->bytes + disk->unowned_bytes;
	uint64_t others = kv_ledger_update(disk->root, disk->slot, own);
	disk->stats.quota_bytes = ceiling(disk, own + others);
	if (own + others + more > disk->stats.quota_bytes && others) {
		empty_dead_slots(disk);
		others = kv_ledger_update(disk->root, disk->slot, own);
	}
	int64_t now_us = clock_wall_us();
	while (disk->bytes + disk->unowned_bytes + others + more > disk->stats.quota_bytes) {
		if (disk->unowned_bytes && evict_unowned(disk)) {
			disk->stats.evictions++;
			continue;
		}
		struct disk_entry *entry = least_worth(disk, now_us);
		if (!entry)
			return false;
		kv_disk_forget(disk, entry, true);
		disk->stats.evictions++;
	}
	return true;
}

/* --- age --- */

struct ageing {
	struct kv_disk *disk;
	int64_t before_us;
};

static void expire_unowned(const struct kv_found *found, void *user)
{
	struct ageing *ageing = user;
	if (found->temporary || found->used_us >= ageing->before_us || is_open(ageing->disk, found->path))
		return;
	unlink(found->path);
	ageing->disk->unowned_bytes -= found->bytes < ageing->disk->unowned_bytes ? found->bytes : ageing->disk->unowned_bytes;
	ageing->disk->stats.expirations++;
}

static void expire_dead(const struct kv_found *found, void *user)
{
	struct ageing *ageing = user;
	bool is_state = strstr(found->name, KV_FILE_SUFFIX) != NULL;
	if (is_state && found->used_us < ageing->before_us && unlink(found->path) == 0)
		ageing->disk->stats.expirations++;
}

/* Of processes that will perhaps never come back. */
static void expire_dead_slots(struct ageing *ageing)
{
	for (unsigned i = 0; i < KV_SLOTS; i++) {
		char folder[KV_PATH_SIZE];
		int fd = try_dead_slot(ageing->disk, i, folder);
		if (fd < 0)
			continue;
		uint64_t bytes = 0;
		kv_folder_walk(folder, expire_dead, ageing);
		kv_folder_walk(folder, sum_bytes, &bytes);
		kv_ledger_update(ageing->disk->root, i, bytes);
		close(fd);
	}
}

static void expire(struct kv_disk *disk)
{
	struct ageing ageing = {disk, clock_wall_us() - disk->options.ttl_us};
	if (!disk->options.ttl_us)
		return;
	for (bool again = true; again;) {
		again = false;
		LIST_EACH (link, &disk->entries) {
			struct disk_entry *entry = LIST_OF(link, struct disk_entry, link);
			if (entry->children || entry->last_hit_us >= ageing.before_us)
				continue;
			kv_disk_forget(disk, entry, true);
			disk->stats.expirations++;
			again = true;
			break;
		}
	}
	if (disk->unowned_bytes)
		kv_folder_walk(disk->folder, expire_unowned, &ageing);
	expire_dead_slots(&ageing);
}

/* --- forgetting a tenant --- */

static void erase_folders(const char *path, const char *tag_hex, int depth)
{
	DIR *folder = depth < 3 ? opendir(path) : NULL;
	if (!folder)
		return;
	for (struct dirent *each; (each = readdir(folder));) {
		char child[KV_PATH_SIZE];
		int n = snprintf(child, sizeof child, "%s/%s", path, each->d_name);
		if (each->d_name[0] == '.' || n < 0 || n >= KV_PATH_SIZE)
			continue;
		if (!tag_hex || strcmp(each->d_name, tag_hex) == 0)
			kv_folder_remove(child);
		else
			erase_folders(child, tag_hex, depth + 1);
	}
	closedir(folder);
}

static void forget_tag(struct kv_disk *disk, const struct kv_tag *tag)
{
	disk->epoch++;
	for (bool again = true; again;) {
		again = false;
		LIST_EACH (link, &disk->entries) {
			struct disk_entry *entry = LIST_OF(link, struct disk_entry, link);
			if (!kv_tag_is_everybody(tag) && memcmp(&entry->tag, tag, sizeof *tag) != 0)
				continue;
			kv_disk_forget(disk, entry, true);
			again = true;
			break;
		}
	}
}

void kv_disk_erase(struct kv_disk *disk, const struct kv_tag *tag)
{
	char hex[SHA256_HEX_SIZE];
	hex_encode(tag->bytes, sizeof tag->bytes, hex);
	pthread_mutex_lock(&disk->lock);
	forget_tag(disk, tag);
	erase_folders(disk->folder, kv_tag_is_everybody(tag) ? NULL : hex, 0);
	if (kv_tag_is_everybody(tag))
		disk->unowned_bytes = 0;
	pthread_mutex_unlock(&disk->lock);
}

size_t kv_disk_asked(struct kv_disk *disk, struct kv_tag *erased, size_t max)
{
	size_t count = 0;
	DIR *folder = opendir(disk->folder);
	if (!folder)
		return 0;
	for (struct dirent *each; count < max && (each = readdir(folder));) {
		struct str name = str_of(each->d_name), mark = STR(ERASE_MARK);
		if (str_starts(name, mark) &&
		    !hex_decode(str_sub(name, mark.len, name.len), erased[count].bytes, sizeof erased[count].bytes))
			count++;
	}
	closedir(folder);
	return count;
}

static void remove_mark(const struct kv_disk *disk, const struct kv_tag *tag)
{
	char path[KV_PATH_SIZE + 80], hex[SHA256_HEX_SIZE];
	hex_encode(tag->bytes, sizeof tag->bytes, hex);
	snprintf(path, sizeof path, "%s/" ERASE_MARK "%s", disk->folder, hex);
	unlink(path);
}

size_t kv_disk_tick(struct kv_disk *disk, bool whole, struct kv_tag *erased, size_t max)
{
	size_t count = kv_disk_asked(disk, erased, max);
	for (size_t i = 0; i < count; i++) {
		kv_disk_erase(disk, &erased[i]);
		remove_mark(disk, &erased[i]);
	}
	if (!whole)
		return count;
	pthread_mutex_lock(&disk->lock);
	expire(disk);
	kv_disk_make_room(disk, 0);
	pthread_mutex_unlock(&disk->lock);
	return count;
}

/* --- for commands --- */

static void count_file(const struct kv_found *found, void *user)
{
	struct kv_disk_usage *usage = user;
	usage->files++;
	usage->bytes += found->bytes;
}

size_t kv_disk_usage(const char *root, struct kv_disk_usage out[KV_DISK_SLOTS])
{
	size_t count = 0;
	for (unsigned i = 0; i < KV_SLOTS; i++) {
		char folder[KV_PATH_SIZE];
		int n = snprintf(folder, sizeof folder, "%s/slot-%u", root, i);
		if (n < 0 || n >= KV_PATH_SIZE || access(folder, F_OK) != 0)
			continue;
		int fd = kv_slot_try(root, i, folder);
		out[count] = (struct kv_disk_usage){.in_use = fd < 0};
		kv_folder_walk(folder, count_file, &out[count++]);
		if (fd >= 0)
			close(fd);
	}
	return count;
}

/* The process that has the slot reads the mark at its next tick, and forgets what it holds in memory. */
static void leave_mark(const char *folder, const char *tag_hex)
{
	char path[KV_PATH_SIZE];
	int n = snprintf(path, sizeof path, "%s/" ERASE_MARK "%s", folder, tag_hex);
	int fd = n > 0 && n < KV_PATH_SIZE ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
	if (fd >= 0)
		close(fd);
}

void kv_disk_erase_root(const char *root, const struct kv_tag *tag)
{
	char hex[SHA256_HEX_SIZE];
	hex_encode(tag->bytes, sizeof tag->bytes, hex);
	for (unsigned i = 0; i < KV_SLOTS; i++) {
		char folder[KV_PATH_SIZE];
		int n = snprintf(folder, sizeof folder, "%s/slot-%u", root, i);
		if (n < 0 || n >= KV_PATH_SIZE || access(folder, F_OK) != 0)
			continue;
		int fd = kv_slot_try(root, i, folder);
		if (fd < 0)
			leave_mark(folder, hex);
		else
			erase_folders(folder, kv_tag_is_everybody(tag) ? NULL : hex, 0);
		if (fd >= 0)
			close(fd);
	}
}
