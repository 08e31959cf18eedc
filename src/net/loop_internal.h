/* What the files of net/ share about the loop. Nothing outside net/ includes this. */
#ifndef NET_LOOP_INTERNAL_H
#define NET_LOOP_INTERNAL_H

#include <uv.h>

#include "net/chunk_pool.h"
#include "net/loop.h"

uv_loop_t *net_loop_uv(struct net_loop *loop);

/* One read buffer for all streams of the loop: valid inside a read callback. */
#define NET_READ_BUFFER_BYTES (256u << 10)
char *net_loop_read_buffer(struct net_loop *loop);

/* Where the loop's streams borrow their output chunks. */
struct net_pool *net_loop_pool(struct net_loop *loop);

/* Calls fn once at the end of this loop turn (before the loop waits again), after the timers of the turn; hooks that are set by
 * hooks run in the same turn, to a depth of 8. Setting one twice is harmless; take it back with net_turn_cancel before freeing
 * its owner. */
struct net_turn {
	struct list_link link;
	void (*fn)(struct net_turn *turn);
};
void net_at_turn_end(struct net_loop *loop, struct net_turn *turn);
void net_turn_cancel(struct net_loop *loop, struct net_turn *turn);

/* Coarse time-outs without a timer each: one timer of the loop calls fn of every watch about every NET_WATCH_MS, and sleeps
 * while there is none. fn may stop and free any watch, its own too. Starting twice is harmless. */
#define NET_WATCH_MS 250
struct net_watch {
	struct list_link link;
	void (*fn)(struct net_watch *watch);
};
void net_watch_start(struct net_loop *loop, struct net_watch *watch);
void net_watch_stop(struct net_loop *loop, struct net_watch *watch);

#endif
