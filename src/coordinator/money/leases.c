/* What this coordinator may promise of an account's money, where others share the database (store_leases.h). */
#include "coordinator/money/ledger_internal.h"

#include <stdlib.h>

#include "core/clock.h"

#define LOOK_EVERY_MS 300 /* for news that were lost; they come at once as a rule */
#define LOOKS_MAX     12
#define STALE_MS      200 /* changes of this long are seen with one question */

/* This coordinator was taken for lost: others may have leased what it had. */
static void drop_lost_leases(struct ledger *ledger)
{
	uint64_t epoch = store_epoch(ledger->store);
	size_t cursor = 0;
	struct ledger_account *account;
	if (epoch == ledger->epoch)
		return;
	ledger->epoch = epoch;
	while ((account = map_next(&ledger->accounts, &cursor)))
		account->leased = 0;
	struct spend_group *group;
	for (cursor = 0; (group = map_next(&ledger->groups, &cursor));)
		group->spare = 0;
}

bool leases_meter(const struct ledger *ledger, const struct spend_group *group)
{
	return ledger->shared && group && group->limited;
}

int64_t leases_promisable(struct ledger_account *account)
{
	drop_lost_leases(account->ledger);
	bool is_limited = account->ledger->shared && account->leased < account->balance;
	int64_t most = is_limited ? account->leased : account->balance;
	return most > account->held ? most - account->held : 0;
}

/* --- asking the store --- */

static void look_at_rooms(struct ledger_account *account, const struct ledger_room *final);
static void ask_for_rooms(struct ledger_account *account, bool again);
static void answer_recall(struct ledger_account *account);
static void mark_stale(struct ledger_account *account);

static void on_lease(const struct store_lease *lease, const struct error *error, void *user)
{
	struct ledger_account *account = user;
	struct ledger *ledger = account->ledger;
	bool is_ready = account->ready;
	struct ledger_room *asker = account->asker;
	account->asker = NULL;
	if (!lease && !is_ready) {
		ledger_take(account, NULL, 0, error);
		return;
	}
	int64_t leased = lease && lease->epoch == store_epoch(ledger->store) ? lease->leased_uusd : 0;
	ledger_take(account, lease ? &lease->account : NULL, leased, error);
	if (asker && lease && lease->question)
		asker->question = lease->question;
	look_at_rooms(account, lease && lease->is_final ? asker : NULL);
	if (account->recalled)
		answer_recall(account);
	else
		ask_for_rooms(account, false);
}

static void ask(struct ledger_account *account, const struct store_lease_ask *ask)
{
	account->asking = true;
	account->since_balance = account->since_withdrawable = account->since_leased = 0;
	list_remove(&account->ledger->stale, &account->is_stale);
	store_lease(account->ledger->store, str_of(account->id), ask, on_lease, account);
}

static void on_row(const struct store_account *row, const struct error *error, void *user)
{
	ledger_take(user, row, 0, error);
}

void leases_load(struct ledger_account *account)
{
	if (account->ledger->shared) {
		ask(account, &(struct store_lease_ask){.take = true});
		return;
	}
	account->asking = true;
	store_account_get(account->ledger->store, str_of(account->id), on_row, account);
}

enum db_err leases_refuse(struct ledger_account *account, int64_t amount)
{
	bool may_get = account->ledger->shared && ledger_available(account) >= amount;
	if (account->ledger->shared && !account->asking && !may_get) /* what another coordinator paid in meanwhile counts soon */
		ask(account, &(struct store_lease_ask){.take = true});
	return may_get ? DB_E_AGAIN : DB_E_FUNDS;
}

/* --- room --- */

static void give_spare(struct ledger *ledger, struct spend_group *group)
{
	if (group->spare > 0)
		store_key_free(ledger->store, str_of(group->id), group->spare, ledger->epoch);
	group->spare = 0;
}

static void end_room(struct ledger_room *room, enum db_err err)
{
	struct ledger *ledger = room->account->ledger;
	struct spend_group *group = room->group;
	ledger_room_cancel(room);
	room->done(room, err);
	if (group)
		give_spare(ledger, group);
}

/* --- the spend limit --- */

struct ledger_limit_ask {
	struct ledger *ledger;
	struct spend_group *group;
	struct ledger_room *room; /* NULL: it was cancelled */
	int64_t amount;
};

