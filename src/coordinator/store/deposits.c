/* Deposits: their rows and what they do to the ledger. */
#include "coordinator/store/store_deposits.h"

#include <stdio.h>

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

struct op_deposit {
	struct op_task task;
	store_done_fn done;
	store_deposit_fn found_done;
	store_deposit_event_fn event_done;
	struct store_deposit_name name;
	struct store_deposit deposit; /* in and out */
	bool found;
	struct store_deposit_event event;
	int64_t moved;
};

static struct op_deposit *new_op(enum op_kind kind, void (*deliver)(struct store_op *op), void *user)
{
	return store_new_op(sizeof(struct op_deposit), kind, deliver, user);
}

static void deliver_done(struct store_op *op)
{
	struct op_deposit *deposit = (struct op_deposit *)op;
	deposit->done(op_error(op), op->user);
}

/* --- rows --- */

struct row {
	int64_t refunded, disputed, disputed_s;
	struct store_deposit d;
};

#define COLUMNS                                                                                                                \
	"d.id, a.id, d.amount, d.status, d.external_id, d.payment_intent, d.referral_code, d.reversed, d.lost, d.created_us,"      \
	" d.completed_us, d.refunded, d.disputed, d.disputed_s FROM deposits d JOIN accounts a ON a.ref = d.account WHERE "

static bool read_row(struct sql_stmt *stmt, struct row *row)
{
	if (!sql_row(stmt))
		return false;
	*row = (struct row){.refunded = sql_i64(stmt, 11), .disputed = sql_i64(stmt, 12), .disputed_s = sql_i64(stmt, 13)};
	row->d = (struct store_deposit){.amount_uusd = sql_i64(stmt, 2),
	                                .reversed_uusd = sql_i64(stmt, 7),
	                                .lost_uusd = sql_i64(stmt, 8),
	                                .created_us = sql_i64(stmt, 9),
	                                .completed_us = sql_i64(stmt, 10)};
	sql_copy(stmt, 0, row->d.id, sizeof row->d.id);
	sql_copy(stmt, 1, row->d.account_id, sizeof row->d.account_id);
	sql_copy(stmt, 3, row->d.status, sizeof row->d.status);
	sql_copy(stmt, 4, row->d.external_id, sizeof row->d.external_id);
	sql_copy(stmt, 5, row->d.payment_intent, sizeof row->d.payment_intent);
	sql_copy(stmt, 6, row->d.referral_code, sizeof row->d.referral_code);
	sql_done(stmt);
	return true;
}

static bool find_row(struct sql *db, const struct store_deposit_name *name, struct row *row)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT " COLUMNS "d.id = ?");
	sql_put_text(stmt, 1, name->id);
	if (name->id[0] && read_row(stmt, row))
		return true;
	stmt = sql_say(db, "SELECT " COLUMNS "d.external_id = ?");
	sql_put_text(stmt, 1, name->external_id);
	if (name->external_id[0] && read_row(stmt, row))
		return true;
	stmt = sql_say(db, "SELECT " COLUMNS "d.payment_intent = ?");
	sql_put_text(stmt, 1, name->payment_intent);
	return name->payment_intent[0] && read_row(stmt, row);
}

/* --- create, name, find --- */

static void write_deposit(struct book *book, struct op_task *task)
{
	struct op_deposit *op = (struct op_deposit *)task;
	struct book_account *account = book_account(book, op->deposit.account_id);
	if (!account || op->deposit.amount_uusd <= 0) {
		op_fail(&task->op, account ? DB_E_INVALID : DB_E_NOT_FOUND, "There is no account %s for a deposit.",
		        op->deposit.account_id);
		return;
	}
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO deposits (id, account, amount, status, referral_code, created_us)"
	                                          " VALUES (?, ?, ?, 'pending', ?, ?)");
	sql_put_text(stmt, 1, op->deposit.id);
	sql_put_i64(stmt, 2, account->ref);
	sql_put_i64(stmt, 3, op->deposit.amount_uusd);
	sql_put_text(stmt, 4, op->deposit.referral_code);
	sql_put_i64(stmt, 5, clock_wall_us());
	sql_run(stmt);
}

static bool note_deposit(const struct op_task *task, struct trail_note *note)
{
	const struct op_deposit *op = (const struct op_deposit *)task;
	note->action = "deposit.create";
	note->account_id = op->deposit.account_id;
	trail_subject(note, "%s", op->deposit.id);
	trail_number(note, "amount_micro_usd", op->deposit.amount_uusd);
	return true;
}

void store_deposit_create(struct store *store, const struct store_deposit *deposit, store_done_fn done, void *user)
{
	struct op_deposit *op = new_op(OP_TASK_WRITE, deliver_done, user);
	op->task.write = write_deposit;
	op->task.note = note_deposit;
	op->done = done;
	op->deposit = *deposit;
	journal_submit(store->journal, &op->task.op);
}

