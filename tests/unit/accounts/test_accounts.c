#include "../store_fixture.h"

#include "coordinator/accounts/accounts.h"
#include "core/clock.h"
#include "crypto/hash.h"

struct desk {
	struct fixture f;
	struct ledger *ledger;
	struct accounts *accounts;
	char key[ACCOUNTS_KEY_SIZE]; /* the last one made */
	bool given;
	struct store_key row;
};

static int start(void **state)
{
	struct desk *d = calloc(1, sizeof *d);
	assert_non_null(d);
	fixture_folder(&d->f);
	fixture_open(&d->f);
	d->ledger = ledger_new(d->f.store);
	d->accounts = accounts_new(d->f.store, d->ledger);
	assert_non_null(d->accounts);
	*state = d;
	return 0;
}

static int stop(void **state)
{
	struct desk *d = *state;
	fixture_close(&d->f);
	accounts_free(d->accounts);
	ledger_free(d->ledger);
	fixture_remove(&d->f);
	free(d);
	return 0;
}

/* --- asking --- */

struct asking {
	struct accounts_wait wait;
	enum db_err result;
	int calls;
};

static void on_answer(struct accounts_wait *wait, enum db_err result)
{
	struct asking *asking = (struct asking *)(void *)wait;
	asking->result = result;
	asking->calls++;
}

static void ask(struct desk *d, struct asking *asking, const char *token)
{
	*asking = (struct asking){.wait.done = on_answer};
	asking->result = accounts_resolve(d->accounts, (struct credential){.token = str_of(token)}, &asking->wait);
}

/* Reads that were asked for before are over when this returns: the store's reader answers in order. */
static void let_answers_come(struct desk *d)
{
	for (int i = 0; i < 3; i++) {
		AWAIT_OK(&d->f, store_owner_get(d->f.store, fixture_account, &d->f));
		fixture_flush(&d->f);
	}
}

static enum db_err resolve(struct desk *d, const char *token, struct caller *caller)
{
	struct asking asking;
	ask(d, &asking, token);
	if (asking.result == DB_E_AGAIN)
		let_answers_come(d);
	assert_int_not_equal(asking.result, DB_E_AGAIN);
	if (caller)
		*caller = asking.wait.caller;
	return asking.result;
}

static bool answers_at_once(struct desk *d, const char *token)
{
	struct asking asking;
	ask(d, &asking, token);
	bool at_once = asking.result != DB_E_AGAIN;
	let_answers_come(d);
	return at_once;
}

/* --- keys --- */

static void on_key(const char *key, const struct error *error, void *user)
{
	struct desk *d = user;
	d->given = key != NULL;
	d->key[0] = '\0';
	if (key)
		assert_true(str_copy(str_of(key), d->key, sizeof d->key));
	fixture_answer(&d->f, error);
}

static void on_other_key(const char *key, const struct store_key *row, const struct error *error, void *user)
{
	struct desk *d = user;
	d->row = *row;
	on_key(key, error, user);
}

static struct store_key terms_of(const char *account, const char *name)
{
	struct store_key terms = {.scopes = SCOPE_INFERENCE};
	assert_true(str_copy(str_of(account), terms.account_id, sizeof terms.account_id));
	assert_true(str_copy(str_of(name), terms.name, sizeof terms.name));
	return terms;
}

static void create_key(struct desk *d, const char *account, const char *name)
{
	struct store_key terms = terms_of(account, name);
	AWAIT_OK(&d->f, accounts_key_create(d->accounts, &terms, on_other_key, d));
}

static const char *first_start(struct desk *d, int64_t grant)
{
	AWAIT_OK(&d->f, accounts_first_start(d->accounts, grant, on_key, d));
	return d->given ? d->key : NULL;
}

