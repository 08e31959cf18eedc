#include <sqlite3.h>
#include <stdlib.h>

#include "coordinator/store/migrate.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store.h"

/* The books are recomputed from the rows and nothing else, in one pass over the ledger in the order it was written. */

enum audit_statement {
	A_BEGIN,
	A_DAMAGE,
	A_LAST_ACCOUNT,
	A_ENTRIES,
	A_BALANCES,
	A_OPEN_HOLDS,
	A_USAGE_COST,
	A_WRONG_USAGE,
	A_SETTLED_WITHOUT_USAGE,
	A_WRONG_EARNINGS,
	A_UNSUMMED_EARNINGS,
	A_STRAY_ENTRIES,
	A_STATEMENTS,
};

static const char *const statements[A_STATEMENTS] = {
    [A_BEGIN] = "BEGIN", /* one moment of a database that may be in use */
    [A_DAMAGE] = "PRAGMA quick_check(1)",
    [A_LAST_ACCOUNT] = "SELECT coalesce(max(ref), 0) FROM accounts",
    [A_ENTRIES] = "SELECT account, amount, balance_after, withdrawable_after, hold, transfer, type = 'charge' FROM ledger"
                  " ORDER BY id",
    [A_BALANCES] = "SELECT ref, may_go_below, balance, withdrawable FROM accounts LEFT JOIN balances ON account = ref",
    [A_OPEN_HOLDS] = "SELECT count(*) FROM holds WHERE state = 'open'",
    [A_USAGE_COST] = "SELECT coalesce(sum(cost), 0) FROM usage",
    /* A usage row belongs to a settled hold whose first entry is its charge, followed by payout and fee. */
    [A_WRONG_USAGE] =
        "SELECT count(*) FROM usage u LEFT JOIN holds h ON h.id = u.id LEFT JOIN ledger c ON c.id = h.entry AND c.hold = u.id"
        " LEFT JOIN ledger p ON p.id = h.entry + 1 AND p.hold = u.id AND u.cost > u.fee"
        " LEFT JOIN ledger f ON f.id = h.entry + 1 + (u.cost > u.fee) AND f.hold = u.id AND f.type = 'platform_fee'"
        " LEFT JOIN earnings e ON e.id = u.id"
        " WHERE h.state IS NOT 'settled' OR h.account IS NOT u.account OR coalesce(c.amount, 0) <> -u.cost"
        " OR (u.cost > 0 AND (c.account IS NOT u.account OR c.type <> 'charge'))"
        " OR coalesce(p.amount, 0) <> u.cost - u.fee"
        " OR (u.cost > u.fee AND p.type IS NOT iif(u.provider_account IS NULL, 'platform_retained', 'payout'))"
        " OR (u.cost > u.fee AND u.provider_account IS NOT NULL AND p.account IS NOT u.provider_account)"
        " OR coalesce(f.amount, 0) <> u.fee"
        " OR coalesce(e.amount, 0) <> iif(u.provider_account IS NULL, 0, u.cost - u.fee)"
        " OR u.cost > max(2 * h.amount, 0)",
    [A_SETTLED_WITHOUT_USAGE] =
        "SELECT count(*) FROM holds h LEFT JOIN usage u ON u.id = h.id WHERE h.state = 'settled' AND u.id IS NULL",
    [A_WRONG_EARNINGS] = "SELECT count(*) FROM earnings_summary s LEFT JOIN"
                         " (SELECT account, count(*) AS jobs, sum(amount) AS amount FROM earnings GROUP BY account) e"
                         " ON e.account = s.account WHERE s.jobs IS NOT e.jobs OR s.amount IS NOT e.amount",
    [A_UNSUMMED_EARNINGS] =
        "SELECT count(DISTINCT account) FROM earnings WHERE account NOT IN (SELECT account FROM earnings_summary)",
    [A_STRAY_ENTRIES] =
        "SELECT count(*) FROM ledger e LEFT JOIN holds h ON h.id = e.hold LEFT JOIN transfers t ON t.id = e.transfer"
        " WHERE coalesce(e.id BETWEEN h.entry AND h.entry + 2, t.id IS NOT NULL) = 0",
};

struct running {
	int64_t balance, withdrawable;
};

struct audit_run {
	struct sqlite_db db;
	struct store_audit *out;
	struct running *accounts; /* by ref */
	int64_t last_account;
};

static int64_t number(struct sqlite_db *db, int statement)
{
	int64_t value = 0;
	sqlite3_stmt *stmt = sqlite_use(db, statement);
	if (sqlite_row(db, stmt)) {
		value = sqlite3_column_int64(stmt, 0);
		sqlite_done(stmt);
	}
	return value;
}

static void check_damage(struct sqlite_db *db)
{
	sqlite3_stmt *stmt = sqlite_use(db, A_DAMAGE);
	if (!sqlite_row(db, stmt))
		return;
	const char *verdict = (const char *)sqlite3_column_text(stmt, 0);
	if (!verdict || strcmp(verdict, "ok") != 0)
		db->failed = error_set(&db->why, DB_E_IO, "The database file is damaged (%s). Restore it from a backup.",
		                       verdict ? verdict : "no memory");
	sqlite_done(stmt);
}

