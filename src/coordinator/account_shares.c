#include "coordinator/account_shares.h"

#include <stdlib.h>

#include "coordinator/routing/share.h"
#include "coordinator/store/store_leases.h"
#include "coordinator/store/store_shares.h"
#include "core/log.h"

#define TRY_AGAIN_MS 1000

static void ask(struct account_shares *shares);

static enum db_err take(const struct account_shares *shares, const struct store_share *rows, size_t count)
{
	struct share *set = calloc(count + 1, sizeof *set);
	size_t good = 0;
	if (!set)
		return DB_E_NOMEM;
	for (size_t i = 0; i < count; i++) {
		if (share_read(str_of(rows[i].share), &set[good]))
			log_error("share.unreadable", "account=%s", rows[i].account_id);
		else
			good++;
	}
	enum db_err err = fleet_shares_set(shares->fleet, set, good);
	free(set);
	return err;
}

static void on_time(struct net_timer *timer)
{
	ask(LIST_OF(timer, struct account_shares, timer));
}

static void on_listed(const struct store_share *rows, size_t count, const struct error *error, void *user)
{
	struct account_shares *shares = user;
	store_done_fn ready = shares->ready;
	struct error failed;
	shares->asking = false;
	if (shares->stopped)
		return;
	if (!error && shares->stale) {
		ask(shares);
		return;
	}
	if (!error && take(shares, rows, count)) {
		error_set(&failed, DB_E_NOMEM, "There is not enough memory for the shares of accounts.");
		error = &failed;
	}
	shares->ready = NULL;
	if (ready) {
		ready(error, shares->user);
	} else if (error) {
		log_warn("share.reload", "error=%s", error_name(error->code));
		net_timer_start(shares->loop, &shares->timer, TRY_AGAIN_MS, 0, on_time);
	}
}

/* One list at a time: who asks meanwhile gets another one behind it. */
static void ask(struct account_shares *shares)
{
	shares->stale = shares->asking;
	if (shares->asking)
		return;
	shares->asking = true;
	store_shares_list(shares->store, on_listed, shares);
}

static void on_news(enum store_news news, struct str account_id, uint64_t question, void *user)
{
	struct account_shares *shares = user;
	(void)account_id, (void)question;
	if (!shares->stopped && (news == STORE_NEWS_SHARES || news == STORE_NEWS_MISSED))
		ask(shares);
}

void account_shares_start(struct account_shares *shares, store_done_fn ready, void *user)
{
	shares->ready = ready;
	shares->user = user;
	store_on_news(shares->store, on_news, shares);
	ask(shares);
}

void account_shares_changed(struct account_shares *shares)
{
	shares->stale |= shares->asking;
}

void account_shares_stop(struct account_shares *shares)
{
	shares->stopped = true;
	net_timer_stop(&shares->timer);
}
