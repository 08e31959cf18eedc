/* NaCl crypto_box: X25519, HSalsa20, XSalsa20-Poly1305, byte-compatible with libsodium's crypto_box_easy with the nonce in
 * front (protocol-and-trust 4.1). Key agreement is the dear step (about 30 us, twice that before crypto_init); sealing with a
 * shared key takes about one microsecond, so derive once and use many times. Thread: any. */
#ifndef CRYPTO_BOX_H
#define CRYPTO_BOX_H

#include "core/error.h"
#include "core/str.h"

#define BOX_KEY_BYTES   32
#define BOX_NONCE_BYTES 24
#define BOX_TAG_BYTES   16
#define BOX_OVERHEAD    (BOX_NONCE_BYTES + BOX_TAG_BYTES)

struct box_keypair {
	uint8_t public_key[BOX_KEY_BYTES];
	uint8_t secret_key[BOX_KEY_BYTES];
};

/* The symmetric key that both ends of a pair of key pairs share. */
struct box_shared {
	uint8_t key[BOX_KEY_BYTES];
};

void box_keypair_new(struct box_keypair *pair);
/* The pair of a given secret key (clamped as X25519 does). */
void box_keypair_from_secret(struct box_keypair *pair, const uint8_t secret[BOX_KEY_BYTES]);
/* DB_E_CRYPTO when the peer's key has low order. */
enum db_err box_shared_derive(struct box_shared *shared, const uint8_t peer_public[BOX_KEY_BYTES],
                              const uint8_t secret[BOX_KEY_BYTES]);

/* Writes nonce | tag | body, len + BOX_OVERHEAD bytes, with a fresh random nonce. `out` must not overlap `plain`. */
void box_seal(const struct box_shared *shared, const void *plain, size_t len, uint8_t *out);
/* As above with a given nonce, which must never come twice with one key. */
void box_seal_with_nonce(const struct box_shared *shared, const uint8_t nonce[BOX_NONCE_BYTES], const void *plain, size_t len,
                         uint8_t *out);
/* `out` needs sealed_len - BOX_OVERHEAD bytes and may be `sealed` itself. DB_E_CRYPTO when it is too short or does not
 * authenticate. */
enum db_err box_open(const struct box_shared *shared, const uint8_t *sealed, size_t sealed_len, uint8_t *out, size_t *out_len);

/* The coordinator's long-term key from a 12- or 24-word mnemonic (protocol-and-trust 4.6). DB_E_INVALID otherwise. */
enum db_err box_keypair_from_mnemonic(struct box_keypair *pair, struct str mnemonic);
#define BOX_KID_SIZE 17
void box_key_id(const uint8_t public_key[BOX_KEY_BYTES], char kid[BOX_KID_SIZE]); /* 16 hex characters of SHA-256 */

#endif
