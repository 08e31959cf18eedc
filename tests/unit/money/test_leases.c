/* Two coordinators on one PostgreSQL, each with a ledger of its own: together they never promise more than an account has, and
 * what one does not use the other gets. */
#include "../store_fixture.h"

#include "coordinator/money/ledger.h"
#include "coordinator/store/store_leases.h"
#include "core/clock.h"

#define SIDES       2
#define HOLDS_MAX   64
#define MOMENTS_MAX 12000 /* of 10 ms */

struct side {
	struct store *store;
	struct ledger *ledger;
	struct ledger_account *buyer;
};

struct bench {
	struct fixture f; /* f.store is that of the first side */
	struct side sides[SIDES];
	int names;
};

struct moment {
	struct net_timer timer;
	struct net_loop *loop;
};

static void on_moment(struct net_timer *timer)
{
	net_loop_stop(((struct moment *)timer)->loop);
}

static void run_a_moment(struct bench *b)
{
	struct moment moment = {.loop = b->f.loop};
	net_timer_start(b->f.loop, &moment.timer, 10, 0, on_moment);
	net_loop_run(b->f.loop);
	net_timer_stop(&moment.timer);
}

static void await_balance(struct bench *b, const struct ledger_account *account, int64_t balance)
{
	for (int i = 0; i < MOMENTS_MAX && ledger_balance(account) != balance; i++)
		run_a_moment(b);
	assert_int_equal(ledger_balance(account), balance);
}

struct loading {
	struct net_loop *loop;
	struct ledger_account *account;
};

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	struct loading *loading = user;
	assert_null(error);
	loading->account = account;
	net_loop_stop(loading->loop);
}

static struct ledger_account *load(struct bench *b, struct ledger *ledger, const char *id)
{
	struct loading loading = {.loop = b->f.loop};
	loading.account = ledger_account_find(ledger, str_of(id));
	if (!loading.account) {
		ledger_account_load(ledger, str_of(id), on_loaded, &loading);
		net_loop_run(b->f.loop);
	}
	assert_non_null(loading.account);
	return loading.account;
}

static struct store *open_store(struct bench *b, const char *name, int64_t lost_after_us)
{
	struct error error = {0};
	struct store_options options = {.path = b->f.path, .instance = name, .lost_after_us = lost_after_us, .readers = 1};
	struct store *store = store_open(&options, b->f.loop, &error);
	if (!store)
		fail_msg("%s", error.text);
	return store;
}

static void open_other_side_as(struct bench *b, const char *name, int64_t lost_after_us)
{
	b->sides[1].store = open_store(b, name, lost_after_us);
	b->sides[1].ledger = ledger_new(b->sides[1].store);
	b->sides[1].buyer = load(b, b->sides[1].ledger, "buyer");
}

static void open_other_side(struct bench *b)
{
	open_other_side_as(b, "other", 0);
}

static int start(void **state)
{
	struct bench *b = calloc(1, sizeof *b);
	assert_non_null(b);
	fixture_on_postgres = true;
	fixture_folder(&b->f);
	fixture_open(&b->f);
	make_account(&b->f, "buyer", 10000);
	make_account(&b->f, "farmer", 0);
	b->sides[0].store = b->f.store;
	b->sides[0].ledger = ledger_new(b->f.store);
	b->sides[0].buyer = load(b, b->sides[0].ledger, "buyer");
	*state = b;
	return 0;
}

static int stop(void **state)
{
	struct bench *b = *state;
	if (b->sides[1].store)
		store_close(b->sides[1].store);
	ledger_free(b->sides[1].ledger);
	store_close(b->f.store);
	ledger_free(b->sides[0].ledger);
	net_loop_free(b->f.loop);
	fixture_remove(&b->f);
	free(b);
	return 0;
}

/* --- holds, with asking for room --- */

struct asking {
	struct ledger_room room;
	struct net_loop *loop;
	enum db_err err;
	bool over;
	struct ledger_hold *hold;
	struct ledger *ledger;
	struct ledger_account *account;
	struct spend_group *group;
	char id[24];
};

static enum db_err take(struct asking *asking, int64_t amount)
{
	struct ledger_hold_options options = {
	    .request_id = str_of(asking->id), .group = asking->group, .amount_uusd = amount, .price = {1000000, 1000000, 0}};
	return ledger_hold(asking->ledger, asking->account, &options, &asking->hold);
}

