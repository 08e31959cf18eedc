/* Base rewards: their rows, and the movement that each draw is. */
#include "coordinator/store/store_rewards.h"

#include <stdio.h>
#include <stdlib.h>

#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

#define LISTED_MAX 1000

struct op_reward {
	struct op_task task;
	store_epoch_fn epoch_done;
	store_draws_fn draws_done;
	int64_t epoch_us, period_us, slack_us, machines, skipped;
	struct store_draw_limits limits;
	struct store_epoch epoch; /* out; its rows are `rows` */
	void *rows;               /* owned: struct store_stretch or struct store_reward */
	size_t count, room;
	int64_t given[STORE_DRAWS_MAX];
};

static void dispose(struct op_task *task)
{
	free(((struct op_reward *)task)->rows);
}

static struct op_reward *new_op(enum op_kind kind, void (*deliver)(struct store_op *op), void *user)
{
	struct op_reward *op = store_new_op(sizeof *op, kind, deliver, user);
	op->task.dispose = dispose;
	return op;
}

/* False, with the store's failure noted, without memory. */
static bool copy_rows(struct op_reward *op, const void *rows, size_t count, size_t size)
{
	op->rows = malloc(count * size);
	if (!op->rows)
		return false;
	memcpy(op->rows, rows, count * size);
	op->count = count;
	return true;
}

/* --- stretches --- */

static void write_stretches(struct book *book, struct op_task *task)
{
	const struct op_reward *op = (const struct op_reward *)task;
	const struct store_stretch *rows = op->rows;
	for (size_t i = 0; i < op->count; i++) {
		const struct book_account *account = book_account(book, rows[i].account_id);
		if (!account)
			continue;
		struct sql_stmt *stmt =
		    sql_say(book->db,
		            "INSERT INTO reward_stretches (device, provider_key, account, model, memory_gb, from_us, seen_us,"
		            " ended_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device, from_us) DO UPDATE SET seen_us = CASE WHEN"
		            " excluded.seen_us > reward_stretches.seen_us THEN excluded.seen_us ELSE"
		            " reward_stretches.seen_us END, ended_us = excluded.ended_us");
		sql_put_text(stmt, 1, rows[i].device);
		sql_put_text(stmt, 2, rows[i].provider_key);
		sql_put_i64(stmt, 3, account->ref);
		sql_put_text(stmt, 4, rows[i].model);
		sql_put_i64(stmt, 5, rows[i].memory_gb);
		sql_put_i64(stmt, 6, rows[i].from_us);
		sql_put_i64(stmt, 7, rows[i].seen_us);
		sql_put_i64_or_null(stmt, 8, rows[i].ended_us);
		sql_post(stmt);
	}
}

void store_stretches_put(struct store *store, const struct store_stretch *rows, size_t count)
{
	struct op_reward *op = new_op(OP_TASK_WRITE, NULL, NULL);
	op->task.write = write_stretches;
	if (count > 0 && copy_rows(op, rows, count, sizeof *rows))
		journal_submit(store->journal, &op->task.op);
	else
		op_free(&op->task.op);
}

/* --- what a period has to be settled --- */

static struct store_reward *new_row(struct sql *db, struct op_reward *op)
{
	struct store_reward *rows = op->rows;
	if (op->count == op->room) {
		size_t room = op->room ? op->room * 2 : 64;
		rows = realloc(rows, room * sizeof *rows);
		if (!rows) {
			sql_fail(db, DB_E_NOMEM, "There is no memory for the machines of a period.");
			return NULL;
		}
		op->rows = rows;
		op->room = room;
	}
	struct store_reward *row = &rows[op->count++];
	*row = (struct store_reward){0};
	return row;
}

/* Rows come by device and then by time: what the stretch adds to what those before it cover. */
static void add_stretch(struct store_reward *row, int64_t from_us, int64_t to_us)
{
	if (from_us < row->machine.seen_us)
		from_us = row->machine.seen_us;
	if (to_us <= from_us)
		return;
	row->uptime_us += to_us - from_us;
	row->machine.seen_us = to_us;
}

