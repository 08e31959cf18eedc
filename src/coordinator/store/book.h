/* The books while a group of operations is carried out: the accounts in memory, the holds that are open, the rows to write.
 *
 * Whoever writes is alone (SQLite: one process; PostgreSQL: one turn at a time, postgres_turn.h), so its memory of balances is
 * exact. Within a group, ledger rows carry the running balance and each touched account's row is written once, before the
 * commit. After a rollback all of it is forgotten and read again. Inside store/ only; thread: the writer's. */
#ifndef COORDINATOR_STORE_BOOK_H
#define COORDINATOR_STORE_BOOK_H

#include "coordinator/store/op.h"
#include "coordinator/store/postgres_rows.h"
#include "coordinator/store/sql.h"
#include "coordinator/store/store_receipts.h"
#include "core/list.h"
#include "core/map.h"

enum book_statement {
	W_RELEASE_LEFT_OPEN,
	W_LAST_HOLD,
	W_LAST_ENTRY,
	W_OPEN_HOLDS,

	W_ACCOUNT_INSERT,
	W_BALANCE_INSERT,
	W_ACCOUNT_READ,
	W_LEASE_SHRINK,
	W_ACCOUNT_FACTS,
	W_OWNER,
	W_KEY_INSERT,
	W_KEYS_OF_ACCOUNT,
	W_KEY_DISABLE,
	W_KEY_UPDATE,
	W_KEY_ROTATE,
	W_KEY_DELETE,
	W_KEY_TOUCH,
	W_SPEND_ADD,
	W_LEVELS_WRITE,
	W_LEVELS_FORGET,
	W_PROVIDER_TOKEN_INSERT,
	W_PRICE_SET,

	W_TRANSFER_EXISTS,
	W_TRANSFER_INSERT,
	W_HOLD_INSERT,
	W_HOLD_EXISTS,
	W_HOLD_RAISE,
	W_HOLD_END,
	W_ENTRIES_2,
	W_ENTRIES_3,
	W_ENTRIES_4,
	W_USAGE_INSERT,
	W_EARNING_INSERT,
	W_RECEIPTS_DUE,
	W_BALANCE_WRITE,
	W_EARNINGS_ADD,
	W_EARNINGS_HOUR,
	W_TOTALS_ADD,
	W_STATEMENTS,
};

struct book_totals {
	int64_t jobs, amount, prompt_tokens, completion_tokens;
};

struct book_account {
	char id[STORE_ID_SIZE];
	int64_t ref;
	bool is_source; /* of money: may go below zero */
	int64_t balance, withdrawable;
	int64_t leased;                   /* what this coordinator may promise of it without asking (store_leases.h) */
	int64_t others;                   /* what the others may */
	int64_t watchers;                 /* how many of the others have it in memory */
	bool lease_shrunk;                /* its row is to be written */
	struct book_totals earned;        /* in this group */
	int64_t base_rewards;             /* in this group: they count as earnings without a job */
	int64_t rewarded;                 /* in this group: what came in that no request paid out */
	int64_t referral_jobs, referrals; /* of that, what referrals paid */
	struct list_link touched;         /* linked = its row is to be written */
};

/* What keys of one group spent in this group of writes. */
struct book_spend {
	char group[STORE_ID_SIZE];
	int64_t day, amount;
};

struct book_hold {
	struct store_hold facts;
	int64_t account; /* ref */
	int64_t row;     /* holds.id, 0 = not written yet */
	struct list_link unwritten;
};

struct book_ended {
	char request_id[STORE_ID_SIZE];
};

struct book_hold_end {
	const char *state; /* "open", "settled", "released" */
	const char *reason;
	int64_t entry; /* first ledger entry, 0 = none */
	int64_t at_us; /* 0 = open */
};

struct book {
	struct sql *db;
	struct map accounts; /* id -> struct book_account, as many as were seen lately */
	struct list touched;
	struct map holds; /* request id -> struct book_hold: exactly the open ones */
	struct list unwritten;
	int64_t last_hold, last_entry;
	struct book_totals totals;       /* of the group's requests */
	int64_t due[STORE_RECEIPTS_DUE]; /* rows of usage whose receipts are to be signed, and no row says so yet */
	size_t due_count;
	struct map spends; /* limit group -> struct book_spend, of the group's requests */

