#include "../store_fixture.h"

/* --- accounts, keys, tokens, prices --- */

static void an_account_is_found_as_it_was_made(void **state)
{
	struct fixture *f = *state;
	struct store_account account = {
	    .id = "acme", .name = "Acme Ltd", .role = STORE_ROLE_SERVICE, .fee_percent = 7, .balance_uusd = 99};
	AWAIT_OK(f, store_account_create(f->store, &account, fixture_done, f));
	AWAIT_OK(f, store_account_get(f->store, STR("acme"), fixture_account, f));
	assert_true(f->found);
	assert_string_equal(f->account.id, "acme");
	assert_string_equal(f->account.name, "Acme Ltd");
	assert_int_equal(f->account.role, STORE_ROLE_SERVICE);
	assert_int_equal(f->account.fee_percent, 7);
	assert_int_equal(f->account.balance_uusd, 0);

	make_account(f, "plain", 0);
	AWAIT_OK(f, store_account_get(f->store, STR("plain"), fixture_account, f));
	assert_int_equal(f->account.role, STORE_ROLE_NORMAL);
	assert_int_equal(f->account.fee_percent, -1);
	assert_false(f->account.has_machine);
}

static void an_unknown_account_is_not_found(void **state)
{
	struct fixture *f = *state;
	char endless[200];
	memset(endless, 'x', sizeof endless);
	AWAIT_OK(f, store_account_get(f->store, STR("nobody"), fixture_account, f));
	assert_false(f->found);
	AWAIT_OK(f, store_account_get(f->store, ((struct str){endless, sizeof endless}), fixture_account, f));
	assert_false(f->found);
}

static void an_account_id_is_taken_once(void **state)
{
	struct fixture *f = *state;
	struct store_account account = {.id = "acme", .fee_percent = -1};
	make_account(f, "acme", 500);
	AWAIT_ERROR(f, DB_E_EXISTS, store_account_create(f->store, &account, fixture_done, f));
	assert_int_equal(balance_of(f, "acme"), 500);
	struct store_account platform = {.id = STORE_ACCOUNT_PLATFORM, .fee_percent = -1};
	AWAIT_ERROR(f, DB_E_EXISTS, store_account_create(f->store, &platform, fixture_done, f));
}

static void an_impossible_account_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store_account nameless = {.fee_percent = -1}, greedy = {.id = "a", .fee_percent = 101};
	AWAIT_ERROR(f, DB_E_INVALID, store_account_create(f->store, &nameless, fixture_done, f));
	AWAIT_ERROR(f, DB_E_INVALID, store_account_create(f->store, &greedy, fixture_done, f));
}

static struct store_key key_of(const char *id, const char *account, char digit)
{
	struct store_key key = {.label = "sk-db-1a2b...c3d4", .name = "ci", .expires_us = 77, .created_us = 5};
	str_copy(str_of(id), key.id, sizeof key.id);
	str_copy(str_of(account), key.account_id, sizeof key.account_id);
	memset(key.hash_hex, digit, 64);
	return key;
}

static void a_key_is_found_by_its_hash_with_its_account(void **state)
{
	struct fixture *f = *state;
	make_account(f, "acme", 500);
	struct store_key key = key_of("key_1", "acme", 'a');
	AWAIT_OK(f, store_key_create(f->store, &key, fixture_done, f));
	AWAIT_OK(f, store_key_find(f->store, str_of(key.hash_hex), fixture_key, f));
	assert_true(f->found);
	assert_string_equal(f->key.id, "key_1");
	assert_string_equal(f->key.account_id, "acme");
	assert_string_equal(f->key.label, key.label);
	assert_string_equal(f->key.name, "ci");
	assert_string_equal(f->key.hash_hex, key.hash_hex);
	assert_false(f->key.disabled);
	assert_int_equal(f->key.expires_us, 77);
	assert_int_equal(f->key.created_us, 5);
	assert_string_equal(f->account.id, "acme");
	assert_int_equal(f->account.balance_uusd, 500);

	key.hash_hex[0] = 'b';
	AWAIT_OK(f, store_key_find(f->store, str_of(key.hash_hex), fixture_key, f));
	assert_false(f->found);
}

