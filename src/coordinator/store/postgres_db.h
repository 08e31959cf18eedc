/* PostgreSQL behind sql.h, over libpq. Inside store/ only.
 *
 * Statements are prepared once for each connection. Posted ones travel in libpq's pipeline and are answered together with the
 * next one that is waited for. Blocks: the threads of the store wait, the loop's never does. */
#ifndef COORDINATOR_STORE_POSTGRES_DB_H
#define COORDINATOR_STORE_POSTGRES_DB_H

#include <stdio.h>

#include "coordinator/store/sql.h"

#define POSTGRES_VERSION_MIN 150000

/* address: postgres://user@host:port/database?options, or what libpq takes. DB_E_AGAIN: it cannot be reached now;
 * DB_E_UNSUPPORTED: too old; DB_E_DENIED: it knows us not. */
struct sql *postgres_db_open(const char *address, enum sql_mode mode, struct error *error);
/* False while the connection is lost: everything fails with DB_E_AGAIN until postgres_db_reconnect. */
bool postgres_db_connected(struct sql *db);
/* One attempt. Statements are prepared anew; a transaction that was open is gone. */
bool postgres_db_reconnect(struct sql *db);
/* How long a statement may take from now on, milliseconds; 0 = as long as it likes. */
void postgres_db_statement_limit(struct sql *db, int ms);
/* COPY ... TO STDOUT into a file, COPY ... FROM STDIN out of one. False: see `why`. */
bool postgres_copy_out(struct sql *db, const char *statement, FILE *file);
bool postgres_copy_in(struct sql *db, const char *statement, FILE *file);

#endif
