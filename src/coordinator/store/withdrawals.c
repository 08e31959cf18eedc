/* Withdrawals and connected accounts: their rows and what they do to the ledger. */
#include "coordinator/store/store_withdrawals.h"

#include <stdio.h>
#include <stdlib.h>

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_deposits.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

#define DAY_US INT64_C(86400000000)

static const char *const state_names[] = {"pending", "transferred", "submitted", "paid", "reversing", "failed"};
#define STATES (sizeof state_names / sizeof *state_names)

const char *store_withdrawal_state_name(enum store_withdrawal_state state)
{
	return state_names[state];
}

struct op_withdrawal {
	struct op_task task;
	store_done_fn done;
	store_withdrawal_fn row_done;
	store_withdrawals_fn rows_done;
	store_connect_fn connect_done;
	struct store_withdrawal row; /* in and out */
	struct store_withdrawal_step step;
	struct store_connect connect; /* in and out */
	char key[3][128];             /* what to look for */
	struct store_withdrawal_limits limits;
	int64_t at_us, refunded;
	uint32_t limit;
	bool found, by_time;
	struct store_withdrawal *rows; /* owned */
	size_t count;
};

static void dispose(struct op_task *task)
{
	free(((struct op_withdrawal *)task)->rows);
}

static struct op_withdrawal *new_op(enum op_kind kind, void (*deliver)(struct store_op *op), void *user)
{
	struct op_withdrawal *op = store_new_op(sizeof *op, kind, deliver, user);
	op->task.dispose = dispose;
	return op;
}

static void deliver_done(struct store_op *op)
{
	struct op_withdrawal *withdrawal = (struct op_withdrawal *)op;
	withdrawal->done(op_error(op), op->user);
}

static void deliver_row(struct store_op *op)
{
	struct op_withdrawal *w = (struct op_withdrawal *)op;
	w->row_done(w->found && !op->failed ? &w->row : NULL, op->failed ? 0 : w->refunded, op_error(op), op->user);
}

static void deliver_rows(struct store_op *op)
{
	struct op_withdrawal *w = (struct op_withdrawal *)op;
	w->rows_done(w->rows, op->failed ? 0 : w->count, op_error(op), op->user);
}

/* --- rows --- */

#define LONGEST_WAIT_US INT64_C(14400000000) /* longer than the worker ever puts a withdrawal off */
#define COLUMNS                                                                                                                \
	"SELECT w.id, a.id, w.stripe_account, w.amount, w.fee, w.net, w.method, w.status, w.transfer_id, w.payout_id,"             \
	" w.failure_reason, w.refunded, w.attempts, w.created_us, w.updated_us FROM withdrawals w JOIN accounts a ON a.ref = "     \
	"w.account WHERE "

static void read_row(struct sql_stmt *stmt, struct store_withdrawal *row)
{
	struct str status = sql_text(stmt, 7);
	*row = (struct store_withdrawal){.amount_uusd = sql_i64(stmt, 3),
	                                 .fee_uusd = sql_i64(stmt, 4),
	                                 .net_uusd = sql_i64(stmt, 5),
	                                 .refunded = sql_i64(stmt, 11) != 0,
	                                 .attempts = sql_i64(stmt, 12),
	                                 .created_us = sql_i64(stmt, 13),
	                                 .updated_us = sql_i64(stmt, 14)};
	for (size_t i = 0; i < STATES; i++)
		if (str_is(status, state_names[i]))
			row->state = (enum store_withdrawal_state)i;
	sql_copy(stmt, 0, row->id, sizeof row->id);
	sql_copy(stmt, 1, row->account_id, sizeof row->account_id);
	sql_copy(stmt, 2, row->stripe_account, sizeof row->stripe_account);
	sql_copy(stmt, 6, row->method, sizeof row->method);
	sql_copy(stmt, 8, row->transfer_id, sizeof row->transfer_id);
	sql_copy(stmt, 9, row->payout_id, sizeof row->payout_id);
	sql_copy(stmt, 10, row->failure_reason, sizeof row->failure_reason);
}

static bool find_by(struct sql *db, const char *sql, const char *key, struct store_withdrawal *row)
{
	struct sql_stmt *stmt = sql_say(db, sql);
	sql_put_text(stmt, 1, key);
	if (!key[0] || !sql_row(stmt))
		return false;
	read_row(stmt, row);
	sql_done(stmt);
	return true;
}

static const char by_id[] = COLUMNS "w.id = ?";

