/* A disk that takes no more: the store says so, refuses, and loses nothing that it had promised. */
#include "../store_fixture.h"

#include "coordinator/store/sqlite_file.h"

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static size_t settled_well, settled_badly;

static void on_settled(const struct error *error, void *user)
{
	(void)user;
	if (error)
		settled_badly++;
	else
		settled_well++;
}

static void settle_many(struct fixture *f, int first, int count)
{
	for (int i = first; i < first + count; i++) {
		char request[24];
		snprintf(request, sizeof request, "request-%d", i);
		struct store_hold row = hold_of(request, "buyer", 100);
		store_hold_create(f->store, &row);
		struct store_settlement s = settlement_of(request, "buyer", "farmer", 100, 1);
		store_settle(f->store, &s, on_settled, NULL);
	}
}

/* Settles until the disk is full, then frees space with `relieve` and looks at what is left. */
static void fill_and_recover(struct fixture *f, const char *word, void (*relieve)(struct fixture *f))
{
	struct error why = {0};
	settled_well = settled_badly = 0;
	for (int round = 0; store_healthy(f->store, NULL); round++) {
		assert_true(round < 2000);
		settle_many(f, round * 100, 100);
		AWAIT(f, store_flush(f->store, fixture_done, f));
	}
	assert_true(settled_badly > 0);
	assert_false(store_healthy(f->store, &why));
	assert_int_equal(why.code, DB_E_IO);
	if (!strstr(why.text, word))
		fail_msg("'%s' does not say '%s'", why.text, word);

	/* From here on everything fails with the same sentence: no guess. */
	AWAIT_ERROR(f, DB_E_IO, store_flush(f->store, fixture_done, f));
	assert_string_equal(f->error.text, why.text);
	AWAIT_ERROR(f, DB_E_IO, store_account_get(f->store, STR("buyer"), fixture_account, f));
	AWAIT_ERROR(f, DB_E_IO, store_owner_get(f->store, fixture_account, f));
	fixture_close(f);

	relieve(f);
	fixture_open(f);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 0);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM usage"), settled_well);
	assert_int_equal(balance_of(f, "buyer"), 100000000 - 100 * (int64_t)settled_well);
	assert_int_equal(balance_of(f, "farmer"), 99 * (int64_t)settled_well);
	assert_books_right(f);
	settle_many(f, 1000000, 10);
	fixture_flush(f);
	assert_int_equal(balance_of(f, "buyer"), 100000000 - 100 * (int64_t)settled_well);
}

static void make_accounts(struct fixture *f)
{
	make_account(f, "buyer", 100000000);
	make_account(f, "farmer", 0);
}

static void limit_file_size(rlim_t bytes)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void lift_file_size(struct fixture *f)
{
	(void)f;
	limit_file_size(RLIM_INFINITY);
}

static void a_write_that_fails_stops_the_money_and_spoils_nothing(void **state)
{
	struct fixture *f = *state;
	signal(SIGXFSZ, SIG_IGN); /* the write fails with EFBIG instead */
	fixture_open(f);
	make_accounts(f);
	limit_file_size(1 << 20);
	fill_and_recover(f, "disk", lift_file_size);
}

/* What the system says of a disk that it made read-only while a program writes to it, as it does after a fault. */
static bool is_read_only;

static ssize_t write_at(int file, const void *at, size_t len, off_t where)
{
	errno = EROFS;
	return is_read_only ? -1 : pwrite(file, at, len, where);
}

static ssize_t write_on(int file, const void *at, size_t len)
{
	errno = EROFS;
	return is_read_only ? -1 : write(file, at, len);
}

static int cut(int file, off_t len)
{
	errno = EROFS;
	return is_read_only ? -1 : ftruncate(file, len);
}

static void make_writable(struct fixture *f)
{
	(void)f;
	is_read_only = false;
}

static void a_disk_that_turns_read_only_stops_the_money_and_spoils_nothing(void **state)
{
	static const struct {
		const char *name;
		sqlite3_syscall_ptr call;
	} calls[] = {{"pwrite", (sqlite3_syscall_ptr)write_at},
	             {"pwrite64", (sqlite3_syscall_ptr)write_at},
	             {"write", (sqlite3_syscall_ptr)write_on},
	             {"ftruncate", (sqlite3_syscall_ptr)cut}};
	struct fixture *f = *state;
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		(void)vfs->xSetSystemCall(vfs, calls[i].name, calls[i].call); /* one of two is not there */
	fixture_open(f);
	make_accounts(f);
	is_read_only = true;
	fill_and_recover(f, "disk", make_writable);
	vfs->xSetSystemCall(vfs, NULL, NULL);
}

