#include "coordinator/store/reader.h"

#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/usage_row.h"

#include <stdlib.h>
#include <unistd.h>

#include "coordinator/store/postgres_db.h"
#include "core/clock.h"

#define ATTEMPTS 20 /* about four seconds */

enum reader_statement {
	R_OWNER,
	R_KEY,
	R_KEY_BY_ID,
	R_KEYS,
	R_LEVELS,
	R_PROVIDER_TOKEN,
	R_PRICES,
	R_USAGE,
	R_STATEMENTS,
};

#define ACCOUNT_COLUMNS "a.id, a.name, a.role, a.fee_percent, b.balance, b.withdrawable"

/* With what its group spent: ?2 = today, ?3 = the Monday, ?4 = the first of the month. */
#define KEY_ROWS                                                                                                               \
	ACCOUNT_COLUMNS                                                                                                            \
	", k.id, k.label, k.name, k.hash, k.disabled, k.expires_us, k.created_us, k.limit_group, k.scopes, k.spend_limit,"         \
	" k.limit_reset, k.rpm, k.itpm, k.otpm, k.allowed_models, k.self_route_only, k.last_used_us,"                              \
	" coalesce(sum(s.spent) FILTER (WHERE s.day >= ?2), 0), coalesce(sum(s.spent) FILTER (WHERE s.day >= ?3), 0),"             \
	" coalesce(sum(s.spent) FILTER (WHERE s.day >= ?4), 0), coalesce(sum(s.spent), 0)"                                         \
	" FROM api_keys k JOIN accounts a ON a.ref = k.account JOIN balances b ON b.account = a.ref"                               \
	" LEFT JOIN key_spend s ON s.limit_group = k.limit_group"

static const char *const statements[R_STATEMENTS] = {
    [R_OWNER] = "SELECT " ACCOUNT_COLUMNS " FROM accounts a JOIN balances b ON b.account = a.ref WHERE a.is_owner = 1",
    [R_KEY] = "SELECT " KEY_ROWS " WHERE k.hash = ?1 GROUP BY k.hash, a.ref, b.account",
    [R_KEY_BY_ID] = "SELECT " KEY_ROWS " WHERE k.id = ?1 GROUP BY k.hash, a.ref, b.account",
    [R_KEYS] = "SELECT " KEY_ROWS " WHERE a.id = ?1 GROUP BY k.hash, a.ref, b.account ORDER BY k.created_us DESC, k.id",
    [R_LEVELS] = "SELECT owner, at_us, requests, input, output, financial FROM rate_levels",
    [R_PROVIDER_TOKEN] = "SELECT " ACCOUNT_COLUMNS " FROM provider_tokens t JOIN accounts a ON a.ref = t.account"
                         " JOIN balances b ON b.account = a.ref WHERE t.hash = ? AND t.active = 1",
    [R_PRICES] = "SELECT a.id, p.model, p.input, p.output, p.cached FROM prices p JOIN accounts a ON a.ref = p.account",
    [R_USAGE] = "SELECT " USAGE_ROW_COLUMNS " FROM accounts a JOIN usage u ON u.account = a.ref JOIN holds h ON h.id = u.id"
                " LEFT JOIN accounts p ON p.ref = u.provider_account WHERE a.id = ? AND u.created_us < ?"
                " ORDER BY u.created_us DESC, u.id DESC LIMIT ?",
};

struct reader {
	struct sql *db;
};