static void a_key_is_made_once_and_for_a_known_account(void **state)
{
	struct fixture *f = *state;
	make_account(f, "acme", 0);
	struct store_key key = key_of("key_1", "acme", 'a'), same_id = key_of("key_1", "acme", 'b'),
	                 orphan = key_of("key_2", "nobody", 'c');
	AWAIT_OK(f, store_key_create(f->store, &key, fixture_done, f));
	AWAIT_ERROR(f, DB_E_EXISTS, store_key_create(f->store, &key, fixture_done, f));
	AWAIT_ERROR(f, DB_E_EXISTS, store_key_create(f->store, &same_id, fixture_done, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_key_create(f->store, &orphan, fixture_done, f));
}

static void an_account_has_so_many_keys_and_no_more(void **state)
{
	struct fixture *f = *state;
	char many[400];
	make_account(f, "acme", 0);
	make_account(f, "other", 0);
	snprintf(
	    many, sizeof many,
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO api_keys (hash, id, account,"
	    " label, created_us) SELECT 'hash' || i, 'many' || i, (SELECT ref FROM accounts WHERE id = 'acme'), '', 0 FROM n",
	    STORE_KEYS_OF_ACCOUNT - 1);
	fixture_sql(f, many);
	struct store_key last = key_of("key_1", "acme", 'a'), more = key_of("key_2", "acme", 'b'),
	                 others = key_of("key_3", "other", 'c');
	AWAIT_OK(f, store_key_create(f->store, &last, fixture_done, f));
	AWAIT_ERROR(f, DB_E_LIMIT, store_key_create(f->store, &more, fixture_done, f));
	AWAIT_OK(f, store_key_create(f->store, &others, fixture_done, f));
	AWAIT_OK(f, store_key_delete(f->store, STR("many7"), fixture_done, f));
	AWAIT_OK(f, store_key_create(f->store, &more, fixture_done, f));
}

static void a_disabled_key_says_so(void **state)
{
	struct fixture *f = *state;
	make_account(f, "acme", 0);
	struct store_key key = key_of("key_1", "acme", 'a');
	AWAIT_OK(f, store_key_create(f->store, &key, fixture_done, f));
	AWAIT_OK(f, store_key_disable(f->store, STR("key_1"), fixture_done, f));
	AWAIT_OK(f, store_key_disable(f->store, STR("key_1"), fixture_done, f));
	AWAIT_OK(f, store_key_find(f->store, str_of(key.hash_hex), fixture_key, f));
	assert_true(f->key.disabled);
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_key_disable(f->store, STR("key_2"), fixture_done, f));
}

static void a_provider_token_leads_to_its_account(void **state)
{
	struct fixture *f = *state;
	make_account(f, "farmer", 0);
	AWAIT_OK(f, store_provider_token_create(f->store, STR("aa"), STR("farmer"), STR("device-1"), fixture_done, f));
	AWAIT_OK(f, store_provider_token_find(f->store, STR("aa"), fixture_account, f));
	assert_true(f->found);
	assert_string_equal(f->account.id, "farmer");
	AWAIT_OK(f, store_provider_token_find(f->store, STR("bb"), fixture_account, f));
	assert_false(f->found);
	AWAIT_ERROR(f, DB_E_EXISTS, store_provider_token_create(f->store, STR("aa"), STR("farmer"), STR("again"), fixture_done, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_provider_token_create(f->store, STR("cc"), STR("nobody"), STR("x"), fixture_done, f));
	AWAIT_OK(f, store_account_get(f->store, STR("farmer"), fixture_account, f));
	assert_true(f->account.has_machine);
	fixture_sql(f, "UPDATE provider_tokens SET active = 0");
	AWAIT_OK(f, store_provider_token_find(f->store, STR("aa"), fixture_account, f));
	assert_false(f->found);
}

static void the_owner_is_made_once_and_whole(void **state)
{
	struct fixture *f = *state;
	struct store_account owner = {.id = "me", .name = "owner", .fee_percent = -1};
	struct store_key key = key_of("key_1", "me", 'a'), other = key_of("key_2", "me", 'b');
	AWAIT_OK(f, store_owner_get(f->store, fixture_account, f));
	assert_false(f->found);
	AWAIT_OK(f, store_owner_create(f->store, &owner, &key, 1000000, fixture_done, f));
	AWAIT_OK(f, store_owner_get(f->store, fixture_account, f));
	assert_true(f->found);
	assert_string_equal(f->account.id, "me");
	assert_int_equal(f->account.balance_uusd, 1000000);
	assert_int_equal(f->account.withdrawable_uusd, 0);
	assert_int_equal(balance_of(f, STORE_ACCOUNT_GRANTS), -1000000);

	struct store_account second = {.id = "you", .fee_percent = -1};
	AWAIT_ERROR(f, DB_E_EXISTS, store_owner_create(f->store, &second, &other, 5, fixture_done, f));
	AWAIT_OK(f, store_account_get(f->store, STR("you"), fixture_account, f));
	assert_false(f->found);
	assert_books_right(f);
}

static void prices_are_listed_and_replaced(void **state)
{
	struct fixture *f = *state;
	make_account(f, "farmer", 0);
	struct store_price platform = {STORE_ACCOUNT_PLATFORM, "m1", 10, 20, 0}, own = {"farmer", "m1", 30, 40, 0};
	AWAIT_OK(f, store_price_set(f->store, &platform, fixture_done, f));
	AWAIT_OK(f, store_price_set(f->store, &own, fixture_done, f));
	own.output = 50;
	AWAIT_OK(f, store_price_set(f->store, &own, fixture_done, f));
	AWAIT_OK(f, store_prices_list(f->store, fixture_prices, f));
	assert_int_equal(f->count, 2);
	for (size_t i = 0; i < 2; i++) {
		bool is_own = strcmp(f->prices[i].account_id, "farmer") == 0;
		assert_int_equal(f->prices[i].input, is_own ? 30 : 10);
		assert_int_equal(f->prices[i].output, is_own ? 50 : 20);
	}
	struct store_price free_of_charge = {"farmer", "m2", 0, 20, 0}, orphan = {"nobody", "m2", 10, 20, 0};
	AWAIT_ERROR(f, DB_E_INVALID, store_price_set(f->store, &free_of_charge, fixture_done, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_price_set(f->store, &orphan, fixture_done, f));
}

/* --- transfers --- */

static struct store_transfer transfer_of(const char *key, const char *from, const char *to, int64_t amount, bool withdrawable)
{
	struct store_transfer transfer = {
	    .type = "admin_reward", .amount_uusd = amount, .withdrawable = withdrawable, .reference = "why"};
	str_copy(str_of(key), transfer.key, sizeof transfer.key);
	str_copy(str_of(from), transfer.from, sizeof transfer.from);
	str_copy(str_of(to), transfer.to, sizeof transfer.to);
	return transfer;
}

static void a_transfer_happens_once_for_each_key(void **state)
{
	struct fixture *f = *state;
	make_account(f, "acme", 0);
	struct store_transfer transfer = transfer_of("k1", STORE_ACCOUNT_GRANTS, "acme", 700, true);
	AWAIT_OK(f, store_transfer(f->store, &transfer, fixture_transferred, f));
	assert_true(f->applied);
	AWAIT_OK(f, store_transfer(f->store, &transfer, fixture_transferred, f));
	assert_false(f->applied);
	assert_int_equal(balance_of(f, "acme"), 700);
	assert_int_equal(withdrawable_of(f, "acme"), 700);
	assert_int_equal(balance_of(f, STORE_ACCOUNT_GRANTS), -700);
	assert_books_right(f);
}

static void a_repeated_transfer_is_no_error_when_the_giver_is_poor_by_now(void **state)
{
	struct fixture *f = *state;
	make_account(f, "a", 100);
	make_account(f, "b", 0);
	struct store_transfer transfer = transfer_of("k1", "a", "b", 100, false);
	AWAIT_OK(f, store_transfer(f->store, &transfer, fixture_transferred, f));
	AWAIT_OK(f, store_transfer(f->store, &transfer, fixture_transferred, f));
	assert_false(f->applied);
	assert_int_equal(balance_of(f, "b"), 100);
}

static void only_sources_of_money_go_below_zero(void **state)
{
	struct fixture *f = *state;
	make_account(f, "a", 100);
	make_account(f, "b", 0);
	struct store_transfer too_much = transfer_of("k1", "a", "b", 101, false),
	                      not_withdrawable = transfer_of("k2", "a", "b", 1, true),
	                      nothing = transfer_of("k3", "a", "b", 0, false), self = transfer_of("k4", "a", "a", 1, false),
	                      unknown = transfer_of("k5", "a", "nobody", 1, false);
	AWAIT_ERROR(f, DB_E_FUNDS, store_transfer(f->store, &too_much, fixture_transferred, f));
	AWAIT_ERROR(f, DB_E_FUNDS, store_transfer(f->store, &not_withdrawable, fixture_transferred, f));
	AWAIT_ERROR(f, DB_E_INVALID, store_transfer(f->store, &nothing, fixture_transferred, f));
	AWAIT_ERROR(f, DB_E_INVALID, store_transfer(f->store, &self, fixture_transferred, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_transfer(f->store, &unknown, fixture_transferred, f));
	assert_int_equal(balance_of(f, "a"), 100);
	assert_books_right(f);
}

static void spending_uses_what_cannot_be_withdrawn_first(void **state)
{
	struct fixture *f = *state;
	make_account(f, "a", 100);
	make_account(f, "b", 0);
	struct store_transfer reward = transfer_of("k1", STORE_ACCOUNT_GRANTS, "a", 50, true);
	AWAIT_OK(f, store_transfer(f->store, &reward, fixture_transferred, f));
	struct store_settlement s = settlement_of("r1", "a", "b", 90, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_int_equal(withdrawable_of(f, "a"), 50);
	s = settlement_of("r2", "a", "b", 20, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_int_equal(withdrawable_of(f, "a"), 40);
	assert_int_equal(withdrawable_of(f, "b"), 110);
	assert_books_right(f);
}

/* Nothing is worked out anew at a start: whoever has spent what was earned cannot withdraw what was given (billing 6.4, 13.5).
 */
static void what_was_earned_and_spent_is_not_withdrawable_after_a_restart(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	make_account(f, "farmer", 0);
	struct store_settlement earns = settlement_of("r1", "buyer", "farmer", 1000, 0);
	AWAIT_OK(f, store_settle(f->store, &earns, fixture_done, f));
	assert_int_equal(withdrawable_of(f, "farmer"), 1000);
	struct store_settlement spends = settlement_of("r2", "farmer", "", 1000, 0);
	AWAIT_OK(f, store_settle(f->store, &spends, fixture_done, f));
	struct store_transfer gift = {
	    .key = "gift", .type = "credit", .from = STORE_ACCOUNT_GRANTS, .to = "farmer", .amount_uusd = 700};
	AWAIT_OK(f, store_transfer(f->store, &gift, fixture_transferred, f));
	for (int start = 0; start < 3; start++) {
		assert_int_equal(balance_of(f, "farmer"), 700);
		assert_int_equal(withdrawable_of(f, "farmer"), 0);
		fixture_close(f);
		fixture_open(f);
	}
	assert_books_right(f);
}

static void a_balance_does_not_overflow(void **state)
{
	struct fixture *f = *state;
	make_account(f, "a", INT64_MAX - 10);
	make_account(f, "b", 0);
	struct store_transfer more = transfer_of("k1", STORE_ACCOUNT_GRANTS, "a", 11, false),
	                      fits = transfer_of("k2", STORE_ACCOUNT_GRANTS, "b", 1, false);
	AWAIT_ERROR(f, DB_E_INTERNAL, store_transfer(f->store, &more, fixture_transferred, f));
	assert_true(store_healthy(f->store, NULL));
	AWAIT_OK(f, store_transfer(f->store, &fits, fixture_transferred, f));
	assert_int_equal(balance_of(f, "a"), INT64_MAX - 10);
	assert_books_right(f);
}

/* --- holds and settlements --- */

static void hold(struct fixture *f, const char *request, const char *account, int64_t amount)
{
	struct store_hold row = hold_of(request, account, amount);
	store_hold_create(f->store, &row);
}

static void a_settlement_pays_provider_and_platform(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 10000);
	make_account(f, "farmer", 0);
	hold(f, "r1", "buyer", 1500);
	fixture_flush(f);
	assert_int_equal(balance_of(f, "buyer"), 10000);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 1);

	struct store_settlement s = settlement_of("r1", "buyer", "farmer", 1001, 50);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_int_equal(balance_of(f, "buyer"), 8999);
	assert_int_equal(balance_of(f, "farmer"), 951);
	assert_int_equal(withdrawable_of(f, "farmer"), 951);
	assert_int_equal(balance_of(f, STORE_ACCOUNT_PLATFORM), 50);
	assert_int_equal(withdrawable_of(f, STORE_ACCOUNT_PLATFORM), 0);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'settled' AND amount = 1500"), 1);

	AWAIT_OK(f, store_ledger_of_request(f->store, STR("r1"), fixture_entries, f));
	assert_int_equal(f->count, 3);
	assert_string_equal(f->entries[0].type, "charge");
	assert_string_equal(f->entries[0].account_id, "buyer");
	assert_int_equal(f->entries[0].amount_uusd, -1001);
	assert_int_equal(f->entries[0].balance_after_uusd, 8999);
	assert_string_equal(f->entries[0].reference, "r1");
	assert_string_equal(f->entries[1].type, "payout");
	assert_int_equal(f->entries[1].amount_uusd, 951);
	assert_string_equal(f->entries[2].type, "platform_fee");
	assert_int_equal(f->entries[2].amount_uusd, 50);

	assert_int_equal(fixture_number(f, "SELECT requests FROM usage_totals"), 1);
	assert_int_equal(fixture_number(f, "SELECT prompt_tokens FROM usage_totals"), 3);
	assert_int_equal(fixture_number(f, "SELECT amount FROM earnings"), 951);
	assert_int_equal(fixture_number(f, "SELECT amount FROM earnings_summary"), 951);
	assert_books_right(f);
}

static void an_unlinked_providers_share_stays_with_the_platform(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	hold(f, "r1", "buyer", 400);
	struct store_settlement s = settlement_of("r1", "buyer", "", 300, 33);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_int_equal(balance_of(f, STORE_ACCOUNT_PLATFORM), 300);
	AWAIT_OK(f, store_ledger_of_request(f->store, STR("r1"), fixture_entries, f));
	assert_int_equal(f->count, 3);
	assert_string_equal(f->entries[1].type, "platform_retained");
	assert_int_equal(f->entries[1].amount_uusd, 267);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM earnings"), 0);
	assert_books_right(f);
}

static void fees_of_every_size_balance(void **state)
{
	struct fixture *f = *state;
	static const int64_t costs[] = {1, 99, 100, 101}, percents[] = {0, 1, 33, 100};
	int64_t spent = 0, number = 0;
	make_account(f, "buyer", 10000);
	make_account(f, "farmer", 0);
	for (size_t i = 0; i < 4; i++)
		for (size_t j = 0; j < 4; j++) {
			char request[16];
			snprintf(request, sizeof request, "r%lld", (long long)number++);
			hold(f, request, "buyer", costs[i]);
			struct store_settlement s = settlement_of(request, "buyer", "farmer", costs[i], costs[i] * percents[j] / 100);
			AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
			spent += costs[i];
		}
	assert_int_equal(balance_of(f, "buyer"), 10000 - spent);
	assert_int_equal(balance_of(f, "farmer") + balance_of(f, STORE_ACCOUNT_PLATFORM), spent);
	assert_books_right(f);
}

static void a_free_request_leaves_usage_and_no_entries(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 10);
	hold(f, "r1", "buyer", 10);
	struct store_settlement s = settlement_of("r1", "buyer", "", 0, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	AWAIT_OK(f, store_ledger_of_request(f->store, STR("r1"), fixture_entries, f));
	assert_int_equal(f->count, 0);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM usage"), 1);
	assert_books_right(f);
}

static void a_second_settlement_changes_nothing(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	make_account(f, "farmer", 0);
	hold(f, "r1", "buyer", 400);
	struct store_settlement s = settlement_of("r1", "buyer", "farmer", 300, 0),
	                        dearer = settlement_of("r1", "buyer", "farmer", 400, 0);
	store_settle(f->store, &s, NULL, NULL);
	AWAIT_OK(f, store_settle(f->store, &dearer, fixture_done, f));
	AWAIT_OK(f, store_settle(f->store, &dearer, fixture_done, f));
	fixture_close(f);
	fixture_open(f);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	hold(f, "r1", "buyer", 400); /* the id was used: no hold comes of it, and no second settlement */
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_int_equal(balance_of(f, "buyer"), 700);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM usage"), 1);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds"), 1);
	assert_books_right(f);
}

static void a_released_hold_cannot_be_settled(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	hold(f, "r1", "buyer", 400);
	store_hold_release(f->store, STR("r1"), "provider_error");
	struct store_settlement s = settlement_of("r1", "buyer", "", 300, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	hold(f, "r2", "buyer", 400);
	fixture_flush(f);
	store_hold_release(f->store, STR("r2"), "client_gone");
	store_hold_release(f->store, STR("r2"), "provider_error");
	fixture_flush(f);
	s = settlement_of("r2", "buyer", "", 300, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_int_equal(balance_of(f, "buyer"), 1000);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'released'"), 2);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE reason = 'client_gone'"), 1);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM ledger WHERE hold IS NOT NULL"), 0);
	assert_books_right(f);
}

static void a_raised_hold_is_settled_up_to_its_new_size(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	hold(f, "r1", "buyer", 100);
	store_hold_raise(f->store, STR("r1"), 200);
	fixture_flush(f);
	assert_int_equal(fixture_number(f, "SELECT amount FROM holds"), 200);
	store_hold_raise(f->store, STR("r1"), 300);
	store_hold_raise(f->store, STR("r1"), 250); /* never lowered */
	fixture_flush(f);
	assert_int_equal(fixture_number(f, "SELECT amount FROM holds"), 300);
	struct store_settlement s = settlement_of("r1", "buyer", "", 600, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_books_right(f);
}

static void impossible_settlements_are_refused(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	make_account(f, "other", 1000);
	hold(f, "r1", "buyer", 100);
	struct store_settlement s = settlement_of("r1", "buyer", "", 100, 101);
	AWAIT_ERROR(f, DB_E_INVALID, store_settle(f->store, &s, fixture_done, f));
	s = settlement_of("r1", "buyer", "", -1, 0);
	AWAIT_ERROR(f, DB_E_INVALID, store_settle(f->store, &s, fixture_done, f));
	s = settlement_of("r1", "buyer", "", 100, 0);
	s.prompt_tokens = UINT64_MAX;
	AWAIT_ERROR(f, DB_E_INVALID, store_settle(f->store, &s, fixture_done, f));
	s = settlement_of("r1", "other", "", 100, 0);
	AWAIT_ERROR(f, DB_E_INVALID, store_settle(f->store, &s, fixture_done, f));
	s = settlement_of("r1", "buyer", "nobody", 100, 0);
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_settle(f->store, &s, fixture_done, f));
	s = settlement_of("r1", "buyer", "", 1001, 0);
	AWAIT_ERROR(f, DB_E_FUNDS, store_settle(f->store, &s, fixture_done, f));
	s = settlement_of("r1", "buyer", "", 100, 0);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	assert_int_equal(balance_of(f, "buyer"), 900);
	assert_books_right(f);
}

static void a_hold_that_ends_in_its_group_is_written_once(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	/* An update of a hold would be seen by this trigger. */
	fixture_close(f);
	fixture_sql(f, "CREATE TABLE seen (id INTEGER)");
	if (f->on_postgres)
		fixture_sql(f, "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF TG_OP = 'UPDATE' THEN"
		               " INSERT INTO seen VALUES (new.id); ELSIF new.state = 'open' THEN INSERT INTO seen VALUES (-1); END IF;"
		               " RETURN NULL; END $$;"
		               "CREATE TRIGGER see AFTER INSERT OR UPDATE ON holds FOR EACH ROW EXECUTE FUNCTION see()");
	else
		fixture_sql(f, "CREATE TRIGGER see AFTER UPDATE ON holds BEGIN INSERT INTO seen VALUES (new.id); END;"
		               "CREATE TRIGGER born AFTER INSERT ON holds WHEN new.state = 'open' BEGIN INSERT INTO seen VALUES (-1);"
		               "END");
	fixture_open(f);
	struct store_settlement s = settlement_of("r1", "buyer", "", 300, 0);
	hold(f, "r1", "buyer", 400);
	store_settle(f->store, &s, NULL, NULL);
	hold(f, "r2", "buyer", 400);
	store_hold_release(f->store, STR("r2"), "client_gone");
	fixture_flush(f);
	/* The writer may have cut the group between two of the five operations; what it cut shows as an open hold first. */
	int64_t cut = fixture_number(f, "SELECT count(*) FROM seen WHERE id = -1");
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM seen"), 2 * cut);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'settled' AND entry IS NOT NULL"), 1);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'released'"), 1);
}

