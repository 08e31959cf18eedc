/* SQLite's write-ahead log is moved into the file, and begun anew: at once when writes stop, now and then while they go on. */
#include "../store_fixture.h"

#include "coordinator/store/store_responses.h"
#include "core/clock.h"

#define PATIENCE_US UINT64_C(60000000)
#define SEALED_SIZE 500000
#define LONGEST_LOG (UINT64_C(2) << 30)

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

static void the_log_is_begun_anew_when_writes_stop(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 4; i++)
		AWAIT_OK(f, write_much(f, fixture_done, f));
	uint32_t begun = times_begun(f);
	for (uint64_t start_us = clock_mono_us(); times_begun(f) == begun; write_little(f)) {
		assert_true(clock_mono_us() - start_us < PATIENCE_US);
		usleep(50000);
	}
	assert_books_right(f);
}

/* Writes that follow each other: the writer always has some before it. */
struct rush {
	struct fixture *f;
	uint32_t begun;
	unsigned under_way;
	uint64_t written;
};

static void on_written(const struct error *error, void *user)
{
	struct rush *rush = user;
	assert_null(error);
	rush->written += SEALED_SIZE;
	if (rush->written < LONGEST_LOG && times_begun(rush->f) == rush->begun)
		write_much(rush->f, on_written, rush);
	else if (--rush->under_way == 0)
		net_loop_stop(rush->f->loop);
}

static void a_log_that_never_rests_is_begun_anew_too(void **state)
{
	struct fixture *f = *state;
	AWAIT_OK(f, write_much(f, fixture_done, f));
	struct rush rush = {.f = f, .begun = times_begun(f), .under_way = 8};
	for (unsigned i = 0; i < rush.under_way; i++)
		write_much(f, on_written, &rush);
	net_loop_run(f->loop);
	assert_true(rush.written < LONGEST_LOG);
	assert_books_right(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(the_log_is_begun_anew_when_writes_stop, start, fixture_stop),
	    cmocka_unit_test_setup_teardown(a_log_that_never_rests_is_begun_anew_too, start, fixture_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
