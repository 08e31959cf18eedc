/* Carries out operations on the SQLite file, between begin and commit. Inside store/ only; thread: the writer's.
 *
 * Another back end for the same journal would offer these functions under its own name. */
#ifndef COORDINATOR_STORE_SQLITE_WRITER_H
#define COORDINATOR_STORE_SQLITE_WRITER_H

#include "coordinator/store/op.h"

struct sqlite_writer;

/* Makes or migrates the file, takes its lock, releases the holds a crash left open. */
struct sqlite_writer *sqlite_writer_open(const char *path, struct error *error);
void sqlite_writer_close(struct sqlite_writer *writer);

enum writer_result {
	WRITER_OK,      /* done, or refused before anything was written (op->failed says why) */
	WRITER_SPOILED, /* the group must be rolled back; op->failed says why */
};
enum writer_result sqlite_writer_begin(struct sqlite_writer *writer);
enum writer_result sqlite_writer_apply(struct sqlite_writer *writer, struct store_op *op);
enum writer_result sqlite_writer_commit(struct sqlite_writer *writer); /* durable when WRITER_OK */
void sqlite_writer_rollback(struct sqlite_writer *writer);
/* Why nothing more can be written (disk full, damaged file); NULL while it works. */
const struct error *sqlite_writer_broken(const struct sqlite_writer *writer);
const struct error *sqlite_writer_error(const struct sqlite_writer *writer); /* of what was SPOILED last */

/* Moves the write-ahead log into the file when it is worth it. quiet: nothing else is waiting. */
void sqlite_writer_checkpoint(struct sqlite_writer *writer, bool quiet);

#endif