static void grow_disk(struct fixture *f)
{
	assert_int_equal(mount("tmpfs", f->folder, "tmpfs", MS_REMOUNT, "size=64m"), 0);
}

static void a_full_disk_stops_the_money_and_spoils_nothing(void **state)
{
	struct fixture *f = *state;
	if (mount("tmpfs", f->folder, "tmpfs", 0, "size=1m,mode=0700"))
		skip(); /* only root may; the limit of the file's size above shows the same */
	fixture_open(f);
	make_accounts(f);
	fill_and_recover(f, "disk is full", grow_disk);
	fixture_close(f);
	umount(f->folder);
}

/* Instead of the C library's: the disk does not keep what was written to this file. */
static ino_t lost_file;

static int sync_with(long call, int file)
{
	struct stat is;
	if (lost_file && fstat(file, &is) == 0 && is.st_ino == lost_file) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(call, file);
}

int fsync(int file)
{
	return sync_with(SYS_fsync, file);
}

int fdatasync(int file)
{
	return sync_with(SYS_fdatasync, file);
}

static struct sql *connect_to(const struct fixture *f, enum sql_mode mode)
{
	struct error error = {0};
	struct sql *db = sql_open(f->path, mode, &error);
	if (!db)
		fail_msg("sql_open: %s", error.text);
	return db;
}

static int log_left(struct sql *db)
{
	int pages = -1;
	assert_int_equal(sqlite_file_move_log(db, &pages, NULL), DB_OK);
	return pages;
}

/* The log is what is left of pages that may not be on the disk: whoever was told so moves no more of it, and leaves the end,
 * and with it the error, to the writer. */
static void a_mover_that_could_not_sync_moves_no_more(void **state)
{
	struct fixture *f = *state;
	struct error error = {0};
	fixture_open(f);
	fixture_close(f);
	struct sqlite_mover *mover = sqlite_mover_open(f->path, &error);
	struct sql *writer = connect_to(f, SQL_WRITE), *reader = connect_to(f, SQL_WRITE);
	struct stat is;
	assert_non_null(mover);
	assert_int_equal(stat(f->path, &is), 0);
	assert_true(sql_exec(writer, "CREATE TABLE moved (n INTEGER); INSERT INTO moved VALUES (1)"));
	assert_true(sql_exec(reader, "BEGIN; SELECT n FROM moved")); /* the log is not moved past this */
	assert_true(sql_exec(writer, "INSERT INTO moved VALUES (2)"));
	lost_file = is.st_ino;
	assert_false(sqlite_mover_move(mover, false));
	lost_file = 0;
	assert_true(sql_exec(reader, "COMMIT"));
	assert_false(sqlite_mover_move(mover, true));
	int pages = -1;
	lost_file = is.st_ino;
	assert_int_equal(sqlite_file_move_log(writer, &pages, &error), DB_E_IO);
	lost_file = 0;
	assert_int_equal(log_left(writer), 0);
	sqlite_mover_close(mover);
	sql_close(reader);
	sql_close(writer);
	assert_int_equal(fixture_number(f, "SELECT sum(n) FROM moved"), 3);
}

static void a_page_that_is_damaged_stops_the_store(void **state)
{
	struct fixture *f = *state;
	fixture_open(f);
	make_accounts(f);
	settle_many(f, 0, 2000);
	fixture_flush(f);
	fixture_close(f);
	FILE *file = fopen(f->path, "r+");
	assert_non_null(file);
	int64_t page = fixture_number(f, "SELECT rootpage FROM sqlite_schema WHERE name = 'balances'");
	fseek(file, (long)(page - 1) * 4096, SEEK_SET);
	for (int i = 0; i < 512; i++)
		fputs("\xfe\xedrubbi", file);
	fclose(file);

	fixture_open(f);
	AWAIT(f, store_account_get(f->store, STR("buyer"), fixture_account, f));
	assert_true(f->failed);
	assert_int_equal(f->error.code, DB_E_IO);
	assert_non_null(strstr(f->error.text, "damaged"));
	struct error why;
	assert_false(store_healthy(f->store, &why));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start_without_store, fixture_stop)
	    TEST(a_write_that_fails_stops_the_money_and_spoils_nothing),
	    TEST(a_disk_that_turns_read_only_stops_the_money_and_spoils_nothing),
	    TEST(a_full_disk_stops_the_money_and_spoils_nothing),
	    TEST(a_mover_that_could_not_sync_moves_no_more),
	    TEST(a_page_that_is_damaged_stops_the_store),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
