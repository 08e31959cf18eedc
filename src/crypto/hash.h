/* SHA-256 and friends (OpenSSL / libsodium). Thread: any. */
#ifndef CRYPTO_HASH_H
#define CRYPTO_HASH_H

#include "core/error.h"
#include "core/str.h"

#define SHA256_BYTES    32
#define SHA256_HEX_SIZE 65

void sha256(const void *bytes, size_t len, uint8_t out[SHA256_BYTES]);
void sha256_hex(const void *bytes, size_t len, char out[SHA256_HEX_SIZE]); /* lower-case, terminated */

struct sha256_state {
	_Alignas(16) unsigned char opaque[160];
};
void sha256_begin(struct sha256_state *state);
void sha256_update(struct sha256_state *state, const void *bytes, size_t len);
void sha256_end(struct sha256_state *state, uint8_t out[SHA256_BYTES]); /* wipes the state */

void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, uint8_t out[SHA256_BYTES]);

/* SHA-256 of a file's content in hex. DB_E_IO with a sentence when it cannot be read. Blocks: worker threads only. */
enum db_err sha256_file(const char *path, char out[SHA256_HEX_SIZE], struct error *error);

#endif
