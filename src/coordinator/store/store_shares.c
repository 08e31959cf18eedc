#include "coordinator/store/store_shares.h"

#include <stdlib.h>

#include "coordinator/store/journal.h"
#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

#define LIST_MAX 10000

struct op_share {
	struct op_task task;
	union {
		store_done_fn done;
		store_shares_fn list;
	} then;
	struct store_share share; /* of a write; an empty text takes it away */
	struct store_share *rows; /* owned; of a list */
	size_t count;
};

/* --- writer's and readers' threads --- */

/* Every coordinator, in the same transaction: who hears of it finds it. */
static void tell_all(struct book *book, const char *account_id)
{
	if (book->db->kind != SQL_POSTGRES)
		return;
	struct sql_stmt *stmt = sql_say(book->db, "SELECT pg_notify('darkbloom', '0:s:' || ?1::TEXT)");
	sql_put_text(stmt, 1, account_id);
	sql_post(stmt);
}

static bool is_there(struct sql *db, const char *account_id)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT 1 FROM account_shares WHERE account_id = ?");
	sql_put_text(stmt, 1, account_id);
	bool found = sql_row(stmt);
	if (found)
		sql_done(stmt);
	return found;
}

static void save(struct book *book, struct op_task *task)
{
	const struct store_share *share = &((struct op_share *)task)->share;
	if (!login_account_ref(book->db, share->account_id)) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no such account.");
		return;
	}
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO account_shares (account_id, share, updated_us) VALUES (?, ?, ?)"
	                                          " ON CONFLICT (account_id) DO UPDATE SET share = excluded.share,"
	                                          " updated_us = excluded.updated_us");
	sql_put_text(stmt, 1, share->account_id);
	sql_put_text(stmt, 2, share->share);
	sql_put_i64(stmt, 3, clock_wall_us());
	sql_run(stmt);
	tell_all(book, share->account_id);
}

static void forget(struct book *book, struct op_task *task)
{
	const struct store_share *share = &((struct op_share *)task)->share;
	if (!is_there(book->db, share->account_id)) {
		op_fail(&task->op, DB_E_NOT_FOUND, "No share of this account was set.");
		return;
	}
	struct sql_stmt *stmt = sql_say(book->db, "DELETE FROM account_shares WHERE account_id = ?");
	sql_put_text(stmt, 1, share->account_id);
	sql_run(stmt);
	tell_all(book, share->account_id);
}

static bool note(const struct op_task *task, struct trail_note *note)
{
	const struct store_share *share = &((const struct op_share *)task)->share;
	note->action = "account.share";
	trail_subject(note, "%s", share->account_id);
	trail_text(note, "share", share->share[0] ? share->share : "default");
	return !task->op.failed;
}

static void list(struct sql *db, struct op_task *task)
{
	struct op_share *op = (struct op_share *)task;
	int64_t count = sql_number(sql_say(db, "SELECT count(*) FROM account_shares"));
	count = count < LIST_MAX ? count : LIST_MAX;
	free(op->rows); /* of an attempt that the server broke off */
	op->count = 0;
	op->rows = calloc((size_t)count + 1, sizeof *op->rows);
	if (!op->rows) {
		op_fail(&task->op, DB_E_NOMEM, "There is not enough memory for the list of shares.");
		return;
	}
	struct sql_stmt *stmt = sql_say(db, "SELECT account_id, share FROM account_shares ORDER BY account_id");
	while (sql_row(stmt)) {
		if (op->count == (size_t)count)
			continue;
		sql_copy(stmt, 0, op->rows[op->count].account_id, sizeof op->rows->account_id);
		sql_copy(stmt, 1, op->rows[op->count++].share, sizeof op->rows->share);
	}
}

/* --- loop thread --- */

static void dispose(struct op_task *task)
{
	free(((struct op_share *)task)->rows);
}

static void deliver_done(struct store_op *op)
{
	((struct op_share *)op)->then.done(op_error(op), op->user);
}

static void deliver_list(struct store_op *op)
{
	struct op_share *share = (struct op_share *)op;
	share->then.list(op->failed ? NULL : share->rows, op->failed ? 0 : share->count, op_error(op), op->user);
}

static void submit(struct store *store, const struct store_share *share, void (*write)(struct book *, struct op_task *),
                   store_done_fn done, void *user)
{
	struct op_share *op = store_new_op(sizeof *op, OP_TASK_WRITE, deliver_done, user);
	op->task.write = write;
	op->task.note = note;
	op->task.dispose = dispose;
	op->then.done = done;
	op->share = *share;
	journal_submit(store->journal, &op->task.op);
}

enum db_err store_share_save(struct store *store, struct str account_id, struct str text, store_done_fn done, void *user)
{
	struct store_share share;
	if (!str_copy(account_id, share.account_id, sizeof share.account_id) || !str_copy(text, share.share, sizeof share.share))
		return DB_E_LIMIT;
	submit(store, &share, save, done, user);
	return DB_OK;
}

void store_share_remove(struct store *store, struct str account_id, store_done_fn done, void *user)
{
	struct store_share share = {0};
	(void)str_copy(account_id, share.account_id, sizeof share.account_id); /* one that does not fit names nothing */
	submit(store, &share, forget, done, user);
}

void store_shares_list(struct store *store, store_shares_fn done, void *user)
{
	struct op_share *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_list, user);
	op->task.read = list;
	op->task.dispose = dispose;
	op->then.list = done;
	journal_submit(store->journal, &op->task.op);
}
