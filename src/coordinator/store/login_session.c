/* SQL about the sessions of people who are logged in. */
#include "coordinator/store/op_login.h"

#include <stdlib.h>

#define ALIVE "expires_us > ? AND seen_us + idle_us > ?"

static void end_session(struct sql *db, const char *hash_hex)
{
	struct sql_stmt *stmt = sql_say(db, "DELETE FROM sessions WHERE hash = ?");
	sql_put_text(stmt, 1, hash_hex);
	sql_run(stmt);
}

static void end_expired(struct sql *db, int64_t now_us)
{
	struct sql_stmt *stmt = sql_say(db, "DELETE FROM sessions WHERE expires_us <= ?");
	sql_put_i64(stmt, 1, now_us);
	sql_run(stmt);
}

void login_session_create(struct sql *db, struct op_login *op)
{
	const struct store_session *session = &op->session;
	int64_t account = login_account_ref(db, session->account_id);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", session->account_id);
		return;
	}
	end_expired(db, session->created_us);
	end_session(db, op->other);
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO sessions (hash, id, account, method, agent, address, created_us, seen_us,"
	                                    " auth_us, idle_us, expires_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
	sql_put_text(stmt, 1, session->hash_hex);
	sql_put_text(stmt, 2, session->id);
	sql_put_i64(stmt, 3, account);
	sql_put_text(stmt, 4, session->method);
	sql_put_text(stmt, 5, session->agent);
	sql_put_text(stmt, 6, session->address);
	sql_put_i64(stmt, 7, session->created_us);
	sql_put_i64(stmt, 8, session->seen_us);
	sql_put_i64(stmt, 9, session->auth_us);
	sql_put_i64(stmt, 10, session->idle_us);
	sql_put_i64(stmt, 11, session->expires_us);
	sql_run(stmt);
}

/* Columns: hash, id, method, agent, address, created_us, seen_us, auth_us, idle_us, expires_us. */
#define COLUMNS "hash, sessions.id, method, agent, address, sessions.created_us, seen_us, auth_us, idle_us, expires_us"

static void read_session(struct sql_stmt *stmt, struct store_session *session)
{
	*session = (struct store_session){.created_us = sql_i64(stmt, 5),
	                                  .seen_us = sql_i64(stmt, 6),
	                                  .auth_us = sql_i64(stmt, 7),
	                                  .idle_us = sql_i64(stmt, 8),
	                                  .expires_us = sql_i64(stmt, 9)};
	sql_copy(stmt, 0, session->hash_hex, sizeof session->hash_hex);
	sql_copy(stmt, 1, session->id, sizeof session->id);
	sql_copy(stmt, 2, session->method, sizeof session->method);
	sql_copy(stmt, 3, session->agent, sizeof session->agent);
	sql_copy(stmt, 4, session->address, sizeof session->address);
}

void login_session_find(struct sql *db, struct op_login *op)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT " COLUMNS ", account FROM sessions WHERE hash = ? AND " ALIVE);
	sql_put_text(stmt, 1, op->key);
	sql_put_i64(stmt, 2, op->at_us);
	sql_put_i64(stmt, 3, op->at_us);
	if (!sql_row(stmt))
		return;
	int64_t account = sql_i64(stmt, 10);
	read_session(stmt, &op->session);
	sql_done(stmt);
	login_read_person(db, account, op);
	memcpy(op->session.account_id, op->person.account_id, sizeof op->session.account_id);
}

void login_session_touch(struct sql *db, struct op_login *op)
{
	struct sql_stmt *stmt = sql_say(db, "UPDATE sessions SET seen_us = CASE WHEN seen_us < ?1 THEN ?1 ELSE seen_us END,"
	                                    " auth_us = CASE WHEN auth_us < ?2 THEN ?2 ELSE auth_us END WHERE hash = ?3");
	sql_put_i64(stmt, 1, op->at_us);
	sql_put_i64(stmt, 2, op->session.auth_us);
	sql_put_text(stmt, 3, op->key);
	sql_run(stmt);
}

void login_session_end(struct sql *db, struct op_login *op)
{
	end_session(db, op->key);
}

void login_session_revoke(struct sql *db, struct op_login *op)
{
	struct sql_stmt *stmt = sql_say(db, "DELETE FROM sessions WHERE account = ?1 AND (?2 = '' OR id = ?2)");
	sql_put_i64(stmt, 1, login_account_ref(db, op->key));
	sql_put_text(stmt, 2, op->other);
	if (sql_run(stmt) && sql_changes(db) == 0 && op->other[0])
		op_fail(&op->op, DB_E_NOT_FOUND, "There is no such session.");
}

void login_sessions_list(struct sql *db, struct op_login *op)
{
	size_t room = 0;
	struct sql_stmt *stmt = sql_say(db, "SELECT " COLUMNS " FROM sessions JOIN accounts ON ref = account"
	                                    " WHERE accounts.id = ? AND " ALIVE " ORDER BY seen_us DESC LIMIT 200");
	sql_put_text(stmt, 1, op->key);
	sql_put_i64(stmt, 2, op->at_us);
	sql_put_i64(stmt, 3, op->at_us);
	while (sql_row(stmt)) {
		if (op->count == room) {
			room = room ? room * 2 : 8;
			struct store_session *rows = realloc(op->rows, room * sizeof *rows);
			if (!rows) {
				op_fail(&op->op, DB_E_NOMEM, "There is no memory for the rows of a query.");
				sql_done(stmt);
				return;
			}
			op->rows = rows;
		}
		read_session(stmt, &op->rows[op->count]);
		str_copy(str_of(op->key), op->rows[op->count++].account_id, sizeof op->rows->account_id);
	}
}
