#include "net/timer_wheel.h"

#define SPAN_MS (1ull << (TIMER_WHEEL_LEVELS * TIMER_WHEEL_SLOT_BITS)) /* about two years */

static unsigned level_shift(unsigned level)
{
	return level * TIMER_WHEEL_SLOT_BITS;
}

/* The level is that of the highest group of bits in which `when` differs from now: such a timer is within one turn of that
 * level and beyond one turn of every lower level. */
static unsigned level_of(uint64_t elapsed_ms, uint64_t when_ms)
{
	uint64_t differing = (elapsed_ms ^ when_ms) | (TIMER_WHEEL_SLOTS - 1);
	unsigned level = (unsigned)(63 - __builtin_clzll(differing)) / TIMER_WHEEL_SLOT_BITS;
	return level < TIMER_WHEEL_LEVELS ? level : TIMER_WHEEL_LEVELS - 1;
}

static uint64_t rotate_right(uint64_t bits, unsigned by)
{
	return by ? bits >> by | bits << (64 - by) : bits;
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms)
{
	wheel->elapsed_ms = now_ms;
	for (unsigned level = 0; level < TIMER_WHEEL_LEVELS; level++)
		wheel->occupied[level] = 0;
	for (unsigned slot = 0; slot < TIMER_WHEEL_LEVELS * TIMER_WHEEL_SLOTS; slot++)
		list_init(&wheel->slots[slot]);
}

void timer_wheel_insert(struct timer_wheel *wheel, struct net_timer *timer)
{
	uint64_t when = timer->due_ms;
	if (when <= wheel->elapsed_ms)
		when = wheel->elapsed_ms + 1;
	else if (when - wheel->elapsed_ms >= SPAN_MS)
		when = wheel->elapsed_ms + SPAN_MS - 1; /* it is placed anew when that comes */
	unsigned level = level_of(wheel->elapsed_ms, when);
	unsigned slot = (unsigned)(when >> level_shift(level)) & (TIMER_WHEEL_SLOTS - 1);
	timer->slot = (uint16_t)(level * TIMER_WHEEL_SLOTS + slot);
	list_push_back(&wheel->slots[timer->slot], &timer->link);
	wheel->occupied[level] |= 1ull << slot;
}

void timer_wheel_remove(struct timer_wheel *wheel, struct net_timer *timer)
{
	struct list *list = &wheel->slots[timer->slot];
	list_remove(list, &timer->link);
	if (!list->count)
		wheel->occupied[timer->slot / TIMER_WHEEL_SLOTS] &= ~(1ull << timer->slot % TIMER_WHEEL_SLOTS);
}

/* Finds the slot that comes due first and when its span starts. A lower level always comes before a higher one. */
static uint64_t next_slot(const struct timer_wheel *wheel, unsigned *index)
{
	for (unsigned level = 0; level < TIMER_WHEEL_LEVELS; level++) {
		if (!wheel->occupied[level])
			continue;
		unsigned shift = level_shift(level);
		unsigned here = (unsigned)(wheel->elapsed_ms >> shift) & (TIMER_WHEEL_SLOTS - 1);
		unsigned ahead = (unsigned)__builtin_ctzll(rotate_right(wheel->occupied[level], here));
		unsigned slot = (here + ahead) & (TIMER_WHEEL_SLOTS - 1);
		uint64_t turn_ms = 1ull << (shift + TIMER_WHEEL_SLOT_BITS);
		uint64_t starts = (wheel->elapsed_ms & ~(turn_ms - 1)) + ((uint64_t)slot << shift);
		*index = level * TIMER_WHEEL_SLOTS + slot;
		return starts > wheel->elapsed_ms ? starts : starts + turn_ms;
	}
	return TIMER_WHEEL_NEVER;
}

uint64_t timer_wheel_next_ms(const struct timer_wheel *wheel)
{
	unsigned index;
	return next_slot(wheel, &index);
}

void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ms, void (*fire)(struct net_timer *timer, uint64_t now_ms))
{
	unsigned index = 0;
	for (uint64_t starts; (starts = next_slot(wheel, &index)) <= now_ms;) {
		wheel->elapsed_ms = starts;
		struct list_link *link;
		while ((link = list_first(&wheel->slots[index]))) {
			struct net_timer *timer = LIST_OF(link, struct net_timer, link);
			timer_wheel_remove(wheel, timer);
			if (timer->due_ms <= wheel->elapsed_ms)
				fire(timer, now_ms);
			else
				timer_wheel_insert(wheel, timer);
		}
	}
	if (now_ms > wheel->elapsed_ms)
		wheel->elapsed_ms = now_ms;
}
