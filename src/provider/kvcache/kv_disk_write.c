/* Writing a file of the SSD tier so that a crash at any moment leaves either all of it or nothing (inference 11.4). */
#include "core/clock.h"
#include "core/id.h"
#include "provider/kvcache/kv_disk_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define OVERHEAD_BYTES (KV_FILE_META_MAX / 64) /* of a file beside its state and points, roughly */

/* What is to be written, decided under the lock. */
struct plan {
	struct disk_model model;
	struct kv_place place;
	struct kv_file_facts facts;
	char folder[KV_PATH_SIZE], path[KV_PATH_SIZE], temporary[KV_PATH_SIZE];
	uint64_t epoch;
};

/* The longest prefix of it that is on disk need not be written again. */
static void choose_parent(struct kv_disk *disk, const struct kv_snapshot *snapshot, struct plan *plan)
{
	size_t found = 0;
	struct disk_entry *parent = plan->model.codec ? kv_disk_longest(disk, snapshot->model, &snapshot->tag, snapshot->points,
	                                                                snapshot->point_count, &found)
	                                              : NULL;
	if (!parent || kv_disk_chain_length(disk, parent) >= KV_CHAIN_MAX)
		return;
	/* Of equally long ones, that which began last has the shortest way to the beginning, but any is right. */
	plan->facts.from = found * KV_GRID;
	plan->facts.parent = parent->name;
}

static enum db_err make_plan(struct kv_disk *disk, const struct kv_snapshot *snapshot, struct plan *plan)
{
	size_t found = 0;
	char id[ID_UUID_SIZE];
	struct disk_model *model = kv_disk_model(disk, snapshot->model);
	if (!model)
		return DB_E_CLOSED;
	if (kv_disk_longest(disk, snapshot->model, &snapshot->tag, snapshot->points, snapshot->point_count, &found) &&
	    found == snapshot->point_count)
		return DB_E_EXISTS;
	plan->model = *model;
	plan->epoch = disk->epoch;
	plan->place = (struct kv_place){.keys = disk->keys, .shape = &plan->model.shape, .tag = snapshot->tag};
	kv_keys_name(disk->keys, &snapshot->points[snapshot->point_count - 1], &plan->place.name);
	plan->facts = (struct kv_file_facts){
	    .tokens = snapshot->point_count * KV_GRID, .created_us = clock_wall_us(), .point_count = snapshot->point_count};
	choose_parent(disk, snapshot, plan);
	id_uuid4(id);
	if (!kv_disk_tag_folder(model, &snapshot->tag, plan->folder) ||
	    !kv_disk_path(model, &snapshot->tag, &plan->place.name, plan->path))
		return DB_E_LIMIT;
	int n = snprintf(plan->temporary, sizeof plan->temporary, "%s/.tmp-%s", plan->folder, id);
	if (n < 0 || n >= KV_PATH_SIZE)
		return DB_E_LIMIT;
	uint64_t share = snapshot->blob->len - snapshot->blob->len / plan->facts.tokens * plan->facts.from;
	return kv_disk_make_room(disk, share + OVERHEAD_BYTES) ? DB_OK : DB_E_LIMIT;
}

/* Apple's fsync does not wait for the disk. */
static int sync_file(int fd)
{
#ifdef F_FULLFSYNC
	if (fcntl(fd, F_FULLFSYNC) == 0)
		return 0;
#endif
	return fsync(fd);
}

static enum db_err write_temporary(const struct plan *plan, const struct kv_snapshot *snapshot, struct str state,
                                   kv_file_pace pace, void *user, uint64_t *bytes)
{
	enum db_err err = kv_folder_make(plan->folder);
	int fd = err ? -1 : open(plan->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return DB_E_IO;
	err = kv_file_write(fd, &plan->place, &plan->facts, snapshot->points, state, pace, user, bytes);
	if (!err && sync_file(fd) != 0)
		err = DB_E_IO;
	if (close(fd) != 0 && !err)
		err = DB_E_IO;
	return err;
}

/* Into the index, unless what it was written for has gone meanwhile: an erased tenant, a closed model, an evicted parent. */
static enum db_err publish(struct kv_disk *disk, const struct plan *plan, const struct kv_snapshot *snapshot, uint64_t bytes)
{
	struct disk_model *model = kv_disk_model(disk, snapshot->model);
	if (!model || disk->epoch != plan->epoch)
		return DB_E_CLOSED;
	struct disk_entry *parent = plan->facts.from ? kv_disk_entry(disk, model, &snapshot->tag, &plan->facts.parent) : NULL;
	if (plan->facts.from && !parent)
		return DB_E_CLOSED;
	return kv_disk_add(disk, model, &snapshot->tag, &plan->place.name, &plan->facts, snapshot->points, bytes,
	                   plan->facts.created_us);
}

enum db_err kv_disk_write(struct kv_disk *disk, const struct kv_snapshot *snapshot, kv_file_pace pace, void *user)
{
	struct plan plan = {0};
	struct kv_blob *tail = NULL;
	uint64_t bytes = 0;
	pthread_mutex_lock(&disk->lock);
	enum db_err err = make_plan(disk, snapshot, &plan);
	pthread_mutex_unlock(&disk->lock);
	if (err)
		return err;
	if (plan.facts.from) {
		tail = plan.model.codec->cut(snapshot->blob, plan.facts.from, plan.facts.tokens);
		if (!tail)
			plan.facts.from = 0; /* then the whole */
	}
	const struct kv_blob *state = tail ? tail : snapshot->blob;
	err = write_temporary(&plan, snapshot, (struct str){(const char *)state->bytes, state->len}, pace, user, &bytes);
	if (!err && rename(plan.temporary, plan.path) != 0)
		err = DB_E_IO;
	bool renamed = !err;
	if (!err)
		err = kv_folder_sync(plan.folder);
	pthread_mutex_lock(&disk->lock);
	disk->stats.bytes_written += bytes;
	if (!err)
		err = publish(disk, &plan, snapshot, bytes);
	if (!err)
		disk->stats.writes++;
	pthread_mutex_unlock(&disk->lock);
	if (err)
		unlink(renamed ? plan.path : plan.temporary);
	kv_blob_release(tail);
	return err;
}
