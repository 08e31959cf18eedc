#include "coordinator/store/store.h"

#include <stdlib.h>

#include "coordinator/store/store_internal.h"
#include "coordinator/store/trail.h"
#include "core/clock.h"
#include "core/log.h"

void *store_new_op(size_t size, enum op_kind kind, void (*deliver)(struct store_op *op), void *user)
{
	struct store_op *op = calloc(1, size);
	if (!op) {
		log_error("store.out_of_memory", "operation=%s", op_name(kind));
		abort();
	}
	op->kind = kind;
	op->deliver = deliver;
	op->user = user;
	return op;
}

/* --- life --- */

struct store *store_open(const struct store_options *options, struct net_loop *loop, struct error *error)
{
	struct store *store = calloc(1, sizeof *store);
	if (!store) {
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	store->journal = journal_open(options, loop, error);
	if (!store->journal) {
		free(store);
		return NULL;
	}
	return store;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	journal_close(store->journal);
	free(store);
}

bool store_healthy(const struct store *store, struct error *error)
{
	return journal_healthy(store->journal, error);
}

void store_stats(const struct store *store, struct store_stats *out)
{
	journal_stats(store->journal, out);
}

void store_act(struct store *store, struct str actor, struct str reason)
{
	struct store_actor *named = actor.len ? calloc(1, sizeof *named) : NULL;
	journal_act(store->journal, named);
	if (!named)
		return; /* without memory the row names the account that it is about */
	str_copy(str_sub(actor, 0, sizeof named->name - 1), named->name, sizeof named->name);
	str_copy(str_sub(reason, 0, sizeof named->reason - 1), named->reason, sizeof named->reason);
}

static void deliver_flush(struct store_op *op)
{
	((struct op_flush *)op)->done(op_error(op), op->user);
}

void store_flush(struct store *store, store_done_fn done, void *user)
{
	struct op_flush *op = store_new_op(sizeof *op, OP_FLUSH, deliver_flush, user);
	op->done = done;
	journal_submit(store->journal, &op->op);
}

/* --- accounts and keys --- */

static void deliver_account_create(struct store_op *op)
{
	((struct op_account_create *)op)->done(op_error(op), op->user);
}

void store_account_create(struct store *store, const struct store_account *account, store_done_fn done, void *user)
{
	struct op_account_create *op = store_new_op(sizeof *op, OP_ACCOUNT_CREATE, done ? deliver_account_create : NULL, user);
	op->done = done;
	op->account = *account;
	journal_submit(store->journal, &op->op);
}

static void deliver_account(struct store_op *op)
{
	struct op_account_find *find = (struct op_account_find *)op;
	find->done(find->found && !op->failed ? &find->account : NULL, op_error(op), op->user);
}

static void find_account(struct store *store, enum op_kind kind, struct str key, store_account_fn done, void *user)
{
	struct op_account_find *op = store_new_op(sizeof *op, kind, deliver_account, user);
	op->done = done;
	str_copy(key, op->key, sizeof op->key); /* a key that does not fit names nothing, and nothing is found */
	journal_submit(store->journal, &op->op);
}

void store_account_get(struct store *store, struct str account_id, store_account_fn done, void *user)
{
	find_account(store, OP_ACCOUNT_GET, account_id, done, user);
}

void store_owner_get(struct store *store, store_account_fn done, void *user)
{
	find_account(store, OP_OWNER_GET, STR_NONE, done, user);
}

void store_provider_token_find(struct store *store, struct str hash_hex, store_account_fn done, void *user)
{
	find_account(store, OP_PROVIDER_TOKEN_FIND, hash_hex, done, user);
}

static void deliver_owner_create(struct store_op *op)
{
	((struct op_owner_create *)op)->done(op_error(op), op->user);
}

void store_owner_create(struct store *store, const struct store_account *owner, const struct store_key *key, int64_t grant_uusd,
                        store_done_fn done, void *user)
{
	struct op_owner_create *op = store_new_op(sizeof *op, OP_OWNER_CREATE, done ? deliver_owner_create : NULL, user);
	op->done = done;
	op->account = *owner;
	op->key = *key;
	op->grant_uusd = grant_uusd;
	journal_submit(store->journal, &op->op);
}

static void deliver_provider_token_create(struct store_op *op)
{
	((struct op_provider_token_create *)op)->done(op_error(op), op->user);
}

void store_provider_token_create(struct store *store, struct str hash_hex, struct str account_id, struct str label,
                                 store_done_fn done, void *user)
{
	struct op_provider_token_create *op =
	    store_new_op(sizeof *op, OP_PROVIDER_TOKEN_CREATE, done ? deliver_provider_token_create : NULL, user);
	op->done = done;
	str_copy(hash_hex, op->hash_hex, sizeof op->hash_hex);
	str_copy(account_id, op->account_id, sizeof op->account_id);
	str_copy(label, op->label, sizeof op->label);
	journal_submit(store->journal, &op->op);
}

/* --- money --- */

static void deliver_transfer(struct store_op *op)
{
	struct op_transfer *transfer = (struct op_transfer *)op;
	transfer->done(transfer->applied && !op->failed, op_error(op), op->user);
}

void store_transfer(struct store *store, const struct store_transfer *transfer, store_transfer_fn done, void *user)
{
	struct op_transfer *op = store_new_op(sizeof *op, OP_TRANSFER, done ? deliver_transfer : NULL, user);
	op->done = done;
	op->transfer = *transfer;
	journal_submit(store->journal, &op->op);
}

void store_hold_create(struct store *store, const struct store_hold *hold)
{
	struct op_hold_create *op = store_new_op(sizeof *op, OP_HOLD_CREATE, NULL, NULL);
	op->hold = *hold;
	journal_submit(store->journal, &op->op);
}

void store_hold_raise(struct store *store, struct str request_id, int64_t amount_uusd)
{
	struct op_hold_change *op = store_new_op(sizeof *op, OP_HOLD_RAISE, NULL, NULL);
	str_copy(request_id, op->request_id, sizeof op->request_id);
	op->amount_uusd = amount_uusd;
	journal_submit(store->journal, &op->op);
}

void store_hold_release(struct store *store, struct str request_id, const char *reason)
{
	struct op_hold_change *op = store_new_op(sizeof *op, OP_HOLD_RELEASE, NULL, NULL);
	str_copy(request_id, op->request_id, sizeof op->request_id);
	str_copy(str_sub(str_of(reason), 0, sizeof op->reason - 1), op->reason, sizeof op->reason);
	op->at_us = clock_wall_us();
	journal_submit(store->journal, &op->op);
}

static void deliver_settle(struct store_op *op)
{
	((struct op_settle *)op)->done(op_error(op), op->user);
}

void store_settle(struct store *store, const struct store_settlement *settlement, store_done_fn done, void *user)
{
	struct op_settle *op = store_new_op(sizeof *op, OP_SETTLE, done ? deliver_settle : NULL, user);
	op->done = done;
	op->s = *settlement;
	journal_submit(store->journal, &op->op);
}

/* --- prices and views --- */

static void deliver_price_set(struct store_op *op)
{
	((struct op_price_set *)op)->done(op_error(op), op->user);
}

void store_price_set(struct store *store, const struct store_price *price, store_done_fn done, void *user)
{
	struct op_price_set *op = store_new_op(sizeof *op, OP_PRICE_SET, done ? deliver_price_set : NULL, user);
	op->done = done;
	op->price = *price;
	journal_submit(store->journal, &op->op);
}

static void deliver_list(struct store_op *op)
{
	struct op_list *list = (struct op_list *)op;
	size_t count = op->failed ? 0 : list->count;
	if (op->kind == OP_PRICES_LIST)
		list->done.prices(list->rows, count, op_error(op), op->user);
	else if (op->kind == OP_USAGE_LIST)
		list->done.usage(list->rows, count, op_error(op), op->user);
	else
		list->done.ledger(list->rows, count, op_error(op), op->user);
}

void store_prices_list(struct store *store, store_prices_fn done, void *user)
{
	struct op_list *op = store_new_op(sizeof *op, OP_PRICES_LIST, deliver_list, user);
	op->done.prices = done;
	journal_submit(store->journal, &op->op);
}

void store_usage_list(struct store *store, struct str account_id, int64_t before_us, uint32_t limit, store_usage_fn done,
                      void *user)
{
	struct op_list *op = store_new_op(sizeof *op, OP_USAGE_LIST, deliver_list, user);
	op->done.usage = done;
	str_copy(account_id, op->key, sizeof op->key);
	op->before_us = before_us ? before_us : INT64_MAX;
	op->limit = limit < 1 ? 1 : limit > 1000 ? 1000 : limit;
	journal_submit(store->journal, &op->op);
}

void store_ledger_of_request(struct store *store, struct str request_id, store_ledger_fn done, void *user)
{
	struct op_list *op = store_new_op(sizeof *op, OP_LEDGER_OF_REQUEST, deliver_list, user);
	op->done.ledger = done;
	str_copy(request_id, op->key, sizeof op->key);
	journal_submit(store->journal, &op->op);
}
