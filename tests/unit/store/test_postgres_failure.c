/* PostgreSQL whose disk is full, whose files are damaged, or which takes no writes: it is noticed, said clearly, and nothing is
 * guessed. */
#include "../store_fixture.h"

#include "coordinator/store/postgres_db.h"

#include <pwd.h>
#include <sys/mount.h>
#include <sys/stat.h>

static int start(void **state)
{
	fixture_on_postgres = true;
	return fixture_start(state);
}

static size_t settled_well, settled_badly;

static void on_settled(const struct error *error, void *user)
{
	(void)user;
	settled_well += error == NULL;
	settled_badly += error != NULL;
}

static int settle_some(struct fixture *f, int first, int count)
{
	for (int i = first; i < first + count; i++) {
		char request[24];
		snprintf(request, sizeof request, "request-%d", i);
		struct store_hold row = hold_of(request, "buyer", 100);
		struct store_settlement s = settlement_of(request, "buyer", "farmer", 100, 1);
		store_hold_create(f->store, &row);
		store_settle(f->store, &s, on_settled, NULL);
	}
	return first + count;
}

static void make_accounts(struct fixture *f)
{
	settled_well = settled_badly = 0;
	make_account(f, "buyer", 100000000);
	make_account(f, "farmer", 0);
}

static bool becomes(struct fixture *f, bool healthy)
{
	for (int i = 0; i < 1200 && store_healthy(f->store, NULL) != healthy; i++)
		usleep(50000);
	return store_healthy(f->store, NULL) == healthy;
}

/* What was asked for while it took no writes is written when it does again, once. */
static void assert_all_written(struct fixture *f, int asked)
{
	assert_true(becomes(f, true));
	fixture_flush(f);
	assert_int_equal(settled_well, asked);
	assert_int_equal(settled_badly, 0);
	assert_int_equal(balance_of(f, "buyer"), 100000000 - 100 * (int64_t)asked);
	assert_books_right(f);
}

static void a_full_disk_is_waited_out(void **state)
{
	struct fixture *f = *state;
	char sql[700], space[64];
	struct error why = {0};
	int asked = 0;
	const struct passwd *postgres = getpwnam("postgres");
	if (mount("tmpfs", f->folder, "tmpfs", 0, "size=1m,mode=0700"))
		skip(); /* only root may */
	if (postgres)
		assert_int_equal(chown(f->folder, postgres->pw_uid, postgres->pw_gid), 0);
	snprintf(space, sizeof space, "full%d", (int)getpid());
	fixture_close(f);
	snprintf(sql, sizeof sql, "CREATE TABLESPACE %s LOCATION '%s'", space, f->folder);
	fixture_sql(f, sql);
	snprintf(sql, sizeof sql, "ALTER TABLE usage SET TABLESPACE %s", space);
	fixture_sql(f, sql);
	fixture_open(f);
	make_accounts(f);
	while (store_healthy(f->store, NULL)) {
		assert_true(asked < 200000);
		asked = settle_some(f, asked, 500);
		usleep(20000);
	}
	assert_false(store_healthy(f->store, &why));
	assert_int_equal(why.code, DB_E_AGAIN);
	assert_true(strlen(why.text) > 20);
	assert_int_equal(mount("tmpfs", f->folder, "tmpfs", MS_REMOUNT, "size=512m"), 0);
	assert_all_written(f, asked);
	fixture_close(f);
	fixture_sql(f, "ALTER TABLE usage SET TABLESPACE pg_default");
	snprintf(sql, sizeof sql, "DROP TABLESPACE %s", space);
	fixture_sql(f, sql);
	umount(f->folder);
}

/* While `body` runs with every turn, nothing is written and money stops; afterwards all of it is written, once. */
static void assert_waited_out(struct fixture *f, int first, const char *body)
{
	char sql[500];
	struct error why = {0};
	size_t before = settled_well;
	snprintf(sql, sizeof sql,
	         "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; RETURN NULL; END $$;"
	         " CREATE TRIGGER refuse BEFORE UPDATE ON turn FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
	         body);
	fixture_sql(f, sql);
	int asked = settle_some(f, first, 20);
	assert_true(becomes(f, false));
	(void)store_healthy(f->store, &why);
	if (why.code != DB_E_AGAIN)
		fail_msg("%s: %s", body, why.text);
	assert_int_equal(settled_well, before);
	assert_int_equal(settled_badly, 0);
	fixture_sql(f, "DROP TRIGGER refuse ON turn; DROP FUNCTION refuse");
	assert_all_written(f, asked);
}

