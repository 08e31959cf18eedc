/* `darkbloom-coordinator serve`: brings the rooms up in order, runs the loop, and takes them down after a drain.
 * Thread: the main one. */
#ifndef COORDINATOR_SERVE_H
#define COORDINATOR_SERVE_H

#include "coordinator/config.h"

struct serve_options {
	const struct coordinator_config *config;
	const char *key_file;  /* the first start writes its API key here, mode 0600; NULL: it is printed */
	const char *port_file; /* the port is written here once the server listens; NULL */
	int ready_fd;          /* the port and a line feed are written here once the server listens; -1 */
};

/* Returns an exit status of core/cli.h. */
int serve(const struct serve_options *options);

/* Makes the folder of the database, mode 0700, with those above it. */
enum db_err serve_make_dir(const char *path, struct error *error);
/* A file that only its owner may read, replacing what was there. */
enum db_err serve_write_secret(const char *path, struct str text, struct error *error);

#endif
