#include "../store_fixture.h"

#include <signal.h>
#include <sys/resource.h>

#include "coordinator/money/ledger.h"
#include "core/id.h"

struct bench {
	struct fixture f;
	struct ledger *ledger;
	struct ledger_account *buyer, *farmer;
};

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	void **slot = user;
	(void)error;
	*slot = account;
}

/* The account, read from the store when it is not in memory. */
static struct ledger_account *load(struct bench *b, const char *id)
{
	struct ledger_account *account = NULL;
	ledger_account_load(b->ledger, str_of(id), on_loaded, &account);
	fixture_flush(&b->f);
	return account;
}

static int start(void **state)
{
	struct bench *b = calloc(1, sizeof *b);
	assert_non_null(b);
	fixture_folder(&b->f);
	fixture_open(&b->f);
	make_account(&b->f, "buyer", 10000);
	make_account(&b->f, "farmer", 0);
	b->ledger = ledger_new(b->f.store);
	assert_non_null(b->ledger);
	b->buyer = load(b, "buyer");
	assert_non_null(b->buyer);
	*state = b;
	return 0;
}

static int stop(void **state)
{
	struct bench *b = *state;
	fixture_close_store(&b->f);
	ledger_free(b->ledger);
	fixture_close(&b->f);
	fixture_remove(&b->f);
	free(b);
	return 0;
}

static enum db_err take(struct bench *b, struct ledger_account *account, const char *id, int64_t amount,
                        struct ledger_hold **hold)
{
	struct ledger_hold_options options = {
	    .request_id = str_of(id), .key_id = STR("key_1"), .amount_uusd = amount, .price = {1000000, 1000000, 0}};
	return ledger_hold(b->ledger, account, &options, hold);
}

/* At one micro-dollar a token the cost is the number of tokens. */
static int64_t settle(struct ledger_hold *hold, uint64_t cost, const char *provider)
{
	struct ledger_usage usage = {.provider_account = str_of(provider),
	                             .provider_id = STR("session"),
	                             .provider_key = STR("machine"),
	                             .model = STR("build"),
	                             .public_model = STR("alias"),
	                             .price = {1000000, 1000000, 0},
	                             .completion_tokens = cost,
	                             .fee_percent = 10,
	                             .outcome = "success"};
	return ledger_settle(hold, &usage);
}

/* --- accounts --- */

static void an_account_is_in_memory_after_loading(void **state)
{
	struct bench *b = *state;
	assert_string_equal(ledger_account_id(b->buyer), "buyer");
	assert_int_equal(ledger_available(b->buyer), 10000);
	assert_int_equal(ledger_balance(b->buyer), 10000);
	assert_int_equal(ledger_withdrawable(b->buyer), 0);
	assert_false(ledger_account_is_service(b->buyer));
	assert_int_equal(ledger_account_fee_percent(b->buyer), LEDGER_FEE_PERCENT_DEFAULT);
	assert_ptr_equal(ledger_account_find(b->ledger, STR("buyer")), b->buyer);
	assert_null(ledger_account_find(b->ledger, STR("farmer")));

	struct ledger_account *again = NULL;
	ledger_account_load(b->ledger, STR("buyer"), on_loaded, &again);
	assert_ptr_equal(again, b->buyer); /* at once */
	assert_null(load(b, "nobody"));
	assert_null(load(b, "nobody"));
}

static void role_and_fee_come_from_the_store(void **state)
{
	struct bench *b = *state;
	struct store_account row = {.id = "reseller", .role = STORE_ROLE_SERVICE, .fee_percent = 12};
	AWAIT_OK(&b->f, store_account_create(b->f.store, &row, fixture_done, &b->f));
	struct ledger_account *account = load(b, "reseller");
	assert_true(ledger_account_is_service(account));
	assert_int_equal(ledger_account_fee_percent(account), 12);
}

static void everybody_who_waits_for_a_load_is_called(void **state)
{
	struct bench *b = *state;
	struct ledger_account *seen[5] = {0};
	for (size_t i = 0; i < 5; i++)
		ledger_account_load(b->ledger, STR("farmer"), on_loaded, &seen[i]);
	assert_null(seen[0]);
	fixture_flush(&b->f);
	for (size_t i = 0; i < 5; i++)
		assert_ptr_equal(seen[i], ledger_account_find(b->ledger, STR("farmer")));
}

