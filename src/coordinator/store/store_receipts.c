#include "coordinator/store/store_receipts.h"

#include <stdlib.h>

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "coordinator/store/usage_row.h"
#include "core/clock.h"

#define KEYS_MAX    256
#define AFTER_USAGE USAGE_ROW_COUNT
#define DUE_SIZE(n) (sizeof(struct store_receipts_due) + (n) * sizeof(struct store_receipt))
#define USAGE_OF_DUE                                                                                                           \
	" JOIN usage u ON u.id = h.id JOIN accounts a ON a.ref = u.account LEFT JOIN accounts p ON p.ref = u.provider_account"

struct op_receipt_key {
	struct op_task task;
	store_done_fn done;
	struct store_receipt_key key;
	bool is_new;
};

struct op_receipt_keys {
	struct op_task task;
	store_receipt_keys_fn done;
	struct store_receipt_key *rows; /* owned */
	size_t count;
};

struct op_receipt {
	struct op_task task;
	store_receipt_fn done;
	char request_id[STORE_ID_SIZE];
	bool found;
	struct store_receipt receipt;
};

struct op_receipts_due {
	struct op_task task;
	union {
		store_receipts_due_fn due;
		store_done_fn put;
	} done;
	uint64_t instance;
	char kid[sizeof((struct store_receipt_key *)0)->kid];
	struct store_receipts_due *due; /* owned */
};

/* --- keys --- */

static void write_key(struct book *book, struct op_task *task)
{
	struct op_receipt_key *op = (struct op_receipt_key *)task;
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO receipt_keys (kid, public_key, created_us) VALUES (?, ?, ?)"
	                                          " ON CONFLICT (kid) DO NOTHING");
	sql_put_text(stmt, 1, op->key.kid);
	sql_put_text(stmt, 2, op->key.public_key);
	sql_put_i64(stmt, 3, clock_wall_us());
	op->is_new = sql_run(stmt) && sql_changes(book->db) > 0;
}

static bool note_key(const struct op_task *task, struct trail_note *note)
{
	const struct op_receipt_key *op = (const struct op_receipt_key *)task;
	note->action = "receipt_key.publish";
	trail_subject(note, "receipt_key:%s", op->key.kid);
	return op->is_new;
}

static void deliver_key(struct store_op *op)
{
	((struct op_receipt_key *)op)->done(op_error(op), op->user);
}

void store_receipt_key_add(struct store *store, const struct store_receipt_key *key, store_done_fn done, void *user)
{
	struct op_receipt_key *op = store_new_op(sizeof *op, OP_TASK_WRITE, done ? deliver_key : NULL, user);
	op->task.write = write_key;
	op->task.note = note_key;
	op->done = done;
	op->key = *key;
	journal_submit(store->journal, &op->task.op);
}

static void read_keys(struct sql *db, struct op_task *task)
{
	struct op_receipt_keys *op = (struct op_receipt_keys *)task;
	op->count = 0;
	if (!op->rows)
		op->rows = calloc(KEYS_MAX, sizeof *op->rows);
	if (!op->rows) {
		op_fail(&task->op, DB_E_NOMEM, "There is no memory for the keys of receipts.");
		return;
	}
	struct sql_stmt *stmt = sql_say(db, "SELECT kid, public_key, created_us FROM receipt_keys ORDER BY ref DESC LIMIT ?");
	sql_put_i64(stmt, 1, KEYS_MAX);
	while (sql_row(stmt)) {
		struct store_receipt_key *key = &op->rows[op->count < KEYS_MAX ? op->count++ : KEYS_MAX - 1];
		sql_copy(stmt, 0, key->kid, sizeof key->kid);
		sql_copy(stmt, 1, key->public_key, sizeof key->public_key);
		key->created_us = sql_i64(stmt, 2);
	}
}

static void dispose_keys(struct op_task *task)
{
	free(((struct op_receipt_keys *)task)->rows);
}

static void deliver_keys(struct store_op *op)
{
	struct op_receipt_keys *keys = (struct op_receipt_keys *)op;
	keys->done(op->failed ? NULL : keys->rows, op->failed ? 0 : keys->count, op_error(op), op->user);
}

void store_receipt_keys_list(struct store *store, store_receipt_keys_fn done, void *user)
{
	struct op_receipt_keys *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_keys, user);
	op->task.read = read_keys;
	op->task.dispose = dispose_keys;
	op->done = done;
	journal_submit(store->journal, &op->task.op);
}

