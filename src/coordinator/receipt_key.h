/* The key with which this coordinator signs receipts, kept in the data folder. Thread: start-up only. */
#ifndef COORDINATOR_RECEIPT_KEY_H
#define COORDINATOR_RECEIPT_KEY_H

#include "core/error.h"
#include "crypto/p256.h"

/* Reads <dir>/receipt_key, or makes a key and writes it there. A file that is damaged is an error: receipts that were given out
 * name its key. The caller frees. */
struct p256_key *receipt_key_load(const char *dir, struct error *error);

#endif
