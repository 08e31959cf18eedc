#include "net/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/resource.h>
#endif

#include "core/log.h"
#include "net/loop_internal.h"
#include "net/timer_wheel.h"

#define TURN_ROUNDS 8
#define WORKER_NICE 5

struct posted {
	void (*fn)(void *arg);
	void *arg;
};

struct post_queue {
	struct posted *at;
	size_t count, cap;
};

struct net_loop {
	uv_loop_t uv;
	uv_async_t wake;
	uv_prepare_t turn_end;
	uv_timer_t alarm; /* only wakes the loop: timers fire at the end of the turn it begins */
	uv_signal_t signals[2];
	bool running;
	uint64_t now_us; /* 0 = not read in this turn yet */

	struct timer_wheel wheel;
	uint64_t alarm_ms; /* TIMER_WHEEL_NEVER = not set */
	struct list turns;
	struct list watches;
	struct net_timer watch_timer;
	struct net_pool pool;
	size_t work_out;

	void (*on_terminate)(int signal, void *arg);
	void *on_terminate_arg;
	char *read_buffer;

	pthread_mutex_t post_lock;
	struct post_queue incoming; /* under post_lock */
	struct post_queue spare;    /* loop thread: the memory that is swapped in next */
};

/* The functions of loop.h that cannot fail need a few bytes at most; without them the process cannot go on in order. */
static void *must_alloc(void *memory)
{
	if (memory)
		return memory;
	log_error("net.out_of_memory", "where=loop");
	abort();
}

uv_loop_t *net_loop_uv(struct net_loop *loop)
{
	return &loop->uv;
}

char *net_loop_read_buffer(struct net_loop *loop)
{
	return loop->read_buffer;
}

struct net_pool *net_loop_pool(struct net_loop *loop)
{
	return &loop->pool;
}

/* The first reader of a turn fetches the time, so that a turn which needs none pays nothing. */
uint64_t net_now_us(const struct net_loop *loop)
{
	struct net_loop *cache = (struct net_loop *)loop;
	if (!cache->now_us || !cache->running)
		cache->now_us = uv_hrtime() / 1000;
	return cache->now_us;
}

/* --- timers --- */

static void fire_timer(struct net_timer *timer, uint64_t now_ms)
{
	if (timer->repeat_ms) {
		uint64_t next = timer->due_ms + timer->repeat_ms;
		timer->due_ms = next > now_ms ? next : now_ms + timer->repeat_ms; /* beats missed are not made up for */
		timer_wheel_insert(&timer->loop->wheel, timer);
	} else {
		timer->loop = NULL;
	}
	timer->fn(timer);
}

void net_timer_start(struct net_loop *loop, struct net_timer *timer, uint64_t after_ms, uint32_t repeat_ms,
                     void (*fn)(struct net_timer *timer))
{
	net_timer_stop(timer);
	if (!loop->running)
		uv_update_time(&loop->uv);
	timer->due_ms = uv_now(&loop->uv) + after_ms;
	timer->repeat_ms = repeat_ms;
	timer->loop = loop;
	timer->fn = fn;
	timer_wheel_insert(&loop->wheel, timer);
}

void net_timer_stop(struct net_timer *timer)
{
	if (!timer->loop)
		return;
	timer_wheel_remove(&timer->loop->wheel, timer);
	timer->loop = NULL;
}

static void on_alarm(uv_timer_t *alarm)
{
	struct net_loop *loop = alarm->data;
	loop->alarm_ms = TIMER_WHEEL_NEVER;
}

static void set_alarm(struct net_loop *loop)
{
	uint64_t next = timer_wheel_next_ms(&loop->wheel);
	if (next >= loop->alarm_ms)
		return; /* an alarm that comes too early only costs a turn, setting it anew on every change costs more */
	uint64_t now = uv_now(&loop->uv);
	loop->alarm_ms = next;
	uv_timer_start(&loop->alarm, on_alarm, next > now ? next - now : 0, 0);
}

/* --- watches --- */

static void on_watch_timer(struct net_timer *timer)
{
	struct net_loop *loop = timer->loop;
	/* Each goes to the back before it is called, so that it does not matter which ones its fn takes out. */
	for (size_t left = loop->watches.count; left > 0 && loop->watches.count > 0; left--) {
		struct list_link *link = list_pop_front(&loop->watches);
		list_push_back(&loop->watches, link);
		struct net_watch *watch = LIST_OF(link, struct net_watch, link);
		watch->fn(watch);
	}
	if (!loop->watches.count)
		net_timer_stop(timer);
}

