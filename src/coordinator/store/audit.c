#include <stdio.h>
#include <stdlib.h>

#include "coordinator/store/migrate.h"
#include "coordinator/store/postgres_db.h"
#include "coordinator/store/store.h"

/* The books are recomputed from the rows and nothing else, in one pass over the ledger in the order it was written. */

enum audit_statement {
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
	A_WRONG_SPENDS,
	A_UNPAID_DRAWS,
	A_STATEMENTS,
};

static const char *const statements[A_STATEMENTS] = {
    [A_LAST_ACCOUNT] = "SELECT coalesce(max(ref), 0) FROM accounts",
    [A_ENTRIES] = "SELECT account, amount, balance_after, withdrawable_after, hold, transfer,"
                  " CASE WHEN type = 'charge' THEN 1 ELSE 0 END FROM ledger"
                  " ORDER BY id",
    [A_BALANCES] = "SELECT ref, may_go_below, balance, withdrawable FROM accounts LEFT JOIN balances ON account = ref",
    [A_OPEN_HOLDS] = "SELECT count(*) FROM holds WHERE state = 'open'",
    [A_USAGE_COST] = "SELECT (SELECT coalesce(sum(cost), 0) FROM usage) + (SELECT coalesce(sum(cost), 0) FROM usage_months)",
    /* A usage row belongs to a settled hold whose first entry is its charge, followed by payout, fee and the referrer's part of
     * the fee. */
    [A_WRONG_USAGE] =
        "SELECT count(*) FROM usage u LEFT JOIN holds h ON h.id = u.id LEFT JOIN ledger c ON c.id = h.entry AND c.hold = u.id"
        " LEFT JOIN ledger p ON p.id = h.entry + 1 AND p.hold = u.id AND u.cost > u.fee"
        " LEFT JOIN ledger f ON f.id = h.entry + CASE WHEN u.cost > u.fee THEN 2 ELSE 1 END AND f.hold = u.id AND f.type = "
        "'platform_fee'"
        " LEFT JOIN ledger r ON r.id = f.id + 1 AND r.hold = u.id LEFT JOIN referrals g ON g.account = u.account"
        " LEFT JOIN earnings e ON e.id = u.id"
        " WHERE h.state IS DISTINCT FROM 'settled' OR h.account IS DISTINCT FROM u.account OR coalesce(c.amount, 0) <> -u.cost"
        " OR (u.cost > 0 AND (c.account IS DISTINCT FROM u.account OR c.type <> 'charge'))"
        " OR coalesce(p.amount, 0) <> u.cost - u.fee"
        " OR (u.cost > u.fee AND p.type IS DISTINCT FROM CASE WHEN u.provider_account IS NULL THEN 'platform_retained' ELSE "
        "'payout' END)"
        " OR (u.cost > u.fee AND u.provider_account IS NOT NULL AND p.account IS DISTINCT FROM u.provider_account)"
        " OR coalesce(f.amount, 0) + coalesce(r.amount, 0) <> u.fee"
        " OR (r.id IS NOT NULL AND (r.type <> 'referral_reward' OR r.amount > f.amount OR r.account IS DISTINCT FROM "
        "g.referrer))"
        " OR coalesce(e.amount, 0) <> CASE WHEN u.provider_account IS NULL THEN 0 ELSE u.cost - u.fee END"
        " OR u.cost > coalesce(2 * h.amount, 0)",
    [A_SETTLED_WITHOUT_USAGE] =
        "SELECT abs((SELECT count(*) FROM holds h LEFT JOIN usage u ON u.id = h.id WHERE h.state = 'settled' AND u.id IS NULL)"
        " - (SELECT coalesce(sum(requests), 0) FROM usage_months))", /* those that were rolled up */
    [A_WRONG_EARNINGS] = "SELECT count(*) FROM earnings_summary s LEFT JOIN"
                         " (SELECT account, sum(CASE WHEN model <> 'base_reward' THEN 1 ELSE 0 END) AS jobs, sum(amount) AS "
                         "amount FROM earnings GROUP BY account) e"
                         " ON e.account = s.account WHERE s.jobs IS DISTINCT FROM e.jobs OR s.amount IS DISTINCT FROM e.amount",
    [A_UNSUMMED_EARNINGS] =
        "SELECT count(DISTINCT account) FROM earnings WHERE account NOT IN (SELECT account FROM earnings_summary)",
    [A_UNPAID_DRAWS] = "SELECT abs((SELECT coalesce(sum(amount), 0) FROM provider_floor_draws)"
                       " - (SELECT -coalesce(sum(e.amount), 0) FROM ledger e JOIN accounts a ON a.ref = e.account"
                       " WHERE a.id = 'rewards' AND e.type = 'provider_floor_draw' AND e.transfer IS NOT NULL))",
    [A_STRAY_ENTRIES] =
        ("SELECT count(*) FROM ledger e LEFT JOIN holds h ON h.id = e.hold LEFT JOIN transfers t ON t.id = e.transfer"
         " WHERE NOT coalesce(e.id BETWEEN h.entry AND h.entry + 3, t.id IS NOT NULL)"),
    /* By day and not by key: the usage rows name keys that may be gone, and what was spent is counted by group. */
    [A_WRONG_SPENDS] =
        "SELECT count(*) FROM (SELECT day, sum(amount) AS rest FROM (SELECT day, spent AS amount FROM key_spend UNION ALL"
        " SELECT created_us / 86400000000 AS day, -cost FROM usage WHERE key_id <> '') AS each GROUP BY day) AS days WHERE "
        "rest <> 0"
        " AND day >= (SELECT coalesce(max(until_day), 0) FROM usage_months)",
};

