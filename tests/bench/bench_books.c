/* A start with many ledger rows, and the recomputation of them all.
 *
 * usage: bench_books ROWS PLACE   PLACE is a new SQLite file or an empty database at a postgres:// address
 * Without arguments it does nothing: tests/bench/store.py runs it with ten million. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/store/sql.h"
#include "coordinator/store/store.h"
#include "core/clock.h"
#include "core/log.h"

static void fail(const char *what, const struct error *error)
{
	fprintf(stderr, "bench_books: %s: %s\n", what, error->text);
	exit(1);
}

/* The books of `requests` settled requests of one consumer, three entries each, as the store would have written them. */
static void fill(struct sql *db, int64_t requests)
{
	char series[160], text[4000];
	if (db->kind == SQL_POSTGRES)
		snprintf(series, sizeof series, "WITH n (i) AS (SELECT generate_series(1, %" PRId64 "))", requests);
	else
		snprintf(series, sizeof series,
		         "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %" PRId64 ")", requests);
	static const char setup[] =
	    "INSERT INTO accounts (ref, id, kind, created_us) VALUES (1001, 'buyer', 'user', 1), (1002, 'farmer', 'user', 1);"
	    "INSERT INTO balances (account, may_go_below, balance, withdrawable) VALUES (1001, 0, 1000000000, 0),"
	    " (1002, 0, %1$" PRId64 " * 90, %1$" PRId64 " * 90);"
	    "INSERT INTO transfers (id, key, created_us) VALUES (1, 'grant', 1);"
	    "INSERT INTO ledger (id, transfer, account, type, amount, balance_after, withdrawable_after, created_us)"
	    " SELECT 1, 1, ref, 'admin_credit', -(1000000000 + %1$" PRId64 " * 100), -(1000000000 + %1$" PRId64 " * 100), 0, 1"
	    " FROM accounts WHERE id = 'grants';"
	    "INSERT INTO ledger (id, transfer, account, type, amount, balance_after, withdrawable_after, created_us)"
	    " VALUES (2, 1, 1001, 'admin_credit', 1000000000 + %1$" PRId64 " * 100, 1000000000 + %1$" PRId64 " * 100, 0, 1);"
	    "UPDATE balances SET balance = -(1000000000 + %1$" PRId64 " * 100) WHERE account ="
	    " (SELECT ref FROM accounts WHERE id = 'grants');"
	    "UPDATE balances SET balance = %1$" PRId64 " * 10 WHERE account = (SELECT ref FROM accounts WHERE id = 'platform');"
	    "INSERT INTO earnings_summary VALUES (1002, %1$" PRId64 ", %1$" PRId64 " * 90, 1, 1);"
	    "UPDATE turn SET last_hold = %1$" PRId64 ", last_entry = 2 + 3 * %1$" PRId64;
	static const char *const rows[] = {
	    "INSERT INTO holds (id, request_id, account, key_id, amount, price_in, price_out, state, reason, entry, created_us,"
	    " ended_us) %s SELECT i, 'request-' || i, 1001, '', 100, 50000, 200000, 'settled', '', 3 * i, 1, 2 FROM n",
	    "INSERT INTO usage (id, account, key_id, provider_account, provider_id, provider_key, model, public_model, "
	    "prompt_tokens,"
	    " completion_tokens, reasoning_tokens, price_in, price_out, cost, fee, outcome, created_us)"
	    " %s SELECT i, 1001, '', 1002, 'p', 'k', 'm', 'm', 1, 1, 0, 50000, 200000, 100, 10, 'success', 2 FROM n",
	    "INSERT INTO earnings (id, account, provider_id, provider_key, model, amount, prompt_tokens, completion_tokens,"
	    " created_us) %s SELECT i, 1002, 'p', 'k', 'm', 90, 1, 1, 2 FROM n",
	    "INSERT INTO ledger (id, hold, account, type, amount, balance_after, withdrawable_after, created_us)"
	    " %s, p (k, type, amount) AS (SELECT 0, 'charge', -100 UNION ALL SELECT 1, 'payout', 90 UNION ALL"
	    " SELECT 2, 'platform_fee', 10) SELECT 3 * i + k, i, CASE k WHEN 0 THEN 1001 WHEN 1 THEN 1002 ELSE"
	    " (SELECT ref FROM accounts WHERE id = 'platform') END, type, amount, CASE k WHEN 0 THEN 1000000000 +"
	    " (%" PRId64 " - i) * 100 WHEN 1 THEN i * 90 ELSE i * 10 END, CASE k WHEN 1 THEN i * 90 ELSE 0 END, 2 FROM n, p",
	};
	sql_exec(db, "BEGIN");
	snprintf(text, sizeof text, setup, requests);
	sql_exec(db, text);
	for (size_t i = 0; i < sizeof rows / sizeof *rows && !db->failed; i++) {
		snprintf(text, sizeof text, rows[i], series, requests);
		sql_exec(db, text);
	}
	sql_exec(db, "COMMIT");
	if (db->failed)
		fail("fill", &db->why);
}

static void make(const char *place, int64_t requests)
{
	int from, to;
	struct error error;
	if (store_migrate(place, &from, &to, &error))
		fail("migrate", &error);
	struct sql *db = sql_open(place, SQL_WRITE, &error);
	if (!db)
		fail("open", &error);
	sql_exec(db, db->kind == SQL_POSTGRES ? "SET statement_timeout = 0" : "PRAGMA synchronous = OFF");
	fill(db, requests);
	sql_exec(db, db->kind == SQL_POSTGRES ? "VACUUM ANALYZE" : "PRAGMA wal_checkpoint(TRUNCATE)");
	sql_close(db);
}

static void on_flushed(const struct error *error, void *user)
{
	if (error)
		fail("flush", error);
	net_loop_stop(user);
}

int main(int argc, char **argv)
{
	struct error error = {0};
	struct store_audit audit;
	if (argc < 3)
		return 0;
	const char *place = argv[2], *on = sql_is_postgres(place) ? "postgres" : "sqlite";
	int64_t rows = strtoll(argv[1], NULL, 10);
	log_set_level(LOG_WARN);
	make(place, rows / 3);

	struct net_loop *loop = net_loop_new(&error);
	uint64_t start_us = clock_mono_us();
	struct store *store = loop ? store_open(&(struct store_options){.path = place, .instance = "bench"}, loop, &error) : NULL;
	if (!store)
		fail("open", &error);
	store_flush(store, on_flushed, loop);
	net_loop_run(loop);
	printf("bench store_open_10m_s_%s %.3f s\n", on, (double)(clock_mono_us() - start_us) / 1e6);
	store_close(store);
	net_loop_free(loop);

	start_us = clock_mono_us();
	if (store_audit(place, &audit, &error))
		fail("audit", &error);
	printf("bench ledger_verify_10m_s_%s %.2f s\n", on, (double)(clock_mono_us() - start_us) / 1e6);
	if (!store_audit_clean(&audit)) {
		fprintf(stderr, "bench_books: the books are wrong: %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", audit.sum_uusd,
		        audit.broken_chains, audit.wrong_balances, audit.wrong_settlements);
		return 1;
	}
	return 0;
}
