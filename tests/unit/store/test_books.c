/* Closing periods and the audit trail: what was altered behind them is found. */
#include "../store_fixture.h"

#include "coordinator/store/books.h"
#include "coordinator/store/store_books.h"
#include "coordinator/store/store_trail.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)

struct closing {
	struct fixture *f;
	bool found;
	struct store_close close;
};

static void on_close(const struct store_close *close, const struct error *error, void *user)
{
	struct closing *closing = user;
	closing->found = close != NULL;
	if (close)
		closing->close = *close;
	fixture_answer(closing->f, error);
}

static struct closing close_period(struct fixture *f)
{
	struct closing closing = {.f = f};
	AWAIT_OK(f, store_ledger_close(f->store, on_close, &closing));
	return closing;
}

static void charge(struct fixture *f, const char *request, int64_t cost)
{
	struct store_hold hold = hold_of(request, "buyer", cost);
	struct store_settlement s = settlement_of(request, "buyer", "farmer", cost, cost / 10);
	store_hold_create(f->store, &hold);
	AWAIT_OK(f, store_settle(f->store, &s, fixture_done, f));
}

static struct store_chain chain_of(struct fixture *f)
{
	struct store_chain chain;
	struct error error = {0};
	if (store_chain_verify(f->path, &chain, &error))
		fail_msg("store_chain_verify: %s", error.text);
	return chain;
}

static void start_books(struct fixture *f)
{
	make_account(f, "buyer", 100000);
	make_account(f, "farmer", 0);
}

static void each_close_follows_from_the_one_before(void **state)
{
	struct fixture *f = *state;
	start_books(f);
	charge(f, "r1", 1000);
	struct closing first = close_period(f);
	assert_true(first.found);
	assert_int_equal(first.close.id, 1);
	assert_int_equal(first.close.first_entry, 1);
	assert_int_equal(first.close.entries, 5);
	assert_int_equal(first.close.usage_rows, 1);
	assert_int_equal(first.close.moved_uusd, 100000 + 1000);
	assert_false(close_period(f).found); /* nothing new */

	charge(f, "r2", 500);
	struct closing second = close_period(f);
	assert_int_equal(second.close.id, 2);
	assert_int_equal(second.close.first_entry, 6);
	assert_string_equal(second.close.previous_hash, first.close.hash);
	charge(f, "r3", 10);

	struct store_chain chain = chain_of(f);
	assert_int_equal(chain.closes, 2);
	assert_int_equal(chain.covered_entries, 8);
	assert_int_equal(chain.open_entries, 3);
	assert_int_equal(chain.broken, 0);
	assert_string_equal(chain.head, second.close.hash);
	assert_books_right(f);
}

static void whatever_is_altered_behind_a_close_is_found(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *alter, *undo;
		int64_t broken;
	} cases[] = {
	    {"UPDATE ledger SET amount = amount - 1 WHERE id = 3", "UPDATE ledger SET amount = amount + 1 WHERE id = 3", 1},
	    {"UPDATE ledger SET type = 'payout' WHERE id = 8", "UPDATE ledger SET type = 'platform_fee' WHERE id = 8", 2},
	    {"UPDATE ledger SET created_us = created_us + 1 WHERE id = 1",
	     "UPDATE ledger SET created_us = created_us - 1 WHERE id = 1", 1},
	    {"UPDATE transfers SET reference = 'x' WHERE id = 1", "UPDATE transfers SET reference = '' WHERE id = 1", 1},
	    {"UPDATE accounts SET id = 'thief' WHERE id = 'farmer'", "UPDATE accounts SET id = 'farmer' WHERE id = 'thief'", 1},
	    {"UPDATE usage SET completion_tokens = 5 WHERE id = 2", "UPDATE usage SET completion_tokens = 4 WHERE id = 2", 2},
	    {"UPDATE usage SET se_signature = 'x' WHERE id = 1", "UPDATE usage SET se_signature = '' WHERE id = 1", 1},
	    {"UPDATE ledger_closes SET closed_us = closed_us + 1 WHERE id = 1",
	     "UPDATE ledger_closes SET closed_us = closed_us - 1 WHERE id = 1", 1},
	    {"UPDATE ledger_closes SET last_entry = 7 WHERE id = 2", "UPDATE ledger_closes SET last_entry = 8 WHERE id = 2", 2},
	};
	start_books(f);
	charge(f, "r1", 1000);
	close_period(f);
	charge(f, "r2", 500);
	close_period(f);
	fixture_sql(f, "DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_closes_no_update; DROP TRIGGER ledger_closes_no_delete");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		fixture_sql(f, cases[i].alter);
		struct store_chain chain = chain_of(f);
		if (chain.broken != cases[i].broken)
			fail_msg("%s: broken %lld", cases[i].alter, (long long)chain.broken);
		assert_true(chain.why[0] != '\0');
		fixture_sql(f, cases[i].undo);
		assert_int_equal(chain_of(f).broken, 0);
	}
	fixture_sql(f, "DELETE FROM ledger_closes WHERE id = 1");
	assert_int_equal(chain_of(f).broken, 2);
}

