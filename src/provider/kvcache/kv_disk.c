/* The index of the SSD tier: opening, finding, reading. */
#include "provider/kvcache/kv_disk.h"

#include "core/clock.h"
#include "core/encode.h"
#include "core/log.h"
#include "core/wipe.h"
#include "provider/kvcache/kv_disk_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOUCH_US 60000000 /* recency is saved once a minute at most */

/* --- open and close --- */

static void remove_temporary(const struct kv_found *found, void *user)
{
	uint64_t *bytes = user;
	if (found->temporary)
		unlink(found->path);
	else
		*bytes += found->bytes;
}

struct kv_disk *kv_disk_open(const struct kv_disk_options *options, struct error *error)
{
	struct kv_disk *disk = calloc(1, sizeof *disk);
	if (!disk) {
		error_set(error, DB_E_NOMEM, "insufficient memory for the prefix cache");
		return NULL;
	}
	disk->options = *options;
	disk->options.secret = NULL;
	disk->lock_fd = -1;
	list_init(&disk->models);
	list_init(&disk->entries);
	map_init(&disk->points);
	pthread_mutex_init(&disk->lock, NULL);
	enum db_err err = DB_OK;
	if (!str_copy(str_of(options->root), disk->root, sizeof disk->root))
		err = error_set(error, DB_E_LIMIT, "the path of the cache folder is too long");
	if (!err && !(disk->keys = kv_keys_new(options->secret)))
		err = error_set(error, DB_E_NOMEM, "insufficient memory for the prefix cache");
	if (!err)
		err = kv_slot_take(disk->root, disk->folder, &disk->slot, &disk->lock_fd, error);
	if (err) {
		kv_disk_close(disk);
		return NULL;
	}
	kv_folder_walk(disk->folder, remove_temporary, &disk->unowned_bytes);
	return disk;
}

void kv_disk_close(struct kv_disk *disk)
{
	if (!disk)
		return;
	while (disk->models.count)
		kv_disk_model_close(disk, LIST_OF(list_first(&disk->models), struct disk_model, link)->serial);
	if (disk->lock_fd >= 0)
		close(disk->lock_fd);
	map_free(&disk->points);
	kv_keys_free(disk->keys);
	pthread_mutex_destroy(&disk->lock);
	free(disk);
}

const struct kv_keys *kv_disk_keys(const struct kv_disk *disk)
{
	return disk->keys;
}

void kv_disk_stats(struct kv_disk *disk, struct kv_disk_stats *out)
{
	pthread_mutex_lock(&disk->lock);
	*out = disk->stats;
	out->entries = disk->entries.count;
	out->bytes = disk->bytes + disk->unowned_bytes;
	pthread_mutex_unlock(&disk->lock);
}

/* --- entries --- */

struct disk_model *kv_disk_model(struct kv_disk *disk, uint64_t serial)
{
	LIST_EACH (link, &disk->models) {
		struct disk_model *model = LIST_OF(link, struct disk_model, link);
		if (model->serial == serial)
			return model;
	}
	return NULL;
}

struct disk_entry *kv_disk_entry(struct kv_disk *disk, const struct disk_model *model, const struct kv_tag *tag,
                                 const struct kv_digest *name)
{
	LIST_EACH (link, &disk->entries) {
		struct disk_entry *entry = LIST_OF(link, struct disk_entry, link);
		if (entry->model == model && memcmp(&entry->name, name, sizeof *name) == 0 &&
		    memcmp(&entry->tag, tag, sizeof *tag) == 0)
			return entry;
	}
	return NULL;
}

static struct disk_entry *parent_of(struct kv_disk *disk, const struct disk_entry *entry)
{
	return entry->from ? kv_disk_entry(disk, entry->model, &entry->tag, &entry->parent) : NULL;
}

enum db_err kv_disk_add(struct kv_disk *disk, struct disk_model *model, const struct kv_tag *tag, const struct kv_digest *name,
                        const struct kv_file_facts *facts, const struct kv_digest *points, uint64_t bytes, int64_t used_us)
{
	struct disk_entry *entry = calloc(1, sizeof *entry + facts->point_count * sizeof entry->points[0]);
	if (!entry)
		return DB_E_NOMEM;
	entry->model = model;
	entry->tag = *tag;
	entry->name = *name;
	entry->parent = facts->parent;
	entry->tokens = facts->tokens;
	entry->from = facts->from;
	entry->bytes = bytes;
	entry->last_hit_us = entry->touched_us = used_us;
	entry->count = facts->point_count;
	if (kv_points_add(&disk->points, model->serial, points, entry->count, model->codec != NULL, entry, entry->points)) {
		free(entry);
		return DB_E_NOMEM;
	}
	list_push_back(&disk->entries, &entry->link);
	disk->bytes += bytes;
	struct disk_entry *parent = parent_of(disk, entry);
	if (parent)
		parent->children++;
	return DB_OK;
}

