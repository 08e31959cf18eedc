/* What accounts get of queues, as texts that only their reader understands (routing/share.h). The rules of store.h hold. */
#ifndef COORDINATOR_STORE_SHARES_H
#define COORDINATOR_STORE_SHARES_H

#include "coordinator/store/store.h"

#define STORE_SHARE_SIZE 256

struct store_share {
	char account_id[STORE_SHARE_SIZE];
	char share[STORE_SHARE_SIZE];
};
/* In place of what there was; every coordinator of a shared store hears of it, as of a removal (STORE_NEWS_SHARES). error:
 * DB_E_NOT_FOUND when there is no such account; DB_E_LIMIT at once, and done is not called, when a text is too long. */
enum db_err store_share_save(struct store *store, struct str account_id, struct str share, store_done_fn done, void *user);
/* error: DB_E_NOT_FOUND when there is none. */
void store_share_remove(struct store *store, struct str account_id, store_done_fn done, void *user);
typedef void (*store_shares_fn)(const struct store_share *rows, size_t count, const struct error *error, void *user);
void store_shares_list(struct store *store, store_shares_fn done, void *user); /* all, by account */

#endif
