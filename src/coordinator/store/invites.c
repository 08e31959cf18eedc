/* Invite codes: their rows, and the credit. */
#include "coordinator/store/store_invites.h"

#include <stdio.h>
#include <stdlib.h>

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

struct op_invite {
	struct op_task task;
	store_done_fn done;
	store_invites_fn list_done;
	store_redeem_fn redeem_done;
	struct store_invite invite;
	char account[STORE_ID_SIZE];
	int64_t credited;
	struct store_invite *rows; /* owned */
	size_t count;
};

static void dispose(struct op_task *task)
{
	free(((struct op_invite *)task)->rows);
}

static struct op_invite *new_op(enum op_kind kind, void (*deliver)(struct store_op *op), void *user)
{
	struct op_invite *op = store_new_op(sizeof *op, kind, deliver, user);
	op->task.dispose = dispose;
	return op;
}

static void deliver_done(struct store_op *op)
{
	struct op_invite *invite = (struct op_invite *)op;
	invite->done(op_error(op), op->user);
}

#define COLUMNS "code, amount, max_uses, used_count, active, expires_us, created_us FROM invite_codes"

static void read_row(struct sql_stmt *stmt, struct store_invite *row)
{
	*row = (struct store_invite){.amount_uusd = sql_i64(stmt, 1),
	                             .max_uses = sql_i64(stmt, 2),
	                             .used_count = sql_i64(stmt, 3),
	                             .active = sql_i64(stmt, 4) != 0,
	                             .expires_us = sql_i64(stmt, 5),
	                             .created_us = sql_i64(stmt, 6)};
	sql_copy(stmt, 0, row->code, sizeof row->code);
}

/* --- create, deactivate, list --- */

static void write_invite(struct book *book, struct op_task *task)
{
	struct op_invite *op = (struct op_invite *)task;
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO invite_codes (code, amount, max_uses, expires_us, created_us)"
	                                          " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING");
	sql_put_text(stmt, 1, op->invite.code);
	sql_put_i64(stmt, 2, op->invite.amount_uusd);
	sql_put_i64(stmt, 3, op->invite.max_uses);
	sql_put_i64(stmt, 4, op->invite.expires_us);
	sql_put_i64(stmt, 5, clock_wall_us());
	if (sql_run(stmt) && sql_changes(book->db) == 0)
		op_fail(&task->op, DB_E_EXISTS, "The code %s exists already.", op->invite.code);
}

static bool note_invite(const struct op_task *task, struct trail_note *note)
{
	const struct op_invite *op = (const struct op_invite *)task;
	note->action = op->credited ? "invite.redeem" : op->invite.amount_uusd ? "invite.create" : "invite.deactivate";
	note->account_id = op->account;
	trail_subject(note, "%s", op->invite.code);
	trail_text(note, "account", op->account);
	if (op->invite.amount_uusd)
		trail_number(note, "amount_micro_usd", op->invite.amount_uusd);
	return true;
}

void store_invite_create(struct store *store, const struct store_invite *invite, store_done_fn done, void *user)
{
	struct op_invite *op = new_op(OP_TASK_WRITE, deliver_done, user);
	op->task.write = write_invite;
	op->task.note = note_invite;
	op->done = done;
	op->invite = *invite;
	journal_submit(store->journal, &op->task.op);
}

static void write_deactivated(struct book *book, struct op_task *task)
{
	struct op_invite *op = (struct op_invite *)task;
	struct sql_stmt *stmt = sql_say(book->db, "UPDATE invite_codes SET active = 0 WHERE code = ?");
	sql_put_text(stmt, 1, op->invite.code);
	if (sql_run(stmt) && sql_changes(book->db) == 0)
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no code %s.", op->invite.code);
}

void store_invite_deactivate(struct store *store, struct str code, store_done_fn done, void *user)
{
	struct op_invite *op = new_op(OP_TASK_WRITE, deliver_done, user);
	op->task.write = write_deactivated;
	op->task.note = note_invite;
	op->done = done;
	str_copy(code, op->invite.code, sizeof op->invite.code);
	journal_submit(store->journal, &op->task.op);
}

