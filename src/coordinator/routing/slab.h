/* Pieces of one size, cut from large pages: a fleet's nodes and their entries lie close together, so that finding one costs a
 * cache miss and not a walk through the page tables as well. Thread: one at a time. */
#ifndef COORDINATOR_ROUTING_SLAB_H
#define COORDINATOR_ROUTING_SLAB_H

#include <stddef.h>

struct slab_chunk;

struct slab {
	size_t piece_bytes; /* a multiple of 64: pieces begin on a cache line */
	void *spare;        /* given back: each points at the next */
	char *at, *end;     /* of the newest chunk: not yet used */
	struct slab_chunk *chunks;
};

void slab_init(struct slab *slab, size_t piece_bytes);
void slab_free(struct slab *slab);              /* with all pieces */
void *slab_take(struct slab *slab);             /* not cleared; NULL: out of memory */
void slab_give(struct slab *slab, void *piece); /* NULL is ignored */

#endif
