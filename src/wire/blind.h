/* What a provider signs about a blind request (docs/reference/blind-mode.md): how much it did, for which key, and a digest of
 * every sealed chunk in order. The coordinator checks it before it bills; the consumer checks it to know that nothing was left
 * out, put in or changed in order. No part of it depends on the text itself. Thread: any. */
#ifndef WIRE_BLIND_H
#define WIRE_BLIND_H

#include "core/buf.h"
#include "core/error.h"
#include "crypto/hash.h"
#include "wire/signer.h"

/* SHA-256 over the base64 of each chunk's ciphertext, a line feed behind each. */
struct blind_transcript {
	struct sha256_state state;
};
void blind_transcript_begin(struct blind_transcript *transcript);
void blind_transcript_add(struct blind_transcript *transcript, struct str ciphertext);
void blind_transcript_end(const struct blind_transcript *transcript, char hex[SHA256_HEX_SIZE]); /* may go on afterwards */

struct blind_usage {
	struct str request_id;   /* the id on the wire */
	struct str consumer_key; /* base64 of the consumer's ephemeral key */
	struct str model;
	int64_t prompt_tokens, completion_tokens, reasoning_tokens;
	struct str transcript; /* 64 hex */
};
/* Appends the bytes that are signed: eight lines of text. DB_E_INVALID when a text holds a control character. */
enum db_err blind_usage_statement(const struct blind_usage *usage, struct buf *out);
/* Appends base64 DER. */
enum db_err blind_usage_sign(const struct blind_usage *usage, const struct wire_signer *signer, struct buf *signature);
/* DB_OK only when the signature is good. `public_key` is base64 of X | Y, as attested. About 0.1 ms: workers. */
enum db_err blind_usage_verify(const struct blind_usage *usage, struct str public_key, struct str signature);

/* A chunk of a blind answer is padded with spaces, before its blank line, to a multiple of this: its size tells little of what
 * it says. */
#define BLIND_PAD_BYTES 256
/* Pads the frame that was appended to `out` from `from` on. */
enum db_err blind_pad_frame(struct buf *out, size_t from);

#endif
