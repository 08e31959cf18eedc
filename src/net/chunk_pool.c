#include "net/chunk_pool.h"

#include <stdlib.h>

#include "crypto/secret.h"

#define SPARE_CHUNKS_MAX 512u

void net_pool_init(struct net_pool *pool)
{
	*pool = (struct net_pool){0};
}

void net_pool_free(struct net_pool *pool)
{
	while (pool->spare) {
		struct net_chunk *chunk = pool->spare;
		pool->spare = chunk->next;
		free(chunk);
	}
	pool->spare_count = 0;
}

static struct net_chunk *chunk_take(struct net_pool *pool)
{
	struct net_chunk *chunk = pool->spare;
	if (chunk) {
		pool->spare = chunk->next;
		pool->spare_count--;
	} else {
		chunk = malloc(sizeof *chunk);
		if (!chunk)
			return NULL;
	}
	chunk->next = NULL;
	chunk->start = chunk->end = 0;
	return chunk;
}

static void chunk_give(struct net_pool *pool, struct net_chunk *chunk)
{
	secret_wipe(chunk->bytes, chunk->end);
	if (pool->spare_count >= SPARE_CHUNKS_MAX) {
		free(chunk);
		return;
	}
	chunk->next = pool->spare;
	pool->spare = chunk;
	pool->spare_count++;
}

enum db_err net_queue_append(struct net_queue *queue, struct net_pool *pool, const void *bytes, size_t len)
{
	const char *from = bytes;
	while (len > 0) {
		struct net_chunk *chunk = queue->last;
		if (!chunk || chunk->end == NET_CHUNK_BYTES) {
			chunk = chunk_take(pool);
			if (!chunk)
				return DB_E_NOMEM;
			if (queue->last)
				queue->last->next = chunk;
			else
				queue->first = chunk;
			queue->last = chunk;
		}
		size_t part = NET_CHUNK_BYTES - chunk->end;
		if (part > len)
			part = len;
		memcpy(chunk->bytes + chunk->end, from, part);
		chunk->end += (uint32_t)part;
		queue->len += part;
		from += part;
		len -= part;
	}
	return DB_OK;
}

struct str net_queue_peek(const struct net_queue *queue)
{
	const struct net_chunk *chunk = queue->first;
	return chunk ? (struct str){chunk->bytes + chunk->start, chunk->end - chunk->start} : STR_NONE;
}

void net_queue_consume(struct net_queue *queue, struct net_pool *pool, size_t len)
{
	queue->len -= len;
	while (queue->first) {
		struct net_chunk *chunk = queue->first;
		size_t held = chunk->end - chunk->start;
		if (held > len) {
			chunk->start += (uint32_t)len;
			return;
		}
		len -= held;
		queue->first = chunk->next;
		if (!queue->first)
			queue->last = NULL;
		chunk_give(pool, chunk);
	}
}

void net_queue_clear(struct net_queue *queue, struct net_pool *pool)
{
	net_queue_consume(queue, pool, queue->len);
}
