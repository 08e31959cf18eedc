/* What accounts and everybody see, and the prices they set, on both back ends. */
#include "../store_fixture.h"

#include "coordinator/store/store_machines.h"
#include "coordinator/store/store_views.h"

#define HOUR_US INT64_C(3600000000)

struct told {
	struct fixture *f;
	char text[16384], more[4096];
	size_t rows;
	int64_t next_us, next_id, numbers[8];
};

static void on_view(const struct store_view_answer *answer, const struct error *error, void *user)
{
	struct told *told = user;
	if (answer) {
		assert_true(str_copy(answer->text, told->text, sizeof told->text));
		assert_true(str_copy(answer->more, told->more, sizeof told->more));
		told->rows = answer->rows;
		told->next_us = answer->next_us;
		told->next_id = answer->next_id;
		memcpy(told->numbers, answer->numbers, sizeof told->numbers);
	}
	fixture_answer(told->f, error);
}

static struct told *view(struct fixture *f, const struct store_view *view)
{
	static struct told told;
	told = (struct told){.f = f};
	AWAIT_OK(f, store_view(f->store, view, on_view, &told));
	return &told;
}

static int count(const char *text, const char *what)
{
	int found = 0;
	for (const char *at = text; (at = strstr(at, what)); at++)
		found++;
	return found;
}

/* Ten requests of the buyer's, an hour apart; the farmer serves seven, nobody's machine the others. */
static void start_town(struct fixture *f)
{
	make_account(f, "buyer", 100000);
	make_account(f, "farmer", 0);
	for (int i = 0; i < 10; i++) {
		char id[STORE_ID_SIZE];
		snprintf(id, sizeof id, "r%d", i);
		struct store_settlement s = settlement_of(id, "buyer", i < 7 ? "farmer" : "", 1000, 100);
		snprintf(s.model, sizeof s.model, "build-%d", i % 2);
		snprintf(s.key_id, sizeof s.key_id, "key_%d", i % 3);
		s.created_us = (i + 1) * HOUR_US;
		AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	}
}

static void usage_comes_in_pages_newest_first(void **state)
{
	struct fixture *f = *state;
	start_town(f);
	struct store_view page = {.kind = STORE_VIEW_USAGE, .account = "buyer", .limit = 4, .format = STORE_VIEW_JSON};
	size_t rows = 0, pages = 0;
	do {
		struct told *told = view(f, &page);
		if (pages == 0)
			assert_true(strstr(told->text, "\"r9\"") < strstr(told->text, "\"r8\""));
		rows += told->rows;
		page.cursor_us = told->next_us;
		page.cursor_id = told->next_id;
		assert_true(++pages < 9);
	} while (page.cursor_id);
	assert_int_equal(rows, 10);
	assert_int_equal(pages, 3);

	struct store_view some = {.kind = STORE_VIEW_USAGE, .account = "buyer", .limit = 100, .model = "build-1"};
	assert_int_equal(view(f, &some)->rows, 5);
	str_copy(STR("key_0"), some.key_id, sizeof some.key_id);
	assert_int_equal(view(f, &some)->rows, 2);
	struct store_view hours = {
	    .kind = STORE_VIEW_USAGE, .account = "buyer", .limit = 100, .from_us = 3 * HOUR_US, .to_us = 5 * HOUR_US};
	assert_int_equal(view(f, &hours)->rows, 2); /* [from, to) */
	str_copy(STR("farmer"), hours.account, sizeof hours.account);
	assert_int_equal(view(f, &hours)->rows, 0);
}

static void the_export_has_a_line_for_each_request(void **state)
{
	struct fixture *f = *state;
	start_town(f);
	struct store_view csv = {.kind = STORE_VIEW_USAGE, .account = "buyer", .limit = 100, .format = STORE_VIEW_CSV};
	struct told *told = view(f, &csv);
	assert_int_equal(count(told->text, "\r\n"), 10);
	assert_int_equal(count(told->text, ",1000,"), 10);
	csv.format = STORE_VIEW_JSON_LINES;
	assert_int_equal(count(view(f, &csv)->text, "\n"), 10);
}

