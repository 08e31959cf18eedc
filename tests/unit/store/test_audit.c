#include "../store_fixture.h"

/* Books with a bit of everything, then closed, so that a hand can go at the rows. */
static int start_with_history(void **state)
{
	fixture_start(state);
	struct fixture *f = *state;
	make_account(f, "buyer", 100000);
	make_account(f, "farmer", 0);
	for (int i = 0; i < 30; i++) {
		char request[16];
		snprintf(request, sizeof request, "r%d", i);
		struct store_hold row = hold_of(request, "buyer", 500);
		store_hold_create(f->store, &row);
		struct store_settlement s = settlement_of(request, "buyer", i % 3 ? "farmer" : "", 400 + i, i % 2 ? 40 : 0);
		if (i % 4)
			str_copy(STR("key_1"), s.key_id, sizeof s.key_id);
		if (i % 5 == 4)
			store_hold_release(f->store, str_of(request), "provider_error");
		else
			store_settle(f->store, &s, NULL, NULL);
	}
	fixture_flush(f);
	fixture_close(f);
	assert_books_right(f);
	return 0;
}

/* Somebody with the file in hand and no respect for triggers. */
static void tamper(struct fixture *f, const char *sql)
{
	char text[1600];
	snprintf(text, sizeof text, "%s; %s",
	         f->on_postgres
	             ? "ALTER TABLE ledger DISABLE TRIGGER ALL; DO $$ DECLARE c record; BEGIN FOR c IN SELECT conname, conrelid"
	               " FROM pg_constraint WHERE contype = 'c' AND connamespace = current_schema()::regnamespace LOOP"
	               " EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname); END LOOP; END $$"
	             : "DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_delete; PRAGMA ignore_check_constraints = ON",
	         sql);
	fixture_sql(f, text);
}

static struct store_audit audit_after(struct fixture *f, const char *sql)
{
	tamper(f, sql);
	struct store_audit audit = audit_of(f);
	assert_false(store_audit_clean(&audit));
	return audit;
}

static void right_books_are_clean(void **state)
{
	struct store_audit audit = audit_of(*state);
	assert_int_equal(audit.accounts, 7);
	assert_int_equal(audit.open_holds, 0);
	assert_int_equal(audit.entries, 2 + 24 * 2 + 12); /* grant, charge and payout, and a fee for every other */
	assert_int_equal(audit.charged_uusd, audit.usage_cost_uusd);
	assert_true(audit.charged_uusd > 24 * 400);
}

static void an_altered_amount_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "UPDATE ledger SET amount = amount - 1 WHERE id = 9");
	assert_int_equal(audit.sum_uusd, -1);
	assert_int_equal(audit.unbalanced, 1);
	assert_true(audit.broken_chains >= 1);
	assert_int_equal(audit.wrong_balances, 1);
}

static void a_consistent_pair_of_altered_amounts_is_found(void **state)
{
	struct store_audit audit = audit_after(
	    *state, "UPDATE ledger SET amount = amount - 5 WHERE id = 3; UPDATE ledger SET amount = amount + 5 WHERE id = 4");
	assert_int_equal(audit.sum_uusd, 0);
	assert_int_equal(audit.unbalanced, 0);
	assert_true(audit.broken_chains >= 2);
	assert_int_equal(audit.wrong_balances, 2);
	assert_int_equal(audit.wrong_settlements, 1);
}

static void a_removed_transaction_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "DELETE FROM ledger WHERE hold = (SELECT hold FROM ledger WHERE id = 3)");
	assert_int_equal(audit.sum_uusd, 0);
	assert_true(audit.wrong_settlements >= 1);
	assert_true(audit.wrong_balances >= 2);
}

static void an_altered_balance_is_found(void **state)
{
	struct store_audit audit = audit_after(
	    *state, "UPDATE balances SET balance = balance + 1 WHERE account = (SELECT ref FROM accounts WHERE id = 'buyer')");
	assert_int_equal(audit.wrong_balances, 1);
	assert_int_equal(audit.sum_uusd, 0);
}

static void a_removed_balance_is_found(void **state)
{
	struct store_audit audit =
	    audit_after(*state, "DELETE FROM balances WHERE account = (SELECT ref FROM accounts WHERE id = 'farmer')");
	assert_int_equal(audit.wrong_balances, 1);
}