struct reader *reader_open(const char *path, struct error *error)
{
	struct reader *reader = calloc(1, sizeof *reader);
	if (!reader) {
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	reader->db = sql_open(path, SQL_READ, error);
	if (reader->db)
		return reader;
	free(reader);
	return NULL;
}

void reader_close(struct reader *reader)
{
	if (!reader)
		return;
	sql_close(reader->db);
	free(reader);
}

/* The first columns, in the order of ACCOUNT_COLUMNS. */
static void read_account(struct sql_stmt *stmt, struct store_account *account)
{
	*account = (struct store_account){0};
	sql_copy(stmt, 0, account->id, sizeof account->id);
	sql_copy(stmt, 1, account->name, sizeof account->name);
	account->role = sql_text(stmt, 2).len ? STORE_ROLE_SERVICE : STORE_ROLE_NORMAL;
	account->fee_percent = sql_is_null(stmt, 3) ? -1 : (int)sql_i64(stmt, 3);
	account->balance_uusd = sql_i64(stmt, 4);
	account->withdrawable_uusd = sql_i64(stmt, 5);
}

static void find_account(struct sql_stmt *stmt, struct op_account_find *op)
{
	op->found = sql_row(stmt);
	if (!op->found)
		return;
	read_account(stmt, &op->account);
	sql_done(stmt);
}

static void read_key(struct sql_stmt *stmt, int64_t today, struct store_account *account, struct store_key *key)
{
	read_account(stmt, account);
	*key = (struct store_key){.disabled = sql_i64(stmt, 10) != 0,
	                          .expires_us = sql_i64(stmt, 11),
	                          .created_us = sql_i64(stmt, 12),
	                          .scopes = (unsigned)sql_i64(stmt, 14),
	                          .limited = !sql_is_null(stmt, 15),
	                          .limit_uusd = sql_i64(stmt, 15),
	                          .limit_reset = (enum store_window)sql_i64(stmt, 16),
	                          .rpm = sql_i64(stmt, 17),
	                          .itpm = sql_i64(stmt, 18),
	                          .otpm = sql_i64(stmt, 19),
	                          .self_route_only = sql_i64(stmt, 21) != 0,
	                          .last_used_us = sql_i64(stmt, 22),
	                          .spend = {.day = today,
	                                    .today = sql_i64(stmt, 23),
	                                    .week = sql_i64(stmt, 24),
	                                    .month = sql_i64(stmt, 25),
	                                    .total = sql_i64(stmt, 26)}};
	memcpy(key->account_id, account->id, sizeof key->account_id);
	sql_copy(stmt, 6, key->id, sizeof key->id);
	sql_copy(stmt, 7, key->label, sizeof key->label);
	sql_copy(stmt, 8, key->name, sizeof key->name);
	sql_copy(stmt, 9, key->hash_hex, sizeof key->hash_hex);
	sql_copy(stmt, 13, key->limit_group, sizeof key->limit_group);
	sql_copy(stmt, 20, key->allowed_models, sizeof key->allowed_models);
}

/* Binds what the rows of keys ask for; returns today. */
static int64_t bind_keys(struct sql_stmt *stmt, const char *wanted)
{
	int64_t today = clock_day(clock_wall_us());
	sql_put_text(stmt, 1, wanted);
	sql_put_i64(stmt, 2, today);
	sql_put_i64(stmt, 3, clock_week_start(today));
	sql_put_i64(stmt, 4, clock_month_start(today));
	return today;
}

static void find_key(struct sql *db, struct op_key_find *op)
{
	struct sql_stmt *stmt = sql_say(db, statements[op->op.kind == OP_KEY_FIND ? R_KEY : R_KEY_BY_ID]);
	int64_t today = bind_keys(stmt, op->key);
	op->found = sql_row(stmt);
	if (!op->found)
		return;
	read_key(stmt, today, &op->account, &op->key_row);
	sql_done(stmt);
}

/* Room for one more row; NULL without memory. */
static void *grow(struct sql *db, struct op_list *op, size_t row_size)
{
	bool full = (op->count & (op->count - 1)) == 0; /* capacities are powers of two */
	if (full) {
		void *rows = realloc(op->rows, (op->count ? op->count * 2 : 1) * row_size);
		if (!rows) {
			sql_fail(db, DB_E_NOMEM, "There is no memory for the rows of a query.");
			return NULL;
		}
		op->rows = rows;
	}
	char *row = (char *)op->rows + op->count++ * row_size;
	memset(row, 0, row_size);
	return row;
}

static bool read_price(struct sql *db, struct sql_stmt *stmt, struct op_list *op)
{
	struct store_price *price = grow(db, op, sizeof *price);
	if (!price)
		return false;
	sql_copy(stmt, 0, price->account_id, sizeof price->account_id);
	sql_copy(stmt, 1, price->model, sizeof price->model);
	price->input = sql_i64(stmt, 2);
	price->output = sql_i64(stmt, 3);
	price->cached = sql_i64(stmt, 4);
	return true;
}

static bool read_usage(struct sql *db, struct sql_stmt *stmt, struct op_list *op)
{
	struct store_usage_row *row = grow(db, op, sizeof *row);
	if (!row)
		return false;
	usage_row_read(stmt, &row->s);
	return true;
}

static bool read_key_row(struct sql *db, struct sql_stmt *stmt, struct op_list *op)
{
	struct store_account account;
	struct store_key *key = grow(db, op, sizeof *key);
	if (key)
		read_key(stmt, op->before_us, &account, key);
	return key != NULL;
}

static bool read_levels(struct sql *db, struct sql_stmt *stmt, struct op_list *op)
{
	struct store_levels *row = grow(db, op, sizeof *row);
	if (!row)
		return false;
	sql_copy(stmt, 0, row->owner, sizeof row->owner);
	row->at_us = sql_i64(stmt, 1);
	row->requests = sql_double(stmt, 2);
	row->input = sql_double(stmt, 3);
	row->output = sql_double(stmt, 4);
	row->financial = sql_double(stmt, 5);
	return true;
}

static bool read_entry(struct sql *db, struct sql_stmt *stmt, struct op_list *op)
{
	struct store_ledger_row *row = grow(db, op, sizeof *row);
	if (row)
		entry_row_read(stmt, row);
	return row != NULL;
}

static void read_list(struct sql *db, struct sql_stmt *stmt, struct op_list *op,
                      bool (*read)(struct sql *db, struct sql_stmt *stmt, struct op_list *op))
{
	while (sql_row(stmt))
		if (!read(db, stmt, op)) {
			sql_done(stmt);
			return;
		}
}

static void query(struct reader *reader, struct store_op *op)
{
	struct sql *db = reader->db;
	struct op_list *list = (struct op_list *)op; /* for the kinds that are lists */
	struct op_account_find *find = (struct op_account_find *)op;
	struct sql_stmt *stmt;

	sql_clear(db);
	switch (op->kind) {
	case OP_OWNER_GET:
		find_account(sql_say(db, statements[R_OWNER]), find);
		break;
	case OP_PROVIDER_TOKEN_FIND:
		stmt = sql_say(db, statements[R_PROVIDER_TOKEN]);
		sql_put_text(stmt, 1, find->key);
		find_account(stmt, find);
		break;
	case OP_KEY_FIND:
	case OP_KEY_GET:
		find_key(db, (struct op_key_find *)op);
		break;
	case OP_KEYS_LIST:
		stmt = sql_say(db, statements[R_KEYS]);
		list->before_us = bind_keys(stmt, list->key);
		read_list(db, stmt, list, read_key_row);
		break;
	case OP_LEVELS_LIST:
		read_list(db, sql_say(db, statements[R_LEVELS]), list, read_levels);
		break;
	case OP_PRICES_LIST:
		read_list(db, sql_say(db, statements[R_PRICES]), list, read_price);
		break;
	case OP_USAGE_LIST:
		stmt = sql_say(db, statements[R_USAGE]);
		sql_put_text(stmt, 1, list->key);
		sql_put_i64(stmt, 2, list->before_us);
		sql_put_i64(stmt, 3, list->limit);
		read_list(db, stmt, list, read_usage);
		break;
	case OP_LEDGER_OF_REQUEST:
		stmt = sql_say(db, entries_of_request_sql);
		sql_put_text(stmt, 1, list->key);
		read_list(db, stmt, list, read_entry);
		break;
	case OP_LOGIN_READ:
		((struct op_login *)op)->run(db, (struct op_login *)op);
		break;
	case OP_TASK_READ:
		((struct op_task *)op)->read(db, (struct op_task *)op);
		break;
	default:
		op_fail(op, DB_E_UNSUPPORTED, "The reader does not know the operation %s.", op_name(op->kind));
	}
	if (db->failed)
		op_fail_with(op, &db->why);
}

/* What an attempt that failed on the way has found so far. */
static void forget_rows(struct store_op *op)
{
	struct op_list *list = (struct op_list *)op;
	if (op_is_list(op->kind)) {
		free(list->rows);
		list->rows = NULL;
		list->count = 0;
	}
	if (op->kind == OP_LOGIN_READ)
		((struct op_login *)op)->count = 0;
	op_clear_error(op);
}

static bool may_retry(const struct reader *reader, const struct store_op *op, int attempt)
{
	return op->failed == DB_E_AGAIN && reader->db->kind == SQL_POSTGRES && attempt < ATTEMPTS;
}

void reader_query(struct reader *reader, struct store_op *op)
{
	query(reader, op);
	for (int attempt = 1; may_retry(reader, op, attempt); attempt++) {
		usleep((useconds_t)(attempt < 6 ? 5000 << attempt : 250000));
		if (!postgres_db_connected(reader->db) && !postgres_db_reconnect(reader->db))
			continue;
		forget_rows(op);
		query(reader, op);
	}
}
