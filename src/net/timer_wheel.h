/* The loop's timers: a hierarchical timing wheel over struct net_timer. Start and stop are O(1), a timer moves at most once
 * per level before it fires, and nothing wakes for timers that were stopped. It keeps no clock of its own: times are
 * milliseconds given by the caller. Internal to net/. Thread: one at a time. */
#ifndef NET_TIMER_WHEEL_H
#define NET_TIMER_WHEEL_H

#include "net/loop.h"

#define TIMER_WHEEL_LEVELS    6
#define TIMER_WHEEL_SLOT_BITS 6
#define TIMER_WHEEL_SLOTS     (1u << TIMER_WHEEL_SLOT_BITS)
#define TIMER_WHEEL_NEVER     UINT64_MAX

struct timer_wheel {
	uint64_t elapsed_ms; /* everything due up to here has fired */
	/* Bit s of occupied[l] = slot s of level l holds a timer. A slot of level l spans 64^l milliseconds. */
	uint64_t occupied[TIMER_WHEEL_LEVELS];
	struct list slots[TIMER_WHEEL_LEVELS * TIMER_WHEEL_SLOTS];
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms);
/* timer->due_ms is set and the timer is in no wheel. A timer that is already due fires a millisecond later. */
void timer_wheel_insert(struct timer_wheel *wheel, struct net_timer *timer);
void timer_wheel_remove(struct timer_wheel *wheel, struct net_timer *timer);
/* When timer_wheel_advance next has something to do (not later than the earliest timer), or TIMER_WHEEL_NEVER. */
uint64_t timer_wheel_next_ms(const struct timer_wheel *wheel);
/* Takes every timer due at now_ms or before out of the wheel, in order, and hands it to fire, which may insert and remove. */
void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ms, void (*fire)(struct net_timer *timer, uint64_t now_ms));

#endif
