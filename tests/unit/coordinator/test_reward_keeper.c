/* Base rewards over time: periods, restarts, clocks that jump, two coordinators, machines that come and go. */
#include "../store_fixture.h"

#include "coordinator/reward_keeper.h"
#include "coordinator/store/store_withdrawals.h"

#define START_US INT64_C(1775001600000000) /* 2026-04-01T00:00Z */
#define SECOND   INT64_C(1000000)
#define LOOK_S   45
#define FULL_64  2083 /* of one period in a month of 30 days */

struct town {
	struct fixture f;
	struct ledger *ledger;
	struct reward_keeper *keeper;
	struct reward_terms terms;
	struct store_stretch machines[8];
	size_t machine_count;
};

static int64_t wall_us;
static uint64_t mono_us;

static int64_t wall(void)
{
	return wall_us;
}

static uint64_t mono(void)
{
	return mono_us;
}

/* One machine at a time. */
static bool look(void *source, bool from_first, void (*see)(const struct store_stretch *machine, void *user), void *user)
{
	static size_t at;
	const struct town *town = source;
	if (from_first)
		at = 0;
	if (at < town->machine_count)
		see(&town->machines[at++], user);
	return at < town->machine_count;
}

static void open_keeper(struct town *t)
{
	static const char *const models[] = {"Box=64"};
	struct reward_keeper_options options = {.loop = t->f.loop,
	                                        .store = t->f.store,
	                                        .ledger = t->ledger,
	                                        .look = look,
	                                        .source = t,
	                                        .terms = t->terms,
	                                        .models = models,
	                                        .model_count = 1,
	                                        .look_ms = 3600000, /* the test takes the steps */
	                                        .clock = wall,
	                                        .mono_clock = mono};
	t->keeper = reward_keeper_new(&options);
	assert_non_null(t->keeper);
}

static void open_town(struct town *t)
{
	fixture_open(&t->f);
	t->ledger = ledger_new(t->f.store);
	assert_non_null(t->ledger);
	open_keeper(t);
}

static void close_town(struct town *t)
{
	reward_keeper_stop(t->keeper);
	fixture_close_store(&t->f);
	reward_keeper_free(t->keeper);
	ledger_free(t->ledger);
	fixture_close(&t->f);
}

static int start(void **state)
{
	struct town *t = calloc(1, sizeof *t);
	assert_non_null(t);
	wall_us = START_US;
	mono_us = 1000 * SECOND;
	t->terms = (struct reward_terms){.pool_month_uusd = 9000000000, .left_uusd = -1, .min_uptime_percent = 90};
	fixture_folder(&t->f);
	open_town(t);
	make_account(&t->f, "ann", 0);
	make_account(&t->f, "bob", 0);
	*state = t;
	return 0;
}

static int stop(void **state)
{
	struct town *t = *state;
	close_town(t);
	fixture_remove(&t->f);
	free(t);
	return 0;
}

static struct store_stretch *add_machine(struct town *t, const char *device, const char *account, const char *model,
                                         int64_t memory_gb)
{
	struct store_stretch *machine = &t->machines[t->machine_count++];
	*machine = (struct store_stretch){.memory_gb = memory_gb};
	str_copy(str_of(device), machine->device, sizeof machine->device);
	snprintf(machine->provider_key, sizeof machine->provider_key, "key-of-%.40s", device);
	str_copy(str_of(account), machine->account_id, sizeof machine->account_id);
	str_copy(str_of(model), machine->model, sizeof machine->model);
	return machine;
}

static void step(struct town *t)
{
	reward_keeper_step(t->keeper);
	do
		fixture_flush(&t->f);
	while (reward_keeper_is_busy(t->keeper));
}

/* Time passes, with a look every 45 seconds. */
static void pass(struct town *t, int64_t seconds)
{
	for (; seconds > 0; seconds -= LOOK_S) {
		int64_t by = (seconds < LOOK_S ? seconds : LOOK_S) * SECOND;
		wall_us += by;
		mono_us += (uint64_t)by;
		step(t);
	}
}

static void restart(struct town *t)
{
	close_town(t);
	open_town(t);
}

static int64_t draws(struct town *t)
{
	return fixture_number(&t->f, "SELECT count(*) FROM provider_floor_draws");
}