static void the_first_start_makes_an_owner_with_money_and_a_key(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 5000000);
	assert_non_null(key);
	assert_int_equal(strlen(key), 70);
	assert_memory_equal(key, "sk-db-", 6);
	assert_int_equal(strspn(key + 6, "0123456789abcdef"), 64);

	struct caller caller;
	assert_int_equal(resolve(d, key, &caller), DB_OK);
	assert_int_equal(ledger_available(caller.account), 5000000);
	assert_int_equal(caller.fee_percent, LEDGER_FEE_PERCENT_DEFAULT);
	assert_memory_equal(caller.key_id, "key_", 4);
	assert_int_equal(strspn(caller.key_id + 4, "0123456789abcdef"), 24);
	assert_int_equal(strlen(caller.key_id), 28);
	assert_books_right(&d->f);
}

static void the_second_start_gives_no_key(void **state)
{
	struct desk *d = *state;
	char key[ACCOUNTS_KEY_SIZE];
	memcpy(key, first_start(d, 100), sizeof key);
	assert_null(first_start(d, 100));
	assert_int_equal(fixture_number(&d->f, "SELECT count(*) FROM api_keys"), 1);
	struct caller caller;
	assert_int_equal(resolve(d, key, &caller), DB_OK);
	assert_int_equal(ledger_balance(caller.account), 100);
}

static void the_key_itself_is_not_in_the_database(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	fixture_close(&d->f);
	FILE *file = fopen(d->f.path, "r");
	static char bytes[1 << 20];
	size_t len = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	assert_true(len > 4096);
	assert_null(memmem(bytes, len, key + 10, 50));
	char hash[SHA256_HEX_SIZE];
	sha256_hex(key, strlen(key), hash);
	assert_non_null(memmem(bytes, len, hash, 64));
	char label[18];
	snprintf(label, sizeof label, "%.10s...%s", key, key + 66);
	assert_non_null(memmem(bytes, len, label, strlen(label)));
}

static void more_keys_lead_to_the_same_account(void **state)
{
	struct desk *d = *state;
	struct caller first, second;
	assert_int_equal(resolve(d, first_start(d, 100), &first), DB_OK);
	create_key(d, ledger_account_id(first.account), "ci");
	assert_true(d->given);
	assert_int_equal(resolve(d, d->key, &second), DB_OK);
	assert_ptr_equal(first.account, second.account);
	assert_string_not_equal(first.key_id, second.key_id);
	struct store_key terms = terms_of("nobody", "ci");
	AWAIT_ERROR(&d->f, DB_E_NOT_FOUND, accounts_key_create(d->accounts, &terms, on_other_key, d));
	assert_false(d->given);
}

/* --- the cache --- */

static void a_known_key_is_answered_at_once(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	assert_false(answers_at_once(d, key));
	assert_true(answers_at_once(d, key));
}

static void wrong_tokens_are_denied_and_remembered(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	static const char *const wrong[] = {"x", "sk-db-", "Bearer x",
	                                    "sk-db-0000000000000000000000000000000000000000000000000000000000000000"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		assert_int_equal(resolve(d, wrong[i], NULL), DB_E_DENIED);
		assert_true(answers_at_once(d, wrong[i]));
		assert_int_equal(resolve(d, wrong[i], NULL), DB_E_DENIED);
	}
	char almost[ACCOUNTS_KEY_SIZE];
	memcpy(almost, key, sizeof almost);
	almost[69] = almost[69] == 'a' ? 'b' : 'a';
	assert_int_equal(resolve(d, almost, NULL), DB_E_DENIED);
	almost[69] = '\0';
	assert_int_equal(resolve(d, almost, NULL), DB_E_DENIED);
	assert_int_equal(resolve(d, key, NULL), DB_OK);
}

static void an_empty_or_endless_token_is_denied_without_a_look(void **state)
{
	struct desk *d = *state;
	struct asking asking;
	char endless[100001];
	memset(endless, 'x', sizeof endless);
	endless[100000] = '\0';
	ask(d, &asking, "");
	assert_int_equal(asking.result, DB_E_DENIED);
	ask(d, &asking, endless);
	assert_int_equal(asking.result, DB_E_DENIED);
	accounts_cancel(&asking.wait);
}

static void what_is_remembered_grows_old(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	accounts_set_cache(d->accounts, 10, 1);
	assert_int_equal(resolve(d, key, NULL), DB_OK);
	for (uint64_t start = clock_mono_us(); clock_mono_us() - start < 2000;)
		;
	assert_false(answers_at_once(d, key));
}

