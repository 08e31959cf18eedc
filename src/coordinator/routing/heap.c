#include "coordinator/routing/heap.h"

#include <stddef.h>
#include <stdlib.h>

void heap_free(struct heap *heap)
{
	free(heap->at);
	*heap = (struct heap){0};
}

static void put(struct heap *heap, uint32_t at, struct heap_item *item)
{
	heap->at[at] = item;
	item->place = at + 1;
}

static void sift_up(struct heap *heap, uint32_t at, struct heap_item *moving)
{
	while (at > 0 && heap->at[(at - 1) / 2]->key > moving->key) {
		put(heap, at, heap->at[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	put(heap, at, moving);
}

static void sift_down(struct heap *heap, uint32_t at, struct heap_item *moving)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= heap->len)
			break;
		if (child + 1 < heap->len && heap->at[child + 1]->key < heap->at[child]->key)
			child++;
		if (heap->at[child]->key >= moving->key)
			break;
		put(heap, at, heap->at[child]);
		at = child;
	}
	put(heap, at, moving);
}

void heap_remove(struct heap *heap, struct heap_item *item)
{
	if (!item->place)
		return;
	uint32_t at = item->place - 1;
	struct heap_item *last = heap->at[--heap->len];
	item->place = 0;
	if (last == item)
		return;
	sift_up(heap, at, last);
	sift_down(heap, last->place - 1, last);
}

static bool has_room(struct heap *heap)
{
	if (heap->len < heap->cap)
		return true;
	uint32_t cap = heap->cap ? heap->cap * 2 : 8;
	struct heap_item **grown = realloc(heap->at, cap * sizeof(struct heap_item *));
	if (!grown)
		return false;
	heap->at = grown;
	heap->cap = cap;
	return true;
}

bool heap_put(struct heap *heap, struct heap_item *item, uint64_t key)
{
	heap_remove(heap, item);
	if (!has_room(heap))
		return false;
	item->key = key;
	sift_up(heap, heap->len++, item);
	return true;
}

struct heap_item *heap_first(const struct heap *heap)
{
	return heap->len ? heap->at[0] : NULL;
}