/* Wrapping sums: rows that somebody altered may hold any number. */
static int64_t add(int64_t a, int64_t b)
{
	return (int64_t)((uint64_t)a + (uint64_t)b);
}

static void check_entries(struct audit_run *run)
{
	struct store_audit *out = run->out;
	int64_t hold = 0, transfer = 0, sum = 0;
	sqlite3_stmt *stmt = sqlite_use(&run->db, A_ENTRIES);

	while (sqlite_row(&run->db, stmt)) {
		int64_t account = sqlite3_column_int64(stmt, 0), amount = sqlite3_column_int64(stmt, 1);
		int64_t this_hold = sqlite3_column_int64(stmt, 4), this_transfer = sqlite3_column_int64(stmt, 5);
		if (this_hold != hold || this_transfer != transfer) {
			out->unbalanced += sum != 0;
			sum = 0;
			hold = this_hold;
			transfer = this_transfer;
		}
		sum = add(sum, amount);
		out->entries++;
		out->sum_uusd = add(out->sum_uusd, amount);
		if (sqlite3_column_int(stmt, 6))
			out->charged_uusd = add(out->charged_uusd, -amount);
		if (account < 1 || account > run->last_account) {
			out->broken_chains++;
			continue;
		}
		struct running *running = &run->accounts[account];
		int64_t after = sqlite3_column_int64(stmt, 2);
		out->broken_chains += after != add(running->balance, amount);
		running->balance = add(running->balance, amount);
		running->withdrawable = sqlite3_column_int64(stmt, 3);
	}
	out->unbalanced += sum != 0;
}

static void check_balances(struct audit_run *run)
{
	struct store_audit *out = run->out;
	sqlite3_stmt *stmt = sqlite_use(&run->db, A_BALANCES);

	while (sqlite_row(&run->db, stmt)) {
		int64_t ref = sqlite3_column_int64(stmt, 0);
		bool has_row = sqlite3_column_type(stmt, 1) != SQLITE_NULL, is_source = sqlite3_column_int(stmt, 1) != 0;
		int64_t balance = sqlite3_column_int64(stmt, 2), withdrawable = sqlite3_column_int64(stmt, 3);
		out->accounts++;
		if (ref < 1 || ref > run->last_account) {
			out->wrong_balances++;
			continue;
		}
		const struct running *running = &run->accounts[ref];
		out->wrong_balances += !has_row || running->balance != balance || running->withdrawable != withdrawable;
		out->negative_balances += !is_source && (balance < 0 || withdrawable < 0 || withdrawable > balance);
	}
}

static void check_settlements(struct audit_run *run)
{
	struct sqlite_db *db = &run->db;
	run->out->open_holds = number(db, A_OPEN_HOLDS);
	run->out->usage_cost_uusd = number(db, A_USAGE_COST);
	run->out->wrong_settlements = number(db, A_WRONG_USAGE) + number(db, A_SETTLED_WITHOUT_USAGE) +
	                              number(db, A_WRONG_EARNINGS) + number(db, A_UNSUMMED_EARNINGS) + number(db, A_STRAY_ENTRIES);
}

static void check_all(struct audit_run *run)
{
	struct sqlite_db *db = &run->db;
	sqlite_run(db, sqlite_use(db, A_BEGIN));
	check_damage(db);
	run->last_account = number(db, A_LAST_ACCOUNT);
	if (db->failed)
		return;
	run->accounts = calloc((size_t)run->last_account + 1, sizeof *run->accounts);
	if (!run->accounts) {
		db->failed = error_set(&db->why, DB_E_NOMEM, "There is no memory to audit so many accounts.");
		return;
	}
	check_entries(run);
	check_balances(run);
	check_settlements(run);
}

enum db_err store_audit(const char *path, struct store_audit *out, struct error *error)
{
	struct audit_run run = {.out = out};
	*out = (struct store_audit){0};
	enum db_err err = sqlite_db_open(&run.db, path, SQLITE_DB_READ, error);
	if (err)
		return err;
	int version;
	err = schema_version(run.db.handle, &version, error);
	if (!err && version != migrations[migrations_count - 1].version)
		err = error_set(error, DB_E_UNSUPPORTED,
		                "The database has schema version %d and this program audits version %d: start the coordinator on it "
		                "once, or use the program that wrote it.",
		                version, migrations[migrations_count - 1].version);
	if (!err) {
		sqlite_db_statements(&run.db, statements, A_STATEMENTS);
		check_all(&run);
		err = run.db.failed;
		if (err && error)
			*error = run.db.why;
	}
	free(run.accounts);
	sqlite_db_close(&run.db);
	return err;
}

bool store_audit_clean(const struct store_audit *audit)
{
	return audit->sum_uusd == 0 && audit->unbalanced == 0 && audit->broken_chains == 0 && audit->wrong_balances == 0 &&
	       audit->negative_balances == 0 && audit->wrong_settlements == 0 && audit->usage_cost_uusd == audit->charged_uusd;
}
