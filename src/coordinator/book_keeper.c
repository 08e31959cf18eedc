#include "coordinator/book_keeper.h"

#include "coordinator/store/store_books.h"
#include "core/clock.h"
#include "core/log.h"

#define LOOK_EVERY_MS 600000

static void on_closed(const struct store_close *close, const struct error *error, void *user)
{
	struct book_keeper *keeper = user;
	keeper->busy = false;
	if (error)
		log_warn("ledger.close_failed", "why=\"%s\"", error->text);
	else if (close)
		log_info("ledger.closed", "close=%lld entries=%lld hash=%s", (long long)close->id, (long long)close->entries,
		         close->hash);
}

static void on_last(const struct store_close *last, const struct error *error, void *user)
{
	struct book_keeper *keeper = user;
	bool due = !error && last && clock_day(last->closed_us) < clock_day(clock_wall_us());
	if (error || (last && !due))
		keeper->busy = false;
	else
		store_ledger_close(keeper->store, on_closed, keeper);
}

static void on_time(struct net_timer *timer)
{
	struct book_keeper *keeper = LIST_OF(timer, struct book_keeper, timer);
	if (keeper->busy)
		return;
	keeper->busy = true;
	store_last_close(keeper->store, on_last, keeper);
}

void book_keeper_start(struct book_keeper *keeper, struct net_loop *loop, struct store *store)
{
	*keeper = (struct book_keeper){.loop = loop, .store = store};
	net_timer_start(loop, &keeper->timer, LOOK_EVERY_MS, LOOK_EVERY_MS, on_time);
}

void book_keeper_stop(struct book_keeper *keeper)
{
	if (keeper->loop)
		net_timer_stop(&keeper->timer);
}