static void a_load_that_races_payouts_is_exact(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *holds[9];
	struct ledger_account *farmer = NULL;
	for (size_t i = 0; i < 9; i++) {
		char id[8];
		snprintf(id, sizeof id, "r%zu", i);
		assert_int_equal(take(b, b->buyer, id, 100, &holds[i]), DB_OK);
	}
	for (size_t i = 0; i < 9; i++) {
		if (i == 3)
			ledger_account_load(b->ledger, STR("farmer"), on_loaded, &farmer);
		settle(holds[i], 100, "farmer");
		if (i == 6)
			fixture_flush(&b->f); /* the load's answer comes here; two more payouts follow */
	}
	assert_non_null(farmer);
	assert_int_equal(ledger_balance(farmer), 9 * 90);
	assert_int_equal(ledger_withdrawable(farmer), 9 * 90);
	assert_int_equal(balance_of(&b->f, "farmer"), 9 * 90);
}

/* --- holds --- */

static void a_hold_takes_from_what_is_available(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *first, *second, *none = NULL;
	assert_int_equal(take(b, b->buyer, "r1", 6000, &first), DB_OK);
	assert_int_equal(ledger_available(b->buyer), 4000);
	assert_int_equal(ledger_balance(b->buyer), 10000);
	assert_int_equal(ledger_hold_amount(first), 6000);
	assert_int_equal(take(b, b->buyer, "r2", 4001, &none), DB_E_FUNDS);
	assert_int_equal(take(b, b->buyer, "r2", 4000, &second), DB_OK);
	assert_int_equal(ledger_available(b->buyer), 0);
	assert_int_equal(take(b, b->buyer, "r3", 1, &none), DB_E_FUNDS);
	assert_int_equal(take(b, b->buyer, "r3", 0, &none), DB_OK);
	assert_int_equal(ledger_open_holds(b->ledger), 3);
	ledger_release(first, "provider_error");
	assert_int_equal(ledger_available(b->buyer), 6000);
	ledger_release(second, "client_gone");
	ledger_release(none, "client_gone");
	assert_int_equal(ledger_available(b->buyer), 10000);
	assert_int_equal(ledger_open_holds(b->ledger), 0);
	fixture_flush(&b->f);
	assert_int_equal(balance_of(&b->f, "buyer"), 10000);
	assert_int_equal(fixture_number(&b->f, "SELECT count(*) FROM holds WHERE state = 'released'"), 3);
}

static void a_request_holds_once(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *hold, *other;
	char endless[STORE_ID_SIZE + 1];
	memset(endless, 'x', sizeof endless);
	endless[STORE_ID_SIZE] = '\0';
	assert_int_equal(take(b, b->buyer, "r1", 100, &hold), DB_OK);
	assert_int_equal(take(b, b->buyer, "r1", 100, &other), DB_E_EXISTS);
	assert_int_equal(take(b, b->buyer, "r2", -1, &other), DB_E_RANGE);
	assert_int_equal(take(b, b->buyer, "", 1, &other), DB_E_INVALID);
	assert_int_equal(take(b, b->buyer, endless, 1, &other), DB_E_INVALID);
	assert_int_equal(ledger_available(b->buyer), 9900);
	ledger_release(hold, "provider_error");
}

static void a_hold_is_raised_while_there_is_money(void **state)
{
	struct bench *b = *state;
	struct ledger_hold *hold, *other;
	assert_int_equal(take(b, b->buyer, "r1", 1000, &hold), DB_OK);
	assert_int_equal(take(b, b->buyer, "r2", 5000, &other), DB_OK);
	assert_int_equal(ledger_hold_raise(hold, 500), DB_OK);
	assert_int_equal(ledger_hold_amount(hold), 1000);
	assert_int_equal(ledger_hold_raise(hold, 5001), DB_E_FUNDS);
	assert_int_equal(ledger_hold_amount(hold), 1000);
	assert_int_equal(ledger_hold_raise(hold, 5000), DB_OK);
	assert_int_equal(ledger_available(b->buyer), 0);
	assert_int_equal(settle(hold, 4000, "farmer"), 4000);
	assert_int_equal(ledger_available(b->buyer), 1000);
	ledger_release(other, "provider_error");
	fixture_flush(&b->f);
	assert_int_equal(fixture_number(&b->f, "SELECT amount FROM holds WHERE request_id = 'r1'"), 5000);
	assert_books_right(&b->f);
}

