/* What an operator reads from the database itself, from the command line. Thread: the main one. */
#ifndef COORDINATOR_ADMIN_H
#define COORDINATOR_ADMIN_H

#include "coordinator/config.h"

/* Each returns an exit status of core/cli.h, having said on stderr what went wrong. A coordinator may run meanwhile. */

/* Recomputes the books: JSON, and CLI_FAILED when they are wrong. */
int admin_ledger_verify(const struct coordinator_config *config);
/* One request as JSON: hold, usage and entries. request_id NULL: the newest. */
int admin_ledger_show(const struct coordinator_config *config, const char *request_id);

#endif
