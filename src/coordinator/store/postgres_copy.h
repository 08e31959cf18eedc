/* All tables of a PostgreSQL database into files of COPY's text format, and back. Inside store/ only. */
#ifndef COORDINATOR_STORE_POSTGRES_COPY_H
#define COORDINATOR_STORE_POSTGRES_COPY_H

#include "coordinator/store/backup_manifest.h"

/* One moment of a database in use. Adds each file to the manifest, referenced tables before those that refer to them. */
enum db_err postgres_tables_out(struct manifest *manifest, const char *address, const char *folder, struct error *error);
/* Into a database without our tables: makes them, then fills them, in one transaction after the schema. */
enum db_err postgres_tables_in(const struct manifest *manifest, const char *folder, const char *address, struct error *error);

#endif
