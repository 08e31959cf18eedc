#include "crypto/aead.h"

#include "crypto/hash.h"
#include "crypto/secret.h"

#include <limits.h>
#include <openssl/evp.h>

enum db_err aead_seal(const uint8_t key[AEAD_KEY_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES], struct str aad,
                      const void *plain, size_t len, uint8_t *out)
{
	int n = 0, rest = 0;
	if (len > INT_MAX || aad.len > INT_MAX)
		return DB_E_LIMIT;
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	bool ok = context && EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
	          (!aad.len || EVP_EncryptUpdate(context, NULL, &n, (const uint8_t *)aad.at, (int)aad.len) == 1) &&
	          (!len || EVP_EncryptUpdate(context, out, &n, plain, (int)len) == 1) &&
	          EVP_EncryptFinal_ex(context, out + len, &rest) == 1 &&
	          EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, AEAD_TAG_BYTES, out + len) == 1;
	EVP_CIPHER_CTX_free(context);
	return ok ? DB_OK : DB_E_NOMEM;
}

enum db_err aead_open(const uint8_t key[AEAD_KEY_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES], struct str aad,
                      const uint8_t *sealed, size_t sealed_len, uint8_t *out)
{
	int n = 0, rest = 0;
	if (sealed_len < AEAD_TAG_BYTES)
		return DB_E_CRYPTO;
	size_t len = sealed_len - AEAD_TAG_BYTES;
	if (len > INT_MAX || aad.len > INT_MAX)
		return DB_E_LIMIT;
	uint8_t tag[AEAD_TAG_BYTES], none[1];
	memcpy(tag, sealed + len, sizeof tag);
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	bool ready = context && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
	             (!aad.len || EVP_DecryptUpdate(context, NULL, &n, (const uint8_t *)aad.at, (int)aad.len) == 1) &&
	             (!len || EVP_DecryptUpdate(context, out, &n, sealed, (int)len) == 1) &&
	             EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, sizeof tag, tag) == 1;
	bool good = ready && EVP_DecryptFinal_ex(context, none, &rest) == 1;
	EVP_CIPHER_CTX_free(context);
	if (!good && len)
		secret_wipe(out, len);
	return good ? DB_OK : ready ? DB_E_CRYPTO : DB_E_NOMEM;
}

void hkdf_extract(struct str salt, struct str secret, uint8_t prk[HKDF_PRK_BYTES])
{
	hmac_sha256(salt.at ? salt.at : "", salt.len, secret.at, secret.len, prk);
}

enum db_err hkdf_expand(const uint8_t prk[HKDF_PRK_BYTES], struct str info, uint8_t *out, size_t len)
{
	uint8_t block[SHA256_BYTES], input[SHA256_BYTES + HKDF_MAX_INFO + 1];
	if (info.len > HKDF_MAX_INFO || len > 255 * sizeof block)
		return DB_E_LIMIT;
	size_t carried = 0;
	for (uint8_t i = 1; len; i++) {
		memcpy(input, block, carried);
		if (info.len)
			memcpy(input + carried, info.at, info.len);
		input[carried + info.len] = i;
		hmac_sha256(prk, HKDF_PRK_BYTES, input, carried + info.len + 1, block);
		carried = sizeof block;
		size_t n = len < sizeof block ? len : sizeof block;
		memcpy(out, block, n);
		out += n;
		len -= n;
	}
	secret_wipe(block, sizeof block);
	secret_wipe(input, sizeof input);
	return DB_OK;
}
