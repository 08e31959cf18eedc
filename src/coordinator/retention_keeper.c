#include "coordinator/retention_keeper.h"

#include "core/clock.h"
#include "core/log.h"

#define DAY_US   INT64_C(86400000000)
#define FIRST_MS 60000
#define NEXT_MS  200 /* others come in between */
#define IDLE_MS  3600000

static void on_time(struct net_timer *timer);

static void on_swept(int64_t moved, bool more, const struct error *error, void *user)
{
	struct retention_keeper *keeper = user;
	if (error)
		log_warn("retention.failed", "why=\"%s\"", error->text);
	else if (moved > 0)
		log_info("retention.swept", "rows=%lld", (long long)moved);
	if (!keeper->stopped)
		net_timer_start(keeper->loop, &keeper->timer, more ? NEXT_MS : IDLE_MS, 0, on_time);
}

static int64_t before(int64_t now_us, int64_t days)
{
	return days > 0 ? now_us - days * DAY_US : 0;
}

static void on_time(struct net_timer *timer)
{
	struct retention_keeper *keeper = LIST_OF(timer, struct retention_keeper, timer);
	int64_t now_us = clock_wall_us();
	struct store_retention retention = {.usage_before_us = before(now_us, keeper->days.usage),
	                                    .webhooks_before_us = before(now_us, keeper->days.webhooks),
	                                    .sessions_before_us = before(now_us, keeper->days.sessions),
	                                    .rows = keeper->days.rows};
	store_sweep(keeper->store, &retention, on_swept, keeper);
}

void retention_keeper_start(struct retention_keeper *keeper, struct net_loop *loop, struct store *store,
                            const struct retention_days *days)
{
	*keeper = (struct retention_keeper){.loop = loop, .store = store, .days = *days};
	net_timer_start(loop, &keeper->timer, FIRST_MS, 0, on_time);
}

void retention_keeper_stop(struct retention_keeper *keeper)
{
	keeper->stopped = true;
	if (keeper->loop)
		net_timer_stop(&keeper->timer);
}
