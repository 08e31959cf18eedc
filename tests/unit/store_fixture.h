/* A store on a database of its own, a SQLite file or a schema of PostgreSQL, and calls that wait for their answer by running
 * the loop. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/store/store.h"
#include "core/log.h"
#include "postgres_fixture.h"

/* How long a test is to run: an environment variable, for the long runs, or what is usual. */
static inline size_t test_length(const char *variable, size_t usual)
{
	const char *text = getenv(variable);
	return text ? strtoul(text, NULL, 10) : usual;
}

/* What fixtures are made on from now on. */
static bool fixture_on_postgres;

struct fixture {
	char folder[256];
	char path[600]; /* or PostgreSQL's address */
	bool on_postgres;
	struct net_loop *loop;
	struct store *store;

	/* the last answer */
	bool failed, found, applied;
	struct error error;
	struct store_account account;
	struct store_key key;
	struct store_price prices[16];
	struct store_usage_row usage[32];
	struct store_ledger_row entries[16];
	size_t count;
};

static inline void fixture_open_with(struct fixture *f, bool migrate)
{
	struct error error = {0};
	f->loop = net_loop_new(&error);
	assert_non_null(f->loop);
	f->store = store_open(&(struct store_options){.path = f->path, .migrate = migrate, .instance = "fixture", .readers = 2},
	                      f->loop, &error);
	if (!f->store)
		fail_msg("store_open: %s", error.text);
}

static inline void fixture_open(struct fixture *f)
{
	fixture_open_with(f, false);
}

/* What works on the store and the loop is freed between this and fixture_close. */
static inline void fixture_close_store(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
}

static inline void fixture_close(struct fixture *f)
{
	fixture_close_store(f);
	if (f->loop)
		net_loop_free(f->loop);
	f->loop = NULL;
}

static inline void fixture_migrate(struct fixture *f)
{
	fixture_open_with(f, true);
	fixture_close(f);
}

static inline void fixture_folder(struct fixture *f)
{
	const char *tmp = getenv("TMPDIR");
	memset(f, 0, sizeof *f);
	snprintf(f->folder, sizeof f->folder, "%s/db_store_XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof f->path, "%s/ledger.db", f->folder);
	f->on_postgres = fixture_on_postgres;
	if (f->on_postgres)
		postgres_database(f->path, sizeof f->path);
	log_set_level(LOG_OFF);
}

static inline int fixture_start(void **state)
{
	struct fixture *f = malloc(sizeof *f);
	assert_non_null(f);
	fixture_folder(f);
	fixture_open(f);
	*state = f;
	return 0;
}

static inline int fixture_start_without_store(void **state)
{
	struct fixture *f = malloc(sizeof *f);
	assert_non_null(f);
	fixture_folder(f);
	*state = f;
	return 0;
}

static inline void fixture_remove(struct fixture *f)
{
	DIR *dir = opendir(f->folder);
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		char path[600];
		snprintf(path, sizeof path, "%s/%s", f->folder, entry->d_name);
		unlink(path);
	}
	if (dir)
		closedir(dir);
	rmdir(f->folder);
}

static inline int fixture_stop(void **state)
{
	struct fixture *f = *state;
	fixture_close(f);
	fixture_remove(f);
	free(f);
	return 0;
}

/* --- SQL, beside the store --- */

static inline void fixture_sql(struct fixture *f, const char *sql)
{
	sqlite3 *db = NULL;
	char *message = NULL;
	if (f->on_postgres) {
		postgres_exec(f->path, sql);
		return;
	}
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	sqlite3_exec(db, sql, NULL, NULL, &message);
	if (message)
		fail_msg("%s: %s", sql, message);
	sqlite3_close(db);
}

static inline int64_t fixture_number(struct fixture *f, const char *sql)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *stmt = NULL;
	if (f->on_postgres)
		return postgres_number(f->path, sql);
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	int64_t number = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return number;
}

/* --- answers --- */

static inline void fixture_answer(struct fixture *f, const struct error *error)
{
	f->failed = error != NULL;
	f->error = error ? *error : (struct error){0};
	net_loop_stop(f->loop);
}

static inline void fixture_done(const struct error *error, void *user)
{
	fixture_answer(user, error);
}

static inline void fixture_transferred(bool applied, const struct error *error, void *user)
{
	((struct fixture *)user)->applied = applied;
	fixture_answer(user, error);
}

static inline void fixture_account(const struct store_account *account, const struct error *error, void *user)
{
	struct fixture *f = user;
	f->found = account != NULL;
	if (account)
		f->account = *account;
	fixture_answer(f, error);
}

static inline void fixture_key(const struct store_key *key, const struct store_account *account, const struct error *error,
                               void *user)
{
	struct fixture *f = user;
	f->found = key != NULL;
	assert_true((key != NULL) == (account != NULL));
	if (key) {
		f->key = *key;
		f->account = *account;
	}
	fixture_answer(f, error);
}

static inline void fixture_prices(const struct store_price *rows, size_t count, const struct error *error, void *user)
{
	struct fixture *f = user;
	f->count = count;
	for (size_t i = 0; i < count && i < sizeof f->prices / sizeof f->prices[0]; i++)
		f->prices[i] = rows[i];
	fixture_answer(f, error);
}

