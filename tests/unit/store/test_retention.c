/* Rows that go after their time, a few at a time: sums, chains and statements stay as they were. */
#include "../store_fixture.h"

#include "coordinator/store/store_books.h"
#include "coordinator/store/store_retention.h"
#include "coordinator/store/store_views.h"
#include "core/clock.h"

#define DAY     INT64_C(86400000000)
#define JANUARY INT64_C(1735689600000000) /* 2025-01-01 */
#define MARCH   (JANUARY + 59 * DAY)
#define APRIL   (JANUARY + 90 * DAY)

struct sweeping {
	struct fixture *f;
	int64_t moved;
	bool more;
};

static void on_swept(int64_t moved, bool more, const struct error *error, void *user)
{
	struct sweeping *sweeping = user;
	sweeping->moved = moved;
	sweeping->more = more;
	fixture_answer(sweeping->f, error);
}

static struct sweeping sweep(struct fixture *f, int64_t before_us, int64_t rows)
{
	struct sweeping sweeping = {.f = f};
	struct store_retention retention = {before_us, before_us, before_us, rows};
	AWAIT_OK(f, store_sweep(f->store, &retention, on_swept, &sweeping));
	return sweeping;
}

static void on_closed(const struct store_close *close, const struct error *error, void *user)
{
	(void)close;
	fixture_answer(user, error);
}

static void settle_in(struct fixture *f, int64_t month_us, int count, const char *prefix)
{
	for (int i = 0; i < count; i++) {
		char id[STORE_ID_SIZE];
		snprintf(id, sizeof id, "%s-%d", prefix, i);
		struct store_settlement s = settlement_of(id, "buyer", i % 3 ? "farmer" : "", i % 5 ? 100 + i : 0, i % 5 ? 10 : 0);
		str_copy(STR("key_1"), s.key_id, sizeof s.key_id);
		s.created_us = month_us + i * DAY / 2;
		AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	}
}

struct told {
	struct fixture *f;
	char text[4096], models[4096];
	int64_t numbers[2];
};

static void on_view(const struct store_view_answer *answer, const struct error *error, void *user)
{
	struct told *told = user;
	if (answer) {
		str_copy(answer->text, told->text, sizeof told->text);
		str_copy(answer->more, told->models, sizeof told->models);
		memcpy(told->numbers, answer->numbers, sizeof told->numbers);
	}
	fixture_answer(told->f, error);
}

static struct told statement(struct fixture *f, int64_t from_us, int64_t to_us)
{
	struct told told = {.f = f};
	struct store_view view = {.kind = STORE_VIEW_STATEMENT, .account = "buyer", .from_us = from_us, .to_us = to_us, .limit = 1};
	AWAIT_OK(f, store_view(f->store, &view, on_view, &told));
	return told;
}

static void assert_same(const struct told *a, const struct told *b)
{
	assert_string_equal(a->text, b->text);
	assert_string_equal(a->models, b->models);
	assert_int_equal(a->numbers[0], b->numbers[0]);
	assert_int_equal(a->numbers[1], b->numbers[1]);
}

static struct store_chain chain(struct fixture *f)
{
	struct store_chain out;
	struct error error = {0};
	if (store_chain_verify(f->path, &out, &error))
		fail_msg("%s", error.text);
	return out;
}

static int64_t rows_of_usage(struct fixture *f)
{
	return fixture_number(f, "SELECT count(*) FROM usage");
}

