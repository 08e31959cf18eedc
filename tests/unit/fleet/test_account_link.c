/* A provider's link token reaches a real account (protocol-and-trust 12). */
#include <unistd.h>

#include "coordinator/money/ledger.h"
#include "crypto/hash.h"
#include "fleet_fixture.h"

#define TOKEN "eigeninference-pt-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct books {
	char folder[64], path[96];
	struct store *store;
	struct ledger *ledger;
	struct accounts *accounts;
	int written;
};

static void on_written(const struct error *error, void *user)
{
	assert_null(error);
	((struct books *)user)->written++;
}

static bool all_written(void *arg)
{
	return ((struct books *)arg)->written == 2;
}

static void books_open(struct books *b, struct scene *s)
{
	struct error error;
	char hash[SHA256_HEX_SIZE];
	*b = (struct books){.folder = "/tmp/fleet-test-XXXXXX"};
	assert_non_null(mkdtemp(b->folder));
	snprintf(b->path, sizeof b->path, "%s/db.sqlite", b->folder);
	struct store_options options = {.path = b->path};
	b->store = store_open(&options, s->loop, &error);
	assert_non_null(b->store);
	b->ledger = ledger_new(b->store);
	b->accounts = accounts_new(b->store, b->ledger);
	struct store_account account = {.id = "acct-provider", .name = "provider", .fee_percent = -1};
	store_account_create(b->store, &account, on_written, b);
	sha256_hex(TOKEN, strlen(TOKEN), hash);
	store_provider_token_create(b->store, str_of(hash), STR("acct-provider"), STR("device-TEST"), on_written, b);
	assert_true(run_until(s, all_written, b));
}

static void books_close(struct books *b)
{
	char command[128];
	accounts_free(b->accounts);
	ledger_free(b->ledger);
	store_close(b->store);
	snprintf(command, sizeof command, "rm -r %s", b->folder);
	assert_int_equal(system(command), 0);
}

static void take_account(const struct fleet_provider_view *view, void *user)
{
	assert_true(str_copy(view->account, user, STORE_ID_SIZE));
}

static void account_of(struct scene *s, const char *token, char account[STORE_ID_SIZE])
{
	struct peer p;
	peer_join(&p, s, (struct peer_options){.token = token});
	fleet_each(s->fleet, take_account, account);
	peer_end(&p);
	run_for_ms(s, 5);
}

static void a_good_token_links_and_a_bad_one_only_warns(void **state)
{
	(void)state;
	struct scene s = {.loop = net_loop_new(NULL), .options = {.min_trust = ROUTE_TRUST_SELF_SIGNED}};
	struct books b;
	char account[STORE_ID_SIZE];
	books_open(&b, &s);
	scene_begin(&s, b.accounts);
	account_of(&s, TOKEN, account);
	assert_string_equal(account, "acct-provider");
	account_of(&s, "eigeninference-pt-wrong", account);
	assert_string_equal(account, "");
	account_of(&s, NULL, account);
	assert_string_equal(account, "");
	fleet_free(s.fleet);
	run_for_ms(&s, 5);
	http_server_free(s.server);
	books_close(&b);
	net_loop_free(s.loop);
	metrics_free(s.metrics);
}

static void a_provider_that_leaves_during_the_look_up_is_forgotten(void **state)
{
	(void)state;
	struct scene s = {.loop = net_loop_new(NULL), .options = {.min_trust = ROUTE_TRUST_SELF_SIGNED}};
	struct books b;
	struct peer p;
	books_open(&b, &s);
	scene_begin(&s, b.accounts);
	for (int i = 0; i < 20; i++) {
		peer_connect(&p, &s);
		peer_register(&p, (struct peer_options){.token = TOKEN});
		run_for_ms(&s, i % 4);
		peer_end(&p);
	}
	run_for_ms(&s, 20);
	assert_int_equal(fleet_count(s.fleet), 0);
	fleet_free(s.fleet);
	run_for_ms(&s, 5);
	http_server_free(s.server);
	books_close(&b);
	net_loop_free(s.loop);
	metrics_free(s.metrics);
}

int main(void)
{
	assert_int_equal(crypto_init(), DB_OK);
	log_set_level(LOG_OFF);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_good_token_links_and_a_bad_one_only_warns),
	    cmocka_unit_test(a_provider_that_leaves_during_the_look_up_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