static inline void fixture_usage(const struct store_usage_row *rows, size_t count, const struct error *error, void *user)
{
	struct fixture *f = user;
	f->count = count;
	for (size_t i = 0; i < count && i < sizeof f->usage / sizeof f->usage[0]; i++)
		f->usage[i] = rows[i];
	fixture_answer(f, error);
}

static inline void fixture_entries(const struct store_ledger_row *rows, size_t count, const struct error *error, void *user)
{
	struct fixture *f = user;
	f->count = count;
	for (size_t i = 0; i < count && i < sizeof f->entries / sizeof f->entries[0]; i++)
		f->entries[i] = rows[i];
	fixture_answer(f, error);
}

/* Runs the loop until the answer is there. */
#define AWAIT(f, call)                                                                                                         \
	do {                                                                                                                       \
		call;                                                                                                                  \
		net_loop_run((f)->loop);                                                                                               \
	} while (0)
#define AWAIT_OK(f, call)                                                                                                      \
	do {                                                                                                                       \
		AWAIT(f, call);                                                                                                        \
		if ((f)->failed)                                                                                                       \
			fail_msg("%s: %s", #call, (f)->error.text);                                                                        \
	} while (0)
#define AWAIT_ERROR(f, code_, call)                                                                                            \
	do {                                                                                                                       \
		AWAIT(f, call);                                                                                                        \
		assert_true((f)->failed);                                                                                              \
		assert_int_equal((f)->error.code, code_);                                                                              \
		assert_true(strlen((f)->error.text) > 10);                                                                             \
	} while (0)

static inline void fixture_flush(struct fixture *f)
{
	AWAIT_OK(f, store_flush(f->store, fixture_done, f));
}

/* --- shorthands --- */

static inline void make_account(struct fixture *f, const char *id, int64_t grant)
{
	struct store_account account = {.fee_percent = -1};
	str_copy(str_of(id), account.id, sizeof account.id);
	AWAIT_OK(f, store_account_create(f->store, &account, fixture_done, f));
	if (!grant)
		return;
	struct store_transfer transfer = {.type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .amount_uusd = grant};
	snprintf(transfer.key, sizeof transfer.key, "grant:%s", id);
	str_copy(str_of(id), transfer.to, sizeof transfer.to);
	AWAIT_OK(f, store_transfer(f->store, &transfer, fixture_transferred, f));
	assert_true(f->applied);
}

static inline int64_t balance_of(struct fixture *f, const char *id)
{
	AWAIT_OK(f, store_account_get(f->store, str_of(id), fixture_account, f));
	assert_true(f->found);
	return f->account.balance_uusd;
}

static inline int64_t withdrawable_of(struct fixture *f, const char *id)
{
	balance_of(f, id);
	return f->account.withdrawable_uusd;
}

static inline struct store_hold hold_of(const char *request, const char *account, int64_t amount)
{
	struct store_hold hold = {.amount_uusd = amount, .price_in = 50000, .price_out = 200000, .created_us = 1000};
	str_copy(str_of(request), hold.request_id, sizeof hold.request_id);
	str_copy(str_of(account), hold.account_id, sizeof hold.account_id);
	return hold;
}

static inline struct store_settlement settlement_of(const char *request, const char *account, const char *provider,
                                                    int64_t cost, int64_t fee)
{
	struct store_settlement s = {.provider_id = "session",
	                             .provider_key = "machine",
	                             .model = "build",
	                             .public_model = "alias",
	                             .prompt_tokens = 3,
	                             .completion_tokens = 4,
	                             .reasoning_tokens = 1,
	                             .price_in = 50000,
	                             .price_out = 200000,
	                             .cost_uusd = cost,
	                             .fee_uusd = fee,
	                             .hold_uusd = cost,
	                             .created_us = 2000,
	                             .outcome = "success"};
	str_copy(str_of(request), s.request_id, sizeof s.request_id);
	str_copy(str_of(account), s.account_id, sizeof s.account_id);
	str_copy(str_of(provider), s.provider_account, sizeof s.provider_account);
	return s;
}

static inline struct store_audit audit_of(struct fixture *f)
{
	struct store_audit audit;
	struct error error = {0};
	if (store_audit(f->path, &audit, &error))
		fail_msg("store_audit: %s", error.text);
	return audit;
}

static inline void assert_books_right(struct fixture *f)
{
	struct store_audit audit = audit_of(f);
	if (!store_audit_clean(&audit))
		fail_msg(
		    "books: sum %lld unbalanced %lld chains %lld balances %lld negative %lld settlements %lld usage %lld charged %lld",
		    (long long)audit.sum_uusd, (long long)audit.unbalanced, (long long)audit.broken_chains,
		    (long long)audit.wrong_balances, (long long)audit.negative_balances, (long long)audit.wrong_settlements,
		    (long long)audit.usage_cost_uusd, (long long)audit.charged_uusd);
}

static inline int fixture_run_on_both(const struct CMUnitTest *tests, size_t count)
{
	int failed = 0;
	for (int on_postgres = 0; on_postgres < 2; on_postgres++) {
		fixture_on_postgres = on_postgres;
		failed += _cmocka_run_group_tests(on_postgres ? "on PostgreSQL" : "on SQLite", tests, count, NULL, NULL);
	}
	return failed;
}
#define RUN_ON_BOTH(tests) fixture_run_on_both(tests, sizeof(tests) / sizeof(tests)[0])

#endif
