/* What the files of net/ share about the loop. Nothing outside net/ includes this. */
#ifndef NET_LOOP_INTERNAL_H
#define NET_LOOP_INTERNAL_H

#include <uv.h>

#include "net/loop.h"

uv_loop_t *net_loop_uv(struct net_loop *loop);

/* One read buffer for all streams of the loop: valid inside a read callback. */
#define NET_READ_BUFFER_BYTES (256u << 10)
char *net_loop_read_buffer(struct net_loop *loop);

/* Calls fn(link) once at the end of this loop turn (before the loop waits again). Linking twice is harmless; remove the link
 * with net_turn_cancel before freeing its owner. */
struct net_turn {
	struct list_link link;
	void (*fn)(struct net_turn *turn);
};
void net_at_turn_end(struct net_loop *loop, struct net_turn *turn);
void net_turn_cancel(struct net_loop *loop, struct net_turn *turn);

#endif
