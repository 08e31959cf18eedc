#include "coordinator/store/store_terms.h"

#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "coordinator/store/store_login.h"

struct op_terms {
	struct op_task task;
	store_account_fn done;
	char key[STORE_EMAIL_SIZE]; /* account id or address */
	bool sets_role;             /* else the fee */
	enum store_role role;
	int fee_percent;
	bool found;
	struct store_account account;
};

static void deliver(struct store_op *op)
{
	struct op_terms *terms = (struct op_terms *)op;
	terms->done(terms->found && !op->failed ? &terms->account : NULL, op_error(op), op->user);
}

static void read_account(struct sql *db, int64_t ref, struct op_terms *op)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT id, name, role, fee_percent FROM accounts WHERE ref = ?");
	sql_put_i64(stmt, 1, ref);
	op->found = sql_row(stmt);
	if (!op->found)
		return;
	op->account = (struct store_account){.role = sql_text(stmt, 2).len ? STORE_ROLE_SERVICE : STORE_ROLE_NORMAL,
	                                     .fee_percent = sql_is_null(stmt, 3) ? -1 : (int)sql_i64(stmt, 3)};
	sql_copy(stmt, 0, op->account.id, sizeof op->account.id);
	sql_copy(stmt, 1, op->account.name, sizeof op->account.name);
	sql_done(stmt);
}

static void write_terms(struct book *book, struct op_task *task)
{
	struct op_terms *op = (struct op_terms *)task;
	int64_t ref = login_account_ref(book->db, op->key);
	op->found = false;
	if (!ref || strcmp(op->key, STORE_ACCOUNT_PLATFORM) == 0 || strcmp(op->key, STORE_ACCOUNT_GRANTS) == 0) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no such account.");
		return;
	}
	struct sql_stmt *stmt = sql_say(book->db, op->sets_role ? "UPDATE accounts SET role = ? WHERE ref = ?"
	                                                        : "UPDATE accounts SET fee_percent = ? WHERE ref = ?");
	if (op->sets_role)
		sql_put_text(stmt, 1, op->role == STORE_ROLE_SERVICE ? "service" : "");
	else if (op->fee_percent < 0)
		sql_put_null(stmt, 1);
	else
		sql_put_i64(stmt, 1, op->fee_percent);
	sql_put_i64(stmt, 2, ref);
	sql_run(stmt);
	read_account(book->db, ref, op);
}

static bool note_terms(const struct op_task *task, struct trail_note *note)
{
	const struct op_terms *op = (const struct op_terms *)task;
	note->action = op->sets_role ? "account.role" : "account.fee";
	trail_subject(note, "%s", op->key);
	if (op->sets_role)
		trail_text(note, "role", op->role == STORE_ROLE_SERVICE ? "service" : "normal");
	else
		trail_number(note, "fee_percent", op->fee_percent);
	return op->found;
}

static struct op_terms *new_terms(enum op_kind kind, struct str key, store_account_fn done, void *user)
{
	struct op_terms *op = store_new_op(sizeof *op, kind, deliver, user);
	op->done = done;
	str_copy(key, op->key, sizeof op->key); /* one that does not fit names nothing */
	return op;
}

static void set_terms(struct store *store, struct op_terms *op)
{
	op->task.write = write_terms;
	op->task.note = note_terms;
	journal_submit(store->journal, &op->task.op);
}

void store_account_set_role(struct store *store, struct str account_id, enum store_role role, store_account_fn done, void *user)
{
	struct op_terms *op = new_terms(OP_TASK_WRITE, account_id, done, user);
	op->sets_role = true;
	op->role = role;
	set_terms(store, op);
}

void store_account_set_fee(struct store *store, struct str account_id, int fee_percent, store_account_fn done, void *user)
{
	struct op_terms *op = new_terms(OP_TASK_WRITE, account_id, done, user);
	op->fee_percent = fee_percent;
	set_terms(store, op);
}

static void find_by_email(struct sql *db, struct op_task *task)
{
	struct op_terms *op = (struct op_terms *)task;
	int64_t ref = 0;
	struct sql_stmt *stmt = sql_say(db, "SELECT account FROM passwords WHERE email = ?1"
	                                    " UNION SELECT account FROM identities WHERE lower(email) = ?1 LIMIT 2");
	sql_put_text(stmt, 1, op->key);
	while (op->key[0] && sql_row(stmt)) {
		if (ref)
			op_fail(&task->op, DB_E_EXISTS, "More than one account has this e-mail address.");
		ref = sql_i64(stmt, 0);
	}
	if (ref && !task->op.failed)
		read_account(db, ref, op);
	else if (!task->op.failed)
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no such account.");
}

void store_account_by_email(struct store *store, struct str email, store_account_fn done, void *user)
{
	struct op_terms *op = new_terms(OP_TASK_READ, email, done, user);
	op->task.read = find_by_email;
	journal_submit(store->journal, &op->task.op);
}