/* --- one --- */

static void read_receipt(struct sql *db, struct op_task *task)
{
	struct op_receipt *op = (struct op_receipt *)task;
	struct store_receipt *receipt = &op->receipt;
	struct sql_stmt *stmt = sql_say(db, "SELECT " USAGE_ROW_COLUMNS
	                                    ", u.id, coalesce(r.version, 0), coalesce(r.signature, ''), coalesce(k.kid, ''),"
	                                    " coalesce(k.public_key, ''), coalesce(k.created_us, 0) FROM holds h" USAGE_OF_DUE
	                                    " LEFT JOIN receipts r ON r.id = u.id LEFT JOIN receipt_keys k ON k.ref = r.key"
	                                    " WHERE h.request_id = ?");
	sql_put_text(stmt, 1, op->request_id);
	memset(receipt, 0, sizeof *receipt);
	op->found = sql_row(stmt);
	if (!op->found)
		return;
	usage_row_read(stmt, &receipt->s);
	receipt->row = sql_i64(stmt, AFTER_USAGE);
	receipt->version = (uint64_t)sql_i64(stmt, AFTER_USAGE + 1);
	sql_copy(stmt, AFTER_USAGE + 2, receipt->signature, sizeof receipt->signature);
	sql_copy(stmt, AFTER_USAGE + 3, receipt->key.kid, sizeof receipt->key.kid);
	sql_copy(stmt, AFTER_USAGE + 4, receipt->key.public_key, sizeof receipt->key.public_key);
	receipt->key.created_us = sql_i64(stmt, AFTER_USAGE + 5);
	sql_done(stmt);
}

static void deliver_receipt(struct store_op *op)
{
	struct op_receipt *receipt = (struct op_receipt *)op;
	receipt->done(op->failed || !receipt->found ? NULL : &receipt->receipt, op_error(op), op->user);
}

void store_receipt_get(struct store *store, struct str request_id, store_receipt_fn done, void *user)
{
	struct op_receipt *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_receipt, user);
	op->task.read = read_receipt;
	op->done = done;
	(void)str_copy(request_id, op->request_id, sizeof op->request_id); /* one that is too long finds nothing */
	journal_submit(store->journal, &op->task.op);
}

/* --- what is due --- */

static const char due_sql[] = "SELECT id, rows FROM receipts_due d WHERE instance = ?1 OR NOT EXISTS (SELECT 1 FROM instances i"
                              " WHERE i.id = d.instance AND i.ended_us IS NULL) ORDER BY id LIMIT ?2";
static const char rows_sqlite[] =
    "SELECT " USAGE_ROW_COLUMNS ", u.id FROM json_each(?) d JOIN holds h ON h.id = d.value" USAGE_OF_DUE;
static const char rows_postgres[] = "SELECT " USAGE_ROW_COLUMNS ", u.id FROM jsonb_array_elements_text(?::JSONB) AS d (value)"
                                    " JOIN holds h ON h.id = d.value::BIGINT" USAGE_OF_DUE;

/* The oldest rows, as long as there is room for all that one of them can name: one JSON array of them. */
static void read_due_rows(struct sql *db, struct op_receipts_due *op, struct buf *rows)
{
	struct store_receipts_due *due = op->due;
	size_t most = 0;
	struct sql_stmt *stmt = sql_say(db, due_sql);
	sql_put_i64(stmt, 1, (int64_t)op->instance);
	sql_put_i64(stmt, 2, STORE_RECEIPTS_ROWS);
	while (sql_row(stmt)) {
		struct str one = sql_text(stmt, 1);
		size_t named = 1;
		for (size_t i = 0; i < one.len; i++)
			named += one.at[i] == ',';
		most += named;
		if (most > STORE_RECEIPTS_BATCH || one.len < 2)
			continue;
		due->rows[due->row_count++] = sql_i64(stmt, 0);
		(void)buf_append_byte(rows, rows->len ? ',' : '[');
		(void)buf_append_str(rows, str_sub(one, 1, one.len - 2));
	}
	(void)buf_append(rows, "]", 2);
}

