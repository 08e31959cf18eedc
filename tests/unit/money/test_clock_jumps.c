/* The wall clock jumps a day forward and an hour back between any two steps: nothing of the books is lost or doubled. The
 * linker puts __wrap_clock_wall_us between all of the code and the clock. */
#include "../store_fixture.h"

#include "coordinator/money/ledger.h"
#include "coordinator/money/spend.h"
#include "coordinator/store/store_books.h"
#include "coordinator/store/store_deposits.h"
#include "coordinator/store/store_invites.h"
#include "coordinator/store/store_retention.h"
#include "coordinator/store/store_withdrawals.h"
#include "core/clock.h"

#include <stdatomic.h>

#define HOUR INT64_C(3600000000)
#define DAY  (24 * HOUR)

int64_t __wrap_clock_wall_us(void);

static _Atomic int64_t wall_us;

int64_t __wrap_clock_wall_us(void)
{
	return atomic_fetch_add(&wall_us, 1000);
}

struct bench {
	struct fixture f;
	struct ledger *ledger;
	struct ledger_account *buyer;
	int64_t moved;
	struct store_withdrawal rows[8];
};

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	struct bench *b = user;
	b->buyer = account;
	fixture_answer(&b->f, error);
}

static int start(void **state)
{
	struct bench *b = calloc(1, sizeof *b);
	assert_non_null(b);
	int64_t at;
	(void)clock_parse_rfc3339(STR("2026-03-10T00:30:00Z"), &at); /* an hour back is another day */
	wall_us = at;
	fixture_folder(&b->f);
	fixture_open(&b->f);
	make_account(&b->f, "buyer", 1000000);
	make_account(&b->f, "farmer", 0);
	b->ledger = ledger_new(b->f.store);
	AWAIT_OK(&b->f, ledger_account_load(b->ledger, STR("buyer"), on_loaded, b));
	*state = b;
	return 0;
}

static int stop(void **state)
{
	struct bench *b = *state;
	assert_books_right(&b->f);
	struct store_chain chain;
	struct error error;
	fixture_close_store(&b->f);
	ledger_free(b->ledger);
	fixture_close(&b->f);
	assert_int_equal(store_chain_verify(b->f.path, &chain, &error), DB_OK);
	assert_int_equal(chain.broken, 0);
	fixture_remove(&b->f);
	free(b);
	return 0;
}

static enum db_err take(struct bench *b, const char *id, struct spend_group *group, int64_t amount, struct ledger_hold **out)
{
	struct ledger_hold_options options = {.request_id = str_of(id),
	                                      .key_id = STR("key_1"),
	                                      .group = group,
	                                      .amount_uusd = amount,
	                                      .price = {1000000, 1000000, 0}};
	return ledger_hold(b->ledger, b->buyer, &options, out);
}

/* At one micro-dollar a token the cost is the number of tokens. */
static int64_t settle(struct ledger_hold *hold, uint64_t tokens)
{
	struct ledger_usage usage = {.provider_account = STR("farmer"),
	                             .provider_id = STR("session"),
	                             .provider_key = STR("machine"),
	                             .price = {1000000, 1000000, 0},
	                             .completion_tokens = tokens,
	                             .fee_percent = 10,
	                             .outcome = "success",
	                             .model = STR("m")};
	return ledger_settle(hold, &usage);
}

static const int64_t jumps[] = {DAY, -HOUR, -DAY, 31 * DAY, -31 * DAY, HOUR};
#define JUMPS (sizeof jumps / sizeof *jumps)

static void on_closed(const struct store_close *close, const struct error *error, void *user)
{
	(void)close;
	fixture_answer(user, error);
}

static void holds_settle_or_end_once_and_every_period_closes(void **state)
{
	struct bench *b = *state;
	char id[32];
	int64_t charged = 0;
	for (size_t i = 0; i < JUMPS; i++) {
		struct ledger_hold *settled, *released;
		snprintf(id, sizeof id, "s%zu", i);
		assert_int_equal(take(b, id, NULL, 1000, &settled), DB_OK);
		snprintf(id, sizeof id, "r%zu", i);
		assert_int_equal(take(b, id, NULL, 1000, &released), DB_OK);
		wall_us += jumps[i];
		charged += settle(settled, 500);
		ledger_release(released, "test");
		AWAIT_OK(&b->f, store_ledger_close(b->f.store, on_closed, &b->f));
	}
	fixture_flush(&b->f);
	assert_int_equal(charged, 500 * (int64_t)JUMPS);
	assert_int_equal(balance_of(&b->f, "buyer"), 1000000 - charged);
	assert_int_equal(balance_of(&b->f, "farmer"), charged * 9 / 10);
	assert_int_equal(fixture_number(&b->f, "SELECT count(*) FROM ledger_closes"), JUMPS);
}

