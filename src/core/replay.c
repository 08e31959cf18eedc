#include "core/replay.h"

#include "core/id.h"
#include "core/map.h"

#include <stdlib.h>

#define FIRST_CAP 1024

void replay_init(struct replay *replay, uint64_t keep_us, size_t max)
{
	*replay = (struct replay){.keep_us = keep_us, .max = max};
	id_random(replay->seed, sizeof replay->seed);
}

static void half_free(struct replay_half *half)
{
	free(half->slots);
	*half = (struct replay_half){0};
}

void replay_free(struct replay *replay)
{
	half_free(&replay->now);
	half_free(&replay->before);
}

/* The slot that holds the hash, or the empty one where it belongs. */
static uint64_t *find(const struct replay_half *half, uint64_t hash)
{
	size_t at = hash & (half->cap - 1);
	while (half->slots[at] && half->slots[at] != hash)
		at = (at + 1) & (half->cap - 1);
	return &half->slots[at];
}

static bool holds(const struct replay_half *half, uint64_t hash)
{
	return half->cap > 0 && *find(half, hash) == hash;
}

static enum db_err make_room(struct replay_half *half)
{
	if (half->count < half->cap / 2)
		return DB_OK;
	struct replay_half grown = {.cap = half->cap ? half->cap * 2 : FIRST_CAP, .count = half->count};
	grown.slots = calloc(grown.cap, sizeof *grown.slots);
	if (!grown.slots)
		return DB_E_NOMEM;
	for (size_t i = 0; i < half->cap; i++)
		if (half->slots[i])
			*find(&grown, half->slots[i]) = half->slots[i];
	free(half->slots);
	*half = grown;
	return DB_OK;
}

static void turn(struct replay *replay, uint64_t now_us)
{
	uint64_t age = now_us - replay->turned_us;
	if (now_us < replay->turned_us || age < replay->keep_us)
		return;
	half_free(&replay->before);
	if (age < 2 * replay->keep_us) {
		replay->before = replay->now;
		replay->now = (struct replay_half){0};
	} else {
		half_free(&replay->now);
	}
	replay->turned_us = now_us;
}

enum db_err replay_note(struct replay *replay, struct str what, uint64_t now_us)
{
	uint64_t hash = map_hash(replay->seed, what);
	hash += hash == 0;
	turn(replay, now_us);
	if (holds(&replay->now, hash) || holds(&replay->before, hash))
		return DB_E_EXISTS;
	if (replay->now.count >= replay->max)
		return DB_E_LIMIT;
	enum db_err err = make_room(&replay->now);
	if (err)
		return err;
	*find(&replay->now, hash) = hash;
	replay->now.count++;
	return DB_OK;
}