static bool move(struct book *book, const char *prefix, const char *type, const struct store_withdrawal *row,
                 struct book_account *from, struct book_account *to)
{
	struct store_transfer transfer = {.amount_uusd = row->amount_uusd, .withdrawable = true};
	snprintf(transfer.key, sizeof transfer.key, "%s:%.60s", prefix, row->id);
	str_copy(str_of(type), transfer.type, sizeof transfer.type);
	snprintf(transfer.reference, sizeof transfer.reference, "stripe_withdraw:%.60s", row->id);
	return book_transfer(book, &transfer, from, to);
}

/* --- request: debit and row --- */

static int64_t withdrawn_lately(struct sql *db, int64_t account)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT coalesce(sum(amount), 0) FROM withdrawals WHERE account = ? AND created_us > ?"
	                                    " AND status <> 'failed'");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, clock_wall_us() - DAY_US);
	return sql_number(stmt);
}

/* The clock may have gone back since: then the cool-down counts from now at the latest. */
static bool is_too_soon(struct sql *db, int64_t account, int64_t cooldown_us)
{
	int64_t now_us = clock_wall_us();
	struct sql_stmt *stmt = sql_say(db, "SELECT 1 FROM withdrawals WHERE account = ? AND created_us > ? AND created_us <= ?"
	                                    " AND status <> 'failed'");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, now_us - cooldown_us);
	sql_put_i64(stmt, 3, now_us + cooldown_us);
	return sql_exists(stmt);
}

static void insert_row(struct sql *db, const struct op_withdrawal *op, int64_t account)
{
	struct sql_stmt *stmt =
	    sql_say(db, "INSERT INTO withdrawals (id, account, stripe_account, amount, fee, net, method, status,"
	                " next_attempt_us, created_us, updated_us) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)");
	int64_t now_us = clock_wall_us();
	sql_put_text(stmt, 1, op->row.id);
	sql_put_i64(stmt, 2, account);
	sql_put_text(stmt, 3, op->row.stripe_account);
	sql_put_i64(stmt, 4, op->row.amount_uusd);
	sql_put_i64(stmt, 5, op->row.fee_uusd);
	sql_put_i64(stmt, 6, op->row.net_uusd);
	sql_put_text(stmt, 7, op->row.method);
	sql_put_i64(stmt, 8, op->at_us);
	sql_put_i64(stmt, 9, now_us);
	sql_put_i64(stmt, 10, now_us);
	sql_run(stmt);
}

static void write_request(struct book *book, struct op_task *task)
{
	struct op_withdrawal *op = (struct op_withdrawal *)task;
	struct book_account *account = book_account(book, op->row.account_id), *stripe = book_account(book, STORE_ACCOUNT_STRIPE);
	int64_t amount = op->row.amount_uusd;
	if (!account || !stripe || account->is_source) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no account %s to withdraw from.", op->row.account_id);
		return;
	}
	if (amount <= 0 || book_spendable(account) < amount || account->withdrawable < amount) {
		op_fail(&task->op, DB_E_FUNDS, "Less than that may be withdrawn.");
		return;
	}
	if (amount > op->limits.daily_uusd - withdrawn_lately(book->db, account->ref)) {
		op_fail(&task->op, DB_E_LIMIT, "More than that may not be withdrawn within 24 hours.");
		return;
	}
	if (op->limits.cooldown_us > 0 && is_too_soon(book->db, account->ref, op->limits.cooldown_us)) {
		op_fail(&task->op, DB_E_DENIED, "The account's last withdrawal was a short time ago.");
		return;
	}
	insert_row(book->db, op, account->ref);
	if (!move(book, "wd", "stripe_payout", &op->row, account, stripe) && !book->db->failed)
		sql_fail(book->db, DB_E_INTERNAL, "A withdrawal of this id was made before.");
}

static bool note_request(const struct op_task *task, struct trail_note *note)
{
	const struct op_withdrawal *op = (const struct op_withdrawal *)task;
	note->action = "withdrawal.request";
	note->account_id = op->row.account_id;
	trail_subject(note, "%s", op->row.id);
	trail_text(note, "account", op->row.account_id);
	trail_number(note, "amount_micro_usd", op->row.amount_uusd);
	trail_number(note, "fee_micro_usd", op->row.fee_uusd);
	trail_text(note, "to", op->row.stripe_account);
	return true;
}

