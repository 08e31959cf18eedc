/* The terms of an account that only an operator sets, and finding an account by an address. The rules of store.h hold. */
#ifndef COORDINATOR_STORE_TERMS_H
#define COORDINATOR_STORE_TERMS_H

#include "coordinator/store/store.h"

/* account: with its new terms; NULL with DB_E_NOT_FOUND when there is none. Its balances are not filled in. */
void store_account_set_role(struct store *store, struct str account_id, enum store_role role, store_account_fn done,
                            void *user);
/* fee_percent 0..100, or -1 for the default. */
void store_account_set_fee(struct store *store, struct str account_id, int fee_percent, store_account_fn done, void *user);
/* Whose login or verified address of an identity this is (in lower case). DB_E_NOT_FOUND; DB_E_EXISTS when it is that of more
 * than one account: an address of a login proves nothing, so that nobody is chosen. */
void store_account_by_email(struct store *store, struct str email, store_account_fn done, void *user);

#endif
