#include "coordinator/routing/slab.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CHUNK_BYTES (2u << 20) /* a large page */
#define LINE_BYTES  64

struct slab_chunk {
	struct slab_chunk *next;
};

void slab_init(struct slab *slab, size_t piece_bytes)
{
	*slab = (struct slab){.piece_bytes = piece_bytes};
}

void slab_free(struct slab *slab)
{
	for (struct slab_chunk *chunk = slab->chunks, *next; chunk; chunk = next) {
		next = chunk->next;
		(void)munmap(chunk, CHUNK_BYTES);
	}
	slab_init(slab, slab->piece_bytes);
}

#if defined(__SANITIZE_ADDRESS__)
#define SLAB_PLAIN 1 /* every piece on its own: a sanitizer sees who uses one that was given back */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLAB_PLAIN 1
#endif
#endif

#ifdef SLAB_PLAIN

void *slab_take(struct slab *slab)
{
	return aligned_alloc(LINE_BYTES, slab->piece_bytes);
}

void slab_give(struct slab *slab, void *piece)
{
	(void)slab;
	free(piece);
}

#else

/* Begins on a multiple of its size: what is mapped too much around it is given back. */
static void *map_chunk(void)
{
	char *at = mmap(NULL, 2 * CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	size_t before = (CHUNK_BYTES - (uintptr_t)at % CHUNK_BYTES) % CHUNK_BYTES;
	if (before)
		(void)munmap(at, before);
	(void)munmap(at + before + CHUNK_BYTES, CHUNK_BYTES - before);
	return at + before;
}

static void add_chunk(struct slab *slab)
{
	struct slab_chunk *chunk = map_chunk();
	if (!chunk)
		return;
#ifdef MADV_HUGEPAGE
	(void)madvise(chunk, CHUNK_BYTES, MADV_HUGEPAGE); /* without large pages it is only slower */
#endif
	chunk->next = slab->chunks;
	slab->chunks = chunk;
	slab->at = (char *)chunk + LINE_BYTES;
	slab->end = (char *)chunk + CHUNK_BYTES;
}

void *slab_take(struct slab *slab)
{
	void **piece = slab->spare;
	if (piece) {
		slab->spare = *piece;
		return piece;
	}
	if ((size_t)(slab->end - slab->at) < slab->piece_bytes)
		add_chunk(slab);
	if ((size_t)(slab->end - slab->at) < slab->piece_bytes)
		return NULL;
	void *fresh = slab->at;
	slab->at += slab->piece_bytes;
	return fresh;
}

void slab_give(struct slab *slab, void *piece)
{
	void **spare = piece;
	if (!spare)
		return;
	*spare = slab->spare;
	slab->spare = spare;
}

#endif