static void remove_entry(struct kv_disk *disk, struct disk_entry *entry, bool unlink_file)
{
	char path[KV_PATH_SIZE];
	struct disk_entry *parent = parent_of(disk, entry);
	if (parent && parent->children)
		parent->children--;
	if (unlink_file && kv_disk_path(entry->model, &entry->tag, &entry->name, path))
		unlink(path);
	kv_points_remove(&disk->points, entry->points, entry->count);
	list_remove(&disk->entries, &entry->link);
	disk->bytes -= entry->bytes;
	wipe(entry, sizeof *entry + entry->count * sizeof entry->points[0]);
	free(entry);
}

static struct disk_entry *child_of(struct kv_disk *disk, const struct disk_entry *entry)
{
	LIST_EACH (link, &disk->entries) {
		struct disk_entry *child = LIST_OF(link, struct disk_entry, link);
		if (child->from && child->model == entry->model && memcmp(&child->parent, &entry->name, sizeof child->parent) == 0 &&
		    memcmp(&child->tag, &entry->tag, sizeof child->tag) == 0)
			return child;
	}
	return NULL;
}

/* Leaves first, so that whatever is cut short leaves no file that builds on a missing one. */
void kv_disk_forget(struct kv_disk *disk, struct disk_entry *entry, bool unlink_files)
{
	for (struct disk_entry *leaf = entry; entry; leaf = entry) {
		for (struct disk_entry *child; (child = child_of(disk, leaf));)
			leaf = child;
		if (leaf == entry)
			entry = NULL;
		remove_entry(disk, leaf, unlink_files);
	}
}

bool kv_disk_tag_folder(const struct disk_model *model, const struct kv_tag *tag, char out[KV_PATH_SIZE])
{
	char hex[SHA256_HEX_SIZE];
	hex_encode(tag->bytes, sizeof tag->bytes, hex);
	int n = snprintf(out, KV_PATH_SIZE, "%s/%s", model->folder, hex);
	return n > 0 && n < KV_PATH_SIZE;
}

bool kv_disk_path(const struct disk_model *model, const struct kv_tag *tag, const struct kv_digest *name,
                  char out[KV_PATH_SIZE])
{
	char folder[KV_PATH_SIZE], hex[SHA256_HEX_SIZE];
	hex_encode(name->bytes, sizeof name->bytes, hex);
	if (!kv_disk_tag_folder(model, tag, folder))
		return false;
	int n = snprintf(out, KV_PATH_SIZE, "%s/%s" KV_FILE_SUFFIX, folder, hex);
	return n > 0 && n < KV_PATH_SIZE;
}

/* --- the index of a model, from its files --- */

struct scan {
	struct kv_disk *disk;
	struct disk_model *model;
};

/* ".../<tag>/<name>.darkbloom-kv" */
static bool names_of(const struct kv_found *found, struct kv_tag *tag, struct kv_digest *name)
{
	struct str path = str_of(found->path), file = str_of(found->name);
	size_t folder = path.len - file.len - 1, hex = SHA256_HEX_SIZE - 1;
	return folder > hex && !hex_decode(str_sub(path, folder - hex, hex), tag->bytes, sizeof tag->bytes) &&
	       !hex_decode(str_sub(file, 0, file.len - (sizeof KV_FILE_SUFFIX - 1)), name->bytes, sizeof name->bytes);
}

static void count_miss(struct kv_disk *disk, enum kv_why why)
{
	switch (why) {
	case KV_OTHER_MODEL:
		disk->stats.model_mismatches++;
		break;
	case KV_OTHER_SHAPE:
		disk->stats.shape_mismatches++;
		break;
	case KV_OTHER_NAME:
		disk->stats.name_mismatches++;
		break;
	case KV_OTHER_SCOPE:
		disk->stats.scope_mismatches++;
		break;
	case KV_EXPIRED:
		disk->stats.expirations++;
		break;
	case KV_DAMAGED:
	case KV_UNREADABLE:
		disk->stats.read_errors++;
		break;
	case KV_GOOD:
	case KV_ABSENT:
	case KV_NO_MEMORY:
		break;
	}
}