static void the_oldest_is_forgotten_when_the_cache_is_full(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	accounts_set_cache(d->accounts, 3, 60000);
	assert_int_equal(resolve(d, key, NULL), DB_OK);
	assert_int_equal(resolve(d, "a", NULL), DB_E_DENIED);
	assert_int_equal(resolve(d, "b", NULL), DB_E_DENIED);
	assert_true(answers_at_once(d, key));
	assert_int_equal(resolve(d, "c", NULL), DB_E_DENIED);
	assert_true(answers_at_once(d, "b"));
	assert_true(answers_at_once(d, "c"));
	assert_false(answers_at_once(d, key));

	accounts_set_cache(d->accounts, 0, 60000);
	assert_false(answers_at_once(d, key));
	assert_false(answers_at_once(d, key));
}

static void two_who_ask_the_same_wait_for_one_query(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	struct asking a[20];
	for (size_t i = 0; i < 20; i++) {
		ask(d, &a[i], key);
		assert_int_equal(a[i].result, DB_E_AGAIN);
		assert_ptr_equal(a[i].wait.lookup, a[0].wait.lookup);
	}
	let_answers_come(d);
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(a[i].calls, 1);
		assert_int_equal(a[i].result, DB_OK);
		assert_ptr_equal(a[i].wait.caller.account, a[0].wait.caller.account);
	}
}

static void who_cancels_is_not_called(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	struct asking a[3];
	for (size_t i = 0; i < 3; i++)
		ask(d, &a[i], key);
	accounts_cancel(&a[1].wait);
	accounts_cancel(&a[1].wait);
	let_answers_come(d);
	assert_int_equal(a[0].calls, 1);
	assert_int_equal(a[1].calls, 0);
	assert_int_equal(a[2].calls, 1);
	ask(d, &a[0], "other");
	accounts_cancel(&a[0].wait); /* the last one leaves: the answer finds nobody */
	let_answers_come(d);
	assert_int_equal(a[0].calls, 0);
	accounts_cancel(&a[2].wait);
}

/* --- changes --- */

static void a_disabled_key_is_refused_from_that_moment(void **state)
{
	struct desk *d = *state;
	char key[ACCOUNTS_KEY_SIZE];
	struct caller caller;
	memcpy(key, first_start(d, 100), sizeof key);
	assert_int_equal(resolve(d, key, &caller), DB_OK);

	struct asking before, after;
	accounts_key_disable(d->accounts, str_of(caller.key_id), NULL, NULL);
	ask(d, &after, key);
	assert_int_equal(after.result, DB_E_AGAIN);
	let_answers_come(d);
	assert_int_equal(after.result, DB_E_DENIED);
	assert_int_equal(resolve(d, key, NULL), DB_E_DENIED);

	/* A look-up that was on its way when the key was disabled lets nobody pass, whenever they asked. */
	create_key(d, ledger_account_id(caller.account), "two");
	fixture_flush(&d->f);
	ask(d, &before, d->key);
	struct str id = {NULL, 0};
	AWAIT_OK(&d->f, store_key_find(d->f.store, STR("x"), fixture_key, &d->f));
	assert_int_equal(before.result, DB_OK);
	id = str_of(before.wait.caller.key_id);
	accounts_set_cache(d->accounts, 100, 60000);
	struct asking first;
	ask(d, &first, d->key);
	accounts_key_disable(d->accounts, id, NULL, NULL);
	ask(d, &after, d->key);
	let_answers_come(d);
	assert_int_equal(first.result, DB_E_DENIED);
	assert_int_equal(after.result, DB_E_DENIED);
	assert_int_equal(resolve(d, d->key, NULL), DB_E_DENIED);
	AWAIT_ERROR(&d->f, DB_E_NOT_FOUND, accounts_key_disable(d->accounts, STR("key_none"), fixture_done, &d->f));
}

