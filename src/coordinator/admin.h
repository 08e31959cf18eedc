/* What an operator does from the command line, on the database itself. Thread: the main one. */
#ifndef COORDINATOR_ADMIN_H
#define COORDINATOR_ADMIN_H

#include "coordinator/config.h"

/* Each returns an exit status of core/cli.h, having said on stderr what went wrong. The first two write, for which no
 * coordinator may run on the same database. */

/* A new API key for an account ("owner" is the account of the first start): printed, or written to key_file. */
int admin_key_create(const struct coordinator_config *config, const char *account, const char *name, const char *key_file);
/* Credit from the operator, in dollars. */
int admin_credit(const struct coordinator_config *config, const char *account, const char *usd);

/* Recomputes the books: JSON, and CLI_FAILED when they are wrong. */
int admin_ledger_verify(const struct coordinator_config *config);
/* One request as JSON: hold, usage and entries. request_id NULL: the newest. */
int admin_ledger_show(const struct coordinator_config *config, const char *request_id);

#endif
