#include "coordinator/store/postgres_rows.h"

#include <stdlib.h>

#include "coordinator/store/postgres_text.h"

#define COLUMNS_MAX 28
#define COLUMN_MAX  (64u << 20)

struct gathered {
	struct buf columns[COLUMNS_MAX]; /* array literals, without the closing brace */
	int at;                          /* the next column */
	size_t count;                    /* whole rows */
};

struct postgres_rows {
	struct gathered tables[ROWS_TABLES];
	struct buf clean;
};

static const struct {
	int columns;
	const char *sql;
} tables[ROWS_TABLES] = {
    [ROWS_HOLDS] = {13, "INSERT INTO holds (id, request_id, account, key_id, amount, price_in, price_out, state, reason, entry,"
                        " created_us, ended_us, instance) SELECT * FROM unnest(?::BIGINT[], ?::TEXT[], ?::BIGINT[], ?::TEXT[],"
                        " ?::BIGINT[], ?::BIGINT[], ?::BIGINT[], ?::TEXT[], ?::TEXT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[],"
                        " ?::BIGINT[])"},
    [ROWS_HOLD_ENDS] = {5, "UPDATE holds h SET state = e.state, reason = e.reason, entry = e.entry, ended_us = e.ended_us"
                           " FROM unnest(?::BIGINT[], ?::TEXT[], ?::TEXT[], ?::BIGINT[], ?::BIGINT[])"
                           " AS e (id, state, reason, entry, ended_us) WHERE h.id = e.id AND h.state = 'open'"},
    [ROWS_HOLD_RAISES] = {2, "UPDATE holds h SET amount = e.amount FROM (SELECT id, max(amount) AS amount"
                             " FROM unnest(?::BIGINT[], ?::BIGINT[]) AS u (id, amount) GROUP BY id) AS e"
                             " WHERE h.id = e.id AND h.state = 'open'"},
    [ROWS_LEDGER] = {9, "INSERT INTO ledger (id, hold, transfer, account, type, amount, balance_after, withdrawable_after,"
                        " created_us) SELECT * FROM unnest(?::BIGINT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[], ?::TEXT[],"
                        " ?::BIGINT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[])"},
    [ROWS_USAGE] = {28, "INSERT INTO usage (id, account, key_id, provider_account, provider_id, provider_key, model,"
                        " public_model, prompt_tokens, completion_tokens, reasoning_tokens, price_in, price_out, cost, fee,"
                        " outcome, created_us, cached_tokens, price_cached, service, job_id, reported_tokens, response_hash,"
                        " se_signature, se_public_key, consumer_key, reported_prompt, reported_reasoning)"
                        " SELECT * FROM unnest(?::BIGINT[], ?::BIGINT[], ?::TEXT[], ?::BIGINT[],"
                        " ?::TEXT[], ?::TEXT[], ?::TEXT[], ?::TEXT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[],"
                        " ?::BIGINT[], ?::BIGINT[], ?::BIGINT[], ?::TEXT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[],"
                        " ?::BIGINT[], ?::TEXT[], ?::BIGINT[], ?::TEXT[], ?::TEXT[], ?::TEXT[], ?::TEXT[],"
                        " ?::BIGINT[], ?::BIGINT[])"},
    [ROWS_EARNINGS] = {9, "INSERT INTO earnings (id, account, provider_id, provider_key, model, amount, prompt_tokens,"
                          " completion_tokens, created_us) SELECT * FROM unnest(?::BIGINT[], ?::BIGINT[], ?::TEXT[], ?::TEXT[],"
                          " ?::TEXT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[], ?::BIGINT[])"},
    [ROWS_RECEIPTS] = {4, "INSERT INTO receipts (id, key, version, signature) SELECT * FROM unnest(?::BIGINT[], ?::BIGINT[],"
                          " ?::BIGINT[], ?::TEXT[]) ON CONFLICT (id) DO NOTHING"},
};

struct postgres_rows *postgres_rows_new(void)
{
	struct postgres_rows *rows = calloc(1, sizeof *rows);
	if (!rows)
		return NULL;
	buf_init(&rows->clean, COLUMN_MAX);
	for (int table = 0; table < ROWS_TABLES; table++)
		for (int i = 0; i < COLUMNS_MAX; i++)
			buf_init(&rows->tables[table].columns[i], COLUMN_MAX);
	return rows;
}

void postgres_rows_free(struct postgres_rows *rows)
{
	if (!rows)
		return;
	for (int table = 0; table < ROWS_TABLES; table++)
		for (int i = 0; i < COLUMNS_MAX; i++)
			buf_free(&rows->tables[table].columns[i]);
	buf_free(&rows->clean);
	free(rows);
}

static void forget(struct gathered *gathered)
{
	for (int i = 0; i < COLUMNS_MAX; i++) {
		gathered->columns[i].len = 0; /* nothing here is secret, and wiping it would cost as much as writing it */
		gathered->columns[i].failed = false;
	}
	gathered->at = 0;
	gathered->count = 0;
}

void postgres_rows_forget(struct postgres_rows *rows)
{
	for (int table = 0; table < ROWS_TABLES; table++)
		forget(&rows->tables[table]);
}

/* The next column's array, where the next element goes. */
static struct buf *next(struct postgres_rows *rows, enum rows_table table)
{
	struct gathered *gathered = &rows->tables[table];
	struct buf *column = &gathered->columns[gathered->at++];
	(void)buf_append_byte(column, column->len ? ',' : '{');
	if (gathered->at == tables[table].columns) {
		gathered->at = 0;
		gathered->count++;
	}
	return column;
}

static void append_number(struct buf *out, int64_t value)
{
	char digits[24];
	size_t at = sizeof digits;
	uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
	do {
		digits[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	if (value < 0)
		digits[--at] = '-';
	(void)buf_append(out, digits + at, sizeof digits - at);
}

void rows_i64(struct postgres_rows *rows, enum rows_table table, int64_t value)
{
	append_number(next(rows, table), value);
}

void rows_i64_or_null(struct postgres_rows *rows, enum rows_table table, int64_t value)
{
	struct buf *column = next(rows, table);
	if (value)
		append_number(column, value);
	else
		(void)buf_append_c(column, "NULL");
}

void rows_text(struct postgres_rows *rows, enum rows_table table, const char *text)
{
	struct buf *column = next(rows, table);
	struct str element = str_of(text);
	if (!postgres_takes(element)) {
		buf_clear(&rows->clean);
		(void)postgres_clean(element, &rows->clean);
		element = (struct str){rows->clean.at, rows->clean.len ? rows->clean.len - 1 : 0};
	}
	(void)postgres_element(element, column);
}

static void post_table(struct gathered *gathered, enum rows_table table, struct sql *db)
{
	struct sql_stmt *stmt = sql_say(db, tables[table].sql);
	for (int i = 0; i < tables[table].columns; i++) {
		struct buf *column = &gathered->columns[i];
		if (buf_append(column, "}", 2)) /* and its NUL */
			sql_fail(db, DB_E_IO, "There is no memory for the rows of a group of writes.");
		sql_put_text(stmt, i + 1, column->at);
	}
	sql_post(stmt);
}

void postgres_rows_post(struct postgres_rows *rows, struct sql *db)
{
	for (int table = 0; table < ROWS_TABLES; table++) {
		if (rows->tables[table].count)
			post_table(&rows->tables[table], (enum rows_table)table, db);
		forget(&rows->tables[table]);
	}
}