void store_withdrawal_create(struct store *store, const struct store_withdrawal *withdrawal,
                             const struct store_withdrawal_limits *limits, int64_t first_look_us, store_done_fn done,
                             void *user)
{
	struct op_withdrawal *op = new_op(OP_TASK_WRITE, deliver_done, user);
	op->task.write = write_request;
	op->task.note = note_request;
	op->done = done;
	op->row = *withdrawal;
	op->limits = *limits;
	op->at_us = first_look_us;
	journal_submit(store->journal, &op->task.op);
}

/* --- steps --- */

#define FROM(state) (1u << STORE_WITHDRAWAL_##state)

static bool leads_from(const struct store_withdrawal_step *step, enum store_withdrawal_state from)
{
	static const unsigned allowed[] = {
	    [STORE_WITHDRAWAL_PENDING] = 0,
	    [STORE_WITHDRAWAL_TRANSFERRED] = FROM(PENDING),
	    [STORE_WITHDRAWAL_SUBMITTED] = FROM(TRANSFERRED),
	    [STORE_WITHDRAWAL_PAID] = FROM(TRANSFERRED) | FROM(SUBMITTED),
	    /* A bank may send back what it had taken. */
	    [STORE_WITHDRAWAL_REVERSING] = FROM(TRANSFERRED) | FROM(SUBMITTED) | FROM(PAID),
	    [STORE_WITHDRAWAL_FAILED] = FROM(PENDING) | FROM(REVERSING),
	};
	unsigned from_any = FROM(TRANSFERRED) | FROM(SUBMITTED) | FROM(PAID) | FROM(PENDING) | FROM(REVERSING);
	unsigned from_here = step->reversed ? from_any : allowed[step->to];
	return (from_here & (1u << from)) != 0;
}

static void write_step(struct book *book, struct op_task *task)
{
	struct op_withdrawal *op = (struct op_withdrawal *)task;
	const struct store_withdrawal_step *step = &op->step;
	op->refunded = 0;
	op->by_time = false;
	op->found = find_by(book->db, by_id, step->id, &op->row);
	if (!op->found || !leads_from(step, op->row.state))
		return;
	struct book_account *account = book_account(book, op->row.account_id), *stripe = book_account(book, STORE_ACCOUNT_STRIPE);
	if (!account || !stripe) {
		op_fail(&task->op, DB_E_NOT_FOUND, "The account of the withdrawal %s does not exist.", step->id);
		return;
	}
	op->by_time = true; /* it is this step that changes the row */
	op->row.state = step->to;
	if (step->transfer_id[0])
		memcpy(op->row.transfer_id, step->transfer_id, sizeof op->row.transfer_id);
	if (step->payout_id[0])
		memcpy(op->row.payout_id, step->payout_id, sizeof op->row.payout_id);
	if (step->reason[0])
		memcpy(op->row.failure_reason, step->reason, sizeof op->row.failure_reason);
	if (step->to == STORE_WITHDRAWAL_FAILED && !op->row.refunded &&
	    move(book, "wd-refund", "refund", &op->row, stripe, account)) {
		op->row.refunded = true;
		op->refunded = op->row.amount_uusd;
	}
	struct sql_stmt *stmt = sql_say(
	    book->db, "UPDATE withdrawals SET status = ?2, transfer_id = ?3, payout_id = ?4, failure_reason = ?5, refunded = ?6,"
	              " attempts = 0, next_attempt_us = ?7 + 60000000, updated_us = ?7 WHERE id = ?1"); /* whoever steps goes on */
	sql_put_text(stmt, 1, op->row.id);
	sql_put_text(stmt, 2, state_names[op->row.state]);
	sql_put_text(stmt, 3, op->row.transfer_id);
	sql_put_text(stmt, 4, op->row.payout_id);
	sql_put_text(stmt, 5, op->row.failure_reason);
	sql_put_i64(stmt, 6, op->row.refunded);
	sql_put_i64(stmt, 7, clock_wall_us());
	sql_run(stmt);
}

static bool note_step(const struct op_task *task, struct trail_note *note)
{
	const struct op_withdrawal *op = (const struct op_withdrawal *)task;
	note->action = "withdrawal.step";
	trail_subject(note, "%s", op->step.id);
	trail_text(note, "status", state_names[op->step.to]);
	trail_text(note, "reason", op->step.reason);
	trail_number(note, "refunded_micro_usd", op->refunded);
	return op->by_time;
}

