#include "coordinator/limit_keeper.h"

#include "core/clock.h"

#define SAVE_MS      5000
#define ROWS_AT_ONCE 256

void limit_keeper_save(struct limit_keeper *keeper)
{
	struct store_levels rows[ROWS_AT_ONCE];
	size_t count;
	do {
		count = limits_changes(keeper->limits, (int64_t)clock_mono_us(), clock_wall_us(), rows, ROWS_AT_ONCE);
		if (count > 0)
			store_levels_save(keeper->store, rows, count, NULL, NULL);
	} while (count == ROWS_AT_ONCE);
}

static void on_tick(struct net_timer *timer)
{
	struct limit_keeper *keeper = LIST_OF(timer, struct limit_keeper, timer);
	limit_keeper_save(keeper);
	limits_sweep(keeper->limits, (int64_t)clock_mono_us());
}

static void on_levels(const struct store_levels *levels, size_t count, const struct error *error, void *user)
{
	struct limit_keeper *keeper = user;
	limits_restore(keeper->limits, (int64_t)clock_mono_us(), clock_wall_us(), levels, count);
	if (!error)
		net_timer_start(keeper->loop, &keeper->timer, SAVE_MS, SAVE_MS, on_tick);
	keeper->ready(error, keeper->user);
}

void limit_keeper_start(struct limit_keeper *keeper, store_done_fn ready, void *user)
{
	keeper->ready = ready;
	keeper->user = user;
	store_levels_list(keeper->store, on_levels, keeper);
}

void limit_keeper_stop(struct limit_keeper *keeper)
{
	net_timer_stop(&keeper->timer);
}
