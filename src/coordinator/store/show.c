#include "coordinator/store/migrate.h"
#include "coordinator/store/store.h"

/* One request out of a database that may be in use. */

enum show_statement { S_LATEST, S_HOLD, S_USAGE, S_ENTRIES, S_STATEMENTS };

static const char *const statements[S_STATEMENTS] = {
    [S_LATEST] = "SELECT request_id FROM holds ORDER BY id DESC LIMIT 1",
    [S_HOLD] = "SELECT h.state, h.reason, h.amount, h.created_us, h.request_id, a.id, h.key_id, h.price_in, h.price_out"
               " FROM holds h JOIN accounts a ON a.ref = h.account WHERE h.request_id = ?",
    [S_USAGE] = "SELECT p.id, u.provider_id, u.model, u.public_model, u.outcome, u.prompt_tokens, u.completion_tokens,"
                " u.reasoning_tokens, u.price_in, u.price_out, u.cost, u.fee, u.created_us, u.cached_tokens, u.price_cached "
                "FROM holds h JOIN usage u ON u.id = h.id"
                " LEFT JOIN accounts p ON p.ref = u.provider_account WHERE h.request_id = ?",
    [S_ENTRIES] =
        "SELECT e.id, a.id, e.type, h.request_id, e.amount, e.balance_after, e.created_us FROM holds h"
        " JOIN ledger e ON e.id BETWEEN h.entry AND h.entry + 3 AND e.hold = h.id JOIN accounts a ON a.ref = e.account"
        " WHERE h.request_id = ? ORDER BY e.id",
};

static void read_latest(struct sql *db, char id[STORE_ID_SIZE])
{
	struct sql_stmt *stmt = sql_say(db, statements[S_LATEST]);
	if (!sql_row(stmt))
		return;
	sql_copy(stmt, 0, id, STORE_ID_SIZE);
	sql_done(stmt);
}

static bool read_hold(struct sql *db, const char *id, struct store_record *out)
{
	struct store_settlement *s = &out->settlement;
	struct sql_stmt *stmt = sql_say(db, statements[S_HOLD]);
	sql_put_text(stmt, 1, id);
	if (!sql_row(stmt))
		return false;
	sql_copy(stmt, 0, out->state, sizeof out->state);
	sql_copy(stmt, 1, out->reason, sizeof out->reason);
	out->hold_uusd = s->hold_uusd = sql_i64(stmt, 2);
	out->created_us = sql_i64(stmt, 3);
	sql_copy(stmt, 4, s->request_id, sizeof s->request_id);
	sql_copy(stmt, 5, s->account_id, sizeof s->account_id);
	sql_copy(stmt, 6, s->key_id, sizeof s->key_id);
	s->price_in = sql_i64(stmt, 7);
	s->price_out = sql_i64(stmt, 8);
	sql_done(stmt);
	return true;
}

static void read_usage(struct sql *db, const char *id, struct store_settlement *s)
{
	struct sql_stmt *stmt = sql_say(db, statements[S_USAGE]);
	sql_put_text(stmt, 1, id);
	if (!sql_row(stmt))
		return;
	sql_copy(stmt, 0, s->provider_account, sizeof s->provider_account);
	sql_copy(stmt, 1, s->provider_id, sizeof s->provider_id);
	sql_copy(stmt, 2, s->model, sizeof s->model);
	sql_copy(stmt, 3, s->public_model, sizeof s->public_model);
	sql_copy(stmt, 4, s->outcome, sizeof s->outcome);
	s->prompt_tokens = (uint64_t)sql_i64(stmt, 5);
	s->completion_tokens = (uint64_t)sql_i64(stmt, 6);
	s->reasoning_tokens = (uint64_t)sql_i64(stmt, 7);
	s->price_in = sql_i64(stmt, 8);
	s->price_out = sql_i64(stmt, 9);
	s->cost_uusd = sql_i64(stmt, 10);
	s->fee_uusd = sql_i64(stmt, 11);
	s->created_us = sql_i64(stmt, 12);
	s->cached_tokens = (uint64_t)sql_i64(stmt, 13);
	s->price_cached = sql_i64(stmt, 14);
	sql_done(stmt);
}

static void read_entries(struct sql *db, const char *id, struct store_record *out)
{
	struct sql_stmt *stmt = sql_say(db, statements[S_ENTRIES]);
	sql_put_text(stmt, 1, id);
	while (sql_row(stmt)) {
		if (out->entry_count == sizeof out->entries / sizeof *out->entries)
			continue;
		struct store_ledger_row *row = &out->entries[out->entry_count++];
		row->id = sql_i64(stmt, 0);
		sql_copy(stmt, 1, row->account_id, sizeof row->account_id);
		sql_copy(stmt, 2, row->type, sizeof row->type);
		sql_copy(stmt, 3, row->reference, sizeof row->reference);
		row->amount_uusd = sql_i64(stmt, 4);
		row->balance_after_uusd = sql_i64(stmt, 5);
		row->created_us = sql_i64(stmt, 6);
	}
}

static void read_record(struct sql *db, struct str request_id, struct store_record *out)
{
	char id[STORE_ID_SIZE] = "";
	if (request_id.len == 0)
		read_latest(db, id);
	else if (!str_copy(request_id, id, sizeof id))
		id[0] = '\0';
	if (read_hold(db, id, out)) {
		read_usage(db, id, &out->settlement);
		read_entries(db, id, out);
	} else {
		sql_fail(db, DB_E_NOT_FOUND, "The books know no such request.");
	}
}

enum db_err store_show(const char *place, struct str request_id, struct store_record *out, struct error *error)
{
	*out = (struct store_record){0};
	struct sql *db = sql_open(place, SQL_READ, error);
	if (!db)
		return DB_E_IO;
	enum db_err err = schema_check(db, error);
	if (!err) {
		sql_exec(db, db->kind == SQL_SQLITE ? "BEGIN" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
		read_record(db, request_id, out);
		err = db->failed;
		if (err && error)
			*error = db->why;
	}
	sql_close(db);
	return err;
}