static void write_external(struct book *book, struct op_task *task)
{
	struct op_deposit *op = (struct op_deposit *)task;
	struct sql_stmt *stmt = sql_say(book->db, "UPDATE deposits SET external_id = ? WHERE id = ? AND external_id = ''");
	sql_put_text(stmt, 1, op->name.external_id);
	sql_put_text(stmt, 2, op->name.id);
	sql_run(stmt);
}

void store_deposit_set_external(struct store *store, struct str id, struct str external_id, store_done_fn done, void *user)
{
	struct op_deposit *op = new_op(OP_TASK_WRITE, deliver_done, user);
	op->task.write = write_external;
	op->done = done;
	str_copy(id, op->name.id, sizeof op->name.id);
	str_copy(external_id, op->name.external_id, sizeof op->name.external_id);
	journal_submit(store->journal, &op->task.op);
}

static void deliver_found(struct store_op *op)
{
	struct op_deposit *deposit = (struct op_deposit *)op;
	deposit->found_done(deposit->found && !op->failed ? &deposit->deposit : NULL, op_error(op), op->user);
}

static void read_found(struct sql *db, struct op_task *task)
{
	struct op_deposit *op = (struct op_deposit *)task;
	struct row row;
	op->found = find_row(db, &op->name, &row);
	if (op->found)
		op->deposit = row.d;
}

void store_deposit_find(struct store *store, const struct store_deposit_name *name, store_deposit_fn done, void *user)
{
	struct op_deposit *op = new_op(OP_TASK_READ, deliver_found, user);
	op->task.read = read_found;
	op->found_done = done;
	op->name = *name;
	journal_submit(store->journal, &op->task.op);
}

/* --- what Stripe tells --- */

static bool note_event(struct sql *db, const struct store_deposit_event *event)
{
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO webhook_events (source, event_id, type, received_us)"
	                                    " VALUES ('stripe', ?, ?, ?) ON CONFLICT DO NOTHING");
	sql_put_text(stmt, 1, event->event_id);
	sql_put_text(stmt, 2, event->type);
	sql_put_i64(stmt, 3, clock_wall_us());
	return sql_run(stmt) && sql_changes(db) == 1;
}

static void move(struct book *book, const char *type, const char *prefix, const struct op_deposit *op,
                 struct book_account *from, struct book_account *to, int64_t amount)
{
	struct store_transfer transfer = {.amount_uusd = amount};
	if (amount <= 0)
		return;
	snprintf(transfer.key, sizeof transfer.key, "%s:%.70s", prefix, op->event.event_id);
	str_copy(str_of(type), transfer.type, sizeof transfer.type);
	snprintf(transfer.reference, sizeof transfer.reference, "stripe:%.110s", op->deposit.id);
	if (!book_transfer(book, &transfer, from, to) && !book->db->failed)
		sql_fail(book->db, DB_E_INTERNAL, "A movement of a deposit was made before its event was noted.");
}

