/* Leases: their rows, what is granted, and who is told. */
#include "coordinator/store/store_leases.h"

#include <stdio.h>

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
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO leases (account, instance, amount, answered) VALUES (?1, ?2, ?3, ?4)"
	                                          " ON CONFLICT (account, instance) DO UPDATE SET amount = excluded.amount,"
	                                          " answered = CASE WHEN ?5 = 1 THEN 0 WHEN leases.answered > excluded.answered"
	                                          " THEN leases.answered ELSE excluded.answered END");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, book->instance);
	sql_put_i64(stmt, 3, account->leased);
	sql_put_i64(stmt, 4, (int64_t)ask->answers);
	sql_put_i64(stmt, 5, ask->take);
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

/* Turns are numbered for good, so no question has the number of an older one. */
static uint64_t number_of(struct book *book, const struct store_lease_ask *ask)
{
	return ask->question ? ask->question : (uint64_t)sql_number(sql_say(book->db, "SELECT number + 1 FROM turn WHERE id = 1"));
}

/* True when somebody has yet to answer. */
static bool recall(struct book *book, const struct book_account *account, uint64_t question)
{
	struct sql_stmt *stmt =
	    sql_say(book->db, "SELECT count(pg_notify('darkbloom', instance || ':w' || ?3::TEXT || ':' || ?4::TEXT)) FROM leases"
	                      " WHERE account = ?1 AND instance <> ?2 AND amount > 0 AND answered < ?5");
	char number[24];
	snprintf(number, sizeof number, "%llu", (unsigned long long)question);
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, book->instance);
	sql_put_text(stmt, 3, number);
	sql_put_text(stmt, 4, account->id);
	sql_put_i64(stmt, 5, (int64_t)question);
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
	op->lease.is_final = op->lease.is_poor;
	if (ask->recall && !op->lease.is_enough) {
		op->lease.question = number_of(book, ask);
		op->lease.is_final |= !recall(book, account, op->lease.question);
	}
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

/* --- spend limits --- */

struct op_key_hold {
	struct op_task task;
	store_key_hold_fn done;
	struct store_key_hold hold;
	bool granted;
	uint64_t epoch;
};

/* With what this group of writes has settled so far. */
static int64_t spent_since(struct book *book, const char *group, int64_t day)
{
	const struct book_spend *here = map_get(&book->spends, str_of(group));
	struct sql_stmt *stmt =
	    sql_say(book->db, "SELECT coalesce(sum(spent), 0) FROM key_spend WHERE limit_group = ? AND day >= ?");
	sql_put_text(stmt, 1, group);
	sql_put_i64(stmt, 2, day);
	return sql_number(stmt) + (here && here->day >= day ? here->amount : 0);
}

static int64_t held_by_all(struct book *book, const char *group)
{
	struct sql_stmt *stmt = sql_say(book->db, "SELECT coalesce(sum(amount), 0) FROM key_holds WHERE limit_group = ?");
	sql_put_text(stmt, 1, group);
	return sql_number(stmt);
}

static void write_key_hold(struct book *book, struct op_task *task)
{
	struct op_key_hold *op = (struct op_key_hold *)task;
	const struct store_key_hold *hold = &op->hold;
	int64_t used = spent_since(book, hold->limit_group, hold->since_day) + held_by_all(book, hold->limit_group);
	op->epoch = (uint64_t)book->instance;
	op->granted = used <= hold->limit_uusd && hold->amount_uusd <= hold->limit_uusd - used;
	if (!op->granted)
		return;
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO key_holds (limit_group, instance, amount) VALUES (?, ?, ?)"
	                                          " ON CONFLICT (limit_group, instance)"
	                                          " DO UPDATE SET amount = key_holds.amount + excluded.amount");
	sql_put_text(stmt, 1, hold->limit_group);
	sql_put_i64(stmt, 2, book->instance);
	sql_put_i64(stmt, 3, hold->amount_uusd);
	sql_run(stmt);
}

/* Of one that was taken for lost meanwhile there is nothing left to free. */
static void write_key_free(struct book *book, struct op_task *task)
{
	const struct op_key_hold *op = (const struct op_key_hold *)task;
	struct sql_stmt *stmt = sql_say(book->db, "UPDATE key_holds SET amount = CASE WHEN amount > ?3 THEN amount - ?3 ELSE 0 END"
	                                          " WHERE limit_group = ?1 AND instance = ?2");
	sql_put_text(stmt, 1, op->hold.limit_group);
	sql_put_i64(stmt, 2, (int64_t)op->epoch);
	sql_put_i64(stmt, 3, op->hold.amount_uusd);
	sql_run(stmt);
}

static void deliver_key_hold(struct store_op *op)
{
	struct op_key_hold *hold = (struct op_key_hold *)op;
	hold->done(!op->failed && hold->granted, hold->epoch, op_error(op), op->user);
}

void store_key_hold(struct store *store, const struct store_key_hold *hold, store_key_hold_fn done, void *user)
{
	struct op_key_hold *op = store_new_op(sizeof *op, OP_TASK_WRITE, deliver_key_hold, user);
	op->task.write = write_key_hold;
	op->done = done;
	op->hold = *hold;
	journal_submit(store->journal, &op->task.op);
}

void store_key_free(struct store *store, struct str limit_group, int64_t amount_uusd, uint64_t epoch)
{
	struct op_key_hold *op = store_new_op(sizeof *op, OP_TASK_WRITE, NULL, NULL);
	op->task.write = write_key_free;
	op->hold.amount_uusd = amount_uusd;
	op->epoch = epoch;
	(void)str_copy(limit_group, op->hold.limit_group, sizeof op->hold.limit_group);
	journal_submit(store->journal, &op->task.op);
}

/* --- who shares --- */

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
