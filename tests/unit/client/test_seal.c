/* What a consumer takes from a coordinator and what not, with the vectors of PyNaCl and cryptography. */
#include "../vectors.h"

#include "client/seal.h"
#include "crypto/secret.h"

struct fixture {
	struct json_doc *doc;
	const json_val *sealed, *blind;
	struct arena *arena;
	struct chat_request chat;
};

static int setup(void **state)
{
	static struct fixture fixture;
	struct api_error error;
	fixture.doc = vectors_load("sealed_vectors.json");
	fixture.sealed = json_get(json_root(fixture.doc), "sealed");
	fixture.blind = json_get(json_root(fixture.doc), "blind");
	fixture.arena = arena_new(0);
	assert_true(chat_request_parse(
	    STR("{\"model\":\"m\",\"stream\":true,\"max_tokens\":50,\"messages\":[{\"role\":\"user\",\"content\":"
	        "\"one two three\"}]}"),
	    fixture.arena, &fixture.chat, &error));
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

static struct client_secret secret_of(const json_val *vector)
{
	struct client_secret secret = {0};
	vector_hex(vector, "shared", secret.shared.key, sizeof secret.shared.key);
	assert_true(str_copy(vector_str(vector, "consumer_public"), secret.public_b64, sizeof secret.public_b64));
	return secret;
}

static struct str key_json(struct fixture *f, const char *kid, const char *algorithm)
{
	struct str key = vector_str(f->sealed, "public_key");
	return str_of(
	    arena_printf(f->arena, "{\"kid\":\"%s\",\"public_key\":\"%.*s\",\"algorithm\":\"%s\"}", kid, STR_ARG(key), algorithm));
}

static void only_a_key_with_its_own_id_is_taken(void **state)
{
	struct fixture *f = *state;
	struct client_server_key key;
	struct error error;
	struct str kid = vector_str(f->sealed, "kid");
	assert_int_equal(client_server_key_read(key_json(f, arena_cstr(f->arena, kid), ENVELOPE_ALGORITHM), &key, &error), DB_OK);
	assert_true(str_is(kid, key.kid));
	assert_int_equal(client_server_key_read(key_json(f, "0123456789abcdef", ENVELOPE_ALGORITHM), &key, &error), DB_E_INVALID);
	assert_int_equal(client_server_key_read(key_json(f, arena_cstr(f->arena, kid), "none"), &key, &error), DB_E_UNSUPPORTED);
	assert_int_equal(client_server_key_read(STR("{}"), &key, &error), DB_E_INVALID);
	assert_int_equal(client_server_key_read(STR("nonsense"), &key, &error), DB_E_INVALID);
}

static void a_sealed_answer_opens_and_a_changed_one_does_not(void **state)
{
	struct fixture *f = *state;
	struct client_secret secret = secret_of(f->sealed);
	struct error error;
	struct buf out;
	struct str sealed = vector_str(f->sealed, "sealed_answer");
	char *json = arena_printf(f->arena, "{\"kid\":\"x\",\"ciphertext\":\"%.*s\"}", STR_ARG(sealed));
	buf_init(&out, 1 << 16);
	assert_int_equal(client_answer_open(&secret, str_of(json), &out, &error), DB_OK);
	assert_true(str_eq(buf_str(&out), vector_str(f->sealed, "answer")));
	json[40] = json[40] == 'A' ? 'B' : 'A';
	assert_int_not_equal(client_answer_open(&secret, str_of(json), &out, &error), DB_OK);
	assert_int_not_equal(client_answer_open(&secret, STR("{\"ciphertext\":5}"), &out, &error), DB_OK);
	struct json_iter each = json_iter(json_get(f->sealed, "events"));
	for (json_val *event; (event = json_next(&each, NULL));) {
		buf_clear(&out);
		assert_int_equal(client_open(&secret, vector_str(event, "sealed"), &out), DB_OK);
		assert_true(str_eq(buf_str(&out), vector_str(event, "text")));
	}
	buf_free(&out);
}

/* --- offers --- */

struct offer {
	const char *model, *id;
	int64_t max_prompt_tokens, max_tokens;
	struct str key, se_key, attestation;
	bool twice; /* a candidate that is described badly stands before the good one */
};

static struct offer good_offer(struct fixture *f)
{
	return (struct offer){.model = "m",
	                      .id = "provider-1",
	                      .max_prompt_tokens = (int64_t)f->chat.prompt_bound_tokens + 1024,
	                      .max_tokens = 50,
	                      .key = vector_str(f->blind, "provider_public"),
	                      .se_key = vector_str(f->blind, "se_public_key"),
	                      .attestation = vector_str(f->blind, "attestation")};
}

static enum db_err choose(struct fixture *f, const struct offer *offer, const struct client_policy *policy, const char *not_id,
                          struct client_choice *out)
{
	struct buf json;
	struct json_writer w;
	struct error error;
	buf_init(&json, 1 << 16);
	json_writer_init(&w, &json);
	json_begin_object(&w);
	json_put_cstr(&w, "id", "blind_1");
	json_put_cstr(&w, "model", offer->model);
	json_put_i64(&w, "max_prompt_tokens", offer->max_prompt_tokens);
	json_put_i64(&w, "max_tokens", offer->max_tokens);
	json_key(&w, "candidates");
	json_begin_array(&w);
	if (offer->twice) {
		json_begin_object(&w);
		json_put_cstr(&w, "provider_id", "bad");
		json_end_object(&w);
	}
	json_begin_object(&w);
	json_put_cstr(&w, "provider_id", offer->id);
	json_put_str(&w, "encryption_public_key", offer->key);
	json_put_str(&w, "se_public_key", offer->se_key);
	json_put_str(&w, "attestation", offer->attestation);
	json_end_object(&w);
	json_end_array(&w);
	json_end_object(&w);
	enum db_err err = client_offer_choose(buf_str(&json), &f->chat, policy, not_id, out, &error);
	buf_free(&json);
	return err;
}

static void a_provider_is_taken_on_its_own_signed_word(void **state)
{
	struct fixture *f = *state;
	struct client_choice choice;
	struct client_policy any = {0}, enclave = {.secure_enclave_only = true};
	struct str known = vector_str(f->blind, "se_public_key"), unknown = vector_str(f->blind, "consumer_public");
	struct client_policy trusting = {.trusted_keys = &known, .trusted_count = 1},
	                     other = {.trusted_keys = &unknown, .trusted_count = 1};
	struct offer offer = good_offer(f);
	uint8_t key[BOX_KEY_BYTES];
	assert_int_equal(choose(f, &offer, &any, NULL, &choice), DB_OK);
	assert_int_equal(wire_key_decode(offer.key, key), DB_OK);
	assert_memory_equal(choice.key, key, sizeof key);
	assert_string_equal(choice.provider_id, "provider-1");
	assert_string_equal(choice.chip, "Apple M4 Max");
	assert_int_equal(choose(f, &offer, &enclave, NULL, &choice), DB_OK);
	assert_int_equal(choose(f, &offer, &trusting, NULL, &choice), DB_OK);
	assert_int_equal(choose(f, &offer, &other, NULL, &choice), DB_E_DENIED);
	assert_int_equal(choose(f, &offer, &any, "provider-1", &choice), DB_E_DENIED);
	offer.twice = true;
	assert_int_equal(choose(f, &offer, &any, NULL, &choice), DB_OK);
	assert_string_equal(choice.provider_id, "provider-1");
}

static void a_coordinator_cannot_put_its_own_key_or_terms_in(void **state)
{
	struct fixture *f = *state;
	struct client_choice choice;
	struct client_policy any = {0};
	struct offer wrong[7];
	for (size_t i = 0; i < 7; i++)
		wrong[i] = good_offer(f);
	wrong[0].key = vector_str(f->blind, "consumer_public");
	wrong[1].se_key = vector_str(f->blind, "consumer_public");
	wrong[2].attestation = STR("{\"attestation\":{},\"signature\":\"\"}");
	char *bent = arena_cstr(f->arena, wrong[3].attestation);
	memcpy(strstr(bent, "Apple M4"), "Apple M9", 8);
	wrong[3].attestation = str_of(bent);
	wrong[4].model = "dearer";
	wrong[5].max_tokens = 5000;
	wrong[6].max_prompt_tokens++;
	for (size_t i = 0; i < 7; i++)
		assert_int_not_equal(choose(f, &wrong[i], &any, NULL, &choice), DB_OK);
}

static void a_request_is_sealed_with_its_limits_and_padded(void **state)
{
	struct fixture *f = *state;
	struct client_choice choice;
	struct client_policy any = {0};
	struct client_secret secret;
	struct offer offer = good_offer(f);
	struct buf out, plain;
	struct str key, ciphertext;
	uint8_t provider[BOX_KEY_BYTES], consumer[BOX_KEY_BYTES];
	struct box_shared shared;
	buf_init(&out, 1 << 16);
	buf_init(&plain, 1 << 16);
	assert_int_equal(choose(f, &offer, &any, NULL, &choice), DB_OK);
	assert_int_equal(client_secret_begin(&secret, choice.key), DB_OK);
	assert_int_equal(client_blind_write(&secret, &choice, &f->chat, &out), DB_OK);
	struct json_doc *doc = json_parse(buf_str(&out), NULL, NULL);
	assert_true(json_as_str(json_get(json_root(doc), "ephemeral_public_key"), &key));
	assert_true(json_as_str(json_get(json_root(doc), "ciphertext"), &ciphertext));
	vector_hex(f->blind, "provider_secret", provider, sizeof provider);
	assert_int_equal(wire_key_decode(key, consumer), DB_OK);
	assert_int_equal(box_shared_derive(&shared, consumer, provider), DB_OK);
	assert_int_equal(wire_payload_open(&shared, ciphertext, &plain), DB_OK);
	assert_int_equal(plain.len % CLIENT_PAD_BYTES, 0);
	struct json_doc *inside = json_parse(buf_str(&plain), NULL, NULL);
	int64_t limit;
	assert_true(json_as_i64(json_get(json_get(json_root(inside), "blind"), "max_tokens"), &limit));
	assert_int_equal(limit, 50);
	assert_int_equal(json_len(json_get(json_root(inside), "messages")), 1);
	json_free(inside);
	json_free(doc);
	client_secret_end(&secret);
	buf_free(&out);
	buf_free(&plain);
}

static void a_receipt_must_cover_what_came(void **state)
{
	struct fixture *f = *state;
	struct client_secret secret = secret_of(f->blind);
	struct client_choice choice = {.max_prompt_tokens = 200, .max_tokens = 50};
	struct chat_usage usage;
	struct error error;
	struct str signature = vector_str(f->blind, "usage_signature");
	assert_true(str_copy(vector_str(f->blind, "se_public_key"), choice.se_public_key, sizeof choice.se_public_key));
	assert_true(str_copy(STR("m"), choice.model, sizeof choice.model));
	struct str json = str_of(arena_printf(f->arena,
	                                      "{\"request_id\":\"3f0e2b1c\",\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":"
	                                      "3,\"reasoning_tokens\":1},\"usage_signature\":\"%.*s\"}",
	                                      STR_ARG(signature)));
	struct blind_transcript whole, cut;
	struct json_iter each = json_iter(json_get(f->blind, "chunks"));
	blind_transcript_begin(&whole);
	blind_transcript_begin(&cut);
	for (json_val *chunk; (chunk = json_next(&each, NULL));) {
		cut = whole;
		blind_transcript_add(&whole, vector_str(chunk, "sealed"));
	}
	assert_int_equal(client_receipt_check(json, &secret, &choice, &whole, &usage, &error), DB_OK);
	assert_int_equal(usage.prompt_tokens, 11);
	assert_int_equal(usage.completion_tokens, 3);
	assert_int_equal(client_receipt_check(json, &secret, &choice, &cut, &usage, &error), DB_E_CRYPTO);
	assert_int_equal(client_receipt_check(STR("{}"), &secret, &choice, &whole, &usage, &error), DB_E_INVALID);
	choice.max_prompt_tokens = 10;
	assert_int_equal(client_receipt_check(json, &secret, &choice, &whole, &usage, &error), DB_E_RANGE);
}

int main(void)
{
	if (crypto_init() != DB_OK)
		return 1;
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_a_key_with_its_own_id_is_taken),
	    cmocka_unit_test(a_sealed_answer_opens_and_a_changed_one_does_not),
	    cmocka_unit_test(a_provider_is_taken_on_its_own_signed_word),
	    cmocka_unit_test(a_coordinator_cannot_put_its_own_key_or_terms_in),
	    cmocka_unit_test(a_request_is_sealed_with_its_limits_and_padded),
	    cmocka_unit_test(a_receipt_must_cover_what_came),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
