/* Decision records on disk: JSON lines in <dir>/routes-<number>.jsonl, the oldest file deleted when all together are larger
 * than they may be (routing 18 "Sink"). A thread of its own writes; the queue to it is bounded, and what does not fit is
 * dropped and counted: nobody ever waits for it. A crash loses what was not written yet, some tens of milliseconds, and at most
 * half a line is left, which readers pass over. */
#ifndef COORDINATOR_GATEWAY_RECORD_LOG_H
#define COORDINATOR_GATEWAY_RECORD_LOG_H

#include "coordinator/gateway/record.h"

#define RECORD_LOG_QUEUE    4096
#define RECORD_LOG_BYTES    (UINT64_C(64) << 20)
#define RECORD_LOG_SEGMENTS 8 /* files, when all are full */

struct record_log;

/* `max_bytes` 0: RECORD_LOG_BYTES. Makes the folder when there is none. Blocks: start-up. NULL with a sentence. */
struct record_log *record_log_open(const char *dir, uint64_t max_bytes, struct error *error);
void record_log_close(struct record_log *log);                            /* writes what is queued; NULL allowed */
void record_log_add(struct record_log *log, const struct record *record); /* the loop's thread */

struct record_log_counts {
	uint64_t written, dropped;
};
void record_log_counts(struct record_log *log, struct record_log_counts *out); /* any thread */
const char *record_log_dir(const struct record_log *log);

/* --- reading, with or without a writer; blocks --- */

/* The newest record of this request. DB_E_NOT_FOUND; DB_E_NOMEM. */
enum db_err record_log_find(const char *dir, struct str id, struct record *out);
/* The newest records, at most `max`, oldest first: fn is called for each. Returns how many there were. */
size_t record_log_newest(const char *dir, size_t max, void (*fn)(const struct record *record, void *user), void *user);

#endif
