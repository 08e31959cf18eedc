#include "crypto/secret.h"

#include "crypto/hash.h"

#include <sodium.h>

#define SECRET_ALIGN 16

enum db_err crypto_init(void)
{
	/* Also picks libsodium's fast X25519 and Poly1305 for this processor. */
	return sodium_init() < 0 ? DB_E_INTERNAL : DB_OK;
}

void secret_wipe(void *at, size_t len)
{
	sodium_memzero(at, len);
}

bool secret_equal(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

/* Digests have one length, so only the lengths of the texts can be timed, never where they begin to differ. */
bool secret_equal_str(struct str a, struct str b)
{
	uint8_t digest_a[SHA256_BYTES], digest_b[SHA256_BYTES];
	sha256(a.at, a.len, digest_a);
	sha256(b.at, b.len, digest_b);
	bool equal = secret_equal(digest_a, digest_b, SHA256_BYTES);
	secret_wipe(digest_a, sizeof digest_a);
	secret_wipe(digest_b, sizeof digest_b);
	return equal && a.len == b.len;
}

/* libsodium puts the block against its end guard page: round up so that the start is aligned. */
void *secret_alloc(size_t len)
{
	if (len > SIZE_MAX - SECRET_ALIGN)
		return NULL;
	size_t padded = (len + SECRET_ALIGN - 1) / SECRET_ALIGN * SECRET_ALIGN;
	void *at = sodium_malloc(padded);
	if (at)
		memset(at, 0, padded);
	return at;
}

void secret_free(void *at)
{
	sodium_free(at);
}