static void one_operation_that_breaks_a_constraint_fails_alone(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 100000);
	make_account(f, "acme", 0);
	struct store_key key = key_of("key_1", "acme", 'a');
	AWAIT_OK(f, store_key_create(f->store, &key, fixture_done, f));

	/* The owner's key exists: found out in the middle of the transaction, which is then given up. */
	struct store_account owner = {.id = "me", .fee_percent = -1};
	for (int i = 0; i < 40; i++) {
		char request[16];
		snprintf(request, sizeof request, "r%d", i);
		hold(f, request, "buyer", 100);
		if (i == 20)
			store_owner_create(f->store, &owner, &key, 50, NULL, NULL);
		if (i % 2) {
			struct store_settlement s = settlement_of(request, "buyer", "acme", 100, 1);
			store_settle(f->store, &s, NULL, NULL);
		}
	}
	AWAIT_ERROR(f, DB_E_INTERNAL, store_owner_create(f->store, &owner, &key, 50, fixture_done, f));
	AWAIT_OK(f, store_account_get(f->store, STR("me"), fixture_account, f));
	assert_false(f->found);
	assert_int_equal(balance_of(f, "buyer"), 100000 - 2000);
	assert_int_equal(balance_of(f, "acme"), 20 * 99);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 20);
	assert_true(store_healthy(f->store, NULL));
	assert_books_right(f);
}

