/* The audit trail: who did what to money and keys (docs/operator/books.md). Every operation of the store that changes accounts,
 * keys, prices, logins or money outside of requests adds a row in its own transaction; each row's hash covers the one before.
 */
#ifndef COORDINATOR_STORE_TRAIL_H
#define COORDINATOR_STORE_TRAIL_H

#include "coordinator/store/store.h"

#define STORE_ACTOR_SIZE 160

/* Who asks for the next operation that the trail notes, and why; only that one. Without it the row names the account that the
 * operation is about. actor: "operator", "account:<id>", "key:<id>"; empty = nobody
 * any more, when the operation was not asked for after all. Borrowed. Loop thread. */
void store_act(struct store *store, struct str actor, struct str reason);

/* A row for what changes nothing in the books, but is to be known: action "state.export", and what or whom it is about; longer
 * ones are cut. Who asks, as store_act says. */
void store_trail_add(struct store *store, struct str action, struct str subject, store_done_fn done, void *user);

struct store_trail_row {
	int64_t id, at_us;
	char actor[STORE_ACTOR_SIZE], action[48], subject[STORE_ACTOR_SIZE];
	char details[1024]; /* JSON; cut when it is longer */
	char hash[65];
};
struct store_trail {
	int64_t rows;
	int64_t broken; /* the first row that does not follow from those before; 0 = none */
	char head[65];  /* the hash of the last row; 64 zeros without one */
};
/* The newest `limit` rows, oldest first, to each (NULL: none); every row is checked. Opens read-only, beside a running
 * coordinator too; blocks. */
enum db_err store_trail_read(const char *place, int64_t limit, void (*each)(const struct store_trail_row *row, void *user),
                             void *user, struct store_trail *out, struct error *error);

#endif
