#include "coordinator/store/store_machines.h"

#include <stdlib.h>

#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"

#define LISTED 1000

struct op_machine {
	struct op_task task;
	union {
		store_done_fn done;
		store_machines_fn rows;
	} then;
	struct store_machine machine; /* facts: owned */
	char name[STORE_MODEL_SIZE];
	struct store_machine *rows; /* owned, with their facts */
	size_t count;
};

static void dispose(struct op_task *task)
{
	struct op_machine *op = (struct op_machine *)task;
	for (size_t i = 0; i < op->count; i++)
		free((void *)(uintptr_t)op->rows[i].facts.at);
	free(op->rows);
	free((void *)(uintptr_t)op->machine.facts.at);
}

static struct op_machine *new_op(enum op_kind kind, void (*deliver)(struct store_op *op), struct str account_id, void *user)
{
	struct op_machine *op = store_new_op(sizeof *op, kind, deliver, user);
	op->task.dispose = dispose;
	str_copy(account_id, op->machine.account_id, sizeof op->machine.account_id);
	return op;
}

static bool copy_facts(struct store_machine *machine, struct str facts)
{
	char *copy = malloc(facts.len + 1);
	machine->facts = (struct str){copy, copy ? facts.len : 0};
	if (copy && facts.len > 0)
		memcpy(copy, facts.at, facts.len);
	return copy != NULL;
}

/* --- remembering --- */

static void write_machine(struct book *book, struct op_task *task)
{
	const struct store_machine *machine = &((struct op_machine *)task)->machine;
	int64_t account = login_account_ref(book->db, machine->account_id);
	if (!account || !machine->facts.at) {
		op_fail(&task->op, account ? DB_E_NOMEM : DB_E_NOT_FOUND, "The machine cannot be remembered.");
		return;
	}
	struct sql_stmt *stmt = sql_say(
	    book->db, "INSERT INTO machines (key, account, provider, registered_us, seen_us, facts) VALUES (?, ?, ?, ?, ?, ?)"
	              " ON CONFLICT (key) DO UPDATE SET account = excluded.account, provider = excluded.provider,"
	              " seen_us = excluded.seen_us, facts = excluded.facts");
	sql_put_text(stmt, 1, machine->key);
	sql_put_i64(stmt, 2, account);
	sql_put_text(stmt, 3, machine->provider_id);
	sql_put_i64(stmt, 4, machine->registered_us);
	sql_put_i64(stmt, 5, machine->seen_us);
	sql_put_str(stmt, 6, machine->facts);
	sql_run(stmt);
}

void store_machine_put(struct store *store, const struct store_machine *machine)
{
	struct op_machine *op = new_op(OP_TASK_WRITE, NULL, STR_NONE, NULL);
	op->machine = *machine;
	(void)copy_facts(&op->machine, machine->facts); /* without memory it is refused */
	op->task.write = write_machine;
	journal_submit(store->journal, &op->task.op);
}

/* --- listing --- */

static void deliver_rows(struct store_op *at)
{
	struct op_machine *op = (struct op_machine *)at;
	op->then.rows(op->rows, at->failed ? 0 : op->count, op_error(at), at->user);
}

static void read_machines(struct sql *db, struct op_task *task)
{
	struct op_machine *op = (struct op_machine *)task;
	op->rows = calloc(LISTED, sizeof *op->rows);
	if (!op->rows) {
		op_fail(&task->op, DB_E_NOMEM, "There is no memory for the rows of a query.");
		return;
	}
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT key, provider, registered_us, seen_us, facts FROM machines JOIN accounts ON ref = account"
	                " WHERE accounts.id = ? ORDER BY seen_us DESC, key LIMIT 1000");
	sql_put_text(stmt, 1, op->machine.account_id);
	while (op->count < LISTED && sql_row(stmt)) {
		struct store_machine *row = &op->rows[op->count++];
		*row = (struct store_machine){.registered_us = sql_i64(stmt, 2), .seen_us = sql_i64(stmt, 3)};
		memcpy(row->account_id, op->machine.account_id, sizeof row->account_id);
		sql_copy(stmt, 0, row->key, sizeof row->key);
		sql_copy(stmt, 1, row->provider_id, sizeof row->provider_id);
		if (!copy_facts(row, sql_text(stmt, 4)))
			op_fail(&task->op, DB_E_NOMEM, "There is no memory for the rows of a query.");
	}
	sql_done(stmt);
}

void store_machines_list(struct store *store, struct str account_id, store_machines_fn done, void *user)
{
	struct op_machine *op = new_op(OP_TASK_READ, deliver_rows, account_id, user);
	op->then.rows = done;
	op->task.read = read_machines;
	journal_submit(store->journal, &op->task.op);
}

/* --- forgetting --- */

static void deliver_done(struct store_op *op)
{
	((struct op_machine *)op)->then.done(op_error(op), op->user);
}

static void forget_machine(struct book *book, struct op_task *task)
{
	struct op_machine *op = (struct op_machine *)task;
	struct sql_stmt *stmt = sql_say(book->db, "SELECT accounts.id, key FROM machines JOIN accounts ON ref = account"
	                                          " WHERE key = ?1 OR provider = ?1");
	sql_put_text(stmt, 1, op->name);
	if (!op->name[0] || !sql_row(stmt)) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no such machine.");
		return;
	}
	char owner[STORE_ID_SIZE], key[STORE_MODEL_SIZE];
	sql_copy(stmt, 0, owner, sizeof owner);
	sql_copy(stmt, 1, key, sizeof key);
	sql_done(stmt);
	if (strcmp(owner, op->machine.account_id) != 0) {
		op_fail(&task->op, DB_E_DENIED, "The machine is another account's.");
		return;
	}
	stmt = sql_say(book->db, "DELETE FROM machines WHERE key = ?");
	sql_put_text(stmt, 1, key);
	sql_run(stmt);
}

void store_machine_forget(struct store *store, struct str account_id, struct str name, store_done_fn done, void *user)
{
	struct op_machine *op = new_op(OP_TASK_WRITE, deliver_done, account_id, user);
	op->then.done = done;
	str_copy(name, op->name, sizeof op->name);
	op->task.write = forget_machine;
	journal_submit(store->journal, &op->task.op);
}