/* --- views --- */

static void usage_is_listed_newest_first_in_pages(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 10000);
	make_account(f, "other", 10000);
	make_account(f, "farmer", 0);
	for (int i = 0; i < 10; i++) {
		char request[16];
		snprintf(request, sizeof request, "r%d", i);
		struct store_settlement s = settlement_of(request, i % 5 == 4 ? "other" : "buyer", i % 2 ? "farmer" : "", 100 + i, 5);
		s.created_us = 1000 + i;
		str_copy(STR("key_9"), s.key_id, sizeof s.key_id);
		AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	}
	AWAIT_OK(f, store_usage_list(f->store, STR("buyer"), 0, 3, fixture_usage, f));
	assert_int_equal(f->count, 3);
	const struct store_settlement *s = &f->usage[0].s;
	assert_string_equal(s->request_id, "r8");
	assert_string_equal(s->account_id, "buyer");
	assert_string_equal(s->key_id, "key_9");
	assert_string_equal(s->provider_account, "");
	assert_string_equal(s->provider_id, "session");
	assert_string_equal(s->provider_key, "machine");
	assert_string_equal(s->model, "build");
	assert_string_equal(s->public_model, "alias");
	assert_string_equal(s->outcome, "success");
	assert_int_equal(s->prompt_tokens, 3);
	assert_int_equal(s->completion_tokens, 4);
	assert_int_equal(s->reasoning_tokens, 1);
	assert_int_equal(s->price_in, 50000);
	assert_int_equal(s->price_out, 200000);
	assert_int_equal(s->cost_uusd, 108);
	assert_int_equal(s->fee_uusd, 5);
	assert_int_equal(s->hold_uusd, 108);
	assert_int_equal(s->created_us, 1008);
	assert_string_equal(f->usage[1].s.provider_account, "farmer");
	assert_string_equal(f->usage[2].s.request_id, "r6");
	AWAIT_OK(f, store_usage_list(f->store, STR("buyer"), 1006, 1000, fixture_usage, f));
	assert_int_equal(f->count, 5);
	assert_string_equal(f->usage[0].s.request_id, "r5");
	AWAIT_OK(f, store_usage_list(f->store, STR("nobody"), 0, 10, fixture_usage, f));
	assert_int_equal(f->count, 0);
}

