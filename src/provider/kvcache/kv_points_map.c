#include "provider/kvcache/kv_points_map.h"

static struct str key_of(const struct kv_point *point)
{
	return (struct str){(const char *)&point->key, sizeof point->key};
}

struct kv_point *kv_points_get(const struct map *map, uint64_t model, const struct kv_digest *digest)
{
	struct kv_point wanted = {.key = {model, *digest}};
	return map_get(map, key_of(&wanted));
}

static enum db_err add(struct map *map, struct kv_point *point)
{
	void *old;
	enum db_err err = map_put(map, key_of(point), point, &old);
	if (!err)
		point->next = old;
	return err;
}

static void drop(struct map *map, struct kv_point *point)
{
	struct kv_point *head = map_get(map, key_of(point));
	if (head == point) {
		if (point->next)
			map_put(map, key_of(point->next), point->next, NULL); /* replaces: needs no memory */
		else
			map_remove(map, key_of(point));
		return;
	}
	while (head && head->next != point)
		head = head->next;
	if (head)
		head->next = point->next;
}

enum db_err kv_points_add(struct map *map, uint64_t model, const struct kv_digest *digests, size_t count, bool cuttable,
                          void *holder, struct kv_point *points)
{
	for (size_t i = 0; i < count; i++) {
		points[i] = (struct kv_point){.key = {model, digests[i]}, .tokens = (i + 1) * KV_GRID, .holder = holder};
		if (!cuttable && i + 1 < count)
			continue;
		if (add(map, &points[i])) {
			for (size_t j = cuttable ? 0 : i; j < i; j++)
				drop(map, &points[j]);
			return DB_E_NOMEM;
		}
	}
	return DB_OK;
}

void kv_points_remove(struct map *map, struct kv_point *points, size_t count)
{
	for (size_t i = 0; i < count; i++)
		drop(map, &points[i]);
}