/* As a standby says it, and a server whose operator made it read-only. */
static void a_server_that_takes_no_writes_is_waited_out(void **state)
{
	make_accounts(*state);
	assert_waited_out(*state, 0,
	                  "RAISE EXCEPTION USING ERRCODE = '25006', MESSAGE = 'cannot execute UPDATE in a read-only transaction'");
}

static void a_turn_that_the_server_undoes_is_tried_again(void **state)
{
	static const char *const codes[] = {"40001",  /* cannot be serialised */
	                                    "40P01",  /* deadlock */
	                                    "57014",  /* the statement took too long */
	                                    "55P03",  /* so did a lock */
	                                    "53200"}; /* no memory */
	char body[100];
	make_accounts(*state);
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		snprintf(body, sizeof body, "RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = 'injected'", codes[i]);
		assert_waited_out(*state, 20 * (int)i, body);
	}
}

static void a_statement_that_takes_too_long_is_stopped(void **state)
{
	struct fixture *f = *state;
	struct sql *db = postgres_sql(f->path);
	postgres_db_statement_limit(db, 100);
	assert_false(sql_exec(db, "SELECT pg_sleep(600)"));
	assert_int_equal(db->failed, DB_E_AGAIN);
	sql_close(db);
}

static void a_connection_that_is_cut_within_a_turn_is_made_again(void **state)
{
	make_accounts(*state);
	assert_waited_out(*state, 0, "PERFORM pg_terminate_backend(pg_backend_pid())");
}

/* The file of a table, in the server's own folder. */
static void path_of(struct fixture *f, const char *table, char *out, size_t size)
{
	char text[200], folder[400] = "";
	struct sql *db = postgres_sql(f->path);
	snprintf(text, sizeof text, "SELECT pg_relation_filepath('%s')", table);
	struct sql_stmt *stmt = sql_say(db, text);
	assert_true(sql_row(stmt));
	char file[200];
	sql_copy(stmt, 0, file, sizeof file);
	sql_done(stmt);
	assert_true(sql_exec(db, "CHECKPOINT"));
	sql_close(db);
	const char *at = strstr(f->path, "host=") + 5;
	for (size_t len = 0; *at && *at != '&' && len + 1 < sizeof folder; len++) {
		bool slash = strncmp(at, "%2F", 3) == 0;
		folder[len] = slash ? '/' : *at;
		at += slash ? 3 : 1;
	}
	snprintf(out, size, "%s/data/%s", folder, file);
}

static void a_damaged_page_stops_the_store(void **state)
{
	struct fixture *f = *state;
	char path[700];
	struct error why = {0};
	make_accounts(f);
	settle_some(f, 0, 50);
	fixture_flush(f);
	path_of(f, "balances", path, sizeof path);
	fixture_close(f);
	postgres_crash();
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	for (int i = 0; i < 1024; i++)
		fputs("\xfe\xedrubbi", file);
	fclose(file);
	postgres_restart();

	fixture_open(f);
	AWAIT(f, store_account_get(f->store, STR("buyer"), fixture_account, f));
	assert_true(f->failed);
	assert_int_equal(f->error.code, DB_E_IO);
	assert_non_null(strstr(f->error.text, "damaged"));
	assert_non_null(strstr(f->error.text, "backup"));
	assert_false(store_healthy(f->store, &why));
	assert_int_equal(why.code, DB_E_IO);
	settle_some(f, 100, 1);
	AWAIT_ERROR(f, DB_E_IO, store_flush(f->store, fixture_done, f));
	assert_int_equal(settled_badly, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, fixture_stop)
	    TEST(a_full_disk_is_waited_out),
	    TEST(a_server_that_takes_no_writes_is_waited_out),
	    TEST(a_turn_that_the_server_undoes_is_tried_again),
	    TEST(a_statement_that_takes_too_long_is_stopped),
	    TEST(a_connection_that_is_cut_within_a_turn_is_made_again),
	    TEST(a_damaged_page_stops_the_store),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
