/* The SQLite file: its lock, its privacy, its write-ahead log. Inside store/ only. */
#ifndef COORDINATOR_STORE_SQLITE_FILE_H
#define COORDINATOR_STORE_SQLITE_FILE_H

#include "coordinator/store/sql.h"

/* Two coordinators on one file would each trust their own memory of the balances. Returns the lock's descriptor, -1 when it
 * cannot be had: DB_E_EXISTS when another process has it. */
int sqlite_file_lock(const char *path, struct error *error);
/* Makes it when missing. Balances and key hashes are nobody else's business: mode 0600. */
enum db_err sqlite_file_make(const char *path, struct error *error);
/* From now on *pages says after each commit of this connection how long the write-ahead log is. */
void sqlite_file_count_log(struct sql *db, int *pages);
/* Moves the log into the file; *pages gets what is left. DB_E_IO when the disk fails; another reader is no failure. */
enum db_err sqlite_file_move_log(struct sql *db, int *pages, struct error *error);

/* Moves the log into the file on a connection and a thread of its own, while the writer goes on. It never reaches the end of a
 * log that still grows; the writer finishes it. */
struct sqlite_mover;

struct sqlite_mover *sqlite_mover_open(const char *path, struct error *error);
void sqlite_mover_close(struct sqlite_mover *mover);
/* to_end: leaves the writer as little as can be. False when it could not: it never moves anything again. */
bool sqlite_mover_move(struct sqlite_mover *mover, bool to_end);

#endif
