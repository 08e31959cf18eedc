/* Public keys of token issuers: PEM and JSON Web Keys. */
#include "crypto/jwt_internal.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "core/encode.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* checking a signature under a larger one takes long */
#define COORDINATE   32
#define PEM_MAX      65536

const char *jwt_alg_name(enum jwt_alg alg)
{
	return alg == JWT_ES256 ? "ES256" : "RS256";
}

/* The algorithm a key is good for. False for keys of other kinds and sizes. */
static bool alg_of(EVP_PKEY *pkey, enum jwt_alg *alg)
{
	char group[32];
	size_t len;
	if (EVP_PKEY_is_a(pkey, "EC")) {
		*alg = JWT_ES256;
		return EVP_PKEY_get_group_name(pkey, group, sizeof group, &len) == 1 && strcmp(group, "prime256v1") == 0;
	}
	*alg = JWT_RS256;
	int bits = EVP_PKEY_get_bits(pkey);
	return EVP_PKEY_is_a(pkey, "RSA") && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX;
}

/* --- PEM --- */

/* NULL when the text holds no public key. */
static EVP_PKEY *read_pem(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
	EVP_PKEY *pkey = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
	if (bio && !pkey) {
		(void)BIO_reset(bio);
		X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
		pkey = certificate ? X509_get_pubkey(certificate) : NULL;
		X509_free(certificate);
	}
	BIO_free(bio);
	return pkey;
}

static enum db_err unescape(struct str pem, struct buf *out)
{
	for (size_t i = 0; i < pem.len; i++) {
		bool escaped = pem.at[i] == '\\' && i + 1 < pem.len && pem.at[i + 1] == 'n';
		buf_append_byte(out, escaped ? '\n' : pem.at[i]);
		i += escaped;
	}
	return out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err jwt_key_from_pem(struct str pem, struct jwt_key **key, struct error *error)
{
	struct buf text;
	struct jwt_key *made = NULL;
	enum jwt_alg alg;
	buf_init(&text, PEM_MAX);
	ERR_set_mark();
	EVP_PKEY *pkey = unescape(pem, &text) == DB_OK ? read_pem(buf_str(&text)) : NULL;
	enum db_err err = DB_OK;
	*key = NULL;
	if (!pkey || !alg_of(pkey, &alg))
		err = error_set(error, DB_E_INVALID, "This is no PEM public key for ES256 (P-256) or RS256 (2048 to 8192 bits).");
	else if (!(made = calloc(1, sizeof *made)))
		err = error_set(error, DB_E_NOMEM, "There is not enough memory for a key.");
	if (err) {
		EVP_PKEY_free(pkey);
	} else {
		*made = (struct jwt_key){.pkey = pkey, .alg = alg};
		*key = made;
	}
	ERR_pop_to_mark();
	buf_free(&text);
	return err;
}

void jwt_key_free(struct jwt_key *key)
{
	if (!key)
		return;
	EVP_PKEY_free(key->pkey);
	free(key);
}

/* --- JSON Web Keys --- */

static EVP_PKEY *from_params(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY *pkey = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	if (ctx && EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

/* A base64url member of at most max bytes. */
static bool member_bytes(const json_val *jwk, const char *name, uint8_t *out, size_t max, size_t *len)
{
	struct str text;
	return json_as_str(json_get(jwk, name), &text) && text.len > 0 && BASE64URL_DECODED_MAX(text.len) <= max &&
	       base64url_decode(text, out, len) == DB_OK;
}

static EVP_PKEY *read_ec(const json_val *jwk)
{
	uint8_t point[1 + 2 * COORDINATE] = {0x04}, coordinate[COORDINATE + 3];
	size_t len;
	struct str curve;
	if (!json_as_str(json_get(jwk, "crv"), &curve) || !str_is(curve, "P-256"))
		return NULL;
	for (int i = 0; i < 2; i++) {
		if (!member_bytes(jwk, i ? "y" : "x", coordinate, sizeof coordinate, &len) || len != COORDINATE)
			return NULL;
		memcpy(point + 1 + i * COORDINATE, coordinate, COORDINATE);
	}
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){"P-256"}, 0),
	    OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
	    OSSL_PARAM_construct_end(),
	};
	return from_params("EC", params);
}

