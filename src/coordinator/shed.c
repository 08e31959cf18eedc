#include "coordinator/shed.h"

#include "core/clock.h"

#define BEAT_MS 100

void shed_beat(struct shed *shed, uint64_t now_us)
{
	uint64_t span = now_us - shed->beat_us, due = BEAT_MS * UINT64_C(1000);
	shed->lag_us[shed->next++ % SHED_BEATS] = span > due ? span - due : 0;
	shed->beat_us = now_us;
}

static void on_beat(struct net_timer *timer)
{
	shed_beat(LIST_OF(timer, struct shed, timer), clock_mono_us());
}

void shed_start(struct shed *shed)
{
	shed->beat_us = clock_mono_us();
	net_timer_start(shed->loop, &shed->timer, BEAT_MS, BEAT_MS, on_beat);
}

void shed_stop(struct shed *shed)
{
	net_timer_stop(&shed->timer);
}

/* One late beat is a hiccup; the least late of several says how it is. */
static uint64_t lasting_lag_us(const struct shed *shed)
{
	uint64_t least = shed->lag_us[0];
	for (int i = 1; i < SHED_BEATS; i++)
		least = shed->lag_us[i] < least ? shed->lag_us[i] : least;
	return least;
}

const char *shed_reason(const struct shed *shed, uint64_t inflight)
{
	if (!shed)
		return NULL;
	const struct shed_options *options = &shed->options;
	struct store_stats stats;
	store_stats(shed->store, &stats);
	if (options->max_inflight && inflight >= options->max_inflight)
		return "This coordinator runs as many requests as it may: try again in a moment.";
	if (options->max_queued && stats.queued > options->max_queued)
		return "This coordinator waits for its disk: try again in a moment.";
	if (options->max_lag_ms && lasting_lag_us(shed) > options->max_lag_ms * UINT64_C(1000))
		return "This coordinator is overloaded: try again in a moment.";
	return NULL;
}