struct asking {
	struct ledger_room room;
	struct bench *b;
	const char *id;
	enum db_err err;
	bool is_over;
	struct ledger_hold *hold;
};

static void on_room(struct ledger_room *room, enum db_err err)
{
	struct asking *asking = (struct asking *)room;
	asking->err = err ? err : take(asking->b, asking->id, room->group, room->amount_uusd, &asking->hold);
	asking->is_over = true;
	net_loop_stop(asking->b->f.loop);
}

/* On PostgreSQL the store has to grant it first. */
static enum db_err take_limited(struct bench *b, const char *id, struct spend_group *group, int64_t amount,
                                struct ledger_hold **out)
{
	enum db_err err = take(b, id, group, amount, out);
	struct asking asking = {.b = b, .id = id, .room.done = on_room};
	if (err != DB_E_AGAIN)
		return err;
	ledger_room_ask(b->buyer, group, amount, &asking.room);
	while (!asking.is_over)
		net_loop_run(b->f.loop);
	*out = asking.hold;
	return asking.err;
}

static void a_daily_limit_is_not_had_twice_by_going_back(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *one;
	struct store_key key = {.id = "key_1",
	                        .account_id = "buyer",
	                        .hash_hex = "aa",
	                        .limit_group = "key_1",
	                        .scopes = 1,
	                        .limited = true,
	                        .limit_uusd = 1000,
	                        .limit_reset = STORE_WINDOW_DAY};
	AWAIT_OK(&b->f, store_key_create(b->f.store, &key, fixture_done, &b->f));
	AWAIT_OK(&b->f, store_key_get(b->f.store, STR("key_1"), fixture_key, &b->f));
	struct spend_group *group = ledger_spend_group(b->ledger, &b->f.key);
	assert_int_equal(take_limited(b, "a", group, 700, &one), DB_OK);
	wall_us -= HOUR; /* the day before */
	assert_int_equal(settle(one, 700), 700);
	assert_int_equal(take_limited(b, "b", group, 301, &one), DB_E_LIMIT);
	assert_int_equal(take_limited(b, "c", group, 300, &one), DB_OK);
	wall_us += HOUR;
	ledger_release(one, "test");
	assert_int_equal(take_limited(b, "d", group, 301, &one), DB_E_LIMIT);
	wall_us += DAY; /* a day on is a new one, */
	assert_int_equal(take_limited(b, "e", group, 1000, &one), DB_OK);
	assert_int_equal(settle(one, 1000), 1000);
	wall_us -= DAY; /* and coming back from it none at all */
	assert_int_equal(take_limited(b, "f", group, 1, &one), DB_E_LIMIT);
	fixture_flush(&b->f);
	assert_int_equal(group->held, 0);
	assert_int_equal(fixture_number(&b->f, "SELECT sum(spent) FROM key_spend"), 1700);
	if (b->f.on_postgres)
		assert_int_equal(fixture_number(&b->f, "SELECT sum(amount) FROM key_holds"), 0);
	else
		assert_int_equal(group->spent.total, 1700);
}

static void on_credited(int64_t moved, const struct error *error, void *user)
{
	struct bench *b = user;
	b->moved = moved;
	fixture_answer(&b->f, error);
}

static void deposits_count_once_whatever_the_time(void **state)
{
	struct bench *b = *state;
	struct store_deposit deposit = {.id = "d1", .account_id = "buyer", .amount_uusd = 5000000};
	struct store_deposit_event event = {.event_id = "evt_1",
	                                    .type = "checkout.session.completed",
	                                    .news = STORE_DEPOSIT_PAID,
	                                    .deposit_id = "d1",
	                                    .external_id = "cs_1",
	                                    .payment_intent = "pi_1",
	                                    .amount_uusd = 5000000};
	AWAIT_OK(&b->f, store_deposit_create(b->f.store, &deposit, fixture_done, &b->f));
	for (size_t i = 0; i < JUMPS; i++) {
		wall_us += jumps[i];
		AWAIT_OK(&b->f, store_deposit_apply(b->f.store, &event, on_credited, b));
		assert_int_equal(b->moved, i == 0 ? 5000000 : 0);
	}
	snprintf(event.event_id, sizeof event.event_id, "evt_2");
	event.news = STORE_DEPOSIT_REFUNDED;
	for (size_t i = 0; i < JUMPS; i++) {
		wall_us += jumps[i];
		AWAIT_OK(&b->f, store_deposit_apply(b->f.store, &event, on_credited, b));
		assert_int_equal(b->moved, i == 0 ? -5000000 : 0);
	}
	assert_int_equal(balance_of(&b->f, "buyer"), 1000000);
}