static void read_stretches(struct sql *db, struct op_reward *op)
{
	struct store_reward *row = NULL;
	int64_t end_us = op->epoch_us + op->period_us;
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT s.device, s.provider_key, a.id, s.model, s.memory_gb, s.from_us, s.seen_us, s.ended_us,"
	                " coalesce(c.payee, '') FROM reward_stretches s"
	                " JOIN accounts a ON a.ref = s.account LEFT JOIN connect_accounts c ON c.account = s.account WHERE "
	                "s.seen_us > ?1 AND s.from_us < ?2 AND NOT EXISTS"
	                " (SELECT 1 FROM provider_floor_draws d WHERE d.epoch_us = ?3 AND"
	                " (d.device = s.device OR d.provider_key = s.provider_key)) ORDER BY s.device, s.from_us");
	sql_put_i64(stmt, 1, op->epoch_us - op->slack_us);
	sql_put_i64(stmt, 2, end_us);
	sql_put_i64(stmt, 3, op->epoch_us);
	while (sql_row(stmt)) {
		int64_t from_us = sql_i64(stmt, 5), to_us = sql_i64(stmt, 6) + op->slack_us;
		if (!sql_is_null(stmt, 7) && sql_i64(stmt, 7) < to_us)
			to_us = sql_i64(stmt, 7);
		if (!row || !str_eq(sql_text(stmt, 0), str_of(row->machine.device)))
			row = new_row(db, op);
		if (!row)
			break;
		sql_copy(stmt, 0, row->machine.device, sizeof row->machine.device);
		sql_copy(stmt, 1, row->machine.provider_key, sizeof row->machine.provider_key);
		sql_copy(stmt, 2, row->machine.account_id, sizeof row->machine.account_id);
		sql_copy(stmt, 3, row->machine.model, sizeof row->machine.model);
		row->machine.memory_gb = sql_i64(stmt, 4);
		sql_copy(stmt, sql_text(stmt, 8).len > 0 ? 8 : 2, row->payee, sizeof row->payee);
		add_stretch(row, from_us > op->epoch_us ? from_us : op->epoch_us, to_us < end_us ? to_us : end_us);
	}
	sql_done(stmt);
}

static int by_key(const void *one, const void *other)
{
	const struct store_reward *a = one, *b = other;
	return strcmp(a->machine.provider_key, b->machine.provider_key);
}

static void read_earned(struct sql *db, struct op_reward *op)
{
	struct store_reward *rows = op->rows;
	if (op->count == 0)
		return;
	qsort(rows, op->count, sizeof *rows, by_key);
	struct sql_stmt *stmt = sql_say(db, "SELECT provider_key, sum(amount) FROM earnings WHERE id > ? AND created_us >= ? AND"
	                                    " created_us < ? AND model <> 'base_reward' GROUP BY provider_key");
	sql_put_i64(stmt, 1, login_earnings_since(db, op->epoch_us));
	sql_put_i64(stmt, 2, op->epoch_us);
	sql_put_i64(stmt, 3, op->epoch_us + op->period_us);
	while (sql_row(stmt)) {
		struct store_reward wanted;
		sql_copy(stmt, 0, wanted.machine.provider_key, sizeof wanted.machine.provider_key);
		struct store_reward *row = bsearch(&wanted, rows, op->count, sizeof *rows, by_key);
		if (row)
			row->earned_uusd = sql_i64(stmt, 1);
	}
}

static int64_t drawn(struct sql *db, int64_t epoch_us)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT coalesce(sum(amount), 0) FROM provider_floor_draws WHERE epoch_us = ?");
	sql_put_i64(stmt, 1, epoch_us);
	return sql_number(stmt);
}

/* By the account and by those whom Stripe pays at the same place. */
static int64_t drawn_by(struct sql *db, int64_t epoch_us, const char *account_id)
{
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT coalesce(sum(amount), 0) FROM provider_floor_draws WHERE epoch_us = ?2 AND account IN"
	                " (SELECT ref FROM accounts WHERE id = ?1 UNION SELECT other.account FROM accounts a"
	                " JOIN connect_accounts mine ON mine.account = a.ref JOIN connect_accounts other"
	                " ON other.payee = mine.payee WHERE a.id = ?1 AND mine.payee <> '')");
	sql_put_text(stmt, 1, account_id);
	sql_put_i64(stmt, 2, epoch_us);
	return sql_number(stmt);
}

static void read_epoch(struct sql *db, struct op_task *task)
{
	struct op_reward *op = (struct op_reward *)task;
	struct store_reward *rows;
	op->epoch.used_uusd = drawn(db, op->epoch_us);
	read_stretches(db, op);
	read_earned(db, op);
	rows = op->rows;
	for (size_t i = 0; i < op->count && op->epoch.used_uusd > 0; i++)
		rows[i].payee_has_uusd = drawn_by(db, op->epoch_us, rows[i].machine.account_id);
}