static void every_period_is_paid_once(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	step(t);
	pass(t, 3 * 300 + 60);
	assert_int_equal(draws(t), 3);
	assert_int_equal(balance_of(&t->f, "ann"), 3 * FULL_64);
	assert_int_equal(withdrawable_of(&t->f, "ann"), 3 * FULL_64);
	assert_int_equal(balance_of(&t->f, "rewards"), -3 * FULL_64);
	for (int i = 0; i < 5; i++)
		step(t);
	assert_int_equal(draws(t), 3);
	assert_int_equal(fixture_number(&t->f, "SELECT count(*) FROM earnings WHERE model = 'base_reward'"), 3);
	assert_int_equal(fixture_number(&t->f, "SELECT jobs FROM earnings_summary"), 0);
	assert_int_equal(fixture_number(&t->f, "SELECT sum(rewards) FROM earnings_hours"), 3 * FULL_64);
	assert_books_right(&t->f);
}

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	(void)error;
	*(struct ledger_account **)user = account;
}

static void a_balance_in_memory_follows(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	struct ledger_account *account = NULL;
	ledger_account_load(t->ledger, STR("ann"), on_loaded, &account);
	step(t);
	pass(t, 360);
	assert_int_equal(ledger_balance(account), FULL_64);
	assert_int_equal(ledger_withdrawable(account), FULL_64);
}

static void a_restart_in_the_middle_of_a_period_costs_nothing(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	step(t);
	pass(t, 135);
	restart(t);
	wall_us += 20 * SECOND;
	mono_us += 20 * SECOND;
	step(t);
	pass(t, 300);
	assert_int_equal(balance_of(&t->f, "ann"), FULL_64);
	restart(t); /* which looks at all periods of a day again */
	step(t);
	assert_int_equal(balance_of(&t->f, "ann"), FULL_64);
	assert_books_right(&t->f);
}

static void periods_missed_in_an_outage_are_paid_for_what_was_seen(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	step(t);
	pass(t, 270); /* the first period is almost complete, and is not settled when the lights go out */
	close_town(t);
	wall_us += 7200 * SECOND;
	mono_us = 5 * SECOND; /* another boot */
	open_town(t);
	step(t);
	pass(t, 300);
	assert_int_equal(fixture_number(&t->f, "SELECT count(*) FROM provider_floor_draws WHERE amount > 0"), 1);
	assert_int_equal(balance_of(&t->f, "ann"), FULL_64);
}

static void what_is_older_than_a_day_is_not_paid(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	step(t);
	pass(t, 270);
	close_town(t);
	wall_us += 90000 * SECOND;
	open_town(t);
	t->machine_count = 0;
	step(t);
	assert_int_equal(draws(t), 0);
}

static void a_machine_that_was_away_gets_less_or_nothing(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	step(t);
	pass(t, 90);
	t->machine_count = 0; /* seen last at 90, gone at 135 */
	pass(t, 90);
	t->machine_count = 1;
	pass(t, 300);
	assert_int_equal(fixture_number(&t->f, "SELECT amount FROM provider_floor_draws ORDER BY epoch_us LIMIT 1"), 0);
	assert_int_equal(fixture_number(&t->f, "SELECT uptime_us / 1000000 FROM provider_floor_draws ORDER BY epoch_us LIMIT 1"),
	                 135 + 75);
	pass(t, 300);
	assert_int_equal(balance_of(&t->f, "ann"), FULL_64);
}

static void a_clock_that_jumps_pays_nobody_for_time_that_was_not(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	step(t);
	pass(t, 330);
	assert_int_equal(balance_of(&t->f, "ann"), FULL_64);
	wall_us += 10800 * SECOND; /* three hours that nobody lived through */
	pass(t, 45);
	int64_t after_jump = balance_of(&t->f, "ann");
	assert_true(after_jump <= 2 * FULL_64);
	wall_us -= 10800 * SECOND; /* and back */
	pass(t, 45);
	pass(t, 600);
	assert_int_equal(balance_of(&t->f, "ann") - after_jump <= 2 * FULL_64, 1);
	assert_int_equal(fixture_number(&t->f,
	                                "SELECT count(*) FROM (SELECT epoch_us FROM provider_floor_draws GROUP BY epoch_us, device"
	                                " HAVING count(*) > 1) d"),
	                 0);
	pass(t, 600); /* times that were lived through are paid as ever */
	assert_true(balance_of(&t->f, "ann") >= after_jump + 3 * FULL_64);
	assert_books_right(&t->f);
}

