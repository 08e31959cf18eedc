/* AES-256-GCM and HKDF-SHA256 (OpenSSL, RFC 5869): keys and sealed parts of files. Thread: any. */
#ifndef CRYPTO_AEAD_H
#define CRYPTO_AEAD_H

#include "core/error.h"
#include "core/str.h"

#include <stdint.h>

#define AEAD_KEY_BYTES   32
#define AEAD_NONCE_BYTES 12
#define AEAD_TAG_BYTES   16
#define HKDF_PRK_BYTES   32
#define HKDF_MAX_INFO    256

/* Writes ciphertext | tag, len + AEAD_TAG_BYTES bytes. A nonce serves once under a key. `out` may be `plain`. DB_E_NOMEM when
 * OpenSSL has no memory, DB_E_LIMIT above INT_MAX bytes. */
enum db_err aead_seal(const uint8_t key[AEAD_KEY_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES], struct str aad,
                      const void *plain, size_t len, uint8_t *out);
/* Opens ciphertext | tag of sealed_len bytes into `out` (sealed_len - AEAD_TAG_BYTES; may be `sealed`). DB_E_CRYPTO when it
 * does not authenticate; then `out` is wiped. */
enum db_err aead_open(const uint8_t key[AEAD_KEY_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES], struct str aad,
                      const uint8_t *sealed, size_t sealed_len, uint8_t *out);

void hkdf_extract(struct str salt, struct str secret, uint8_t prk[HKDF_PRK_BYTES]);
/* At most 255 * 32 bytes and HKDF_MAX_INFO bytes of info. */
enum db_err hkdf_expand(const uint8_t prk[HKDF_PRK_BYTES], struct str info, uint8_t *out, size_t len);

#endif
