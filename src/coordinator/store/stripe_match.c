#include "coordinator/store/store_stripe.h"

#include <stdlib.h>

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"

struct op_match {
	struct op_task task;
	store_reconciliation_fn done;
	struct store_stripe_item *items; /* owned; sorted, each reference once */
	bool *seen;                      /* owned; of each item: the books know it */
	size_t count;
	struct store_reconciliation result;
};

static void dispose(struct op_task *task)
{
	struct op_match *op = (struct op_match *)task;
	free(op->items);
	free(op->seen);
}

static int by_reference(const void *one, const void *other)
{
	const struct store_stripe_item *a = one, *b = other;
	return a->kind != b->kind ? (int)a->kind - (int)b->kind : strcmp(a->reference, b->reference);
}

/* What happened to one payment in several transactions is one sum. */
static void merge(struct op_match *op)
{
	size_t kept = 0;
	if (op->count > 0)
		qsort(op->items, op->count, sizeof *op->items, by_reference);
	for (size_t i = 0; i < op->count; i++) {
		if (kept > 0 && by_reference(&op->items[kept - 1], &op->items[i]) == 0)
			op->items[kept - 1].uusd += op->items[i].uusd;
		else
			op->items[kept++] = op->items[i];
	}
	op->count = kept;
}

static void differs(struct op_match *op, const struct store_stripe_item *item, int64_t books_uusd, struct str id)
{
	struct store_reconciliation *r = &op->result;
	if (item->uusd == books_uusd)
		return;
	if (r->difference_count < STORE_STRIPE_DIFFERENCES) {
		struct store_stripe_difference *row = &r->differences[r->difference_count];
		*row = (struct store_stripe_difference){.item = *item, .books_uusd = books_uusd};
		(void)str_copy(id, row->id, sizeof row->id);
	}
	r->difference_count++;
}

static void match_row(struct op_match *op, enum store_stripe_kind kind, struct str reference, int64_t books_uusd, struct str id)
{
	struct store_stripe_item wanted = {.kind = kind};
	if (!str_copy(reference, wanted.reference, sizeof wanted.reference))
		return;
	const struct store_stripe_item *found =
	    op->count ? bsearch(&wanted, op->items, op->count, sizeof *op->items, by_reference) : NULL;
	if (found) {
		op->seen[found - op->items] = true;
		differs(op, found, books_uusd, id);
	} else if (op->result.unnamed == 0) {
		differs(op, &wanted, books_uusd, id);
	}
}

static void read_match(struct sql *db, struct op_task *task)
{
	struct op_match *op = (struct op_match *)task;
	merge(op);
	op->seen = calloc(op->count + 1, sizeof *op->seen);
	if (!op->seen) {
		sql_fail(db, DB_E_NOMEM, "There is no memory for Stripe's transactions.");
		return;
	}
	struct sql_stmt *stmt = sql_say(db, "SELECT id, payment_intent, amount, reversed + lost FROM deposits"
	                                    " WHERE status = 'completed' AND payment_intent <> '' ORDER BY created_us, id");
	while (sql_row(stmt)) {
		match_row(op, STORE_STRIPE_DEPOSIT, sql_text(stmt, 1), sql_i64(stmt, 2), sql_text(stmt, 0));
		match_row(op, STORE_STRIPE_REVERSAL, sql_text(stmt, 1), sql_i64(stmt, 3), sql_text(stmt, 0));
	}
	sql_done(stmt);
	stmt = sql_say(db, "SELECT id, transfer_id, CASE WHEN status = 'failed' THEN 0 ELSE net END FROM withdrawals"
	                   " WHERE transfer_id <> '' ORDER BY created_us, id");
	while (sql_row(stmt))
		match_row(op, STORE_STRIPE_TRANSFER, sql_text(stmt, 1), sql_i64(stmt, 2), sql_text(stmt, 0));
	sql_done(stmt);
	for (size_t i = 0; i < op->count; i++)
		if (!op->seen[i])
			differs(op, &op->items[i], 0, STR_NONE);
}

static void deliver_match(struct store_op *op)
{
	struct op_match *match = (struct op_match *)op;
	match->done(op->failed ? NULL : &match->result, op_error(op), op->user);
}

void store_stripe_match(struct store *store, struct store_stripe_item *items, size_t count, int64_t unnamed,
                        store_reconciliation_fn done, void *user)
{
	struct op_match *op = store_new_op(sizeof *op, OP_TASK_READ, deliver_match, user);
	op->task.read = read_match;
	op->task.dispose = dispose;
	op->items = items;
	op->count = count;
	op->result.unnamed = unnamed;
	op->done = done;
	journal_submit(store->journal, &op->task.op);
}