static void on_room(struct ledger_room *room, enum db_err err)
{
	struct asking *asking = (struct asking *)room;
	asking->err = err ? err : take(asking, room->amount_uusd);
	asking->over = true;
	net_loop_stop(asking->loop);
}

static void begin_hold(struct bench *b, int side, int64_t amount, struct asking *asking)
{
	*asking = (struct asking){.loop = b->f.loop, .ledger = b->sides[side].ledger, .account = b->sides[side].buyer};
	snprintf(asking->id, sizeof asking->id, "request-%d", b->names++);
	asking->room.done = on_room;
	asking->err = take(asking, amount);
	asking->over = asking->err != DB_E_AGAIN;
	if (!asking->over)
		ledger_room_ask(asking->account, asking->group, amount, &asking->room);
}

static void end_hold(struct bench *b, struct asking *asking)
{
	while (!asking->over)
		net_loop_run(b->f.loop);
}

static enum db_err hold(struct bench *b, int side, int64_t amount, struct ledger_hold **out)
{
	struct asking asking;
	begin_hold(b, side, amount, &asking);
	end_hold(b, &asking);
	*out = asking.hold;
	return asking.err;
}

static void settle(struct ledger_hold *hold, int64_t cost)
{
	struct ledger_usage usage = {.provider_account = STR("farmer"),
	                             .provider_id = STR("session"),
	                             .model = STR("build"),
	                             .public_model = STR("alias"),
	                             .price = {1000000, 1000000, 0},
	                             .completion_tokens = (uint64_t)cost,
	                             .fee_percent = 10,
	                             .outcome = "success"};
	assert_int_equal(ledger_settle(hold, &usage), cost);
}

static void flush_both(struct bench *b)
{
	AWAIT_OK(&b->f, store_flush(b->sides[1].store, fixture_done, &b->f));
	fixture_flush(&b->f);
}

static void assert_leases_right(struct bench *b)
{
	assert_int_equal(fixture_number(&b->f,
	                                "SELECT count(*) FROM balances WHERE may_go_below = 0 AND balance <"
	                                " (SELECT coalesce(sum(amount), 0) FROM leases WHERE leases.account = balances.account)"),
	                 0);
	assert_books_right(&b->f);
}

static void all_of_it_is_to_be_had_through_either(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *first, *second, *none;
	open_other_side(b);
	assert_int_equal(hold(b, 1, 10000, &first), DB_OK);
	assert_int_equal(hold(b, 0, 1, &none), DB_E_FUNDS);
	ledger_release(first, "client_gone");
	assert_int_equal(hold(b, 0, 6000, &first), DB_OK);
	assert_int_equal(hold(b, 1, 4001, &none), DB_E_FUNDS);
	assert_int_equal(hold(b, 1, 4000, &second), DB_OK);
	settle(first, 6000);
	settle(second, 4000);
	assert_int_equal(hold(b, 0, 1, &none), DB_E_FUNDS);
	assert_int_equal(hold(b, 1, 1, &none), DB_E_FUNDS);
	flush_both(b);
	assert_int_equal(balance_of(&b->f, "buyer"), 0);
	assert_int_equal(balance_of(&b->f, "farmer"), 9000);
	assert_leases_right(b);
}

static void both_at_once_get_what_there_is_and_no_more(void **state)
{
	struct bench *b = *state;
	struct asking asking[SIDES];
	open_other_side(b);
	for (int i = 0; i < SIDES; i++)
		begin_hold(b, i, 7000, &asking[i]);
	for (int i = 0; i < SIDES; i++)
		end_hold(b, &asking[i]);
	assert_int_equal((asking[0].err == DB_OK) + (asking[1].err == DB_OK), 1);
	struct asking *winner = asking[0].err == DB_OK ? &asking[0] : &asking[1];
	struct asking *loser = asking[0].err == DB_OK ? &asking[1] : &asking[0];
	assert_true(loser->err == DB_E_FUNDS || loser->err == DB_E_AGAIN);
	settle(winner->hold, 7000);
	flush_both(b);
	assert_int_equal(balance_of(&b->f, "buyer"), 3000);
	assert_leases_right(b);
}