/* Whoever alters entries and seals their period anew has the next period against them. */
static void a_period_that_was_sealed_anew_does_not_fit_the_next(void **state)
{
	struct fixture *f = *state;
	struct error error;
	char update[400];
	start_books(f);
	charge(f, "r1", 1000);
	struct store_close forged = close_period(f).close;
	charge(f, "r2", 500);
	close_period(f);
	fixture_sql(f, "DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_closes_no_update;"
	               "UPDATE ledger SET created_us = created_us + 1 WHERE id = 1");
	assert_int_equal(chain_of(f).broken, 1);
	struct sql *db = sql_open(f->path, SQL_READ, &error);
	assert_non_null(db);
	books_digest(db, forged.first_entry, forged.last_entry, &forged);
	books_seal(&forged);
	sql_close(db);
	snprintf(update, sizeof update, "UPDATE ledger_closes SET entries_hash = '%s', hash = '%s' WHERE id = 1",
	         forged.entries_hash, forged.hash);
	fixture_sql(f, update);
	struct store_chain chain = chain_of(f);
	assert_int_equal(chain.broken, 2);
	assert_non_null(strstr(chain.why, "another hash"));
}

static void usage_that_was_rolled_up_leaves_the_entries_proved(void **state)
{
	struct fixture *f = *state;
	start_books(f);
	charge(f, "r1", 1000);
	close_period(f);
	fixture_sql(f, "DELETE FROM usage");
	struct store_chain chain = chain_of(f);
	assert_int_equal(chain.broken, 0);
	assert_int_equal(chain.rolled_up, 1);
}

static bool count_entry(const struct store_entry *row, void *user)
{
	int64_t *seen = user;
	assert_int_equal(row->id, ++*seen);
	if (strcmp(row->type, "admin_credit") == 0)
		assert_string_equal(row->transfer_key, "grant:buyer");
	else
		assert_string_equal(row->request_id, "r1");
	return true;
}

static void entries_are_handed_out_in_order(void **state)
{
	struct fixture *f = *state;
	struct error error;
	int64_t seen = 0;
	start_books(f);
	charge(f, "r1", 1000);
	assert_int_equal(store_entries_each(f->path, &(struct store_entry_range){0}, count_entry, &seen, &error), DB_OK);
	assert_int_equal(seen, 5);
	seen = 3;
	assert_int_equal(store_entries_each(f->path, &(struct store_entry_range){.after_id = 3, .account = "farmer"}, count_entry,
	                                    &seen, &error),
	                 DB_OK);
	assert_int_equal(seen, 4);
}

/* --- the trail --- */

struct seen_rows {
	size_t count;
	struct store_trail_row rows[32];
};

static void see_row(const struct store_trail_row *row, void *user)
{
	struct seen_rows *seen = user;
	assert_true(seen->count < 32);
	seen->rows[seen->count++] = *row;
}

static struct store_trail trail_of(struct fixture *f, struct seen_rows *seen)
{
	struct store_trail trail;
	struct error error = {0};
	*seen = (struct seen_rows){0};
	if (store_trail_read(f->path, 1000, see_row, seen, &trail, &error))
		fail_msg("store_trail_read: %s", error.text);
	return trail;
}

