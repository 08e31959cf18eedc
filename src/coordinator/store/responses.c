/* SQL about kept answers. In a SQLite file what is deleted is overwritten in place first, so that its free pages keep none of
 * it; PostgreSQL keeps versions of rows until it vacuums them, and overwriting would make one more. */
#include "coordinator/store/op_responses.h"

#include <stdlib.h>

#include "coordinator/store/op_login.h"

static void run_for(struct sql *db, const char *text, int64_t value)
{
	struct sql_stmt *stmt = sql_say(db, text);
	sql_put_i64(stmt, 1, value);
	sql_run(stmt);
}

void responses_expire(struct book *book, struct op_task *task)
{
	const struct op_response *op = (struct op_response *)task;
	if (book->db->kind == SQL_SQLITE)
		run_for(book->db, "UPDATE responses SET sealed = zeroblob(bytes) WHERE created_us < ?", op->at_us);
	run_for(book->db, "DELETE FROM responses WHERE created_us < ?", op->at_us);
}

#define OF_ACCOUNT "account = (SELECT ref FROM accounts WHERE accounts.id = ?1)"

static void run_of(struct sql *db, const char *text, const struct op_response *op)
{
	struct sql_stmt *stmt = sql_say(db, text);
	sql_put_text(stmt, 1, op->response.account_id);
	sql_put_text(stmt, 2, op->response.id);
	sql_run(stmt);
}

void responses_delete(struct book *book, struct op_task *task)
{
	struct op_response *op = (struct op_response *)task;
	struct sql *db = book->db;
	if (db->kind == SQL_SQLITE)
		run_of(db, "UPDATE responses SET sealed = zeroblob(bytes) WHERE " OF_ACCOUNT " AND id = ?2", op);
	run_of(db, "DELETE FROM responses WHERE " OF_ACCOUNT " AND id = ?2", op);
	if (!db->failed && sql_changes(db) == 0)
		op_fail(&task->op, DB_E_NOT_FOUND, "There is no such answer.");
}

/* --- adding --- */

#define OLDEST "(SELECT id FROM responses WHERE account = ? ORDER BY created_us, id LIMIT 1)"

static void drop_oldest(struct sql *db, int64_t account)
{
	if (db->kind == SQL_SQLITE)
		run_for(db, "UPDATE responses SET sealed = zeroblob(bytes) WHERE id = " OLDEST, account);
	run_for(db, "DELETE FROM responses WHERE id = " OLDEST, account);
}

static void make_room(struct sql *db, int64_t account, const struct op_response *op)
{
	while (!db->failed) {
		struct sql_stmt *stmt = sql_say(db, "SELECT count(*), coalesce(sum(bytes), 0) FROM responses WHERE account = ?");
		sql_put_i64(stmt, 1, account);
		if (!sql_row(stmt))
			return;
		int64_t count = sql_i64(stmt, 0), bytes = sql_i64(stmt, 1) + (int64_t)op->response.sealed.len;
		sql_done(stmt);
		if (count == 0 || (count < op->bounds.count && bytes <= op->bounds.bytes))
			return;
		drop_oldest(db, account);
	}
}

void responses_add(struct book *book, struct op_task *task)
{
	const struct store_response *response = &((struct op_response *)task)->response;
	struct sql *db = book->db;
	int64_t account = login_account_ref(db, response->account_id);
	if (!response->sealed.at) {
		op_fail(&task->op, DB_E_NOMEM, "There is no memory for an answer that is to be kept.");
		return;
	}
	if (!account) {
		op_fail(&task->op, DB_E_NOT_FOUND, "The account %s does not exist.", response->account_id);
		return;
	}
	make_room(db, account, (struct op_response *)task);
	struct sql_stmt *stmt =
	    sql_say(db, "INSERT INTO responses (id, account, previous, created_us, bytes, sealed) VALUES (?, ?, ?, ?, ?, ?)");
	sql_put_text(stmt, 1, response->id);
	sql_put_i64(stmt, 2, account);
	sql_put_text(stmt, 3, response->previous);
	sql_put_i64(stmt, 4, response->created_us);
	sql_put_i64(stmt, 5, (int64_t)response->sealed.len);
	sql_put_blob(stmt, 6, response->sealed);
	sql_run(stmt);
}

/* --- reading --- */

/* The row of the statement, behind op->rows, which has room. False when there is no memory. */
static bool take_row(struct sql_stmt *stmt, struct op_response *op, const char *id)
{
	struct store_response *row = &op->rows[op->count];
	struct str sealed = sql_blob(stmt, 2);
	size_t len = sealed.len;
	char *bytes = malloc(len + 1);
	if (!bytes)
		return false;
	memcpy(bytes, sealed.at, len);
	*row = (struct store_response){.created_us = sql_i64(stmt, 1), .sealed = {bytes, len}};
	str_copy(str_of(id), row->id, sizeof row->id);
	memcpy(row->account_id, op->response.account_id, sizeof row->account_id);
	sql_copy(stmt, 0, row->previous, sizeof row->previous);
	op->count++;
	op->max_bytes = op->max_bytes > len ? op->max_bytes - len : 0;
	return true;
}

static bool read_one(struct sql *db, struct op_response *op, const char *id)
{
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT previous, created_us, sealed FROM responses WHERE " OF_ACCOUNT " AND id = ?2 AND created_us >= ?3");
	sql_put_text(stmt, 1, op->response.account_id);
	sql_put_text(stmt, 2, id);
	sql_put_i64(stmt, 3, op->at_us);
	if (!sql_row(stmt)) {
		op_fail(&op->task.op, op->count ? DB_E_CLOSED : DB_E_NOT_FOUND, "There is no such answer.");
		return false;
	}
	if (sql_blob(stmt, 2).len > op->max_bytes)
		op_fail(&op->task.op, DB_E_LIMIT, "The answers before this one are too large together.");
	else if (!take_row(stmt, op, id))
		op_fail(&op->task.op, DB_E_NOMEM, "There is no memory for the rows of a query.");
	sql_done(stmt);
	return op->task.op.failed == DB_OK;
}

void responses_read(struct sql *db, struct op_task *task)
{
	struct op_response *op = (struct op_response *)task;
	char id[STORE_ID_SIZE];
	memcpy(id, op->response.id, sizeof id);
	op->rows = calloc(op->depth, sizeof *op->rows);
	if (!op->rows) {
		op_fail(&op->task.op, DB_E_NOMEM, "There is no memory for the rows of a query.");
		return;
	}
	while (id[0] && op->count < op->depth) {
		if (!read_one(db, op, id))
			return;
		memcpy(id, op->rows[op->count - 1].previous, sizeof id);
	}
	if (id[0] && op->depth > 1)
		op_fail(&op->task.op, DB_E_LIMIT, "There are too many answers before this one.");
	else if (op->count == 0) /* an id of nothing */
		op_fail(&op->task.op, DB_E_NOT_FOUND, "There is no such answer.");
}