static void a_negative_balance_is_found(void **state)
{
	struct store_audit audit =
	    audit_after(*state, "UPDATE balances SET balance = -1 WHERE account = (SELECT ref FROM accounts WHERE id = 'buyer')");
	assert_int_equal(audit.negative_balances, 1);
}

static void more_withdrawable_than_there_is_is_found(void **state)
{
	struct store_audit audit = audit_after(
	    *state,
	    "UPDATE balances SET withdrawable = balance + 1 WHERE account = (SELECT ref FROM accounts WHERE id = 'farmer')");
	assert_int_equal(audit.negative_balances, 1);
	assert_int_equal(audit.wrong_balances, 1);
}

static void an_altered_running_balance_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "UPDATE ledger SET balance_after = balance_after + 1 WHERE id = 7");
	assert_int_equal(audit.broken_chains, 1);
	assert_int_equal(audit.wrong_balances, 0);
}

static void an_altered_usage_row_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "UPDATE usage SET cost = cost + 1 WHERE id = 2");
	assert_int_equal(audit.wrong_settlements, 1);
	assert_int_equal(audit.usage_cost_uusd - audit.charged_uusd, 1);
}

static void a_removed_usage_row_is_found(void **state)
{
	assert_int_equal(audit_after(*state, "DELETE FROM usage WHERE id = 2").wrong_settlements, 1);
}

static void a_usage_row_given_to_another_account_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "UPDATE usage SET account = (SELECT ref FROM accounts WHERE id = 'farmer')"
	                                               " WHERE id = 2");
	assert_int_equal(audit.wrong_settlements, 1);
}

static void an_altered_earning_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "UPDATE earnings SET amount = amount + 1 WHERE id = 2");
	assert_true(audit.wrong_settlements >= 2); /* it fits neither its usage row nor the account's sum */
}

static void an_invented_earning_is_found(void **state)
{
	struct store_audit audit = audit_after(
	    *state, "INSERT INTO earnings SELECT 999, account, provider_id, provider_key, model, 7, 1, 1, 1 FROM earnings LIMIT 1");
	assert_int_equal(audit.wrong_settlements, 1);
}

static void an_altered_summary_is_found(void **state)
{
	assert_int_equal(audit_after(*state, "UPDATE earnings_summary SET amount = amount + 1").wrong_settlements, 1);
}

static void an_altered_spend_of_a_key_is_found(void **state)
{
	assert_int_equal(audit_after(*state, "UPDATE key_spend SET spent = spent + 1 WHERE day = (SELECT max(day) FROM key_spend)"
	                                     " AND limit_group = (SELECT min(limit_group) FROM key_spend)")
	                     .wrong_spends,
	                 1);
}

static void a_forgotten_spend_of_a_key_is_found(void **state)
{
	assert_int_equal(audit_after(*state, "DELETE FROM key_spend").wrong_spends, 1);
}

static void a_settled_hold_called_released_is_found(void **state)
{
	assert_int_equal(audit_after(*state, "UPDATE holds SET state = 'released' WHERE id = 2").wrong_settlements, 1);
}

static void an_entry_of_nobody_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "UPDATE ledger SET account = 4000 WHERE id = 3");
	assert_true(audit.broken_chains >= 1);
}

static void an_entry_of_no_request_is_found(void **state)
{
	struct store_audit audit = audit_after(*state, "UPDATE ledger SET hold = 4000 WHERE id IN (3, 4)");
	assert_true(audit.wrong_settlements >= 1);
}

static void an_invented_movement_is_found(void **state)
{
	struct store_audit audit = audit_after(
	    *state, "INSERT INTO ledger SELECT (SELECT max(id) + 1 FROM ledger), 4000, NULL, account, 'charge', -7, balance - 7, "
	            "withdrawable, 1 FROM balances"
	            " JOIN accounts ON ref = account WHERE id = 'buyer';"
	            "INSERT INTO ledger SELECT (SELECT max(id) + 1 FROM ledger), 4000, NULL, account, 'payout', 7, balance + 7, "
	            "withdrawable + 7, 1 FROM balances"
	            " JOIN accounts ON ref = account WHERE id = 'farmer';"
	            "UPDATE balances SET balance = balance - 7 WHERE account = (SELECT ref FROM accounts WHERE id = 'buyer');"
	            "UPDATE balances SET balance = balance + 7, withdrawable = withdrawable + 7"
	            " WHERE account = (SELECT ref FROM accounts WHERE id = 'farmer')");
	assert_int_equal(audit.sum_uusd + audit.unbalanced + audit.broken_chains + audit.wrong_balances, 0);
	assert_int_equal(audit.wrong_settlements, 2);
}

