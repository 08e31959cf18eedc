/* API keys and levels of rate limits: what is asked of the store, and its answers. */
#include "coordinator/store/store_internal.h"

#include <stdlib.h>

static void deliver_key_create(struct store_op *op)
{
	((struct op_key_create *)op)->done(op_error(op), op->user);
}

void store_key_create(struct store *store, const struct store_key *key, store_done_fn done, void *user)
{
	struct op_key_create *op = store_new_op(sizeof *op, OP_KEY_CREATE, done ? deliver_key_create : NULL, user);
	op->done = done;
	op->key = *key;
	journal_submit(store->journal, &op->op);
}

static void deliver_change(struct store_op *op)
{
	((struct op_key_change *)op)->done(op_error(op), op->user);
}

static struct op_key_change *new_change(enum op_kind kind, struct str key_id, store_done_fn done, void *user)
{
	struct op_key_change *op = store_new_op(sizeof *op, kind, done ? deliver_change : NULL, user);
	op->done = done;
	str_copy(key_id, op->key_id, sizeof op->key_id);
	return op;
}

void store_key_disable(struct store *store, struct str key_id, store_done_fn done, void *user)
{
	journal_submit(store->journal, &new_change(OP_KEY_DISABLE, key_id, done, user)->op);
}

void store_key_update(struct store *store, const struct store_key *key, unsigned fields, store_done_fn done, void *user)
{
	struct op_key_change *op = new_change(OP_KEY_UPDATE, str_of(key->id), done, user);
	op->key = *key;
	op->fields = fields;
	journal_submit(store->journal, &op->op);
}

void store_key_rotate(struct store *store, struct str key_id, const struct store_key *fresh, store_done_fn done, void *user)
{
	struct op_key_change *op = new_change(OP_KEY_ROTATE, key_id, done, user);
	op->key = *fresh;
	journal_submit(store->journal, &op->op);
}

void store_key_delete(struct store *store, struct str key_id, store_done_fn done, void *user)
{
	journal_submit(store->journal, &new_change(OP_KEY_DELETE, key_id, done, user)->op);
}

static void deliver_key(struct store_op *op)
{
	struct op_key_find *find = (struct op_key_find *)op;
	bool found = find->found && !op->failed;
	find->done(found ? &find->key_row : NULL, found ? &find->account : NULL, op_error(op), op->user);
}

static void find_key(struct store *store, enum op_kind kind, struct str key, store_key_fn done, void *user)
{
	struct op_key_find *op = store_new_op(sizeof *op, kind, deliver_key, user);
	op->done = done;
	str_copy(key, op->key, sizeof op->key); /* what does not fit names nothing, and nothing is found */
	journal_submit(store->journal, &op->op);
}

void store_key_find(struct store *store, struct str hash_hex, store_key_fn done, void *user)
{
	find_key(store, OP_KEY_FIND, hash_hex, done, user);
}

void store_key_get(struct store *store, struct str key_id, store_key_fn done, void *user)
{
	find_key(store, OP_KEY_GET, key_id, done, user);
}

static void deliver_keys(struct store_op *op)
{
	struct op_list *list = (struct op_list *)op;
	list->done.keys(list->rows, op->failed ? 0 : list->count, op_error(op), op->user);
}

void store_keys_list(struct store *store, struct str account_id, store_keys_fn done, void *user)
{
	struct op_list *op = store_new_op(sizeof *op, OP_KEYS_LIST, deliver_keys, user);
	op->done.keys = done;
	str_copy(account_id, op->key, sizeof op->key);
	journal_submit(store->journal, &op->op);
}

/* --- what is written in batches --- */

static void deliver_batch(struct store_op *op)
{
	((struct op_batch *)op)->done(op_error(op), op->user);
}

static void submit_batch(struct store *store, enum op_kind kind, const void *rows, size_t size, size_t count,
                         store_done_fn done, void *user)
{
	struct op_batch *op = store_new_op(sizeof *op, kind, done ? deliver_batch : NULL, user);
	op->done = done;
	op->rows = count ? malloc(count * size) : NULL;
	if (op->rows) { /* without memory nothing is written: no money is in these rows */
		memcpy(op->rows, rows, count * size);
		op->count = count;
	}
	journal_submit(store->journal, &op->op);
}

void store_keys_touch(struct store *store, const struct store_key_use *uses, size_t count)
{
	submit_batch(store, OP_KEYS_TOUCH, uses, sizeof *uses, count, NULL, NULL);
}

void store_levels_save(struct store *store, const struct store_levels *levels, size_t count, store_done_fn done, void *user)
{
	submit_batch(store, OP_LEVELS_SAVE, levels, sizeof *levels, count, done, user);
}

static void deliver_levels(struct store_op *op)
{
	struct op_list *list = (struct op_list *)op;
	list->done.levels(list->rows, op->failed ? 0 : list->count, op_error(op), op->user);
}

void store_levels_list(struct store *store, store_levels_fn done, void *user)
{
	struct op_list *op = store_new_op(sizeof *op, OP_LEVELS_LIST, deliver_levels, user);
	op->done.levels = done;
	journal_submit(store->journal, &op->op);
}
