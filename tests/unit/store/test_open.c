#include "../store_fixture.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "coordinator/store/migrate.h"
#include "coordinator/store/sqlite_file.h"

static void assert_refused(const char *path, enum db_err code, const char *word)
{
	struct error error = {0}, loop_error;
	struct net_loop *loop = net_loop_new(&loop_error);
	struct store *store = store_open(&(struct store_options){.path = path}, loop, &error);
	assert_null(store);
	assert_int_equal(error.code, code);
	if (!strstr(error.text, word))
		fail_msg("'%s' does not say '%s'", error.text, word);
	net_loop_free(loop);
}

static void a_new_file_is_made_private_and_at_the_last_version(void **state)
{
	struct fixture *f = *state;
	struct stat info;
	fixture_open(f);
	assert_int_equal(stat(f->path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	char wal[640];
	snprintf(wal, sizeof wal, "%s-wal", f->path);
	make_account(f, "a", 0);
	assert_int_equal(stat(wal, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_equal(fixture_number(f, "SELECT max(version) FROM schema_version"), migrations[migrations_count - 1].version);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM schema_version"), migrations_count);
	assert_books_right(f);
}

static void what_was_written_is_there_after_a_restart(void **state)
{
	struct fixture *f = *state;
	fixture_open(f);
	make_account(f, "buyer", 500);
	struct store_hold row = hold_of("r1", "buyer", 100);
	store_hold_create(f->store, &row);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(balance_of(f, "buyer"), 500);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'released' AND reason = 'restart'"), 1);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM schema_version"), migrations_count);
	assert_books_right(f);
}

static struct sql *open_beside(struct fixture *f)
{
	struct error error = {0};
	assert_int_equal(sqlite_file_make(f->path, &error), DB_OK);
	struct sql *db = sql_open(f->path, SQL_WRITE, &error);
	if (!db)
		fail_msg("%s", error.text);
	return db;
}

/* The file as the first version left it, with an owner, a key and a price. */
static void make_first_version(struct fixture *f)
{
	struct error error = {0};
	struct sql *db = open_beside(f);
	if (migrate(db, migrations, 1, &error))
		fail_msg("%s", error.text);
	int version;
	assert_int_equal(schema_version(db, &version, &error), DB_OK);
	assert_int_equal(version, 1);
	sql_close(db);
	fixture_sql(f,
	            "INSERT INTO accounts (id, kind, name, role, fee_percent, is_owner, created_us) VALUES"
	            " ('me', 'user', 'owner', 'service', 9, 1, 5);"
	            "INSERT INTO api_keys (hash, id, account, label, created_us) SELECT 'aa', 'key_1', ref, 'sk', 6 FROM accounts"
	            " WHERE id = 'me';"
	            "INSERT INTO prices SELECT ref, 'm1', 11, 22, 7 FROM accounts WHERE id = 'platform'");
}

static void an_older_database_is_brought_forward_with_its_data(void **state)
{
	struct fixture *f = *state;
	make_first_version(f);
	assert_refused(f->path, DB_E_UNSUPPORTED, "darkbloom-coordinator migrate");
	fixture_migrate(f);
	fixture_open(f);
	AWAIT_OK(f, store_owner_get(f->store, fixture_account, f));
	assert_true(f->found);
	assert_string_equal(f->account.id, "me");
	assert_int_equal(f->account.fee_percent, 9);
	assert_int_equal(f->account.role, STORE_ROLE_SERVICE);
	AWAIT_OK(f, store_key_find(f->store, STR("aa"), fixture_key, f));
	assert_true(f->found);
	AWAIT_OK(f, store_prices_list(f->store, fixture_prices, f));
	assert_int_equal(f->count, 1);
	assert_int_equal(f->prices[0].input, 11);

	struct store_transfer grant = {
	    .key = "k", .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "me", .amount_uusd = 50};
	AWAIT_OK(f, store_transfer(f->store, &grant, fixture_transferred, f));
	assert_int_equal(balance_of(f, "me"), 50);
	assert_books_right(f);
}

/* Money as every version since the second one has kept it: a grant of 500, and a request that was charged 100 of it. */
static const char old_money[] =
    "INSERT INTO accounts (id, kind, created_us) VALUES ('buyer', 'user', 1);"
    "INSERT INTO balances (account, may_go_below, balance) SELECT ref, 0, 400 FROM accounts WHERE id = 'buyer';"
    "INSERT INTO transfers (id, key, created_us) VALUES (1, 'grant', 1);"
    "INSERT INTO ledger (id, transfer, account, type, amount, balance_after, withdrawable_after, created_us)"
    " SELECT 1, 1, ref, 'admin_credit', -500, -500, 0, 1 FROM accounts WHERE id = 'grants';"
    "INSERT INTO ledger (id, transfer, account, type, amount, balance_after, withdrawable_after, created_us)"
    " SELECT 2, 1, ref, 'admin_credit', 500, 500, 0, 1 FROM accounts WHERE id = 'buyer';"
    "INSERT INTO ledger (id, hold, account, type, amount, balance_after, withdrawable_after, created_us)"
    " SELECT 3, 1, ref, 'charge', -100, 400, 0, 2 FROM accounts WHERE id = 'buyer';"
    "INSERT INTO ledger (id, hold, account, type, amount, balance_after, withdrawable_after, created_us)"
    " SELECT 4, 1, ref, 'platform_retained', 100, 100, 0, 2 FROM accounts WHERE id = 'platform';"
    "UPDATE balances SET balance = -500 WHERE account = (SELECT ref FROM accounts WHERE id = 'grants');"
    "UPDATE balances SET balance = 100 WHERE account = (SELECT ref FROM accounts WHERE id = 'platform');"
    "INSERT INTO holds (id, request_id, account, amount, price_in, price_out, state, entry, created_us, ended_us)"
    " SELECT 1, 'r1', ref, 100, 50000, 200000, 'settled', 3, 1, 2 FROM accounts WHERE id = 'buyer';"
    "INSERT INTO holds (id, request_id, account, amount, price_in, price_out, state, created_us)"
    " SELECT 2, 'r2', ref, 50, 50000, 200000, 'open', 1 FROM accounts WHERE id = 'buyer';"
    "INSERT INTO usage (id, account, key_id, provider_id, provider_key, model, public_model, prompt_tokens, completion_tokens,"
    " reasoning_tokens, price_in, price_out, cost, fee, outcome, created_us)"
    " SELECT 1, ref, '', 'p', 'k', 'm', 'm', 3, 4, 0, 50000, 200000, 100, 0, 'success', 2 FROM accounts WHERE id = "
    "'buyer'";

static void make_version(struct fixture *f, size_t count)
{
	struct error error = {0};
	struct sql *db = f->on_postgres ? postgres_sql(f->path) : open_beside(f);
	if (migrate(db, migrations, count, &error))
		fail_msg("%s", error.text);
	if (!sql_exec(db, old_money))
		fail_msg("version %d: %s", migrations[count - 1].version, db->why.text);
	if (db->kind == SQL_POSTGRES && migrations[count - 1].version >= 6)
		sql_exec(db, "UPDATE turn SET last_hold = 2, last_entry = 4");
	sql_close(db);
}

static void every_earlier_version_is_brought_forward_with_its_money(void **state)
{
	(void)state;
	for (size_t count = 2; count < migrations_count; count++) {
		struct fixture f;
		fixture_folder(&f);
		make_version(&f, count);
		fixture_migrate(&f);
		fixture_open(&f);
		assert_int_equal(balance_of(&f, "buyer"), 400);
		assert_int_equal(fixture_number(&f, "SELECT count(*) FROM holds WHERE request_id = 'r2' AND reason = 'restart'"), 1);
		struct store_settlement again = settlement_of("r1", "buyer", "", 100, 0),
		                        next = settlement_of("r3", "buyer", "", 30, 0);
		AWAIT_OK(&f, store_settle(f.store, &again, fixture_done, &f));
		AWAIT_OK(&f, store_settle(f.store, &next, fixture_done, &f));
		assert_int_equal(balance_of(&f, "buyer"), 370);
		assert_books_right(&f);
		fixture_close(&f);
		fixture_remove(&f);
	}
}

static void a_newer_database_is_refused_and_left_alone(void **state)
{
	struct fixture *f = *state;
	fixture_open(f);
	fixture_close(f);
	fixture_sql(f, "INSERT INTO schema_version VALUES (99, 'future', 1)");
	assert_refused(f->path, DB_E_UNSUPPORTED, "version 99");
	assert_int_equal(fixture_number(f, "SELECT max(version) FROM schema_version"), 99);
	struct store_audit audit;
	struct error error = {0};
	assert_int_equal(store_audit(f->path, &audit, &error), DB_E_UNSUPPORTED);
	int from = 0, to = 0;
	assert_int_equal(store_migrate(f->path, &from, &to, &error), DB_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "version 99"));
	assert_int_equal(fixture_number(f, "SELECT max(version) FROM schema_version"), 99);
}

static void a_migration_that_fails_leaves_the_file_as_it_was(void **state)
{
	struct fixture *f = *state;
	static const struct migration list[] = {
	    {1, "good", "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)"},
	    {2, "bad", "CREATE TABLE b (x INTEGER); INSERT INTO nowhere VALUES (1)"},
	};
	struct error error = {0};
	int version;
	struct sql *db = open_beside(f);
	assert_int_not_equal(migrate(db, list, 2, &error), DB_OK);
	assert_non_null(strstr(error.text, "nowhere"));
	assert_int_equal(schema_version(db, &version, &error), DB_OK);
	assert_int_equal(version, 1);
	sql_close(db);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM sqlite_schema WHERE name = 'b'"), 0);
	assert_int_equal(fixture_number(f, "SELECT x FROM a"), 1);
}

static void migrations_are_numbered_in_order(void **state)
{
	(void)state;
	for (size_t i = 1; i < migrations_count; i++)
		assert_true(migrations[i].version > migrations[i - 1].version);
}

static void a_second_coordinator_is_refused(void **state)
{
	struct fixture *f = *state;
	fixture_open(f);
	make_account(f, "buyer", 10);
	struct store_hold row = hold_of("r1", "buyer", 5);
	store_hold_create(f->store, &row);
	fixture_flush(f);
	assert_refused(f->path, DB_E_EXISTS, "in use");
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 1);
}