static void one_machine_is_paid_once_whatever_keys_it_makes(void **state)
{
	struct town *t = *state;
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	struct store_stretch *other = add_machine(t, "m1", "bob", "Mac16,6", 64);
	snprintf(other->provider_key, sizeof other->provider_key, "another-key");
	step(t);
	pass(t, 330);
	assert_int_equal(balance_of(&t->f, "ann") + balance_of(&t->f, "bob"), FULL_64);
	assert_int_equal(draws(t), 1);
}

static void memory_is_what_the_model_can_have(void **state)
{
	struct town *t = *state;
	add_machine(t, "liar", "ann", "Mac14,2", 512);  /* 24 GB at most */
	add_machine(t, "modest", "bob", "Mac16,6", 48); /* could have 128 */
	add_machine(t, "listed", "bob", "Box", 128);    /* 64 by the operator's list */
	step(t);
	pass(t, 330);
	assert_int_equal(fixture_number(&t->f, "SELECT memory_gb FROM provider_floor_draws WHERE device = 'liar'"), 24);
	assert_int_equal(fixture_number(&t->f, "SELECT memory_gb FROM provider_floor_draws WHERE device = 'modest'"), 48);
	assert_int_equal(fixture_number(&t->f, "SELECT memory_gb FROM provider_floor_draws WHERE device = 'listed'"), 64);
}

static void an_unknown_model_is_left_for_later(void **state)
{
	struct town *t = *state;
	struct store_stretch *machine = add_machine(t, "m1", "ann", "Mac99,1", 64);
	add_machine(t, "m2", "bob", "Mac16,6", 64);
	step(t);
	pass(t, 330);
	assert_int_equal(draws(t), 1);
	assert_int_equal(fixture_number(&t->f, "SELECT skipped FROM reward_epochs"), 1);
	fixture_sql(&t->f, "UPDATE reward_stretches SET model = 'Mac16,6' WHERE model = 'Mac99,1'"); /* as if the table had grown */
	str_copy(STR("Mac16,6"), machine->model, sizeof machine->model);
	restart(t);
	step(t);
	assert_int_equal(balance_of(&t->f, "ann"), FULL_64);
	assert_int_equal(balance_of(&t->f, "bob"), FULL_64);
	assert_books_right(&t->f);
}

static void on_connected(const struct error *error, void *user)
{
	(void)user;
	assert_null(error);
}

static void pay_at(struct town *t, const char *account, const char *payee)
{
	struct store_connect connect = {.status = "ready", .country = "US"};
	str_copy(str_of(account), connect.account_id, sizeof connect.account_id);
	snprintf(connect.stripe_account, sizeof connect.stripe_account, "acct_%s", account);
	str_copy(str_of(payee), connect.payee, sizeof connect.payee);
	store_connect_set(t->f.store, &connect, on_connected, NULL);
	fixture_flush(&t->f);
}

/* Several accounts whose money goes to the same bank account are one to the limit. */
static void a_payee_gets_its_part_of_the_pool_through_however_many_accounts(void **state)
{
	struct town *t = *state;
	t->terms.pool_month_uusd = 10000 * 8640; /* 10,000 for each period */
	t->terms.account_percent = 30;
	restart(t);
	make_account(&t->f, "carl", 0);
	make_account(&t->f, "dora", 0);
	pay_at(t, "ann", "one-bank");
	pay_at(t, "bob", "one-bank");
	pay_at(t, "carl", "another-bank");
	add_machine(t, "m1", "ann", "Mac16,6", 64);
	add_machine(t, "m2", "bob", "Mac16,6", 64);
	add_machine(t, "m3", "carl", "Mac16,6", 64);
	add_machine(t, "m4", "dora", "Mac16,6", 64); /* Stripe pays her nothing yet */
	step(t);
	pass(t, 330);
	assert_int_equal(draws(t), 4);
	assert_int_equal(balance_of(&t->f, "ann") + balance_of(&t->f, "bob"), 3000);
	assert_int_equal(balance_of(&t->f, "carl"), FULL_64);
	assert_int_equal(balance_of(&t->f, "dora"), FULL_64);
	/* A machine that is found later in the same period is no way around it. */
	fixture_sql(&t->f,
	            "INSERT INTO reward_stretches (device, provider_key, account, model, memory_gb, from_us, seen_us, ended_us)"
	            " SELECT 'm5', 'key-of-m5', account, model, memory_gb, from_us, seen_us, ended_us FROM reward_stretches"
	            " WHERE device = 'm2'");
	restart(t);
	step(t);
	assert_int_equal(fixture_number(&t->f, "SELECT count(*) FROM provider_floor_draws WHERE device = 'm5' AND amount = 0"), 1);
	assert_int_equal(balance_of(&t->f, "ann") + balance_of(&t->f, "bob"), 3000);
	assert_books_right(&t->f);
}

