/* Seals what callers of /v1/responses asked to be kept, so that the database, its backups and its disks hold no text. Each
 * account has a key of its own, derived from the coordinator's secret: the mnemonic of the sealed transport when there is one,
 * so that several coordinators can read the same database, else a file beside the database. The ciphertext is bound to its
 * account and id: a row that was moved does not open. Thread: the loop's. */
#ifndef COORDINATOR_RESPONSE_VAULT_H
#define COORDINATOR_RESPONSE_VAULT_H

#include "core/buf.h"
#include "core/error.h"

struct response_vault;

#define RESPONSE_VAULT_EXTRA_BYTES 37 /* that sealing adds */

struct response_vault_options {
	const char *dir;                /* of the key file */
	const char *mnemonic;           /* NULL = none */
	const char *previous_mnemonics; /* comma separated; what they sealed still opens */
};
/* Blocks: start-up only. NULL with a sentence when no key can be kept. */
struct response_vault *response_vault_new(const struct response_vault_options *options, struct error *error);
void response_vault_free(struct response_vault *vault); /* wipes; NULL is allowed */

/* Appends the sealed bytes. */
enum db_err response_vault_seal(const struct response_vault *vault, struct str account, struct str id, struct str plain,
                                struct buf *out);
/* Appends the text. DB_E_NOT_FOUND when it was sealed under a secret that is not here any more, DB_E_CRYPTO when it was
 * changed. */
enum db_err response_vault_open(const struct response_vault *vault, struct str account, struct str id, struct str sealed,
                                struct buf *out);

#endif
