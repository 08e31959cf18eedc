/* What the files of store.h's functions share. Inside store/ only. */
#ifndef COORDINATOR_STORE_INTERNAL_H
#define COORDINATOR_STORE_INTERNAL_H

#include "coordinator/store/journal.h"
#include "coordinator/store/op.h"

struct store {
	struct journal *journal;
};

/* Zeroed but for its head; never NULL: the store's functions have no way to say that there was no memory for asking, and money
 * must not be forgotten, so the program ends. */
void *store_new_op(size_t size, enum op_kind kind, void (*deliver)(struct store_op *op), void *user);

#endif
