/* EncryptedPayload (protocol-and-trust 4.1): sealing into messages and opening from them without intermediate copies.
 * Thread: any; one buffer at a time. */
#ifndef WIRE_PAYLOAD_H
#define WIRE_PAYLOAD_H

#include "core/buf.h"
#include "crypto/box.h"
#include "wire/inference.h"
#include "wire/types.h"

#define WIRE_KEY_B64_LEN 44 /* base64 of an X25519 public key */

/* Writes 44 characters and a NUL. */
void wire_key_encode(const uint8_t key[BOX_KEY_BYTES], char out[WIRE_KEY_B64_LEN + 1]);
/* DB_E_INVALID unless `text` is canonical base64 of 32 bytes. */
enum db_err wire_key_decode(struct str text, uint8_t key[BOX_KEY_BYTES]);

/* Appends base64 of nonce | box, with a fresh random nonce or a given one, which must never come twice with this key. `out`
 * must not hold `plain`. DB_E_LIMIT. */
enum db_err wire_append_sealed(const struct box_shared *shared, struct str plain, struct buf *out);
enum db_err wire_append_sealed_with_nonce(const struct box_shared *shared, const uint8_t nonce[BOX_NONCE_BYTES],
                                          struct str plain, struct buf *out);

/* Appends {"ephemeral_public_key":"…","ciphertext":"…"}. `sender_key` is base64 and is written as it is. `out` must not hold
 * `plain`. */
enum db_err wire_payload_seal(const struct box_shared *shared, struct str sender_key, struct str plain, struct buf *out);
/* Appends the plaintext to `out`. DB_E_INVALID: not base64; DB_E_CRYPTO: shorter than a nonce and a tag, or does not open.
 * DB_E_LIMIT: no room.
 * On failure `out` keeps its length. It needs room for 40 bytes more than the plaintext. */
enum db_err wire_payload_open(const struct box_shared *shared, struct str ciphertext, struct buf *out);

/* A whole inference_response_chunk from bytes that are sealed already (nonce | tag | body). */
enum db_err wire_encode_chunk(struct str request_id, struct str sender_key, const uint8_t *sealed, size_t sealed_len,
                              struct buf *out);
/* Seals one SSE frame and appends the whole inference_response_chunk. */
enum db_err wire_seal_chunk(const struct box_shared *shared, struct str request_id, struct str sender_key, struct str frame,
                            struct buf *out);
/* Seals the plaintext body and appends the whole inference_request: request_id and the extensions come from `request`, whose
 * encrypted_body is not looked at. */
enum db_err wire_seal_request(const struct box_shared *shared, const struct wire_request *request, struct str sender_key,
                              struct str body, struct buf *out);

#endif