/* --- settlement (billing 4.4) --- */

static void a_settlement_charges_by_the_rule(void **state)
{
	static const struct {
		int64_t hold;
		uint64_t cost;
		int64_t other_hold, charged;
	} rows[] = {
	    {1000, 1000, 0, 1000},    /* cost == hold */
	    {1000, 400, 0, 400},      /* less: the rest is free again */
	    {1000, 1500, 0, 1500},    /* more */
	    {1000, 2000, 0, 2000},    /* twice */
	    {1000, 2001, 0, 2000},    /* never more than twice */
	    {1000, 99999, 0, 2000},   /* */
	    {1000, 1500, 8800, 1200}, /* more than there is beyond what others hold */
	    {1000, 1500, 9000, 1000}, /* nothing beyond the hold */
	    {0, 500, 0, 0},           /* nothing held, nothing charged */
	    {1000, 0, 0, 100},        /* the minimum */
	};
	struct bench *b = *state;
	int64_t balance = 10000, farmer = 0;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct ledger_hold *hold, *other;
		char id[8], other_id[8];
		snprintf(id, sizeof id, "r%zu", i);
		snprintf(other_id, sizeof other_id, "o%zu", i);
		assert_int_equal(take(b, b->buyer, id, rows[i].hold, &hold), DB_OK);
		assert_int_equal(take(b, b->buyer, other_id, rows[i].other_hold, &other), DB_OK);
		assert_int_equal(settle(hold, rows[i].cost, "farmer"), rows[i].charged);
		balance -= rows[i].charged;
		farmer += rows[i].charged - rows[i].charged / 10;
		assert_int_equal(ledger_balance(b->buyer), balance);
		assert_int_equal(ledger_available(b->buyer), balance - rows[i].other_hold);
		ledger_release(other, "provider_error");
		assert_int_equal(balance_of(&b->f, "buyer"), balance);
		assert_int_equal(balance_of(&b->f, "farmer"), farmer);

		struct store_transfer refill = {.type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer"};
		memcpy(refill.key, id, sizeof id);
		refill.amount_uusd = 10000 - balance;
		if (refill.amount_uusd)
			AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(b->ledger, &refill, fixture_transferred, &b->f), DB_OK));
		balance = 10000;
		assert_int_equal(ledger_balance(b->buyer), 10000);
	}
	assert_books_right(&b->f);
}

static void a_service_account_pays_the_exact_formula(void **state)
{
	struct bench *b = *state;
	struct store_account row = {.id = "reseller", .role = STORE_ROLE_SERVICE, .fee_percent = -1};
	AWAIT_OK(&b->f, store_account_create(b->f.store, &row, fixture_done, &b->f));
	struct ledger_account *account = load(b, "reseller");
	struct store_transfer grant = {
	    .key = "k", .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "reseller", .amount_uusd = 1000};
	AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(b->ledger, &grant, fixture_transferred, &b->f), DB_OK));
	struct ledger_hold *hold;
	assert_int_equal(take(b, account, "r1", 50, &hold), DB_OK);
	assert_int_equal(settle(hold, 7, "farmer"), 7);
	assert_int_equal(take(b, account, "r2", 50, &hold), DB_OK);
	assert_int_equal(settle(hold, 0, "farmer"), 0);
	assert_int_equal(ledger_balance(account), 993);
	assert_int_equal(balance_of(&b->f, "reseller"), 993);
	assert_books_right(&b->f);
}

