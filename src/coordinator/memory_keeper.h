/* Keeps what routing learnt (routing/memory.h) in a file of the data folder: read at the start, written from time to time in
 * small steps, and once more when the coordinator ends. A file that cannot be read costs one line of the log and nothing else.
 * Thread: the loop's; files are written by a worker. */
#ifndef COORDINATOR_MEMORY_KEEPER_H
#define COORDINATOR_MEMORY_KEEPER_H

#include <pthread.h>

#include "coordinator/routing/memory.h"
#include "net/loop.h"

#define MEMORY_KEEPER_FILE "routing_memory"
#define MEMORY_PATH_SIZE   4096

struct memory_keeper {
	struct net_loop *loop; /* NULL = not started */
	struct route_fleet *fleet;
	struct learn *learn;
	uint32_t every_ms; /* 0 = only at the end */
	struct net_timer timer;
	struct memory_snapshot snapshot;
	bool writing;
	pthread_mutex_t lock; /* of the file, and of `closed` */
	bool closed;
	char path[MEMORY_PATH_SIZE];
};

struct memory_keeper_options {
	struct net_loop *loop;
	struct route_fleet *fleet;
	struct learn *learn;
	const char *dir;   /* of the data */
	uint32_t every_ms; /* 0 = only at the end */
};

/* Blocks: start-up, before anybody connects. The keeper lives until its loop has ended. */
void memory_keeper_start(struct memory_keeper *keeper, const struct memory_keeper_options *options);
/* Writes all of it, and blocks meanwhile: the end. Harmless when it was not started. */
void memory_keeper_stop(struct memory_keeper *keeper);

#endif
