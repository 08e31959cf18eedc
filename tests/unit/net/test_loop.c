/* The loop: posts from other threads, work on the pool, timers in order, hooks at the end of a turn, signals. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/loop_internal.h"

static struct net_loop *new_loop(void)
{
	struct error error;
	struct net_loop *loop = net_loop_new(&error);
	assert_non_null(loop);
	return loop;
}

static void stop(void *loop)
{
	net_loop_stop(loop);
}

/* --- posts --- */

#define POSTERS          4
#define POSTS_EACH       20000
#define POSTS_ALTOGETHER (POSTERS * POSTS_EACH)

struct post_test {
	struct net_loop *loop;
	pthread_t loop_thread;
	int seen;
	int next_of[POSTERS];
};
struct post_item {
	struct post_test *test;
	int poster, number;
};
struct poster {
	struct post_test *test;
	int index;
};

static void on_post(void *arg)
{
	struct post_item *item = arg;
	struct post_test *test = item->test;
	assert_true(pthread_equal(pthread_self(), test->loop_thread));
	assert_int_equal(item->number, test->next_of[item->poster]++);
	if (++test->seen == POSTS_ALTOGETHER)
		net_loop_stop(test->loop);
	free(item);
}

static void *poster_main(void *arg)
{
	struct poster *poster = arg;
	for (int i = 0; i < POSTS_EACH; i++) {
		struct post_item *item = malloc(sizeof *item);
		*item = (struct post_item){poster->test, poster->index, i};
		net_post(poster->test->loop, on_post, item);
	}
	return NULL;
}

static void test_posts_run_on_the_loop_in_the_order_of_each_thread(void **state)
{
	(void)state;
	struct post_test test = {.loop = new_loop(), .loop_thread = pthread_self()};
	struct poster posters[POSTERS];
	pthread_t threads[POSTERS];
	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){&test, i};
		pthread_create(&threads[i], NULL, poster_main, &posters[i]);
	}
	net_loop_run(test.loop);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(test.seen, POSTS_ALTOGETHER);
	net_loop_free(test.loop);
}

struct chain {
	struct net_loop *loop;
	int left;
};

static void post_again(void *arg)
{
	struct chain *chain = arg;
	if (chain->left-- > 0)
		net_post(chain->loop, post_again, chain);
	else
		net_loop_stop(chain->loop);
}

static void test_a_post_may_post(void **state)
{
	(void)state;
	struct chain chain = {new_loop(), 1000};
	net_post(chain.loop, post_again, &chain);
	net_loop_run(chain.loop);
	assert_int_equal(chain.left, -1);
	net_loop_free(chain.loop);
}

static void count_up(void *arg)
{
	++*(int *)arg;
}

static void test_freeing_the_loop_runs_what_was_posted(void **state)
{
	(void)state;
	struct net_loop *loop = new_loop();
	int runs = 0;
	net_post(loop, count_up, &runs);
	net_post(loop, count_up, &runs);
	net_loop_free(loop);
	assert_int_equal(runs, 2);
}

/* --- work --- */

#define JOBS 500

struct work_test {
	struct net_loop *loop;
	pthread_t loop_thread;
	atomic_int worked;
	int done;
};

static void do_work(void *arg)
{
	struct work_test *test = arg;
	assert_false(pthread_equal(pthread_self(), test->loop_thread));
	atomic_fetch_add(&test->worked, 1);
}

static void work_done(void *arg)
{
	struct work_test *test = arg;
	assert_true(pthread_equal(pthread_self(), test->loop_thread));
	if (++test->done == JOBS)
		net_loop_stop(test->loop);
}

static void test_work_runs_on_a_worker_and_is_reported_on_the_loop(void **state)
{
	(void)state;
	net_workers(3);
	struct work_test test = {.loop = new_loop(), .loop_thread = pthread_self()};
	for (int i = 0; i < JOBS; i++)
		net_work(test.loop, do_work, work_done, &test);
	assert_int_equal(test.done, 0);
	net_loop_run(test.loop);
	assert_int_equal(atomic_load(&test.worked), JOBS);
	assert_int_equal(test.done, JOBS);
	net_loop_free(test.loop);
}

static void test_freeing_the_loop_waits_for_work(void **state)
{
	(void)state;
	struct work_test test = {.loop = new_loop(), .loop_thread = pthread_self()};
	for (int i = 0; i < 20; i++)
		net_work(test.loop, do_work, work_done, &test);
	net_loop_free(test.loop);
	assert_int_equal(test.done, 20);
}

/* --- timers --- */

struct order_test {
	struct net_loop *loop;
	int fired[8];
	int count;
};
struct named_timer {
	struct net_timer timer;
	struct order_test *test;
	int name;
};

static void on_named(struct net_timer *timer)
{
	struct named_timer *named = LIST_OF(timer, struct named_timer, timer);
	named->test->fired[named->test->count++] = named->name;
	if (named->name == 99)
		net_loop_stop(named->test->loop);
}