static void a_hold_that_is_released_leaves_withdrawable_alone(void **state)
{
	struct bench *b = *state;
	struct store_transfer reward = {.key = "reward",
	                                .type = "admin_reward",
	                                .from = STORE_ACCOUNT_GRANTS,
	                                .to = "farmer",
	                                .amount_uusd = 1000,
	                                .withdrawable = true};
	AWAIT_OK(&b->f, store_transfer(b->f.store, &reward, fixture_transferred, &b->f));
	struct ledger_account *farmer = load(b, "farmer");
	struct ledger_hold *hold;
	assert_int_equal(ledger_withdrawable(farmer), 1000);
	assert_int_equal(take(b, farmer, "r1", 500, &hold), DB_OK);
	ledger_release(hold, "provider_error");
	assert_int_equal(ledger_withdrawable(farmer), 1000);
	assert_int_equal(take(b, farmer, "r2", 500, &hold), DB_OK);
	assert_int_equal(settle(hold, 200, ""), 200);
	assert_int_equal(ledger_withdrawable(farmer), 800);
	assert_int_equal(withdrawable_of(&b->f, "farmer"), 800);
}

static void memory_and_store_agree_when_a_provider_consumes_its_own(void **state)
{
	struct bench *b = *state;
	struct ledger_account *platform = load(b, STORE_ACCOUNT_PLATFORM);
	struct ledger_hold *hold;
	assert_int_equal(take(b, b->buyer, "r1", 1000, &hold), DB_OK);
	assert_int_equal(settle(hold, 1000, "buyer"), 1000);
	assert_int_equal(ledger_balance(b->buyer), 9900);
	assert_int_equal(ledger_withdrawable(b->buyer), 900);
	assert_int_equal(ledger_balance(platform), 100);
	assert_int_equal(take(b, b->buyer, "r2", 1000, &hold), DB_OK);
	assert_int_equal(settle(hold, 1000, ""), 1000);
	assert_int_equal(ledger_balance(platform), 1100);
	assert_int_equal(balance_of(&b->f, "buyer"), ledger_balance(b->buyer));
	assert_int_equal(withdrawable_of(&b->f, "buyer"), ledger_withdrawable(b->buyer));
	assert_int_equal(balance_of(&b->f, STORE_ACCOUNT_PLATFORM), 1100);
	assert_books_right(&b->f);
}

/* --- transfers --- */

static void a_transfer_counts_once_and_when_it_is_durable(void **state)
{
	struct bench *b = *state;
	struct store_transfer grant = {
	    .key = "k", .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 500};
	assert_int_equal(ledger_transfer(b->ledger, &grant, NULL, NULL), DB_OK);
	assert_int_equal(ledger_balance(b->buyer), 10000);
	fixture_flush(&b->f);
	assert_int_equal(ledger_balance(b->buyer), 10500);
	AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(b->ledger, &grant, fixture_transferred, &b->f), DB_OK));
	assert_false(b->f.applied);
	assert_int_equal(ledger_balance(b->buyer), 10500);
	assert_int_equal(balance_of(&b->f, "buyer"), 10500);
}

static void a_transfer_away_is_out_of_reach_of_requests(void **state)
{
	struct bench *b = *state;
	struct store_transfer away = {.key = "k", .type = "stripe_payout", .from = "buyer", .to = "farmer", .amount_uusd = 9000};
	struct ledger_hold *hold;
	assert_int_equal(take(b, b->buyer, "r1", 1001, &hold), DB_OK);
	assert_int_equal(ledger_transfer(b->ledger, &away, NULL, NULL), DB_E_FUNDS);
	ledger_release(hold, "provider_error");
	assert_int_equal(ledger_transfer(b->ledger, &away, NULL, NULL), DB_OK);
	assert_int_equal(ledger_available(b->buyer), 1000);
	assert_int_equal(take(b, b->buyer, "r2", 1001, &hold), DB_E_FUNDS);
	fixture_flush(&b->f);
	assert_int_equal(ledger_balance(b->buyer), 1000);
	assert_int_equal(ledger_available(b->buyer), 1000);

	away.withdrawable = true; /* none of it is: the store refuses, and the money is back */
	memcpy(away.key, "k2", 3);
	away.amount_uusd = 10;
	AWAIT_ERROR(&b->f, DB_E_FUNDS, assert_int_equal(ledger_transfer(b->ledger, &away, fixture_transferred, &b->f), DB_OK));
	assert_int_equal(ledger_available(b->buyer), 1000);
	assert_int_equal(balance_of(&b->f, "farmer"), 9000);
	assert_books_right(&b->f);
}

