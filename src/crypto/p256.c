#include "crypto/p256.h"

#include "core/encode.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>
#include <stdlib.h>

#define POINT_BYTES (1 + P256_PUBLIC_BYTES) /* 0x04 | X | Y */
#define GROUP_NAME  "P-256"

struct p256_key {
	EVP_PKEY *pkey;
	uint8_t public_xy[P256_PUBLIC_BYTES];
};

/* Refused input is no error of this thread: what OpenSSL queues about it between ERR_set_mark and ERR_pop_to_mark is dropped,
 * because TLS code reads the same queue to judge its connection. */

/* --- keys --- */

static EVP_PKEY *pkey_from_params(int selection, OSSL_PARAM *params)
{
	EVP_PKEY *pkey = NULL;
	ERR_set_mark();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	if (ctx && EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &pkey, selection, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	ERR_pop_to_mark();
	return pkey;
}

/* OpenSSL refuses a point that is not on the curve. */
static EVP_PKEY *pkey_from_public(const uint8_t *public_key, size_t len)
{
	uint8_t point[POINT_BYTES] = {0x04};
	if (len == POINT_BYTES && public_key[0] == 0x04)
		memcpy(point, public_key, POINT_BYTES);
	else if (len == P256_PUBLIC_BYTES)
		memcpy(point + 1, public_key, P256_PUBLIC_BYTES);
	else
		return NULL;
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){GROUP_NAME}, 0),
	    OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
	    OSSL_PARAM_construct_end(),
	};
	return pkey_from_params(EVP_PKEY_PUBLIC_KEY, params);
}

/* Wraps the key and takes it over. */
static struct p256_key *key_new(EVP_PKEY *pkey)
{
	uint8_t point[POINT_BYTES];
	size_t len = 0;
	struct p256_key *key = pkey ? calloc(1, sizeof *key) : NULL;
	if (!key || EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &len) != 1 ||
	    len != sizeof point) {
		EVP_PKEY_free(pkey);
		free(key);
		return NULL;
	}
	key->pkey = pkey;
	memcpy(key->public_xy, point + 1, P256_PUBLIC_BYTES);
	return key;
}

struct p256_key *p256_generate(void)
{
	return key_new(EVP_EC_gen(GROUP_NAME));
}

static bool public_of_scalar(const EC_GROUP *group, const BIGNUM *scalar, uint8_t point[POINT_BYTES])
{
	EC_POINT *product = EC_POINT_new(group);
	bool ok = product && EC_POINT_mul(group, product, scalar, NULL, NULL, NULL) == 1 &&
	          EC_POINT_point2oct(group, product, POINT_CONVERSION_UNCOMPRESSED, point, POINT_BYTES, NULL) == POINT_BYTES;
	EC_POINT_free(product);
	return ok;
}

static EVP_PKEY *pkey_from_pair(const BIGNUM *scalar, const uint8_t point[POINT_BYTES])
{
	EVP_PKEY *pkey = NULL;
	OSSL_PARAM *params = NULL;
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	if (build && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, GROUP_NAME, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, POINT_BYTES) == 1 &&
	    OSSL_PARAM_BLD_push_BN_pad(build, OSSL_PKEY_PARAM_PRIV_KEY, scalar, P256_SCALAR_BYTES) == 1)
		params = OSSL_PARAM_BLD_to_param(build);
	if (params)
		pkey = pkey_from_params(EVP_PKEY_KEYPAIR, params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	return pkey;
}

struct p256_key *p256_from_scalar(const uint8_t scalar[P256_SCALAR_BYTES])
{
	EVP_PKEY *pkey = NULL;
	uint8_t point[POINT_BYTES];
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	BIGNUM *number = BN_secure_new();
	if (!group || !number || !BN_bin2bn(scalar, P256_SCALAR_BYTES, number))
		goto out;
	BN_set_flags(number, BN_FLG_CONSTTIME);
	if (!BN_is_zero(number) && BN_cmp(number, EC_GROUP_get0_order(group)) < 0 && public_of_scalar(group, number, point))
		pkey = pkey_from_pair(number, point);
out:
	BN_clear_free(number);
	EC_GROUP_free(group);
	return key_new(pkey);
}