static void test_timers_fire_in_the_order_they_are_due(void **state)
{
	(void)state;
	struct order_test test = {.loop = new_loop()};
	struct named_timer timers[5] = {{.name = 30}, {.name = 10}, {.name = 0}, {.name = 20}, {.name = 99}};
	uint64_t after[5] = {30, 10, 0, 20, 40};
	for (int i = 0; i < 5; i++) {
		timers[i].test = &test;
		net_timer_start(test.loop, &timers[i].timer, after[i], 0, on_named);
	}
	net_loop_run(test.loop);
	int expected[5] = {0, 10, 20, 30, 99};
	assert_int_equal(test.count, 5);
	assert_memory_equal(test.fired, expected, sizeof expected);
	assert_null(timers[0].timer.loop);
	net_loop_free(test.loop);
}

static void test_a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once(void **state)
{
	(void)state;
	struct order_test test = {.loop = new_loop()};
	struct named_timer stopped = {.name = 1, .test = &test}, restarted = {.name = 2, .test = &test};
	struct named_timer last = {.name = 99, .test = &test};
	net_timer_stop(&stopped.timer); /* never started: harmless */
	net_timer_start(test.loop, &stopped.timer, 2, 0, on_named);
	net_timer_start(test.loop, &restarted.timer, 1, 0, on_named);
	net_timer_start(test.loop, &restarted.timer, 4, 0, on_named);
	net_timer_start(test.loop, &last.timer, 10, 0, on_named);
	net_timer_stop(&stopped.timer);
	net_timer_stop(&stopped.timer);
	net_loop_run(test.loop);
	int expected[2] = {2, 99};
	assert_int_equal(test.count, 2);
	assert_memory_equal(test.fired, expected, sizeof expected);
	net_loop_free(test.loop);
}

struct repeat_test {
	struct net_timer timer;
	struct net_loop *loop;
	int left;
};

static void on_repeat(struct net_timer *timer)
{
	struct repeat_test *test = LIST_OF(timer, struct repeat_test, timer);
	assert_non_null(timer->loop);
	if (--test->left)
		return;
	net_timer_stop(timer);
	net_post(test->loop, stop, test->loop);
}

static void test_a_repeating_timer_fires_until_stopped_in_its_callback(void **state)
{
	(void)state;
	struct repeat_test test = {.loop = new_loop(), .left = 5};
	net_timer_start(test.loop, &test.timer, 1, 2, on_repeat);
	net_loop_run(test.loop);
	assert_int_equal(test.left, 0);
	assert_null(test.timer.loop);
	net_loop_free(test.loop);
}

struct freed_timer {
	struct net_timer timer;
	struct net_loop *loop;
};

static void free_yourself(struct net_timer *timer)
{
	struct freed_timer *owner = LIST_OF(timer, struct freed_timer, timer);
	net_loop_stop(owner->loop);
	free(owner);
}

static void test_a_timer_may_be_freed_when_it_fires(void **state)
{
	(void)state;
	struct freed_timer *owner = calloc(1, sizeof *owner);
	struct net_loop *loop = owner->loop = new_loop();
	net_timer_start(loop, &owner->timer, 0, 0, free_yourself);
	net_loop_run(loop);
	net_loop_free(loop);
}

static void test_time_does_not_move_within_a_turn_nor_backwards(void **state)
{
	(void)state;
	struct order_test test = {.loop = new_loop()};
	uint64_t before = net_now_us(test.loop);
	struct named_timer last = {.name = 99, .test = &test};
	net_timer_start(test.loop, &last.timer, 3, 0, on_named);
	net_loop_run(test.loop);
	assert_true(net_now_us(test.loop) >= before + 2000);
	net_loop_free(test.loop);
}

/* --- watches --- */

struct watch_test {
	struct net_watch watch;
	struct net_loop *loop;
	struct watch_test *victim;
	int calls;
};

static void on_watch(struct net_watch *watch)
{
	struct watch_test *test = LIST_OF(watch, struct watch_test, watch);
	test->calls++;
	if (test->victim) {
		net_watch_stop(test->loop, &test->victim->watch);
		free(test->victim);
		test->victim = NULL;
	}
	if (test->calls == 2)
		net_loop_stop(test->loop);
}

static void test_watches_are_called_again_and_again_and_may_free_each_other(void **state)
{
	(void)state;
	struct net_loop *loop = new_loop();
	struct watch_test *victim = calloc(1, sizeof *victim);
	*victim = (struct watch_test){.watch.fn = on_watch, .loop = loop};
	struct watch_test test = {.watch.fn = on_watch, .loop = loop, .victim = victim};
	net_watch_start(loop, &test.watch);
	net_watch_start(loop, &test.watch);
	net_watch_start(loop, &victim->watch);
	net_loop_run(loop);
	assert_int_equal(test.calls, 2);
	net_watch_stop(loop, &test.watch);
	net_watch_stop(loop, &test.watch);
	net_loop_free(loop);
}

/* --- turn ends --- */

struct turn_test {
	struct net_turn turn;
	struct net_loop *loop;
	int posted, flushed;
};

static void on_turn_end(struct net_turn *turn)
{
	struct turn_test *test = LIST_OF(turn, struct turn_test, turn);
	test->flushed = test->posted;
	net_loop_stop(test->loop);
}

