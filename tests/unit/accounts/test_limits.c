#include "../store_fixture.h"

#include "coordinator/accounts/limits.h"

#define SECOND 1000000
#define MINUTE (60 * SECOND)

struct bench {
	struct fixture f;
	struct ledger *ledger;
	struct limits *limits;
	struct ledger_account *alice, *bob, *service;
	struct spend_group group;
};

static const struct limits_options defaults = {
    .rates = {[LIMIT_CONSUMER] = {{1200, 120}, {5e6, 1e6}, {5e5, 64000}}, [LIMIT_SERVICE] = {{12000, 600}, {5e7, 5e6}, {0, 1}}},
    .financial = {12, 3},
    .concurrent = {2, 0},
    .expects_output = true,
    .expected_fraction = 0.25,
    .expected_floor = 512,
    .expected_ceiling = 8192,
};

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	struct bench *b = user;
	assert_non_null(account);
	*(b->alice ? b->bob ? &b->service : &b->bob : &b->alice) = account;
	fixture_answer(&b->f, error);
}

static int start(void **state)
{
	struct bench *b = calloc(1, sizeof *b);
	assert_non_null(b);
	fixture_folder(&b->f);
	fixture_open(&b->f);
	b->ledger = ledger_new(b->f.store);
	const char *const names[] = {"alice", "bob", "reseller"};
	for (int i = 0; i < 3; i++) {
		struct store_account account = {.fee_percent = -1, .role = i == 2 ? STORE_ROLE_SERVICE : STORE_ROLE_NORMAL};
		assert_true(str_copy(str_of(names[i]), account.id, sizeof account.id));
		AWAIT_OK(&b->f, store_account_create(b->f.store, &account, fixture_done, &b->f));
		AWAIT_OK(&b->f, ledger_account_load(b->ledger, str_of(names[i]), on_loaded, b));
	}
	b->limits = limits_new(&defaults);
	memcpy(b->group.id, "key_1", sizeof "key_1");
	*state = b;
	return 0;
}

static int stop(void **state)
{
	struct bench *b = *state;
	limits_free(b->limits);
	fixture_close(&b->f);
	ledger_free(b->ledger);
	fixture_remove(&b->f);
	free(b);
	return 0;
}

static struct caller caller_of(struct bench *b, struct ledger_account *account, int64_t rpm, int64_t itpm, int64_t otpm)
{
	struct caller caller = accounts_caller(CALLER_KEY, account);
	caller.group = &b->group;
	caller.rpm = rpm;
	caller.itpm = itpm;
	caller.otpm = otpm;
	return caller;
}

static bool request(struct bench *b, const struct caller *caller, int64_t now_us)
{
	struct limit_verdict verdict;
	limits_request(b->limits, caller, now_us, &verdict);
	return verdict.allowed;
}

static int requests(struct bench *b, const struct caller *caller, int64_t now_us, int tries)
{
	int passed = 0;
	for (int i = 0; i < tries; i++)
		passed += request(b, caller, now_us);
	return passed;
}

static void a_burst_passes_and_then_so_much_as_time_allows(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 0, 0, 0);
	assert_int_equal(requests(b, &alice, 0, 500), 120);
	assert_int_equal(requests(b, &alice, SECOND, 500), 20);
	assert_int_equal(requests(b, &alice, SECOND + SECOND / 2, 500), 10);
	assert_int_equal(requests(b, &alice, 10 * MINUTE, 500), 120);
}

static void never_more_passes_than_burst_and_rate_allow(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 0, 0, 0);
	int64_t now_us = 0;
	int passed = 0;
	srand(7);
	for (int i = 0; i < 20000; i++) {
		now_us += rand() % 90000;
		passed += request(b, &alice, now_us);
		double most = 120 + 20.0 * (double)now_us / SECOND + 1e-3;
		assert_true(passed <= most);
	}
	double least = 20.0 * (double)now_us / SECOND - 130;
	assert_true(passed > least || passed > 19000); /* nor is anybody refused who had something left */
}

static void accounts_do_not_take_from_each_other(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 0, 0, 0), bob = caller_of(b, b->bob, 0, 0, 0);
	assert_int_equal(requests(b, &alice, 0, 10000), 120);
	assert_int_equal(requests(b, &bob, 0, 200), 120);
}

