/* Envelopes and blind mode against vectors of PyNaCl and cryptography (tests/interop/make_sealed_vectors.py). */
#include "../vectors.h"

#include "crypto/secret.h"
#include "wire/blind.h"
#include "wire/envelope.h"
#include "wire/payload.h"

struct fixture {
	struct json_doc *doc;
	const json_val *sealed, *blind;
	struct arena *arena;
};

static int setup(void **state)
{
	static struct fixture fixture;
	fixture.doc = vectors_load("sealed_vectors.json");
	fixture.sealed = json_get(json_root(fixture.doc), "sealed");
	fixture.blind = json_get(json_root(fixture.doc), "blind");
	fixture.arena = arena_new(0);
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	json_free(fixture->doc);
	arena_free(fixture->arena);
	return 0;
}

static int64_t number(const json_val *vector, const char *key)
{
	int64_t value = -1;
	assert_true(json_as_i64(json_get(vector, key), &value));
	return value;
}

static struct box_shared shared_of(const json_val *vector)
{
	struct box_shared shared;
	vector_hex(vector, "shared", shared.key, sizeof shared.key);
	return shared;
}

static void a_mnemonic_gives_the_published_key(void **state)
{
	const struct fixture *f = *state;
	struct box_keypair pair;
	char kid[BOX_KID_SIZE], key[WIRE_KEY_B64_LEN + 1];
	assert_int_equal(box_keypair_from_mnemonic(&pair, vector_str(f->sealed, "mnemonic")), DB_OK);
	box_key_id(pair.public_key, kid);
	wire_key_encode(pair.public_key, key);
	assert_true(str_is(vector_str(f->sealed, "kid"), kid));
	assert_true(str_is(vector_str(f->sealed, "public_key"), key));
}

static void an_envelope_opens_and_tells_its_time(void **state)
{
	const struct fixture *f = *state;
	static const char *const texts[] = {"ciphertext", "old_ciphertext"};
	struct box_shared shared = shared_of(f->sealed);
	for (size_t i = 0; i < 2; i++) {
		struct sealed_box box;
		struct str plain;
		int64_t made_ms = 0;
		assert_int_equal(envelope_decode(vector_str(f->sealed, texts[i]), f->arena, &box), DB_OK);
		struct str before = arena_str(f->arena, envelope_id(&box));
		assert_int_equal(envelope_open(&box, &shared, &plain), DB_OK);
		assert_true(str_eq(plain, vector_str(f->sealed, "body")));
		assert_int_equal(envelope_id(&box).len, ENVELOPE_ID_BYTES);
		assert_true(str_eq(envelope_id(&box), before)); /* opening leaves alone what it is known by */
		assert_int_equal(envelope_time_ms(&box, &made_ms), i == 0);
		assert_int_equal(made_ms, i == 0 ? number(f->sealed, "unix_ms") : 0);
	}
}

static void what_we_seal_has_the_same_form(void **state)
{
	const struct fixture *f = *state;
	struct box_shared shared = shared_of(f->sealed);
	struct sealed_box box;
	struct buf out;
	struct str plain;
	int64_t made_ms;
	uint8_t nonce[BOX_NONCE_BYTES];
	buf_init(&out, 1 << 16);
	assert_int_equal(envelope_seal(&shared, number(f->sealed, "unix_ms"), vector_str(f->sealed, "body"), &out), DB_OK);
	assert_int_equal(envelope_decode(buf_str(&out), f->arena, &box), DB_OK);
	vector_hex(f->sealed, "nonce", nonce, sizeof nonce);
	assert_memory_equal(box.at, nonce, 16); /* mark and time; the rest is random */
	assert_true(envelope_time_ms(&box, &made_ms));
	assert_int_equal(made_ms, number(f->sealed, "unix_ms"));
	assert_int_equal(envelope_open(&box, &shared, &plain), DB_OK);
	assert_true(str_eq(plain, vector_str(f->sealed, "body")));
	/* with the vector's nonce, the vector's bytes */
	buf_clear(&out);
	assert_int_equal(wire_append_sealed_with_nonce(&shared, nonce, vector_str(f->sealed, "body"), &out), DB_OK);
	assert_true(str_eq(buf_str(&out), vector_str(f->sealed, "ciphertext")));
	buf_free(&out);
}

