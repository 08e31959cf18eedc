#include "coordinator/store/store_books.h"

#include <stdlib.h>

#include "coordinator/store/books.h"
#include "coordinator/store/migrate.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

/* --- closing: read and compute, then write --- */

struct op_close {
	struct op_task task;
	struct store *store;
	store_close_fn done;
	bool found;
	struct store_close close;
};

static void deliver_close(struct store_op *op)
{
	struct op_close *close = (struct op_close *)op;
	close->done(close->found && !op->failed ? &close->close : NULL, op_error(op), op->user);
}

static void write_close(struct book *book, struct op_task *task)
{
	struct op_close *op = (struct op_close *)task;
	op->found = books_insert(book->db, &op->close);
	if (!op->found && !book->db->failed)
		op_fail(&task->op, DB_E_EXISTS, "Somebody else closed the period at the same time.");
}

static struct op_close *new_close(struct store *store, enum op_kind kind, void (*deliver)(struct store_op *op),
                                  store_close_fn done, void *user)
{
	struct op_close *op = store_new_op(sizeof *op, kind, deliver, user);
	op->store = store;
	op->done = done;
	return op;
}

static bool note_close(const struct op_task *task, struct trail_note *note)
{
	const struct op_close *op = (const struct op_close *)task;
	note->action = "ledger.close";
	trail_subject(note, "%lld", (long long)op->close.id);
	trail_number(note, "entries", op->close.entries);
	trail_text(note, "hash", op->close.hash);
	return true;
}

static void deliver_prepared(struct store_op *op)
{
	struct op_close *prepared = (struct op_close *)op;
	if (op->failed || !prepared->found) {
		deliver_close(op);
		return;
	}
	struct op_close *writing = new_close(prepared->store, OP_TASK_WRITE, deliver_close, prepared->done, op->user);
	writing->task.write = write_close;
	writing->task.note = note_close;
	writing->close = prepared->close;
	journal_submit(prepared->store->journal, &writing->task.op);
}

static void read_prepared(struct sql *db, struct op_task *task)
{
	struct op_close *op = (struct op_close *)task;
	op->found = books_prepare(db, clock_wall_us(), &op->close);
}

void store_ledger_close(struct store *store, store_close_fn done, void *user)
{
	struct op_close *op = new_close(store, OP_TASK_READ, deliver_prepared, done, user);
	op->task.read = read_prepared;
	journal_submit(store->journal, &op->task.op);
}

static void read_last(struct sql *db, struct op_task *task)
{
	struct op_close *op = (struct op_close *)task;
	op->found = books_last(db, &op->close);
}

void store_last_close(struct store *store, store_close_fn done, void *user)
{
	struct op_close *op = new_close(store, OP_TASK_READ, deliver_close, done, user);
	op->task.read = read_last;
	journal_submit(store->journal, &op->task.op);
}

/* --- entries --- */

struct op_entries {
	struct op_task task;
	store_entries_fn done;
	struct store_entry_range range;
	struct store_entry *rows; /* owned */
	size_t count;
};

#define ENTRY_SQL                                                                                                              \
	"SELECT e.id, a.id, e.type, e.amount, e.balance_after, e.withdrawable_after, e.created_us, coalesce(h.request_id, ''),"    \
	" coalesce(t.key, ''), coalesce(t.reference, '') FROM ledger e JOIN accounts a ON a.ref = e.account"                       \
	" LEFT JOIN holds h ON h.id = e.hold LEFT JOIN transfers t ON t.id = e.transfer"                                           \
	" WHERE e.id > ?1 AND e.created_us >= ?2 AND e.created_us < ?3"

static struct sql_stmt *say_entries(struct sql *db, const struct store_entry_range *range, int64_t limit)
{
	struct sql_stmt *stmt;
	if (range->account[0]) {
		stmt = sql_say(db, ENTRY_SQL " AND a.id = ?4 ORDER BY e.id LIMIT ?5");
		sql_put_text(stmt, 4, range->account);
		sql_put_i64(stmt, 5, limit);
	} else {
		stmt = sql_say(db, ENTRY_SQL " ORDER BY e.id LIMIT ?4");
		sql_put_i64(stmt, 4, limit);
	}
	sql_put_i64(stmt, 1, range->after_id);
	sql_put_i64(stmt, 2, range->from_us ? range->from_us : INT64_MIN);
	sql_put_i64(stmt, 3, range->to_us ? range->to_us : INT64_MAX);
	return stmt;
}

static void read_entry(struct sql_stmt *stmt, struct store_entry *row)
{
	*row = (struct store_entry){.id = sql_i64(stmt, 0),
	                            .amount_uusd = sql_i64(stmt, 3),
	                            .balance_after_uusd = sql_i64(stmt, 4),
	                            .withdrawable_after_uusd = sql_i64(stmt, 5),
	                            .created_us = sql_i64(stmt, 6)};
	sql_copy(stmt, 1, row->account_id, sizeof row->account_id);
	sql_copy(stmt, 2, row->type, sizeof row->type);
	sql_copy(stmt, 7, row->request_id, sizeof row->request_id);
	sql_copy(stmt, 8, row->transfer_key, sizeof row->transfer_key);
	sql_copy(stmt, 9, row->reference, sizeof row->reference);
}

static void read_entries(struct sql *db, struct op_task *task)
{
	struct op_entries *op = (struct op_entries *)task;
	op->rows = malloc(STORE_ENTRIES_MAX * sizeof *op->rows);
	if (!op->rows) {
		sql_fail(db, DB_E_NOMEM, "There is no memory for the rows of a query.");
		return;
	}
	struct sql_stmt *stmt = say_entries(db, &op->range, STORE_ENTRIES_MAX);
	while (op->count < STORE_ENTRIES_MAX && sql_row(stmt))
		read_entry(stmt, &op->rows[op->count++]);
	if (op->count == STORE_ENTRIES_MAX)
		sql_done(stmt);
}

static void deliver_entries(struct store_op *op)
{
	struct op_entries *entries = (struct op_entries *)op;
	entries->done(entries->rows, op->failed ? 0 : entries->count, op_error(op), op->user);
}

static void dispose_entries(struct op_task *task)
{
	free(((struct op_entries *)task)->rows);
}

void store_entries_list(struct store *store, const struct store_entry_range *range, store_entries_fn done, void *user)
{
	struct op_entries *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_entries, user);
	op->task.read = read_entries;
	op->task.dispose = dispose_entries;
	op->done = done;
	op->range = *range;
	journal_submit(store->journal, &op->task.op);
}

enum db_err store_entries_each(const char *place, const struct store_entry_range *range,
                               bool (*each)(const struct store_entry *row, void *user), void *user, struct error *error)
{
	struct sql *db = sql_open(place, SQL_READ, error);
	if (!db)
		return DB_E_IO;
	enum db_err err = schema_check(db, error);
	if (!err) {
		struct store_entry row;
		struct sql_stmt *stmt = say_entries(db, range, INT64_MAX);
		bool more = true;
		while (more && sql_row(stmt)) {
			read_entry(stmt, &row);
			more = each(&row, user);
		}
		if (!more)
			sql_done(stmt);
		err = db->failed;
		if (err && error)
			*error = db->why;
	}
	sql_close(db);
	return err;
}