static void a_key_expires_while_it_is_remembered(void **state)
{
	struct desk *d = *state;
	struct store_key key = {.id = "key_1", .account_id = "acme", .created_us = 1};
	make_account(&d->f, "acme", 100);
	sha256_hex("brief", 5, key.hash_hex);
	key.expires_us = clock_wall_us() + 300000;
	AWAIT_OK(&d->f, store_key_create(d->f.store, &key, fixture_done, &d->f));
	assert_int_equal(resolve(d, "brief", NULL), DB_OK);
	assert_true(answers_at_once(d, "brief"));
	while (clock_wall_us() <= key.expires_us)
		usleep(1000);
	assert_true(answers_at_once(d, "brief"));
	assert_int_equal(resolve(d, "brief", NULL), DB_E_DENIED);
	accounts_set_cache(d->accounts, 100, 60000);
	assert_int_equal(resolve(d, "brief", NULL), DB_E_DENIED);
}

static void a_new_key_changes_nothing_for_others(void **state)
{
	struct desk *d = *state;
	struct caller caller;
	char key[ACCOUNTS_KEY_SIZE];
	memcpy(key, first_start(d, 100), sizeof key);
	assert_int_equal(resolve(d, key, &caller), DB_OK);
	create_key(d, ledger_account_id(caller.account), "x");
	assert_true(answers_at_once(d, key));
	assert_int_equal(resolve(d, d->key, NULL), DB_OK);
}

/* --- provider tokens --- */

static enum db_err resolve_provider(struct desk *d, const char *token, struct caller *caller)
{
	struct asking asking = {.wait.done = on_answer};
	asking.result = accounts_resolve_provider(d->accounts, str_of(token), &asking.wait);
	if (asking.result == DB_E_AGAIN)
		let_answers_come(d);
	*caller = asking.wait.caller;
	return asking.result;
}

static void a_provider_token_gives_its_account_and_is_never_remembered(void **state)
{
	struct desk *d = *state;
	struct caller caller;
	char hash[SHA256_HEX_SIZE];
	make_account(&d->f, "farmer", 0);
	sha256_hex("eigeninference-pt-1", 19, hash);
	AWAIT_OK(&d->f, store_provider_token_create(d->f.store, str_of(hash), STR("farmer"), STR("mac"), fixture_done, &d->f));
	assert_int_equal(resolve_provider(d, "eigeninference-pt-1", &caller), DB_OK);
	assert_string_equal(ledger_account_id(caller.account), "farmer");
	assert_string_equal(caller.key_id, "");
	assert_int_equal(resolve_provider(d, "eigeninference-pt-2", &caller), DB_E_DENIED);
	assert_int_equal(resolve_provider(d, "", &caller), DB_E_DENIED);
	assert_int_equal(resolve(d, "eigeninference-pt-1", &caller), DB_OK); /* it may use models too (http-api 1.5) */
	assert_int_equal(caller.kind, CALLER_PROVIDER);
	assert_int_equal(caller.scopes, SCOPE_INFERENCE);
	assert_int_equal(resolve(d, "eigeninference-pt-2", NULL), DB_E_DENIED);
	fixture_sql(&d->f, "UPDATE provider_tokens SET active = 0");
	assert_int_equal(resolve_provider(d, "eigeninference-pt-1", &caller), DB_E_DENIED);
}

static void the_operators_key_is_no_api_key_and_has_no_money(void **state)
{
	struct desk *d = *state;
	struct caller caller;
	assert_int_equal(resolve(d, "operator-operator-operator", NULL), DB_E_DENIED);
	accounts_set_admin_key(d->accounts, STR("operator-operator-operator"));
	for (int i = 0; i < 2; i++) { /* asked of the store, then known */
		assert_int_equal(resolve(d, "operator-operator-operator", &caller), DB_OK);
		assert_int_equal(caller.kind, CALLER_ADMIN);
		assert_true(caller.is_admin);
		assert_string_equal(ledger_account_id(caller.account), STORE_ACCOUNT_ADMIN);
		assert_int_equal(ledger_available(caller.account), 0);
	}
	assert_int_equal(resolve(d, "operator-operator-operato", NULL), DB_E_DENIED);
	accounts_set_admin_key(d->accounts, STR_NONE);
	assert_int_equal(resolve(d, "operator-operator-operator", NULL), DB_E_DENIED);
}

