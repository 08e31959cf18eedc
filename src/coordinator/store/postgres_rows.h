/* The rows a group of operations adds to the big tables, gathered and written with one statement for each table. Inside store/
 * only; thread: the writer's. */
#ifndef COORDINATOR_STORE_POSTGRES_ROWS_H
#define COORDINATOR_STORE_POSTGRES_ROWS_H

#include "coordinator/store/sql.h"

/* In the order they are written: a hold that is raised and then ends has its last amount. */
enum rows_table {
	ROWS_HOLDS, /* id, request_id, account, key_id, amount, price_in, price_out, state, reason, entry, created_us, ended_us,
	               instance */
	ROWS_HOLD_RAISES, /* id, amount */
	ROWS_HOLD_ENDS,   /* id, state, reason, entry, ended_us */
	ROWS_LEDGER,      /* id, hold, transfer, account, type, amount, balance_after, withdrawable_after, created_us */
	ROWS_USAGE,       /* as W_USAGE_INSERT (book_sql.c) */
	ROWS_EARNINGS,    /* id, account, provider_id, provider_key, model, amount, prompt_tokens, completion_tokens, created_us */
	ROWS_RECEIPTS,    /* id, key, version, signature */
	ROWS_TABLES,
};

struct postgres_rows;

struct postgres_rows *postgres_rows_new(void);
void postgres_rows_free(struct postgres_rows *rows);
void postgres_rows_forget(struct postgres_rows *rows);

/* One row: its columns in the order above, one call for each, then the next row begins by itself. */
void rows_i64(struct postgres_rows *rows, enum rows_table table, int64_t value);
void rows_i64_or_null(struct postgres_rows *rows, enum rows_table table, int64_t value); /* 0 = NULL */
void rows_text(struct postgres_rows *rows, enum rows_table table, const char *text);

/* Posts all of them, and forgets them. */
void postgres_rows_post(struct postgres_rows *rows, struct sql *db);

#endif
