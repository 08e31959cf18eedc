/* The timing wheel against a plain model, with a clock made of numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/timer_wheel.h"

static uint64_t fired_at[100000];
static size_t fired_count;
static uint64_t last_due;
static bool disordered;

static void record(struct net_timer *timer, uint64_t now_ms)
{
	fired_at[fired_count++] = now_ms;
	disordered |= timer->due_ms < last_due;
	last_due = timer->due_ms;
	timer->repeat_ms++; /* counts how often it fired */
}

static void reset(void)
{
	fired_count = 0;
	last_due = 0;
	disordered = false;
}

/* What the loop does: sleep exactly until next, then advance. */
static uint64_t run_to_next(struct timer_wheel *wheel)
{
	uint64_t next = timer_wheel_next_ms(wheel);
	if (next != TIMER_WHEEL_NEVER)
		timer_wheel_advance(wheel, next, record);
	return next;
}

static uint64_t random_state = 42;
static uint64_t random_below(uint64_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % bound;
}

static void test_a_timer_fires_exactly_when_due_at_every_distance(void **state)
{
	(void)state;
	static const uint64_t distances[] = {
	    1,      2,      63,       64,         65,         4095,           4096,           4097,
	    262143, 262144, 16777217, 1073741823, 1073741824, 68719476735ull, 68719476736ull, 300000000000ull};
	static struct timer_wheel wheel;
	for (uint64_t start = 0; start < 200000; start += 4093)
		for (size_t i = 0; i < sizeof distances / sizeof *distances; i++) {
			timer_wheel_init(&wheel, start);
			struct net_timer timer = {.due_ms = start + distances[i]};
			timer_wheel_insert(&wheel, &timer);
			reset();
			int wakes = 0;
			while (!fired_count) {
				assert_true(run_to_next(&wheel) <= timer.due_ms);
				assert_true(++wakes <= 20);
			}
			assert_true(fired_at[0] == timer.due_ms);
			assert_true(timer_wheel_next_ms(&wheel) == TIMER_WHEEL_NEVER);
		}
}

static void test_a_timer_already_due_fires_a_millisecond_later(void **state)
{
	(void)state;
	static struct timer_wheel wheel;
	timer_wheel_init(&wheel, 1000);
	struct net_timer timer = {.due_ms = 400};
	timer_wheel_insert(&wheel, &timer);
	reset();
	timer_wheel_advance(&wheel, 1000, record);
	assert_int_equal(fired_count, 0);
	assert_int_equal(timer_wheel_next_ms(&wheel), 1001);
	timer_wheel_advance(&wheel, 1001, record);
	assert_int_equal(fired_count, 1);
}

static void test_removal_leaves_nothing_to_wake_for(void **state)
{
	(void)state;
	static struct timer_wheel wheel;
	timer_wheel_init(&wheel, 77);
	struct net_timer timers[500] = {0};
	for (size_t i = 0; i < 500; i++) {
		timers[i].due_ms = 77 + random_below(1u << 30);
		timer_wheel_insert(&wheel, &timers[i]);
	}
	for (size_t i = 0; i < 500; i++)
		timer_wheel_remove(&wheel, &timers[i]);
	assert_true(timer_wheel_next_ms(&wheel) == TIMER_WHEEL_NEVER);
}

/* 50,000 timers with random distances, a third removed and set anew on the way, advanced in uneven steps. */
static void test_many_timers_fire_once_each_never_early_and_in_order_of_steps(void **state)
{
	(void)state;
	enum { COUNT = 50000 };
	static struct timer_wheel wheel;
	static struct net_timer timers[COUNT];
	uint64_t now = 123456789;
	timer_wheel_init(&wheel, now);
	reset();
	for (size_t i = 0; i < COUNT; i++) {
		timers[i].due_ms = now + 1 + random_below(1u << random_below(24));
		timer_wheel_insert(&wheel, &timers[i]);
	}
	for (int step = 0; step < 2000; step++) {
		uint64_t next_due = UINT64_MAX;
		now += random_below(100);
		last_due = 0;
		timer_wheel_advance(&wheel, now, record);
		assert_false(disordered);
		struct net_timer *moved = &timers[random_below(COUNT)];
		if (list_linked(&moved->link)) {
			assert_true(moved->due_ms > now);
			timer_wheel_remove(&wheel, moved);
			moved->due_ms = now + 1 + random_below(5000);
			timer_wheel_insert(&wheel, moved);
		}
		if (step % 100 == 0) {
			for (size_t i = 0; i < COUNT; i++)
				if (!timers[i].repeat_ms && timers[i].due_ms < next_due)
					next_due = timers[i].due_ms;
			assert_true(next_due > now);
			assert_true(timer_wheel_next_ms(&wheel) <= next_due);
		}
	}
	while (run_to_next(&wheel) != TIMER_WHEEL_NEVER)
		;
	assert_int_equal(fired_count, COUNT);
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(timers[i].repeat_ms, 1);
}

static struct timer_wheel self_wheel;
static void insert_again(struct net_timer *timer, uint64_t now_ms)
{
	fired_count++;
	timer->due_ms = now_ms;
	timer_wheel_insert(&self_wheel, timer);
}

static void test_a_timer_set_anew_while_firing_does_not_hold_up_the_turn(void **state)
{
	(void)state;
	timer_wheel_init(&self_wheel, 5);
	struct net_timer timer = {.due_ms = 6};
	timer_wheel_insert(&self_wheel, &timer);
	reset();
	timer_wheel_advance(&self_wheel, 20, insert_again);
	assert_true(fired_count <= 2);
	assert_int_equal(timer_wheel_next_ms(&self_wheel), 21);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_timer_fires_exactly_when_due_at_every_distance),
	    cmocka_unit_test(test_a_timer_already_due_fires_a_millisecond_later),
	    cmocka_unit_test(test_removal_leaves_nothing_to_wake_for),
	    cmocka_unit_test(test_many_timers_fire_once_each_never_early_and_in_order_of_steps),
	    cmocka_unit_test(test_a_timer_set_anew_while_firing_does_not_hold_up_the_turn),
	};
	return cmocka_run_group_tests_name("timer_wheel", tests, NULL, NULL);
}