/* --- prices --- */

static void set_price(struct bench *b, const char *account, const char *model, int64_t input, int64_t output)
{
	struct store_price price = {.input = input, .output = output};
	str_copy(str_of(account), price.account_id, sizeof price.account_id);
	str_copy(str_of(model), price.model, sizeof price.model);
	AWAIT_OK(&b->f, store_price_set(b->f.store, &price, fixture_done, &b->f));
}

static void prices_resolve_in_order(void **state)
{
	struct bench *b = *state;
	struct price price = ledger_price(b->ledger, STR("farmer"), STR("m1"), false);
	assert_int_equal(price.input, PRICE_FALLBACK_INPUT);
	assert_int_equal(price.output, PRICE_FALLBACK_OUTPUT);

	set_price(b, STORE_ACCOUNT_PLATFORM, "m1", 10, 20);
	set_price(b, "farmer", "m1", 30, 40);
	set_price(b, "farmer", "m2", 50, 60);
	AWAIT_OK(&b->f, ledger_prices_load(b->ledger, fixture_done, &b->f));
	assert_int_equal(ledger_price(b->ledger, STR("farmer"), STR("m1"), false).input, 30);
	assert_int_equal(ledger_price(b->ledger, STR("farmer"), STR("m1"), false).output, 40);
	assert_int_equal(ledger_price(b->ledger, STR("farmer"), STR("m1"), true).input, 10);
	assert_int_equal(ledger_price(b->ledger, STR_NONE, STR("m1"), false).input, 10);
	assert_int_equal(ledger_price(b->ledger, STR("buyer"), STR("m1"), false).input, 10);
	assert_int_equal(ledger_price(b->ledger, STR("farmer"), STR("m2"), false).input, 50);
	assert_int_equal(ledger_price(b->ledger, STR("farmer"), STR("m2"), true).input, PRICE_FALLBACK_INPUT);
	assert_int_equal(ledger_price(b->ledger, STR("farm"), STR("erm1"), false).input, PRICE_FALLBACK_INPUT);

	set_price(b, STORE_ACCOUNT_PLATFORM, "m1", 11, 20);
	AWAIT_OK(&b->f, ledger_prices_load(b->ledger, fixture_done, &b->f));
	assert_int_equal(ledger_price(b->ledger, STR_NONE, STR("m1"), false).input, 11);

	char endless[1000];
	memset(endless, 'x', sizeof endless);
	struct str name = {endless, sizeof endless};
	assert_int_equal(ledger_price(b->ledger, name, name, false).input, PRICE_FALLBACK_INPUT);
}

static void prices_that_cannot_be_read_leave_those_that_hold_and_bill_no_fallback(void **state)
{
	struct bench *b = *state;
	set_price(b, STORE_ACCOUNT_PLATFORM, "m1", 10, 20);
	set_price(b, "farmer", "m1", 30, 40);
	AWAIT_OK(&b->f, ledger_prices_load(b->ledger, fixture_done, &b->f));
	set_price(b, "farmer", "m1", 31, 41);
	fixture_sql(&b->f, "ALTER TABLE prices RENAME TO prices_hidden");
	AWAIT(&b->f, ledger_prices_load(b->ledger, fixture_done, &b->f));
	assert_true(b->f.failed); /* whoever asked hears of it */
	assert_int_equal(ledger_price(b->ledger, STR("farmer"), STR("m1"), false).input, 30);
	assert_int_equal(ledger_price(b->ledger, STR_NONE, STR("m1"), false).input, 10);
	fixture_sql(&b->f, "ALTER TABLE prices_hidden RENAME TO prices");
	AWAIT_OK(&b->f, ledger_prices_load(b->ledger, fixture_done, &b->f));
	assert_int_equal(ledger_price(b->ledger, STR("farmer"), STR("m1"), false).input, 31);
}

/* --- a store that failed --- */