/* Random holds, settlements and releases: whatever was promised can be paid for. */
static void together_they_never_promise_more_than_there_is(void **state)
{
	struct bench *b = *state;
	size_t steps = test_length("DARKBLOOM_LEASE_STEPS", 400);
	struct ledger_hold *open[HOLDS_MAX];
	int64_t amounts[HOLDS_MAX], balance = 10000, promised = 0;
	size_t count = 0, granted = 0, refused = 0;
	open_other_side(b);
	srand(7);
	for (size_t i = 0; i < steps; i++) {
		if (count < HOLDS_MAX && rand() % 5 < 3) {
			int64_t amount = 1 + rand() % 3000;
			int side = rand() % SIDES;
			enum db_err err = hold(b, side, amount, &open[count]);
			for (int tries = 0; err == DB_E_AGAIN && tries < 50; tries++) /* the other side was slow to give back */
				err = hold(b, side, amount, &open[count]);
			assert_true(err == DB_OK || err == DB_E_FUNDS);
			/* What is promised is exact: with nobody else asking, there is no other reason to refuse. */
			assert_int_equal(err == DB_OK, promised + amount <= balance);
			granted += err == DB_OK;
			refused += err != DB_OK;
			if (err == DB_OK) {
				promised += amount;
				amounts[count++] = amount;
			}
			continue;
		}
		if (count == 0)
			continue;
		size_t which = (size_t)rand() % count;
		promised -= amounts[which];
		if (rand() % 3) {
			int64_t cost = 1 + rand() % amounts[which];
			cost = cost < 100 ? (amounts[which] < 100 ? 0 : 100) : cost; /* the least that is charged */
			if (cost) {
				settle(open[which], cost);
				balance -= cost;
			} else {
				ledger_release(open[which], "provider_error");
			}
		} else {
			ledger_release(open[which], "provider_error");
		}
		open[which] = open[--count];
		amounts[which] = amounts[count];
		if (balance < 3000) {
			struct store_transfer refill = {
			    .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 7000};
			snprintf(refill.key, sizeof refill.key, "refill-%zu", i);
			struct side *side = &b->sides[rand() % SIDES];
			AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(side->ledger, &refill, fixture_transferred, &b->f), DB_OK));
			balance += 7000;
			for (int k = 0; k < SIDES; k++) /* the other hears of it */
				await_balance(b, b->sides[k].buyer, balance);
		}
	}
	while (count)
		ledger_release(open[--count], "shutdown");
	flush_both(b);
	assert_true(granted > steps / 10 && refused > steps / 20);
	assert_int_equal(balance_of(&b->f, "buyer"), balance);
	assert_leases_right(b);
}

static void a_deposit_through_one_counts_for_the_other(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *large;
	struct store_transfer deposit = {
	    .key = "paid", .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 5000};
	open_other_side(b);
	AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(b->sides[0].ledger, &deposit, fixture_transferred, &b->f), DB_OK));
	await_balance(b, b->sides[1].buyer, 15000);
	assert_int_equal(hold(b, 1, 15000, &large), DB_OK);
	settle(large, 15000);
	await_balance(b, b->sides[0].buyer, 0);
	flush_both(b);
	assert_leases_right(b);
}

/* --- money that leaves outside of requests --- */

struct leaving {
	struct net_loop *loop;
	enum db_err err;
	bool over;
};

static void on_gathered(enum db_err err, void *user)
{
	struct leaving *leaving = user;
	leaving->err = err;
	leaving->over = true;
	net_loop_stop(leaving->loop);
}

static void one_of_two_withdrawals_of_everything_is_made(void **state)
{
	struct bench *b = *state;
	int made = 0;
	open_other_side(b);
	struct leaving leaving[SIDES] = {{.loop = b->f.loop}, {.loop = b->f.loop}};
	for (int i = 0; i < SIDES; i++)
		ledger_gather(b->sides[i].ledger, STR("buyer"), 10000, on_gathered, &leaving[i]);
	for (int i = 0; i < SIDES; i++) {
		while (!leaving[i].over)
			net_loop_run(b->f.loop);
		struct store_transfer out = {.type = "stripe_payout", .from = "buyer", .to = "farmer", .amount_uusd = 10000};
		snprintf(out.key, sizeof out.key, "withdrawal-%d", i);
		enum db_err err = leaving[i].err;
		if (!err)
			err = ledger_transfer(b->sides[i].ledger, &out, fixture_transferred, &b->f);
		if (!err) {
			net_loop_run(b->f.loop);
			made += b->f.applied;
		}
	}
	flush_both(b);
	assert_true(made <= 1);
	assert_int_equal(balance_of(&b->f, "buyer"), made ? 0 : 10000);
	/* Alone it is always made. */
	if (!made) {
		leaving[0].over = false;
		ledger_gather(b->sides[0].ledger, STR("buyer"), 10000, on_gathered, &leaving[0]);
		while (!leaving[0].over)
			net_loop_run(b->f.loop);
		assert_int_equal(leaving[0].err, DB_OK);
	}
	assert_leases_right(b);
}