static void write_something(void *arg)
{
	struct turn_test *test = arg;
	assert_int_equal(test->flushed, 0);
	test->posted++;
	net_at_turn_end(test->loop, &test->turn);
	net_at_turn_end(test->loop, &test->turn);
}

static void test_the_end_of_a_turn_comes_once_after_all_of_its_callbacks(void **state)
{
	(void)state;
	struct turn_test test = {.turn.fn = on_turn_end, .loop = new_loop()};
	for (int i = 0; i < 3; i++)
		net_post(test.loop, write_something, &test);
	net_loop_run(test.loop);
	assert_int_equal(test.flushed, 3);
	net_loop_free(test.loop);
}

struct endless_turn {
	struct net_turn turn;
	struct net_loop *loop;
	int runs;
};

static void on_endless_turn(struct net_turn *turn)
{
	struct endless_turn *test = LIST_OF(turn, struct endless_turn, turn);
	if (++test->runs < 1000000) /* without end as far as the loop knows */
		net_at_turn_end(test->loop, turn);
}

static void test_a_hook_that_sets_itself_again_does_not_hold_up_the_loop(void **state)
{
	(void)state;
	struct endless_turn test = {.turn.fn = on_endless_turn, .loop = new_loop()};
	struct chain chain = {test.loop, 10}; /* ten turns of the loop */
	net_at_turn_end(test.loop, &test.turn);
	net_post(test.loop, post_again, &chain);
	net_loop_run(test.loop);
	assert_in_range(test.runs, 10, 999);
	net_turn_cancel(test.loop, &test.turn);
	net_loop_free(test.loop);
}

static void cancel_turn(void *arg)
{
	struct turn_test *test = arg;
	net_at_turn_end(test->loop, &test->turn);
	net_turn_cancel(test->loop, &test->turn);
	net_turn_cancel(test->loop, &test->turn);
	net_post(test->loop, stop, test->loop);
}

static void test_a_cancelled_turn_hook_does_not_run(void **state)
{
	(void)state;
	struct turn_test test = {.turn.fn = on_turn_end, .loop = new_loop(), .posted = 1};
	net_post(test.loop, cancel_turn, &test);
	net_loop_run(test.loop);
	assert_int_equal(test.flushed, 0);
	net_loop_free(test.loop);
}

static void write_and_stop(void *arg)
{
	struct turn_test *test = arg;
	write_something(test);
	net_loop_stop(test->loop);
}

static void test_the_stopping_turn_still_ends(void **state)
{
	(void)state;
	struct turn_test test = {.turn.fn = on_turn_end, .loop = new_loop()};
	net_post(test.loop, write_and_stop, &test);
	net_loop_run(test.loop);
	assert_int_equal(test.flushed, 1);
	net_loop_free(test.loop);
}

/* --- signals --- */

struct signal_test {
	struct net_loop *loop;
	int seen[2], count;
};

static void on_terminate(int number, void *arg)
{
	struct signal_test *test = arg;
	test->seen[test->count++] = number;
	if (test->count == 2)
		net_loop_stop(test->loop);
	else
		kill(getpid(), SIGINT);
}

static void raise_term(void *arg)
{
	(void)arg;
	kill(getpid(), SIGTERM);
	kill(getpid(), SIGPIPE);
}

static void test_termination_signals_arrive_on_the_loop_again_and_again(void **state)
{
	(void)state;
	struct signal_test test = {.loop = new_loop()};
	net_on_terminate(test.loop, on_terminate, &test);
	net_post(test.loop, raise_term, NULL);
	net_loop_run(test.loop);
	assert_int_equal(test.seen[0], SIGTERM);
	assert_int_equal(test.seen[1], SIGINT);
	net_loop_free(test.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_posts_run_on_the_loop_in_the_order_of_each_thread),
	    cmocka_unit_test(test_a_post_may_post),
	    cmocka_unit_test(test_freeing_the_loop_runs_what_was_posted),
	    cmocka_unit_test(test_work_runs_on_a_worker_and_is_reported_on_the_loop),
	    cmocka_unit_test(test_freeing_the_loop_waits_for_work),
	    cmocka_unit_test(test_timers_fire_in_the_order_they_are_due),
	    cmocka_unit_test(test_a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once),
	    cmocka_unit_test(test_a_repeating_timer_fires_until_stopped_in_its_callback),
	    cmocka_unit_test(test_a_timer_may_be_freed_when_it_fires),
	    cmocka_unit_test(test_time_does_not_move_within_a_turn_nor_backwards),
	    cmocka_unit_test(test_watches_are_called_again_and_again_and_may_free_each_other),
	    cmocka_unit_test(test_the_end_of_a_turn_comes_once_after_all_of_its_callbacks),
	    cmocka_unit_test(test_a_hook_that_sets_itself_again_does_not_hold_up_the_loop),
	    cmocka_unit_test(test_a_cancelled_turn_hook_does_not_run),
	    cmocka_unit_test(test_the_stopping_turn_still_ends),
	    cmocka_unit_test(test_termination_signals_arrive_on_the_loop_again_and_again),
	};
	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
