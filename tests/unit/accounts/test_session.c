/* Sessions: what a browser's cookie opens, and when it no longer does. */
#include "../store_fixture.h"

#include "coordinator/accounts/session.h"
#include "core/clock.h"
#include "crypto/secret.h"

static const char *const operators[] = {"boss@example.test"};

struct desk {
	struct fixture f;
	struct ledger *ledger;
	struct sessions *sessions;
	char token[SESSION_TOKEN_SIZE]; /* of the last one begun */
	char account[STORE_ID_SIZE];    /* of the last one found; empty = nobody */
	int64_t seen_us, auth_us;
	int answers;
};

static void open_desk(struct desk *d, int64_t idle_s, int64_t absolute_s)
{
	struct sessions_options options = {.store = d->f.store,
	                                   .ledger = d->ledger,
	                                   .idle_s = idle_s,
	                                   .absolute_s = absolute_s,
	                                   .operators = operators,
	                                   .operator_count = 1};
	d->sessions = sessions_new(&options);
	assert_non_null(d->sessions);
}

static int start(void **state)
{
	struct desk *d = calloc(1, sizeof *d);
	assert_non_null(d);
	fixture_folder(&d->f);
	fixture_open(&d->f);
	d->ledger = ledger_new(d->f.store);
	open_desk(d, 3600, 86400);
	make_account(&d->f, "ann", 0);
	make_account(&d->f, "bob", 0);
	*state = d;
	return 0;
}

static int stop(void **state)
{
	struct desk *d = *state;
	sessions_stop(d->sessions);
	fixture_close(&d->f);
	sessions_free(d->sessions);
	ledger_free(d->ledger);
	fixture_remove(&d->f);
	free(d);
	return 0;
}

/* --- asking --- */

static void wait_for(struct desk *d, int answers)
{
	while (d->answers < answers)
		net_loop_run(d->f.loop);
}

static void answered(struct desk *d)
{
	d->answers++;
	net_loop_stop(d->f.loop);
}

static void on_started(const char *token, const struct error *error, void *user)
{
	struct desk *d = user;
	assert_null(error);
	str_copy(str_of(token), d->token, sizeof d->token);
	answered(d);
}

static void begin(struct desk *d, const char *account, const char *replaces)
{
	struct session_start begun = {.account_id = str_of(account),
	                              .agent = STR("Firefox\r\n\xc3\xa9"),
	                              .address = STR("192.0.2.7"),
	                              .method = "password",
	                              .replaces = str_of(replaces)};
	int before = d->answers;
	session_start(d->sessions, &begun, on_started, d);
	wait_for(d, before + 1);
}

static void on_found(const struct store_session *session, const struct store_person *person, const struct error *error,
                     void *user)
{
	struct desk *d = user;
	assert_null(error);
	assert_int_equal(session == NULL, person == NULL);
	d->account[0] = '\0';
	if (session) {
		str_copy(str_of(person->account_id), d->account, sizeof d->account);
		assert_string_equal(session->account_id, person->account_id);
		assert_string_equal(session->agent, "Firefox????");
		d->seen_us = session->seen_us;
		d->auth_us = session->auth_us;
	}
	answered(d);
}

static const char *whose(struct desk *d, const char *token)
{
	int before = d->answers;
	session_find(d->sessions, str_of(token), on_found, d);
	wait_for(d, before + 1);
	return d->account;
}

static void on_done(const struct error *error, void *user)
{
	struct desk *d = user;
	assert_null(error);
	answered(d);
}

/* --- tests --- */

static void a_token_is_random_and_the_database_has_only_its_hash(void **state)
{
	struct desk *d = *state;
	char first[SESSION_TOKEN_SIZE], sql[200];
	begin(d, "ann", "");
	memcpy(first, d->token, sizeof first);
	begin(d, "ann", "");
	assert_int_equal(strlen(d->token), SESSION_TOKEN_SIZE - 1);
	assert_string_not_equal(d->token, first);
	assert_string_equal(whose(d, first), "ann");
	assert_string_equal(whose(d, d->token), "ann");
	fixture_flush(&d->f);
	snprintf(sql, sizeof sql, "SELECT count(*) FROM sessions WHERE hash = '%s' OR id = '%s'", first, first);
	assert_int_equal(fixture_number(&d->f, sql), 0);
	assert_int_equal(fixture_number(&d->f, "SELECT count(*) FROM sessions"), 2);
}

