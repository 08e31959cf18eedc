#include "core/arena.h"

#include "core/wipe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_FIRST_BLOCK 4096
#define ARENA_MAX_BLOCK   (256u * 1024u)
#define ARENA_ALIGN       _Alignof(max_align_t)

/* Bytes past `used` are always zero, so a grant needs no clearing and wiping stops at `used`. */
struct block {
	struct block *older;
	size_t size, used;
	_Alignas(max_align_t) char bytes[];
};

struct arena {
	struct block *newest;
	size_t limit, used;
	size_t next_block;
};

struct arena *arena_new(size_t limit_bytes)
{
	struct arena *arena = calloc(1, sizeof *arena);
	if (!arena)
		return NULL;
	arena->limit = limit_bytes ? limit_bytes : SIZE_MAX;
	arena->next_block = ARENA_FIRST_BLOCK;
	return arena;
}

static void block_free(struct block *block)
{
	wipe(block->bytes, block->used);
	free(block);
}

void arena_free(struct arena *arena)
{
	if (!arena)
		return;
	for (struct block *block = arena->newest, *older; block; block = older) {
		older = block->older;
		block_free(block);
	}
	free(arena);
}

void arena_reset(struct arena *arena)
{
	struct block *block = arena->newest;
	while (block && block->older) {
		struct block *older = block->older;
		block_free(block);
		block = older;
	}
	if (block && block->size > ARENA_MAX_BLOCK) { /* one huge grant must not be kept for ever */
		block_free(block);
		block = NULL;
	}
	if (block) {
		wipe(block->bytes, block->used);
		block->used = 0;
	}
	arena->newest = block;
	arena->used = 0;
	arena->next_block = ARENA_FIRST_BLOCK;
}

static struct block *block_new(struct arena *arena, size_t bytes)
{
	size_t payload = arena->next_block - sizeof(struct block);
	if (bytes > payload)
		payload = bytes;
	else if (arena->next_block < ARENA_MAX_BLOCK)
		arena->next_block *= 2;
	if (payload > SIZE_MAX - sizeof(struct block))
		return NULL;
	struct block *block = calloc(1, sizeof *block + payload);
	if (!block)
		return NULL;
	block->size = payload;
	block->older = arena->newest;
	arena->newest = block;
	return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
	if (bytes > SIZE_MAX - ARENA_ALIGN)
		return NULL;
	size_t grant = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	if (grant == 0)
		grant = ARENA_ALIGN;
	if (grant > arena->limit - arena->used)
		return NULL;
	struct block *block = arena->newest;
	if (!block || grant > block->size - block->used)
		block = block_new(arena, grant);
	if (!block)
		return NULL;
	void *at = block->bytes + block->used;
	block->used += grant;
	arena->used += grant;
	return at;
}

struct str arena_str(struct arena *arena, struct str text)
{
	char *copy = arena_cstr(arena, text);
	return copy ? (struct str){copy, text.len} : STR_NONE;
}

char *arena_cstr(struct arena *arena, struct str text)
{
	if (text.len == SIZE_MAX)
		return NULL;
	char *copy = arena_alloc(arena, text.len + 1);
	if (copy && text.len > 0)
		memcpy(copy, text.at, text.len);
	return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	char *text = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
	if (!text)
		return NULL;
	va_start(args, format);
	(void)vsnprintf(text, (size_t)len + 1, format, args);
	va_end(args);
	return text;
}

size_t arena_used(const struct arena *arena)
{
	return arena->used;
}
