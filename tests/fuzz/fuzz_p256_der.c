/* Any bytes as a signature, and as edits to a good one: accepted only when the bytes are the good signature or its twin with n
 * - s. Any bytes as a public key never crash. */
#include <stdlib.h>

#include "core/encode.h"
#include "crypto/p256.h"
#include "crypto/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* protocol-and-trust 15, V3 and V6. */
#define PUBLIC  STR("T7g1knoCJ58EkK789sD5UpJ+WLd7dhotr1VeAKwwxxw2Es+WyENUMCSJdvf50aFtbc2OEUnT0yu301DKr3iisA==")
#define MESSAGE STR("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
#define GOOD    STR("MEQCIGFM7G/XPbwBqm1hl3w3AYKADQ7cadVd+kY8cKl/a9ZdAiAWG9L3nrHgCtmeXvHRJhT5sRm3GX7uwc4LYR4AEDAP2g==")

static void check(bool good)
{
	if (!good)
		abort();
}

static enum db_err verify(const uint8_t *der, size_t len)
{
	uint8_t xy[P256_PUBLIC_BYTES];
	check(base64_decode_exact(PUBLIC, xy, sizeof xy) == DB_OK);
	return p256_verify(xy, sizeof xy, MESSAGE.at, MESSAGE.len, der, len);
}

/* r is the first number of the sequence: whatever verifies must have the good one there, in the same strict form. */
static void check_same_r(const uint8_t *der, size_t len, const uint8_t *good)
{
	check(len >= 70 && len <= P256_DER_MAX && der[0] == 0x30 && der[1] == len - 2 && memcmp(der + 2, good + 2, 34) == 0);
	check(der[36] == 0x02 && der[37] == len - 38);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t good[P256_DER_MAX + 1], edited[2 * P256_DER_MAX];
	size_t good_len;
	uint8_t none = 0;
	check(base64_decode(GOOD, good, &good_len) == DB_OK);
	if (verify(size ? data : &none, size) == DB_OK)
		check_same_r(data, size, good);

	size_t len = good_len;
	memcpy(edited, good, good_len);
	for (size_t i = 0; i + 2 < size && i < 24; i += 3) {
		size_t at = data[i] % (len + 1);
		if (data[i + 1] % 3 == 0 && at < len) {
			edited[at] = data[i + 2];
		} else if (data[i + 1] % 3 == 1 && len < sizeof edited) {
			memmove(edited + at + 1, edited + at, len - at);
			edited[at] = data[i + 2];
			len++;
		} else if (at < len) {
			memmove(edited + at, edited + at + 1, len - at - 1);
			len--;
		}
	}
	bool unchanged = len == good_len && memcmp(edited, good, len) == 0;
	enum db_err verdict = verify(edited, len);
	check(!unchanged || verdict == DB_OK);
	if (verdict == DB_OK)
		check_same_r(edited, len, good);
	(void)p256_check_public(size ? data : &none, size);
	return 0;
}