struct running {
	int64_t balance, withdrawable;
};

struct audit_run {
	struct sql *db;
	struct store_audit *out;
	struct running *accounts; /* by ref */
	int64_t last_account;
};

static int64_t number(struct sql *db, int statement)
{
	return sql_number(sql_say(db, statements[statement]));
}

/* PostgreSQL checks its pages itself, when it was set up to. */
static void check_damage(struct sql *db)
{
	char sentence[400];
	if (db->kind == SQL_POSTGRES)
		return;
	struct sql_stmt *stmt = sql_say(db, "PRAGMA quick_check(1)");
	if (!sql_row(stmt))
		return;
	struct str verdict = sql_text(stmt, 0);
	if (!str_eq(verdict, STR("ok"))) {
		snprintf(sentence, sizeof sentence, "The database file is damaged (%.200s). Restore it from a backup.", verdict.at);
		sql_fail(db, DB_E_IO, sentence);
	}
	sql_done(stmt);
}

/* One moment of a database that may be in use. */
static void freeze(struct sql *db)
{
	sql_exec(db, db->kind == SQL_SQLITE ? "BEGIN" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
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
	struct sql_stmt *stmt = sql_say(run->db, statements[A_ENTRIES]);
	sql_stream(stmt);

	while (sql_row(stmt)) {
		int64_t account = sql_i64(stmt, 0), amount = sql_i64(stmt, 1);
		int64_t this_hold = sql_i64(stmt, 4), this_transfer = sql_i64(stmt, 5);
		if (this_hold != hold || this_transfer != transfer) {
			out->unbalanced += sum != 0;
			sum = 0;
			hold = this_hold;
			transfer = this_transfer;
		}
		sum = add(sum, amount);
		out->entries++;
		out->sum_uusd = add(out->sum_uusd, amount);
		if (sql_i64(stmt, 6))
			out->charged_uusd = add(out->charged_uusd, -amount);
		if (account < 1 || account > run->last_account) {
			out->broken_chains++;
			continue;
		}
		struct running *running = &run->accounts[account];
		int64_t after = sql_i64(stmt, 2);
		out->broken_chains += after != add(running->balance, amount);
		running->balance = add(running->balance, amount);
		running->withdrawable = sql_i64(stmt, 3);
	}
	out->unbalanced += sum != 0;
}

static void check_balances(struct audit_run *run)
{
	struct store_audit *out = run->out;
	struct sql_stmt *stmt = sql_say(run->db, statements[A_BALANCES]);

	while (sql_row(stmt)) {
		int64_t ref = sql_i64(stmt, 0);
		bool has_row = !sql_is_null(stmt, 1), is_source = sql_i64(stmt, 1) != 0;
		int64_t balance = sql_i64(stmt, 2), withdrawable = sql_i64(stmt, 3);
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
	struct sql *db = run->db;
	run->out->open_holds = number(db, A_OPEN_HOLDS);
	run->out->usage_cost_uusd = number(db, A_USAGE_COST);
	run->out->wrong_spends = number(db, A_WRONG_SPENDS);
	run->out->wrong_settlements = number(db, A_WRONG_USAGE) + number(db, A_SETTLED_WITHOUT_USAGE) +
	                              number(db, A_WRONG_EARNINGS) + number(db, A_UNSUMMED_EARNINGS) + number(db, A_STRAY_ENTRIES) +
	                              number(db, A_UNPAID_DRAWS);
}

static void check_all(struct audit_run *run)
{
	struct sql *db = run->db;
	freeze(db);
	check_damage(db);
	run->last_account = number(db, A_LAST_ACCOUNT);
	if (db->failed)
		return;
	run->accounts = calloc((size_t)run->last_account + 1, sizeof *run->accounts);
	if (!run->accounts) {
		sql_fail(db, DB_E_NOMEM, "There is no memory to audit so many accounts.");
		return;
	}
	check_entries(run);
	check_balances(run);
	check_settlements(run);
}

enum db_err store_audit(const char *place, struct store_audit *out, struct error *error)
{
	struct audit_run run = {.out = out};
	*out = (struct store_audit){0};
	run.db = sql_open(place, SQL_READ, error);
	if (!run.db)
		return DB_E_IO;
	if (run.db->kind == SQL_POSTGRES)
		postgres_db_statement_limit(run.db, 0); /* all rows of the biggest tables */
	enum db_err err = schema_check(run.db, error);
	if (!err) {
		check_all(&run);
		err = run.db->failed;
		if (err && error)
			*error = run.db->why;
	}
	free(run.accounts);
	sql_close(run.db);
	return err;
}

bool store_audit_clean(const struct store_audit *audit)
{
	return audit->sum_uusd == 0 && audit->unbalanced == 0 && audit->broken_chains == 0 && audit->wrong_balances == 0 &&
	       audit->negative_balances == 0 && audit->wrong_settlements == 0 && audit->wrong_spends == 0 &&
	       audit->usage_cost_uusd == audit->charged_uusd;
}
