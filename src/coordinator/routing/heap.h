/* A binary heap of items that stand in their owners and know their place, so that any of them can be taken out. */
#ifndef COORDINATOR_ROUTING_HEAP_H
#define COORDINATOR_ROUTING_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct heap_item {
	uint64_t key;
	uint32_t place; /* from 1; 0 = in no heap */
};

struct heap {
	struct heap_item **at; /* smallest key first */
	uint32_t len, cap;
};

void heap_free(struct heap *heap); /* the items are their owners' */
/* Moves an item that is in it already. False when out of memory: it is not in it. */
bool heap_put(struct heap *heap, struct heap_item *item, uint64_t key);
void heap_remove(struct heap *heap, struct heap_item *item); /* nothing when it is in none */
struct heap_item *heap_first(const struct heap *heap);       /* NULL when empty */

#endif
