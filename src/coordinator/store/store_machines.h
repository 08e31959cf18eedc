/* What is remembered of the machines of an account while they are not connected. The rules of store.h hold. */
#ifndef COORDINATOR_STORE_MACHINES_H
#define COORDINATOR_STORE_MACHINES_H

#include "coordinator/store/store.h"

struct store_machine {
	char key[STORE_MODEL_SIZE]; /* its serial, else the name of its signing key: one row for each machine */
	char account_id[STORE_ID_SIZE];
	char provider_id[STORE_ID_SIZE]; /* of its last connection */
	int64_t registered_us, seen_us;  /* when it came first (kept over updates), and last */
	struct str facts;                /* JSON object; copied */
};
/* Adds the machine or what is new of it; it may have got another account. Nobody waits. */
void store_machine_put(struct store *store, const struct store_machine *machine);
/* Of one account, the last seen first; at most 1,000. */
typedef void (*store_machines_fn)(const struct store_machine *machines, size_t count, const struct error *error, void *user);
void store_machines_list(struct store *store, struct str account_id, store_machines_fn done, void *user);
/* By key or by provider id. DB_E_NOT_FOUND; DB_E_DENIED when it is another account's. */
void store_machine_forget(struct store *store, struct str account_id, struct str name, store_done_fn done, void *user);

#endif