static void who_is_refused_by_one_bucket_has_lost_nothing_of_another(void **state)
{
	struct bench *b = *state;
	struct caller plain = caller_of(b, b->alice, 0, 0, 0), keyed = caller_of(b, b->alice, 300, 0, 0);
	assert_int_equal(requests(b, &plain, 0, 500), 120); /* the account has nothing left, the key has all */
	assert_int_equal(requests(b, &keyed, 0, 50), 0);
	assert_int_equal(requests(b, &keyed, 10 * SECOND, 500), 120); /* all that the account got back, and the key 180 still */
	struct limit_verdict verdict;
	limits_request(b->limits, &keyed, 10 * SECOND, &verdict);
	assert_false(verdict.allowed);
	assert_false(verdict.by_key);

	uint64_t charged;
	limits_tokens(b->limits, &plain, 1000, 64000, 0, &verdict, &charged);
	assert_true(verdict.allowed);
	int64_t before = verdict.views[LIMIT_INPUT].remaining;
	limits_tokens(b->limits, &plain, 1000, 64000, 0, &verdict, &charged); /* no output tokens are left */
	assert_false(verdict.allowed);
	assert_int_equal(verdict.by, LIMIT_OUTPUT);
	assert_int_equal(verdict.views[LIMIT_INPUT].remaining, before);
}

static void a_request_that_is_given_back_counts_for_nothing(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 5, 0, 0);
	for (int i = 0; i < 100; i++) {
		assert_true(request(b, &alice, 0));
		limits_request_back(b->limits, &alice, 0);
	}
	assert_int_equal(requests(b, &alice, 0, 100), 5);
	for (int i = 0; i < 100; i++) /* never more than full */
		limits_request_back(b->limits, &alice, 10 * MINUTE);
	assert_int_equal(requests(b, &alice, 10 * MINUTE, 100), 5);
}

static void the_key_s_own_limit_is_shown_when_it_is_the_tighter_one(void **state)
{
	struct bench *b = *state;
	struct caller plain = caller_of(b, b->alice, 0, 0, 0), keyed = caller_of(b, b->alice, 60, 0, 0);
	struct limit_verdict verdict;
	limits_request(b->limits, &plain, 0, &verdict);
	assert_int_equal(verdict.views[LIMIT_REQUESTS].limit, 1200);
	assert_int_equal(verdict.views[LIMIT_REQUESTS].remaining, 119);
	limits_request(b->limits, &keyed, 0, &verdict);
	assert_int_equal(verdict.views[LIMIT_REQUESTS].limit, 60);
	assert_int_equal(verdict.views[LIMIT_REQUESTS].remaining, 59);
	assert_int_equal(verdict.views[LIMIT_REQUESTS].reset_s, 1);
	assert_int_equal(requests(b, &keyed, 0, 100), 59);
	limits_request(b->limits, &keyed, 0, &verdict);
	assert_true(verdict.by_key);
	assert_int_equal(verdict.retry_after_s, 1);
	assert_int_equal(verdict.views[LIMIT_REQUESTS].reset_s, 60);
}

static void one_oversized_request_passes_on_a_full_bucket(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 0, 0, 0);
	struct limit_verdict verdict;
	uint64_t charged;
	limits_tokens(b->limits, &alice, 9000000, 1, 0, &verdict, &charged);
	assert_true(verdict.allowed);
	limits_tokens(b->limits, &alice, 1, 1, 0, &verdict, &charged);
	assert_false(verdict.allowed);
	assert_true(verdict.retry_after_s >= 1 && verdict.retry_after_s <= 60);
}

static void a_service_pays_for_expected_output_and_then_for_the_rest(void **state)
{
	struct bench *b = *state;
	struct limits_options options = defaults;
	options.rates[LIMIT_SERVICE][LIMIT_OUTPUT] = (struct limit_rate){60000, 10000};
	limits_free(b->limits);
	b->limits = limits_new(&options);
	struct caller reseller = caller_of(b, b->service, 0, 0, 0);
	struct limit_verdict verdict;
	const struct {
		uint64_t most, charged;
	} cases[] = {{4096, 1024}, {100, 100}, {1000, 512}, {100000, 8192}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t charged;
		limits_tokens(b->limits, &reseller, 1, cases[i].most, (int64_t)i * 10 * MINUTE, &verdict, &charged);
		assert_int_equal(charged, cases[i].charged);
	}
	int64_t then = 100 * (int64_t)MINUTE;
	uint64_t charged;
	limits_tokens(b->limits, &reseller, 1, 4096, then, &verdict, &charged);
	limits_output_taken(b->limits, &reseller, charged, charged + 20000, then); /* below empty */
	limits_tokens(b->limits, &reseller, 1, 100, then + 10 * SECOND, &verdict, &charged);
	assert_false(verdict.allowed);
	assert_int_equal(verdict.views[LIMIT_OUTPUT].remaining, 0);
	limits_tokens(b->limits, &reseller, 1, 100, then + 12 * SECOND, &verdict, &charged);
	assert_true(verdict.allowed);
}

static void the_operator_has_no_limits(void **state)
{
	struct bench *b = *state;
	struct caller operator= accounts_caller(CALLER_ADMIN, b->alice);
	struct caller alice = caller_of(b, b->alice, 0, 0, 0);
	assert_int_equal(requests(b, &operator, 0, 1000), 1000);
	assert_int_equal(requests(b, &alice, 0, 1000), 120);
	for (int i = 0; i < 10; i++)
		assert_true(limits_enter(b->limits, &operator, 0));
}

