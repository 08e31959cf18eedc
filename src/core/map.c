#include "core/map.h"

#include "core/id.h"

#include <stdlib.h>

#define MAP_FIRST_CAP 16

static uint64_t rotate(uint64_t x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "SipHash reads little-endian words");

static uint64_t load(const char *at, size_t len)
{
	uint64_t word = 0;
	memcpy(&word, at, len);
	return word;
}

uint64_t map_hash(const uint64_t seed[2], struct str key)
{
	uint64_t v[4] = {
	    seed[0] ^ 0x736f6d6570736575u,
	    seed[1] ^ 0x646f72616e646f6du,
	    seed[0] ^ 0x6c7967656e657261u,
	    seed[1] ^ 0x7465646279746573u,
	};
	size_t whole = key.len & ~(size_t)7;
	for (size_t i = 0; i < whole; i += 8) {
		uint64_t word = load(key.at + i, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	uint64_t last = ((uint64_t)key.len << 56) | (key.len > whole ? load(key.at + whole, key.len - whole) : 0);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *map)
{
	*map = (struct map){0};
	id_random(map->seed, sizeof map->seed);
}

void map_free(struct map *map)
{
	free(map->slots);
	map->slots = NULL;
	map->count = map->cap = 0;
}

static uint32_t hash_of(const struct map *map, struct str key)
{
	return (uint32_t)map_hash(map->seed, key);
}

/* The slot that holds the key, or the empty slot where it belongs. The table always has an empty slot. */
static struct map_slot *find(const struct map *map, struct str key, uint32_t hash)
{
	size_t mask = map->cap - 1;
	for (size_t i = hash & mask;; i = (i + 1) & mask) {
		struct map_slot *slot = &map->slots[i];
		if (!slot->value || (slot->hash == hash && str_eq((struct str){slot->key, slot->key_len}, key)))
			return slot;
	}
}

void *map_get(const struct map *map, struct str key)
{
	return map->count ? find(map, key, hash_of(map, key))->value : NULL;
}

static bool has_room(size_t cap, size_t count)
{
	return count * 16 <= cap * 13;
}

static enum db_err resize(struct map *map, size_t cap)
{
	struct map_slot *slots = calloc(cap, sizeof *slots);
	if (!slots)
		return DB_E_NOMEM;
	struct map bigger = {.slots = slots, .count = map->count, .cap = cap, .seed = {map->seed[0], map->seed[1]}};
	for (size_t i = 0; i < map->cap; i++) {
		const struct map_slot *slot = &map->slots[i];
		if (slot->value)
			*find(&bigger, (struct str){slot->key, slot->key_len}, slot->hash) = *slot;
	}
	free(map->slots);
	*map = bigger;
	return DB_OK;
}

enum db_err map_reserve(struct map *map, size_t count)
{
	size_t cap = map->cap ? map->cap : MAP_FIRST_CAP;
	while (!has_room(cap, count) && cap <= SIZE_MAX / 4 / sizeof(struct map_slot))
		cap *= 2;
	return cap == map->cap ? DB_OK : resize(map, cap);
}

enum db_err map_put(struct map *map, struct str key, void *value, void **old)
{
	if (old)
		*old = NULL;
	uint32_t hash = hash_of(map, key);
	struct map_slot *slot = map->cap ? find(map, key, hash) : NULL;
	bool replace = slot && slot->value;
	if (!replace && !has_room(map->cap, map->count + 1)) {
		enum db_err err = map_reserve(map, map->count + 1);
		if (err)
			return err;
		slot = find(map, key, hash);
	}
	if (replace && old)
		*old = slot->value;
	*slot = (struct map_slot){key.at, (uint32_t)key.len, hash, value};
	if (!replace)
		map->count++;
	return DB_OK;
}

void *map_remove(struct map *map, struct str key)
{
	if (map->count == 0)
		return NULL;
	struct map_slot *hole = find(map, key, hash_of(map, key));
	void *value = hole->value;
	if (!value)
		return NULL;
	/* Close the gap: pull back every later entry of the run that may stand at the hole or before it. */
	size_t mask = map->cap - 1, at = (size_t)(hole - map->slots);
	for (size_t i = (at + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
		size_t home = map->slots[i].hash & mask;
		if (((i - home) & mask) >= ((i - at) & mask)) {
			map->slots[at] = map->slots[i];
			at = i;
		}
	}
	map->slots[at] = (struct map_slot){0};
	map->count--;
	return value;
}

void *map_next(const struct map *map, size_t *cursor)
{
	while (*cursor < map->cap) {
		void *value = map->slots[(*cursor)++].value;
		if (value)
			return value;
	}
	return NULL;
}
