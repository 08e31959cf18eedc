/* The event loop: one per thread, over libuv. All of net/ runs on its loop's thread unless a function says otherwise. */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "core/error.h"
#include "core/list.h"
#include "core/str.h"

struct net_loop;

struct net_loop *net_loop_new(struct error *error);
/* Runs until net_loop_stop. */
void net_loop_run(struct net_loop *loop);
void net_loop_stop(struct net_loop *loop); /* loop thread; from elsewhere use net_post */
/* After net_loop_run returned and every server, client and timer of it was freed. Waits for work that is still out, runs what
 * was posted and pending closes. */
void net_loop_free(struct net_loop *loop);

/* Monotonic microseconds, read once per loop turn (cheap). */
uint64_t net_now_us(const struct net_loop *loop);

/* Any thread: runs fn(arg) on the loop thread soon, in the order posted per thread. */
void net_post(struct net_loop *loop, void (*fn)(void *arg), void *arg);

/* Loop thread: work(arg) on a worker thread, then done(arg) on the loop thread. For anything that blocks or takes more than
 * about 20 microseconds. The pool's size is set once by net_workers. */
void net_work(struct net_loop *loop, void (*work)(void *arg), void (*done)(void *arg), void *arg);
void net_workers(int threads); /* before the first net_work of the process; default 4 */

/* Timers: embedded in their owner, one shot or repeating, millisecond grain, O(1) to start and stop. Zero-initialise.
 * Starting a running timer sets it anew. A one-shot timer may be freed in its fn; a repeating one after net_timer_stop. */
struct net_timer {
	struct list_link link;
	uint64_t due_ms;
	uint32_t repeat_ms;
	uint16_t slot;         /* of the loop's wheel */
	struct net_loop *loop; /* NULL = not running */
	void (*fn)(struct net_timer *timer);
};
void net_timer_start(struct net_loop *loop, struct net_timer *timer, uint64_t after_ms, uint32_t repeat_ms,
                     void (*fn)(struct net_timer *timer));
void net_timer_stop(struct net_timer *timer); /* harmless when not running; allowed inside fn */

/* SIGTERM and SIGINT, delivered on the loop thread; fn may be called again for further signals. SIGPIPE is ignored. */
void net_on_terminate(struct net_loop *loop, void (*fn)(int signal, void *arg), void *arg);

#endif
