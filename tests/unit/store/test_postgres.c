/* What only a shared server can do to the books: two coordinators at once, one that dies, a server that dies. */
#include "../store_fixture.h"

#include <signal.h>

#include "coordinator/store/migrate.h"
#include "core/clock.h"

static int start(void **state)
{
	fixture_on_postgres = true;
	return fixture_start(state);
}

static struct store *open_other(struct fixture *f, const char *name, int64_t lost_after_us)
{
	struct error error = {0};
	struct store_options options = {.path = f->path, .instance = name, .lost_after_us = lost_after_us, .readers = 1};
	struct store *store = store_open(&options, f->loop, &error);
	if (!store)
		fail_msg("%s", error.text);
	return store;
}

/* Until `sql` gives `number`. */
static void wait_for_number(struct fixture *f, const char *sql, int64_t number)
{
	for (int i = 0; i < 1200; i++) {
		if (fixture_number(f, sql) == number)
			return;
		usleep(50000);
	}
	fail_msg("%s is not %lld within a minute", sql, (long long)number);
}

/* --- two at once --- */

#define RACES 400

struct race {
	struct fixture *f;
	size_t waiting, applied, failed;
};

static void one_less(struct race *race, bool applied, const struct error *error)
{
	race->applied += applied;
	race->failed += error != NULL;
	if (--race->waiting == 0)
		net_loop_stop(race->f->loop);
}

static void on_transferred(bool applied, const struct error *error, void *user)
{
	one_less(user, applied, error);
}

static void on_raced(const struct error *error, void *user)
{
	one_less(user, false, error);
}

static void two_coordinators_race_and_nothing_happens_twice(void **state)
{
	struct fixture *f = *state;
	struct race transfers = {.f = f}, settled = {.f = f};
	make_account(f, "buyer", 1000000);
	make_account(f, "farmer", 0);
	struct store *stores[] = {f->store, open_other(f, "other", 0)};

	for (int i = 0; i < RACES; i++) {
		struct store_transfer payout = {.type = "stripe_payout", .from = "buyer", .to = "farmer", .amount_uusd = 7};
		char request[24];
		snprintf(payout.key, sizeof payout.key, "payout-%d", i);
		snprintf(request, sizeof request, "request-%d", i);
		for (int k = 0; k < 2; k++) {
			struct store *store = stores[(i + k) % 2];
			struct store_hold row = hold_of(request, "buyer", 100);
			struct store_settlement s = settlement_of(request, "buyer", "farmer", 100, 10);
			store_hold_create(store, &row);
			transfers.waiting++;
			store_transfer(store, &payout, on_transferred, &transfers);
			settled.waiting++;
			store_settle(store, &s, on_raced, &settled);
			if (i % 10 == k)
				store_hold_release(stores[(i + k + 1) % 2], str_of(request), "client_gone");
		}
	}
	while (transfers.waiting || settled.waiting)
		net_loop_run(f->loop);
	AWAIT_OK(f, store_flush(stores[1], fixture_done, f));
	fixture_flush(f);

	assert_int_equal(transfers.applied, RACES);
	assert_int_equal(transfers.failed + settled.failed, 0);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM transfers WHERE key LIKE 'payout-%'"), RACES);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds"), RACES);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 0);
	int64_t charged = fixture_number(f, "SELECT count(*) FROM usage");
	assert_int_equal(balance_of(f, "buyer"), 1000000 - 7 * RACES - 100 * charged);
	assert_int_equal(balance_of(f, "farmer"), 7 * RACES + 90 * charged);
	assert_books_right(f);
	store_close(stores[1]);
}

static void what_one_coordinator_writes_the_other_reads(void **state)
{
	struct fixture *f = *state;
	struct store *other = open_other(f, "other", 0);
	make_account(f, "buyer", 500);
	for (int i = 0; i < 20; i++) {
		struct store_transfer more = {.type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 1};
		snprintf(more.key, sizeof more.key, "more-%d", i);
		AWAIT_OK(f, store_transfer(i % 2 ? other : f->store, &more, fixture_transferred, f));
		assert_true(f->applied);
		AWAIT_OK(f, store_account_get(i % 2 ? f->store : other, STR("buyer"), fixture_account, f));
		assert_int_equal(f->account.balance_uusd, 501 + i);
	}
	assert_books_right(f);
	store_close(other);
}

/* --- coordinators that end --- */

#define SOON_US 700000