/* Refunds say how much was given back in all, so an older telling takes nothing away and a newer one only the rest. */
static void refunds_and_disputes_reverse_once_whatever_the_time(void **state)
{
	struct bench *b = *state;
	static const struct {
		const char *event;
		enum store_deposit_news news;
		int64_t amount, moved;
	} steps[] = {
	    {"evt_paid", STORE_DEPOSIT_PAID, 5000000, 5000000},      {"evt_some", STORE_DEPOSIT_REFUNDED, 1000000, -1000000},
	    {"evt_more", STORE_DEPOSIT_REFUNDED, 3000000, -2000000}, {"evt_late", STORE_DEPOSIT_REFUNDED, 2000000, 0},
	    {"evt_lost", STORE_DEPOSIT_DISPUTED, 2000000, -2000000}, {"evt_won", STORE_DEPOSIT_REINSTATED, 2000000, 2000000}};
	struct store_deposit deposit = {.id = "d1", .account_id = "buyer", .amount_uusd = 5000000};
	AWAIT_OK(&b->f, store_deposit_create(b->f.store, &deposit, fixture_done, &b->f));
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		for (int telling = 0; telling < 2; telling++) {
			struct store_deposit_event event = {.type = "test",
			                                    .news = steps[i].news,
			                                    .deposit_id = "d1",
			                                    .external_id = "cs_1",
			                                    .payment_intent = "pi_1",
			                                    .amount_uusd = steps[i].amount,
			                                    .created_s = 1000 + (int64_t)i};
			snprintf(event.event_id, sizeof event.event_id, "%s", steps[i].event);
			AWAIT_OK(&b->f, store_deposit_apply(b->f.store, &event, on_credited, b));
			assert_int_equal(b->moved, telling == 0 ? steps[i].moved : 0);
			wall_us += jumps[(2 * i + (size_t)telling) % JUMPS];
		}
	assert_int_equal(balance_of(&b->f, "buyer"), 1000000 + 2000000);
}

static void on_due(const struct store_withdrawal *rows, size_t count, const struct error *error, void *user)
{
	struct bench *b = user;
	b->f.count = count;
	for (size_t i = 0; i < count && i < 8; i++)
		b->rows[i] = rows[i];
	fixture_answer(&b->f, error);
}

static void on_stepped(const struct store_withdrawal *row, int64_t refunded, const struct error *error, void *user)
{
	struct bench *b = user;
	(void)row;
	b->moved = refunded;
	fixture_answer(&b->f, error);
}

static size_t due(struct bench *b)
{
	AWAIT_OK(&b->f, store_withdrawals_due(b->f.store, wall_us, on_due, b));
	return b->f.count;
}

static enum db_err withdraw(struct bench *b, const char *id, int64_t amount)
{
	static const struct store_withdrawal_limits limits = {.daily_uusd = 1000000, .cooldown_us = HOUR};
	struct store_withdrawal row = {.account_id = "farmer", .amount_uusd = amount, .net_uusd = amount, .method = "standard"};
	snprintf(row.id, sizeof row.id, "%s", id);
	AWAIT(&b->f, store_withdrawal_create(b->f.store, &row, &limits, wall_us + 60000000, fixture_done, &b->f));
	return b->f.failed ? b->f.error.code : DB_OK;
}

