/* SQLite's write-ahead log is moved into the file, and begun anew: at once when writes stop, now and then while they go on.
 * What it took on the disk while somebody read the database for long it gives back then. */
#include "../store_fixture.h"

#include <sys/stat.h>

#include "coordinator/store/store_responses.h"
#include "core/clock.h"

#define PATIENCE_US UINT64_C(60000000)
#define SEALED_SIZE 500000
#define LONGEST_LOG (UINT64_C(2) << 30)
#define KEPT_LOG    (UINT64_C(128) << 20) /* of an empty one */

static char sealed[SEALED_SIZE];

/* The number of times the log was begun: the header has it (the file format of SQLite, 4.1). */
static uint32_t times_begun(const struct fixture *f)
{
	char path[700];
	uint8_t header[32] = {0};
	snprintf(path, sizeof path, "%s-wal", f->path);
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	assert_int_equal(fread(header, 1, sizeof header, file), sizeof header);
	fclose(file);
	return (uint32_t)header[12] << 24 | (uint32_t)header[13] << 16 | (uint32_t)header[14] << 8 | header[15];
}

static uint64_t size_of_log(const struct fixture *f)
{
	char path[700];
	struct stat about;
	snprintf(path, sizeof path, "%s-wal", f->path);
	assert_int_equal(stat(path, &about), 0);
	return (uint64_t)about.st_size;
}

/* About as much log as it has bytes; the file stays small. */
static void write_much(struct fixture *f, store_done_fn done, void *user)
{
	static unsigned written;
	const struct store_response_bounds bounds = {.count = 2, .bytes = 4 * SEALED_SIZE};
	struct store_response response = {.created_us = 20, .sealed = {sealed, sizeof sealed}};
	snprintf(response.id, sizeof response.id, "answer-%u", written++);
	str_copy(STR("writer"), response.account_id, sizeof response.account_id);
	store_response_add(f->store, &response, &bounds, done, user);
}

static void write_little(struct fixture *f)
{
	static unsigned written;
	char id[32];
	snprintf(id, sizeof id, "account-%u", written++);
	make_account(f, id, 0);
}

static int start(void **state)
{
	fixture_start(state);
	make_account(*state, "writer", 0);
	memset(sealed, 's', sizeof sealed);
	return 0;
}

static void rest_until_begun_anew(struct fixture *f, uint32_t begun)
{
	for (uint64_t start_us = clock_mono_us(); times_begun(f) == begun; write_little(f)) {
		assert_true(clock_mono_us() - start_us < PATIENCE_US);
		usleep(50000);
	}
}

static void the_log_is_begun_anew_when_writes_stop(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 4; i++)
		AWAIT_OK(f, write_much(f, fixture_done, f));
	rest_until_begun_anew(f, times_begun(f));
	assert_books_right(f);
}

/* Writes that follow each other: the writer always has some before it. */
struct rush {
	struct fixture *f;
	uint32_t begun;
	uint64_t enough; /* of log; 0 = until it is begun anew */
	unsigned under_way;
	uint64_t written;
};

static void on_written(const struct error *error, void *user)
{
	struct rush *rush = user;
	assert_null(error);
	rush->written += SEALED_SIZE;
	bool is_over = rush->enough ? size_of_log(rush->f) > rush->enough : times_begun(rush->f) != rush->begun;
	if (rush->written < LONGEST_LOG && !is_over)
		write_much(rush->f, on_written, rush);
	else if (--rush->under_way == 0)
		net_loop_stop(rush->f->loop);
}

static void run_rush(struct rush *rush)
{
	for (unsigned i = 0; i < rush->under_way; i++)
		write_much(rush->f, on_written, rush);
	net_loop_run(rush->f->loop);
	assert_true(rush->written < LONGEST_LOG);
}

static void a_log_that_never_rests_is_begun_anew_too(void **state)
{
	struct fixture *f = *state;
	AWAIT_OK(f, write_much(f, fixture_done, f));
	struct rush rush = {.f = f, .begun = times_begun(f), .under_way = 8};
	run_rush(&rush);
	assert_books_right(f);
}

/* A backup is such a reader: the log keeps what it may still read. */
static void the_room_of_a_log_that_grew_beside_a_reader_is_given_back(void **state)
{
	struct fixture *f = *state;
	sqlite3 *reader;
	AWAIT_OK(f, write_much(f, fixture_done, f));
	assert_int_equal(sqlite3_open_v2(f->path, &reader, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM accounts", NULL, NULL, NULL), SQLITE_OK);
	run_rush(&(struct rush){.f = f, .enough = KEPT_LOG + KEPT_LOG / 8, .under_way = 8});
	uint32_t begun = times_begun(f);
	assert_true(size_of_log(f) > KEPT_LOG);
	assert_int_equal(sqlite3_close(reader), SQLITE_OK);
	rest_until_begun_anew(f, begun);
	assert_int_equal(size_of_log(f), KEPT_LOG);
	assert_books_right(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(the_log_is_begun_anew_when_writes_stop, start, fixture_stop),
	    cmocka_unit_test_setup_teardown(a_log_that_never_rests_is_begun_anew_too, start, fixture_stop),
	    cmocka_unit_test_setup_teardown(the_room_of_a_log_that_grew_beside_a_reader_is_given_back, start, fixture_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