static void earnings_are_the_providers(void **state)
{
	struct fixture *f = *state;
	start_town(f);
	struct store_view page = {.kind = STORE_VIEW_EARNINGS, .account = "farmer", .limit = 5};
	struct told *told = view(f, &page);
	assert_int_equal(told->rows, 5);
	assert_int_equal(told->numbers[0], 7 * 900);
	assert_int_equal(told->numbers[1], 7);
	page.cursor_id = told->next_id;
	told = view(f, &page);
	assert_int_equal(told->rows, 2);
	assert_int_equal(told->next_id, 0);
	str_copy(STR("buyer"), page.account, sizeof page.account);
	assert_int_equal(view(f, &page)->rows, 0);
}

static void leaders_and_totals_count_work_and_rewards_of_providers(void **state)
{
	struct fixture *f = *state;
	start_town(f);
	struct store_transfer gift = {.key = "g1",
	                              .type = "admin_reward",
	                              .from = STORE_ACCOUNT_GRANTS,
	                              .to = "farmer",
	                              .amount_uusd = 50,
	                              .withdrawable = true};
	AWAIT_OK(f, store_transfer(f->store, &gift, fixture_transferred, f));
	gift = (struct store_transfer){.key = "g2",
	                               .type = "admin_reward",
	                               .from = STORE_ACCOUNT_GRANTS,
	                               .to = "buyer",
	                               .amount_uusd = 70,
	                               .withdrawable = true};
	AWAIT_OK(f, store_transfer(f->store, &gift, fixture_transferred, f)); /* who provides nothing is no leader */
	for (enum store_metric metric = STORE_BY_EARNINGS; metric <= STORE_BY_JOBS; metric++) {
		struct store_view leaders = {
		    .kind = STORE_VIEW_LEADERS, .metric = metric, .limit = 10, .hours = metric == STORE_BY_JOBS ? 24 : 0};
		struct told *told = view(f, &leaders);
		assert_int_equal(told->rows, 1);
		assert_non_null(strstr(
		    told->text, "\"earnings_micro_usd\":6350,\"work_earnings_micro_usd\":6300,\"reward_earnings_micro_usd\":50"));
		assert_null(strstr(told->text, "farmer"));
	}
	struct store_view totals = {.kind = STORE_VIEW_TOTALS, .hours = 24};
	struct told *told = view(f, &totals);
	assert_int_equal(told->numbers[STORE_TOTAL_WORK], 6300);
	assert_int_equal(told->numbers[STORE_TOTAL_REWARDS], 50);
	assert_int_equal(told->numbers[STORE_TOTAL_ACCOUNTS], 1);
}

static void names_of_leaders_are_told_by_the_key_alone(void **state)
{
	(void)state;
	const uint8_t one[STORE_PSEUDONYM_KEY] = {1}, other[STORE_PSEUDONYM_KEY] = {2};
	char a[STORE_PSEUDONYM_SIZE], b[STORE_PSEUDONYM_SIZE];
	store_pseudonym(one, STR("acc_1"), a);
	store_pseudonym(one, STR("acc_1"), b);
	assert_string_equal(a, b);
	store_pseudonym(other, STR("acc_1"), b);
	assert_string_not_equal(a, b);
	store_pseudonym(one, STR("acc_2"), b);
	assert_string_not_equal(a, b);
	store_pseudonym(one, STR(""), b);
	assert_string_equal(b, "anon");
}

static void a_statement_adds_up(void **state)
{
	struct fixture *f = *state;
	start_town(f);
	struct store_view day = {.kind = STORE_VIEW_STATEMENT, .account = "buyer", .from_us = 0, .to_us = 24 * HOUR_US};
	struct told *told = view(f, &day);
	assert_int_equal(told->numbers[1] - told->numbers[0], -10000);
	assert_non_null(strstr(told->text, "{\"type\":\"charge\",\"count\":10,\"amount_micro_usd\":-10000}"));
	assert_int_equal(count(told->more, "\"requests\":5"), 2);
	day.from_us = 24 * HOUR_US;
	day.to_us = INT64_MAX;
	told = view(f, &day); /* since then: the credit, and nothing charged */
	assert_int_equal(told->numbers[1], balance_of(f, "buyer"));
	assert_null(strstr(told->text, "charge"));
	assert_non_null(strstr(told->text, "{\"type\":\"admin_credit\",\"count\":1,\"amount_micro_usd\":100000}"));
}