static enum db_err log_in(void *user, struct credential credential, struct accounts_wait *wait)
{
	struct desk *d = user;
	if (credential.from_cookie && credential.changes_things && !str_is(credential.csrf, "proof"))
		return DB_E_INVALID;
	wait->caller = accounts_caller(CALLER_SESSION, ledger_account_find(d->ledger, STR("reader")));
	return DB_OK;
}

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	assert_non_null(account);
	fixture_answer(user, error);
}

static void sessions_are_asked_for_cookies_and_web_tokens_only(void **state)
{
	struct desk *d = *state;
	struct accounts_wait wait = {0};
	struct credential cookie = {.token = STR("abc"), .from_cookie = true, .changes_things = true};
	make_account(&d->f, "reader", 0);
	AWAIT_OK(&d->f, ledger_account_load(d->ledger, STR("reader"), on_loaded, &d->f));
	assert_int_equal(accounts_resolve(d->accounts, cookie, &wait), DB_E_DENIED); /* nobody answers for sessions yet */
	accounts_set_sessions(d->accounts, log_in, d);
	assert_int_equal(accounts_resolve(d->accounts, cookie, &wait), DB_E_INVALID);
	cookie.csrf = STR("proof");
	assert_int_equal(accounts_resolve(d->accounts, cookie, &wait), DB_OK);
	assert_int_equal(wait.caller.kind, CALLER_SESSION);
	assert_int_equal(wait.caller.scopes, SCOPE_ALL);
	assert_int_equal(accounts_resolve(d->accounts, (struct credential){.token = STR("eyJhbGciOi")}, &wait), DB_OK);
	assert_int_equal(resolve(d, "abc", NULL), DB_E_DENIED); /* the same text as a bearer token is an API key, unknown */
}

/* --- failure --- */

static void a_broken_database_is_no_denial(void **state)
{
	struct desk *d = *state;
	const char *key = first_start(d, 100);
	fixture_close(&d->f);
	accounts_free(d->accounts);
	ledger_free(d->ledger);
	FILE *file = fopen(d->f.path, "r+");
	int64_t page = fixture_number(&d->f, "SELECT rootpage FROM sqlite_schema WHERE name = 'api_keys'");
	fseek(file, (long)(page - 1) * 4096, SEEK_SET);
	for (int i = 0; i < 512; i++)
		fputs("\xfe\xedrubbi", file);
	fclose(file);
	fixture_open(&d->f);
	d->ledger = ledger_new(d->f.store);
	d->accounts = accounts_new(d->f.store, d->ledger);

	struct asking asking;
	ask(d, &asking, key);
	assert_int_equal(asking.result, DB_E_AGAIN);
	AWAIT(&d->f, store_owner_get(d->f.store, fixture_account, &d->f));
	assert_int_equal(asking.result, DB_E_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	    TEST(the_first_start_makes_an_owner_with_money_and_a_key),
	    TEST(the_second_start_gives_no_key),
	    TEST(the_key_itself_is_not_in_the_database),
	    TEST(more_keys_lead_to_the_same_account),
	    TEST(a_known_key_is_answered_at_once),
	    TEST(wrong_tokens_are_denied_and_remembered),
	    TEST(an_empty_or_endless_token_is_denied_without_a_look),
	    TEST(what_is_remembered_grows_old),
	    TEST(the_oldest_is_forgotten_when_the_cache_is_full),
	    TEST(two_who_ask_the_same_wait_for_one_query),
	    TEST(who_cancels_is_not_called),
	    TEST(a_disabled_key_is_refused_from_that_moment),
	    TEST(a_key_expires_while_it_is_remembered),
	    TEST(a_new_key_changes_nothing_for_others),
	    TEST(a_provider_token_gives_its_account_and_is_never_remembered),
	    TEST(the_operators_key_is_no_api_key_and_has_no_money),
	    TEST(sessions_are_asked_for_cookies_and_web_tokens_only),
	    TEST(a_broken_database_is_no_denial),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
