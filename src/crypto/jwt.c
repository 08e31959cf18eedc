#include "crypto/jwt_internal.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>

#include "core/encode.h"
#include "crypto/secret.h"

#define ES256_HALF 32
#define DER_MAX    80

static enum db_err malformed(struct error *error, const char *what)
{
	return error_set(error, DB_E_INVALID, "The token is no JSON Web Token that is accepted here: %s.", what);
}

/* --- reading --- */

/* The object that one part of the token encodes. */
static const json_val *read_part(struct str text, struct arena *arena)
{
	size_t len;
	uint8_t *bytes = arena_alloc(arena, BASE64URL_DECODED_MAX(text.len) + 1);
	if (!bytes || base64url_decode(text, bytes, &len))
		return NULL;
	struct json_doc *doc = json_parse((struct str){(const char *)bytes, len}, arena, NULL);
	return doc && json_type(json_root(doc)) == JSON_OBJECT ? json_root(doc) : NULL;
}

static bool read_alg(const json_val *header, enum jwt_alg *alg)
{
	struct str name;
	if (!json_as_str(json_get(header, "alg"), &name))
		return false;
	*alg = str_is(name, "ES256") ? JWT_ES256 : JWT_RS256;
	return str_is(name, jwt_alg_name(*alg));
}

enum db_err jwt_parse(struct str token, struct arena *arena, struct jwt *out, struct error *error)
{
	struct str header_text, payload_text, rest, signature;
	if (token.len > JWT_MAX_BYTES)
		return malformed(error, "it is too long");
	rest = str_cut(token, '.', &header_text);
	signature = str_cut(rest, '.', &payload_text);
	if (!rest.at || !signature.at || memchr(signature.at, '.', signature.len))
		return malformed(error, "it must have three parts");
	const json_val *header = read_part(header_text, arena), *payload = read_part(payload_text, arena);
	uint8_t *bytes = arena_alloc(arena, BASE64URL_DECODED_MAX(signature.len) + 1);
	*out = (struct jwt){.payload = payload, .signature = bytes};
	if (!header || !payload || !bytes || base64url_decode(signature, bytes, &out->signature_len))
		return malformed(error, "a part of it cannot be read");
	if (!read_alg(header, &out->alg))
		return malformed(error, "its algorithm must be ES256 or RS256");
	if (json_get(header, "crit") || json_get(header, "b64"))
		return malformed(error, "it asks for an extension");
	if (json_get_some(header, "kid") && !json_as_str(json_get(header, "kid"), &out->kid))
		return malformed(error, "its key id is no text");
	out->signed_part = (struct str){token.at, (size_t)(signature.at - 1 - token.at)};
	return DB_OK;
}

/* --- signatures --- */

/* R | S to the DER that OpenSSL checks; 0 when it is no such pair. */
static int es256_to_der(const struct jwt *jwt, unsigned char der[DER_MAX])
{
	if (jwt->signature_len != 2 * ES256_HALF)
		return 0;
	int len = 0;
	ECDSA_SIG *pair = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(jwt->signature, ES256_HALF, NULL), *s = BN_bin2bn(jwt->signature + ES256_HALF, ES256_HALF, NULL);
	if (pair && r && s && ECDSA_SIG_set0(pair, r, s) == 1) {
		unsigned char *to = der;
		len = i2d_ECDSA_SIG(pair, &to);
	} else {
		BN_free(r);
		BN_free(s);
	}
	ECDSA_SIG_free(pair);
	return len;
}

static bool signature_is_good(EVP_PKEY *pkey, struct str message, const uint8_t *signature, size_t len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
	            EVP_DigestVerify(ctx, signature, len, (const unsigned char *)message.at, message.len) == 1;
	EVP_MD_CTX_free(ctx);
	return good;
}

enum db_err jwt_verify(const struct jwt *jwt, const struct jwt_key *key)
{
	unsigned char der[DER_MAX];
	if (jwt->alg != key->alg)
		return DB_E_CRYPTO;
	ERR_set_mark();
	bool good;
	if (jwt->alg == JWT_ES256) {
		int len = es256_to_der(jwt, der);
		good = len > 0 && signature_is_good(key->pkey, jwt->signed_part, der, (size_t)len);
	} else {
		good = signature_is_good(key->pkey, jwt->signed_part, jwt->signature, jwt->signature_len);
	}
	ERR_pop_to_mark();
	return good ? DB_OK : DB_E_CRYPTO;
}

