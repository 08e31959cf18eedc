/* The whole state of a coordinator in one encrypted file, to be carried to another host (billing 12): a zip archive with
 * state.json (what is in it, with hashes), keys/ (the secrets beside the database) and database/ (a checked copy, as `backup`
 * makes it), inside an age file for one recipient. Nothing of it is written to a disk in the clear but the copy of the
 * database, in a folder of mode 0700 beside the original that goes with the export. Blocks: a worker thread, or the program's
 * only one. */
#ifndef COORDINATOR_STATE_EXPORT_H
#define COORDINATOR_STATE_EXPORT_H

#include "coordinator/config.h"
#include "core/buf.h"

struct state_export;

/* Copies and checks everything; a coordinator may be running. NULL with a sentence: then nothing was made. One at a time for
 * each data folder. */
struct state_export *state_export_new(const struct coordinator_config *config, struct str recipient, struct error *error);
/* Appends the next part of the file, about 256 KiB. *is_last: that was all. After an error the file must not look whole: it has
 * no end. */
enum db_err state_export_next(struct state_export *export, struct buf *out, bool *is_last, struct error *error);
size_t state_export_files(const struct state_export *export);
int64_t state_export_bytes(const struct state_export *export); /* in the clear */
int64_t state_export_done(const struct state_export *export);  /* of those */
const char *state_export_kid(const struct state_export *export);
void state_export_free(struct state_export *export); /* deletes the copy, wipes; NULL is allowed */

#endif
