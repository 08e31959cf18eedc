#include <sqlite3.h>

#include "coordinator/store/migrate.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store.h"

/* One request out of a database that may be in use. */

enum show_statement { S_BEGIN, S_LATEST, S_HOLD, S_USAGE, S_ENTRIES, S_STATEMENTS };

static const char *const statements[S_STATEMENTS] = {
    [S_BEGIN] = "BEGIN",
    [S_LATEST] = "SELECT request_id FROM holds ORDER BY id DESC LIMIT 1",
    [S_HOLD] = "SELECT h.state, h.reason, h.amount, h.created_us, h.request_id, a.id, h.key_id, h.price_in, h.price_out"
               " FROM holds h JOIN accounts a ON a.ref = h.account WHERE h.request_id = ?",
    [S_USAGE] =
        "SELECT p.id, u.provider_id, u.model, u.public_model, u.outcome, u.prompt_tokens, u.completion_tokens,"
        " u.reasoning_tokens, u.price_in, u.price_out, u.cost, u.fee, u.created_us FROM holds h JOIN usage u ON u.id = h.id"
        " LEFT JOIN accounts p ON p.ref = u.provider_account WHERE h.request_id = ?",
    [S_ENTRIES] =
        "SELECT e.id, a.id, e.type, h.request_id, e.amount, e.balance_after, e.created_us FROM holds h"
        " JOIN ledger e ON e.id BETWEEN h.entry AND h.entry + 2 AND e.hold = h.id JOIN accounts a ON a.ref = e.account"
        " WHERE h.request_id = ? ORDER BY e.id",
};

static void read_latest(struct sqlite_db *db, char id[STORE_ID_SIZE])
{
	sqlite3_stmt *stmt = sqlite_use(db, S_LATEST);
	if (!sqlite_row(db, stmt))
		return;
	sqlite_copy(stmt, 0, id, STORE_ID_SIZE);
	sqlite_done(stmt);
}

static bool read_hold(struct sqlite_db *db, const char *id, struct store_record *out)
{
	struct store_settlement *s = &out->settlement;
	sqlite3_stmt *stmt = sqlite_use(db, S_HOLD);
	sqlite_text(stmt, 1, id);
	if (!sqlite_row(db, stmt))
		return false;
	sqlite_copy(stmt, 0, out->state, sizeof out->state);
	sqlite_copy(stmt, 1, out->reason, sizeof out->reason);
	out->hold_uusd = s->hold_uusd = sqlite3_column_int64(stmt, 2);
	out->created_us = sqlite3_column_int64(stmt, 3);
	sqlite_copy(stmt, 4, s->request_id, sizeof s->request_id);
	sqlite_copy(stmt, 5, s->account_id, sizeof s->account_id);
	sqlite_copy(stmt, 6, s->key_id, sizeof s->key_id);
	s->price_in = sqlite3_column_int64(stmt, 7);
	s->price_out = sqlite3_column_int64(stmt, 8);
	sqlite_done(stmt);
	return true;
}

static void read_usage(struct sqlite_db *db, const char *id, struct store_settlement *s)
{
	sqlite3_stmt *stmt = sqlite_use(db, S_USAGE);
	sqlite_text(stmt, 1, id);
	if (!sqlite_row(db, stmt))
		return;
	sqlite_copy(stmt, 0, s->provider_account, sizeof s->provider_account);
	sqlite_copy(stmt, 1, s->provider_id, sizeof s->provider_id);
	sqlite_copy(stmt, 2, s->model, sizeof s->model);
	sqlite_copy(stmt, 3, s->public_model, sizeof s->public_model);
	sqlite_copy(stmt, 4, s->outcome, sizeof s->outcome);
	s->prompt_tokens = (uint64_t)sqlite3_column_int64(stmt, 5);
	s->completion_tokens = (uint64_t)sqlite3_column_int64(stmt, 6);
	s->reasoning_tokens = (uint64_t)sqlite3_column_int64(stmt, 7);
	s->price_in = sqlite3_column_int64(stmt, 8);
	s->price_out = sqlite3_column_int64(stmt, 9);
	s->cost_uusd = sqlite3_column_int64(stmt, 10);
	s->fee_uusd = sqlite3_column_int64(stmt, 11);
	s->created_us = sqlite3_column_int64(stmt, 12);
	sqlite_done(stmt);
}

static void read_entries(struct sqlite_db *db, const char *id, struct store_record *out)
{
	sqlite3_stmt *stmt = sqlite_use(db, S_ENTRIES);
	sqlite_text(stmt, 1, id);
	while (sqlite_row(db, stmt)) {
		if (out->entry_count == sizeof out->entries / sizeof *out->entries)
			continue;
		struct store_ledger_row *row = &out->entries[out->entry_count++];
		row->id = sqlite3_column_int64(stmt, 0);
		sqlite_copy(stmt, 1, row->account_id, sizeof row->account_id);
		sqlite_copy(stmt, 2, row->type, sizeof row->type);
		sqlite_copy(stmt, 3, row->reference, sizeof row->reference);
		row->amount_uusd = sqlite3_column_int64(stmt, 4);
		row->balance_after_uusd = sqlite3_column_int64(stmt, 5);
		row->created_us = sqlite3_column_int64(stmt, 6);
	}
}

enum db_err store_show(const char *path, struct str request_id, struct store_record *out, struct error *error)
{
	struct sqlite_db db;
	char id[STORE_ID_SIZE] = "";
	int version;
	bool found = false;
	*out = (struct store_record){0};
	enum db_err err = sqlite_db_open(&db, path, SQLITE_DB_READ, error);
	if (err)
		return err;
	err = schema_version(db.handle, &version, error);
	if (!err && version != migrations[migrations_count - 1].version)
		err = error_set(error, DB_E_UNSUPPORTED, "The database has schema version %d and this program reads version %d.",
		                version, migrations[migrations_count - 1].version);
	if (err)
		goto out;
	sqlite_db_statements(&db, statements, S_STATEMENTS);
	sqlite_run(&db, sqlite_use(&db, S_BEGIN));
	if (request_id.len == 0)
		read_latest(&db, id);
	else if (!str_copy(request_id, id, sizeof id))
		id[0] = '\0';
	found = read_hold(&db, id, out);
	if (found) {
		read_usage(&db, id, &out->settlement);
		read_entries(&db, id, out);
	}
	err = db.failed;
	if (err && error)
		*error = db.why;
	if (!err && !found)
		err = error_set(error, DB_E_NOT_FOUND, "The books know no such request.");
out:
	sqlite_db_close(&db);
	return err;
}
