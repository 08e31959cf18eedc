/* Small shapes that several messages share. */
#ifndef WIRE_TYPES_H
#define WIRE_TYPES_H

#include "core/str.h"

/* A bool that may be unsaid: explicit false and absent differ where signatures cover the field (protocol-and-trust 14.3). */
enum wire_tri { WIRE_UNKNOWN, WIRE_FALSE, WIRE_TRUE };

static inline enum wire_tri wire_tri_of(bool value)
{
	return value ? WIRE_TRUE : WIRE_FALSE;
}

/* Ranks: a higher value means more trust (protocol-and-trust 7). */
enum wire_trust { WIRE_TRUST_NONE, WIRE_TRUST_SELF_SIGNED, WIRE_TRUST_HARDWARE };

const char *wire_trust_name(enum wire_trust trust); /* "none", "self_signed", "hardware" */
bool wire_trust_parse(struct str name, enum wire_trust *out);

#define WIRE_MAX_PAIRS 4096

/* An object of string -> string, in the order it was given. */
struct wire_pair {
	struct str key, value;
};
struct wire_pairs {
	struct wire_pair *at;
	size_t count;
};
/* Value of a key (the last of duplicates), or an empty str. */
struct str wire_pairs_get(const struct wire_pairs *pairs, struct str key);

struct wire_strings {
	struct str *at;
	size_t count;
};

/* EncryptedPayload (4.1), both texts base64 and not yet decoded. */
struct wire_payload {
	struct str sender_key; /* `ephemeral_public_key`: E of a request, but the long-lived K of a chunk */
	struct str ciphertext; /* nonce | tag | body */
};

#endif