/* Money that came in since both have the account in memory, when nobody has leased any of it. */
static void what_came_in_late_can_leave_whole(void **state)
{
	struct bench *b = *state;
	struct store_account poor = {.id = "poor", .fee_percent = -1};
	struct store_transfer reward = {.key = "reward",
	                                .type = "admin_reward",
	                                .from = STORE_ACCOUNT_GRANTS,
	                                .to = "poor",
	                                .amount_uusd = 10000,
	                                .withdrawable = true};
	struct leaving leaving = {.loop = b->f.loop};
	open_other_side(b);
	AWAIT_OK(&b->f, store_account_create(b->f.store, &poor, fixture_done, &b->f));
	for (int i = 0; i < SIDES; i++)
		load(b, b->sides[i].ledger, "poor");
	AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(b->sides[0].ledger, &reward, fixture_transferred, &b->f), DB_OK));
	await_balance(b, ledger_account_find(b->sides[1].ledger, STR("poor")), 10000);
	for (int i = 0; i < SIDES; i++) {
		leaving.over = false;
		ledger_gather(b->sides[i].ledger, STR("poor"), 10000, on_gathered, &leaving);
		while (!leaving.over)
			net_loop_run(b->f.loop);
		assert_int_equal(leaving.err, DB_OK);
	}
}

static void a_debit_of_the_other_leaves_what_is_promised_here(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *mine;
	struct store_transfer away = {.type = "stripe_refund", .from = "buyer", .to = "farmer", .amount_uusd = 2001};
	open_other_side(b);
	assert_int_equal(hold(b, 0, 8000, &mine), DB_OK);
	snprintf(away.key, sizeof away.key, "too-much");
	AWAIT_ERROR(&b->f, DB_E_FUNDS, store_transfer(b->sides[1].store, &away, fixture_transferred, &b->f));
	settle(mine, 8000);
	flush_both(b);
	assert_int_equal(balance_of(&b->f, "buyer"), 2000);
	assert_leases_right(b);
}

/* --- coordinators that do not answer --- */

static void who_does_not_answer_keeps_what_it_has_until_it_is_lost(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *mine;
	/* A store without a ledger leases and never listens. */
	struct store *mute = open_store(b, "mute", 0);
	fixture_sql(&b->f, "UPDATE leases SET amount = 0");
	fixture_sql(&b->f,
	            "INSERT INTO leases (account, instance, amount) SELECT ref, (SELECT id FROM instances WHERE name = 'mute'),"
	            " 6000 FROM accounts WHERE id = 'buyer'");
	fixture_sql(&b->f, "UPDATE turn SET number = number + 1");
	ledger_free(b->sides[0].ledger);
	b->sides[0].ledger = ledger_new(b->f.store);
	b->sides[0].buyer = load(b, b->sides[0].ledger, "buyer");
	assert_int_equal(hold(b, 0, 4001, &mine), DB_E_AGAIN);
	assert_int_equal(hold(b, 0, 4000, &mine), DB_OK);
	ledger_release(mine, "client_gone");
	store_close(mute);
	assert_int_equal(hold(b, 0, 10000, &mine), DB_OK);
	ledger_release(mine, "client_gone");
}