static void what_is_no_token_is_nobody_s(void **state)
{
	struct desk *d = *state;
	begin(d, "ann", "");
	char other[SESSION_TOKEN_SIZE];
	memcpy(other, d->token, sizeof other);
	other[10] = other[10] == '0' ? '1' : '0';
	assert_string_equal(whose(d, other), "");
	assert_string_equal(whose(d, ""), "");
	assert_string_equal(whose(d, "zz"), "");
	other[SESSION_TOKEN_SIZE - 2] = '\0';
	assert_string_equal(whose(d, other), "");
}

static void a_session_that_was_there_before_the_login_ends_with_it(void **state)
{
	struct desk *d = *state;
	char planted[SESSION_TOKEN_SIZE];
	begin(d, "bob", "");
	memcpy(planted, d->token, sizeof planted);
	begin(d, "ann", planted);
	assert_string_equal(whose(d, planted), "");
	assert_string_equal(whose(d, d->token), "ann");
	begin(d, "ann", "no token at all"); /* is not looked for */
	assert_string_equal(whose(d, d->token), "ann");
}

static void an_ended_session_opens_nothing(void **state)
{
	struct desk *d = *state;
	begin(d, "ann", "");
	int before = d->answers;
	session_end(d->sessions, str_of(d->token), on_done, d);
	wait_for(d, before + 1);
	assert_string_equal(whose(d, d->token), "");
}

static void idle_and_old_sessions_end_by_themselves(void **state)
{
	struct desk *d = *state;
	begin(d, "ann", "");
	fixture_flush(&d->f);
	fixture_sql(&d->f, "UPDATE sessions SET seen_us = seen_us - 3601000000");
	assert_string_equal(whose(d, d->token), "");
	begin(d, "ann", "");
	fixture_flush(&d->f);
	fixture_sql(&d->f, "UPDATE sessions SET expires_us = seen_us - 1");
	assert_string_equal(whose(d, d->token), "");
}

static void being_seen_is_written_down_now_and_then(void **state)
{
	struct desk *d = *state;
	begin(d, "ann", "");
	fixture_flush(&d->f);
	fixture_sql(&d->f, "UPDATE sessions SET seen_us = seen_us - 120000000");
	assert_string_equal(whose(d, d->token), "ann");
	int64_t before_us = d->seen_us;
	fixture_flush(&d->f);
	assert_string_equal(whose(d, d->token), "ann");
	assert_true(d->seen_us >= before_us + 120000000);
}

static void a_proof_of_who_it_is_is_remembered(void **state)
{
	struct desk *d = *state;
	begin(d, "ann", "");
	fixture_flush(&d->f);
	fixture_sql(&d->f, "UPDATE sessions SET auth_us = 5");
	assert_string_equal(whose(d, d->token), "ann");
	assert_int_equal(d->auth_us, 5);
	session_confirm(d->sessions, str_of(d->token));
	fixture_flush(&d->f);
	assert_string_equal(whose(d, d->token), "ann");
	assert_true(d->auth_us > 5);
}

