/* Signing up and logging in with a password: who may, what is refused, how guessing is slowed down. */
#include "../store_fixture.h"

#include "coordinator/accounts/login.h"
#include "core/clock.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#define PASSWORD "correct horse battery"
#define WRONG    "wrong horse battery"

struct desk {
	struct fixture f;
	struct login *login;
	enum db_err code; /* of the last answer */
	uint32_t retry_ms;
	char account[STORE_ID_SIZE], text[320];
	bool is_owner;
	int answers;
};

static void open_login(struct desk *d, enum login_signup_mode signup)
{
	struct login_options options = {.store = d->f.store, .loop = d->f.loop, .signup = signup};
	d->login = login_new(&options);
	assert_non_null(d->login);
}

static int start_with(void **state, enum login_signup_mode signup)
{
	struct desk *d = calloc(1, sizeof *d);
	assert_non_null(d);
	fixture_folder(&d->f);
	fixture_open(&d->f);
	open_login(d, signup);
	*state = d;
	return 0;
}

static int start_open(void **state)
{
	return start_with(state, LOGIN_SIGNUP_OPEN);
}

static int start_invited(void **state)
{
	return start_with(state, LOGIN_SIGNUP_INVITE);
}

static int start_closed(void **state)
{
	return start_with(state, LOGIN_SIGNUP_CLOSED);
}

static int stop(void **state)
{
	struct desk *d = *state;
	store_close(d->f.store);
	d->f.store = NULL;
	login_free(d->login);
	fixture_close(&d->f);
	fixture_remove(&d->f);
	free(d);
	return 0;
}

/* --- asking --- */

static void on_answer(const struct login_result *result, void *user)
{
	struct desk *d = user;
	d->code = result->code;
	d->retry_ms = result->retry_ms;
	d->account[0] = '\0';
	d->is_owner = result->person && result->person->is_owner;
	if (result->person)
		str_copy(str_of(result->person->account_id), d->account, sizeof d->account);
	str_copy(str_of(result->text), d->text, sizeof d->text);
	d->answers++;
	net_loop_stop(d->f.loop);
}

static enum db_err wait_for(struct desk *d, int answers)
{
	while (d->answers < answers)
		net_loop_run(d->f.loop);
	return d->code;
}

static struct login_attempt attempt_of(const char *email, const char *password)
{
	return (struct login_attempt){
	    .email = str_of(email), .password = str_of(password), .name = STR("Ann"), .address = STR("192.0.2.1")};
}

static enum db_err sign_up(struct desk *d, const char *email, const char *password, const char *invitation)
{
	struct login_attempt attempt = attempt_of(email, password);
	int before = d->answers;
	attempt.invitation = str_of(invitation);
	login_sign_up(d->login, &attempt, on_answer, d);
	return wait_for(d, before + 1);
}

static enum db_err check_from(struct desk *d, const char *email, const char *password, const char *address)
{
	struct login_attempt attempt = attempt_of(email, password);
	int before = d->answers;
	attempt.address = str_of(address);
	login_check(d->login, &attempt, on_answer, d);
	return wait_for(d, before + 1);
}

static enum db_err check(struct desk *d, const char *email, const char *password)
{
	return check_from(d, email, password, "192.0.2.1");
}

/* --- tests --- */

static void who_signed_up_logs_in_with_the_address_as_people_write_it(void **state)
{
	struct desk *d = *state;
	char account[STORE_ID_SIZE];
	assert_int_equal(sign_up(d, "Ann@Example.test", PASSWORD, ""), DB_OK);
	memcpy(account, d->account, sizeof account);
	assert_true(account[0] != '\0');
	assert_int_equal(check(d, " ann@example.TEST ", PASSWORD), DB_OK);
	assert_string_equal(d->account, account);
	assert_int_equal(sign_up(d, "ANN@example.test", PASSWORD, ""), DB_E_EXISTS);
	assert_int_equal(fixture_number(&d->f, "SELECT count(*) FROM passwords WHERE hash LIKE '%$argon2id$%'"), 1);
}

