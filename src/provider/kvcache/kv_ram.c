#include "provider/kvcache/kv_ram.h"

#include "core/list.h"
#include "core/wipe.h"
#include "provider/kvcache/kv_points_map.h"
#include "provider/kvcache/kv_score.h"

#include <stdlib.h>

struct entry {
	struct list_link link;
	uint64_t model;
	struct kv_tag tag;
	bool cuttable;
	struct kv_blob *blob;
	struct kv_digest parent;
	bool has_parent;
	unsigned children; /* entries whose parent this is */
	uint64_t hits, passed_on;
	int64_t last_hit_us;
	size_t count;
	struct kv_point points[];
};

struct kv_ram {
	struct list entries; /* the latest used last */
	struct map points;
	uint64_t bytes, max_bytes, evicted;
	size_t max_entries;
};

struct kv_ram *kv_ram_new(uint64_t max_bytes, size_t max_entries)
{
	struct kv_ram *ram = calloc(1, sizeof *ram);
	if (!ram)
		return NULL;
	list_init(&ram->entries);
	map_init(&ram->points);
	ram->max_bytes = max_bytes;
	ram->max_entries = max_entries;
	return ram;
}

static uint64_t weight(const struct entry *entry)
{
	return entry->blob->len + sizeof *entry + entry->count * sizeof entry->points[0];
}

static const struct kv_digest *end_of(const struct entry *entry)
{
	return &entry->points[entry->count - 1].key.digest;
}

/* An entry that ends exactly there. */
static struct entry *ending_at(const struct kv_ram *ram, uint64_t model, const struct kv_digest *digest)
{
	for (struct kv_point *point = kv_points_get(&ram->points, model, digest); point; point = point->next) {
		struct entry *entry = point->holder;
		if (point == &entry->points[entry->count - 1])
			return entry;
	}
	return NULL;
}

static void remove_entry(struct kv_ram *ram, struct entry *entry)
{
	struct entry *parent = entry->has_parent ? ending_at(ram, entry->model, &entry->parent) : NULL;
	if (parent && parent->children)
		parent->children--;
	kv_points_remove(&ram->points, entry->points, entry->count);
	list_remove(&ram->entries, &entry->link);
	ram->bytes -= weight(entry);
	kv_blob_release(entry->blob);
	wipe(entry, sizeof *entry + entry->count * sizeof entry->points[0]);
	free(entry);
}

void kv_ram_free(struct kv_ram *ram)
{
	if (!ram)
		return;
	for (struct list_link *link; (link = list_first(&ram->entries));)
		remove_entry(ram, LIST_OF(link, struct entry, link));
	map_free(&ram->points);
	free(ram);
}

/* --- eviction --- */

static struct kv_worth worth(const struct entry *entry)
{
	uint64_t own = entry->hits > entry->passed_on ? entry->hits - entry->passed_on : 0;
	return (struct kv_worth){
	    .uses = (double)own + (entry->children ? 0 : 1),
	    .tokens = entry->count * KV_GRID,
	    .bytes = weight(entry),
	    .last_hit_us = entry->last_hit_us,
	    .digest = end_of(entry),
	};
}

static void make_room(struct kv_ram *ram, uint64_t bytes, int64_t now_us)
{
	while (ram->entries.count && (ram->bytes + bytes > ram->max_bytes || ram->entries.count + 1 > ram->max_entries)) {
		struct entry *first = NULL;
		struct kv_worth least = {0};
		LIST_EACH (link, &ram->entries) {
			struct entry *entry = LIST_OF(link, struct entry, link);
			struct kv_worth value = worth(entry);
			if (!first || kv_goes_first(&value, &least, now_us)) {
				first = entry;
				least = value;
			}
		}
		remove_entry(ram, first);
		ram->evicted++;
	}
}

/* --- putting --- */

/* States that the new one contains: their uses pass to it. */
static void absorb(struct kv_ram *ram, struct entry *longer)
{
	if (!longer->cuttable)
		return;
	for (size_t i = 0; i + 1 < longer->count; i++) {
		struct entry *shorter = ending_at(ram, longer->model, &longer->points[i].key.digest);
		if (!shorter || shorter == longer)
			continue;
		longer->hits += shorter->hits;
		remove_entry(ram, shorter);
	}
}