void net_watch_start(struct net_loop *loop, struct net_watch *watch)
{
	if (list_linked(&watch->link))
		return;
	list_push_back(&loop->watches, &watch->link);
	if (!loop->watch_timer.loop)
		net_timer_start(loop, &loop->watch_timer, NET_WATCH_MS, NET_WATCH_MS, on_watch_timer);
}

void net_watch_stop(struct net_loop *loop, struct net_watch *watch)
{
	list_remove(&loop->watches, &watch->link);
}

/* --- turns --- */

void net_at_turn_end(struct net_loop *loop, struct net_turn *turn)
{
	if (!list_linked(&turn->link))
		list_push_back(&loop->turns, &turn->link);
}

void net_turn_cancel(struct net_loop *loop, struct net_turn *turn)
{
	list_remove(&loop->turns, &turn->link);
}

/* Hooks may set hooks: a few rounds of that belong to the turn. One that goes on and on must not keep the sockets waiting, so
 * what is left after that is done when they have been looked at. */
static void end_turn(struct net_loop *loop)
{
	for (int round = 0; round < TURN_ROUNDS && loop->turns.count; round++) {
		for (size_t left = loop->turns.count; left > 0 && loop->turns.count; left--) {
			struct list_link *link = list_pop_front(&loop->turns);
			struct net_turn *turn = LIST_OF(link, struct net_turn, link);
			turn->fn(turn);
		}
	}
	if (loop->turns.count)
		uv_async_send(&loop->wake);
}

/* Runs right before libuv waits for I/O. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct net_loop *loop = prepare->data;
	timer_wheel_advance(&loop->wheel, uv_now(&loop->uv), fire_timer);
	end_turn(loop);
	set_alarm(loop);
	loop->now_us = 0;
}

/* --- posts and work --- */

static void queue_push(struct post_queue *queue, struct posted posted)
{
	if (queue->count == queue->cap) {
		queue->cap = queue->cap ? queue->cap * 2 : 64;
		queue->at = must_alloc(realloc(queue->at, queue->cap * sizeof *queue->at));
	}
	queue->at[queue->count++] = posted;
}

void net_post(struct net_loop *loop, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&loop->post_lock);
	bool was_empty = loop->incoming.count == 0;
	queue_push(&loop->incoming, (struct posted){fn, arg});
	/* Under the lock, so that the loop cannot run the post and be freed before the wake-up is sent. */
	if (was_empty)
		uv_async_send(&loop->wake);
	pthread_mutex_unlock(&loop->post_lock);
}

static void run_posted(struct net_loop *loop)
{
	pthread_mutex_lock(&loop->post_lock);
	struct post_queue batch = loop->incoming;
	loop->incoming = loop->spare;
	pthread_mutex_unlock(&loop->post_lock);
	loop->spare = (struct post_queue){0};

	for (size_t i = 0; i < batch.count; i++)
		batch.at[i].fn(batch.at[i].arg);

	batch.count = 0;
	free(loop->spare.at);
	loop->spare = batch;
}

static void on_wake(uv_async_t *wake)
{
	run_posted(wake->data);
}

