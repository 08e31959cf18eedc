/* What it costs to know who calls and whether they may go on. Lines `bench <name> <value> <unit>`. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "coordinator/accounts/limits.h"
#include "core/clock.h"
#include "core/log.h"

#define SECONDS 0.4
#define KEYS    1000

struct bench {
	char folder[64];
	struct net_loop *loop;
	struct store *store;
	struct ledger *ledger;
	struct accounts *accounts;
	struct limits *limits;
	char keys[KEYS][ACCOUNTS_KEY_SIZE];
	size_t count;
	struct caller caller;
	uint32_t turn;
};

static void must(bool good)
{
	if (!good) {
		fprintf(stderr, "a benchmark's own work failed\n");
		exit(1);
	}
}

static void on_done(const struct error *error, void *user)
{
	must(!error);
	net_loop_stop(((struct bench *)user)->loop);
}

static void on_key(const char *key, const struct store_key *row, const struct error *error, void *user)
{
	struct bench *b = user;
	(void)row;
	must(key && !error && str_copy(str_of(key), b->keys[b->count++], ACCOUNTS_KEY_SIZE));
	if (b->count == KEYS)
		net_loop_stop(b->loop);
}

struct asking {
	struct accounts_wait wait;
	struct bench *b;
};

static void on_answer(struct accounts_wait *wait, enum db_err result)
{
	struct asking *asking = LIST_OF(wait, struct asking, wait);
	must(result == DB_OK);
	asking->b->caller = wait->caller;
	net_loop_stop(asking->b->loop);
}

static void look_up(struct bench *b)
{
	struct accounts_wait wait = {.done = on_answer};
	struct credential credential = {.token = {b->keys[b->turn++ % KEYS], ACCOUNTS_KEY_SIZE - 1}};
	must(accounts_resolve(b->accounts, credential, &wait) == DB_OK);
}

/* What one inference request asks: one more request, and so many tokens in and out, of the account and of the key. */
static void decide(struct bench *b)
{
	struct limit_verdict verdict;
	uint64_t charged;
	int64_t now_us = (int64_t)b->turn++ * 1000;
	limits_request(b->limits, &b->caller, now_us, &verdict);
	must(verdict.allowed);
	limits_tokens(b->limits, &b->caller, 100, 100, now_us, &verdict, &charged);
	must(verdict.allowed);
}

static void set_up(struct bench *b)
{
	struct error error;
	char path[128];
	struct store_account account = {.id = "acme", .fee_percent = -1};
	struct store_key terms = {.account_id = "acme", .scopes = SCOPE_INFERENCE, .rpm = 1000000000, .itpm = 1000000000};
	struct limit_rate rate = {1e9, 1e9};
	struct limits_options options = {.rates = {{rate, rate, rate}, {rate, rate, rate}}};
	log_set_level(LOG_OFF);
	(void)snprintf(b->folder, sizeof b->folder, "/tmp/db_bench_XXXXXX");
	must(mkdtemp(b->folder) != NULL);
	(void)snprintf(path, sizeof path, "%s/bench.db", b->folder);
	b->loop = net_loop_new(&error);
	b->store = store_open(&(struct store_options){.path = path}, b->loop, &error);
	must(b->store != NULL);
	b->ledger = ledger_new(b->store);
	b->accounts = accounts_new(b->store, b->ledger);
	b->limits = limits_new(&options);
	must(b->ledger && b->accounts && b->limits);
	store_account_create(b->store, &account, on_done, b);
	net_loop_run(b->loop);
	for (int i = 0; i < KEYS; i++)
		accounts_key_create(b->accounts, &terms, on_key, b);
	net_loop_run(b->loop);
	for (int i = 0; i < KEYS; i++) { /* into the cache */
		struct asking asking = {.wait.done = on_answer, .b = b};
		struct credential credential = {.token = str_of(b->keys[i])};
		if (accounts_resolve(b->accounts, credential, &asking.wait) == DB_E_AGAIN)
			net_loop_run(b->loop);
	}
}

static void tear_down(struct bench *b)
{
	static const char *const endings[] = {"", "-wal", "-shm", ".lock"};
	char path[128];
	limits_free(b->limits);
	store_close(b->store);
	accounts_free(b->accounts);
	ledger_free(b->ledger);
	net_loop_free(b->loop);
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		(void)snprintf(path, sizeof path, "%s/bench.db%s", b->folder, endings[i]);
		unlink(path);
	}
	rmdir(b->folder);
}

static void measure(const char *name, void (*work)(struct bench *b), struct bench *b)
{
	uint64_t runs = 0, began = clock_mono_us(), now = began;
	while (now - began < (uint64_t)(SECONDS * 1e6)) {
		for (int i = 0; i < 1000; i++)
			work(b);
		runs += 1000;
		now = clock_mono_us();
	}
	printf("bench %s %.3f us\n", name, (double)(now - began) / (double)runs);
}

int main(void)
{
	static struct bench b;
	set_up(&b);
	measure("key_lookup_us", look_up, &b);
	measure("rate_limit_us", decide, &b);
	tear_down(&b);
	return 0;
}
