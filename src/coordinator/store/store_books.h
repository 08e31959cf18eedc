/* The books as a whole: closing periods, proving that nothing behind a close was altered, and handing entries out
 * (docs/operator/books.md).
 *
 * A close covers the entries after those of the close before. Its hash is SHA-256 over its own numbers, the digest of these
 * entries with the accounts and transfers they name, the digest of the usage rows of the requests they charge, and the hash of
 * the close before. Whoever keeps one hash elsewhere can prove everything before it. */
#ifndef COORDINATOR_STORE_BOOKS_H
#define COORDINATOR_STORE_BOOKS_H

#include "coordinator/store/store.h"

struct store_close {
	int64_t id, first_entry, last_entry, entries, moved_uusd, usage_rows, closed_us;
	char entries_hash[65], usage_hash[65], previous_hash[65], hash[65];
};
/* close NULL without an error: nothing was written since the last one. */
typedef void (*store_close_fn)(const struct store_close *close, const struct error *error, void *user);
/* Closes up to the newest entry. The reader computes, the writer only adds the row. */
void store_ledger_close(struct store *store, store_close_fn done, void *user);
/* The newest close; NULL when there is none. */
void store_last_close(struct store *store, store_close_fn done, void *user);

struct store_chain {
	int64_t closes, covered_entries, open_entries; /* open: after the last close */
	int64_t rolled_up;                             /* closes whose usage rows were rolled up, and cannot be proved any more */
	int64_t broken;                                /* the first close that does not follow from the rows; 0 = none */
	char why[160], head[65];                       /* head: the hash of the last close */
};
/* Recomputes every close. Opens read-only, beside a running coordinator too; blocks. */
enum db_err store_chain_verify(const char *place, struct store_chain *out, struct error *error);

struct store_entry {
	int64_t id, amount_uusd, balance_after_uusd, withdrawable_after_uusd, created_us;
	char account_id[STORE_ID_SIZE], type[32];
	char request_id[STORE_ID_SIZE];                   /* of a settlement; else empty */
	char transfer_key[STORE_ID_SIZE], reference[128]; /* of a transfer; else empty */
};
struct store_entry_range {
	int64_t after_id;            /* 0 = from the first */
	int64_t from_us, to_us;      /* created in [from, to); 0 = open */
	char account[STORE_ID_SIZE]; /* empty = all */
};
#define STORE_ENTRIES_MAX 1000
typedef void (*store_entries_fn)(const struct store_entry *rows, size_t count, const struct error *error, void *user);
/* At most STORE_ENTRIES_MAX rows in the order of their ids; ask again after the last one until fewer come. */
void store_entries_list(struct store *store, const struct store_entry_range *range, store_entries_fn done, void *user);
/* All of them, from a file that may be in use; each returns false to stop. Blocks. */
enum db_err store_entries_each(const char *place, const struct store_entry_range *range,
                               bool (*each)(const struct store_entry *row, void *user), void *user, struct error *error);

#endif
