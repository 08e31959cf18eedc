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

/* --- the write-ahead log --- */

/* Its length since it was last moved into the file, in pages. */
int sqlite_writer_log_pages(const struct sqlite_writer *writer);
/* Moves what is left of it, so that the next write begins it anew: short when most was moved by the mover a moment ago. */
void sqlite_writer_finish_log(struct sqlite_writer *writer);

/* Moves the log into the file on a connection and a thread of its own, while the writer goes on. It never reaches the end of a
 * log that still grows; the writer finishes it. */
struct sqlite_mover;

struct sqlite_mover *sqlite_mover_open(const char *path, struct error *error);
void sqlite_mover_close(struct sqlite_mover *mover);
void sqlite_mover_move(struct sqlite_mover *mover);

#endif