static void who_was_taken_for_lost_promises_nothing_it_had(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *theirs, *mine;
	open_other_side(b);
	uint64_t epoch = store_epoch(b->f.store);
	fixture_sql(&b->f, "UPDATE instances SET ended_us = 1, lost = 1 WHERE name = 'fixture' AND ended_us IS NULL");
	fixture_sql(&b->f, "DELETE FROM leases WHERE instance NOT IN (SELECT id FROM instances WHERE ended_us IS NULL)");
	fixture_sql(&b->f, "UPDATE turn SET number = number + 1");
	assert_int_equal(hold(b, 1, 9000, &theirs), DB_OK);
	fixture_flush(&b->f); /* it finds itself ended, and comes back */
	assert_int_not_equal(store_epoch(b->f.store), epoch);
	assert_int_equal(hold(b, 0, 1001, &mine), DB_E_FUNDS);
	assert_int_equal(hold(b, 0, 1000, &mine), DB_OK);
	settle(theirs, 9000);
	settle(mine, 1000);
	flush_both(b);
	assert_int_equal(balance_of(&b->f, "buyer"), 0);
	assert_leases_right(b);
}

static void who_may_have_been_taken_for_lost_promises_nothing(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *none;
	struct store *store = open_store(b, "slow", 900000);
	struct ledger *ledger = ledger_new(store);
	struct ledger_account *buyer = load(b, ledger, "buyer");
	struct ledger_hold_options options = {.request_id = STR("r"), .amount_uusd = 1};
	struct sql *blocker = postgres_sql(b->f.path);
	assert_true(sql_exec(blocker, "BEGIN; SELECT * FROM turn FOR UPDATE"));
	for (int i = 0; i < MOMENTS_MAX && store_healthy(store, NULL); i++)
		run_a_moment(b);
	assert_int_equal(ledger_hold(ledger, buyer, &options, &none), DB_E_IO);
	assert_true(sql_exec(blocker, "ROLLBACK"));
	sql_close(blocker);
	for (int i = 0; i < MOMENTS_MAX && !store_healthy(store, NULL); i++)
		run_a_moment(b);
	assert_true(store_healthy(store, NULL));
	store_close(store);
	ledger_free(ledger);
}

/* Nobody tells it anything while it is out. */
static void who_was_taken_for_lost_comes_back_by_itself_and_hears_what_it_missed(void **state)
{
	struct bench *b = *state;
	struct store_transfer deposit = {
	    .key = "paid", .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 5000};
	open_other_side_as(b, "idle", 900000);
	struct side *idle = &b->sides[1];
	uint64_t epoch = store_epoch(idle->store);
	for (int i = 0; i < 60; i++) /* what it asks as soon as it listens is over, as a rule: it has nothing to write */
		run_a_moment(b);
	fixture_sql(&b->f, "BEGIN; SELECT * FROM turn FOR UPDATE;"
	                   "UPDATE instances SET ended_us = 1, lost = 1 WHERE name = 'idle';"
	                   "DELETE FROM leases WHERE instance NOT IN (SELECT id FROM instances WHERE ended_us IS NULL);"
	                   "UPDATE turn SET number = number + 1; COMMIT");
	AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(b->sides[0].ledger, &deposit, fixture_transferred, &b->f), DB_OK));
	await_balance(b, idle->buyer, 15000);
	assert_int_not_equal(store_epoch(idle->store), epoch);
	flush_both(b);
	assert_leases_right(b);
}

/* --- numbered questions --- */

struct told {
	struct net_loop *loop;
	uint64_t question; /* the newest that side 1 was asked */
};

static void on_told(enum store_news news, struct str account_id, uint64_t question, void *user)
{
	struct told *told = user;
	(void)account_id;
	if (news == STORE_NEWS_WANTED) {
		told->question = question;
		net_loop_stop(told->loop);
	}
}

struct answer {
	struct net_loop *loop;
	struct store_lease lease;
};

static void on_answer(const struct store_lease *lease, const struct error *error, void *user)
{
	struct answer *answer = user;
	assert_null(error);
	answer->lease = *lease;
	net_loop_stop(answer->loop);
}

static struct store_lease lease(struct bench *b, struct store *store, struct store_lease_ask ask)
{
	struct answer answer = {.loop = b->f.loop};
	store_lease(store, STR("buyer"), &ask, on_answer, &answer);
	while (!answer.lease.epoch)
		net_loop_run(b->f.loop);
	return answer.lease;
}

