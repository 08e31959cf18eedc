/* SQL of closes: the digest of a period, its row, and proving all of them again. */
#include "coordinator/store/books.h"

#include <stdio.h>

#include "coordinator/store/migrate.h"
#include "core/clock.h"
#include "core/encode.h"

#define CLOSE_HEAD "darkbloom-close-v1\n"

/* --- what is hashed: numbers as 8 bytes, big end first; texts as their length and their bytes --- */

static void add_i64(struct sha256_state *state, int64_t value)
{
	uint8_t bytes[8];
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)((uint64_t)value >> (56 - 8 * i));
	sha256_update(state, bytes, sizeof bytes);
}

static void add_str(struct sha256_state *state, struct str text)
{
	add_i64(state, (int64_t)text.len);
	sha256_update(state, text.at, text.len);
}

static void add_column(struct sha256_state *state, struct sql_stmt *stmt, int column, bool is_text)
{
	if (is_text)
		add_str(state, sql_text(stmt, column));
	else
		add_i64(state, sql_i64(stmt, column));
}

/* Of the entry, then of the usage row of the request that it charges. t: a text, i: a number. */
#define ENTRY_COLUMNS "iiititiiitt"
#define ENTRY_SQL                                                                                                              \
	"e.id, coalesce(e.hold, 0), coalesce(e.transfer, 0), a.id, e.account, e.type, e.amount, e.balance_after,"                  \
	" e.withdrawable_after, coalesce(t.key, ''), coalesce(t.reference, '')"
#define USAGE_COLUMNS "ittttttiiiiiiiiitttt"
#define USAGE_SQL                                                                                                              \
	"u.id, u.key_id, coalesce(p.id, ''), u.provider_id, u.provider_key, u.model, u.public_model, u.prompt_tokens,"             \
	" u.completion_tokens, u.reasoning_tokens, u.cached_tokens, u.price_in, u.price_out, u.price_cached, u.cost, u.fee,"       \
	" u.outcome, u.response_hash, u.se_signature, u.se_public_key"
#define AMOUNT_COLUMN  6
#define CREATED_COLUMN ((int)sizeof ENTRY_COLUMNS - 1)
#define USAGE_AT       ((int)sizeof ENTRY_COLUMNS)

static const char range_sql[] =
    "SELECT " ENTRY_SQL ", e.created_us, " USAGE_SQL
    " FROM ledger e LEFT JOIN accounts a ON a.ref = e.account LEFT JOIN transfers t ON t.id = e.transfer"
    " LEFT JOIN usage u ON u.id = e.hold AND e.type = 'charge'"
    " LEFT JOIN accounts p ON p.ref = u.provider_account WHERE e.id BETWEEN ? AND ? ORDER BY e.id";

static void end_hex(struct sha256_state *state, char hex[65])
{
	uint8_t digest[SHA256_BYTES];
	sha256_end(state, digest);
	hex_encode(digest, sizeof digest, hex);
}

void books_digest(struct sql *db, int64_t first, int64_t last, struct store_close *out)
{
	struct sha256_state entries, usage;
	struct sql_stmt *stmt = sql_say(db, range_sql);
	sha256_begin(&entries);
	sha256_begin(&usage);
	out->entries = out->moved_uusd = out->usage_rows = 0;
	sql_put_i64(stmt, 1, first);
	sql_put_i64(stmt, 2, last);
	while (sql_row(stmt)) {
		int64_t amount = sql_i64(stmt, AMOUNT_COLUMN);
		for (int i = 0; ENTRY_COLUMNS[i]; i++)
			add_column(&entries, stmt, i, ENTRY_COLUMNS[i] == 't');
		add_i64(&entries, sql_i64(stmt, CREATED_COLUMN));
		out->entries++;
		out->moved_uusd = (int64_t)((uint64_t)out->moved_uusd + (uint64_t)(amount > 0 ? amount : 0));
		if (sql_is_null(stmt, USAGE_AT))
			continue;
		for (int i = 0; USAGE_COLUMNS[i]; i++)
			add_column(&usage, stmt, USAGE_AT + i, USAGE_COLUMNS[i] == 't');
		out->usage_rows++;
	}
	end_hex(&entries, out->entries_hash);
	end_hex(&usage, out->usage_hash);
	out->first_entry = first;
	out->last_entry = last;
}

void books_seal(struct store_close *close)
{
	struct sha256_state state;
	const int64_t numbers[] = {close->id,         close->first_entry, close->last_entry, close->entries,
	                           close->moved_uusd, close->usage_rows,  close->closed_us};
	sha256_begin(&state);
	sha256_update(&state, CLOSE_HEAD, sizeof CLOSE_HEAD - 1);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		add_i64(&state, numbers[i]);
	add_str(&state, str_of(close->entries_hash));
	add_str(&state, str_of(close->usage_hash));
	add_str(&state, str_of(close->previous_hash));
	end_hex(&state, close->hash);
}

/* --- rows --- */

#define CLOSE_COLUMNS                                                                                                          \
	"id, first_entry, last_entry, entries, moved, usage_rows, entries_hash, usage_hash, previous_hash, hash, closed_us"

