/* What writing and reading age files share. Inside crypto/ only. */
#ifndef CRYPTO_AGE_INTERNAL_H
#define CRYPTO_AGE_INTERNAL_H

#include "crypto/age.h"
#include "crypto/hash.h"

#define AGE_FIRST_LINE     "age-encryption.org/v1"
#define AGE_STANZA         "-> X25519 "
#define AGE_FILE_KEY_BYTES 16
#define AGE_NONCE_BYTES    16
#define AGE_TAG_BYTES      16

struct age_stream {
	uint8_t key[32];
	uint64_t chunk;
};

/* The key that wraps the file's key, from either side's secret. DB_E_CRYPTO when `peer` is of low order. */
enum db_err age_wrap_key(const uint8_t secret[AGE_KEY_BYTES], const uint8_t peer[AGE_KEY_BYTES],
                         const uint8_t share[AGE_KEY_BYTES], const uint8_t recipient[AGE_KEY_BYTES], uint8_t out[32]);
void age_derive(struct str salt, struct str secret, struct str info, uint8_t out[32]);
/* `header`: up to and with the three dashes. */
void age_header_mac(const uint8_t file_key[AGE_FILE_KEY_BYTES], struct str header, uint8_t out[SHA256_BYTES]);
void age_stream_begin(struct age_stream *stream, const uint8_t file_key[AGE_FILE_KEY_BYTES],
                      const uint8_t nonce[AGE_NONCE_BYTES]);
/* Of the next chunk. */
void age_stream_nonce(struct age_stream *stream, bool is_last, uint8_t out[12]);

#endif