static void a_charge_of_more_than_twice_the_hold_is_found(void **state)
{
	assert_int_equal(audit_after(*state, "UPDATE holds SET amount = 10 WHERE id = 2").wrong_settlements, 1);
}

static void assert_refused(struct fixture *f, const char *text, const char *word)
{
	struct error error = {0};
	struct sql *db = sql_open(f->path, SQL_WRITE, &error);
	assert_non_null(db);
	assert_false(sql_exec(db, text));
	if (!strstr(db->why.text, word))
		fail_msg("'%s' does not say '%s'", db->why.text, word);
	sql_close(db);
}

static void the_ledger_is_append_only(void **state)
{
	struct fixture *f = *state;
	assert_refused(f, "UPDATE ledger SET amount = 1", "append-only");
	assert_refused(f, "DELETE FROM ledger WHERE id = 1", "append-only");
	assert_books_right(f);
}

static void the_database_itself_refuses_a_negative_balance(void **state)
{
	struct fixture *f = *state;
	assert_refused(f, "UPDATE balances SET balance = -1 WHERE may_go_below = 0", "constraint");
	assert_refused(f, "UPDATE balances SET withdrawable = balance + 1", "constraint");
}

static void a_damaged_page_is_found(void **state)
{
	struct fixture *f = *state;
	if (f->on_postgres)
		skip(); /* its pages are its own: test_postgres.c damages one */
	FILE *file = fopen(f->path, "r+");
	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	long pages = ftell(file) / 4096;
	for (long page = 1; page < pages; page++) {
		fseek(file, page * 4096, SEEK_SET);
		fputs("\x07rubbish", file);
	}
	fclose(file);
	struct store_audit audit;
	struct error error = {0};
	assert_int_equal(store_audit(f->path, &audit, &error), DB_E_IO);
	assert_non_null(strstr(error.text, "damaged"));
}

static void a_missing_file_is_named(void **state)
{
	struct store_audit audit;
	struct error error = {0};
	(void)state;
	assert_int_equal(store_audit("no/such/file.db", &audit, &error), DB_E_IO);
	assert_true(strlen(error.text) > 10);
}

static void books_in_use_are_audited(void **state)
{
	struct fixture *f = *state;
	fixture_open(f);
	struct store_hold row = hold_of("later", "buyer", 500);
	store_hold_create(f->store, &row);
	fixture_flush(f);
	struct store_audit audit = audit_of(f);
	assert_true(store_audit_clean(&audit));
	assert_int_equal(audit.open_holds, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_with_history, fixture_stop)
	    TEST(right_books_are_clean),
	    TEST(an_altered_amount_is_found),
	    TEST(a_consistent_pair_of_altered_amounts_is_found),
	    TEST(a_removed_transaction_is_found),
	    TEST(an_altered_balance_is_found),
	    TEST(a_removed_balance_is_found),
	    TEST(a_negative_balance_is_found),
	    TEST(more_withdrawable_than_there_is_is_found),
	    TEST(an_altered_running_balance_is_found),
	    TEST(an_altered_usage_row_is_found),
	    TEST(a_removed_usage_row_is_found),
	    TEST(a_usage_row_given_to_another_account_is_found),
	    TEST(an_altered_earning_is_found),
	    TEST(an_invented_earning_is_found),
	    TEST(an_altered_summary_is_found),
	    TEST(an_altered_spend_of_a_key_is_found),
	    TEST(a_forgotten_spend_of_a_key_is_found),
	    TEST(a_settled_hold_called_released_is_found),
	    TEST(an_entry_of_nobody_is_found),
	    TEST(an_entry_of_no_request_is_found),
	    TEST(an_invented_movement_is_found),
	    TEST(a_charge_of_more_than_twice_the_hold_is_found),
	    TEST(the_ledger_is_append_only),
	    TEST(the_database_itself_refuses_a_negative_balance),
	    TEST(a_damaged_page_is_found),
	    TEST(a_missing_file_is_named),
	    TEST(books_in_use_are_audited),
	};
	return RUN_ON_BOTH(tests);
}
