/* The hash and signature over an answer's text (protocol-and-trust 4.4). The token count stands before the text, so the text is
 * kept until the end; it is wiped when freed. Thread: one at a time. */
#ifndef WIRE_RESPONSE_HASH_H
#define WIRE_RESPONSE_HASH_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/json.h"
#include "crypto/hash.h"
#include "wire/signer.h"

struct response_hash {
	struct buf text;
};

void response_hash_init(struct response_hash *hash, size_t max_bytes);
void response_hash_free(struct response_hash *hash); /* wipes */

/* One frame of one choice. Errors are sticky in hash->text and come back from response_hash_final. */
void response_hash_add(struct response_hash *hash, struct str content, struct str reasoning);
/* A tool call of the frame added last, as JSON in any key order and spacing. DB_E_INVALID when it is not JSON. */
enum db_err response_hash_add_tool_call(struct response_hash *hash, struct str json);
/* Each of a JSON array of them; a text that is none adds nothing. */
void response_hash_add_tool_calls(struct response_hash *hash, struct str json_array);
/* A whole chat.completion.chunk with any number of choices, in the order of 4.4: contents, reasonings, tool calls. */
void response_hash_add_frame(struct response_hash *hash, const json_val *frame);

/* Lower-case hex of SHA-256("<request_id>:<completion_tokens>:<text>"). */
enum db_err response_hash_final(const struct response_hash *hash, struct str request_id, int64_t completion_tokens,
                                char hex[SHA256_HEX_SIZE]);
/* Appends base64 DER over the 64 hex characters. */
enum db_err response_hash_sign(const char hex[SHA256_HEX_SIZE], const struct wire_signer *signer, struct buf *signature);

#endif