static void deliver_epoch(struct store_op *op)
{
	struct op_reward *reward = (struct op_reward *)op;
	reward->epoch.epoch_us = reward->epoch_us;
	reward->epoch.rows = reward->rows;
	reward->epoch.count = reward->count;
	reward->epoch_done(op->failed ? NULL : &reward->epoch, op_error(op), op->user);
}

void store_epoch_read(struct store *store, int64_t epoch_us, int64_t period_us, int64_t slack_us, store_epoch_fn done,
                      void *user)
{
	struct op_reward *op = new_op(OP_TASK_READ, deliver_epoch, user);
	op->task.read = read_epoch;
	op->epoch_done = done;
	op->epoch_us = epoch_us;
	op->period_us = period_us;
	op->slack_us = slack_us;
	journal_submit(store->journal, &op->task.op);
}

/* --- draws --- */

/* False when the machine has one for this period already. */
static bool insert_draw(struct sql *db, const struct op_reward *op, const struct store_reward *row, int64_t account,
                        int64_t amount)
{
	struct sql_stmt *stmt = sql_say(
	    db, "INSERT INTO provider_floor_draws (epoch_us, device, provider_key, account, amount, floor, earned, uptime_us,"
	        " memory_gb, created_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING");
	sql_put_i64(stmt, 1, op->epoch_us);
	sql_put_text(stmt, 2, row->machine.device);
	sql_put_text(stmt, 3, row->machine.provider_key);
	sql_put_i64(stmt, 4, account);
	sql_put_i64(stmt, 5, amount);
	sql_put_i64(stmt, 6, row->floor_uusd);
	sql_put_i64(stmt, 7, row->earned_uusd);
	sql_put_i64(stmt, 8, row->uptime_us);
	sql_put_i64(stmt, 9, row->memory_gb);
	sql_put_i64(stmt, 10, clock_wall_us());
	return sql_run(stmt) && sql_changes(db) == 1;
}

