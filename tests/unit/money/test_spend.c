#include "../store_fixture.h"

#include "coordinator/money/ledger.h"
#include "core/clock.h"

static int64_t day_of(const char *date)
{
	char text[32];
	int64_t wall_us;
	snprintf(text, sizeof text, "%sT12:00:00Z", date);
	assert_int_equal(clock_parse_rfc3339(str_of(text), &wall_us), DB_OK);
	return clock_day(wall_us);
}

static void weeks_begin_on_mondays_and_months_on_the_first(void **state)
{
	(void)state;
	assert_int_equal(clock_week_start(day_of("2026-11-22")), day_of("2026-11-16")); /* a Sunday */
	assert_int_equal(clock_week_start(day_of("2026-11-23")), day_of("2026-11-23")); /* a Monday */
	assert_int_equal(clock_month_start(day_of("2024-02-29")), day_of("2024-02-01"));
	assert_int_equal(clock_month_start(day_of("2024-03-01")), day_of("2024-03-01"));
	assert_int_equal(clock_month_start(day_of("2100-03-01")) - 1, day_of("2100-02-28"));
	assert_int_equal(clock_week_start(day_of("2027-01-01")), day_of("2026-12-28"));
	assert_int_equal(clock_day(-1), -1);
	assert_int_equal(clock_day(0), 0);
	assert_int_equal(clock_day(INT64_C(86400000000) - 1), 0);
	assert_int_equal(clock_day(INT64_C(86400000000)), 1);
}

static void each_window_begins_anew_at_its_border(void **state)
{
	(void)state;
	struct store_spend spend = {.day = day_of("2026-10-31")}; /* a Saturday, the last of its month */
	spend_add(&spend, day_of("2026-10-31"), 100);
	spend_add(&spend, day_of("2026-11-01"), 10); /* another month, the same week */
	assert_int_equal(spend_in(&spend, STORE_WINDOW_DAY), 10);
	assert_int_equal(spend_in(&spend, STORE_WINDOW_WEEK), 110);
	assert_int_equal(spend_in(&spend, STORE_WINDOW_MONTH), 10);
	assert_int_equal(spend_in(&spend, STORE_WINDOW_NEVER), 110);
	spend_roll(&spend, day_of("2026-11-02")); /* a Monday */
	assert_int_equal(spend_in(&spend, STORE_WINDOW_DAY), 0);
	assert_int_equal(spend_in(&spend, STORE_WINDOW_WEEK), 0);
	assert_int_equal(spend_in(&spend, STORE_WINDOW_MONTH), 10);
	spend_roll(&spend, day_of("2026-10-01")); /* a clock that went back */
	assert_int_equal(spend_in(&spend, STORE_WINDOW_MONTH), 10);
	spend_add(&spend, day_of("2027-11-01"), 1); /* a year later, the same day of the calendar */
	assert_int_equal(spend_in(&spend, STORE_WINDOW_MONTH), 1);
	assert_int_equal(spend_in(&spend, STORE_WINDOW_NEVER), 111);
}

static void what_is_on_hold_leaves_less_room(void **state)
{
	(void)state;
	int64_t day = day_of("2026-11-22");
	struct spend_group group = {.limited = true, .limit_uusd = 100, .window = STORE_WINDOW_DAY, .spent = {.day = day}};
	assert_int_equal(spend_room(&group, day), 100);
	group.held = 60;
	spend_add(&group.spent, day, 30);
	assert_int_equal(spend_room(&group, day), 10);
	group.held = 90;
	assert_int_equal(spend_room(&group, day), 0);
	assert_int_equal(spend_room(&group, day + 1), 10); /* what runs over midnight counts for the new day */
	group.limit_uusd = 0;
	assert_int_equal(spend_room(&group, day + 1), 0);
	group.limited = false;
	assert_true(spend_room(&group, day + 1) == INT64_MAX);
}

/* --- the ledger under a limit --- */

struct books {
	struct fixture f;
	struct ledger *ledger;
	struct ledger_account *account;
	struct spend_group *group;
};

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	struct books *b = user;
	b->account = account;
	fixture_answer(&b->f, error);
}

