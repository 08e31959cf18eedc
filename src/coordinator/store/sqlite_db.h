/* SQLite behind sql.h. Inside store/ only. */
#ifndef COORDINATOR_STORE_SQLITE_DB_H
#define COORDINATOR_STORE_SQLITE_DB_H

#include <sqlite3.h>

#include "coordinator/store/sql.h"

/* Fills error with a sentence an operator can act on, from the connection's last error. Returns its code: DB_E_IO when the
 * database cannot go on (full, damaged, unreadable), DB_E_INTERNAL for a broken constraint or statement. */
enum db_err sqlite_error(sqlite3 *handle, struct error *error);

/* The file must exist; an empty one is a new database. NULL: see error. */
struct sql *sqlite_db_open(const char *path, enum sql_mode mode, struct error *error);
sqlite3 *sqlite_handle(struct sql *db);

#endif
