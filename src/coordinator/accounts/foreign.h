/* Tokens that another issuer signed, sent as `Authorization: Bearer eyJ...` (http-api 1.5). Their subject's account is made
 * when it is seen for the first time. Signatures are checked on workers; a good token is remembered for a minute. Thread: the
 * loop's. */
#ifndef COORDINATOR_FOREIGN_H
#define COORDINATOR_FOREIGN_H

#include "coordinator/accounts/session.h"

struct foreign;

struct foreign_options {
	struct net_loop *loop;
	struct store *store;
	struct sessions *sessions;
	const char *issuer, *audience; /* borrowed for good */
	struct str key_pem;
};
/* DB_E_INVALID when the key is none. */
enum db_err foreign_new(const struct foreign_options *options, struct foreign **out, struct error *error);
void foreign_free(struct foreign *foreign);

/* The bearer's part of accounts_session_fn. */
enum db_err foreign_resolve(struct foreign *foreign, struct str token, struct accounts_wait *wait);

#endif
