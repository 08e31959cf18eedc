/* Hash map from byte strings to pointers, keyed SipHash (a stranger cannot choose colliding keys). Open addressing.
 * Keys are borrowed: they must live, unchanged, as long as their entry (usually inside the value). Thread: one at a time. */
#ifndef CORE_MAP_H
#define CORE_MAP_H

#include "core/error.h"
#include "core/str.h"

struct map_slot {
	const char *key;
	uint32_t key_len, hash; /* the lower half of its hash */
	void *value;            /* NULL = empty slot */
};

struct map {
	struct map_slot *slots;
	size_t count, cap; /* cap is a power of two or 0 */
	uint64_t seed[2];
};

void map_init(struct map *map);
void map_free(struct map *map);                       /* frees the table, not the values */
void *map_get(const struct map *map, struct str key); /* NULL when absent */
/* value must not be NULL. An existing entry is replaced (key pointer too); *old gets its value or NULL; old may be NULL. */
enum db_err map_put(struct map *map, struct str key, void *value, void **old);
/* Room for so many entries, so that adding them moves none. Failing changes nothing. */
enum db_err map_reserve(struct map *map, size_t count);
void *map_remove(struct map *map, struct str key); /* the removed value or NULL */
/* Iteration in no particular order: start with *cursor = 0; NULL at the end. Do not change the map meanwhile. */
void *map_next(const struct map *map, size_t *cursor);

uint64_t map_hash(const uint64_t seed[2], struct str key); /* SipHash-1-3, also used by others */

#endif
