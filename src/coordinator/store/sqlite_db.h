/* A SQLite connection with kept statements: the little that every file of SQL here shares. Inside store/ only.
 * Thread: one at a time; the writer and the reader own one connection each. */
#ifndef COORDINATOR_STORE_SQLITE_DB_H
#define COORDINATOR_STORE_SQLITE_DB_H

#include <sqlite3.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

/* Fills error with a sentence an operator can act on, from the connection's last error. Returns its code: DB_E_IO when the
 * database cannot go on (full, damaged, unreadable), DB_E_INTERNAL for a broken constraint or statement. */
enum db_err sqlite_error(sqlite3 *db, struct error *error);

struct sqlite_db {
	sqlite3 *handle;
	const char *const *sql; /* text of each statement */
	sqlite3_stmt **kept;    /* prepared on first use */
	int count;
	struct sqlite_other *others; /* statements that have no number, linked */
	enum db_err failed;          /* sticky until sqlite_db_clear: what the first failing step returned */
	struct error why;
};

enum sqlite_mode { SQLITE_DB_WRITE, SQLITE_DB_READ };
/* The file must exist; an empty one is a new database. */
enum db_err sqlite_db_open(struct sqlite_db *db, const char *path, enum sqlite_mode mode, struct error *error);
void sqlite_db_statements(struct sqlite_db *db, const char *const *sql, int count); /* borrowed for good */
void sqlite_db_close(struct sqlite_db *db);
void sqlite_db_clear(struct sqlite_db *db);

/* The statement, ready for binding; NULL after a failure. Binding and stepping NULL is harmless: check db->failed once. */
sqlite3_stmt *sqlite_use(struct sqlite_db *db, int statement);
/* The same for a statement that is not in the table: prepared when its text (borrowed for good) is seen for the first time. */
sqlite3_stmt *sqlite_say(struct sqlite_db *db, const char *sql);
void sqlite_i64(sqlite3_stmt *stmt, int at, int64_t value);
void sqlite_double(sqlite3_stmt *stmt, int at, double value);
void sqlite_null(sqlite3_stmt *stmt, int at);
void sqlite_text(sqlite3_stmt *stmt, int at, const char *text); /* must live until the step */
/* True while there is a row. Otherwise the statement is reset; columns are valid until the next step. */
bool sqlite_row(struct sqlite_db *db, sqlite3_stmt *stmt);
/* Steps a statement that gives no rows. False when it failed. */
bool sqlite_run(struct sqlite_db *db, sqlite3_stmt *stmt);
bool sqlite_exec(struct sqlite_db *db, const char *sql);
void sqlite_done(sqlite3_stmt *stmt); /* after the only row of interest was read */
/* A text column into a fixed array; cut when longer. */
void sqlite_copy(sqlite3_stmt *stmt, int column, char *out, size_t size);

#endif