static void pay_draw(struct book *book, const struct op_reward *op, const struct store_reward *row,
                     struct book_account *account, int64_t amount)
{
	struct store_transfer transfer = {.type = "provider_floor_draw", .amount_uusd = amount, .withdrawable = true};
	struct book_account *rewards = book_account(book, STORE_ACCOUNT_REWARDS);
	char when[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(op->epoch_us, when);
	snprintf(transfer.key, sizeof transfer.key, "floor:%lld:%.50s", (long long)(op->epoch_us / 1000000),
	         row->machine.provider_key);
	snprintf(transfer.reference, sizeof transfer.reference, "%.16sZ", when); /* the period's name */
	if (!rewards || !book_transfer(book, &transfer, rewards, account)) {
		sql_fail(book->db, DB_E_INTERNAL, "A base reward was paid before it was noted.");
		return;
	}
	book_write_reward(book, account, row->machine.provider_key, amount);
}

/* What others drew since the amounts were worked out counts too. */
static int64_t cut(struct sql *db, const struct op_reward *op, const struct store_reward *row, int64_t left)
{
	int64_t amount = row->amount_uusd;
	if (op->limits.account_uusd >= 0 && amount > 0) {
		int64_t room = op->limits.account_uusd - drawn_by(db, op->epoch_us, row->machine.account_id);
		left = left < room ? left : room;
	}
	return amount < left ? amount : left > 0 ? left : 0;
}

static void write_draws(struct book *book, struct op_task *task)
{
	struct op_reward *op = (struct op_reward *)task;
	const struct store_reward *rows = op->rows;
	int64_t left = op->limits.pool_uusd - drawn(book->db, op->epoch_us);
	for (size_t i = 0; i < op->count && !book->db->failed; i++) {
		struct book_account *account = book_account(book, rows[i].machine.account_id);
		int64_t amount = cut(book->db, op, &rows[i], left);
		op->given[i] = 0;
		if (!account || !insert_draw(book->db, op, &rows[i], account->ref, amount))
			continue;
		if (amount > 0)
			pay_draw(book, op, &rows[i], account, amount);
		op->given[i] = amount;
		left -= amount;
	}
}

static bool note_draws(const struct op_task *task, struct trail_note *note)
{
	const struct op_reward *op = (const struct op_reward *)task;
	int64_t sum = 0;
	for (size_t i = 0; i < op->count; i++)
		sum += op->given[i];
	note->action = "reward.draw";
	trail_subject(note, "%s", STORE_ACCOUNT_REWARDS);
	trail_number(note, "epoch_us", op->epoch_us);
	trail_number(note, "machines", (int64_t)op->count);
	trail_number(note, "amount_micro_usd", sum);
	return sum > 0;
}

static void deliver_draws(struct store_op *op)
{
	struct op_reward *reward = (struct op_reward *)op;
	reward->draws_done(reward->given, op->failed ? 0 : reward->count, op_error(op), op->user);
}

void store_draws_write(struct store *store, int64_t epoch_us, const struct store_draw_limits *limits,
                       const struct store_reward *rows, size_t count, store_draws_fn done, void *user)
{
	struct op_reward *op = new_op(OP_TASK_WRITE, deliver_draws, user);
	op->task.write = write_draws;
	op->task.note = note_draws;
	op->draws_done = done;
	op->epoch_us = epoch_us;
	op->limits = *limits;
	if (count > 0 && !copy_rows(op, rows, count < STORE_DRAWS_MAX ? count : STORE_DRAWS_MAX, sizeof *rows))
		op->count = 0; /* nobody gets anything, and the period is tried again */
	journal_submit(store->journal, &op->task.op);
}

static void write_settled(struct book *book, struct op_task *task)
{
	const struct op_reward *op = (const struct op_reward *)task;
	struct sql_stmt *stmt =
	    sql_say(book->db, "INSERT INTO reward_epochs (epoch_us, pool, machines, skipped, settled_us) VALUES (?, ?, ?, ?, ?)"
	                      " ON CONFLICT (epoch_us) DO UPDATE SET machines = reward_epochs.machines + excluded.machines,"
	                      " skipped = excluded.skipped, settled_us = excluded.settled_us");
	sql_put_i64(stmt, 1, op->epoch_us);
	sql_put_i64(stmt, 2, op->limits.pool_uusd);
	sql_put_i64(stmt, 3, op->machines);
	sql_put_i64(stmt, 4, op->skipped);
	sql_put_i64(stmt, 5, clock_wall_us());
	sql_run(stmt);
}

void store_epoch_settled(struct store *store, int64_t epoch_us, int64_t pool_uusd, int64_t machines, int64_t skipped)
{
	struct op_reward *op = new_op(OP_TASK_WRITE, NULL, NULL);
	op->task.write = write_settled;
	op->epoch_us = epoch_us;
	op->limits.pool_uusd = pool_uusd;
	op->machines = machines;
	op->skipped = skipped;
	journal_submit(store->journal, &op->task.op);
}

/* --- the operator's view --- */

static void read_draws(struct sql *db, struct op_task *task)
{
	struct op_reward *op = (struct op_reward *)task;
	struct store_reward *row;
	struct sql_stmt *stmt = sql_say(db, "SELECT epoch_us, pool FROM reward_epochs ORDER BY epoch_us DESC LIMIT 1");
	if (!sql_row(stmt))
		return;
	op->epoch_us = sql_i64(stmt, 0);
	op->epoch.pool_uusd = sql_i64(stmt, 1);
	sql_done(stmt);
	op->epoch.used_uusd = drawn(db, op->epoch_us);
	stmt =
	    sql_say(db, "SELECT d.device, d.provider_key, a.id, d.amount, d.floor, d.earned, d.uptime_us, d.memory_gb FROM"
	                " provider_floor_draws d JOIN accounts a ON a.ref = d.account WHERE d.epoch_us = ? ORDER BY d.amount DESC,"
	                " d.provider_key LIMIT ?");
	sql_put_i64(stmt, 1, op->epoch_us);
	sql_put_i64(stmt, 2, LISTED_MAX);
	while (sql_row(stmt) && (row = new_row(db, op))) {
		sql_copy(stmt, 0, row->machine.device, sizeof row->machine.device);
		sql_copy(stmt, 1, row->machine.provider_key, sizeof row->machine.provider_key);
		sql_copy(stmt, 2, row->machine.account_id, sizeof row->machine.account_id);
		row->amount_uusd = sql_i64(stmt, 3);
		row->floor_uusd = sql_i64(stmt, 4);
		row->earned_uusd = sql_i64(stmt, 5);
		row->uptime_us = sql_i64(stmt, 6);
		row->memory_gb = sql_i64(stmt, 7);
	}
	sql_done(stmt);
}

void store_draws_list(struct store *store, store_epoch_fn done, void *user)
{
	struct op_reward *op = new_op(OP_TASK_READ, deliver_epoch, user);
	op->task.read = read_draws;
	op->epoch_done = done;
	journal_submit(store->journal, &op->task.op);
}
