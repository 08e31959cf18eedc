#include "coordinator/store/migrate.h"
#include "coordinator/store/store.h"
#include "coordinator/store/usage_row.h"

/* One request out of a database that may be in use. */

enum show_statement { S_LATEST, S_HOLD, S_STATEMENTS };

static const char *const statements[S_STATEMENTS] = {
    [S_LATEST] = "SELECT request_id FROM holds ORDER BY id DESC LIMIT 1",
    [S_HOLD] = "SELECT h.state, h.reason, h.amount, h.created_us, h.request_id, a.id, h.key_id, h.price_in, h.price_out"
               " FROM holds h JOIN accounts a ON a.ref = h.account WHERE h.request_id = ?",
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
	struct sql_stmt *stmt = sql_say(db, usage_of_request_sql);
	sql_put_text(stmt, 1, id);
	if (!sql_row(stmt))
		return;
	usage_row_read(stmt, s);
	sql_done(stmt);
}

static void read_entries(struct sql *db, const char *id, struct store_record *out)
{
	struct sql_stmt *stmt = sql_say(db, entries_of_request_sql);
	sql_put_text(stmt, 1, id);
	while (sql_row(stmt))
		if (out->entry_count < sizeof out->entries / sizeof *out->entries)
			entry_row_read(stmt, &out->entries[out->entry_count++]);
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
