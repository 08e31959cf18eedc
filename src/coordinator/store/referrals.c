/* Referrals: their rows, and who may refer whom. */
#include "coordinator/store/store_referrals.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "coordinator/store/store_login.h"
#include "core/clock.h"

#define STEPS_MAX     64 /* of a chain of referrers that is looked along; a longer one is refused */
#define ADDRESSES_MAX 8

struct op_referral {
	struct op_task task;
	store_referral_fn done;
	char account[STORE_ID_SIZE], code[STORE_REFERRAL_CODE_SIZE];
	enum store_referral_source source;
	bool is_new; /* something was written */
	struct store_referral out;
};

static void deliver(struct store_op *op)
{
	struct op_referral *referral = (struct op_referral *)op;
	referral->done(op->failed ? NULL : &referral->out, op_error(op), op->user);
}

static struct op_referral *new_op(enum op_kind kind, struct str account_id, struct str code, store_referral_fn done, void *user)
{
	struct op_referral *op = store_new_op(sizeof *op, kind, deliver, user);
	op->done = done;
	(void)str_copy(account_id, op->account, sizeof op->account);
	(void)str_copy(code, op->code, sizeof op->code);
	return op;
}

/* The account that has the code, 0 = none. */
static int64_t owner_of(struct sql *db, const char *code)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT account FROM referrers WHERE code = ?");
	sql_put_text(stmt, 1, code);
	return sql_number(stmt);
}

static int64_t referrer_of(struct sql *db, int64_t account)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT referrer FROM referrals WHERE account = ?");
	sql_put_i64(stmt, 1, account);
	return sql_number(stmt);
}

/* --- a code of one's own --- */

static bool read_own_code(struct sql *db, int64_t account, char code[STORE_REFERRAL_CODE_SIZE])
{
	struct sql_stmt *stmt = sql_say(db, "SELECT code FROM referrers WHERE account = ?");
	sql_put_i64(stmt, 1, account);
	if (!sql_row(stmt))
		return false;
	sql_copy(stmt, 0, code, STORE_REFERRAL_CODE_SIZE);
	sql_done(stmt);
	return true;
}

static void write_code(struct book *book, struct op_task *task)
{
	struct op_referral *op = (struct op_referral *)task;
	struct book_account *account = book_account(book, op->account);
	op->is_new = false;
	op->out = (struct store_referral){0};
	if (!account || account->is_source) {
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no account %s.", op->account);
		return;
	}
	if (read_own_code(book->db, account->ref, op->out.code))
		return;
	if (owner_of(book->db, op->code)) {
		op_fail(&task->op, DB_E_EXISTS, "Another account has this code.");
		return;
	}
	struct sql_stmt *stmt = sql_say(book->db, "INSERT INTO referrers (account, code, created_us) VALUES (?, ?, ?)");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_text(stmt, 2, op->code);
	sql_put_i64(stmt, 3, clock_wall_us());
	op->is_new = sql_run(stmt);
	memcpy(op->out.code, op->code, sizeof op->out.code);
}

static bool note_code(const struct op_task *task, struct trail_note *note)
{
	const struct op_referral *op = (const struct op_referral *)task;
	note->action = "referral.register";
	note->account_id = op->account;
	trail_subject(note, "%s", op->account);
	trail_text(note, "code", op->code);
	return op->is_new;
}

void store_referral_register(struct store *store, struct str account_id, struct str code, store_referral_fn done, void *user)
{
	struct op_referral *op = new_op(OP_TASK_WRITE, account_id, code, done, user);
	op->task.write = write_code;
	op->task.note = note_code;
	journal_submit(store->journal, &op->task.op);
}

/* --- a referrer --- */

/* Does the chain of referrers from `at` upwards meet `account`? */
static bool leads_to(struct sql *db, int64_t at, int64_t account)
{
	for (int steps = 0; at && at != account; steps++) {
		if (steps == STEPS_MAX)
			return true;
		at = referrer_of(db, at);
	}
	return at == account;
}

/* An address without what mail systems ignore: the part behind a plus. */
static void plain_address(struct str email, char out[STORE_EMAIL_SIZE])
{
	struct str name, box;
	struct str domain = str_cut(email, '@', &name);
	(void)str_cut(name, '+', &box);
	snprintf(out, STORE_EMAIL_SIZE, "%.*s@%.*s", STR_ARG(box), STR_ARG(domain));
}

struct addresses {
	char list[ADDRESSES_MAX][STORE_EMAIL_SIZE];
	size_t count;
};

static void read_addresses(struct sql *db, int64_t account, struct addresses *out)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT lower(email) FROM passwords WHERE account = ?1 UNION"
	                                    " SELECT lower(email) FROM identities WHERE account = ?1 AND email <> '' LIMIT ?2");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, ADDRESSES_MAX);
	out->count = 0;
	while (sql_row(stmt))
		if (out->count < ADDRESSES_MAX)
			plain_address(sql_text(stmt, 0), out->list[out->count++]);
}

static bool share_an_address(struct sql *db, int64_t one, int64_t other)
{
	struct addresses mine, theirs;
	read_addresses(db, one, &mine);
	read_addresses(db, other, &theirs);
	for (size_t i = 0; i < mine.count; i++)
		for (size_t j = 0; j < theirs.count; j++)
			if (strcmp(mine.list[i], theirs.list[j]) == 0)
				return true;
	return false;
}

