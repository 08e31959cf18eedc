/* Copies of the whole database, made while a coordinator runs on it, and what is made of them again. Thread: the caller's;
 * blocks.
 *
 * A backup is a folder: for SQLite the file itself (copied with SQLite's backup, checked page by page), for PostgreSQL a COPY
 * text file for each table, all of one moment; and manifest.json with the version of the format and of the schema and the size
 * and SHA-256 of each file. Whoever has it has the books and every key's hash: mode 0700. */
#ifndef COORDINATOR_STORE_BACKUP_H
#define COORDINATOR_STORE_BACKUP_H

#include "coordinator/store/store.h"
#include "core/json.h"

struct store_backup {
	size_t files;
	int64_t bytes;
	int schema_version;
};
/* folder must not exist, or be empty. The copy's books are verified before the manifest is written. */
enum db_err store_backup_make(const char *place, const char *folder, struct store_backup *out, struct error *error);
/* The target must be empty: no such file, or a PostgreSQL database without tables of ours. Everything is checked against the
 * manifest first, the books afterwards. DB_E_EXISTS when the target is in use. */
enum db_err store_backup_restore(const char *folder, const char *place, struct store_backup *out, struct error *error);

/* One file of the list in a manifest, a backup's or one that has a backup in it. */
void store_backup_list(struct json_writer *w, const char *name, int64_t bytes, const char *sha256);

#endif
