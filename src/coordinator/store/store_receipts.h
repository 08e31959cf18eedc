/* Receipts, signed and stored (docs/reference/receipts.md). A settlement is noted as due in its own transaction, so that a
 * crash loses none; whoever signs takes what is due some at a time and brings the signatures back. The rules of store.h hold.
 */
#ifndef COORDINATOR_STORE_RECEIPTS_H
#define COORDINATOR_STORE_RECEIPTS_H

#include "coordinator/store/store.h"

#define STORE_RECEIPTS_DUE   128 /* in one row of what is due */
#define STORE_RECEIPTS_ROWS  16  /* such rows, and */
#define STORE_RECEIPTS_BATCH 256 /* receipts are taken at once, at most */

struct store_receipt_key {
	char kid[17], public_key[92]; /* base64 of X | Y */
	int64_t created_us;           /* when it was published; read only */
};
/* Publishes a key. Again changes nothing. */
void store_receipt_key_add(struct store *store, const struct store_receipt_key *key, store_done_fn done, void *user);
typedef void (*store_receipt_keys_fn)(const struct store_receipt_key *keys, size_t count, const struct error *error,
                                      void *user);
void store_receipt_keys_list(struct store *store, store_receipt_keys_fn done, void *user); /* the newest first */

struct store_receipt {
	int64_t row; /* of the store */
	struct store_settlement s;
	uint64_t version;    /* of the form that was signed */
	char signature[104]; /* base64 DER; empty: not signed yet, the rest of this struct holds nothing */
	struct store_receipt_key key;
};
/* Of a settled request, whoever paid for it; NULL when there is none. */
typedef void (*store_receipt_fn)(const struct store_receipt *receipt, const struct error *error, void *user);
void store_receipt_get(struct store *store, struct str request_id, store_receipt_fn done, void *user);

struct store_receipts_due {
	int64_t rows[STORE_RECEIPTS_ROWS]; /* of the store */
	size_t row_count;
	size_t count;
	struct store_receipt receipts[];
};
/* The oldest of this coordinator and of those that are gone. due: NULL = nothing is; else the callback's own, for free(). Looks
 * at what is durable now: unlike other reads it waits for no settlement that was asked for before, and hurries none. */
typedef void (*store_receipts_due_fn)(struct store_receipts_due *due, const struct error *error, void *user);
void store_receipts_due(struct store *store, store_receipts_due_fn done, void *user);
/* Takes `due`, in which each receipt has its version and signature now, by a key that was published; those without a signature
 * cannot be signed and are not asked for again. One that was signed meanwhile keeps the signature it has. */
void store_receipts_put(struct store *store, struct store_receipts_due *due, struct str kid, store_done_fn done, void *user);

#endif
