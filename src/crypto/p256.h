/* ECDSA over P-256 with SHA-256 (OpenSSL): the provider's signing key and its verification. Thread: any; about 22 us to sign
 * and 80 us to verify, so verification belongs on workers. */
#ifndef CRYPTO_P256_H
#define CRYPTO_P256_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

#define P256_PUBLIC_BYTES 64 /* X | Y */
#define P256_SCALAR_BYTES 32
#define P256_DER_MAX      72

struct p256_key; /* a private key */

struct p256_key *p256_generate(void);
struct p256_key *p256_from_scalar(const uint8_t scalar[P256_SCALAR_BYTES]); /* NULL when not in [1, n-1] */
void p256_scalar(const struct p256_key *key, uint8_t scalar[P256_SCALAR_BYTES]);
void p256_free(struct p256_key *key); /* wipes; NULL allowed */
void p256_public(const struct p256_key *key, uint8_t xy[P256_PUBLIC_BYTES]);
/* DER signature over SHA-256(message). *der_len gets at most P256_DER_MAX. */
enum db_err p256_sign(const struct p256_key *key, const void *message, size_t len, uint8_t der[P256_DER_MAX], size_t *der_len);

/* Public keys of 64 bytes (X | Y) or 65 (0x04 in front); must be on the curve (protocol-and-trust 5.3). */
enum db_err p256_check_public(const uint8_t *public_key, size_t len);
/* DB_OK when the strict-DER signature is good; r and s must be in [1, n-1]; any s, high or low. */
enum db_err p256_verify(const uint8_t *public_key, size_t public_len, const void *message, size_t len, const uint8_t *der,
                        size_t der_len);

/* Base64 in, base64 out: what the wire carries. Verifying answers DB_E_INVALID for text that is not base64 (or too long to be
 * right), DB_E_CRYPTO for whatever else is wrong. */
enum db_err p256_sign_base64(const struct p256_key *key, struct str message, struct buf *out);
enum db_err p256_verify_base64(struct str public_b64, struct str message, struct str der_b64);

#endif