static void no_money_moves_when_the_store_failed(void **state)
{
	struct bench *b = *state;
	struct rlimit limit;
	struct ledger_hold *open, *hold;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(take(b, b->buyer, "open", 10, &open), DB_OK);
	fixture_flush(&b->f);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, limit.rlim_max}), 0);
	assert_int_equal(take(b, b->buyer, "lost", 10, &hold), DB_OK);
	AWAIT_ERROR(&b->f, DB_E_IO, store_flush(b->f.store, fixture_done, &b->f));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);

	struct store_transfer grant = {
	    .key = "k", .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 500};
	assert_int_equal(take(b, b->buyer, "refused", 10, &hold), DB_E_IO);
	assert_int_equal(ledger_hold_raise(open, 20), DB_E_IO);
	assert_int_equal(ledger_transfer(b->ledger, &grant, NULL, NULL), DB_E_IO);
	ledger_release(open, "provider_error"); /* what is open ends all the same */
	assert_int_equal(ledger_open_holds(b->ledger), 1);
	fixture_close(&b->f);
	fixture_open(&b->f);
	assert_int_equal(balance_of(&b->f, "buyer"), 10000);
	assert_books_right(&b->f);
}

static void defaults_hold_where_no_row_says_otherwise(void **state)
{
	struct bench *b = *state;
	struct store_account row = {.id = "reseller", .fee_percent = 12};
	AWAIT_OK(&b->f, store_account_create(b->f.store, &row, fixture_done, &b->f));
	ledger_set_defaults(b->ledger, (struct price){7, 8, 0}, 3);
	set_price(b, STORE_ACCOUNT_PLATFORM, "m1", 10, 20);
	AWAIT_OK(&b->f, ledger_prices_load(b->ledger, fixture_done, &b->f));
	assert_int_equal(ledger_price(b->ledger, STR_NONE, STR("m2"), false).input, 7);
	assert_int_equal(ledger_price(b->ledger, STR_NONE, STR("m2"), false).output, 8);
	assert_int_equal(ledger_price(b->ledger, STR_NONE, STR("m1"), false).input, 10);
	assert_int_equal(ledger_account_fee_percent(load(b, "farmer")), 3);
	assert_int_equal(ledger_account_fee_percent(load(b, "reseller")), 12);
}

/* --- many at once --- */

static void concurrent_holds_never_spend_a_micro_dollar_twice(void **state)
{
	enum { OPEN = 300, STEPS = 30000 };
	struct bench *b = *state;
	static struct ledger_hold *open[OPEN];
	int64_t model_balance = 10000, model_held = 0, settled = 0, refused = 0;
	uint64_t random = 88172645463325252u;

	memset(open, 0, sizeof open);
	for (int i = 0; i < STEPS; i++) {
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		struct ledger_hold **slot = &open[random % OPEN];
		if (!*slot) {
			char id[ID_UUID_SIZE];
			int64_t amount = (int64_t)(random >> 20) % 200;
			id_uuid7(id);
			enum db_err err = take(b, b->buyer, id, amount, slot);
			assert_int_equal(err, model_balance - model_held >= amount ? DB_OK : DB_E_FUNDS);
			if (err) {
				*slot = NULL;
				refused++;
			} else {
				model_held += amount;
			}
		} else if (random >> 60 < 8) {
			model_held -= ledger_hold_amount(*slot);
			ledger_release(*slot, "provider_error");
			*slot = NULL;
		} else {
			int64_t amount = ledger_hold_amount(*slot), beyond = model_balance - model_held;
			int64_t charged = settle(*slot, (random >> 30) % 400, random & 1 ? "farmer" : "");
			assert_true(charged <= amount + beyond && charged <= 2 * amount);
			model_held -= amount;
			model_balance -= charged;
			settled++;
			*slot = NULL;
		}
		if (model_balance < 2000) {
			struct store_transfer refill = {
			    .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 8000};
			id_uuid7(refill.key);
			AWAIT_OK(&b->f, assert_int_equal(ledger_transfer(b->ledger, &refill, fixture_transferred, &b->f), DB_OK));
			model_balance += 8000;
		}
		assert_int_equal(ledger_balance(b->buyer), model_balance);
		assert_int_equal(ledger_available(b->buyer), model_balance - model_held);
	}
	assert_true(settled > STEPS / 10 && refused > 100);
	assert_int_equal(balance_of(&b->f, "buyer"), model_balance);
	assert_int_equal(fixture_number(&b->f, "SELECT count(*) FROM usage"), settled);
	assert_int_equal(fixture_number(&b->f, "SELECT count(*) FROM holds WHERE state = 'open'"), ledger_open_holds(b->ledger));
	assert_books_right(&b->f);
}

