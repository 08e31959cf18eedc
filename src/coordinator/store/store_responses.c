#include "coordinator/store/store_responses.h"

#include <stdlib.h>

#include "coordinator/store/journal.h"
#include "coordinator/store/op_responses.h"
#include "coordinator/store/store_internal.h"

static void deliver_done(struct store_op *op)
{
	((struct op_response *)op)->then.done(op_error(op), op->user);
}

static void deliver_rows(struct store_op *op)
{
	struct op_response *response = (struct op_response *)op;
	response->then.rows(op->failed ? NULL : response->rows, op->failed ? 0 : response->count, op_error(op), op->user);
}

static void dispose(struct op_task *task)
{
	struct op_response *op = (struct op_response *)task;
	for (size_t i = 0; i < op->count; i++)
		free((void *)(uintptr_t)op->rows[i].sealed.at);
	free(op->rows);
	free((void *)(uintptr_t)op->response.sealed.at);
}

/* Names that do not fit name nothing, and nothing is found. */
static struct op_response *new_op(enum op_kind kind, void (*deliver)(struct store_op *op), struct str account_id, struct str id,
                                  void *user)
{
	struct op_response *op = store_new_op(sizeof *op, kind, deliver, user);
	op->task.dispose = dispose;
	str_copy(account_id, op->response.account_id, sizeof op->response.account_id);
	str_copy(id, op->response.id, sizeof op->response.id);
	return op;
}

static struct op_response *new_write(void (*write)(struct book *book, struct op_task *task), struct str account_id,
                                     struct str id, store_done_fn done, void *user)
{
	struct op_response *op = new_op(OP_TASK_WRITE, done ? deliver_done : NULL, account_id, id, user);
	op->task.write = write;
	op->then.done = done;
	return op;
}

void store_response_add(struct store *store, const struct store_response *response, const struct store_response_bounds *bounds,
                        store_done_fn done, void *user)
{
	struct op_response *op = new_write(responses_add, str_of(response->account_id), str_of(response->id), done, user);
	char *copy = malloc(response->sealed.len + 1);
	memcpy(op->response.previous, response->previous, sizeof op->response.previous);
	op->response.created_us = response->created_us;
	op->bounds = *bounds;
	if (copy) {
		memcpy(copy, response->sealed.at, response->sealed.len);
		op->response.sealed = (struct str){copy, response->sealed.len};
	}
	journal_submit(store->journal, &op->task.op);
}

void store_response_read(struct store *store, const struct store_response_query *query, store_responses_fn done, void *user)
{
	struct op_response *op = new_op(OP_TASK_READ, deliver_rows, query->account_id, query->id, user);
	op->task.read = responses_read;
	op->at_us = query->since_us;
	op->depth = query->depth;
	op->max_bytes = query->max_bytes;
	op->then.rows = done;
	journal_submit(store->journal, &op->task.op);
}

void store_response_delete(struct store *store, struct str account_id, struct str id, store_done_fn done, void *user)
{
	struct op_response *op = new_write(responses_delete, account_id, id, done, user);
	journal_submit(store->journal, &op->task.op);
}

void store_responses_expire(struct store *store, int64_t before_us)
{
	struct op_response *op = new_write(responses_expire, STR_NONE, STR_NONE, NULL, NULL);
	op->at_us = before_us;
	journal_submit(store->journal, &op->task.op);
}
