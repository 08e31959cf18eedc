/* Rows that are old enough go, a few at a time. */
#include "coordinator/store/store_retention.h"

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"

#define DAY_US INT64_C(86400000000)

struct op_sweep {
	struct op_task task;
	store_swept_fn done;
	struct store_retention retention;
	int64_t moved, usage;
	bool more;
};

static void count_gone(struct sql *db, struct op_sweep *op, struct sql_stmt *stmt)
{
	if (!sql_run(stmt))
		return;
	op->moved += sql_changes(db);
	op->more |= sql_changes(db) >= op->retention.rows;
}

static void drop_webhooks(struct sql *db, struct op_sweep *op)
{
	struct sql_stmt *stmt = sql_say(db, "DELETE FROM webhook_events WHERE (source, event_id) IN (SELECT source, event_id FROM"
	                                    " webhook_events WHERE received_us < ? ORDER BY received_us LIMIT ?)");
	sql_put_i64(stmt, 1, op->retention.webhooks_before_us);
	sql_put_i64(stmt, 2, op->retention.rows);
	count_gone(db, op, stmt);
}

static void drop_sessions(struct sql *db, struct op_sweep *op)
{
	struct sql_stmt *stmt = sql_say(db, "DELETE FROM reward_stretches WHERE id IN (SELECT id FROM reward_stretches WHERE"
	                                    " seen_us < ? ORDER BY seen_us LIMIT ?)");
	sql_put_i64(stmt, 1, op->retention.sessions_before_us);
	sql_put_i64(stmt, 2, op->retention.rows);
	count_gone(db, op, stmt);
}

/* --- usage --- */

/* The oldest rows, of one month, none of which is in a period of the ledger that is still open. */
struct old_usage {
	int64_t first, last; /* ids */
	int64_t month, until_day;
};

static bool find_old(struct sql *db, const struct store_retention *retention, struct old_usage *out)
{
	int64_t created_us = 0;
	struct sql_stmt *stmt = sql_say(db, "SELECT id, created_us FROM usage ORDER BY id LIMIT 1");
	if (!sql_row(stmt))
		return false;
	out->first = sql_i64(stmt, 0);
	created_us = sql_i64(stmt, 1);
	sql_done(stmt);
	out->month = clock_month_start(clock_day(created_us));
	out->until_day = clock_month_start(out->month + 31);
	if (out->until_day * DAY_US > retention->usage_before_us)
		return false;
	stmt = sql_say(db, "SELECT max(id) FROM (SELECT id FROM usage ORDER BY id LIMIT ?) oldest");
	sql_put_i64(stmt, 1, retention->rows);
	out->last = sql_number(stmt);
	return !db->failed;
}

static bool is_closed(struct sql *db, const struct old_usage *old)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT 1 FROM holds WHERE id BETWEEN ? AND ? AND entry > (SELECT"
	                                    " coalesce(max(last_entry), 0) FROM ledger_closes) LIMIT 1");
	sql_put_i64(stmt, 1, old->first);
	sql_put_i64(stmt, 2, old->last);
	return !sql_exists(stmt);
}

static void roll_up(struct sql *db, struct op_sweep *op)
{
	struct old_usage old;
	if (!find_old(db, &op->retention, &old) || !is_closed(db, &old))
		return;
	struct sql_stmt *stmt =
	    sql_say(db, "INSERT INTO usage_months AS m (account, month, until_day, model, key_id, requests, charged, prompt_tokens,"
	                " cached_tokens, completion_tokens, reasoning_tokens, cost, fee) SELECT account, CAST(?1 AS BIGINT), "
	                "CAST(?2 AS BIGINT), model, key_id,"
	                " count(*), sum(CASE WHEN cost > 0 THEN 1 ELSE 0 END), sum(prompt_tokens), sum(cached_tokens),"
	                " sum(completion_tokens), sum(reasoning_tokens), sum(cost), sum(fee) FROM usage WHERE id BETWEEN ?3 AND ?4"
	                " AND created_us >= ?5 AND created_us < ?6 GROUP BY account, model, key_id"
	                " ON CONFLICT (account, month, model, key_id) DO UPDATE SET requests = m.requests + excluded.requests,"
	                " charged = m.charged + excluded.charged, prompt_tokens = m.prompt_tokens + excluded.prompt_tokens,"
	                " cached_tokens = m.cached_tokens + excluded.cached_tokens,"
	                " completion_tokens = m.completion_tokens + excluded.completion_tokens,"
	                " reasoning_tokens = m.reasoning_tokens + excluded.reasoning_tokens, cost = m.cost + excluded.cost,"
	                " fee = m.fee + excluded.fee");
	sql_put_i64(stmt, 1, old.month);
	sql_put_i64(stmt, 2, old.until_day);
	sql_put_i64(stmt, 3, old.first);
	sql_put_i64(stmt, 4, old.last);
	sql_put_i64(stmt, 5, old.month * DAY_US);
	sql_put_i64(stmt, 6, old.until_day * DAY_US);
	if (!sql_run(stmt))
		return;
	stmt = sql_say(db, "DELETE FROM receipts WHERE id IN (SELECT id FROM usage WHERE id BETWEEN ? AND ? AND created_us >= ?"
	                   " AND created_us < ?)"); /* without its row there is nothing that it signs */
	sql_put_i64(stmt, 1, old.first);
	sql_put_i64(stmt, 2, old.last);
	sql_put_i64(stmt, 3, old.month * DAY_US);
	sql_put_i64(stmt, 4, old.until_day * DAY_US);
	if (!sql_run(stmt))
		return;
	stmt = sql_say(db, "DELETE FROM usage WHERE id BETWEEN ? AND ? AND created_us >= ? AND created_us < ?");
	sql_put_i64(stmt, 1, old.first);
	sql_put_i64(stmt, 2, old.last);
	sql_put_i64(stmt, 3, old.month * DAY_US);
	sql_put_i64(stmt, 4, old.until_day * DAY_US);
	if (!sql_run(stmt))
		return;
	op->usage = sql_changes(db);
	op->moved += op->usage;
	op->more |= op->usage > 0; /* of another month, perhaps */
}

/* --- the step --- */

static void write_sweep(struct book *book, struct op_task *task)
{
	struct op_sweep *op = (struct op_sweep *)task;
	op->moved = op->usage = 0;
	op->more = false;
	if (op->retention.webhooks_before_us > 0)
		drop_webhooks(book->db, op);
	if (op->retention.sessions_before_us > 0)
		drop_sessions(book->db, op);
	if (op->retention.usage_before_us > 0)
		roll_up(book->db, op);
}

static bool note_sweep(const struct op_task *task, struct trail_note *note)
{
	const struct op_sweep *op = (const struct op_sweep *)task;
	note->action = "usage.rolled_up";
	trail_subject(note, "usage");
	trail_number(note, "rows", op->usage);
	return op->usage > 0;
}

static void deliver(struct store_op *op)
{
	struct op_sweep *sweep = (struct op_sweep *)op;
	sweep->done(op->failed ? 0 : sweep->moved, !op->failed && sweep->more, op_error(op), op->user);
}

void store_sweep(struct store *store, const struct store_retention *retention, store_swept_fn done, void *user)
{
	struct op_sweep *op = store_new_op(sizeof *op, OP_TASK_WRITE, deliver, user);
	op->task.write = write_sweep;
	op->task.note = note_sweep;
	op->done = done;
	op->retention = *retention;
	if (op->retention.rows < 1)
		op->retention.rows = 1;
	journal_submit(store->journal, &op->task.op);
}