static void one_request_is_shown_from_beside_a_running_store(void **state)
{
	struct fixture *f = *state;
	struct store_record record;
	struct error error = {0};
	make_account(f, "buyer", 10000);
	make_account(f, "farmer", 0);
	assert_int_equal(store_show(f->path, STR_NONE, &record, &error), DB_E_NOT_FOUND);
	hold(f, "r1", "buyer", 1500);
	hold(f, "r2", "buyer", 700);
	struct store_settlement s = settlement_of("r1", "buyer", "farmer", 1000, 50);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
	store_hold_release(f->store, STR("r2"), "provider_error");
	hold(f, "r3", "buyer", 1);
	fixture_flush(f);

	assert_int_equal(store_show(f->path, STR("r1"), &record, &error), DB_OK);
	assert_string_equal(record.state, "settled");
	assert_int_equal(record.hold_uusd, 1500);
	assert_int_equal(record.settlement.cost_uusd, 1000);
	assert_string_equal(record.settlement.provider_account, "farmer");
	assert_int_equal(record.entry_count, 3);
	assert_int_equal(record.entries[0].amount_uusd + record.entries[1].amount_uusd + record.entries[2].amount_uusd, 0);
	assert_int_equal(store_show(f->path, STR("r2"), &record, &error), DB_OK);
	assert_string_equal(record.state, "released");
	assert_string_equal(record.reason, "provider_error");
	assert_int_equal(record.entry_count, 0);
	assert_int_equal(store_show(f->path, STR_NONE, &record, &error), DB_OK);
	assert_string_equal(record.settlement.request_id, "r3");
	assert_string_equal(record.state, "open");
	assert_int_equal(store_show(f->path, STR("r4"), &record, &error), DB_E_NOT_FOUND);
	assert_true(strlen(error.text) > 10);
}