static void read_invites(struct sql *db, struct op_task *task)
{
	struct op_invite *op = (struct op_invite *)task;
	struct sql_stmt *stmt = sql_say(db, "SELECT " COLUMNS " ORDER BY created_us DESC, code LIMIT ?");
	op->rows = malloc(STORE_INVITES_MAX * sizeof *op->rows);
	if (!op->rows) {
		sql_fail(db, DB_E_NOMEM, "There is no memory for the rows of a query.");
		return;
	}
	sql_put_i64(stmt, 1, STORE_INVITES_MAX);
	while (sql_row(stmt))
		if (op->count < STORE_INVITES_MAX)
			read_row(stmt, &op->rows[op->count++]);
}

static void deliver_list(struct store_op *op)
{
	struct op_invite *invite = (struct op_invite *)op;
	invite->list_done(invite->rows, op->failed ? 0 : invite->count, op_error(op), op->user);
}

void store_invites_list(struct store *store, store_invites_fn done, void *user)
{
	struct op_invite *op = new_op(OP_TASK_READ, deliver_list, user);
	op->task.read = read_invites;
	op->list_done = done;
	journal_submit(store->journal, &op->task.op);
}

/* --- redeem --- */

static bool is_redeemed(struct sql *db, const char *code, int64_t account)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT 1 FROM invite_redemptions WHERE code = ? AND account = ?");
	sql_put_text(stmt, 1, code);
	sql_put_i64(stmt, 2, account);
	return sql_exists(stmt);
}

static const char *refusal(struct sql *db, const struct store_invite *invite, int64_t account)
{
	if (!invite->active)
		return "This code is not in use any more.";
	if (invite->expires_us && invite->expires_us <= clock_wall_us())
		return "This code has expired.";
	if (invite->used_count >= invite->max_uses)
		return "This code has been used as often as it may be.";
	return is_redeemed(db, invite->code, account) ? "This account has redeemed the code before." : NULL;
}

static bool find_code(struct sql *db, struct store_invite *invite)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT " COLUMNS " WHERE code = ?");
	sql_put_text(stmt, 1, invite->code);
	if (!sql_row(stmt))
		return false;
	read_row(stmt, invite);
	sql_done(stmt);
	return true;
}

static void count_use(struct sql *db, const char *code, int64_t account)
{
	struct sql_stmt *stmt = sql_say(db, "UPDATE invite_codes SET used_count = used_count + 1 WHERE code = ?");
	sql_put_text(stmt, 1, code);
	sql_run(stmt);
	stmt = sql_say(db, "INSERT INTO invite_redemptions (code, account, created_us) VALUES (?, ?, ?)");
	sql_put_text(stmt, 1, code);
	sql_put_i64(stmt, 2, account);
	sql_put_i64(stmt, 3, clock_wall_us());
	sql_run(stmt);
}

static void write_redemption(struct book *book, struct op_task *task)
{
	struct op_invite *op = (struct op_invite *)task;
	struct book_account *account = book_account(book, op->account), *grants = book_account(book, STORE_ACCOUNT_GRANTS);
	struct store_transfer transfer = {.type = "invite_credit"};
	op->credited = 0;
	if (!account || !grants || account->is_source || !find_code(book->db, &op->invite)) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no such code.");
		return;
	}
	const char *why = refusal(book->db, &op->invite, account->ref);
	if (why) {
		op_fail(&task->op, DB_E_DENIED, "%s", why);
		return;
	}
	count_use(book->db, op->invite.code, account->ref);
	transfer.amount_uusd = op->credited = op->invite.amount_uusd;
	snprintf(transfer.key, sizeof transfer.key, "iv:%s:%lld", op->invite.code, (long long)account->ref);
	snprintf(transfer.reference, sizeof transfer.reference, "invite:%s", op->invite.code);
	if (!book_transfer(book, &transfer, grants, account) && !book->db->failed)
		sql_fail(book->db, DB_E_INTERNAL, "A redemption was credited before it was noted.");
}

static void deliver_redeemed(struct store_op *op)
{
	struct op_invite *invite = (struct op_invite *)op;
	invite->redeem_done(op->failed ? 0 : invite->credited, op_error(op), op->user);
}

void store_invite_redeem(struct store *store, struct str account_id, struct str code, store_redeem_fn done, void *user)
{
	struct op_invite *op = new_op(OP_TASK_WRITE, deliver_redeemed, user);
	op->task.write = write_redemption;
	op->task.note = note_invite;
	op->redeem_done = done;
	str_copy(account_id, op->account, sizeof op->account);
	str_copy(code, op->invite.code, sizeof op->invite.code);
	journal_submit(store->journal, &op->task.op);
}