static void on_limit(bool granted, uint64_t epoch, const struct error *error, void *user)
{
	struct ledger_limit_ask *ask = user;
	struct ledger_room *room = ask->room;
	drop_lost_leases(ask->ledger);
	bool counts = granted && epoch == ask->ledger->epoch && room && leases_promisable(room->account) >= ask->amount;
	if (room)
		room->limit_ask = NULL;
	if (counts)
		ask->group->spare += ask->amount;
	else if (granted)
		store_key_free(ask->ledger->store, str_of(ask->group->id), ask->amount, epoch);
	free(ask);
	if (room && granted && !counts) { /* the money went meanwhile */
		list_push_back(&room->account->rooms, &room->link);
		ask_for_rooms(room->account, true);
	} else if (room) {
		end_room(room, counts ? DB_OK : error ? DB_E_IO : DB_E_LIMIT);
	}
}

/* The money is there. */
static void ask_for_limit(struct ledger_room *room)
{
	struct ledger *ledger = room->account->ledger;
	struct ledger_limit_ask *ask = malloc(sizeof *ask);
	if (!ask) {
		end_room(room, DB_E_NOMEM);
		return;
	}
	*ask = (struct ledger_limit_ask){ledger, room->group, room, room->amount_uusd};
	list_remove(&room->account->rooms, &room->link); /* the next one may ask for its money meanwhile */
	room->limit_ask = ask;
	struct store_key_hold hold = {.amount_uusd = room->amount_uusd,
	                              .limit_uusd = room->group->limit_uusd,
	                              .since_day = spend_since(room->group->window, clock_day(clock_wall_us()))};
	memcpy(hold.limit_group, room->group->id, sizeof hold.limit_group);
	store_key_hold(ledger->store, &hold, on_limit, ask);
}

static void money_is_there(struct ledger_room *room)
{
	const struct spend_group *group = room->group;
	if (leases_meter(room->account->ledger, group) && group->spare < room->amount_uusd)
		ask_for_limit(room);
	else
		end_room(room, DB_OK);
}

/* done may take what is there, ask again, or cancel others: the list is looked at anew each time. final: what this one waits
 * for is not to be had. */
static void look_at_rooms(struct ledger_account *account, const struct ledger_room *final)
{
	struct list_link *first;
	while ((first = list_first(&account->rooms))) {
		struct ledger_room *room = LIST_OF(first, struct ledger_room, link);
		if (leases_promisable(account) >= room->amount_uusd)
			money_is_there(room);
		else if (room == final)
			end_room(room, DB_E_FUNDS);
		else
			return;
	}
}

/* For the first one: once, and again when there are news or it is time to look. */
static void ask_for_rooms(struct ledger_account *account, bool again)
{
	struct list_link *first = list_first(&account->rooms);
	bool has_news = again || account->look_again;
	account->look_again = account->asking && has_news;
	if (!first && has_news && !account->asking)
		mark_stale(account);
	if (!first)
		return;
	struct ledger_room *room = LIST_OF(first, struct ledger_room, link);
	if (account->asking || (room->asked && !has_news))
		return;
	ask(account, &(struct store_lease_ask){.need_uusd = account->held + room->amount_uusd - account->leased,
	                                       .take = true,
	                                       .recall = true,
	                                       .question = room->question});
	account->asker = room;
	room->asked = true;
}

static void on_look(struct net_timer *timer)
{
	struct ledger_room *room = LIST_OF(timer, struct ledger_room, timer);
	if (++room->looks >= LOOKS_MAX)
		end_room(room, store_healthy(room->account->ledger->store, NULL) ? DB_E_AGAIN : DB_E_IO);
	else
		ask_for_rooms(room->account, true);
}

static bool is_first(struct ledger_account *account, const struct ledger_room *room)
{
	return list_first(&account->rooms) == &room->link;
}

void ledger_room_ask(struct ledger_account *account, struct spend_group *group, int64_t amount_uusd, struct ledger_room *room)
{
	room->account = account;
	room->group = group;
	room->limit_ask = NULL;
	room->question = 0;
	room->amount_uusd = amount_uusd;
	room->looks = 0;
	room->asked = false;
	list_push_back(&account->rooms, &room->link);
	net_timer_start(store_loop(account->ledger->store), &room->timer, LOOK_EVERY_MS, LOOK_EVERY_MS, on_look);
	if (!is_first(account, room) || leases_promisable(account) < amount_uusd)
		ask_for_rooms(account, false);
	else
		money_is_there(room);
}

