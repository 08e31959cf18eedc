/* Answers that are kept for their callers: bounded, each account's own, gone when they are to go. */
#include "../store_fixture.h"

#include "coordinator/store/store_responses.h"

static char read_ids[16][STORE_ID_SIZE];
static char read_bytes[16][64];

static void on_rows(const struct store_response *rows, size_t count, const struct error *error, void *user)
{
	struct fixture *f = user;
	f->count = count;
	for (size_t i = 0; i < count && i < 16; i++) {
		memcpy(read_ids[i], rows[i].id, STORE_ID_SIZE);
		assert_true(str_copy(rows[i].sealed, read_bytes[i], sizeof read_bytes[i]));
	}
	fixture_answer(f, error);
}

static void add(struct fixture *f, const char *account, const char *id, const char *previous, int64_t at_us, const char *bytes)
{
	const struct store_response_bounds bounds = {.count = 4, .bytes = 30};
	struct store_response response = {.created_us = at_us, .sealed = str_of(bytes)};
	str_copy(str_of(id), response.id, sizeof response.id);
	str_copy(str_of(account), response.account_id, sizeof response.account_id);
	str_copy(str_of(previous), response.previous, sizeof response.previous);
	AWAIT_OK(f, store_response_add(f->store, &response, &bounds, fixture_done, f));
}

static struct store_response_query query(const char *account, const char *id, uint32_t depth)
{
	return (struct store_response_query){
	    .account_id = str_of(account), .id = str_of(id), .since_us = 10, .depth = depth, .max_bytes = 1000};
}

static int start(void **state)
{
	fixture_start(state);
	make_account(*state, "one", 0);
	make_account(*state, "two", 0);
	return 0;
}

static void a_conversation_is_read_newest_first(void **state)
{
	struct fixture *f = *state;
	add(f, "one", "a", "", 20, "first");
	add(f, "one", "b", "a", 21, "second");
	add(f, "one", "c", "b", 22, "third");
	struct store_response_query asked = query("one", "c", 8);
	AWAIT_OK(f, store_response_read(f->store, &asked, on_rows, f));
	assert_int_equal(f->count, 3);
	assert_string_equal(read_ids[0], "c");
	assert_string_equal(read_bytes[0], "third");
	assert_string_equal(read_bytes[2], "first");
	asked.depth = 1;
	AWAIT_OK(f, store_response_read(f->store, &asked, on_rows, f));
	assert_int_equal(f->count, 1);
	asked.depth = 2;
	AWAIT_ERROR(f, DB_E_LIMIT, store_response_read(f->store, &asked, on_rows, f));
	asked.depth = 8;
	asked.max_bytes = 12;
	AWAIT_ERROR(f, DB_E_LIMIT, store_response_read(f->store, &asked, on_rows, f));
	asked.id = STR("");
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_response_read(f->store, &asked, on_rows, f));
}

static void nobody_reaches_another_accounts_answers(void **state)
{
	struct fixture *f = *state;
	add(f, "one", "a", "", 20, "mine");
	add(f, "two", "b", "a", 21, "theirs");
	struct store_response_query asked = query("two", "a", 8);
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_response_read(f->store, &asked, on_rows, f));
	asked.id = STR("b"); /* which goes on from what is not theirs */
	AWAIT_ERROR(f, DB_E_CLOSED, store_response_read(f->store, &asked, on_rows, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_response_delete(f->store, STR("two"), STR("a"), fixture_done, f));
	AWAIT_OK(f, store_response_delete(f->store, STR("one"), STR("a"), fixture_done, f));
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_response_delete(f->store, STR("one"), STR("a"), fixture_done, f));
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM responses"), 1);
}

static void the_oldest_make_room_within_their_account(void **state)
{
	struct fixture *f = *state;
	static const char *const ids[] = {"a", "b", "c", "d", "e"};
	add(f, "two", "z", "", 1, "stays");
	for (int i = 0; i < 5; i++)
		add(f, "one", ids[i], "", 20 + i, "12345");
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM responses"), 5);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM responses WHERE id = 'a'"), 0);
	add(f, "one", "large", "", 30, "1234567890123456789012345"); /* with one other it fills the account */
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM responses"), 3);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM responses WHERE id IN ('e', 'large', 'z')"), 3);
}

static void what_is_too_old_is_gone_for_good(void **state)
{
	struct fixture *f = *state;
	add(f, "one", "a", "", 5, "old");
	add(f, "one", "b", "a", 20, "young");
	struct store_response_query asked = query("one", "a", 1);
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_response_read(f->store, &asked, on_rows, f)); /* before it was cleared away */
	store_responses_expire(f->store, 10);
	AWAIT_OK(f, store_flush(f->store, fixture_done, f));
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM responses"), 1);
}

static void an_unknown_account_keeps_nothing(void **state)
{
	struct fixture *f = *state;
	const struct store_response_bounds bounds = {.count = 4, .bytes = 30};
	struct store_response response = {.id = "a", .account_id = "nobody", .sealed = STR("x")};
	AWAIT_ERROR(f, DB_E_NOT_FOUND, store_response_add(f->store, &response, &bounds, fixture_done, f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_conversation_is_read_newest_first, start, fixture_stop),
	    cmocka_unit_test_setup_teardown(nobody_reaches_another_accounts_answers, start, fixture_stop),
	    cmocka_unit_test_setup_teardown(the_oldest_make_room_within_their_account, start, fixture_stop),
	    cmocka_unit_test_setup_teardown(what_is_too_old_is_gone_for_good, start, fixture_stop),
	    cmocka_unit_test_setup_teardown(an_unknown_account_keeps_nothing, start, fixture_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