static void the_proof_against_forged_requests_belongs_to_one_session(void **state)
{
	(void)state;
	const char one[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
	const char two[] = "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
	char csrf[SESSION_CSRF_SIZE], other[SESSION_CSRF_SIZE];
	session_csrf(STR(one), csrf);
	session_csrf(STR(two), other);
	assert_string_not_equal(csrf, other);
	assert_null(strstr(csrf, one));
	assert_true(session_csrf_is_right(STR(one), str_of(csrf)));
	assert_false(session_csrf_is_right(STR(two), str_of(csrf)));
	assert_false(session_csrf_is_right(STR(one), STR("")));
	csrf[0] = csrf[0] == 'A' ? 'B' : 'A';
	assert_false(session_csrf_is_right(STR(one), str_of(csrf)));
}

struct asking {
	struct accounts_wait wait;
	struct net_loop *loop;
	enum db_err result;
	int calls;
};

static void on_resolved(struct accounts_wait *wait, enum db_err result)
{
	struct asking *asking = (struct asking *)(void *)wait;
	asking->result = result;
	asking->calls++;
	net_loop_stop(asking->loop);
}

static enum db_err resolve(struct desk *d, struct credential credential, struct asking *asking)
{
	*asking = (struct asking){.wait.done = on_resolved, .loop = d->f.loop};
	asking->result = sessions_resolve(d->sessions, credential, &asking->wait);
	while (asking->result == DB_E_AGAIN)
		net_loop_run(d->f.loop);
	return asking->result;
}

static void a_cookie_reads_alone_and_changes_only_with_the_proof(void **state)
{
	struct desk *d = *state;
	struct asking asking;
	char csrf[SESSION_CSRF_SIZE];
	begin(d, "ann", "");
	session_csrf(str_of(d->token), csrf);
	struct credential credential = {.token = str_of(d->token), .from_cookie = true};
	assert_int_equal(resolve(d, credential, &asking), DB_OK);
	assert_int_equal(asking.wait.caller.kind, CALLER_SESSION);
	assert_string_equal(ledger_account_id(asking.wait.caller.account), "ann");
	assert_false(asking.wait.caller.is_admin);
	credential.changes_things = true;
	assert_int_equal(resolve(d, credential, &asking), DB_E_INVALID);
	credential.csrf = str_of(csrf);
	assert_int_equal(resolve(d, credential, &asking), DB_OK);
	credential.is_cross_site = true;
	assert_int_equal(resolve(d, credential, &asking), DB_E_INVALID);
	credential = (struct credential){.token = STR("no token")};
	assert_int_equal(resolve(d, credential, &asking), DB_E_DENIED);
}

static void a_look_up_that_was_cancelled_tells_nobody(void **state)
{
	struct desk *d = *state;
	begin(d, "ann", "");
	struct asking asking = {.wait.done = on_resolved, .loop = d->f.loop};
	struct credential credential = {.token = str_of(d->token)};
	assert_int_equal(sessions_resolve(d->sessions, credential, &asking.wait), DB_E_AGAIN);
	asking.wait.cancel(&asking.wait);
	assert_string_equal(whose(d, d->token), "ann"); /* behind it */
	assert_int_equal(asking.calls, 0);
}

static void operators_are_the_owner_and_verified_addresses_of_the_list(void **state)
{
	struct desk *d = *state;
	struct store_person person = {.email = "boss@example.test"};
	assert_false(sessions_is_operator(d->sessions, &person)); /* anybody can write an address down */
	str_copy(STR("Boss@Example.test"), person.verified_email, sizeof person.verified_email);
	assert_true(sessions_is_operator(d->sessions, &person));
	str_copy(STR("boss@example.test.evil"), person.verified_email, sizeof person.verified_email);
	assert_false(sessions_is_operator(d->sessions, &person));
	person.is_owner = true;
	assert_true(sessions_is_operator(d->sessions, &person));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_token_is_random_and_the_database_has_only_its_hash),
	    TEST(what_is_no_token_is_nobody_s),
	    TEST(a_session_that_was_there_before_the_login_ends_with_it),
	    TEST(an_ended_session_opens_nothing),
	    TEST(idle_and_old_sessions_end_by_themselves),
	    TEST(being_seen_is_written_down_now_and_then),
	    TEST(a_proof_of_who_it_is_is_remembered),
	    TEST(the_proof_against_forged_requests_belongs_to_one_session),
	    TEST(a_cookie_reads_alone_and_changes_only_with_the_proof),
	    TEST(a_look_up_that_was_cancelled_tells_nobody),
	    TEST(operators_are_the_owner_and_verified_addresses_of_the_list),
	};
	if (crypto_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