void p256_scalar(const struct p256_key *key, uint8_t scalar[P256_SCALAR_BYTES])
{
	BIGNUM *number = NULL;
	if (EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_PRIV_KEY, &number) != 1 ||
	    BN_bn2binpad(number, scalar, P256_SCALAR_BYTES) != P256_SCALAR_BYTES)
		abort(); /* a struct p256_key always has a private part; going on would save a key nobody has */
	BN_clear_free(number);
}

void p256_free(struct p256_key *key)
{
	if (!key)
		return;
	EVP_PKEY_free(key->pkey); /* clears the private number */
	secret_wipe(key, sizeof *key);
	free(key);
}

void p256_public(const struct p256_key *key, uint8_t xy[P256_PUBLIC_BYTES])
{
	memcpy(xy, key->public_xy, P256_PUBLIC_BYTES);
}

enum db_err p256_check_public(const uint8_t *public_key, size_t len)
{
	EVP_PKEY *pkey = pkey_from_public(public_key, len);
	EVP_PKEY_free(pkey);
	return pkey ? DB_OK : DB_E_CRYPTO;
}

/* --- signatures --- */

enum db_err p256_sign(const struct p256_key *key, const void *message, size_t len, uint8_t der[P256_DER_MAX], size_t *der_len)
{
	uint8_t digest[SHA256_BYTES];
	sha256(message, len, digest);
	*der_len = P256_DER_MAX;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	bool ok = ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, der, der_len, digest, sizeof digest) == 1;
	EVP_PKEY_CTX_free(ctx);
	return ok ? DB_OK : DB_E_INTERNAL;
}

/* OpenSSL reads the signature as strict DER (it encodes what it read and compares) and refuses r and s outside [1, n-1]. */
enum db_err p256_verify(const uint8_t *public_key, size_t public_len, const void *message, size_t len, const uint8_t *der,
                        size_t der_len)
{
	if (der_len > P256_DER_MAX)
		return DB_E_CRYPTO;
	EVP_PKEY *pkey = pkey_from_public(public_key, public_len);
	if (!pkey)
		return DB_E_CRYPTO;
	uint8_t digest[SHA256_BYTES];
	sha256(message, len, digest);
	ERR_set_mark();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
	bool ok = ctx && EVP_PKEY_verify_init(ctx) == 1 && EVP_PKEY_verify(ctx, der, der_len, digest, sizeof digest) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_pop_to_mark();
	EVP_PKEY_free(pkey);
	return ok ? DB_OK : DB_E_CRYPTO;
}

enum db_err p256_sign_base64(const struct p256_key *key, struct str message, struct buf *out)
{
	uint8_t der[P256_DER_MAX];
	char text[BASE64_ENCODED_LEN(P256_DER_MAX)];
	size_t der_len;
	enum db_err err = p256_sign(key, message.at, message.len, der, &der_len);
	if (err)
		return err;
	return buf_append(out, text, base64_encode(der, der_len, text));
}

enum db_err p256_verify_base64(struct str public_b64, struct str message, struct str der_b64)
{
	uint8_t point[POINT_BYTES + 1], der[P256_DER_MAX];
	size_t point_len, der_len;
	if (public_b64.len > BASE64_ENCODED_LEN(POINT_BYTES) || base64_decode(public_b64, point, &point_len))
		return DB_E_INVALID;
	if (der_b64.len > BASE64_ENCODED_LEN(P256_DER_MAX) || base64_decode(der_b64, der, &der_len))
		return DB_E_INVALID;
	return p256_verify(point, point_len, message.at, message.len, der, der_len);
}