static void a_late_answer_is_not_one_to_the_newest_question(void **state)
{
	struct bench *b = *state;
	struct told told = {.loop = b->f.loop};
	struct store *other = open_store(b, "other", 0);
	lease(b, b->f.store, (struct store_lease_ask){.give_uusd = INT64_MAX});
	lease(b, other, (struct store_lease_ask){.need_uusd = 10000, .take = true});
	store_on_news(other, on_told, &told);

	struct store_lease_ask needs = {.need_uusd = 5000, .take = true, .recall = true};
	struct store_lease first = lease(b, b->f.store, needs);
	assert_false(first.is_enough || first.is_final);
	while (told.question != first.question) { /* the other may not listen yet: it is asked until it does */
		needs.question = first.question;
		assert_false(lease(b, b->f.store, needs).is_final);
	}
	needs.question = 0;
	struct store_lease second = lease(b, b->f.store, needs); /* a new question, before the first has its answer */
	assert_true(second.question > first.question);
	lease(b, other, (struct store_lease_ask){.answers = first.question});
	needs.question = second.question;
	assert_false(lease(b, b->f.store, needs).is_final);
	while (told.question != second.question)
		assert_false(lease(b, b->f.store, needs).is_final);
	lease(b, other, (struct store_lease_ask){.answers = second.question});
	lease(b, other, (struct store_lease_ask){.answers = first.question}); /* later still */
	assert_true(lease(b, b->f.store, needs).is_final);
	lease(b, other, (struct store_lease_ask){.take = true}); /* it may have more to give now */
	assert_false(lease(b, b->f.store, needs).is_final);
	store_close(other);
}

/* --- holds that grow, and keys --- */

static void on_more(struct ledger_room *room, enum db_err err)
{
	struct asking *asking = (struct asking *)room;
	asking->err = err ? err : ledger_hold_raise(asking->hold, 9500);
	asking->over = true;
	net_loop_stop(asking->loop);
}

static void a_hold_that_grows_waits_for_a_larger_lease(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *grows, *others;
	open_other_side(b);
	assert_int_equal(hold(b, 1, 8000, &others), DB_OK);
	assert_int_equal(hold(b, 0, 1000, &grows), DB_OK);
	ledger_release(others, "client_gone"); /* still leased there */
	assert_int_equal(ledger_hold_raise(grows, 9500), DB_E_AGAIN);
	struct asking asking = {.loop = b->f.loop, .hold = grows, .room = {.done = on_more}};
	ledger_room_ask(b->sides[0].buyer, NULL, 8500, &asking.room);
	end_hold(b, &asking);
	assert_int_equal(asking.err, DB_OK);
	assert_int_equal(ledger_hold_amount(grows), 9500);
	settle(grows, 9500);
	flush_both(b);
	assert_leases_right(b);
}

static struct spend_group *limited(struct bench *b, int side, int64_t limit)
{
	struct store_key key = {.limit_group = "group", .limited = true, .limit_uusd = limit};
	return ledger_spend_group(b->sides[side].ledger, &key);
}

static enum db_err hold_limited(struct bench *b, int side, int64_t amount, struct ledger_hold **out)
{
	struct asking asking = {.loop = b->f.loop, .ledger = b->sides[side].ledger, .account = b->sides[side].buyer};
	asking.group = limited(b, side, 1000);
	snprintf(asking.id, sizeof asking.id, "limited-%d", b->names++);
	asking.room.done = on_room;
	asking.err = take(&asking, amount);
	asking.over = asking.err != DB_E_AGAIN;
	if (!asking.over)
		ledger_room_ask(asking.account, asking.group, amount, &asking.room);
	while (!asking.over)
		net_loop_run(b->f.loop);
	*out = asking.hold;
	return asking.err;
}

static void a_keys_limit_holds_for_both_together(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *first, *second, *none;
	open_other_side(b);
	assert_int_equal(hold_limited(b, 0, 600, &first), DB_OK);
	assert_int_equal(hold_limited(b, 1, 600, &none), DB_E_LIMIT);
	assert_int_equal(hold_limited(b, 1, 400, &second), DB_OK);
	assert_int_equal(hold_limited(b, 0, 1, &none), DB_E_LIMIT);
	ledger_release(second, "client_gone");
	flush_both(b);
	settle(first, 500); /* of no key, so nothing is noted as spent; what it had on hold is free */
	flush_both(b);
	assert_int_equal(fixture_number(&b->f, "SELECT sum(amount) FROM key_holds"), 0);
	assert_int_equal(hold_limited(b, 1, 1000, &first), DB_OK);
	assert_int_equal(hold_limited(b, 0, 1, &none), DB_E_LIMIT);
	ledger_release(first, "client_gone");
	flush_both(b);
	assert_leases_right(b);
}