	/* PostgreSQL only */
	struct postgres_rows *rows; /* what goes to the big tables with the commit; NULL on SQLite, where it goes at once */
	struct map ended;           /* request id -> struct book_ended: those the group mentions that are not open any more */
	int64_t instance;           /* whose holds new ones are */
	bool alone;                 /* no other coordinator is there */
};

extern const char *const book_statements[W_STATEMENTS];

void book_init(struct book *book, struct sql *db);
void book_free(struct book *book);
/* Reads ahead, with a statement for all of them, what the operations of a group will look up one by one. PostgreSQL only. */
void book_read_ahead(struct book *book, struct store_op **ops, size_t count);
bool book_has_ended(const struct book *book, const char *request_id);
void book_note_ended(struct book *book, const char *request_id);
void book_forget_ended(struct book *book);
/* Puts rows that were read into memory; false, with db->failed set, without memory. */
bool book_add_account(struct book *book, const struct book_account *read);
bool book_add_hold(struct book *book, const struct book_hold *read);

/* NULL when there is no such account, or when the database failed (book->db->failed). */
struct book_account *book_account(struct book *book, const char *id);
/* What it can be debited: not what other coordinators may have promised. */
int64_t book_spendable(const struct book_account *account);
bool book_account_facts(struct book *book, const struct book_account *account, struct store_account *out);
/* Tells the other coordinators that have the account in memory. kind: ":b:" its balance changed, ":g:" a lease shrank. */
void book_tell_others(struct book *book, const struct book_account *account, const char *kind);
enum db_err book_load(struct book *book); /* open holds and last ids, from the database */
void book_forget(struct book *book);
/* Writes what the group changed and only memory has: new open holds, balances, totals. */
void book_flush(struct book *book);

/* The row of a hold in memory that the file does not know yet. False when its request id was used before: then the hold is
 * gone, and freed. */
bool book_write_hold(struct book *book, struct book_hold *hold, const struct book_hold_end *end);

struct book_entry {
	struct book_account *account;
	const char *type;
	int64_t amount;
	bool withdrawable;
};

/* What stands side by side in the ledger and sums to zero. */
struct book_transaction {
	int64_t hold, transfer; /* exactly one is not 0 */
	int64_t at_us;
	int count; /* 2 to 4 */
	struct book_entry entries[4];
};
/* Notes what a group of keys spent. */
void book_flush_spends(struct book *book, bool write); /* to their rows, or into oblivion */
void book_spend(struct book *book, const char *group, int64_t day, int64_t amount);
/* The receipt of this row of usage is to be signed. */
void book_note_due(struct book *book, int64_t row);
void book_flush_due(struct book *book);
/* Memory and rows. */
void book_write(struct book *book, const struct book_transaction *transaction);
/* A transfer whose accounts are known and able. False when its key was used before. */
bool book_transfer(struct book *book, const struct store_transfer *transfer, struct book_account *from,
                   struct book_account *to);

/* The earning that a base reward is (billing 8.3); its money was moved by a transfer. */
void book_write_reward(struct book *book, struct book_account *account, const char *provider_key, int64_t amount);

/* Operations. They refuse (op_fail) before they write anything. */
void apply_account_create(struct book *book, struct op_account_create *op);
void apply_account_get(struct book *book, struct op_account_find *op);
void apply_owner_create(struct book *book, struct op_owner_create *op);
void apply_key_create(struct book *book, struct op_key_create *op);
bool book_insert_key(struct book *book, const struct store_key *key, int64_t account);
void apply_key_change(struct book *book, struct op_key_change *op);
void apply_keys_touch(struct book *book, struct op_batch *op);
void apply_levels_save(struct book *book, struct op_batch *op);
void apply_provider_token_create(struct book *book, struct op_provider_token_create *op);
void apply_price_set(struct book *book, struct op_price_set *op);
void apply_transfer(struct book *book, struct op_transfer *op);
void apply_hold_create(struct book *book, struct op_hold_create *op);
void apply_hold_raise(struct book *book, struct op_hold_change *op);
void apply_hold_release(struct book *book, struct op_hold_change *op);
void apply_settle(struct book *book, struct op_settle *op);

#endif