static void what_is_no_database_is_refused(void **state)
{
	struct fixture *f = *state;
	FILE *file = fopen(f->path, "w");
	assert_non_null(file);
	for (int i = 0; i < 1000; i++)
		fputs("this is not a database, and must not become one\n", file);
	fclose(file);
	assert_refused(f->path, DB_E_IO, "damaged");
}

static void a_missing_folder_is_named(void **state)
{
	struct fixture *f = *state;
	char path[1024];
	snprintf(path, sizeof path, "%s/no/such/ledger.db", f->folder);
	assert_refused(path, DB_E_IO, "folder");
}

/* Root may write everywhere, so a child that is nobody tries. */
static void try_as_nobody(const char *path)
{
	struct error error = {0};
	if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
		_exit(2);
	struct net_loop *loop = net_loop_new(&error);
	if (!loop)
		_exit(3);
	struct store *store = store_open(&(struct store_options){.path = path}, loop, &error);
	_exit(store == NULL && error.code == DB_E_IO && strstr(error.text, "folder") ? 0 : 1);
}

static void a_folder_that_cannot_be_written_is_refused(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(chmod(f->folder, 0555), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		try_as_nobody(f->path);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(chmod(f->folder, 0755), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(access(f->path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start_without_store, fixture_stop)
	    TEST(a_new_file_is_made_private_and_at_the_last_version),
	    TEST(what_was_written_is_there_after_a_restart),
	    TEST(an_older_database_is_brought_forward_with_its_data),
	    TEST(every_earlier_version_is_brought_forward_with_its_money),
	    TEST(a_newer_database_is_refused_and_left_alone),
	    TEST(a_migration_that_fails_leaves_the_file_as_it_was),
	    TEST(migrations_are_numbered_in_order),
	    TEST(a_second_coordinator_is_refused),
	    TEST(what_is_no_database_is_refused),
	    TEST(a_missing_folder_is_named),
	    TEST(a_folder_that_cannot_be_written_is_refused),
	};
	const struct CMUnitTest on_both[] = {cmocka_unit_test(every_earlier_version_is_brought_forward_with_its_money)};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_on_postgres = true;
	return failed + cmocka_run_group_tests_name("on PostgreSQL", on_both, NULL, NULL);
}
