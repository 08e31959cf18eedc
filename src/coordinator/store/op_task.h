/* An operation that lives in its subject's own file: the subject embeds this as the head of its struct, and says what to run.
 * Inside store/ only.
 *
 * To add a subject: store_<subject>.h declares its functions in the manner of store.h, store_<subject>.c makes the operations
 * (store_new_op with OP_TASK_WRITE or OP_TASK_READ, then journal_submit), <subject>.c has the SQL. */
#ifndef COORDINATOR_STORE_OP_TASK_H
#define COORDINATOR_STORE_OP_TASK_H

#include "coordinator/store/book.h"
#include "coordinator/store/trail.h"

struct op_task {
	struct store_op op; /* op.deliver calls back on the loop thread */
	/* OP_TASK_WRITE, writer's thread, inside the group's transaction. Refuse (op_fail) before anything is written: what was
	 * written before a refusal stays. When that is impossible, sql_fail(book->db, DB_E_INTERNAL, ...) undoes the operation, and
	 * it may then be run again alone: set what it answers anew each time. Money moves with book_account and book_transfer, in
	 * the same transaction. */
	void (*write)(struct book *book, struct op_task *task);
	/* OP_TASK_READ, a reader's thread: sees every write that was asked for before it. */
	void (*read)(struct sql *db, struct op_task *task);
	/* OP_TASK_WRITE: what the audit trail says of it, when it is about money or keys. False: nothing happened. May be NULL. */
	bool (*note)(const struct op_task *task, struct trail_note *note);
	void (*dispose)(struct op_task *task); /* frees what the subject owns beyond the struct, wipes secrets; may be NULL */
};

#endif
