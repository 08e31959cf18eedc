#include "coordinator/store/store_views.h"

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "coordinator/store/views.h"

#define TEXT_MAX (16u << 20)

/* --- views --- */

struct op_view {
	struct op_task task;
	store_view_fn done;
	struct store_view view;
	struct view_out out;
};

static void read_view(struct sql *db, struct op_task *task)
{
	static void (*const views[])(struct sql * db, const struct store_view *view, struct view_out *out) = {
	    [STORE_VIEW_USAGE] = view_usage,   [STORE_VIEW_EARNINGS] = view_earnings,   [STORE_VIEW_LEADERS] = view_leaders,
	    [STORE_VIEW_TOTALS] = view_totals, [STORE_VIEW_STATEMENT] = view_statement,
	};
	struct op_view *op = (struct op_view *)task;
	views[op->view.kind](db, &op->view, &op->out);
	if (op->out.text.failed || op->out.more.failed)
		op_fail(&task->op, DB_E_LIMIT, "The answer is larger than can be sent: ask for less at once.");
}

static void deliver_view(struct store_op *op)
{
	struct op_view *view = (struct op_view *)op;
	view->out.answer.text = buf_str(&view->out.text);
	view->out.answer.more = buf_str(&view->out.more);
	view->done(op->failed ? NULL : &view->out.answer, op_error(op), op->user);
}

static void dispose_view(struct op_task *task)
{
	struct op_view *op = (struct op_view *)task;
	buf_free(&op->out.text);
	buf_free(&op->out.more);
}

void store_view(struct store *store, const struct store_view *view, store_view_fn done, void *user)
{
	struct op_view *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_view, user);
	op->task.read = read_view;
	op->task.dispose = dispose_view;
	op->done = done;
	op->view = *view;
	buf_init(&op->out.text, TEXT_MAX);
	buf_init(&op->out.more, TEXT_MAX);
	journal_submit(store->journal, &op->task.op);
}

/* --- prices --- */

struct op_price_delete {
	struct op_task task;
	store_done_fn done;
	char account[STORE_ID_SIZE], model[STORE_MODEL_SIZE];
};

static void deliver_deleted(struct store_op *op)
{
	struct op_price_delete *gone = (struct op_price_delete *)op;
	if (gone->done)
		gone->done(op_error(op), op->user);
}

static struct op_price_delete *new_delete(struct str account_id, store_done_fn done, void *user)
{
	struct op_price_delete *op = store_new_op(sizeof *op, OP_TASK_WRITE, deliver_deleted, user);
	op->done = done;
	str_copy(account_id, op->account, sizeof op->account);
	return op;
}

static void delete_price(struct book *book, struct op_task *task)
{
	struct op_price_delete *op = (struct op_price_delete *)task;
	struct sql_stmt *stmt =
	    sql_say(book->db, "DELETE FROM prices WHERE account = (SELECT ref FROM accounts WHERE id = ?) AND model = ?");
	sql_put_text(stmt, 1, op->account);
	sql_put_text(stmt, 2, op->model);
	if (sql_run(stmt) && sql_changes(book->db) == 0)
		op_fail(&task->op, DB_E_NOT_FOUND, "This account has no price of its own for the model %s.", op->model);
}

static bool note_price_deleted(const struct op_task *task, struct trail_note *note)
{
	const struct op_price_delete *op = (const struct op_price_delete *)task;
	note->action = "price.delete";
	note->account_id = op->account;
	trail_subject(note, "%s", op->account);
	trail_text(note, "model", op->model);
	return true;
}

void store_price_delete(struct store *store, struct str account_id, struct str model, store_done_fn done, void *user)
{
	struct op_price_delete *op = new_delete(account_id, done, user);
	op->task.write = delete_price;
	op->task.note = note_price_deleted;
	str_copy(model, op->model, sizeof op->model);
	journal_submit(store->journal, &op->task.op);
}
