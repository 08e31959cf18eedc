/* A body that a consumer sealed: to the coordinator (http-api 3) or, in blind mode, to a provider
 * (docs/reference/sealed-transport.md, docs/reference/blind-mode.md).
 *
 * {"kid":"…","ephemeral_public_key":"…","ciphertext":"…"}: ciphertext is base64 of nonce | box. The nonce may carry the time at
 * which it was made, so that the receiver can refuse what is old and need remember only what is new: 8 bytes of mark, 8 bytes
 * of Unix milliseconds (big-endian), 8 random bytes. The box authenticates its nonce, so nobody can strip or change the time; a
 * nonce of another form is random and says nothing. Thread: any. */
#ifndef WIRE_ENVELOPE_H
#define WIRE_ENVELOPE_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "crypto/box.h"

#define ENVELOPE_CONTENT_TYPE "application/eigeninference-sealed+json"
#define ENVELOPE_ALGORITHM    "x25519-nacl-box"
#define ENVELOPE_MARK         "dbseal01"
#define ENVELOPE_MAX_BYTES    (16u << 20)
#define ENVELOPE_ID_BYTES     (BOX_NONCE_BYTES + BOX_TAG_BYTES)

struct envelope {
	struct str kid; /* may be empty */
	uint8_t sender[BOX_KEY_BYTES];
	struct str sender_b64;
	struct str ciphertext; /* base64, not yet decoded */
};

/* DB_E_INVALID with a sentence. Texts live in the arena or in `text`. */
enum db_err envelope_read(struct str text, struct arena *arena, struct envelope *out, struct error *error);

/* The box inside the base64, decoded: what it is known by, so that it is not taken twice. The tag is settled by key, nonce and
 * content, while the sender's key can be written in several ways that agree on the same secret. */
struct sealed_box {
	uint8_t *at; /* nonce | tag | body */
	size_t len;
};
/* Into memory of the arena. DB_E_INVALID: not base64, or shorter than a nonce; DB_E_NOMEM. */
enum db_err envelope_decode(struct str ciphertext, struct arena *arena, struct sealed_box *out);
struct str envelope_id(const struct sealed_box *box); /* ENVELOPE_ID_BYTES; the box must have opened */
bool envelope_time_ms(const struct sealed_box *box, int64_t *unix_ms);
/* In place: the text lies in the box's memory. DB_E_CRYPTO. */
enum db_err envelope_open(const struct sealed_box *box, const struct box_shared *shared, struct str *plain);

/* Appends base64 of nonce | box with the time in the nonce. */
enum db_err envelope_seal(const struct box_shared *shared, int64_t unix_ms, struct str plain, struct buf *out);

#endif
