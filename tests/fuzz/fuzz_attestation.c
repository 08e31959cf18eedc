/* Registration attestations. On any bytes the verdict is one of the known ones and only a valid one may be trusted. The bytes
 * are also put as a chip name into a blob that is signed here: it must verify, and must not verify with any one byte changed.
 */
#include <stdlib.h>

#include "core/encode.h"
#include "core/utf8.h"
#include "crypto/secret.h"
#include "wire/attestation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_verdict(struct str text, struct arena *arena)
{
	struct attestation_result result;
	attestation_verify(text, STR("e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM="), arena, &result);
	check(result.verdict <= ATTESTATION_KEY_MISMATCH);
	check((result.verdict == ATTESTATION_VALID) == (result.why.code == DB_OK));
	check((result.verdict == ATTESTATION_VALID) == (result.max_trust != WIRE_TRUST_NONE));
	check(result.max_trust < WIRE_TRUST_HARDWARE || !result.is_linux);
}

static void check_own(struct str name, const struct p256_key *key, struct arena *arena)
{
	uint8_t xy[P256_PUBLIC_BYTES];
	char public_key[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)];
	struct attestation_result result;
	struct wire_signer signer = wire_signer_of(key);
	struct buf signed_blob;
	p256_public(key, xy);
	struct attestation_blob blob = {
	    .chip_name = name,
	    .public_key = {public_key, base64_encode(xy, sizeof xy, public_key)},
	    .timestamp = STR("2026-01-02T03:04:05Z"),
	    .platform = ATTESTATION_LINUX,
	};
	buf_init(&signed_blob, 1u << 20);
	check(attestation_sign(&blob, &signer, &signed_blob) == DB_OK);
	attestation_verify(buf_str(&signed_blob), STR_NONE, arena, &result);
	check(result.verdict == ATTESTATION_VALID && result.max_trust == WIRE_TRUST_SELF_SIGNED);
	check(str_eq(result.blob.chip_name, name));

	size_t signed_from = strlen("{\"attestation\":"),
	       signed_len = signed_blob.len - signed_from - strlen(",\"signature\":\"\"}") - 92;
	signed_blob.at[signed_from + name.len % signed_len] ^= 1;
	attestation_verify(buf_str(&signed_blob), STR_NONE, arena, &result);
	check(result.verdict != ATTESTATION_VALID);
	buf_free(&signed_blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct p256_key *key;
	if (!key) {
		uint8_t scalar[P256_SCALAR_BYTES] = {1, 2, 3};
		check(crypto_init() == DB_OK);
		key = p256_from_scalar(scalar);
		check(key != NULL);
	}
	struct str text = {(const char *)data, size};
	struct arena *arena = arena_new(0);
	check(arena != NULL);
	check_verdict(text, arena);
	if (size % 16 == 0 && size < 4096 && utf8_valid(text))
		check_own(text, key, arena);
	arena_free(arena);
	return 0;
}