static void a_wrong_password_and_an_unknown_address_are_answered_alike(void **state)
{
	struct desk *d = *state;
	char text[sizeof d->text];
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, ""), DB_OK);
	assert_int_equal(check(d, "ann@example.test", WRONG), DB_E_DENIED);
	memcpy(text, d->text, sizeof text);
	assert_int_equal(check(d, "bob@example.test", WRONG), DB_E_DENIED);
	assert_string_equal(d->text, text);
	assert_int_equal(check(d, "no address", WRONG), DB_E_DENIED);
	assert_string_equal(d->text, text);
}

static void what_is_no_address_or_password_is_refused_before_it_is_hashed(void **state)
{
	struct desk *d = *state;
	assert_int_equal(sign_up(d, "ann", PASSWORD, ""), DB_E_INVALID);
	assert_int_equal(sign_up(d, "ann@example.test", "short", ""), DB_E_INVALID);
	assert_int_equal(sign_up(d, "ann@example.test", "Ann@Example.Test", ""), DB_E_INVALID);
	assert_true(d->text[0] != '\0');
	assert_int_equal(fixture_number(&d->f, "SELECT count(*) FROM passwords"), 0);
}

static void tries_on_one_account_have_to_wait_whoever_makes_them(void **state)
{
	struct desk *d = *state;
	char address[32];
	int denied = 0;
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, ""), DB_OK);
	for (; denied < 20; denied++) {
		snprintf(address, sizeof address, "198.51.%d.1", denied);
		if (check_from(d, "ann@example.test", WRONG, address) != DB_E_DENIED)
			break;
	}
	assert_true(denied >= 5 && denied < 20);
	assert_int_equal(d->code, DB_E_LIMIT);
	assert_true(d->retry_ms > 0);
	assert_int_equal(check_from(d, "ann@example.test", PASSWORD, "203.0.113.1"), DB_E_LIMIT); /* the right one too */
}

static void a_right_password_wipes_the_slate_of_its_account(void **state)
{
	struct desk *d = *state;
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, ""), DB_OK);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			assert_int_equal(check(d, "ann@example.test", WRONG), DB_E_DENIED);
		assert_int_equal(check(d, "ann@example.test", PASSWORD), DB_OK);
	}
}

static void a_flood_of_logins_is_refused_and_not_gathered(void **state)
{
	struct desk *d = *state;
	int before = d->answers, refused = 0;
	enum { FLOOD = 60 };
	for (int i = 0; i < FLOOD; i++) {
		char email[64], address[32];
		snprintf(email, sizeof email, "user%d@example.test", i);
		snprintf(address, sizeof address, "10.%d.1.1", i);
		struct login_attempt attempt = attempt_of(email, PASSWORD);
		attempt.address = str_of(address);
		login_sign_up(d->login, &attempt, on_answer, d);
	}
	for (int i = 1; i <= FLOOD; i++) {
		wait_for(d, before + i);
		refused += d->code == DB_E_AGAIN;
		if (d->code == DB_E_AGAIN)
			break;
	}
	assert_true(refused > 0);
	assert_true(d->retry_ms > 0);
}

static void signing_up_is_closed_but_for_the_operator_with_the_code_once(void **state)
{
	struct desk *d = *state;
	make_account(&d->f, "someone", 0);
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, ""), DB_E_DENIED);
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, "any invitation"), DB_E_DENIED);
	assert_false(login_has_setup_code(d->login));
	struct store_account owner = {.id = "boss", .fee_percent = -1};
	struct store_key key = {.id = "key_1", .account_id = "boss", .label = "sk-db-1...2", .hash_hex = "aa", .scopes = 1};
	AWAIT_OK(&d->f, store_owner_create(d->f.store, &owner, &key, 0, fixture_done, &d->f));
	login_set_setup_code(d->login, STR("setup-1234"));
	assert_true(login_has_setup_code(d->login));
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, "setup-1235"), DB_E_DENIED);
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, "setup-1234"), DB_OK);
	assert_string_equal(d->account, "boss");
	assert_true(d->is_owner);
	assert_false(login_has_setup_code(d->login));
	assert_int_equal(sign_up(d, "bob@example.test", PASSWORD, "setup-1234"), DB_E_DENIED);
}