/* Another coordinator that holds money until it is killed. */
static pid_t start_child(struct fixture *f, const char *name)
{
	int ready[2];
	char word;
	assert_int_equal(pipe(ready), 0);
	fixture_close(f);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct error error;
		f->loop = net_loop_new(&error);
		f->store = open_other(f, name, SOON_US);
		struct store_hold row = hold_of(name, "buyer", 100);
		store_hold_create(f->store, &row);
		fixture_flush(f);
		_exit(write(ready[1], "r", 1) == 1 ? pause() : 1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &word, 1), 1);
	close(ready[0]);
	fixture_open(f);
	return child;
}

static void a_lost_coordinators_holds_are_released_and_nobody_elses(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	pid_t child = start_child(f, "child");
	struct store_hold row = hold_of("mine", "buyer", 100);
	store_hold_create(f->store, &row);
	fixture_flush(f);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 2);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);

	struct store *sweeper = open_other(f, "sweeper", SOON_US);
	wait_for_number(f, "SELECT count(*) FROM holds WHERE request_id = 'child' AND reason = 'instance_lost'", 1);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE request_id = 'mine' AND state = 'open'"), 1);
	store_close(sweeper);

	struct store_settlement late = settlement_of("child", "buyer", "", 50, 0), mine = settlement_of("mine", "buyer", "", 50, 0);
	AWAIT_OK(f, store_settle(f->store, &late, fixture_done, f));
	AWAIT_OK(f, store_settle(f->store, &mine, fixture_done, f));
	assert_int_equal(balance_of(f, "buyer"), 950);
	assert_books_right(f);
}

static void a_start_releases_only_holds_of_its_own_name(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	pid_t child = start_child(f, "child");
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 1);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	struct store *again = open_other(f, "child", SOON_US);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE reason = 'restart'"), 1);
	store_close(again);
	assert_books_right(f);
}

static void a_coordinator_taken_for_lost_comes_back_as_a_new_one(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	struct store_hold row = hold_of("r1", "buyer", 100);
	store_hold_create(f->store, &row);
	fixture_flush(f);
	fixture_sql(f, "UPDATE instances SET ended_us = 1, lost = 1 WHERE ended_us IS NULL");
	struct store_settlement s = settlement_of("r1", "buyer", "", 50, 0), fresh = settlement_of("r2", "buyer", "", 50, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	AWAIT_OK(f, store_settle(f->store, &fresh, fixture_done, f));
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE request_id = 'r1' AND state = 'released'"), 1);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM instances WHERE ended_us IS NULL"), 1);
	assert_int_equal(balance_of(f, "buyer"), 950);
	assert_books_right(f);
}

/* --- a server that ends --- */

static size_t settled_well, settled_badly;

static void on_settled(const struct error *error, void *user)
{
	(void)user;
	settled_well += error == NULL;
	settled_badly += error != NULL;
}

static void settle_one(struct fixture *f, int number)
{
	char request[24];
	snprintf(request, sizeof request, "request-%d", number);
	struct store_hold row = hold_of(request, "buyer", 100);
	struct store_settlement s = settlement_of(request, "buyer", "farmer", 100, 10);
	store_hold_create(f->store, &row);
	store_settle(f->store, &s, on_settled, NULL);
}

static void a_server_killed_at_any_moment_loses_and_doubles_nothing(void **state)
{
	struct fixture *f = *state;
	size_t kills = test_length("DARKBLOOM_SERVER_KILLS", 3);
	int asked = 0;
	settled_well = settled_badly = 0;
	make_account(f, "buyer", 1000000000);
	make_account(f, "farmer", 0);
	for (size_t i = 0; i < kills; i++) {
		for (int k = 0; k < 200; k++) {
			settle_one(f, asked++);
			if (k % 40 == 0)
				usleep((useconds_t)(i * 37 % 11) * 700);
		}
		postgres_crash();
		settle_one(f, asked++); /* asked for while it is away */
		postgres_restart();
		fixture_flush(f);
		assert_true(store_healthy(f->store, NULL));
	}
	assert_int_equal(settled_well, asked);
	assert_int_equal(settled_badly, 0);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM usage"), asked);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 0);
	assert_int_equal(balance_of(f, "buyer"), 1000000000 - 100 * (int64_t)asked);
	assert_int_equal(balance_of(f, "farmer"), 90 * (int64_t)asked);
	assert_books_right(f);
}