static const char *refusal(struct sql *db, int64_t account, int64_t referrer)
{
	if (account == referrer)
		return "This is the account's own code.";
	if (referrer_of(db, account))
		return "This account has a referrer already.";
	if (leads_to(db, referrer, account))
		return "Accounts cannot refer each other.";
	return share_an_address(db, account, referrer) ? "This code belongs to the same person." : NULL;
}

static const char *const source_names[] = {
    [STORE_REFERRED_BY_APPLYING] = "apply", [STORE_REFERRED_AT_SIGNUP] = "signup", [STORE_REFERRED_AT_CHECKOUT] = "checkout"};

static void read_account_id(struct sql *db, int64_t account, char out[STORE_ID_SIZE])
{
	struct sql_stmt *stmt = sql_say(db, "SELECT id FROM accounts WHERE ref = ?");
	sql_put_i64(stmt, 1, account);
	if (!sql_row(stmt))
		return;
	sql_copy(stmt, 0, out, STORE_ID_SIZE);
	sql_done(stmt);
}

static void write_referral(struct book *book, struct op_task *task)
{
	struct op_referral *op = (struct op_referral *)task;
	struct sql *db = book->db;
	struct book_account *account = book_account(book, op->account);
	int64_t referrer = owner_of(db, op->code);
	op->out = (struct store_referral){0};
	if (!account || account->is_source || !referrer) {
		op_fail(&task->op, DB_E_NOT_FOUND, "Nobody has this code.");
		return;
	}
	const char *why = refusal(db, account->ref, referrer);
	if (why) {
		op_fail(&task->op, DB_E_DENIED, "%s", why);
		return;
	}
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO referrals (account, referrer, source, created_us) VALUES (?, ?, ?, ?)");
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, referrer);
	sql_put_text(stmt, 3, source_names[op->source]);
	sql_put_i64(stmt, 4, clock_wall_us());
	sql_run(stmt);
	read_account_id(db, referrer, op->out.referrer);
	memcpy(op->out.referred_by, op->code, sizeof op->out.referred_by);
}

static bool note_referral(const struct op_task *task, struct trail_note *note)
{
	const struct op_referral *op = (const struct op_referral *)task;
	note->action = "referral.apply";
	note->account_id = op->account;
	trail_subject(note, "%s", op->account);
	trail_text(note, "code", op->code);
	trail_text(note, "referrer", op->out.referrer);
	trail_text(note, "source", source_names[op->source]);
	return true;
}

void store_referral_apply(struct store *store, struct str account_id, struct str code, enum store_referral_source source,
                          store_referral_fn done, void *user)
{
	struct op_referral *op = new_op(OP_TASK_WRITE, account_id, code, done, user);
	op->task.write = write_referral;
	op->task.note = note_referral;
	op->source = source;
	journal_submit(store->journal, &op->task.op);
}

/* --- views --- */

static void read_referrer(struct sql *db, int64_t account, struct store_referral *out)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT s.code, a.id FROM referrals r JOIN referrers s ON s.account = r.referrer"
	                                    " JOIN accounts a ON a.ref = r.referrer WHERE r.account = ?");
	sql_put_i64(stmt, 1, account);
	if (!sql_row(stmt))
		return;
	sql_copy(stmt, 0, out->referred_by, sizeof out->referred_by);
	sql_copy(stmt, 1, out->referrer, sizeof out->referrer);
	sql_done(stmt);
}

static void read_referral(struct sql *db, struct op_task *task)
{
	struct op_referral *op = (struct op_referral *)task;
	struct sql_stmt *stmt = sql_say(db, "SELECT ref FROM accounts WHERE id = ?");
	sql_put_text(stmt, 1, op->account);
	int64_t account = sql_number(stmt);
	read_referrer(db, account, &op->out);
	if (!read_own_code(db, account, op->out.code))
		return;
	stmt = sql_say(db, "SELECT count(*) FROM referrals WHERE referrer = ?");
	sql_put_i64(stmt, 1, account);
	op->out.referred = sql_number(stmt);
	stmt = sql_say(db, "SELECT coalesce(sum(referrals), 0) FROM earnings_hours WHERE account = ?");
	sql_put_i64(stmt, 1, account);
	op->out.rewards_uusd = sql_number(stmt);
}

void store_referral_get(struct store *store, struct str account_id, store_referral_fn done, void *user)
{
	struct op_referral *op = new_op(OP_TASK_READ, account_id, STR_NONE, done, user);
	op->task.read = read_referral;
	journal_submit(store->journal, &op->task.op);
}

static void read_owner(struct sql *db, struct op_task *task)
{
	struct op_referral *op = (struct op_referral *)task;
	int64_t referrer = owner_of(db, op->code);
	if (referrer)
		read_account_id(db, referrer, op->out.referrer);
}

void store_referral_find(struct store *store, struct str code, store_referral_fn done, void *user)
{
	struct op_referral *op = new_op(OP_TASK_READ, STR_NONE, code, done, user);
	op->task.read = read_owner;
	journal_submit(store->journal, &op->task.op);
}
