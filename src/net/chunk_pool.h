/* Output queues made of chunks that a loop lends out: a connection with nothing to send holds none. Content may be secret, so
 * chunks are wiped when they go back. Internal to net/. Thread: the loop's. */
#ifndef NET_CHUNK_POOL_H
#define NET_CHUNK_POOL_H

#include "core/error.h"
#include "core/str.h"

#define NET_CHUNK_BYTES ((16u << 10) - 16u)

struct net_chunk {
	struct net_chunk *next;
	uint32_t start, end; /* what is still to be sent */
	char bytes[NET_CHUNK_BYTES];
};

struct net_pool {
	struct net_chunk *spare;
	size_t spare_count;
};

void net_pool_init(struct net_pool *pool);
void net_pool_free(struct net_pool *pool);

struct net_queue {
	struct net_chunk *first, *last;
	size_t len;
};

/* Copies. DB_E_NOMEM leaves a part of the bytes in the queue: give the queue up then. */
enum db_err net_queue_append(struct net_queue *queue, struct net_pool *pool, const void *bytes, size_t len);
/* The first bytes of the queue, as many as lie together; at == NULL when it is empty. */
struct str net_queue_peek(const struct net_queue *queue);
void net_queue_consume(struct net_queue *queue, struct net_pool *pool, size_t len); /* len <= queue->len */
void net_queue_clear(struct net_queue *queue, struct net_pool *pool);

#endif