void store_withdrawal_step(struct store *store, const struct store_withdrawal_step *step, store_withdrawal_fn done, void *user)
{
	struct op_withdrawal *op = new_op(OP_TASK_WRITE, deliver_row, user);
	op->task.write = write_step;
	op->task.note = note_step;
	op->row_done = done;
	op->step = *step;
	journal_submit(store->journal, &op->task.op);
}

static void write_postponed(struct book *book, struct op_task *task)
{
	struct op_withdrawal *op = (struct op_withdrawal *)task;
	struct sql_stmt *stmt =
	    sql_say(book->db, "UPDATE withdrawals SET next_attempt_us = ?, attempts = attempts + 1 WHERE id = ?");
	sql_put_i64(stmt, 1, op->at_us);
	sql_put_text(stmt, 2, op->key[0]);
	sql_run(stmt);
}

void store_withdrawal_postpone(struct store *store, struct str id, int64_t at_us)
{
	struct op_withdrawal *op = new_op(OP_TASK_WRITE, NULL, NULL);
	op->task.write = write_postponed;
	str_copy(id, op->key[0], sizeof op->key[0]);
	op->at_us = at_us;
	journal_submit(store->journal, &op->task.op);
}

/* --- reading --- */

static void read_found(struct sql *db, struct op_task *task)
{
	struct op_withdrawal *op = (struct op_withdrawal *)task;
	op->found = find_by(db, by_id, op->key[0], &op->row) || find_by(db, COLUMNS "w.payout_id = ?", op->key[1], &op->row) ||
	            find_by(db, COLUMNS "w.transfer_id = ?", op->key[2], &op->row);
}

void store_withdrawal_find(struct store *store, struct str id, struct str payout_id, struct str transfer_id,
                           store_withdrawal_fn done, void *user)
{
	struct op_withdrawal *op = new_op(OP_TASK_READ, deliver_row, user);
	op->task.read = read_found;
	op->row_done = done;
	str_copy(id, op->key[0], sizeof op->key[0]);
	str_copy(payout_id, op->key[1], sizeof op->key[1]);
	str_copy(transfer_id, op->key[2], sizeof op->key[2]);
	journal_submit(store->journal, &op->task.op);
}

static void read_rows(struct sql *db, struct op_task *task)
{
	struct op_withdrawal *op = (struct op_withdrawal *)task;
	struct sql_stmt *stmt;
	op->rows = malloc(STORE_WITHDRAWALS_MAX * sizeof *op->rows);
	if (!op->rows) {
		sql_fail(db, DB_E_NOMEM, "There is no memory for the rows of a query.");
		return;
	}
	if (op->by_time) {
		/* Nothing is put off for so long: the clock was ahead when it was. */
		int64_t too_far_us = op->at_us < INT64_MAX - LONGEST_WAIT_US ? op->at_us + LONGEST_WAIT_US : INT64_MAX;
		stmt = sql_say(db, COLUMNS "w.status IN ('pending', 'transferred', 'submitted', 'reversing') AND"
		                           " (w.next_attempt_us <= ?1 OR w.next_attempt_us > ?3) ORDER BY w.next_attempt_us LIMIT ?2");
		sql_put_i64(stmt, 1, op->at_us);
		sql_put_i64(stmt, 3, too_far_us);
	} else {
		stmt = sql_say(db, COLUMNS "a.id = ? ORDER BY w.created_us DESC, w.id LIMIT ?");
		sql_put_text(stmt, 1, op->key[0]);
	}
	sql_put_i64(stmt, 2, op->limit);
	while (sql_row(stmt))
		if (op->count < STORE_WITHDRAWALS_MAX)
			read_row(stmt, &op->rows[op->count++]);
}

static struct op_withdrawal *new_list(store_withdrawals_fn done, uint32_t limit, void *user)
{
	struct op_withdrawal *op = new_op(OP_TASK_READ, deliver_rows, user);
	op->task.read = read_rows;
	op->rows_done = done;
	op->limit = limit < 1 ? 1 : limit > STORE_WITHDRAWALS_MAX ? STORE_WITHDRAWALS_MAX : limit;
	return op;
}

void store_withdrawals_list(struct store *store, struct str account_id, uint32_t limit, store_withdrawals_fn done, void *user)
{
	struct op_withdrawal *op = new_list(done, limit, user);
	str_copy(account_id, op->key[0], sizeof op->key[0]);
	journal_submit(store->journal, &op->task.op);
}

void store_withdrawals_due(struct store *store, int64_t now_us, store_withdrawals_fn done, void *user)
{
	struct op_withdrawal *op = new_list(done, 20, user);
	op->by_time = true;
	op->at_us = now_us;
	journal_submit(store->journal, &op->task.op);
}

