/* The numbered files under record_log.h: appended to, begun anew when one is full, the oldest deleted. Blocks. Thread: one at a
 * time for a struct; any for the rest. */
#ifndef COORDINATOR_GATEWAY_RECORD_FILES_H
#define COORDINATOR_GATEWAY_RECORD_FILES_H

#include "core/buf.h"
#include "core/error.h"

#define RECORD_FILES_LISTED 1024
#define RECORD_FILES_WRITE  (1u << 20) /* bytes in one record_files_append, at most */

struct record_files {
	char dir[3072];
	int fd;
	uint64_t number, bytes; /* of the file that is open */
	uint64_t file_bytes;    /* that it may have */
	size_t keep;            /* files */
	bool torn;              /* its last line has no end */
};

/* All files together stay below max_bytes and one append. */
enum db_err record_files_open(struct record_files *files, const char *dir, uint64_t max_bytes, struct error *error);
void record_files_close(struct record_files *files);
/* Whole lines. DB_E_IO: some may be missing; errno says why. */
enum db_err record_files_append(struct record_files *files, struct str lines);

/* Numbers of the files, in order; the newest when there are more than `max`. */
size_t record_files_list(const char *dir, uint64_t *numbers, size_t max);
/* *out is begun, and freed by the caller whatever is returned. */
enum db_err record_files_read(const char *dir, uint64_t number, struct buf *out);

#endif