static void a_pool_is_never_exceeded(void **state)
{
	struct town *t = *state;
	char name[16];
	t->terms.pool_month_uusd = 5000 * 8640; /* 5,000 for each period */
	restart(t);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "m%d", i);
		add_machine(t, name, i % 2 ? "ann" : "bob", "Mac16,6", 64);
	}
	step(t);
	pass(t, 330);
	assert_int_equal(fixture_number(&t->f, "SELECT sum(amount) FROM provider_floor_draws"), 5000);
	assert_int_equal(draws(t), 4); /* also those that got nothing */
	add_machine(t, "late", "ann", "Mac16,6", 64);
	restart(t);
	step(t);
	assert_int_equal(fixture_number(&t->f, "SELECT sum(amount) FROM provider_floor_draws"), 5000);
	assert_books_right(&t->f);
}

static void on_given(const int64_t *given, size_t count, const struct error *error, void *user)
{
	(void)given;
	(void)count;
	fixture_answer(user, error);
}

static void draws_of_others_count_against_the_limits(void **state)
{
	struct town *t = *state;
	struct store_reward rows[3] = {{.amount_uusd = 600, .floor_uusd = 600},
	                               {.amount_uusd = 600, .floor_uusd = 600},
	                               {.amount_uusd = 600, .floor_uusd = 600}};
	struct store_draw_limits limits = {1500, 1000};
	static const char *const accounts[] = {"ann", "ann", "bob"};
	for (int i = 0; i < 3; i++) {
		snprintf(rows[i].machine.device, sizeof rows[i].machine.device, "d%d", i);
		snprintf(rows[i].machine.provider_key, sizeof rows[i].machine.provider_key, "k%d", i);
		str_copy(str_of(accounts[i]), rows[i].machine.account_id, sizeof rows[i].machine.account_id);
	}
	for (int again = 0; again < 2; again++) /* two coordinators that worked out the same */
		for (int i = 0; i < 3; i++)
			AWAIT_OK(&t->f, store_draws_write(t->f.store, START_US, &limits, &rows[i], 1, on_given, &t->f));
	assert_int_equal(balance_of(&t->f, "ann"), 1000); /* its limit */
	assert_int_equal(balance_of(&t->f, "bob"), 500);  /* the pool's rest */
	assert_int_equal(draws(t), 3);
	assert_books_right(&t->f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	    TEST(every_period_is_paid_once),
	    TEST(a_balance_in_memory_follows),
	    TEST(a_restart_in_the_middle_of_a_period_costs_nothing),
	    TEST(periods_missed_in_an_outage_are_paid_for_what_was_seen),
	    TEST(what_is_older_than_a_day_is_not_paid),
	    TEST(a_machine_that_was_away_gets_less_or_nothing),
	    TEST(a_clock_that_jumps_pays_nobody_for_time_that_was_not),
	    TEST(one_machine_is_paid_once_whatever_keys_it_makes),
	    TEST(memory_is_what_the_model_can_have),
	    TEST(an_unknown_model_is_left_for_later),
	    TEST(a_payee_gets_its_part_of_the_pool_through_however_many_accounts),
	    TEST(a_pool_is_never_exceeded),
	    TEST(draws_of_others_count_against_the_limits),
	};
	return RUN_ON_BOTH(tests);
}
