/* Any bytes as a sealed message: never opened. Any bytes as a plain message: sealed, opened, and refused with any one byte
 * changed. */
#include <stdlib.h>

#include "crypto/box.h"
#include "crypto/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static struct box_shared shared_key(void)
{
	struct box_keypair ours, theirs;
	struct box_shared shared;
	uint8_t secret[BOX_KEY_BYTES] = {1};
	check(crypto_init() == DB_OK);
	box_keypair_from_secret(&ours, secret);
	secret[0] = 2;
	box_keypair_from_secret(&theirs, secret);
	check(box_shared_derive(&shared, theirs.public_key, ours.secret_key) == DB_OK);
	return shared;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct box_shared shared;
	static bool ready;
	if (!ready)
		shared = shared_key();
	ready = true;

	static const uint8_t nonce[BOX_NONCE_BYTES] = {9};
	uint8_t *out = malloc(size + 1), *sealed = malloc(size + BOX_OVERHEAD), none = 0;
	const uint8_t *plain = size ? data : &none;
	size_t len, sealed_len = size + BOX_OVERHEAD;
	check(box_open(&shared, plain, size, out, &len) == DB_E_CRYPTO && len == 0);
	box_seal_with_nonce(&shared, nonce, plain, size, sealed);
	check(box_open(&shared, sealed, sealed_len, out, &len) == DB_OK && len == size && memcmp(out, plain, size) == 0);
	size_t at = size ? (size_t)(data[0] | data[size - 1] << 8) % sealed_len : 0;
	sealed[at] ^= size && data[size / 2] ? data[size / 2] : 1;
	check(box_open(&shared, sealed, sealed_len, out, &len) == DB_E_CRYPTO);
	check(box_open(&shared, sealed, at, out, &len) == DB_E_CRYPTO);

	struct box_shared derived;
	if (size >= 2 * BOX_KEY_BYTES)
		(void)box_shared_derive(&derived, data, data + BOX_KEY_BYTES);
	free(out);
	free(sealed);
	return 0;
}
