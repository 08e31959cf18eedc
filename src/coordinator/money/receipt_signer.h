/* Signs the receipts of what was settled and stores them (docs/reference/receipts.md): some at a time, on a worker, behind the
 * requests. What is not signed yet is a list in the database, so there is never more than one batch in memory, and a crash or a
 * long rush loses none. While the store is busy the signer pauses behind each batch, yet signs at least 6,000 a second under
 * any load that fills its batches (docs/developer/decisions/0061-receipts-are-signed-behind.md). Thread: the loop's. */
#ifndef COORDINATOR_RECEIPT_SIGNER_H
#define COORDINATOR_RECEIPT_SIGNER_H

#include "coordinator/store/store_receipts.h"
#include "crypto/p256.h"
#include "wire/receipt.h"

#define RECEIPT_KEYS_MAX 64 /* as many as are published at once, the newest */

struct receipt_signer {
	struct net_loop *loop;
	struct store *store;
	const struct p256_key *key;
	char kid[RECEIPT_KID_SIZE];
	struct net_timer timer, refresh;
	struct store_receipts_due *batch; /* on a worker */
	struct store_receipt_key keys[RECEIPT_KEYS_MAX];
	size_t key_count;
	uint64_t signed_count; /* stored since the start */
	bool stopped;
};
/* Publishes the key, and begins. All is borrowed; the struct stays in place until the loop is freed. */
void receipt_signer_start(struct receipt_signer *signer, struct net_loop *loop, struct store *store,
                          const struct p256_key *key);
void receipt_signer_stop(struct receipt_signer *signer); /* before store_close; also when it was never started */

/* What a row of the books says, borrowed from it. version: of the form that was or will be signed. */
struct receipt receipt_of(const struct store_settlement *row, uint64_t version);
/* The whole document: with the signature that is stored, or with one by `key` when there is none yet. About 25 us then. */
enum db_err receipt_document(const struct store_receipt *stored, const struct p256_key *key, struct buf *out);

#endif