static void a_changed_box_does_not_open(void **state)
{
	const struct fixture *f = *state;
	struct box_shared shared = shared_of(f->sealed);
	struct sealed_box box;
	struct str plain;
	assert_int_equal(envelope_decode(vector_str(f->sealed, "ciphertext"), f->arena, &box), DB_OK);
	for (size_t at = 0; at < box.len; at++) {
		struct sealed_box changed = {arena_alloc(f->arena, box.len), box.len};
		memcpy(changed.at, box.at, box.len);
		changed.at[at] ^= 1;
		assert_int_equal(envelope_open(&changed, &shared, &plain), DB_E_CRYPTO);
	}
	for (size_t len = 0; len < BOX_OVERHEAD; len++)
		assert_int_equal(envelope_open(&(struct sealed_box){box.at, len}, &shared, &plain), DB_E_CRYPTO);
}

static void a_statement_is_signed_over_everything_that_came(void **state)
{
	const struct fixture *f = *state;
	struct blind_transcript transcript;
	char digest[SHA256_HEX_SIZE];
	struct buf statement;
	struct json_iter each = json_iter(json_get(f->blind, "chunks"));
	blind_transcript_begin(&transcript);
	for (json_val *chunk; (chunk = json_next(&each, NULL));)
		blind_transcript_add(&transcript, vector_str(chunk, "sealed"));
	blind_transcript_end(&transcript, digest);
	assert_true(str_is(vector_str(f->blind, "transcript"), digest));
	struct blind_usage usage = {.request_id = vector_str(f->blind, "request_id"),
	                            .consumer_key = vector_str(f->blind, "consumer_public"),
	                            .model = vector_str(f->blind, "model"),
	                            .prompt_tokens = number(f->blind, "prompt_tokens"),
	                            .completion_tokens = number(f->blind, "completion_tokens"),
	                            .reasoning_tokens = number(f->blind, "reasoning_tokens"),
	                            .transcript = str_of(digest)};
	struct str key = vector_str(f->blind, "se_public_key"), signature = vector_str(f->blind, "usage_signature");
	buf_init(&statement, 4096);
	assert_int_equal(blind_usage_statement(&usage, &statement), DB_OK);
	assert_true(str_eq(buf_str(&statement), vector_str(f->blind, "statement")));
	assert_int_equal(blind_usage_verify(&usage, key, signature), DB_OK);
	/* any other word, and the signature is not for it */
	struct blind_usage other[7];
	for (size_t i = 0; i < 7; i++)
		other[i] = usage;
	other[0].request_id = STR("other");
	other[1].consumer_key = vector_str(f->blind, "provider_public");
	other[2].model = STR("n");
	other[3].prompt_tokens++;
	other[4].completion_tokens++;
	other[5].reasoning_tokens--;
	other[6].transcript = STR("00");
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(blind_usage_verify(&other[i], key, signature), DB_E_CRYPTO);
	usage.model = STR("m\n11"); /* no text can pretend to be two lines */
	assert_int_equal(blind_usage_verify(&usage, key, signature), DB_E_INVALID);
	usage.model = STR_NONE;
	assert_int_equal(blind_usage_verify(&usage, key, signature), DB_E_INVALID);
	buf_free(&statement);
}

static void frames_are_padded_before_their_blank_line(void **state)
{
	const struct fixture *f = *state;
	struct box_shared shared = shared_of(f->blind);
	struct json_iter each = json_iter(json_get(f->blind, "chunks"));
	struct buf out;
	buf_init(&out, 1 << 16);
	for (json_val *chunk; (chunk = json_next(&each, NULL));) {
		buf_clear(&out);
		buf_append_str(&out, vector_str(chunk, "frame"));
		assert_int_equal(blind_pad_frame(&out, 0), DB_OK);
		assert_true(str_eq(buf_str(&out), vector_str(chunk, "padded")));
		assert_int_equal(out.len % BLIND_PAD_BYTES, 0);
		buf_clear(&out);
		assert_int_equal(wire_payload_open(&shared, vector_str(chunk, "sealed"), &out), DB_OK);
		assert_true(str_eq(buf_str(&out), vector_str(chunk, "padded")));
	}
	buf_clear(&out);
	buf_append_str(&out, STR("no frame"));
	assert_int_equal(blind_pad_frame(&out, 0), DB_OK);
	assert_int_equal(out.len, 8);
	buf_free(&out);
}

int main(void)
{
	if (crypto_init() != DB_OK)
		return 1;
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_mnemonic_gives_the_published_key),
	    cmocka_unit_test(an_envelope_opens_and_tells_its_time),
	    cmocka_unit_test(what_we_seal_has_the_same_form),
	    cmocka_unit_test(a_changed_box_does_not_open),
	    cmocka_unit_test(a_statement_is_signed_over_everything_that_came),
	    cmocka_unit_test(frames_are_padded_before_their_blank_line),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