/* OpenSSL takes the number in the machine's byte order. */
static bool native_number(const uint8_t *bytes, size_t len, uint8_t *out, size_t *out_len)
{
	BIGNUM *number = BN_bin2bn(bytes, (int)len, NULL);
	*out_len = number ? (size_t)BN_num_bytes(number) : 0;
	bool ok = *out_len > 0 && BN_bn2nativepad(number, out, (int)*out_len) > 0;
	BN_free(number);
	return ok;
}

static EVP_PKEY *read_rsa(const json_val *jwk)
{
	uint8_t modulus[RSA_BITS_MAX / 8 + 3], exponent[8], n[RSA_BITS_MAX / 8 + 3], e[8];
	size_t modulus_len, exponent_len, n_len, e_len;
	if (!member_bytes(jwk, "n", modulus, sizeof modulus, &modulus_len) ||
	    !member_bytes(jwk, "e", exponent, sizeof exponent, &exponent_len) || !native_number(modulus, modulus_len, n, &n_len) ||
	    !native_number(exponent, exponent_len, e, &e_len) || !(exponent[exponent_len - 1] & 1) || (e_len == 1 && e[0] == 1))
		return NULL;
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N, n, n_len),
	    OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_E, e, e_len),
	    OSSL_PARAM_construct_end(),
	};
	return from_params("RSA", params);
}

static bool says(const json_val *jwk, const char *name, const char *wanted)
{
	struct str text;
	return !json_get_some(jwk, name) || (json_as_str(json_get(jwk, name), &text) && str_is(text, wanted));
}

/* False for a key that is not for signatures of ours. */
static bool read_jwk(const json_val *jwk, struct jwt_key *key)
{
	struct str type, kid = STR_NONE;
	if (!json_as_str(json_get(jwk, "kty"), &type) || !says(jwk, "use", "sig"))
		return false;
	if (json_as_str(json_get(jwk, "kid"), &kid) && kid.len >= JWT_KID_SIZE)
		return false;
	*key = (struct jwt_key){0};
	str_copy(kid, key->kid, sizeof key->kid);
	if (str_is(type, "EC") || str_is(type, "RSA"))
		key->pkey = str_is(type, "EC") ? read_ec(jwk) : read_rsa(jwk);
	if (key->pkey && alg_of(key->pkey, &key->alg) && says(jwk, "alg", jwt_alg_name(key->alg)))
		return true;
	EVP_PKEY_free(key->pkey);
	return false;
}

enum db_err jwt_keys_parse(struct str json, struct jwt_keys **keys, struct error *error)
{
	struct json_doc *doc = json_parse(json, NULL, NULL);
	const json_val *list = doc ? json_get(json_root(doc), "keys") : NULL;
	struct jwt_keys *made = json_type(list) == JSON_ARRAY ? calloc(1, sizeof *made) : NULL;
	*keys = made;
	if (made) {
		struct json_iter each = json_iter(list);
		ERR_set_mark();
		for (json_val *jwk; made->count < JWT_KEYS_MAX && (jwk = json_next(&each, NULL));)
			if (read_jwk(jwk, &made->at[made->count]))
				made->count++;
		ERR_pop_to_mark();
	}
	json_free(doc);
	return made ? DB_OK : error_set(error, DB_E_INVALID, "This is no JSON Web Key Set.");
}

void jwt_keys_free(struct jwt_keys *keys)
{
	if (!keys)
		return;
	for (size_t i = 0; i < keys->count; i++)
		EVP_PKEY_free(keys->at[i].pkey);
	free(keys);
}

size_t jwt_keys_count(const struct jwt_keys *keys)
{
	return keys->count;
}
