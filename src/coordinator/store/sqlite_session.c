/* SQL about the sessions of people who are logged in. */
#include "coordinator/store/op_login.h"

#include <stdlib.h>

#define ALIVE "expires_us > ? AND seen_us + idle_us > ?"

static void end_session(struct sqlite_db *db, const char *hash_hex)
{
	sqlite3_stmt *stmt = sqlite_say(db, "DELETE FROM sessions WHERE hash = ?");
	sqlite_text(stmt, 1, hash_hex);
	sqlite_run(db, stmt);
}

static void end_expired(struct sqlite_db *db, int64_t now_us)
{
	sqlite3_stmt *stmt = sqlite_say(db, "DELETE FROM sessions WHERE expires_us <= ?");
	sqlite_i64(stmt, 1, now_us);
	sqlite_run(db, stmt);
}

void login_session_create(struct sqlite_db *db, struct op_login *op)
{
	const struct store_session *session = &op->session;
	int64_t account = login_account_ref(db, session->account_id);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", session->account_id);
		return;
	}
	end_expired(db, session->created_us);
	end_session(db, op->other);
	sqlite3_stmt *stmt = sqlite_say(db, "INSERT INTO sessions (hash, id, account, method, agent, address, created_us, seen_us,"
	                                    " auth_us, idle_us, expires_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
	sqlite_text(stmt, 1, session->hash_hex);
	sqlite_text(stmt, 2, session->id);
	sqlite_i64(stmt, 3, account);
	sqlite_text(stmt, 4, session->method);
	sqlite_text(stmt, 5, session->agent);
	sqlite_text(stmt, 6, session->address);
	sqlite_i64(stmt, 7, session->created_us);
	sqlite_i64(stmt, 8, session->seen_us);
	sqlite_i64(stmt, 9, session->auth_us);
	sqlite_i64(stmt, 10, session->idle_us);
	sqlite_i64(stmt, 11, session->expires_us);
	sqlite_run(db, stmt);
}

/* Columns: hash, id, method, agent, address, created_us, seen_us, auth_us, idle_us, expires_us. */
#define COLUMNS "hash, sessions.id, method, agent, address, sessions.created_us, seen_us, auth_us, idle_us, expires_us"

static void read_session(sqlite3_stmt *stmt, struct store_session *session)
{
	*session = (struct store_session){.created_us = sqlite3_column_int64(stmt, 5),
	                                  .seen_us = sqlite3_column_int64(stmt, 6),
	                                  .auth_us = sqlite3_column_int64(stmt, 7),
	                                  .idle_us = sqlite3_column_int64(stmt, 8),
	                                  .expires_us = sqlite3_column_int64(stmt, 9)};
	sqlite_copy(stmt, 0, session->hash_hex, sizeof session->hash_hex);
	sqlite_copy(stmt, 1, session->id, sizeof session->id);
	sqlite_copy(stmt, 2, session->method, sizeof session->method);
	sqlite_copy(stmt, 3, session->agent, sizeof session->agent);
	sqlite_copy(stmt, 4, session->address, sizeof session->address);
}

void login_session_find(struct sqlite_db *db, struct op_login *op)
{
	sqlite3_stmt *stmt = sqlite_say(db, "SELECT " COLUMNS ", account FROM sessions WHERE hash = ? AND " ALIVE);
	sqlite_text(stmt, 1, op->key);
	sqlite_i64(stmt, 2, op->at_us);
	sqlite_i64(stmt, 3, op->at_us);
	if (!sqlite_row(db, stmt))
		return;
	int64_t account = sqlite3_column_int64(stmt, 10);
	read_session(stmt, &op->session);
	sqlite_done(stmt);
	login_read_person(db, account, op);
	memcpy(op->session.account_id, op->person.account_id, sizeof op->session.account_id);
}

void login_session_touch(struct sqlite_db *db, struct op_login *op)
{
	sqlite3_stmt *stmt =
	    sqlite_say(db, "UPDATE sessions SET seen_us = max(seen_us, ?), auth_us = max(auth_us, ?) WHERE hash = ?");
	sqlite_i64(stmt, 1, op->at_us);
	sqlite_i64(stmt, 2, op->session.auth_us);
	sqlite_text(stmt, 3, op->key);
	sqlite_run(db, stmt);
}

void login_session_end(struct sqlite_db *db, struct op_login *op)
{
	end_session(db, op->key);
}

void login_session_revoke(struct sqlite_db *db, struct op_login *op)
{
	sqlite3_stmt *stmt = sqlite_say(db, "DELETE FROM sessions WHERE account = ?1 AND (?2 = '' OR id = ?2)");
	sqlite_i64(stmt, 1, login_account_ref(db, op->key));
	sqlite_text(stmt, 2, op->other);
	if (sqlite_run(db, stmt) && sqlite3_changes(db->handle) == 0 && op->other[0])
		op_fail(&op->op, DB_E_NOT_FOUND, "There is no such session.");
}

void login_sessions_list(struct sqlite_db *db, struct op_login *op)
{
	size_t room = 0;
	sqlite3_stmt *stmt = sqlite_say(db, "SELECT " COLUMNS " FROM sessions JOIN accounts ON ref = account"
	                                    " WHERE accounts.id = ? AND " ALIVE " ORDER BY seen_us DESC LIMIT 200");
	sqlite_text(stmt, 1, op->key);
	sqlite_i64(stmt, 2, op->at_us);
	sqlite_i64(stmt, 3, op->at_us);
	while (sqlite_row(db, stmt)) {
		if (op->count == room) {
			room = room ? room * 2 : 8;
			struct store_session *rows = realloc(op->rows, room * sizeof *rows);
			if (!rows) {
				op_fail(&op->op, DB_E_NOMEM, "There is no memory for the rows of a query.");
				sqlite_done(stmt);
				return;
			}
			op->rows = rows;
		}
		read_session(stmt, &op->rows[op->count]);
		str_copy(str_of(op->key), op->rows[op->count++].account_id, sizeof op->rows->account_id);
	}
}