static struct store_key key_of(int64_t limit)
{
	return (struct store_key){.id = "key_1",
	                          .account_id = "acme",
	                          .hash_hex = "aa",
	                          .limit_group = "key_1",
	                          .scopes = 1,
	                          .limited = true,
	                          .limit_uusd = limit,
	                          .limit_reset = STORE_WINDOW_MONTH};
}

static int start(void **state)
{
	struct books *b = calloc(1, sizeof *b);
	assert_non_null(b);
	fixture_folder(&b->f);
	fixture_open(&b->f);
	b->ledger = ledger_new(b->f.store);
	struct store_key key = key_of(1000);
	make_account(&b->f, "acme", 1000000);
	AWAIT_OK(&b->f, store_key_create(b->f.store, &key, fixture_done, &b->f));
	AWAIT_OK(&b->f, ledger_account_load(b->ledger, STR("acme"), on_loaded, b));
	AWAIT_OK(&b->f, store_key_get(b->f.store, STR("key_1"), fixture_key, &b->f));
	b->group = ledger_spend_group(b->ledger, &b->f.key);
	assert_non_null(b->group);
	*state = b;
	return 0;
}

static int stop(void **state)
{
	struct books *b = *state;
	fixture_close_store(&b->f);
	ledger_free(b->ledger);
	fixture_close(&b->f);
	fixture_remove(&b->f);
	free(b);
	return 0;
}

static enum db_err hold(struct books *b, const char *id, int64_t amount, struct ledger_hold **out)
{
	struct ledger_hold_options options = {.request_id = str_of(id),
	                                      .key_id = STR("key_1"),
	                                      .group = b->group,
	                                      .amount_uusd = amount,
	                                      .price = {1000000, 1000000, 0}};
	return ledger_hold(b->ledger, b->account, &options, out);
}

/* 1 micro-dollar a token */
static int64_t settle(struct ledger_hold *hold, uint64_t tokens)
{
	struct ledger_usage usage = {
	    .price = {1000000, 1000000, 0}, .completion_tokens = tokens, .outcome = "success", .model = STR("m")};
	return ledger_settle(hold, &usage);
}

static void a_limit_counts_holds_and_is_never_overshot(void **state)
{
	struct books *b = *state;
	struct ledger_hold *first, *second, *third;
	assert_int_equal(hold(b, "r1", 600, &first), DB_OK);
	assert_int_equal(hold(b, "r2", 600, &second), DB_E_LIMIT);
	assert_int_equal(hold(b, "r2", 400, &second), DB_OK);
	assert_int_equal(hold(b, "r3", 1, &third), DB_E_LIMIT);
	assert_int_equal(ledger_hold_raise(first, 601), DB_E_LIMIT);
	assert_int_equal(ledger_hold_amount(first), 600);
	assert_int_equal(settle(first, 5000), 600); /* twice the hold would be allowed, the limit leaves none of it */
	ledger_release(second, "test");
	assert_int_equal(hold(b, "r4", 401, &third), DB_E_LIMIT);
	assert_int_equal(hold(b, "r4", 400, &third), DB_OK);
	assert_int_equal(settle(third, 150), 150);
	assert_int_equal(spend_in(&b->group->spent, STORE_WINDOW_MONTH), 750);
	assert_int_equal(b->group->held, 0);

	fixture_flush(&b->f);
	assert_int_equal(fixture_number(&b->f, "SELECT sum(spent) FROM key_spend WHERE limit_group = 'key_1'"), 750);
	AWAIT_OK(&b->f, store_key_get(b->f.store, STR("key_1"), fixture_key, &b->f));
	assert_int_equal(b->f.key.spend.month, 750);
	assert_int_equal(b->f.key.spend.total, 750);
	assert_books_right(&b->f);
}