static bool expired(const struct kv_disk *disk, int64_t used_us)
{
	return disk->options.ttl_us > 0 && clock_wall_us() - used_us > disk->options.ttl_us;
}

static void scan_file(const struct kv_found *found, void *user)
{
	struct scan *scan = user;
	struct kv_place place = {.keys = scan->disk->keys, .shape = &scan->model->shape};
	struct kv_file_facts facts = {0};
	struct kv_digest *points = NULL;
	enum kv_why why = KV_DAMAGED;
	if (found->temporary || !names_of(found, &place.tag, &place.name)) {
		unlink(found->path);
		return;
	}
	int fd = expired(scan->disk, found->used_us) ? -1 : open(found->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
		why = kv_file_describe(fd, &place, &facts, &points);
		close(fd);
	} else if (expired(scan->disk, found->used_us)) {
		why = KV_EXPIRED;
	}
	if (why == KV_GOOD && facts.tokens == facts.point_count * KV_GRID && (facts.from == 0 || scan->model->codec))
		kv_disk_add(scan->disk, scan->model, &place.tag, &place.name, &facts, points, found->bytes, found->used_us);
	else if (why == KV_GOOD || kv_why_deletes(why))
		unlink(found->path);
	count_miss(scan->disk, why);
	free(points);
}

/* A file was found before the one that it builds on, or that one is gone. */
static void settle_parents(struct kv_disk *disk, struct disk_model *model)
{
	LIST_EACH (link, &disk->entries)
		LIST_OF(link, struct disk_entry, link)->children = 0;
	for (bool again = true; again;) {
		again = false;
		LIST_EACH (link, &disk->entries) {
			struct disk_entry *entry = LIST_OF(link, struct disk_entry, link);
			struct disk_entry *parent = parent_of(disk, entry);
			if (entry->model == model && entry->from && (!parent || parent->tokens < entry->from)) {
				kv_disk_forget(disk, entry, true);
				again = true;
				break;
			}
		}
	}
	LIST_EACH (link, &disk->entries) {
		struct disk_entry *parent = parent_of(disk, LIST_OF(link, struct disk_entry, link));
		if (parent)
			parent->children++;
	}
}

static void add_bytes(const struct kv_found *found, void *user)
{
	*(uint64_t *)user += found->bytes;
}

/* Files of other weights under the same id can never be of use again. */
static void remove_other_weights(const char *model_folder, const char *keep)
{
	DIR *folder = opendir(model_folder);
	if (!folder)
		return;
	for (struct dirent *each; (each = readdir(folder));) {
		char path[KV_PATH_SIZE];
		int n = snprintf(path, sizeof path, "%s/%s", model_folder, each->d_name);
		if (each->d_name[0] != '.' && strcmp(each->d_name, keep) != 0 && n > 0 && n < KV_PATH_SIZE)
			kv_folder_remove(path);
	}
	closedir(folder);
}

static uint64_t bytes_below(const char *path)
{
	uint64_t bytes = 0;
	kv_folder_walk(path, add_bytes, &bytes);
	return bytes;
}

enum db_err kv_disk_model_open(struct kv_disk *disk, const struct kv_disk_model_options *options, struct error *error)
{
	char id_hex[SHA256_HEX_SIZE], hash_hex[SHA256_HEX_SIZE], model_folder[KV_PATH_SIZE];
	struct disk_model *model = calloc(1, sizeof *model);
	if (!model)
		return error_set(error, DB_E_NOMEM, "insufficient memory for the prefix cache");
	model->serial = options->model;
	model->shape = *options->shape;
	model->codec = options->codec;
	sha256_hex(options->model_id, strlen(options->model_id), id_hex);
	sha256_hex(model->shape.model_hash, strlen(model->shape.model_hash), hash_hex);
	id_hex[12] = hash_hex[12] = '\0';
	int n = snprintf(model_folder, sizeof model_folder, "%s/%s", disk->folder, id_hex);
	int m = snprintf(model->folder, sizeof model->folder, "%s/%s/%s", disk->folder, id_hex, hash_hex);
	if (n < 0 || m < 0 || n >= KV_PATH_SIZE || m >= KV_PATH_SIZE || kv_folder_make(model->folder)) {
		free(model);
		return error_set(error, DB_E_IO, "the cache folder %s cannot be used", disk->folder);
	}
	pthread_mutex_lock(&disk->lock);
	uint64_t before = bytes_below(model_folder);
	remove_other_weights(model_folder, hash_hex);
	list_push_back(&disk->models, &model->link);
	struct scan scan = {disk, model};
	kv_folder_walk(model->folder, scan_file, &scan);
	settle_parents(disk, model);
	disk->unowned_bytes -= before < disk->unowned_bytes ? before : disk->unowned_bytes;
	size_t entries = disk->entries.count;
	pthread_mutex_unlock(&disk->lock);
	log_info("cache.opened", "model=%s files=%zu", id_hex, entries);
	return DB_OK;
}