struct work_item {
	uv_work_t request;
	struct net_loop *loop;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

/* Where they share a core, the loop goes first: somebody waits for it, while most work is done ahead of need. */
static void yield_to_loop(void)
{
#ifdef __linux__ /* a nice value belongs to a thread there, elsewhere to the process */
	static _Thread_local bool yielded;
	if (!yielded)
		yielded = setpriority(PRIO_PROCESS, 0, WORKER_NICE) == 0;
#endif
}

static void on_worker(uv_work_t *request)
{
	yield_to_loop();
	struct work_item *item = request->data;
	item->work(item->arg);
}

static void on_work_done(uv_work_t *request, int status)
{
	(void)status; /* work is never cancelled */
	struct work_item *item = request->data;
	item->loop->work_out--;
	item->done(item->arg);
	free(item);
}

void net_work(struct net_loop *loop, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
	struct work_item *item = must_alloc(malloc(sizeof *item));
	*item = (struct work_item){.loop = loop, .work = work, .done = done, .arg = arg};
	item->request.data = item;
	loop->work_out++;
	uv_queue_work(&loop->uv, &item->request, on_worker, on_work_done);
}

void net_workers(int threads)
{
	char text[16];
	snprintf(text, sizeof text, "%d", threads < 1 ? 1 : threads > 256 ? 256 : threads);
	setenv("UV_THREADPOOL_SIZE", text, 1);
}

/* --- signals --- */

static void on_signal(uv_signal_t *handle, int number)
{
	struct net_loop *loop = handle->data;
	loop->on_terminate(number, loop->on_terminate_arg);
}

void net_on_terminate(struct net_loop *loop, void (*fn)(int signal, void *arg), void *arg)
{
	loop->on_terminate = fn;
	loop->on_terminate_arg = arg;
	uv_signal_start(&loop->signals[0], on_signal, SIGTERM);
	uv_signal_start(&loop->signals[1], on_signal, SIGINT);
}

/* --- life --- */

static int init_handles(struct net_loop *loop)
{
	int rc = uv_async_init(&loop->uv, &loop->wake, on_wake);
	if (rc)
		return rc;
	loop->wake.data = loop; /* and this handle keeps the loop running until it is stopped */
	uv_prepare_init(&loop->uv, &loop->turn_end);
	loop->turn_end.data = loop;
	uv_prepare_start(&loop->turn_end, on_prepare);
	uv_unref((uv_handle_t *)&loop->turn_end);
	uv_timer_init(&loop->uv, &loop->alarm);
	loop->alarm.data = loop;
	uv_unref((uv_handle_t *)&loop->alarm);
	for (size_t i = 0; i < 2 && !rc; i++) {
		rc = uv_signal_init(&loop->uv, &loop->signals[i]);
		loop->signals[i].data = loop;
		if (!rc)
			uv_unref((uv_handle_t *)&loop->signals[i]);
	}
	return rc;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void release(struct net_loop *loop)
{
	uv_walk(&loop->uv, close_handle, NULL);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	uv_loop_close(&loop->uv);
	pthread_mutex_destroy(&loop->post_lock);
	free(loop->incoming.at);
	free(loop->spare.at);
	free(loop->read_buffer);
	net_pool_free(&loop->pool);
	free(loop);
}

struct net_loop *net_loop_new(struct error *error)
{
	struct net_loop *loop = calloc(1, sizeof *loop);
	char *read_buffer = malloc(NET_READ_BUFFER_BYTES);
	int rc = loop && read_buffer ? uv_loop_init(&loop->uv) : UV_ENOMEM;
	if (rc) {
		free(read_buffer);
		free(loop);
		error_set(error, DB_E_IO, "The event loop could not be made: %s.", uv_strerror(rc));
		return NULL;
	}
	loop->read_buffer = read_buffer;
	pthread_mutex_init(&loop->post_lock, NULL);
	list_init(&loop->turns);
	list_init(&loop->watches);
	net_pool_init(&loop->pool);
	timer_wheel_init(&loop->wheel, uv_now(&loop->uv));
	loop->alarm_ms = TIMER_WHEEL_NEVER;
	signal(SIGPIPE, SIG_IGN);

	rc = init_handles(loop);
	if (rc) {
		release(loop);
		error_set(error, DB_E_IO, "The event loop could not be made: %s. Raise the limit of open files.", uv_strerror(rc));
		return NULL;
	}
	return loop;
}

void net_loop_run(struct net_loop *loop)
{
	loop->running = true;
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	end_turn(loop); /* what the stopping turn wanted to send */
	loop->running = false;
}

void net_loop_stop(struct net_loop *loop)
{
	uv_stop(&loop->uv);
}

static bool anything_posted(struct net_loop *loop)
{
	pthread_mutex_lock(&loop->post_lock);
	bool any = loop->incoming.count > 0;
	pthread_mutex_unlock(&loop->post_lock);
	return any;
}

void net_loop_free(struct net_loop *loop)
{
	if (!loop)
		return;
	while (loop->work_out || anything_posted(loop))
		uv_run(&loop->uv, UV_RUN_ONCE);
	/* Closes that their owners began end before the loop's own handles go: their callbacks may still use timers. */
	uv_run(&loop->uv, UV_RUN_NOWAIT);
	end_turn(loop);
	release(loop);
}