/* What the account may lose: its balance without what open requests hold. */
static int64_t free_balance(struct book *book, const struct book_account *account)
{
	int64_t left = book_spendable(account);
	size_t cursor = 0;
	const struct book_hold *hold;
	while ((hold = map_next(&book->holds, &cursor)))
		if (hold->account == account->ref && (!book->instance || !hold->row))
			left -= hold->facts.amount_uusd;
	if (book->instance) { /* memory has no holds but those of this group */
		struct sql_stmt *stmt = sql_say(book->db, "SELECT coalesce(sum(amount), 0) FROM holds WHERE state = 'open'"
		                                          " AND account = ? AND instance = ?");
		sql_put_i64(stmt, 1, account->ref);
		sql_put_i64(stmt, 2, book->instance);
		left -= sql_number(stmt);
	}
	return left > 0 ? left : 0;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

struct parties {
	struct book_account *account, *stripe, *grants;
};

/* Takes back, or gives back, until what is taken is what Stripe gave back. What was spent already is the operator's loss. */
static void follow_reversals(struct book *book, struct op_deposit *op, const struct parties *who, struct row *row)
{
	int64_t target = least(row->d.amount_uusd, row->refunded + row->disputed);
	int64_t delta = target - row->d.reversed_uusd - row->d.lost_uusd;
	if (delta > 0) {
		int64_t taken = least(delta, free_balance(book, who->account));
		move(book, "stripe_refund", "back", op, who->account, who->stripe, taken);
		move(book, "stripe_loss", "lost", op, who->grants, who->stripe, delta - taken);
		row->d.reversed_uusd += taken;
		row->d.lost_uusd += delta - taken;
		op->moved -= taken;
	} else if (delta < 0) {
		int64_t to_operator = least(-delta, row->d.lost_uusd), to_account = -delta - to_operator;
		move(book, "stripe_loss", "found", op, who->stripe, who->grants, to_operator);
		move(book, "stripe_reinstated", "again", op, who->stripe, who->account, to_account);
		row->d.lost_uusd -= to_operator;
		row->d.reversed_uusd -= to_account;
		op->moved += to_account;
	}
}

static void take_news(struct row *row, const struct store_deposit_event *event, bool *paid)
{
	bool is_news = event->created_s >= row->disputed_s;
	switch (event->news) {
	case STORE_DEPOSIT_PAID:
		*paid = strcmp(row->d.status, "completed") != 0;
		break;
	case STORE_DEPOSIT_EXPIRED:
		if (strcmp(row->d.status, "pending") == 0)
			snprintf(row->d.status, sizeof row->d.status, "expired");
		break;
	case STORE_DEPOSIT_REFUNDED:
		if (event->amount_uusd > row->refunded)
			row->refunded = event->amount_uusd;
		break;
	case STORE_DEPOSIT_DISPUTED:
	case STORE_DEPOSIT_REINSTATED:
		if (is_news) {
			row->disputed = event->news == STORE_DEPOSIT_DISPUTED ? event->amount_uusd : 0;
			row->disputed_s = event->created_s;
		}
		break;
	}
	if (!row->d.payment_intent[0])
		memcpy(row->d.payment_intent, event->payment_intent, sizeof row->d.payment_intent);
}

static void write_row(struct sql *db, const struct row *row)
{
	struct sql_stmt *stmt =
	    sql_say(db, "UPDATE deposits SET status = ?2, payment_intent = ?3, refunded = ?4, disputed = ?5, disputed_s = ?6,"
	                " reversed = ?7, lost = ?8, completed_us = ?9 WHERE id = ?1");
	sql_put_text(stmt, 1, row->d.id);
	sql_put_text(stmt, 2, row->d.status);
	sql_put_text(stmt, 3, row->d.payment_intent);
	sql_put_i64(stmt, 4, row->refunded);
	sql_put_i64(stmt, 5, row->disputed);
	sql_put_i64(stmt, 6, row->disputed_s);
	sql_put_i64(stmt, 7, row->d.reversed_uusd);
	sql_put_i64(stmt, 8, row->d.lost_uusd);
	sql_put_i64(stmt, 9, row->d.completed_us);
	sql_run(stmt);
}

static void write_event(struct book *book, struct op_task *task)
{
	struct op_deposit *op = (struct op_deposit *)task;
	struct store_deposit_name name = {0};
	struct row row;
	bool paid = false;
	op->moved = 0;
	memcpy(name.id, op->event.deposit_id, sizeof op->event.deposit_id);
	if (!find_row(book->db, &name, &row)) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no deposit %s.", op->event.deposit_id);
		return;
	}
	op->deposit = row.d;
	struct parties who = {book_account(book, row.d.account_id), book_account(book, STORE_ACCOUNT_STRIPE),
	                      book_account(book, STORE_ACCOUNT_GRANTS)};
	if (!who.account || !who.stripe || !who.grants) {
		op_fail(&task->op, DB_E_NOT_FOUND, "An account of the deposit %s does not exist.", row.d.id);
		return;
	}
	if (op->event.news == STORE_DEPOSIT_PAID && op->event.amount_uusd != row.d.amount_uusd) {
		op_fail(&task->op, DB_E_INVALID, "The deposit %s is of another amount than what was paid.", row.d.id);
		return;
	}
	if (!note_event(book->db, &op->event))
		return; /* told before */
	take_news(&row, &op->event, &paid);
	if (paid) {
		move(book, "stripe_deposit", "paid", op, who.stripe, who.account, row.d.amount_uusd);
		snprintf(row.d.status, sizeof row.d.status, "completed");
		row.d.completed_us = clock_wall_us();
		op->moved += row.d.amount_uusd;
	}
	if (strcmp(row.d.status, "completed") == 0)
		follow_reversals(book, op, &who, &row);
	write_row(book->db, &row);
}

static bool note_news(const struct op_task *task, struct trail_note *note)
{
	static const char *const actions[] = {"deposit.paid", "deposit.expired", "deposit.refunded", "deposit.disputed",
	                                      "deposit.reinstated"};
	const struct op_deposit *op = (const struct op_deposit *)task;
	note->action = actions[op->event.news];
	trail_subject(note, "%s", op->event.deposit_id);
	trail_text(note, "account", op->deposit.account_id);
	trail_text(note, "event", op->event.event_id);
	trail_number(note, "moved_micro_usd", op->moved);
	return op->moved != 0;
}

static void deliver_event(struct store_op *op)
{
	struct op_deposit *deposit = (struct op_deposit *)op;
	deposit->event_done(op->failed ? 0 : deposit->moved, op_error(op), op->user);
}

void store_deposit_apply(struct store *store, const struct store_deposit_event *event, store_deposit_event_fn done, void *user)
{
	struct op_deposit *op = new_op(OP_TASK_WRITE, deliver_event, user);
	op->task.write = write_event;
	op->task.note = note_news;
	op->event_done = done;
	op->event = *event;
	journal_submit(store->journal, &op->task.op);
}