static void read_usage(struct sql *db, struct store_receipts_due *due, const char *rows)
{
	struct sql_stmt *stmt = sql_say(db, db->kind == SQL_SQLITE ? rows_sqlite : rows_postgres);
	sql_put_text(stmt, 1, rows);
	while (sql_row(stmt)) {
		struct store_receipt *receipt = &due->receipts[due->count];
		if (due->count == STORE_RECEIPTS_BATCH)
			continue;
		memset(receipt, 0, sizeof *receipt);
		usage_row_read(stmt, &receipt->s);
		receipt->row = sql_i64(stmt, AFTER_USAGE);
		due->count++;
	}
}

static void read_due(struct sql *db, struct op_task *task)
{
	struct op_receipts_due *op = (struct op_receipts_due *)task;
	struct buf rows;
	if (!op->due)
		op->due = malloc(DUE_SIZE(STORE_RECEIPTS_BATCH));
	if (!op->due) {
		op_fail(&task->op, DB_E_NOMEM, "There is no memory for receipts.");
		return;
	}
	op->due->count = op->due->row_count = 0;
	buf_init(&rows, STORE_RECEIPTS_BATCH * 24);
	read_due_rows(db, op, &rows);
	if (rows.failed)
		op_fail(&task->op, DB_E_NOMEM, "There is no memory for receipts.");
	else if (op->due->row_count)
		read_usage(db, op->due, rows.at);
	buf_free(&rows);
}

static void dispose_due(struct op_task *task)
{
	free(((struct op_receipts_due *)task)->due);
}

static void deliver_due(struct store_op *op)
{
	struct op_receipts_due *read = (struct op_receipts_due *)op;
	struct store_receipts_due *due = op->failed || !read->due->row_count ? NULL : read->due;
	if (due)
		read->due = NULL;
	read->done.due(due, op_error(op), op->user);
}

void store_receipts_due(struct store *store, store_receipts_due_fn done, void *user)
{
	struct op_receipts_due *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_due, user);
	op->task.op.patient = true;
	op->task.read = read_due;
	op->task.dispose = dispose_due;
	op->done.due = done;
	op->instance = journal_epoch(store->journal);
	journal_submit(store->journal, &op->task.op);
}

/* --- signatures --- */

static void write_one(struct book *book, const struct store_receipt *receipt, int64_t key)
{
	if (book->rows) {
		rows_i64(book->rows, ROWS_RECEIPTS, receipt->row);
		rows_i64(book->rows, ROWS_RECEIPTS, key);
		rows_i64(book->rows, ROWS_RECEIPTS, (int64_t)receipt->version);
		rows_text(book->rows, ROWS_RECEIPTS, receipt->signature);
		return;
	}
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO receipts (id, key, version, signature) VALUES (?, ?, ?, ?)"
	                                          " ON CONFLICT (id) DO NOTHING");
	sql_put_i64(stmt, 1, receipt->row);
	sql_put_i64(stmt, 2, key);
	sql_put_i64(stmt, 3, (int64_t)receipt->version);
	sql_put_text(stmt, 4, receipt->signature);
	sql_run(stmt);
}

static void write_signatures(struct book *book, struct op_task *task)
{
	struct op_receipts_due *op = (struct op_receipts_due *)task;
	struct sql_stmt *stmt = sql_say(book->db, "SELECT ref FROM receipt_keys WHERE kid = ?");
	sql_put_text(stmt, 1, op->kid);
	int64_t key = sql_number(stmt);
	if (!key && !book->db->failed) {
		op_fail(&task->op, DB_E_NOT_FOUND, "The key %s of receipts was not published.", op->kid);
		return;
	}
	for (size_t i = 0; i < op->due->count; i++)
		if (op->due->receipts[i].signature[0])
			write_one(book, &op->due->receipts[i], key);
	for (size_t i = 0; i < op->due->row_count; i++) {
		stmt = sql_say(book->db, "DELETE FROM receipts_due WHERE id = ?");
		sql_put_i64(stmt, 1, op->due->rows[i]);
		sql_post(stmt);
	}
}

static void deliver_put(struct store_op *op)
{
	((struct op_receipts_due *)op)->done.put(op_error(op), op->user);
}

void store_receipts_put(struct store *store, struct store_receipts_due *due, struct str kid, store_done_fn done, void *user)
{
	struct op_receipts_due *op = store_new_op(sizeof *op, OP_TASK_WRITE, done ? deliver_put : NULL, user);
	op->task.op.patient = true;
	op->task.write = write_signatures;
	op->task.dispose = dispose_due;
	op->done.put = done;
	op->due = due;
	(void)str_copy(kid, op->kid, sizeof op->kid);
	journal_submit(store->journal, &op->task.op);
}