void kv_disk_model_close(struct kv_disk *disk, uint64_t serial)
{
	pthread_mutex_lock(&disk->lock);
	struct disk_model *model = kv_disk_model(disk, serial);
	if (model) {
		disk->epoch++;
		LIST_EACH_SAFE (link, next, &disk->entries) {
			struct disk_entry *entry = LIST_OF(link, struct disk_entry, link);
			if (entry->model != model)
				continue;
			disk->unowned_bytes += entry->bytes;
			entry->from = 0; /* no parent to look for: all go */
			remove_entry(disk, entry, false);
		}
		list_remove(&disk->models, &model->link);
		free(model);
	}
	pthread_mutex_unlock(&disk->lock);
}

/* --- finding --- */

/* Files are filed under all points of their conversation, also those of before they begin: the file that has the last of
 * `tokens` tokens is then one of those that it builds on. */
static struct disk_entry *holder_of(struct kv_disk *disk, struct disk_entry *entry, uint64_t tokens)
{
	for (size_t links = 0; entry && entry->from >= tokens; links++)
		entry = links < KV_CHAIN_MAX ? parent_of(disk, entry) : NULL;
	return entry;
}

/* The file that has what comes before this one's. */
static struct disk_entry *previous_of(struct kv_disk *disk, const struct disk_entry *entry)
{
	return holder_of(disk, parent_of(disk, entry), entry->from);
}

struct disk_entry *kv_disk_longest(struct kv_disk *disk, uint64_t model, const struct kv_tag *tag,
                                   const struct kv_digest *points, size_t count, size_t *found)
{
	for (size_t i = count; i-- > 0;)
		for (struct kv_point *point = kv_points_get(&disk->points, model, &points[i]); point; point = point->next) {
			struct disk_entry *entry = point->holder;
			*found = i + 1;
			if (memcmp(&entry->tag, tag, sizeof *tag) == 0 && (entry = holder_of(disk, entry, *found * KV_GRID)))
				return entry;
		}
	return NULL;
}

size_t kv_disk_chain_length(struct kv_disk *disk, const struct disk_entry *entry)
{
	size_t length = 0;
	for (; entry && length <= KV_CHAIN_MAX; length++)
		entry = previous_of(disk, entry);
	return length;
}

size_t kv_disk_find(struct kv_disk *disk, uint64_t model, const struct kv_tag *tag, const struct kv_digest *points,
                    size_t count, uint64_t *bytes)
{
	size_t found = 0, links = 0;
	*bytes = 0;
	pthread_mutex_lock(&disk->lock);
	struct disk_entry *entry = kv_disk_longest(disk, model, tag, points, count, &found);
	if (!entry)
		found = 0;
	else if (expired(disk, entry->last_hit_us)) {
		disk->stats.expirations++;
		kv_disk_forget(disk, entry, true);
		found = 0;
	} else {
		for (; entry && links++ < KV_CHAIN_MAX; entry = previous_of(disk, entry))
			*bytes += entry->bytes;
	}
	pthread_mutex_unlock(&disk->lock);
	return found;
}

/* --- reading --- */

struct part {
	struct kv_digest name;
	size_t upto; /* tokens of it that are wanted */
	struct kv_blob *state;
};

struct chain {
	struct part parts[KV_CHAIN_MAX]; /* the last first */
	size_t count;
};

