/* Portable SQL: one statement text that SQLite and PostgreSQL both understand, prepared on first use and kept. Inside store/
 * only.
 *
 * Text: parameters are `?`, or `?1`, `?2`... where one is used twice (PostgreSQL gets $1, $2...). Write what both understand:
 * ON CONFLICT with its columns named, CASE instead of iif() and of scalar max(), `table.column` on the right of DO UPDATE SET,
 * RETURNING instead of the last row id, every selected column of a GROUP BY covered by a primary key in it. Whole numbers,
 * booleans (0, 1) and times (microseconds since 1970) are 64-bit integers; text is UTF-8 without NUL bytes.
 *
 * Failure is sticky: the first failing statement notes why in `failed` and `why`, and everything after it does nothing, so that
 * a subject checks once at its end. A statement is NULL after a failure, and NULL may be given to every function here.
 * Thread: one at a time; the writer and each reader own a connection of their own. */
#ifndef COORDINATOR_STORE_SQL_H
#define COORDINATOR_STORE_SQL_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

enum sql_kind { SQL_SQLITE, SQL_POSTGRES };

struct sql_stmt;
struct sql_backend;

struct sql {
	const struct sql_backend *backend;
	enum sql_kind kind;
	/* Sticky until sql_clear. DB_E_INTERNAL: a broken constraint or statement, the transaction is spoilt. DB_E_AGAIN: try the
	 * whole transaction again (serialisation, dead lock, lost connection). DB_E_IO: the database cannot go on. */
	enum db_err failed;
	struct error why;
	int64_t changes;
	struct sql_stmt **kept; /* by the address of their text */
	size_t kept_count, kept_room;
};

enum sql_mode { SQL_READ, SQL_WRITE };
/* place: the path of a SQLite file (it must exist; an empty one is a new database), or a postgres:// address. NULL: see error.
 */
struct sql *sql_open(const char *place, enum sql_mode mode, struct error *error);
bool sql_is_postgres(const char *place);

void sql_clear(struct sql *db);
/* Notes a failure of the caller's own, unless there is one already. */
void sql_fail(struct sql *db, enum db_err code, const char *sentence);

/* The statement, ready for its parameters. text is borrowed for good: a literal, or a static table's. */
struct sql_stmt *sql_say(struct sql *db, const char *text);
/* Parameters count from 1. Bytes must live until the first sql_row, sql_run or sql_post. */
void sql_put_i64(struct sql_stmt *stmt, int at, int64_t value);
void sql_put_i64_or_null(struct sql_stmt *stmt, int at, int64_t value); /* 0 = NULL */
void sql_put_double(struct sql_stmt *stmt, int at, double value);
void sql_put_null(struct sql_stmt *stmt, int at);
void sql_put_text(struct sql_stmt *stmt, int at, const char *text);
void sql_put_str(struct sql_stmt *stmt, int at, struct str text);
void sql_put_blob(struct sql_stmt *stmt, int at, struct str bytes);

/* True while there is a row; its columns, counted from 0, are valid until the next call. At the end the statement is free
 * again. */
bool sql_row(struct sql_stmt *stmt);
/* Carries out a statement whose rows, if any, do not matter. False when it failed. */
bool sql_run(struct sql_stmt *stmt);
/* The same, but nobody asks for sql_changes and a failure may show later, at the next sql_row, sql_run or commit at the latest:
 * on PostgreSQL it travels in a pipeline with its neighbours. */
void sql_post(struct sql_stmt *stmt);
/* From now on the rows of this statement come one by one, for those with more than memory should hold. Not inside a write. */
void sql_stream(struct sql_stmt *stmt);
void sql_done(struct sql_stmt *stmt); /* after the only row of interest was read */
/* How many rows the last sql_run, or the last statement read to its end, inserted, changed or deleted. */
int64_t sql_changes(const struct sql *db);
/* True when there is a row, which is then given up. */
bool sql_exists(struct sql_stmt *stmt);
/* Column 0 of the first row; 0 when there is none. */
int64_t sql_number(struct sql_stmt *stmt);

int64_t sql_i64(struct sql_stmt *stmt, int column);
double sql_double(struct sql_stmt *stmt, int column);
bool sql_is_null(struct sql_stmt *stmt, int column);
struct str sql_text(struct sql_stmt *stmt, int column);
struct str sql_blob(struct sql_stmt *stmt, int column);
/* A text column into a fixed array; cut when longer. */
void sql_copy(struct sql_stmt *stmt, int column, char *out, size_t size);

/* Statements without parameters or rows, several at once with `;` between them. Not kept. */
bool sql_exec(struct sql *db, const char *text);
/* Carries out body in a transaction of its own, again when the database asks for that (serialisation, lost connection before
 * the commit). Operations of the store do not need it: they run inside the writer's. False: see `why`. */
bool sql_atomically(struct sql *db, void (*body)(struct sql *db, void *user), void *user);
/* Ends the transaction that is open, if any, without its changes; `failed` and `why` stay as they are. */
void sql_rollback(struct sql *db);
void sql_close(struct sql *db); /* frees it; NULL is fine */

#endif