static void usage_is_rolled_up_by_month_and_everything_still_adds_up(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000000);
	make_account(f, "farmer", 0);
	settle_in(f, JANUARY, 40, "jan");
	AWAIT_OK(f, store_ledger_close(f->store, on_closed, f));
	settle_in(f, MARCH, 20, "mar");
	struct told january = statement(f, JANUARY, JANUARY + 31 * DAY), march = statement(f, MARCH, APRIL);
	int64_t entries = fixture_number(f, "SELECT count(*) FROM ledger"),
	        earned = fixture_number(f, "SELECT count(*) FROM earnings");

	struct sweeping last;
	int steps = 0;
	do { /* what is in no closed period stays */
		last = sweep(f, APRIL, 7);
		assert_books_right(f);
		assert_int_equal(chain(f).broken, 0);
		struct told now = statement(f, JANUARY, JANUARY + 31 * DAY);
		assert_same(&now, &january);
	} while (last.more && ++steps < 100);
	assert_true(steps >= 5);
	assert_true(rows_of_usage(f) >= 20 && rows_of_usage(f) < 27);
	AWAIT_OK(f, store_ledger_close(f->store, on_closed, f));

	assert_false(sweep(f, MARCH, 1000).moved > 6); /* March is not over by then: at most January's rest */
	assert_int_equal(rows_of_usage(f), 20);
	fixture_close(f);
	fixture_open(f);
	while (sweep(f, APRIL, 7).more)
		assert_books_right(f);
	assert_int_equal(rows_of_usage(f), 0);
	assert_int_equal(fixture_number(f, "SELECT sum(requests) FROM usage_months"), 60);
	assert_books_right(f);
	struct store_chain proven = chain(f);
	assert_int_equal(proven.broken, 0);
	assert_int_equal(proven.rolled_up, 2);
	struct told now = statement(f, JANUARY, JANUARY + 31 * DAY);
	assert_same(&now, &january);
	now = statement(f, MARCH, APRIL);
	assert_same(&now, &march);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM ledger"), entries);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM earnings"), earned);
	assert_int_equal(fixture_number(f, "SELECT sum(spent) FROM key_spend"),
	                 fixture_number(f, "SELECT sum(cost) FROM usage_months"));
}

static void a_sum_that_was_altered_is_found(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000000);
	make_account(f, "farmer", 0);
	settle_in(f, JANUARY, 10, "jan");
	AWAIT_OK(f, store_ledger_close(f->store, on_closed, f));
	while (sweep(f, APRIL, 100).more)
		continue;
	assert_books_right(f);
	fixture_sql(f, "UPDATE usage_months SET cost = cost - 1");
	struct store_audit audit = audit_of(f);
	assert_false(store_audit_clean(&audit));
	fixture_sql(f, "UPDATE usage_months SET cost = cost + 1, requests = requests + 1");
	audit = audit_of(f);
	assert_int_equal(audit.wrong_settlements, 1);
}

static void a_replayed_request_is_known_after_its_row_went(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000000);
	make_account(f, "farmer", 0);
	settle_in(f, JANUARY, 10, "jan");
	AWAIT_OK(f, store_ledger_close(f->store, on_closed, f));
	while (sweep(f, APRIL, 100).more)
		continue;
	int64_t balance = balance_of(f, "buyer");
	settle_in(f, JANUARY, 10, "jan");
	assert_int_equal(balance_of(f, "buyer"), balance);
	assert_int_equal(rows_of_usage(f), 0);
	assert_books_right(f);
}

static void old_events_and_sessions_go_in_small_steps(void **state)
{
	struct fixture *f = *state;
	make_account(f, "ann", 0);
	for (int i = 0; i < 10; i++) {
		char sql[400];
		int64_t at_us = JANUARY + i * DAY;
		snprintf(sql, sizeof sql,
		         "INSERT INTO webhook_events (source, event_id, type, received_us) VALUES ('stripe', 'e%d', 'x', %lld)", i,
		         (long long)at_us);
		fixture_sql(f, sql);
		snprintf(
		    sql, sizeof sql,
		    "INSERT INTO reward_stretches (device, provider_key, account, model, memory_gb, from_us, seen_us) SELECT 'd', 'k',"
		    " ref, 'm', 64, %lld, %lld FROM accounts WHERE id = 'ann'",
		    (long long)at_us, (long long)at_us);
		fixture_sql(f, sql);
	}
	struct sweeping first = sweep(f, JANUARY + 5 * DAY, 3);
	assert_int_equal(first.moved, 6);
	assert_true(first.more);
	struct sweeping second = sweep(f, JANUARY + 5 * DAY, 3);
	assert_int_equal(second.moved, 4);
	assert_false(second.more);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM webhook_events"), 5);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM reward_stretches"), 5);
	assert_int_equal(sweep(f, 0, 3).moved, 0); /* 0 keeps all */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)
	    TEST(usage_is_rolled_up_by_month_and_everything_still_adds_up),
	    TEST(a_sum_that_was_altered_is_found),
	    TEST(a_replayed_request_is_known_after_its_row_went),
	    TEST(old_events_and_sessions_go_in_small_steps),
	};
	return RUN_ON_BOTH(tests);
}
