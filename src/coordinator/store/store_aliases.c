#include "coordinator/store/store_aliases.h"

#include <stdlib.h>

#include "coordinator/store/journal.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

#define LIST_MAX 4096

struct op_alias {
	struct op_task task;
	union {
		store_done_fn done;
		store_aliases_fn list;
	} then;
	struct store_alias alias; /* of a write */
	struct store_alias *rows; /* owned; of a list */
	size_t count;
};

/* --- writer's and readers' threads --- */

static void save(struct book *book, struct op_task *task)
{
	const struct store_alias *alias = &((struct op_alias *)task)->alias;
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO model_aliases (id, document, updated_us) VALUES (?, ?, ?)"
	                                          " ON CONFLICT (id) DO UPDATE SET document = excluded.document,"
	                                          " updated_us = excluded.updated_us");
	sql_put_text(stmt, 1, alias->id);
	sql_put_text(stmt, 2, alias->document);
	sql_put_i64(stmt, 3, clock_wall_us());
	sql_run(stmt);
}

static void forget(struct book *book, struct op_task *task)
{
	struct sql_stmt *stmt = sql_say(book->db, "DELETE FROM model_aliases WHERE id = ?");
	sql_put_text(stmt, 1, ((struct op_alias *)task)->alias.id);
	sql_run(stmt);
}

static void list(struct sql *db, struct op_task *task)
{
	struct op_alias *op = (struct op_alias *)task;
	int64_t count = sql_number(sql_say(db, "SELECT count(*) FROM model_aliases"));
	count = count < LIST_MAX ? count : LIST_MAX;
	op->rows = calloc((size_t)count + 1, sizeof *op->rows);
	if (!op->rows) {
		op_fail(&task->op, DB_E_NOMEM, "There is not enough memory for the list of aliases.");
		return;
	}
	struct sql_stmt *stmt = sql_say(db, "SELECT id, document FROM model_aliases ORDER BY id");
	while (sql_row(stmt)) {
		if (op->count == (size_t)count)
			continue;
		sql_copy(stmt, 0, op->rows[op->count].id, sizeof op->rows->id);
		sql_copy(stmt, 1, op->rows[op->count++].document, sizeof op->rows->document);
	}
}

/* --- loop thread --- */

static void dispose(struct op_task *task)
{
	free(((struct op_alias *)task)->rows);
}

static void deliver_done(struct store_op *op)
{
	((struct op_alias *)op)->then.done(op_error(op), op->user);
}

static void deliver_list(struct store_op *op)
{
	struct op_alias *alias = (struct op_alias *)op;
	alias->then.list(op->failed ? NULL : alias->rows, op->failed ? 0 : alias->count, op_error(op), op->user);
}

static void submit_write(struct store *store, const struct store_alias *alias, void (*write)(struct book *, struct op_task *),
                         store_done_fn done, void *user)
{
	struct op_alias *op = store_new_op(sizeof *op, OP_TASK_WRITE, done ? deliver_done : NULL, user);
	op->task.write = write;
	op->task.dispose = dispose;
	op->then.done = done;
	op->alias = *alias;
	journal_submit(store->journal, &op->task.op);
}

enum db_err store_alias_save(struct store *store, struct str id, struct str document, store_done_fn done, void *user)
{
	struct store_alias alias;
	if (!str_copy(id, alias.id, sizeof alias.id) || !str_copy(document, alias.document, sizeof alias.document))
		return DB_E_LIMIT;
	submit_write(store, &alias, save, done, user);
	return DB_OK;
}

void store_alias_remove(struct store *store, struct str id, store_done_fn done, void *user)
{
	struct store_alias alias = {0};
	(void)str_copy(id, alias.id, sizeof alias.id);
	submit_write(store, &alias, forget, done, user);
}

void store_aliases_list(struct store *store, store_aliases_fn done, void *user)
{
	struct op_alias *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_list, user);
	op->task.read = list;
	op->task.dispose = dispose;
	op->then.list = done;
	journal_submit(store->journal, &op->task.op);
}
