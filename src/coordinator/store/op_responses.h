/* Operations about kept answers. Inside store/ only. */
#ifndef COORDINATOR_STORE_OP_RESPONSES_H
#define COORDINATOR_STORE_OP_RESPONSES_H

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_responses.h"

struct op_response {
	struct op_task task;
	union {
		store_done_fn done;
		store_responses_fn rows;
	} then;
	struct store_response response; /* of a write; of a query its account and id. sealed: owned */
	struct store_response_bounds bounds;
	int64_t at_us;
	uint32_t depth;
	size_t max_bytes;
	struct store_response *rows; /* owned, with their bytes */
	size_t count;
};

/* What a task can run, in responses.c. */
void responses_add(struct book *book, struct op_task *task);
void responses_delete(struct book *book, struct op_task *task);
void responses_expire(struct book *book, struct op_task *task);
void responses_read(struct sql *db, struct op_task *task);

#endif
