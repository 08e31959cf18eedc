/* One thing asked of the store, on its way from the loop thread to the writer or the reader and back. Inside store/ only.
 *
 * Made and freed on the loop thread; between journal_submit and delivery it belongs to the thread that carries it out. */
#ifndef COORDINATOR_STORE_OP_H
#define COORDINATOR_STORE_OP_H

#include "coordinator/store/store.h"

enum op_kind {
	/* carried out by the writer, in order */
	OP_FLUSH,
	OP_ACCOUNT_CREATE,
	OP_ACCOUNT_GET,
	OP_OWNER_CREATE,
	OP_KEY_CREATE,
	OP_KEY_DISABLE,
	OP_KEY_UPDATE,
	OP_KEY_ROTATE,
	OP_KEY_DELETE,
	OP_KEYS_TOUCH,
	OP_LEVELS_SAVE,
	OP_PROVIDER_TOKEN_CREATE,
	OP_TRANSFER,
	OP_HOLD_CREATE,
	OP_HOLD_RAISE,
	OP_HOLD_RELEASE,
	OP_SETTLE,
	OP_PRICE_SET,
	OP_LOGIN_WRITE,
	OP_TASK_WRITE,
	/* carried out by the reader */
	OP_FIRST_READ,
	OP_OWNER_GET = OP_FIRST_READ,
	OP_KEY_FIND,
	OP_KEY_GET,
	OP_KEYS_LIST,
	OP_LEVELS_LIST,
	OP_PROVIDER_TOKEN_FIND,
	OP_PRICES_LIST,
	OP_USAGE_LIST,
	OP_LEDGER_OF_REQUEST,
	OP_LOGIN_READ,
	OP_TASK_READ,
	OP_KINDS,
};

struct store_actor; /* trail.h */

/* The head of every op_* struct below. */
struct store_op {
	struct store_op *next;
	enum op_kind kind;
	bool patient;    /* nobody waits for it: a write may gather company, a read may be answered from before what is queued */
	uint64_t ticket; /* of this write; of a read: of the last write before it */
	enum db_err failed;
	struct error *why;                    /* the sentence; owned; NULL also when there was no memory for it */
	void (*deliver)(struct store_op *op); /* loop thread: calls back; NULL = nobody waits */
	void *user;
	struct store_actor *actor; /* who asked, for the audit trail; owned; NULL = nobody was named */
};

const struct error *op_error(const struct store_op *op); /* NULL when it went well */
/* Records why the operation failed; returns the code. */
enum db_err op_fail(struct store_op *op, enum db_err code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void op_fail_with(struct store_op *op, const struct error *error);
void op_clear_error(struct store_op *op);
void op_free(struct store_op *op);
const char *op_name(enum op_kind kind);
bool op_is_list(enum op_kind kind); /* it is an op_list */

struct op_flush {
	struct store_op op;
	store_done_fn done;
};

struct op_account_create {
	struct store_op op;
	store_done_fn done;
	struct store_account account;
};

/* OP_ACCOUNT_GET, OP_OWNER_GET, OP_PROVIDER_TOKEN_FIND */
struct op_account_find {
	struct store_op op;
	store_account_fn done;
	char key[STORE_ID_SIZE]; /* account id or token hash */
	bool found;
	struct store_account account;
};

struct op_owner_create {
	struct store_op op;
	store_done_fn done;
	struct store_account account;
	struct store_key key;
	int64_t grant_uusd;
};

struct op_key_create {
	struct store_op op;
	store_done_fn done;
	struct store_key key;
};

/* OP_KEY_DISABLE, OP_KEY_UPDATE, OP_KEY_ROTATE, OP_KEY_DELETE */
struct op_key_change {
	struct store_op op;
	store_done_fn done;
	char key_id[STORE_ID_SIZE];
	struct store_key key; /* update, rotate */
	unsigned fields;      /* update */
};

/* OP_KEYS_TOUCH, OP_LEVELS_SAVE */
struct op_batch {
	struct store_op op;
	store_done_fn done;
	void *rows; /* owned: struct store_key_use or struct store_levels */
	size_t count;
};

/* OP_KEY_FIND, OP_KEY_GET */
struct op_key_find {
	struct store_op op;
	store_key_fn done;
	char key[STORE_ID_SIZE]; /* hash or id */
	bool found;
	struct store_key key_row;
	struct store_account account;
};

struct op_provider_token_create {
	struct store_op op;
	store_done_fn done;
	char hash_hex[65], account_id[STORE_ID_SIZE], label[128];
};

struct op_transfer {
	struct store_op op;
	store_transfer_fn done;
	struct store_transfer transfer;
	bool applied;
};

struct op_hold_create {
	struct store_op op;
	struct store_hold hold;
};

/* OP_HOLD_RAISE, OP_HOLD_RELEASE */
struct op_hold_change {
	struct store_op op;
	char request_id[STORE_ID_SIZE];
	int64_t amount_uusd;
	char reason[32];
	int64_t at_us;
};

struct op_settle {
	struct store_op op;
	store_done_fn done;
	struct store_settlement s;
};

struct op_price_set {
	struct store_op op;
	store_done_fn done;
	struct store_price price;
};

/* OP_PRICES_LIST, OP_USAGE_LIST, OP_LEDGER_OF_REQUEST, OP_KEYS_LIST, OP_LEVELS_LIST */
struct op_list {
	struct store_op op;
	union {
		store_prices_fn prices;
		store_usage_fn usage;
		store_ledger_fn ledger;
		store_keys_fn keys;
		store_levels_fn levels;
	} done;
	char key[STORE_ID_SIZE]; /* account or request */
	int64_t before_us;       /* of keys: today */
	uint32_t limit;
	void *rows; /* owned array of the kind's row */
	size_t count;
};

#endif