/* --- connected accounts --- */

static void deliver_connect(struct store_op *op)
{
	struct op_withdrawal *w = (struct op_withdrawal *)op;
	w->connect_done(w->found && !op->failed ? &w->connect : NULL, op_error(op), op->user);
}

static void read_connect(struct sql *db, struct op_task *task)
{
	struct op_withdrawal *op = (struct op_withdrawal *)task;
	struct sql_stmt *stmt = sql_say(
	    db,
	    "SELECT a.id, c.stripe_account, c.status, c.country, c.destination_type, c.destination_last4, c.instant_eligible,"
	    " c.payee"
	    " FROM connect_accounts c JOIN accounts a ON a.ref = c.account WHERE a.id = ?1 OR (?1 = '' AND c.stripe_account = ?2)");
	sql_put_text(stmt, 1, op->key[0]);
	sql_put_text(stmt, 2, op->key[1]);
	op->found = sql_row(stmt);
	if (!op->found)
		return;
	op->connect = (struct store_connect){.instant_eligible = sql_i64(stmt, 6) != 0};
	sql_copy(stmt, 0, op->connect.account_id, sizeof op->connect.account_id);
	sql_copy(stmt, 1, op->connect.stripe_account, sizeof op->connect.stripe_account);
	sql_copy(stmt, 2, op->connect.status, sizeof op->connect.status);
	sql_copy(stmt, 3, op->connect.country, sizeof op->connect.country);
	sql_copy(stmt, 4, op->connect.destination_type, sizeof op->connect.destination_type);
	sql_copy(stmt, 5, op->connect.destination_last4, sizeof op->connect.destination_last4);
	sql_copy(stmt, 7, op->connect.payee, sizeof op->connect.payee);
	sql_done(stmt);
}

void store_connect_get(struct store *store, struct str account_id, struct str stripe_account, store_connect_fn done, void *user)
{
	struct op_withdrawal *op = new_op(OP_TASK_READ, deliver_connect, user);
	op->task.read = read_connect;
	op->connect_done = done;
	str_copy(account_id, op->key[0], sizeof op->key[0]);
	str_copy(stripe_account, op->key[1], sizeof op->key[1]);
	journal_submit(store->journal, &op->task.op);
}

static void write_connect(struct book *book, struct op_task *task)
{
	struct op_withdrawal *op = (struct op_withdrawal *)task;
	struct book_account *account = book_account(book, op->connect.account_id);
	if (!account) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no account %s.", op->connect.account_id);
		return;
	}
	struct sql_stmt *stmt = sql_say(
	    book->db, "INSERT INTO connect_accounts (account, stripe_account, status, country, destination_type, destination_last4,"
	              " instant_eligible, updated_us, payee) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET"
	              " stripe_account = excluded.stripe_account, status = excluded.status, country = excluded.country,"
	              " destination_type = excluded.destination_type, destination_last4 = excluded.destination_last4,"
	              " instant_eligible = excluded.instant_eligible, updated_us = excluded.updated_us,"
	              " payee = excluded.payee");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_text(stmt, 2, op->connect.stripe_account);
	sql_put_text(stmt, 3, op->connect.status);
	sql_put_text(stmt, 4, op->connect.country);
	sql_put_text(stmt, 5, op->connect.destination_type);
	sql_put_text(stmt, 6, op->connect.destination_last4);
	sql_put_i64(stmt, 7, op->connect.instant_eligible);
	sql_put_i64(stmt, 8, clock_wall_us());
	sql_put_text(stmt, 9, op->connect.payee);
	sql_run(stmt);
}

static bool note_connect(const struct op_task *task, struct trail_note *note)
{
	const struct op_withdrawal *op = (const struct op_withdrawal *)task;
	note->action = "payouts.account";
	note->account_id = op->connect.account_id;
	trail_subject(note, "%s", op->connect.account_id);
	trail_text(note, "stripe_account", op->connect.stripe_account);
	trail_text(note, "status", op->connect.status);
	return true;
}

void store_connect_set(struct store *store, const struct store_connect *connect, store_done_fn done, void *user)
{
	struct op_withdrawal *op = new_op(OP_TASK_WRITE, deliver_done, user);
	op->task.write = write_connect;
	op->task.note = note_connect;
	op->done = done;
	op->connect = *connect;
	journal_submit(store->journal, &op->task.op);
}
