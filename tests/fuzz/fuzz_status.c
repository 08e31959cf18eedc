/* Challenge replies and answers that are hashed. On any bytes: a reply that decodes gets a verdict; its canonical form is JSON
 * that holds the same facts, and is the same whatever the order of the reply's members; signing it makes it verify. */
#include <stdlib.h>

#include "crypto/secret.h"
#include "wire/message.h"
#include "wire/response_hash.h"
#include "wire/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NONCE STR("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
#define STAMP STR("2026-01-02T03:04:06Z")

static void check(bool good)
{
	if (!good)
		abort();
}

static void canonical_of(const struct wire_attestation_response *reply, struct buf *out)
{
	buf_init(out, 1u << 24);
	check(status_canonical(reply, NONCE, STAMP, out) == DB_OK);
}

static void check_canonical(struct wire_attestation_response reply, struct arena *arena)
{
	struct buf first, second;
	struct str value;
	canonical_of(&reply, &first);
	const json_val *root = json_root(json_parse(buf_str(&first), arena, NULL));
	check(root != NULL);
	check(json_as_str(json_get(root, "nonce"), &value) && str_eq(value, NONCE));
	check((json_get(root, "sip_enabled") != NULL) == (reply.sip_enabled != WIRE_UNKNOWN));

	/* What is read back from the encoded message signs the same bytes. */
	struct wire_message message = {.type = WIRE_ATTESTATION_RESPONSE, .as.attestation_response = reply}, again;
	struct buf encoded;
	buf_init(&encoded, 1u << 24);
	check(wire_encode(&message, &encoded) == DB_OK);
	check(wire_decode(buf_str(&encoded), arena, &again, NULL) == DB_OK);
	canonical_of(&again.as.attestation_response, &second);
	check(str_eq(buf_str(&first), buf_str(&second)));
	buf_free(&encoded);
	buf_free(&first);
	buf_free(&second);
}

static void check_signing(struct wire_attestation_response reply, const struct p256_key *key, struct arena *arena)
{
	uint8_t xy[P256_PUBLIC_BYTES];
	struct wire_signer signer = wire_signer_of(key);
	struct wire_challenge challenge = {NONCE, STAMP};
	struct status_result result;
	struct status_policy policy = {.nonce = NONCE, .timestamp = STAMP, .signing_key = xy};
	p256_public(key, xy);
	status_verify(&reply, &policy, &result);
	check(!result.status_signed);
	check(status_sign(&reply, &challenge, &signer, arena) == DB_OK);
	status_verify(&reply, &policy, &result);
	check(result.status_signed && result.step > 5);
}

static void check_hashing(struct str text, struct arena *arena)
{
	struct response_hash hash, again;
	response_hash_init(&hash, 1u << 20);
	response_hash_init(&again, 1u << 20);
	response_hash_add_frame(&hash, json_root(json_parse(text, arena, NULL)));
	/* Sorting what is sorted changes nothing. */
	if (response_hash_add_tool_call(&hash, text) == DB_OK && hash.text.len > 13 && !hash.text.failed) {
		size_t start = hash.text.len;
		response_hash_free(&hash);
		check(response_hash_add_tool_call(&hash, text) == DB_OK);
		struct str sorted = str_sub(buf_str(&hash.text), 11, hash.text.len - 12);
		check(hash.text.len <= start);
		check(response_hash_add_tool_call(&again, sorted) == DB_OK);
		check(str_eq(buf_str(&hash.text), buf_str(&again.text)));
	}
	response_hash_free(&hash);
	response_hash_free(&again);
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
	struct wire_message message;
	check(arena != NULL);
	if (wire_decode(text, arena, &message, NULL) == DB_OK && message.type == WIRE_ATTESTATION_RESPONSE) {
		check_canonical(message.as.attestation_response, arena);
		if (size % 16 == 0)
			check_signing(message.as.attestation_response, key, arena);
	}
	check_hashing(text, arena);
	arena_free(arena);
	return 0;
}
