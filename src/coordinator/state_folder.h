/* The folder in which a state export or import keeps its copy of the database: beside the original, mode 0700, one at a time.
 * Inside state_*.c only. Blocks. */
#ifndef COORDINATOR_STATE_FOLDER_H
#define COORDINATOR_STATE_FOLDER_H

#include "core/error.h"

#define STATE_PATH_SIZE 4096

struct state_folder {
	int lock; /* -1 = none is open */
	char path[STATE_PATH_SIZE];
	char database[STATE_PATH_SIZE]; /* in it; not made yet */
};

/* Deletes what one that was killed left. DB_E_EXISTS when another is at work. */
enum db_err state_folder_open(struct state_folder *folder, const char *data_dir, struct error *error);
void state_folder_close(struct state_folder *folder); /* deletes it */

#endif
