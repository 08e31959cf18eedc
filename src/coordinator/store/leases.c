/* Leases: their rows, what is granted, and who is told. */
#include "coordinator/store/store_leases.h"

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"

struct op_lease {
	struct op_task task;
	store_lease_fn done;
	char account_id[STORE_ID_SIZE];
	struct store_lease_ask ask;
	struct store_lease lease;
	bool found;
};

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The row is written even when nothing is leased: it says who wants to hear of the account. */
static void write_row(struct book *book, const struct book_account *account, const struct store_lease_ask *ask)
{
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO leases (account, instance, amount, wanted) VALUES (?1, ?2, ?3, 0)"
	                                          " ON CONFLICT (account, instance) DO UPDATE SET amount = excluded.amount,"
	                                          " wanted = CASE WHEN ?4 = 2 THEN 2 WHEN ?4 = 0 THEN 0 ELSE leases.wanted END");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, book->instance);
	sql_put_i64(stmt, 3, account->leased);
	sql_put_i64(stmt, 4, ask->answers ? 2 : ask->take ? 0 : 1);
	sql_run(stmt);
}

void book_tell_others(struct book *book, const struct book_account *account, const char *kind)
{
	struct sql_stmt *stmt = sql_say(book->db, "SELECT pg_notify('darkbloom', instance || ?3::TEXT || ?4::TEXT) FROM leases"
	                                          " WHERE account = ?1 AND instance <> ?2");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, book->instance);
	sql_put_text(stmt, 3, kind);
	sql_put_text(stmt, 4, account->id);
	sql_post(stmt);
}

/* True when somebody has yet to answer. */
static bool recall(struct book *book, const struct book_account *account, bool first)
{
	struct sql_stmt *stmt = sql_say(book->db, "UPDATE leases SET wanted = 1 WHERE account = ?1 AND instance <> ?2 AND"
	                                          " amount > 0 AND (wanted = 0 OR ?3 = 1)");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, book->instance);
	sql_put_i64(stmt, 3, first);
	sql_run(stmt);
	stmt = sql_say(book->db, "SELECT count(pg_notify('darkbloom', instance || ':w:' || ?3::TEXT)) FROM leases"
	                         " WHERE account = ?1 AND instance <> ?2 AND amount > 0 AND wanted = 1");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, book->instance);
	sql_put_text(stmt, 3, account->id);
	return sql_number(stmt) > 0;
}

/* Alone, a coordinator leases all there is; beside others half of what it does not need at once. */
static int64_t grant(const struct book *book, int64_t free, int64_t need)
{
	int64_t rest = free - need;
	return book->alone || rest <= 0 ? free : need + rest / 2;
}

static void write_lease(struct book *book, struct op_task *task)
{
	struct op_lease *op = (struct op_lease *)task;
	const struct store_lease_ask *ask = &op->ask;
	struct book_account *account = book_account(book, op->account_id);
	op->lease = (struct store_lease){.epoch = (uint64_t)book->instance};
	op->found = account && book_account_facts(book, account, &op->lease.account);
	if (!op->found)
		return;
	int64_t given = least(ask->give_uusd, account->leased);
	account->leased -= given;
	int64_t free = book_spendable(account) - account->leased;
	if (free < 0 || account->is_source)
		free = 0;
	op->lease.is_enough = free >= ask->need_uusd;
	op->lease.is_poor = account->balance - account->leased < ask->need_uusd; /* whoever gives back whatever */
	if (ask->take)
		account->leased += grant(book, free, ask->need_uusd);
	write_row(book, account, ask);
	op->lease.is_final = op->lease.is_poor || (ask->recall && !op->lease.is_enough && !recall(book, account, ask->first));
	if (ask->answers || given > 0)
		book_tell_others(book, account, ":g:");
	op->lease.leased_uusd = account->leased;
}

static void deliver_lease(struct store_op *op)
{
	struct op_lease *lease = (struct op_lease *)op;
	lease->done(lease->found && !op->failed ? &lease->lease : NULL, op_error(op), op->user);
}

void store_lease(struct store *store, struct str account_id, const struct store_lease_ask *ask, store_lease_fn done, void *user)
{
	struct op_lease *op = store_new_op(sizeof *op, OP_TASK_WRITE, done ? deliver_lease : NULL, user);
	op->task.write = write_lease;
	op->done = done;
	op->ask = *ask;
	str_copy(account_id, op->account_id, sizeof op->account_id);
	journal_submit(store->journal, &op->task.op);
}

bool store_is_shared(const struct store *store)
{
	return journal_epoch(store->journal) != 0;
}

uint64_t store_epoch(const struct store *store)
{
	return journal_epoch(store->journal);
}

struct net_loop *store_loop(const struct store *store)
{
	return journal_loop(store->journal);
}

void store_on_news(struct store *store, store_news_fn tell, void *user)
{
	journal_on_news(store->journal, tell, user);
}