static void financial_operations_have_a_bucket_of_their_own(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 0, 0, 0);
	struct limit_verdict verdict;
	int passed = 0;
	for (int i = 0; i < 10; i++) {
		limits_financial(b->limits, &alice, 0, &verdict);
		passed += verdict.allowed;
	}
	assert_int_equal(passed, 3);
	assert_int_equal(verdict.retry_after_s, 5);
	assert_int_equal(requests(b, &alice, 0, 500), 120);
}

static void an_account_runs_so_many_requests_at_a_time(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 0, 0, 0), bob = caller_of(b, b->bob, 0, 0, 0);
	assert_true(limits_enter(b->limits, &alice, 0));
	assert_true(limits_enter(b->limits, &alice, 0));
	assert_false(limits_enter(b->limits, &alice, 0));
	assert_true(limits_enter(b->limits, &bob, 0));
	limits_leave(b->limits, &alice);
	assert_true(limits_enter(b->limits, &alice, 0));
}

static void the_idle_are_forgotten_and_the_running_are_not(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 0, 0, 0), bob = caller_of(b, b->bob, 9, 0, 0);
	assert_true(limits_enter(b->limits, &alice, 0));
	assert_true(request(b, &bob, 0));
	assert_int_equal(limits_owners(b->limits), 3);
	limits_sweep(b->limits, 29 * (int64_t)MINUTE);
	assert_int_equal(limits_owners(b->limits), 3);
	limits_sweep(b->limits, 31 * (int64_t)MINUTE);
	assert_int_equal(limits_owners(b->limits), 1);
	limits_leave(b->limits, &alice);
	limits_sweep(b->limits, 100 * (int64_t)MINUTE);
	assert_int_equal(limits_owners(b->limits), 0);
}

static void a_restart_gives_nobody_a_full_bucket(void **state)
{
	struct bench *b = *state;
	struct caller alice = caller_of(b, b->alice, 30, 0, 0), bob = caller_of(b, b->bob, 0, 0, 0);
	struct store_levels rows[8];
	const int64_t wall_us = INT64_C(1700000000) * SECOND;
	assert_int_equal(requests(b, &alice, 5 * MINUTE, 500), 30);
	assert_int_equal(requests(b, &bob, 5 * MINUTE, 500), 120);
	size_t count = limits_changes(b->limits, 5 * MINUTE, wall_us, rows, 8);
	assert_int_equal(count, 3); /* two accounts and a key */
	assert_int_equal(limits_changes(b->limits, 5 * MINUTE, wall_us, rows, 8), 0);

	AWAIT_OK(&b->f, store_levels_save(b->f.store, rows, count, fixture_done, &b->f));
	assert_int_equal(fixture_number(&b->f, "SELECT count(*) FROM rate_levels"), 3);

	limits_free(b->limits);
	b->limits = limits_new(&defaults);
	/* The new process has a clock of its own, and started 2 s later. */
	limits_restore(b->limits, 1000, wall_us + 2 * SECOND, rows, count);
	assert_int_equal(requests(b, &alice, 1000, 500), 1);
	assert_int_equal(requests(b, &bob, 1000, 500), 40);
	assert_int_equal(requests(b, &alice, 1000 + 10 * SECOND, 500), 5);
}

static void levels_that_make_no_sense_are_passed_over(void **state)
{
	struct bench *b = *state;
	struct store_levels rows[] = {
	    {.owner = "x", .at_us = 5, .requests = 9},
	    {.owner = "", .at_us = 5, .requests = 9},
	    {.owner = "a:alice", .at_us = INT64_C(1) << 60, .requests = -9}, /* from the future, more than full */
	};
	struct caller alice = caller_of(b, b->alice, 0, 0, 0);
	limits_restore(b->limits, 0, SECOND, rows, 3);
	assert_int_equal(requests(b, &alice, 0, 500), 120);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_burst_passes_and_then_so_much_as_time_allows),
	    TEST(never_more_passes_than_burst_and_rate_allow),
	    TEST(accounts_do_not_take_from_each_other),
	    TEST(who_is_refused_by_one_bucket_has_lost_nothing_of_another),
	    TEST(a_request_that_is_given_back_counts_for_nothing),
	    TEST(the_key_s_own_limit_is_shown_when_it_is_the_tighter_one),
	    TEST(one_oversized_request_passes_on_a_full_bucket),
	    TEST(a_service_pays_for_expected_output_and_then_for_the_rest),
	    TEST(the_operator_has_no_limits),
	    TEST(financial_operations_have_a_bucket_of_their_own),
	    TEST(an_account_runs_so_many_requests_at_a_time),
	    TEST(the_idle_are_forgotten_and_the_running_are_not),
	    TEST(a_restart_gives_nobody_a_full_bucket),
	    TEST(levels_that_make_no_sense_are_passed_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