static void read_close(struct sql_stmt *stmt, struct store_close *close)
{
	*close = (struct store_close){.id = sql_i64(stmt, 0),
	                              .first_entry = sql_i64(stmt, 1),
	                              .last_entry = sql_i64(stmt, 2),
	                              .entries = sql_i64(stmt, 3),
	                              .moved_uusd = sql_i64(stmt, 4),
	                              .usage_rows = sql_i64(stmt, 5),
	                              .closed_us = sql_i64(stmt, 10)};
	sql_copy(stmt, 6, close->entries_hash, sizeof close->entries_hash);
	sql_copy(stmt, 7, close->usage_hash, sizeof close->usage_hash);
	sql_copy(stmt, 8, close->previous_hash, sizeof close->previous_hash);
	sql_copy(stmt, 9, close->hash, sizeof close->hash);
}

bool books_last(struct sql *db, struct store_close *out)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT " CLOSE_COLUMNS " FROM ledger_closes ORDER BY id DESC LIMIT 1");
	*out = (struct store_close){0};
	memset(out->hash, '0', sizeof out->hash - 1);
	if (!sql_row(stmt))
		return false;
	read_close(stmt, out);
	sql_done(stmt);
	return true;
}

bool books_prepare(struct sql *db, int64_t now_us, struct store_close *out)
{
	struct store_close last;
	books_last(db, &last);
	int64_t newest = sql_number(sql_say(db, "SELECT coalesce(max(id), 0) FROM ledger"));
	if (db->failed || newest <= last.last_entry)
		return false;
	*out = (struct store_close){.id = last.id + 1, .closed_us = now_us};
	memcpy(out->previous_hash, last.hash, sizeof out->previous_hash);
	books_digest(db, last.last_entry + 1, newest, out);
	books_seal(out);
	return !db->failed;
}

bool books_insert(struct sql *db, const struct store_close *close)
{
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO ledger_closes (" CLOSE_COLUMNS
	                                    ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING");
	sql_put_i64(stmt, 1, close->id);
	sql_put_i64(stmt, 2, close->first_entry);
	sql_put_i64(stmt, 3, close->last_entry);
	sql_put_i64(stmt, 4, close->entries);
	sql_put_i64(stmt, 5, close->moved_uusd);
	sql_put_i64(stmt, 6, close->usage_rows);
	sql_put_text(stmt, 7, close->entries_hash);
	sql_put_text(stmt, 8, close->usage_hash);
	sql_put_text(stmt, 9, close->previous_hash);
	sql_put_text(stmt, 10, close->hash);
	sql_put_i64(stmt, 11, close->closed_us);
	return sql_run(stmt) && sql_changes(db) == 1;
}

/* --- proving --- */

/* What does not follow; NULL when everything does. */
static const char *check_close(struct sql *db, const struct store_close *stored, const struct store_close *before,
                               struct store_chain *out)
{
	struct store_close again = *stored;
	if (stored->id != before->id + 1 || stored->first_entry != before->last_entry + 1 ||
	    stored->last_entry < stored->first_entry)
		return "does not follow the one before";
	if (strcmp(stored->previous_hash, before->hash) != 0)
		return "names another hash than that of the one before";
	books_seal(&again);
	if (strcmp(again.hash, stored->hash) != 0)
		return "was altered";
	books_digest(db, stored->first_entry, stored->last_entry, &again);
	if (again.entries != stored->entries || strcmp(again.entries_hash, stored->entries_hash) != 0)
		return "covers entries that were altered";
	if (again.usage_rows == stored->usage_rows)
		return strcmp(again.usage_hash, stored->usage_hash) == 0 ? NULL : "covers usage rows that were altered";
	out->rolled_up++;
	return again.usage_rows < stored->usage_rows ? NULL : "covers more usage rows than there were";
}

static void check_chain(struct sql *db, struct store_chain *out)
{
	struct store_close before = {0}, close;
	memset(before.hash, '0', sizeof before.hash - 1);
	for (;;) {
		struct sql_stmt *stmt = sql_say(db, "SELECT " CLOSE_COLUMNS " FROM ledger_closes WHERE id > ? ORDER BY id LIMIT 1");
		sql_put_i64(stmt, 1, before.id);
		if (!sql_row(stmt))
			break;
		read_close(stmt, &close);
		sql_done(stmt);
		const char *wrong = check_close(db, &close, &before, out);
		if (wrong && !out->broken) {
			out->broken = close.id;
			snprintf(out->why, sizeof out->why, "Close %lld %s.", (long long)close.id, wrong);
		}
		out->closes++;
		out->covered_entries += close.entries;
		before = close;
	}
	struct sql_stmt *stmt = sql_say(db, "SELECT count(*) FROM ledger WHERE id > ?");
	sql_put_i64(stmt, 1, before.last_entry);
	out->open_entries = sql_number(stmt);
	memcpy(out->head, before.hash, sizeof out->head);
}

enum db_err store_chain_verify(const char *place, struct store_chain *out, struct error *error)
{
	*out = (struct store_chain){0};
	struct sql *db = sql_open(place, SQL_READ, error);
	if (!db)
		return DB_E_IO;
	enum db_err err = schema_check(db, error);
	if (!err) {
		sql_exec(db, db->kind == SQL_SQLITE ? "BEGIN" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
		check_chain(db, out);
		err = db->failed;
		if (err && error)
			*error = db->why;
	}
	sql_close(db);
	return err;
}
