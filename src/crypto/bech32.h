/* Bech32 (BIP 173) of bytes, without its limit of 90 characters: the text form of age's keys. Thread: any. */
#ifndef CRYPTO_BECH32_H
#define CRYPTO_BECH32_H

#include "core/error.h"
#include "core/str.h"

#define BECH32_MAX_PREFIX 20
#define BECH32_MAX_BYTES  64
#define BECH32_SIZE       (BECH32_MAX_PREFIX + 1 + (BECH32_MAX_BYTES * 8 + 4) / 5 + 6 + 1)

/* Lower-case. At most BECH32_MAX_PREFIX characters and BECH32_MAX_BYTES bytes. */
void bech32_encode(const char *prefix, const uint8_t *bytes, size_t len, char out[BECH32_SIZE]);
/* `prefix` in lower case. Either case, not both mixed; exactly `len` bytes with padding of zeros, or DB_E_INVALID. */
enum db_err bech32_decode(struct str text, const char *prefix, uint8_t *out, size_t len);

#endif
