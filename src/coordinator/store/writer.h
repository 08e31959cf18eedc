/* Carries out operations on the database, between begin and commit. Inside store/ only; thread: the writer's. */
#ifndef COORDINATOR_STORE_WRITER_H
#define COORDINATOR_STORE_WRITER_H

#include "coordinator/store/op.h"

struct writer;

/* SQLite: makes the file, takes its lock, releases the holds a crash left open. Migrates, or checks the version of the schema.
 */
struct writer *writer_open(const struct store_options *options, struct error *error);
void writer_close(struct writer *writer);

enum writer_result {
	WRITER_OK,      /* done, or refused before anything was written (op->failed says why) */
	WRITER_SPOILED, /* the group must be rolled back; op->failed says why */
};
/* Of the operations of the group, which are looked at to read ahead what they will need. */
enum writer_result writer_begin(struct writer *writer, struct store_op **ops, size_t count);
enum writer_result writer_apply(struct writer *writer, struct store_op *op);
enum writer_result writer_commit(struct writer *writer); /* durable when WRITER_OK */
void writer_rollback(struct writer *writer);
/* The last failure is one that passes (connection lost, serialisation, disk of the server full): the group is to be tried
 * again. SQLite has no such failures. */
bool writer_may_retry(const struct writer *writer);
/* Before it is tried again: finds the server, and whether the group was committed after all, which leaves nothing to be done.
 * False when the server cannot be reached; writer_error says why. */
bool writer_recover(struct writer *writer, bool *committed);
/* How long without writes until writer_tend is to be called, microseconds; 0 = never. */
uint64_t writer_tend_us(const struct writer *writer);
/* Says to other coordinators that this one is here, and ends what lost ones left. */
void writer_tend(struct writer *writer);
/* Any thread: the number of this coordinator's registration, which is another after it was taken for lost; 0 on SQLite. */
uint64_t writer_epoch(const struct writer *writer);
/* Any thread: others cannot have taken this coordinator for lost by now. Asked before writer_epoch, both hold. */
bool writer_is_known(const struct writer *writer);
/* Why nothing more can be written (disk full, damaged file); NULL while it works. */
const struct error *writer_broken(const struct writer *writer);
const struct error *writer_error(const struct writer *writer); /* of what was SPOILED last */

/* --- SQLite's write-ahead log --- */

/* Its length since it was last moved into the file, in pages. */
int writer_log_pages(const struct writer *writer);
/* Moves what is left of it, so that the next write begins it anew: short when most was moved by the mover a moment ago. */
void writer_finish_log(struct writer *writer);

#endif