static void a_rotated_key_goes_on_under_the_same_limit(void **state)
{
	struct books *b = *state;
	struct ledger_hold *first;
	assert_int_equal(hold(b, "r1", 900, &first), DB_OK);
	assert_int_equal(settle(first, 900), 900);
	struct store_key fresh = {.id = "key_2", .hash_hex = "bb", .label = "l", .created_us = 9};
	AWAIT_OK(&b->f, store_key_rotate(b->f.store, STR("key_1"), &fresh, fixture_done, &b->f));
	AWAIT_OK(&b->f, store_key_get(b->f.store, STR("key_1"), fixture_key, &b->f));
	assert_false(b->f.found);
	AWAIT_OK(&b->f, store_key_find(b->f.store, STR("bb"), fixture_key, &b->f));
	assert_string_equal(b->f.key.id, "key_2");
	assert_string_equal(b->f.key.limit_group, "key_1");
	assert_int_equal(b->f.key.limit_uusd, 1000);
	assert_int_equal(b->f.key.spend.month, 900);
	assert_ptr_equal(ledger_spend_group(b->ledger, &b->f.key), b->group);
	assert_int_equal(hold(b, "r2", 101, &first), DB_E_LIMIT);

	/* Nor does a restart forget it. */
	fixture_close_store(&b->f);
	ledger_free(b->ledger);
	fixture_close(&b->f);
	fixture_open(&b->f);
	b->ledger = ledger_new(b->f.store);
	AWAIT_OK(&b->f, ledger_account_load(b->ledger, STR("acme"), on_loaded, b));
	AWAIT_OK(&b->f, store_key_find(b->f.store, STR("bb"), fixture_key, &b->f));
	b->group = ledger_spend_group(b->ledger, &b->f.key);
	assert_int_equal(hold(b, "r3", 101, &first), DB_E_LIMIT);
	assert_int_equal(hold(b, "r3", 100, &first), DB_OK);
	ledger_release(first, "test");
}

static void a_limit_of_nothing_refuses_all_that_costs(void **state)
{
	struct books *b = *state;
	struct ledger_hold *first;
	b->group->limit_uusd = 0;
	assert_int_equal(hold(b, "r1", 1, &first), DB_E_LIMIT);
	assert_int_equal(hold(b, "r1", 0, &first), DB_OK);
	ledger_release(first, "test");
}

static void an_update_changes_what_it_names_and_nothing_else(void **state)
{
	struct books *b = *state;
	struct store_key change = {.id = "key_1", .name = "new", .rpm = 7, .disabled = true};
	AWAIT_OK(&b->f, store_key_update(b->f.store, &change, STORE_KEY_NAME | STORE_KEY_RPM, fixture_done, &b->f));
	AWAIT_OK(&b->f, store_key_get(b->f.store, STR("key_1"), fixture_key, &b->f));
	assert_string_equal(b->f.key.name, "new");
	assert_int_equal(b->f.key.rpm, 7);
	assert_false(b->f.key.disabled);
	assert_true(b->f.key.limited);
	assert_int_equal(b->f.key.limit_uusd, 1000);
	AWAIT_OK(&b->f, store_key_update(b->f.store, &change, STORE_KEY_LIMIT | STORE_KEY_DISABLED, fixture_done, &b->f));
	AWAIT_OK(&b->f, store_key_get(b->f.store, STR("key_1"), fixture_key, &b->f));
	assert_false(b->f.key.limited);
	assert_true(b->f.key.disabled);
	AWAIT_OK(&b->f, store_key_delete(b->f.store, STR("key_1"), fixture_done, &b->f));
	AWAIT_ERROR(&b->f, DB_E_NOT_FOUND, store_key_delete(b->f.store, STR("key_1"), fixture_done, &b->f));
	AWAIT_ERROR(&b->f, DB_E_NOT_FOUND, store_key_update(b->f.store, &change, STORE_KEY_NAME, fixture_done, &b->f));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(weeks_begin_on_mondays_and_months_on_the_first),
	    cmocka_unit_test(each_window_begins_anew_at_its_border),
	    cmocka_unit_test(what_is_on_hold_leaves_less_room),
	    TEST(a_limit_counts_holds_and_is_never_overshot),
	    TEST(a_rotated_key_goes_on_under_the_same_limit),
	    TEST(a_limit_of_nothing_refuses_all_that_costs),
	    TEST(an_update_changes_what_it_names_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
