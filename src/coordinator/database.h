/* The database as the configuration names it: a SQLite file, or a PostgreSQL server that coordinators share. Thread: start-up
 * only. */
#ifndef COORDINATOR_DATABASE_H
#define COORDINATOR_DATABASE_H

#include "coordinator/config.h"
#include "coordinator/store/store.h"

/* Path or address, borrowed from the configuration. */
const char *database_place(const struct coordinator_config *config);
/* For the server and for commands alike; without a name, which only a server has. */
struct store_options database_options(const struct coordinator_config *config);

/* A server's name among those that share a database: made at the first start and kept in the data folder, so that after a crash
 * the next start knows whose holds it may release. Locked while the process runs. DB_E_EXISTS when another server has it. */
enum db_err database_name(const struct coordinator_config *config, char out[STORE_ID_SIZE], struct error *error);

/* Brings the schema forward; says from and to. Returns an exit status. */
int database_migrate(const struct coordinator_config *config);
/* A copy of the database, made while a coordinator runs on it, in a new folder; and a database of such a copy. */
int database_backup(const struct coordinator_config *config, const char *folder);
int database_restore(const struct coordinator_config *config, const char *folder);

#endif
