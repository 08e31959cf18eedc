/* Who signs for a provider: a software P-256 key, or a key that never leaves its chip (Secure Enclave, TPM) behind the
 * platform's own function. */
#ifndef WIRE_SIGNER_H
#define WIRE_SIGNER_H

#include "core/buf.h"
#include "core/error.h"
#include "crypto/p256.h"

struct wire_signer {
	/* Appends base64 of a DER ECDSA-P256 signature over SHA-256(message). */
	enum db_err (*sign)(const void *context, struct str message, struct buf *signature);
	const void *context;
};

/* Borrows the key. */
struct wire_signer wire_signer_of(const struct p256_key *key);

#endif
