/* JSON Web Tokens (RFC 7519) as others sign them: ES256 and RS256, verified over OpenSSL (http-api 1.5).
 *
 * A key has one algorithm, found in the key itself, and a token must name that one: what the token claims never chooses how it
 * is checked. `none` and the HMAC algorithms do not exist here. Thread: any; verifying takes about 100 us. */
#ifndef CRYPTO_JWT_H
#define CRYPTO_JWT_H

#include "core/json.h"

#define JWT_MAX_BYTES 16384 /* longer tokens are refused unread */

enum jwt_alg { JWT_ES256, JWT_RS256 };
const char *jwt_alg_name(enum jwt_alg alg);

/* --- keys --- */

struct jwt_key; /* a public key */

/* A PEM public key or certificate; the two characters `\n` count as a line feed, as environment variables have them. P-256 or
 * RSA of 2048 to 8192 bits; DB_E_INVALID otherwise. */
enum db_err jwt_key_from_pem(struct str pem, struct jwt_key **key, struct error *error);
void jwt_key_free(struct jwt_key *key);

/* A JSON Web Key Set (RFC 7517). Keys that are for something else (encryption, other algorithms) are left out. */
struct jwt_keys;
#define JWT_KEYS_MAX 64
/* DB_E_INVALID when the text is no key set; one without a usable key is empty. */
enum db_err jwt_keys_parse(struct str json, struct jwt_keys **keys, struct error *error);
void jwt_keys_free(struct jwt_keys *keys);
size_t jwt_keys_count(const struct jwt_keys *keys);

/* --- tokens --- */

struct jwt {
	enum jwt_alg alg;
	struct str kid;          /* empty when the token names none */
	const json_val *payload; /* believe nothing of it before jwt_verify */
	struct str signed_part;  /* header and payload as they stand in the token */
	const uint8_t *signature;
	size_t signature_len;
};
/* Everything is borrowed from the token and the arena. DB_E_INVALID for whatever is no JWT with one of our algorithms. */
enum db_err jwt_parse(struct str token, struct arena *arena, struct jwt *out, struct error *error);

/* DB_E_CRYPTO when the signature is not this key's over this token, or the key is for another algorithm. */
enum db_err jwt_verify(const struct jwt *jwt, const struct jwt_key *key);
/* With the key the token names; with every key of its algorithm when it names none. DB_E_NOT_FOUND: the set has no such key,
 * and a fresh one may. */
enum db_err jwt_verify_any(const struct jwt *jwt, const struct jwt_keys *keys);

struct jwt_rules {
	struct str issuer, audience;
	int64_t now_s;    /* Unix time */
	int64_t skew_s;   /* how wrong clocks may be */
	struct str nonce; /* empty: not looked at */
	bool is_id_token; /* several audiences need `azp`, and `iat` is required (OpenID Connect Core 3.1.3.7) */
};
struct jwt_claims {
	struct str subject; /* never empty */
	struct str email;   /* empty unless the issuer says that it verified it */
	struct str name;
	int64_t expires_s;
};
/* What a verified token says, when it is for us and valid now: DB_E_DENIED with a sentence otherwise. `exp` is required. */
enum db_err jwt_check(const struct jwt *jwt, const struct jwt_rules *rules, struct jwt_claims *claims, struct error *error);

#endif