static void a_read_sees_every_write_asked_for_before_it(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000000);
	for (int i = 1; i <= 200; i++) {
		char request[16];
		snprintf(request, sizeof request, "r%d", i);
		struct store_settlement s = settlement_of(request, "buyer", "", 100, 0);
		s.created_us = i;
		store_settle(f->store, &s, NULL, NULL);
		AWAIT_OK(f, store_usage_list(f->store, STR("buyer"), 0, 1, fixture_usage, f));
		assert_int_equal(f->count, 1);
		assert_string_equal(f->usage[0].s.request_id, request);
		store_settle(f->store, &s, NULL, NULL);
		assert_int_equal(balance_of(f, "buyer"), 1000000 - 100 * i);
	}
}

static void callbacks_still_owed_are_called_when_the_store_closes(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 1000);
	struct store_settlement s = settlement_of("r1", "buyer", "", 100, 0);
	f->failed = true;
	store_settle(f->store, &s, fixture_done, f);
	store_close(f->store);
	f->store = NULL;
	assert_false(f->failed);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(balance_of(f, "buyer"), 900);
}

static void statistics_count_groups_and_operations(void **state)
{
	struct fixture *f = *state;
	struct store_stats before, after;
	store_stats(f->store, &before);
	for (int i = 0; i < 50; i++)
		hold(f, "same", "nobody", 1); /* refused, and counted all the same */
	fixture_flush(f);
	store_stats(f->store, &after);
	assert_int_equal(after.operations - before.operations, 51);
	assert_int_equal(after.queued, 0);
	assert_true(after.commits > before.commits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)
	    TEST(an_account_is_found_as_it_was_made),
	    TEST(an_unknown_account_is_not_found),
	    TEST(an_account_id_is_taken_once),
	    TEST(an_impossible_account_is_refused),
	    TEST(a_key_is_found_by_its_hash_with_its_account),
	    TEST(a_key_is_made_once_and_for_a_known_account),
	    TEST(an_account_has_so_many_keys_and_no_more),
	    TEST(a_disabled_key_says_so),
	    TEST(a_provider_token_leads_to_its_account),
	    TEST(the_owner_is_made_once_and_whole),
	    TEST(prices_are_listed_and_replaced),
	    TEST(a_transfer_happens_once_for_each_key),
	    TEST(a_repeated_transfer_is_no_error_when_the_giver_is_poor_by_now),
	    TEST(only_sources_of_money_go_below_zero),
	    TEST(spending_uses_what_cannot_be_withdrawn_first),
	    TEST(what_was_earned_and_spent_is_not_withdrawable_after_a_restart),
	    TEST(a_balance_does_not_overflow),
	    TEST(a_settlement_pays_provider_and_platform),
	    TEST(an_unlinked_providers_share_stays_with_the_platform),
	    TEST(fees_of_every_size_balance),
	    TEST(a_free_request_leaves_usage_and_no_entries),
	    TEST(a_second_settlement_changes_nothing),
	    TEST(a_released_hold_cannot_be_settled),
	    TEST(a_raised_hold_is_settled_up_to_its_new_size),
	    TEST(impossible_settlements_are_refused),
	    TEST(a_hold_that_ends_in_its_group_is_written_once),
	    TEST(one_operation_that_breaks_a_constraint_fails_alone),
	    TEST(usage_is_listed_newest_first_in_pages),
	    TEST(one_request_is_shown_from_beside_a_running_store),
	    TEST(a_read_sees_every_write_asked_for_before_it),
	    TEST(callbacks_still_owed_are_called_when_the_store_closes),
	    TEST(statistics_count_groups_and_operations),
	};
	return RUN_ON_BOTH(tests);
}