void ledger_room_cancel(struct ledger_room *room)
{
	if (!room->account)
		return;
	net_timer_stop(&room->timer);
	list_remove(&room->account->rooms, &room->link);
	if (room->account->asker == room)
		room->account->asker = NULL;
	if (room->limit_ask)
		room->limit_ask->room = NULL;
	room->limit_ask = NULL;
	room->account = NULL;
}

struct gathering {
	struct ledger_room room;
	int64_t amount;
	ledger_gather_fn done;
	void *user;
};

static void end_gathering(struct gathering *gathering, enum db_err err)
{
	gathering->done(err, gathering->user);
	free(gathering);
}

static void on_gathered(struct ledger_room *room, enum db_err err)
{
	end_gathering(LIST_OF(room, struct gathering, room), err);
}

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	struct gathering *gathering = user;
	if (!account)
		end_gathering(gathering, error ? DB_E_IO : DB_E_NOT_FOUND);
	else if (leases_promisable(account) >= gathering->amount)
		end_gathering(gathering, DB_OK);
	else
		ledger_room_ask(account, NULL, gathering->amount, &gathering->room);
}

void ledger_gather(struct ledger *ledger, struct str account_id, int64_t amount_uusd, ledger_gather_fn done, void *user)
{
	struct gathering *gathering = ledger->shared ? calloc(1, sizeof *gathering) : NULL;
	if (!gathering) {
		done(ledger->shared ? DB_E_NOMEM : DB_OK, user);
		return;
	}
	gathering->room.done = on_gathered;
	gathering->amount = amount_uusd;
	gathering->done = done;
	gathering->user = user;
	ledger_account_load(ledger, account_id, on_loaded, gathering);
}

/* --- what the others tell --- */

static void answer_recall(struct ledger_account *account)
{
	int64_t spare = account->leased > account->held ? account->leased - account->held : 0;
	uint64_t question = account->recalled;
	account->recalled = 0;
	account->leased -= spare;
	ask(account, &(struct store_lease_ask){.give_uusd = spare, .answers = question});
}

static void on_stale(struct net_timer *timer)
{
	struct ledger *ledger = LIST_OF(timer, struct ledger, stale_timer);
	struct list_link *link;
	while ((link = list_pop_front(&ledger->stale))) {
		struct ledger_account *account = LIST_OF(link, struct ledger_account, is_stale);
		account->look_again |= account->asking;
		if (!account->asking)
			ask(account, &(struct store_lease_ask){0});
	}
}

static void mark_stale(struct ledger_account *account)
{
	struct ledger *ledger = account->ledger;
	if (list_first(&ledger->stale) == NULL)
		net_timer_start(store_loop(ledger->store), &ledger->stale_timer, STALE_MS, 0, on_stale);
	if (!list_linked(&account->is_stale))
		list_push_back(&ledger->stale, &account->is_stale);
}

static void on_wanted(struct ledger *ledger, struct ledger_account *account, struct str account_id, uint64_t question)
{
	if (!account) /* a lease that memory has not: of a load that failed */
		store_lease(ledger->store, account_id, &(struct store_lease_ask){.give_uusd = INT64_MAX, .answers = question}, NULL,
		            NULL);
	if (account && question > account->recalled)
		account->recalled = question;
	if (account && !account->asking)
		answer_recall(account);
}

static void on_news(enum store_news news, struct str account_id, uint64_t question, void *user)
{
	struct ledger *ledger = user;
	if (news == STORE_NEWS_SHARES) /* of queues: no money */
		return;
	struct ledger_account *account = map_get(&ledger->accounts, account_id);
	size_t cursor = 0;
	drop_lost_leases(ledger);
	if (news == STORE_NEWS_WANTED) {
		on_wanted(ledger, account, account_id, question);
	} else if (news == STORE_NEWS_MISSED) {
		while ((account = map_next(&ledger->accounts, &cursor)))
			mark_stale(account);
	} else if (account && list_first(&account->rooms)) {
		ask_for_rooms(account, true);
	} else if (account && news == STORE_NEWS_BALANCE) {
		mark_stale(account);
	}
}

void leases_begin(struct ledger *ledger)
{
	list_init(&ledger->stale);
	ledger->shared = store_is_shared(ledger->store);
	ledger->epoch = store_epoch(ledger->store);
	if (ledger->shared)
		store_on_news(ledger->store, on_news, ledger);
}

void leases_end(struct ledger *ledger)
{
	net_timer_stop(&ledger->stale_timer);
}