static void an_invitation_lets_one_person_in(void **state)
{
	struct desk *d = *state;
	char hash[SHA256_HEX_SIZE];
	sha256_hex("welcome-1", 9, hash);
	make_account(&d->f, "host", 0);
	AWAIT_OK(&d->f,
	         store_invitation_create(d->f.store, str_of(hash), STR("host"), clock_wall_us() + 60000000, fixture_done, &d->f));
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, ""), DB_E_DENIED);
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, "nobody made this"), DB_E_DENIED);
	assert_int_equal(fixture_number(&d->f, "SELECT count(*) FROM passwords"), 0);
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, "welcome-1"), DB_OK);
	assert_int_equal(sign_up(d, "bob@example.test", PASSWORD, "welcome-1"), DB_E_DENIED);
	assert_int_equal(check(d, "ann@example.test", PASSWORD), DB_OK);
}

static void a_change_needs_the_password_that_was(void **state)
{
	struct desk *d = *state;
	char account[STORE_ID_SIZE];
	int before;
	assert_int_equal(sign_up(d, "ann@example.test", PASSWORD, ""), DB_OK);
	memcpy(account, d->account, sizeof account);
	before = d->answers;
	login_change(d->login, str_of(account), STR(WRONG), STR("another good one"), STR(""), on_answer, d);
	assert_int_equal(wait_for(d, before + 1), DB_E_DENIED);
	login_change(d->login, str_of(account), STR(PASSWORD), STR("short"), STR(""), on_answer, d);
	assert_int_equal(wait_for(d, before + 2), DB_E_INVALID);
	login_change(d->login, str_of(account), STR(PASSWORD), STR("another good one"), STR(""), on_answer, d);
	assert_int_equal(wait_for(d, before + 3), DB_OK);
	assert_int_equal(check(d, "ann@example.test", PASSWORD), DB_E_DENIED);
	assert_int_equal(check(d, "ann@example.test", "another good one"), DB_OK);
	before = d->answers;
	login_check_again(d->login, str_of(account), STR("another good one"), on_answer, d);
	assert_int_equal(wait_for(d, before + 1), DB_OK);
	login_check_again(d->login, STR("nobody"), STR("another good one"), on_answer, d);
	assert_int_equal(wait_for(d, before + 2), DB_E_DENIED);
}

static void what_is_under_way_at_the_end_is_told_so(void **state)
{
	struct desk *d = *state;
	struct login_attempt attempt = attempt_of("ann@example.test", PASSWORD);
	login_sign_up(d->login, &attempt, on_answer, d);
	login_sign_up(d->login, &attempt, on_answer, d);
	login_sign_up(d->login, &attempt, on_answer, d); /* waits for a worker */
	store_close(d->f.store);
	d->f.store = NULL;
	login_free(d->login);
	d->login = NULL;
	assert_int_equal(d->answers, 1);
	assert_int_equal(d->code, DB_E_CLOSED);
	net_loop_free(d->f.loop); /* workers come back */
	d->f.loop = NULL;
	assert_int_equal(d->answers, 3);
	assert_int_equal(d->code, DB_E_CLOSED);
}

#define OPEN(name) cmocka_unit_test_setup_teardown(name, start_open, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    OPEN(who_signed_up_logs_in_with_the_address_as_people_write_it),
	    OPEN(a_wrong_password_and_an_unknown_address_are_answered_alike),
	    OPEN(what_is_no_address_or_password_is_refused_before_it_is_hashed),
	    OPEN(tries_on_one_account_have_to_wait_whoever_makes_them),
	    OPEN(a_right_password_wipes_the_slate_of_its_account),
	    OPEN(a_flood_of_logins_is_refused_and_not_gathered),
	    cmocka_unit_test_setup_teardown(signing_up_is_closed_but_for_the_operator_with_the_code_once, start_closed, stop),
	    cmocka_unit_test_setup_teardown(an_invitation_lets_one_person_in, start_invited, stop),
	    OPEN(a_change_needs_the_password_that_was),
	    OPEN(what_is_under_way_at_the_end_is_told_so),
	};
	if (crypto_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