static void what_a_key_spent_through_one_counts_for_the_other(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *first, *none;
	open_other_side(b);
	struct store_settlement s = settlement_of("spent", "buyer", "farmer", 700, 0);
	memcpy(s.key_id, "group", sizeof "group");
	s.created_us = clock_wall_us();
	store_settle(b->sides[0].store, &s, NULL, NULL);
	assert_int_equal(hold_limited(b, 1, 301, &none), DB_E_LIMIT);
	assert_int_equal(hold_limited(b, 1, 300, &first), DB_OK);
	ledger_release(first, "client_gone");
	flush_both(b);
	assert_leases_right(b);
}

struct growing {
	struct asking asking;
	int64_t total;
};

static void on_limited_more(struct ledger_room *room, enum db_err err)
{
	struct growing *growing = (struct growing *)room;
	growing->asking.err = err ? err : ledger_hold_raise(growing->asking.hold, growing->total);
	growing->asking.over = true;
	net_loop_stop(growing->asking.loop);
}

static void a_hold_of_before_a_loss_frees_only_what_is_on_hold_since(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *old, *new;
	open_other_side(b);
	assert_int_equal(hold_limited(b, 0, 500, &old), DB_OK);
	uint64_t epoch = store_epoch(b->f.store);
	fixture_sql(&b->f, "UPDATE instances SET ended_us = 1, lost = 1 WHERE name = 'fixture' AND ended_us IS NULL");
	fixture_sql(&b->f, "DELETE FROM key_holds");
	fixture_sql(&b->f, "DELETE FROM leases WHERE instance NOT IN (SELECT id FROM instances WHERE ended_us IS NULL)");
	fixture_sql(&b->f, "UPDATE turn SET number = number + 1");
	fixture_flush(&b->f); /* it finds itself ended, and comes back */
	assert_int_not_equal(store_epoch(b->f.store), epoch);
	assert_int_equal(hold_limited(b, 0, 300, &new), DB_OK);
	assert_int_equal(ledger_hold_raise(old, 600), DB_E_AGAIN);
	struct growing growing = {{.loop = b->f.loop, .hold = old, .room = {.done = on_limited_more}}, 600};
	ledger_room_ask(b->sides[0].buyer, limited(b, 0, 1000), 100, &growing.asking.room);
	end_hold(b, &growing.asking);
	assert_int_equal(growing.asking.err, DB_OK);
	assert_int_equal(fixture_number(&b->f, "SELECT sum(amount) FROM key_holds"), 400);
	ledger_release(old, "client_gone");
	flush_both(b);
	assert_int_equal(fixture_number(&b->f, "SELECT sum(amount) FROM key_holds"), 300);
	ledger_release(new, "client_gone");
	flush_both(b);
	assert_int_equal(fixture_number(&b->f, "SELECT sum(amount) FROM key_holds"), 0);
	assert_leases_right(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	    TEST(all_of_it_is_to_be_had_through_either),
	    TEST(both_at_once_get_what_there_is_and_no_more),
	    TEST(together_they_never_promise_more_than_there_is),
	    TEST(a_deposit_through_one_counts_for_the_other),
	    TEST(one_of_two_withdrawals_of_everything_is_made),
	    TEST(what_came_in_late_can_leave_whole),
	    TEST(a_debit_of_the_other_leaves_what_is_promised_here),
	    TEST(who_does_not_answer_keeps_what_it_has_until_it_is_lost),
	    TEST(who_was_taken_for_lost_promises_nothing_it_had),
	    TEST(who_may_have_been_taken_for_lost_promises_nothing),
	    TEST(who_was_taken_for_lost_comes_back_by_itself_and_hears_what_it_missed),
	    TEST(a_late_answer_is_not_one_to_the_newest_question),
	    TEST(a_hold_that_grows_waits_for_a_larger_lease),
	    TEST(a_keys_limit_holds_for_both_together),
	    TEST(what_a_key_spent_through_one_counts_for_the_other),
	    TEST(a_hold_of_before_a_loss_frees_only_what_is_on_hold_since),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
