/* A restore drill: what was backed up while the store was in use is there again elsewhere, and what is damaged is refused. */
#include "../store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "coordinator/store/store_backup.h"

struct drill {
	struct fixture *f;
	char folder[700], target[700];
	struct store_backup backup;
	struct error error;
};

static struct drill begin(struct fixture *f)
{
	struct drill drill = {.f = f};
	make_account(f, "buyer", 100000);
	make_account(f, "farmer", 0);
	for (int i = 0; i < 50; i++) {
		char request[16];
		snprintf(request, sizeof request, "r%d", i);
		struct store_hold row = hold_of(request, "buyer", 500);
		struct store_settlement s = settlement_of(request, "buyer", i % 3 ? "farmer" : "", 400 + i, 40);
		store_hold_create(f->store, &row);
		if (i % 10)
			store_settle(f->store, &s, NULL, NULL);
	}
	fixture_flush(f);
	snprintf(drill.folder, sizeof drill.folder, "%s/backup", f->folder);
	if (f->on_postgres)
		postgres_database(drill.target, sizeof drill.target);
	else
		snprintf(drill.target, sizeof drill.target, "%s/elsewhere.db", f->folder);
	return drill;
}

static void make(struct drill *drill)
{
	if (store_backup_make(drill->f->path, drill->folder, &drill->backup, &drill->error))
		fail_msg("%s", drill->error.text);
}

static enum db_err restore(struct drill *drill)
{
	return store_backup_restore(drill->folder, drill->target, &drill->backup, &drill->error);
}

static void remove_backup(struct drill *drill)
{
	struct fixture inner = {0};
	snprintf(inner.folder, sizeof inner.folder, "%.250s", drill->folder);
	fixture_remove(&inner);
}

static void what_was_backed_up_in_use_is_there_again(void **state)
{
	struct drill drill = begin(*state);
	struct fixture *f = drill.f;
	struct stat info;
	make(&drill);
	assert_int_equal(stat(drill.folder, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0700);
	int64_t buyer = balance_of(f, "buyer"), farmer = balance_of(f, "farmer");
	struct store_transfer later = {.key = "later", .type = "admin_credit", .from = "grants", .to = "buyer", .amount_uusd = 9};
	AWAIT_OK(f, store_transfer(f->store, &later, fixture_transferred, f));
	if (restore(&drill))
		fail_msg("%s", drill.error.text);
	fixture_close(f);

	char original[600];
	memcpy(original, f->path, sizeof original);
	snprintf(f->path, sizeof f->path, "%.599s", drill.target);
	fixture_open(f);
	assert_int_equal(balance_of(f, "buyer"), buyer);
	assert_int_equal(balance_of(f, "farmer"), farmer);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE reason = 'restart'"), 5);
	/* It goes on as a database does: new rows get new numbers, the ledger refuses to be altered. */
	make_account(f, "newcomer", 5);
	AWAIT_OK(f, store_transfer(f->store, &later, fixture_transferred, f));
	assert_true(f->applied);
	assert_books_right(f);
	struct sql *db = sql_open(f->path, SQL_WRITE, &drill.error);
	assert_false(sql_exec(db, "DELETE FROM ledger"));
	sql_close(db);
	remove_backup(&drill);
}

static void a_target_or_a_folder_that_is_taken_is_refused(void **state)
{
	struct drill drill = begin(*state);
	make(&drill);
	assert_int_equal(store_backup_make(drill.f->path, drill.folder, &drill.backup, &drill.error), DB_E_EXISTS);
	assert_int_equal(store_backup_restore(drill.folder, drill.f->path, &drill.backup, &drill.error), DB_E_EXISTS);
	assert_int_equal(balance_of(drill.f, "farmer") > 0, true);
	remove_backup(&drill);
}

static void a_backup_that_was_damaged_is_refused(void **state)
{
	struct drill drill = begin(*state);
	char path[800];
	make(&drill);
	snprintf(path, sizeof path, "%s/%s", drill.folder, drill.f->on_postgres ? "ledger.copy" : "coordinator.db");
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	fseek(file, 20, SEEK_SET);
	fputc('7', file);
	fputc('8', file);
	fclose(file);
	assert_int_equal(restore(&drill), DB_E_CRYPTO);
	assert_non_null(strstr(drill.error.text, drill.f->on_postgres ? "ledger.copy" : "coordinator.db"));
	remove_backup(&drill);
}

static void a_backup_that_was_not_finished_is_refused(void **state)
{
	struct drill drill = begin(*state);
	char path[800];
	make(&drill);
	snprintf(path, sizeof path, "%s/manifest.json", drill.folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(restore(&drill), DB_E_IO);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	const char text[] =
	    "{\"format_version\": 1, \"kind\": \"sqlite\", \"schema_version\": 5, \"files\": [{\"name\": \"../x\"}]}";
	assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
	close(fd);
	assert_int_equal(restore(&drill), DB_E_INVALID);
	remove_backup(&drill);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)
	    TEST(what_was_backed_up_in_use_is_there_again),
	    TEST(a_target_or_a_folder_that_is_taken_is_refused),
	    TEST(a_backup_that_was_damaged_is_refused),
	    TEST(a_backup_that_was_not_finished_is_refused),
	};
	return RUN_ON_BOTH(tests);
}