/* Plans are made while the tables are empty, and kept: they must be right for full ones. */
static void no_group_of_writes_reads_a_whole_table_however_new_the_books_are(void **state)
{
	struct fixture *f = *state;
	enum { GROUPS = 40 };
	make_account(f, "buyer", 1000000000);
	make_account(f, "farmer", 0);
	for (int i = 0; i < GROUPS; i++) {
		settle_one(f, i);
		fixture_flush(f);
	}
	fixture_close_store(f); /* a connection that ends says what it did */
	wait_for_number(f,
	                "SELECT coalesce(sum(n_tup_ins), 0)::BIGINT FROM pg_stat_user_tables"
	                " WHERE schemaname = current_schema() AND relname IN ('usage', 'holds')",
	                2 * GROUPS);
	int64_t scans = fixture_number(f, "SELECT coalesce(sum(seq_scan), 0)::BIGINT FROM pg_stat_user_tables WHERE schemaname ="
	                                  " current_schema() AND relname IN ('usage', 'holds', 'ledger')");
	assert_true(scans < GROUPS / 2); /* the start, and the schema's making, may look */
}

static void a_server_that_is_away_stops_new_money_and_says_so(void **state)
{
	struct fixture *f = *state;
	struct error why = {0};
	make_account(f, "buyer", 1000);
	make_account(f, "farmer", 0);
	postgres_crash();
	settle_one(f, 1);
	for (int i = 0; i < 1200 && store_healthy(f->store, &why); i++)
		usleep(50000);
	assert_false(store_healthy(f->store, &why));
	assert_int_equal(why.code, DB_E_AGAIN);
	postgres_restart();
	fixture_flush(f);
	assert_true(store_healthy(f->store, &why));
	assert_int_equal(balance_of(f, "buyer"), 900);
}

/* --- what it takes and refuses --- */

static void text_that_is_not_utf8_is_kept_as_far_as_it_is(void **state)
{
	struct fixture *f = *state;
	struct store_account account = {.id = "odd",
	                                .name = "gr\xfc\xdf"
	                                        "e",
	                                .fee_percent = -1};
	AWAIT_OK(f, store_account_create(f->store, &account, fixture_done, f));
	AWAIT_OK(f, store_account_get(f->store, STR("odd"), fixture_account, f));
	assert_string_equal(f->account.name, "gr\xef\xbf\xbd\xef\xbf\xbd"
	                                     "e");
}

static void assert_open_fails(const char *place, enum db_err code, const char *word)
{
	struct error error = {0};
	struct net_loop *loop = net_loop_new(&error);
	assert_null(store_open(&(struct store_options){.path = place}, loop, &error));
	net_loop_free(loop);
	assert_int_equal(error.code, code);
	if (!strstr(error.text, word))
		fail_msg("'%s' does not say '%s'", error.text, word);
}

static void what_cannot_be_opened_says_why(void **state)
{
	struct fixture *f = *state;
	char place[700];
	assert_open_fails("postgres://test@/test?host=%2Fno%2Fsuch%2Ffolder", DB_E_AGAIN, "PostgreSQL");
	snprintf(place, sizeof place, "postgres://test@/nowhere%s", strchr(f->path, '?'));
	assert_open_fails(place, DB_E_NOT_FOUND, "nowhere");
	snprintf(place, sizeof place, "postgres://stranger@/test%s", strchr(f->path, '?'));
	assert_open_fails(place, DB_E_DENIED, "stranger");
	fixture_close(f);
	fixture_sql(f, "INSERT INTO schema_version VALUES (999, 'future', 1)");
	assert_open_fails(f->path, DB_E_UNSUPPORTED, "version 999");
}

static void two_migrations_at_once_are_one(void **state)
{
	char place[600];
	(void)state;
	int status, from, to;
	struct error error = {0};
	postgres_database(place, sizeof place);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit((int)store_migrate(place, &from, &to, &error));
	if (store_migrate(place, &from, &to, &error))
		fail_msg("%s", error.text);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(to, migrations[migrations_count - 1].version);
	assert_int_equal(postgres_number(place, "SELECT count(*) FROM schema_version"), migrations_count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, fixture_stop)
	    TEST(two_coordinators_race_and_nothing_happens_twice),
	    TEST(what_one_coordinator_writes_the_other_reads),
	    TEST(a_lost_coordinators_holds_are_released_and_nobody_elses),
	    TEST(a_start_releases_only_holds_of_its_own_name),
	    TEST(a_coordinator_taken_for_lost_comes_back_as_a_new_one),
	    TEST(a_server_killed_at_any_moment_loses_and_doubles_nothing),
	    TEST(no_group_of_writes_reads_a_whole_table_however_new_the_books_are),
	    TEST(a_server_that_is_away_stops_new_money_and_says_so),
	    TEST(text_that_is_not_utf8_is_kept_as_far_as_it_is),
	    TEST(what_cannot_be_opened_says_why),
	    TEST(two_migrations_at_once_are_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