/* --- referrals --- */

static void a_referrer_gets_a_share_of_every_fee(void **state)
{
	struct bench *b = *state;
	static const uint64_t costs[] = {100, 101, 109, 110, 149, 150, 999};
	int64_t charged = 0, shares = 0, fees = 0;
	char id[16];
	make_account(&b->f, "friend", 0);
	struct ledger_account *friend = load(b, "friend"), *platform = load(b, STORE_ACCOUNT_PLATFORM);
	ledger_set_referral_share(b->ledger, 33);
	ledger_account_refer(b->ledger, STR("buyer"), STR("friend"));
	for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
		struct ledger_hold *hold;
		snprintf(id, sizeof id, "r%zu", i);
		assert_int_equal(take(b, b->buyer, id, 1000, &hold), DB_OK);
		int64_t cost = settle(hold, costs[i], "farmer"), fee = cost * 10 / 100;
		charged += cost;
		fees += fee;
		shares += fee * 33 / 100;
	}
	fixture_flush(&b->f);
	assert_int_equal(ledger_balance(b->buyer), 10000 - charged);
	assert_int_equal(ledger_balance(friend), shares);
	assert_int_equal(ledger_withdrawable(friend), shares);
	assert_int_equal(ledger_balance(platform), fees - shares);
	assert_int_equal(balance_of(&b->f, "friend"), shares);
	assert_int_equal(balance_of(&b->f, "farmer"), charged - fees);
	assert_int_equal(balance_of(&b->f, STORE_ACCOUNT_PLATFORM), fees - shares);
	assert_int_equal(fixture_number(&b->f, "SELECT sum(amount) FROM ledger"), 0);
}

static void shares_are_rounded_down_and_never_above_half(void **state)
{
	(void)state;
	assert_int_equal(price_referral(0, 20), 0);
	assert_int_equal(price_referral(4, 20), 0);
	assert_int_equal(price_referral(5, 20), 1);
	assert_int_equal(price_referral(9, 20), 1);
	assert_int_equal(price_referral(100, 0), 0);
	assert_int_equal(price_referral(100, -5), 0);
	assert_int_equal(price_referral(1, 50), 0);
	assert_int_equal(price_referral(101, 99), 50);
	assert_int_equal(price_referral(INT64_MAX, 50), INT64_MAX / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	    TEST(an_account_is_in_memory_after_loading),
	    TEST(role_and_fee_come_from_the_store),
	    TEST(everybody_who_waits_for_a_load_is_called),
	    TEST(a_load_that_races_payouts_is_exact),
	    TEST(a_hold_takes_from_what_is_available),
	    TEST(a_request_holds_once),
	    TEST(a_hold_is_raised_while_there_is_money),
	    TEST(a_settlement_charges_by_the_rule),
	    TEST(a_referrer_gets_a_share_of_every_fee),
	    TEST(shares_are_rounded_down_and_never_above_half),
	    TEST(a_service_account_pays_the_exact_formula),
	    TEST(a_hold_that_is_released_leaves_withdrawable_alone),
	    TEST(memory_and_store_agree_when_a_provider_consumes_its_own),
	    TEST(a_transfer_counts_once_and_when_it_is_durable),
	    TEST(a_transfer_away_is_out_of_reach_of_requests),
	    TEST(prices_resolve_in_order),
	    TEST(prices_that_cannot_be_read_leave_those_that_hold_and_bill_no_fallback),
	    TEST(defaults_hold_where_no_row_says_otherwise),
	    TEST(no_money_moves_when_the_store_failed),
	    TEST(concurrent_holds_never_spend_a_micro_dollar_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
