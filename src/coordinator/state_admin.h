/* Commands of the operator that carry a coordinator's state to another host (billing 12). Each returns the program's status.
 * Thread: the only one. */
#ifndef COORDINATOR_STATE_ADMIN_H
#define COORDINATOR_STATE_ADMIN_H

#include "coordinator/config.h"

/* A new identity in a file that only its owner may read; prints the recipient. */
int state_admin_key(const char *identity_file);
/* recipient NULL: the configured one. The file must not exist. */
int state_admin_export(const struct coordinator_config *config, const char *recipient, const char *file);
int state_admin_import(const struct coordinator_config *config, const char *identity_file, const char *file);

#endif
