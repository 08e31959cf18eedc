/* From the digest of a prefix to what holds it; several holders may share a prefix. Keys carry the model, whose digests would
 * otherwise be those of any other with the same vocabulary. Internal to kvcache/. Thread: under the caller's lock. */
#ifndef PROVIDER_KV_POINTS_MAP_H
#define PROVIDER_KV_POINTS_MAP_H

#include "core/map.h"
#include "provider/kvcache/kv_digest.h"

struct kv_point {
	struct {
		uint64_t model;
		struct kv_digest digest;
	} key;
	size_t tokens;
	void *holder;
	struct kv_point *next; /* others of the same key */
};

/* Files the points that `digests` are at KV_GRID, 2 * KV_GRID, ... tokens; a holder that cannot be cut gets only its last. The
 * array belongs to the caller until kv_points_remove and is filled here. */
enum db_err kv_points_add(struct map *map, uint64_t model, const struct kv_digest *digests, size_t count, bool cuttable,
                          void *holder, struct kv_point *points);
void kv_points_remove(struct map *map, struct kv_point *points, size_t count);
/* The first holder of this digest or NULL. */
struct kv_point *kv_points_get(const struct map *map, uint64_t model, const struct kv_digest *digest);

#endif