static void withdrawals_are_neither_forgotten_nor_let_through_early(void **state)
{
	struct bench *b = *state;
	struct store_transfer gift = {.key = "gift",
	                              .from = STORE_ACCOUNT_GRANTS,
	                              .to = "farmer",
	                              .type = "admin_reward",
	                              .amount_uusd = 3000000,
	                              .withdrawable = true};
	AWAIT_OK(&b->f, store_transfer(b->f.store, &gift, fixture_transferred, &b->f));
	wall_us += DAY;
	assert_int_equal(withdraw(b, "w1", 600000), DB_OK);
	assert_int_equal(due(b), 0);
	wall_us -= DAY; /* what is to be looked at tomorrow is looked at now: nothing waits so long */
	assert_int_equal(due(b), 1);
	assert_string_equal(b->rows[0].id, "w1");
	store_withdrawal_postpone(b->f.store, STR("w1"), wall_us + 60000000);
	assert_int_equal(due(b), 0);
	wall_us -= HOUR / 2;
	assert_int_equal(due(b), 0);
	wall_us += HOUR;
	assert_int_equal(due(b), 1);
	assert_int_equal(withdraw(b, "w2", 600000), DB_E_LIMIT); /* of a day that is to come, but gone */
	assert_int_equal(withdraw(b, "w3", 400000), DB_OK);
	wall_us -= HOUR / 2;
	assert_int_equal(withdraw(b, "w4", 1), DB_E_LIMIT);
	struct store_withdrawal_step failed = {.id = "w1", .to = STORE_WITHDRAWAL_FAILED, .reason = "test"};
	for (size_t i = 0; i < JUMPS; i++) {
		wall_us += jumps[i];
		AWAIT_OK(&b->f, store_withdrawal_step(b->f.store, &failed, on_stepped, b));
		assert_int_equal(b->moved, i == 0 ? 600000 : 0);
	}
	assert_int_equal(balance_of(&b->f, "farmer"), 3000000 - 400000);
	assert_int_equal(withdrawable_of(&b->f, "farmer"), 3000000 - 400000);
}

static void on_redeemed(int64_t amount, const struct error *error, void *user)
{
	on_credited(amount, error, user);
}

static enum db_err redeem(struct bench *b, const char *account)
{
	AWAIT(&b->f, store_invite_redeem(b->f.store, str_of(account), STR("CODE"), on_redeemed, b));
	return b->f.failed ? b->f.error.code : DB_OK;
}

static void an_invite_is_redeemed_once_and_expires_by_the_time_it_is(void **state)
{
	struct bench *b = *state;
	struct store_invite invite = {
	    .code = "CODE", .amount_uusd = 100, .max_uses = 10, .expires_us = wall_us + 2 * HOUR, .active = true};
	AWAIT_OK(&b->f, store_invite_create(b->f.store, &invite, fixture_done, &b->f));
	assert_int_equal(redeem(b, "buyer"), DB_OK);
	wall_us += DAY;
	assert_int_equal(redeem(b, "farmer"), DB_E_DENIED); /* expired, as far as anybody can tell */
	wall_us -= DAY + HOUR;
	assert_int_equal(redeem(b, "buyer"), DB_E_DENIED);
	assert_int_equal(redeem(b, "farmer"), DB_OK);
	assert_int_equal(balance_of(&b->f, "buyer"), 1000100);
	assert_int_equal(balance_of(&b->f, "farmer"), 100);
}

static void on_swept(int64_t moved, bool more, const struct error *error, void *user)
{
	struct bench *b = user;
	(void)more;
	b->moved = moved;
	fixture_answer(&b->f, error);
}

static void rows_that_are_rolled_up_are_in_one_place(void **state)
{
	struct bench *b = *state;
	char id[32];
	for (size_t i = 0; i < JUMPS; i++) {
		struct ledger_hold *hold;
		snprintf(id, sizeof id, "s%zu", i);
		assert_int_equal(take(b, id, NULL, 1000, &hold), DB_OK);
		(void)settle(hold, 500);
		fixture_flush(&b->f);
		wall_us += jumps[i];
		AWAIT_OK(&b->f, store_ledger_close(b->f.store, on_closed, &b->f));
		struct store_retention retention = {.usage_before_us = wall_us - DAY, .rows = 2};
		for (int step = 0; step < 5; step++)
			AWAIT_OK(&b->f, store_sweep(b->f.store, &retention, on_swept, b));
		assert_books_right(&b->f); /* the usage rows and the sums that stand for them make what was charged */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(holds_settle_or_end_once_and_every_period_closes, start, stop),
	    cmocka_unit_test_setup_teardown(a_daily_limit_is_not_had_twice_by_going_back, start, stop),
	    cmocka_unit_test_setup_teardown(deposits_count_once_whatever_the_time, start, stop),
	    cmocka_unit_test_setup_teardown(refunds_and_disputes_reverse_once_whatever_the_time, start, stop),
	    cmocka_unit_test_setup_teardown(withdrawals_are_neither_forgotten_nor_let_through_early, start, stop),
	    cmocka_unit_test_setup_teardown(an_invite_is_redeemed_once_and_expires_by_the_time_it_is, start, stop),
	    cmocka_unit_test_setup_teardown(rows_that_are_rolled_up_are_in_one_place, start, stop),
	};
	return fixture_run_on_both(tests, sizeof tests / sizeof *tests);
}