static void what_is_done_to_money_and_keys_is_noted_with_who_asked(void **state)
{
	struct fixture *f = *state;
	struct seen_rows seen;
	struct store_key key = {.id = "key_1", .account_id = "buyer", .label = "sk-db-1...2", .hash_hex = "aa", .scopes = 1};
	struct store_price price = {STORE_ACCOUNT_PLATFORM, "m1", 10, 20, 5};
	start_books(f);
	AWAIT_OK(f, store_key_create(f->store, &key, fixture_done, f));
	store_act(f->store, STR("operator"), STR("too dear"));
	charge(f, "r1", 1000); /* requests are not the trail's business, and take nobody's name */
	AWAIT_OK(f, store_price_set(f->store, &price, fixture_done, f));
	AWAIT_OK(f, store_key_delete(f->store, STR("key_1"), fixture_done, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_key_delete(f->store, STR("key_1"), fixture_done, f)); /* did nothing */

	struct store_trail trail = trail_of(f, &seen);
	static const char *const expected[][3] = {
	    {"system", "account.create", "buyer"},    {"system", "money.transfer", "buyer"}, {"system", "account.create", "farmer"},
	    {"account:buyer", "key.create", "key_1"}, {"operator", "price.set", "platform"}, {"system", "key.delete", "key_1"},
	};
	assert_int_equal(trail.broken, 0);
	assert_int_equal(trail.rows, sizeof expected / sizeof *expected);
	for (size_t i = 0; i < seen.count; i++) {
		assert_string_equal(seen.rows[i].actor, expected[i][0]);
		assert_string_equal(seen.rows[i].action, expected[i][1]);
		assert_string_equal(seen.rows[i].subject, expected[i][2]);
	}
	assert_non_null(strstr(seen.rows[1].details, "\"amount_micro_usd\":100000"));
	assert_non_null(strstr(seen.rows[4].details, "\"reason\":\"too dear\""));
	assert_null(strstr(seen.rows[3].details, "\"aa\"")); /* no hash of a secret */
}

static void an_altered_trail_is_found(void **state)
{
	struct fixture *f = *state;
	struct seen_rows seen;
	start_books(f);
	assert_int_equal(trail_of(f, &seen).broken, 0);
	fixture_sql(f, "DROP TRIGGER audit_trail_no_update; DROP TRIGGER audit_trail_no_delete;"
	               "UPDATE audit_trail SET actor = 'nobody' WHERE id = 2");
	assert_int_equal(trail_of(f, &seen).broken, 2);
	fixture_sql(f, "UPDATE audit_trail SET actor = 'system' WHERE id = 2");
	assert_int_equal(trail_of(f, &seen).broken, 0);
	fixture_sql(f, "DELETE FROM audit_trail WHERE id = 1");
	assert_int_equal(trail_of(f, &seen).broken, 2);
}

static void a_transfer_that_was_made_before_is_noted_once(void **state)
{
	struct fixture *f = *state;
	struct seen_rows seen;
	struct store_transfer transfer = {.key = "once",
	                                  .type = "admin_reward",
	                                  .from = STORE_ACCOUNT_GRANTS,
	                                  .to = "buyer",
	                                  .amount_uusd = 5,
	                                  .withdrawable = true};
	start_books(f);
	int64_t before = trail_of(f, &seen).rows;
	for (int i = 0; i < 3; i++)
		AWAIT_OK(f, store_transfer(f->store, &transfer, fixture_transferred, f));
	assert_int_equal(trail_of(f, &seen).rows, before + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(each_close_follows_from_the_one_before),
	    TEST(whatever_is_altered_behind_a_close_is_found),
	    TEST(a_period_that_was_sealed_anew_does_not_fit_the_next),
	    TEST(usage_that_was_rolled_up_leaves_the_entries_proved),
	    TEST(entries_are_handed_out_in_order),
	    TEST(what_is_done_to_money_and_keys_is_noted_with_who_asked),
	    TEST(an_altered_trail_is_found),
	    TEST(a_transfer_that_was_made_before_is_noted_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
