#include "coordinator/store/store_stripe.h"

#include <stdio.h>

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"

struct op_compare {
	struct op_task task;
	store_reconciliation_fn done;
	struct store_reconciliation result;
};

/* Inside the writer's transaction, so that no deposit or step is between the sums. */
static void write_compare(struct book *book, struct op_task *task)
{
	struct op_compare *op = (struct op_compare *)task;
	struct store_reconciliation *r = &op->result;
	struct sql_stmt *stmt = sql_say(book->db, "SELECT CAST(coalesce(sum(amount), 0) AS BIGINT),"
	                                          " CAST(coalesce(sum(reversed + lost), 0) AS BIGINT)"
	                                          " FROM deposits WHERE status = 'completed'");
	if (sql_row(stmt)) {
		r->books.deposits_uusd = sql_i64(stmt, 0);
		r->books.reversals_uusd = sql_i64(stmt, 1);
		sql_done(stmt);
	}
	r->books.transfers_uusd = sql_number(sql_say(book->db, "SELECT CAST(coalesce(sum(net), 0) AS BIGINT) FROM withdrawals"
	                                                       " WHERE transfer_id <> '' AND status <> 'failed'"));
	r->agrees = r->books.deposits_uusd == r->stripe.deposits_uusd && r->books.reversals_uusd == r->stripe.reversals_uusd &&
	            r->books.transfers_uusd == r->stripe.transfers_uusd && r->balance_off_uusd == 0 && r->difference_count == 0;
}

static bool note_compare(const struct op_task *task, struct trail_note *note)
{
	const struct store_reconciliation *r = &((const struct op_compare *)task)->result;
	note->action = "stripe.differs";
	trail_subject(note, "stripe");
	trail_number(note, "deposits_off_micro_usd", r->stripe.deposits_uusd - r->books.deposits_uusd);
	trail_number(note, "reversals_off_micro_usd", r->stripe.reversals_uusd - r->books.reversals_uusd);
	trail_number(note, "transfers_off_micro_usd", r->stripe.transfers_uusd - r->books.transfers_uusd);
	trail_number(note, "balance_off_micro_usd", r->balance_off_uusd);
	trail_number(note, "differences", r->difference_count);
	return !r->agrees;
}

static void deliver_compare(struct store_op *op)
{
	struct op_compare *compare = (struct op_compare *)op;
	compare->done(op->failed ? NULL : &compare->result, op_error(op), op->user);
}

void store_stripe_compare(struct store *store, const struct store_reconciliation *found, store_reconciliation_fn done,
                          void *user)
{
	struct op_compare *op = store_new_op(sizeof *op, OP_TASK_WRITE, deliver_compare, user);
	op->task.write = write_compare;
	op->task.note = note_compare;
	op->done = done;
	op->result = *found;
	journal_submit(store->journal, &op->task.op);
}