static void prices_are_set_replaced_and_deleted(void **state)
{
	struct fixture *f = *state;
	make_account(f, "farmer", 0);
	struct store_price price = {.account_id = "farmer", .model = "build", .input = 1, .output = INT64_MAX / 2, .cached = 0};
	AWAIT_OK(f, store_price_set(f->store, &price, fixture_done, f));
	price.input = 7;
	price.cached = 3;
	AWAIT_OK(f, store_price_set(f->store, &price, fixture_done, f));
	AWAIT_OK(f, store_prices_list(f->store, fixture_prices, f));
	assert_int_equal(f->count, 1);
	assert_int_equal(f->prices[0].input, 7);
	assert_int_equal(f->prices[0].output, INT64_MAX / 2);
	assert_int_equal(f->prices[0].cached, 3);
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_price_delete(f->store, STR("farmer"), STR("other"), fixture_done, f));
	AWAIT_OK(f, store_price_delete(f->store, STR("farmer"), STR("build"), fixture_done, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_price_delete(f->store, STR("farmer"), STR("build"), fixture_done, f));
	AWAIT_OK(f, store_prices_list(f->store, fixture_prices, f));
	assert_int_equal(f->count, 0);
	str_copy(STR("nobody"), price.account_id, sizeof price.account_id);
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_price_set(f->store, &price, fixture_done, f));
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM audit_trail WHERE action = 'price.set'"), 2);
}

struct seen {
	struct fixture *f;
	size_t count;
	char key[STORE_MODEL_SIZE];
	int64_t registered_us, seen_us;
};

static void on_machines(const struct store_machine *machines, size_t count_, const struct error *error, void *user)
{
	struct seen *seen = user;
	seen->count = count_;
	if (count_ > 0) {
		memcpy(seen->key, machines[0].key, sizeof seen->key);
		seen->registered_us = machines[0].registered_us;
		seen->seen_us = machines[0].seen_us;
	}
	fixture_answer(seen->f, error);
}

static void machines_are_remembered_by_their_account(void **state)
{
	struct fixture *f = *state;
	struct seen seen = {.f = f};
	make_account(f, "ann", 0);
	make_account(f, "bob", 0);
	for (int i = 0; i < 3; i++) {
		struct store_machine machine = {
		    .account_id = "ann", .registered_us = 1000 + i, .seen_us = 2000 + i, .facts = STR("{}")};
		snprintf(machine.key, sizeof machine.key, "serial-%d", i % 2);
		snprintf(machine.provider_id, sizeof machine.provider_id, "connection-%d", i);
		store_machine_put(f->store, &machine);
	}
	AWAIT_OK(f, store_machines_list(f->store, STR("ann"), on_machines, &seen));
	assert_int_equal(seen.count, 2);
	assert_string_equal(seen.key, "serial-0");
	assert_int_equal(seen.registered_us, 1000);
	assert_int_equal(seen.seen_us, 2002);
	AWAIT_ERROR(f, DB_E_DENIED, store_machine_forget(f->store, STR("bob"), STR("serial-0"), fixture_done, f));
	AWAIT_OK(f, store_machine_forget(f->store, STR("ann"), STR("connection-2"), fixture_done, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_machine_forget(f->store, STR("ann"), STR("serial-0"), fixture_done, f));
	AWAIT_OK(f, store_machines_list(f->store, STR("ann"), on_machines, &seen));
	assert_int_equal(seen.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)
	    TEST(usage_comes_in_pages_newest_first),
	    TEST(the_export_has_a_line_for_each_request),
	    TEST(earnings_are_the_providers),
	    TEST(leaders_and_totals_count_work_and_rewards_of_providers),
	    TEST(names_of_leaders_are_told_by_the_key_alone),
	    TEST(a_statement_adds_up),
	    TEST(prices_are_set_replaced_and_deleted),
	    TEST(machines_are_remembered_by_their_account),
	};
	return RUN_ON_BOTH(tests);
}