static bool superfluous(const struct kv_ram *ram, const struct kv_snapshot *snapshot)
{
	const struct kv_digest *end = &snapshot->points[snapshot->point_count - 1];
	return kv_points_get(&ram->points, snapshot->model, end) != NULL; /* only states that contain it are filed there */
}

static void link_parent(struct kv_ram *ram, struct entry *entry, const struct kv_snapshot *snapshot)
{
	if (!snapshot->parent_points || snapshot->parent_points >= snapshot->point_count)
		return;
	entry->parent = snapshot->points[snapshot->parent_points - 1];
	entry->has_parent = true;
	struct entry *parent = ending_at(ram, entry->model, &entry->parent);
	if (!parent)
		return;
	parent->children++;
	if (parent->hits > parent->passed_on)
		parent->passed_on++; /* the hit that led here */
}

enum db_err kv_ram_put(struct kv_ram *ram, const struct kv_snapshot *snapshot, int64_t now_us)
{
	if (superfluous(ram, snapshot))
		return DB_E_EXISTS;
	size_t count = snapshot->point_count;
	struct entry *entry = calloc(1, sizeof *entry + count * sizeof entry->points[0]);
	if (!entry)
		return DB_E_NOMEM;
	entry->model = snapshot->model;
	entry->tag = snapshot->tag;
	entry->cuttable = snapshot->cuttable;
	entry->count = count;
	entry->last_hit_us = now_us;
	entry->blob = snapshot->blob;
	uint64_t bytes = weight(entry);
	if (bytes > ram->max_bytes || ram->max_entries == 0) {
		free(entry);
		return DB_E_LIMIT;
	}
	make_room(ram, bytes, now_us);
	if (kv_points_add(&ram->points, entry->model, snapshot->points, count, entry->cuttable, entry, entry->points)) {
		free(entry);
		return DB_E_NOMEM;
	}
	kv_blob_hold(entry->blob);
	list_push_back(&ram->entries, &entry->link);
	ram->bytes += bytes;
	link_parent(ram, entry, snapshot);
	absorb(ram, entry);
	return DB_OK;
}

/* --- finding --- */

static struct kv_point *longest(const struct kv_ram *ram, uint64_t model, const struct kv_digest *points, size_t count)
{
	for (size_t i = count; i-- > 0;) {
		struct kv_point *point = kv_points_get(&ram->points, model, &points[i]);
		if (point)
			return point;
	}
	return NULL;
}

size_t kv_ram_find(const struct kv_ram *ram, uint64_t model, const struct kv_digest *points, size_t count)
{
	const struct kv_point *point = longest(ram, model, points, count);
	return point ? point->tokens / KV_GRID : 0;
}

struct kv_blob *kv_ram_take(struct kv_ram *ram, uint64_t model, const struct kv_digest *points, size_t count, int64_t now_us,
                            size_t *found_points, size_t *blob_tokens)
{
	struct kv_point *point = longest(ram, model, points, count);
	if (!point)
		return NULL;
	struct entry *entry = point->holder;
	entry->hits++;
	entry->last_hit_us = now_us;
	list_remove(&ram->entries, &entry->link);
	list_push_back(&ram->entries, &entry->link);
	*found_points = point->tokens / KV_GRID;
	*blob_tokens = entry->count * KV_GRID;
	return kv_blob_hold(entry->blob);
}

/* --- dropping --- */

void kv_ram_drop(struct kv_ram *ram, uint64_t model, const struct kv_tag *tag)
{
	LIST_EACH_SAFE (link, next, &ram->entries) {
		struct entry *entry = LIST_OF(link, struct entry, link);
		if ((!model || entry->model == model) && (!tag || memcmp(&entry->tag, tag, sizeof *tag) == 0))
			remove_entry(ram, entry);
	}
}

void kv_ram_drop_one(struct kv_ram *ram, uint64_t model, const struct kv_digest *points, size_t count)
{
	struct kv_point *point = count ? kv_points_get(&ram->points, model, &points[count - 1]) : NULL;
	if (point)
		remove_entry(ram, point->holder);
}

void kv_ram_use(const struct kv_ram *ram, struct kv_ram_use *out)
{
	*out = (struct kv_ram_use){ram->bytes, ram->entries.count, ram->evicted};
}
