#include "crypto/box.h"

#include "core/id.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#include <openssl/evp.h>
#include <sodium.h>

_Static_assert(BOX_KEY_BYTES == crypto_box_PUBLICKEYBYTES && BOX_KEY_BYTES == crypto_box_SECRETKEYBYTES, "X25519 key");
_Static_assert(BOX_KEY_BYTES == crypto_box_BEFORENMBYTES, "shared key");
_Static_assert(BOX_NONCE_BYTES == crypto_box_NONCEBYTES && BOX_TAG_BYTES == crypto_box_MACBYTES, "envelope");

void box_keypair_from_secret(struct box_keypair *pair, const uint8_t secret[BOX_KEY_BYTES])
{
	memmove(pair->secret_key, secret, BOX_KEY_BYTES);
	/* Fails only for an all-zero result, which the base point never gives. */
	(void)crypto_scalarmult_base(pair->public_key, pair->secret_key);
}

void box_keypair_new(struct box_keypair *pair)
{
	uint8_t secret[BOX_KEY_BYTES];
	id_random(secret, sizeof secret);
	box_keypair_from_secret(pair, secret);
	secret_wipe(secret, sizeof secret);
}

/* libsodium's X25519 (AVX where there is one, once crypto_init has run) is as fast as OpenSSL's bare multiplication and spares
 * the EVP objects around it. */
enum db_err box_shared_derive(struct box_shared *shared, const uint8_t peer_public[BOX_KEY_BYTES],
                              const uint8_t secret[BOX_KEY_BYTES])
{
	if (crypto_box_beforenm(shared->key, peer_public, secret) == 0)
		return DB_OK;
	secret_wipe(shared, sizeof *shared);
	return DB_E_CRYPTO;
}

void box_seal_with_nonce(const struct box_shared *shared, const uint8_t nonce[BOX_NONCE_BYTES], const void *plain, size_t len,
                         uint8_t *out)
{
	memcpy(out, nonce, BOX_NONCE_BYTES);
	(void)crypto_box_easy_afternm(out + BOX_NONCE_BYTES, plain, len, nonce, shared->key);
}

void box_seal(const struct box_shared *shared, const void *plain, size_t len, uint8_t *out)
{
	uint8_t nonce[BOX_NONCE_BYTES];
	id_random(nonce, sizeof nonce);
	box_seal_with_nonce(shared, nonce, plain, len, out);
}

enum db_err box_open(const struct box_shared *shared, const uint8_t *sealed, size_t sealed_len, uint8_t *out, size_t *out_len)
{
	*out_len = 0;
	if (sealed_len < BOX_OVERHEAD)
		return DB_E_CRYPTO;
	uint8_t nonce[BOX_NONCE_BYTES]; /* a copy, because `out` may begin where the nonce stands */
	memcpy(nonce, sealed, sizeof nonce);
	const uint8_t *boxed = sealed + BOX_NONCE_BYTES;
	if (crypto_box_open_easy_afternm(out, boxed, sealed_len - BOX_NONCE_BYTES, nonce, shared->key) != 0)
		return DB_E_CRYPTO;
	*out_len = sealed_len - BOX_OVERHEAD;
	return DB_OK;
}

/* --- the coordinator's key from its mnemonic --- */

static size_t count_words(struct str text)
{
	size_t words = 0;
	bool inside = false;
	for (size_t i = 0; i < text.len; i++) {
		bool space = text.at[i] == ' ' || (text.at[i] >= '\t' && text.at[i] <= '\r');
		words += !space && !inside;
		inside = !space;
	}
	return words;
}

enum db_err box_keypair_from_mnemonic(struct box_keypair *pair, struct str mnemonic)
{
	static const char salt[] = "mnemonic", info[] = "eigeninference-coordinator-e2e-v1";
	struct str phrase = str_trim(mnemonic);
	size_t words = count_words(phrase);
	if ((words != 12 && words != 24) || phrase.len > 4096)
		return DB_E_INVALID;

	uint8_t seed[64], prk[SHA256_BYTES], secret[SHA256_BYTES];
	uint8_t expand[sizeof info]; /* HKDF-Expand's first block: info and the counter 1, where the NUL stood */
	memcpy(expand, info, sizeof info);
	expand[sizeof info - 1] = 1;
	const uint8_t no_salt[SHA256_BYTES] = {0};
	bool ok = PKCS5_PBKDF2_HMAC(phrase.at, (int)phrase.len, (const unsigned char *)salt, sizeof salt - 1, 2048, EVP_sha512(),
	                            sizeof seed, seed) == 1;
	if (ok) {
		hmac_sha256(no_salt, sizeof no_salt, seed, sizeof seed, prk);
		hmac_sha256(prk, sizeof prk, expand, sizeof expand, secret);
		box_keypair_from_secret(pair, secret);
	}
	secret_wipe(seed, sizeof seed);
	secret_wipe(prk, sizeof prk);
	secret_wipe(secret, sizeof secret);
	return ok ? DB_OK : DB_E_INTERNAL;
}

void box_key_id(const uint8_t public_key[BOX_KEY_BYTES], char kid[BOX_KID_SIZE])
{
	char hex[SHA256_HEX_SIZE];
	sha256_hex(public_key, BOX_KEY_BYTES, hex);
	memcpy(kid, hex, BOX_KID_SIZE - 1);
	kid[BOX_KID_SIZE - 1] = '\0';
}
