#include "coordinator/store/sql_backend.h"

#include <stdlib.h>

#include "coordinator/store/postgres_db.h"
#include "coordinator/store/sqlite_db.h"

#define ATTEMPTS 10

bool sql_is_postgres(const char *place)
{
	struct str text = str_of(place);
	return str_starts(text, STR("postgres://")) || str_starts(text, STR("postgresql://"));
}

struct sql *sql_open(const char *place, enum sql_mode mode, struct error *error)
{
	return sql_is_postgres(place) ? postgres_db_open(place, mode, error) : sqlite_db_open(place, mode, error);
}

void sql_clear(struct sql *db)
{
	db->failed = DB_OK;
}

void sql_fail(struct sql *db, enum db_err code, const char *sentence)
{
	if (!db->failed)
		db->failed = error_set(&db->why, code, "%s", sentence);
}

/* --- kept statements: a table by the address of the text, never more than half full --- */

static size_t slot_of(const struct sql *db, const char *text)
{
	uint64_t hash = (uint64_t)(uintptr_t)text * UINT64_C(0x9e3779b97f4a7c15);
	size_t slot = (size_t)(hash >> 32) & (db->kept_room - 1);
	while (db->kept[slot] && db->kept[slot]->text != text)
		slot = (slot + 1) & (db->kept_room - 1);
	return slot;
}

static bool make_room(struct sql *db)
{
	struct sql_stmt **old = db->kept;
	size_t old_room = db->kept_room;
	if (db->kept_count * 2 < db->kept_room)
		return true;
	size_t room = old_room ? old_room * 2 : 64;
	struct sql_stmt **fresh = calloc(room, sizeof(struct sql_stmt *));
	if (!fresh) {
		sql_fail(db, DB_E_IO, "The database ran out of memory.");
		return false;
	}
	db->kept = fresh;
	db->kept_room = room;
	for (size_t i = 0; i < old_room; i++)
		if (old[i])
			db->kept[slot_of(db, old[i]->text)] = old[i];
	free(old);
	return true;
}

struct sql_stmt *sql_say(struct sql *db, const char *text)
{
	if (db->failed || !make_room(db))
		return NULL;
	struct sql_stmt **kept = &db->kept[slot_of(db, text)];
	if (!*kept) {
		*kept = db->backend->prepare(db, text);
		db->kept_count += *kept != NULL;
	}
	return *kept;
}

/* --- parameters --- */

void sql_put_i64(struct sql_stmt *stmt, int at, int64_t value)
{
	if (stmt)
		stmt->db->backend->put_i64(stmt, at, value);
}

void sql_put_i64_or_null(struct sql_stmt *stmt, int at, int64_t value)
{
	if (value)
		sql_put_i64(stmt, at, value);
	else
		sql_put_null(stmt, at);
}

void sql_put_double(struct sql_stmt *stmt, int at, double value)
{
	if (stmt)
		stmt->db->backend->put_double(stmt, at, value);
}

void sql_put_null(struct sql_stmt *stmt, int at)
{
	if (stmt)
		stmt->db->backend->put_null(stmt, at);
}

void sql_put_text(struct sql_stmt *stmt, int at, const char *text)
{
	if (stmt)
		stmt->db->backend->put_bytes(stmt, at, str_of(text), SQL_TEXT);
}

void sql_put_str(struct sql_stmt *stmt, int at, struct str text)
{
	if (stmt)
		stmt->db->backend->put_bytes(stmt, at, text, SQL_PART);
}

void sql_put_blob(struct sql_stmt *stmt, int at, struct str bytes)
{
	if (stmt)
		stmt->db->backend->put_bytes(stmt, at, bytes, SQL_BLOB);
}

/* --- rows --- */

bool sql_row(struct sql_stmt *stmt)
{
	return stmt && !stmt->db->failed && stmt->db->backend->row(stmt);
}

bool sql_run(struct sql_stmt *stmt)
{
	while (sql_row(stmt))
		;
	return stmt && !stmt->db->failed;
}

void sql_post(struct sql_stmt *stmt)
{
	if (!stmt || stmt->db->failed)
		return;
	if (stmt->db->backend->post)
		stmt->db->backend->post(stmt);
	else
		sql_run(stmt);
}

void sql_stream(struct sql_stmt *stmt)
{
	if (stmt && stmt->db->backend->stream)
		stmt->db->backend->stream(stmt);
}

void sql_done(struct sql_stmt *stmt)
{
	if (stmt)
		stmt->db->backend->done(stmt);
}

int64_t sql_changes(const struct sql *db)
{
	return db->changes;
}

bool sql_exists(struct sql_stmt *stmt)
{
	bool found = sql_row(stmt);
	if (found)
		sql_done(stmt);
	return found;
}

int64_t sql_number(struct sql_stmt *stmt)
{
	int64_t number = 0;
	if (sql_row(stmt)) {
		number = sql_i64(stmt, 0);
		sql_done(stmt);
	}
	return number;
}

int64_t sql_i64(struct sql_stmt *stmt, int column)
{
	return stmt->db->backend->i64(stmt, column);
}

double sql_double(struct sql_stmt *stmt, int column)
{
	return stmt->db->backend->real(stmt, column);
}

bool sql_is_null(struct sql_stmt *stmt, int column)
{
	return stmt->db->backend->is_null(stmt, column);
}

struct str sql_text(struct sql_stmt *stmt, int column)
{
	return stmt->db->backend->bytes(stmt, column, false);
}

struct str sql_blob(struct sql_stmt *stmt, int column)
{
	return stmt->db->backend->bytes(stmt, column, true);
}

void sql_copy(struct sql_stmt *stmt, int column, char *out, size_t size)
{
	struct str text = sql_text(stmt, column);
	size_t len = text.len < size ? text.len : size - 1;
	if (len)
		memcpy(out, text.at, len);
	out[len] = '\0';
}

/* --- the whole --- */

bool sql_exec(struct sql *db, const char *text)
{
	if (!db->failed)
		db->backend->exec(db, text);
	return !db->failed;
}

bool sql_atomically(struct sql *db, void (*body)(struct sql *db, void *user), void *user)
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		sql_clear(db);
		if (sql_exec(db, db->kind == SQL_SQLITE ? "BEGIN IMMEDIATE" : "BEGIN"))
			body(db, user);
		if (sql_exec(db, "COMMIT"))
			return true;
		sql_rollback(db);
		if (db->failed != DB_E_AGAIN)
			break;
	}
	return false;
}

void sql_rollback(struct sql *db)
{
	db->backend->rollback(db);
}

void sql_close(struct sql *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->kept_room; i++)
		if (db->kept[i])
			db->backend->finalize(db->kept[i]);
	free(db->kept);
	db->backend->close(db);
}