enum db_err jwt_verify_any(const struct jwt *jwt, const struct jwt_keys *keys)
{
	enum db_err err = DB_E_NOT_FOUND;
	for (size_t i = 0; i < keys->count && err; i++) {
		const struct jwt_key *key = &keys->at[i];
		if (key->alg == jwt->alg && (!jwt->kid.len || str_is(jwt->kid, key->kid)))
			err = jwt_verify(jwt, key);
	}
	return err;
}

/* --- claims --- */

static enum db_err denied(struct error *error, const char *why)
{
	return error_set(error, DB_E_DENIED, "The token %s.", why);
}

static bool is_for(const json_val *audience, struct str wanted)
{
	struct str text;
	if (json_as_str(audience, &text))
		return str_eq(text, wanted);
	struct json_iter each = json_iter(audience);
	for (json_val *one; json_type(audience) == JSON_ARRAY && (one = json_next(&each, NULL));)
		if (json_as_str(one, &text) && str_eq(text, wanted))
			return true;
	return false;
}

/* Seconds, fractions dropped (RFC 7519 "NumericDate"). */
static bool as_time(const json_val *value, int64_t *out)
{
	double seconds;
	if (json_as_i64(value, out))
		return *out >= 0 && *out < INT64_MAX / 4;
	if (!json_as_double(value, &seconds) || seconds < 0 || seconds > 1e15)
		return false;
	*out = (int64_t)seconds;
	return true;
}

static enum db_err check_times(const json_val *payload, const struct jwt_rules *rules, struct jwt_claims *claims,
                               struct error *error)
{
	int64_t from, issued;
	if (!as_time(json_get(payload, "exp"), &claims->expires_s))
		return denied(error, "does not say when it expires");
	if (claims->expires_s + rules->skew_s <= rules->now_s)
		return denied(error, "has expired");
	if (json_get_some(payload, "nbf") && (!as_time(json_get(payload, "nbf"), &from) || from - rules->skew_s > rules->now_s))
		return denied(error, "is not valid yet");
	if ((rules->is_id_token || json_get_some(payload, "iat")) &&
	    (!as_time(json_get(payload, "iat"), &issued) || issued - rules->skew_s > rules->now_s))
		return denied(error, "was not issued at a time that can be");
	return DB_OK;
}

static enum db_err check_parties(const json_val *payload, const struct jwt_rules *rules, struct jwt_claims *claims,
                                 struct error *error)
{
	const json_val *audience = json_get(payload, "aud"), *party = json_get_some(payload, "azp");
	struct str issuer, authorized, nonce;
	if (!json_as_str(json_get(payload, "iss"), &issuer) || !str_eq(issuer, rules->issuer))
		return denied(error, "was made by another issuer");
	if (!rules->audience.len || !is_for(audience, rules->audience))
		return denied(error, "is for another audience");
	bool needs_party = rules->is_id_token && json_type(audience) == JSON_ARRAY && json_len(audience) > 1;
	if ((needs_party || (rules->is_id_token && party)) &&
	    (!json_as_str(party, &authorized) || !str_eq(authorized, rules->audience)))
		return denied(error, "was made for another party");
	if (!json_as_str(json_get(payload, "sub"), &claims->subject) || !claims->subject.len)
		return denied(error, "does not say whom it is about");
	if (rules->nonce.len && (!json_as_str(json_get(payload, "nonce"), &nonce) || !secret_equal_str(nonce, rules->nonce)))
		return denied(error, "does not belong to this login");
	return DB_OK;
}

enum db_err jwt_check(const struct jwt *jwt, const struct jwt_rules *rules, struct jwt_claims *claims, struct error *error)
{
	bool verified = false;
	*claims = (struct jwt_claims){0};
	enum db_err err = check_parties(jwt->payload, rules, claims, error);
	if (!err)
		err = check_times(jwt->payload, rules, claims, error);
	if (err)
		return err;
	if (json_as_bool(json_get(jwt->payload, "email_verified"), &verified) && verified)
		(void)json_as_str(json_get(jwt->payload, "email"), &claims->email);
	(void)json_as_str(json_get(jwt->payload, "name"), &claims->name);
	return DB_OK;
}
