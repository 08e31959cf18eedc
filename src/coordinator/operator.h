/* Commands of the operator that change accounts and keys: through the running coordinator's socket, or in the database when
 * none runs. Each says on standard error which way it went, and returns the program's status. Thread: the only one. */
#ifndef COORDINATOR_OPERATOR_H
#define COORDINATOR_OPERATOR_H

#include "coordinator/config.h"
#include "core/error.h"

struct operator_key {
	const char *account; /* "owner" or an id */
	const char *name;
	const char *scopes;    /* "inference,keys"; NULL = inference */
	const char *limit_usd; /* NULL = no limit */
	const char *reset;     /* "none", "daily", "weekly", "monthly"; NULL = none */
	const char *key_file;  /* NULL = print it */
};
int operator_key_create(const struct coordinator_config *config, const struct operator_key *key);
int operator_keys_list(const struct coordinator_config *config, const char *account, bool as_json);
int operator_key_revoke(const struct coordinator_config *config, const char *key_id);
/* kind: "credit" (to be spent here) or "reward" (may be withdrawn); reason: for the books. */
int operator_give(const struct coordinator_config *config, const char *kind, const char *account, const char *usd,
                  const char *reason);
/* Why a request went where it went. Only a running coordinator knows. */
int operator_explain(const struct coordinator_config *config, const char *request_id, bool as_json);
/* Stripe beside the books, asked by a running coordinator. CLI_FAILED also when they differ. */
int operator_reconcile(const struct coordinator_config *config, bool as_json);
int operator_ledger_close(const struct coordinator_config *config);
/* A row of the audit trail: the state goes out to the recipient. Says nothing; an error when no row was written. */
enum db_err operator_note_export(const struct coordinator_config *config, const char *recipient, struct error *error);

#endif