/* What has to be read for a prefix. Its use counts for every file of the chain: none of them may go before the others. */
static enum kv_why plan(struct kv_disk *disk, uint64_t serial, const struct kv_tag *tag, const struct kv_digest *points,
                        size_t count, struct disk_model *copy, struct chain *chain)
{
	size_t found = 0, upto = count * KV_GRID;
	chain->count = 0;
	struct disk_model *model = kv_disk_model(disk, serial);
	struct disk_entry *entry = model ? kv_disk_longest(disk, serial, tag, points, count, &found) : NULL;
	if (!entry || found != count)
		return KV_ABSENT;
	*copy = *model;
	entry->hits++;
	while (entry && chain->count < KV_CHAIN_MAX) {
		char path[KV_PATH_SIZE];
		chain->parts[chain->count++] = (struct part){entry->name, upto, NULL};
		entry->last_hit_us = clock_wall_us();
		if (entry->last_hit_us - entry->touched_us > TOUCH_US && kv_disk_path(model, tag, &entry->name, path)) {
			entry->touched_us = entry->last_hit_us;
			utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
		}
		if (!entry->from)
			return KV_GOOD;
		upto = entry->from;
		entry = previous_of(disk, entry);
	}
	return KV_DAMAGED;
}

static enum kv_why cut(const struct disk_model *model, struct kv_blob **state, size_t from, size_t tokens, size_t upto)
{
	if (upto == tokens)
		return KV_GOOD;
	struct kv_blob *shorter = model->codec ? model->codec->cut(*state, from, upto) : NULL;
	if (!shorter)
		return KV_NO_MEMORY;
	kv_blob_release(*state);
	*state = shorter;
	return KV_GOOD;
}

static enum kv_why read_part(struct kv_disk *disk, const struct disk_model *model, const struct kv_tag *tag, struct part *part,
                             const struct part *before, uint64_t *bytes)
{
	char path[KV_PATH_SIZE];
	struct kv_place place = {disk->keys, &model->shape, *tag, part->name};
	struct kv_file_facts facts;
	int fd = kv_disk_path(model, tag, &part->name, path) ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	if (fd < 0)
		return KV_DAMAGED; /* gone: so is everything that builds on it */
	enum kv_why why = kv_file_read(fd, &place, &facts, &part->state);
	off_t size = lseek(fd, 0, SEEK_END);
	*bytes += size > 0 ? (uint64_t)size : 0;
	close(fd);
	if (why == KV_GOOD && (facts.tokens < part->upto || facts.from != (before ? before->upto : 0)))
		why = KV_DAMAGED;
	return why ? why : cut(model, &part->state, facts.from, facts.tokens, part->upto);
}

static enum kv_why put_together(const struct disk_model *model, struct chain *chain, struct kv_blob **state)
{
	struct kv_blob *parts[KV_CHAIN_MAX];
	if (chain->count == 1) {
		*state = kv_blob_hold(chain->parts[0].state);
		return KV_GOOD;
	}
	for (size_t i = 0; i < chain->count; i++)
		parts[i] = chain->parts[chain->count - 1 - i].state;
	*state = model->codec->join(parts, chain->count);
	return *state ? KV_GOOD : KV_NO_MEMORY;
}

/* The file that failed goes, with all that build on it. */
static void part_failed(struct kv_disk *disk, uint64_t serial, const struct kv_tag *tag, const struct kv_digest *name,
                        enum kv_why why)
{
	struct disk_model *model = kv_disk_model(disk, serial);
	struct disk_entry *entry = model ? kv_disk_entry(disk, model, tag, name) : NULL;
	if (entry && kv_why_deletes(why))
		kv_disk_forget(disk, entry, true);
	count_miss(disk, why);
}

enum kv_why kv_disk_read(struct kv_disk *disk, uint64_t serial, const struct kv_tag *tag, const struct kv_digest *points,
                         size_t count, struct kv_blob **state)
{
	struct disk_model model = {0};
	struct chain chain;
	uint64_t start_us = clock_mono_us(), bytes = 0;
	pthread_mutex_lock(&disk->lock);
	enum kv_why why = plan(disk, serial, tag, points, count, &model, &chain);
	pthread_mutex_unlock(&disk->lock);
	size_t at = chain.count;
	while (why == KV_GOOD && at-- > 0) /* the first part first */
		why = read_part(disk, &model, tag, &chain.parts[at], at + 1 < chain.count ? &chain.parts[at + 1] : NULL, &bytes);
	bool part = why != KV_GOOD && at < chain.count;
	if (why == KV_GOOD)
		why = put_together(&model, &chain, state);
	pthread_mutex_lock(&disk->lock);
	disk->stats.bytes_read += bytes;
	if (part)
		part_failed(disk, serial, tag, &chain.parts[at].name, why);
	if (why == KV_GOOD) {
		disk->stats.reads++;
		disk->stats.read_us += clock_mono_us() - start_us;
	}
	pthread_mutex_unlock(&disk->lock);
	for (size_t i = 0; i < chain.count; i++)
		kv_blob_release(chain.parts[i].state);
	return why;
}
