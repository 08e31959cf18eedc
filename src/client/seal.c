#include "client/seal.h"

#include "core/clock.h"
#include "crypto/secret.h"
#include "wire/attestation.h"

static enum db_err fail(struct error *error, enum db_err code, const char *what)
{
	return error_set(error, code, "%s", what);
}

enum db_err client_secret_begin(struct client_secret *secret, const uint8_t peer[BOX_KEY_BYTES])
{
	struct box_keypair pair;
	box_keypair_new(&pair);
	enum db_err err = box_shared_derive(&secret->shared, peer, pair.secret_key);
	wire_key_encode(pair.public_key, secret->public_b64);
	secret_wipe(&pair, sizeof pair);
	return err;
}

void client_secret_end(struct client_secret *secret)
{
	secret_wipe(secret, sizeof *secret);
}

enum db_err client_open(const struct client_secret *secret, struct str ciphertext, struct buf *out)
{
	return wire_payload_open(&secret->shared, ciphertext, out);
}

/* The text, padded, as base64 of nonce and box. */
static enum db_err put_sealed(const struct client_secret *secret, struct str text, struct buf *out)
{
	struct buf padded;
	buf_init(&padded, text.len + CLIENT_PAD_BYTES);
	buf_append_str(&padded, text);
	while (!padded.failed && padded.len % CLIENT_PAD_BYTES)
		buf_append_byte(&padded, ' ');
	buf_append_byte(out, '"');
	enum db_err err =
	    padded.failed ? DB_E_NOMEM : envelope_seal(&secret->shared, clock_wall_us() / 1000, buf_str(&padded), out);
	buf_append_byte(out, '"');
	buf_free(&padded);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

/* --- the sealed transport --- */

enum db_err client_server_key_read(struct str json, struct client_server_key *out, struct error *error)
{
	char own_kid[BOX_KID_SIZE];
	struct str kid, key, algorithm;
	struct json_doc *doc = json_parse(json, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	enum db_err err = DB_OK;
	if (!json_as_str(json_get(root, "kid"), &kid) || !json_as_str(json_get(root, "public_key"), &key) ||
	    !json_as_str(json_get(root, "algorithm"), &algorithm) || wire_key_decode(key, out->key))
		err = fail(error, DB_E_INVALID, "The coordinator's encryption key cannot be read.");
	else if (!str_is(algorithm, ENVELOPE_ALGORITHM))
		err = fail(error, DB_E_UNSUPPORTED,
		           "The coordinator's encryption key is for an algorithm that this program does not know.");
	if (!err) {
		box_key_id(out->key, own_kid);
		if (!str_is(kid, own_kid))
			err = fail(error, DB_E_INVALID, "The coordinator's encryption key does not have the id that it should have.");
		memcpy(out->kid, own_kid, sizeof out->kid);
	}
	json_free(doc);
	return err;
}

enum db_err client_envelope_write(const struct client_secret *secret, const char *kid, struct str body, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "kid", kid);
	json_put_cstr(&w, "ephemeral_public_key", secret->public_b64);
	json_key(&w, "ciphertext");
	json_raw(&w, STR_NONE);
	enum db_err err = put_sealed(secret, body, out);
	json_end_object(&w);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err client_answer_open(const struct client_secret *secret, struct str json, struct buf *out, struct error *error)
{
	struct str ciphertext;
	struct json_doc *doc = json_parse(json, NULL, NULL);
	enum db_err err = DB_E_INVALID;
	if (doc && json_as_str(json_get(json_root(doc), "ciphertext"), &ciphertext))
		err = client_open(secret, ciphertext, out);
	json_free(doc);
	return err ? fail(error, err, "The sealed answer does not open.") : DB_OK;
}

/* --- blind mode --- */

#define TEMPLATE_TOKENS 1024 /* what a chat template may add around the messages */

static int64_t prompt_limit(const struct chat_request *chat)
{
	return (int64_t)(chat->prompt_bound_tokens & INT32_MAX) + TEMPLATE_TOKENS;
}

static int64_t output_limit(const struct chat_request *chat)
{
	return chat->max_tokens > 0 ? chat->max_tokens : CHAT_DEFAULT_MAX_TOKENS;
}

enum db_err client_offer_ask(const struct chat_request *chat, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "model", chat->model);
	json_put_i64(&w, "prompt_tokens", (int64_t)(chat->prompt_estimate_tokens & INT32_MAX) + 1);
	json_put_i64(&w, "max_prompt_tokens", prompt_limit(chat));
	json_put_i64(&w, "max_tokens", output_limit(chat));
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

static bool is_trusted(const struct client_policy *policy, struct str key)
{
	for (size_t i = 0; i < policy->trusted_count; i++)
		if (str_eq(policy->trusted_keys[i], key))
			return true;
	return policy->trusted_keys == NULL;
}

static void copy_part(struct str text, char *out, size_t size)
{
	(void)str_copy(str_sub(text, 0, size - 1), out, size);
}

static enum db_err check_candidate(const json_val *candidate, const struct client_policy *policy, struct arena *arena,
                                   struct client_choice *out, struct error *error)
{
	struct attestation_result attested;
	struct str id, key, se_key, attestation, trust = STR_NONE;
	if (!json_as_str(json_get(candidate, "provider_id"), &id) ||
	    !json_as_str(json_get(candidate, "encryption_public_key"), &key) ||
	    !json_as_str(json_get(candidate, "se_public_key"), &se_key) ||
	    !json_as_str(json_get(candidate, "attestation"), &attestation))
		return fail(error, DB_E_INVALID, "A provider of the offer is not described fully.");
	attestation_verify(attestation, key, arena, &attested);
	if (attested.verdict != ATTESTATION_VALID)
		return error_set(error, DB_E_CRYPTO, "A provider's attestation is not good: %s", attested.why.text);
	if (!str_eq(attested.blob.public_key, se_key) || wire_key_decode(attested.blob.encryption_public_key, out->key))
		return fail(error, DB_E_CRYPTO, "A provider's attestation is about other keys than the offer says.");
	if (policy->secure_enclave_only && attested.key_protection != ATTESTATION_SECURE_ENCLAVE)
		return fail(error, DB_E_DENIED, "A provider's signing key is not in a Secure Enclave.");
	if (!is_trusted(policy, se_key))
		return fail(error, DB_E_DENIED, "A provider's key is not among the trusted ones.");
	if (!str_copy(id, out->provider_id, sizeof out->provider_id) ||
	    !str_copy(se_key, out->se_public_key, sizeof out->se_public_key))
		return fail(error, DB_E_LIMIT, "A provider's id or key is too long.");
	(void)json_as_str(json_get(candidate, "trust_level"), &trust);
	copy_part(trust, out->trust, sizeof out->trust);
	copy_part(attested.blob.chip_name, out->chip, sizeof out->chip);
	return DB_OK;
}

static enum db_err read_terms(const json_val *root, const struct chat_request *chat, struct client_choice *out,
                              struct error *error)
{
	struct str id, model;
	if (!json_as_str(json_get(root, "id"), &id) || !str_copy(id, out->offer_id, sizeof out->offer_id) ||
	    !json_as_str(json_get(root, "model"), &model) || !str_copy(model, out->model, sizeof out->model) ||
	    !json_as_i64(json_get(root, "max_prompt_tokens"), &out->max_prompt_tokens) ||
	    !json_as_i64(json_get(root, "max_tokens"), &out->max_tokens))
		return fail(error, DB_E_INVALID, "The coordinator's offer cannot be read.");
	if (!str_eq(model, chat->model) || out->max_prompt_tokens != prompt_limit(chat) || out->max_tokens != output_limit(chat))
		return fail(error, DB_E_INVALID, "The coordinator's offer is for something else than was asked for.");
	return DB_OK;
}

enum db_err client_offer_choose(struct str json, const struct chat_request *chat, const struct client_policy *policy,
                                const char *not_provider_id, struct client_choice *out, struct error *error)
{
	*out = (struct client_choice){0};
	struct arena *arena = arena_new(0);
	struct json_doc *doc = arena ? json_parse(json, arena, NULL) : NULL;
	const json_val *root = doc ? json_root(doc) : NULL;
	enum db_err err = read_terms(root, chat, out, error);
	if (!err) {
		struct json_iter each = json_iter(json_get(root, "candidates"));
		err = fail(error, DB_E_DENIED, "The coordinator offers no provider.");
		for (json_val *candidate; err && (candidate = json_next(&each, NULL));) {
			struct str id;
			if (not_provider_id && json_as_str(json_get(candidate, "provider_id"), &id) && str_is(id, not_provider_id))
				continue;
			err = check_candidate(candidate, policy, arena, out, error);
		}
	}
	arena_free(arena);
	return err;
}

/* The chat request as it is, but for the limits: its own `blind` goes, ours comes. */
static enum db_err write_inside(const struct client_choice *choice, const struct chat_request *chat, struct buf *out)
{
	struct json_writer w;
	struct json_iter each = json_iter(chat->root);
	struct str name;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_key(&w, "blind");
	json_begin_object(&w);
	json_put_i64(&w, "max_prompt_tokens", choice->max_prompt_tokens);
	json_put_i64(&w, "max_tokens", choice->max_tokens);
	json_end_object(&w);
	for (json_val *value; (value = json_next(&each, &name));) {
		if (str_is(name, "blind"))
			continue;
		json_key_str(&w, name);
		json_value(&w, value);
	}
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err client_blind_write(const struct client_secret *secret, const struct client_choice *choice,
                               const struct chat_request *chat, struct buf *out)
{
	struct json_writer w;
	struct buf inside;
	buf_init(&inside, chat->body.len + 65536);
	enum db_err err = write_inside(choice, chat, &inside);
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "offer_id", choice->offer_id);
	json_put_cstr(&w, "provider_id", choice->provider_id);
	json_put_bool(&w, "stream", true);
	json_put_cstr(&w, "ephemeral_public_key", secret->public_b64);
	json_key(&w, "ciphertext");
	json_raw(&w, STR_NONE);
	if (!err)
		err = put_sealed(secret, buf_str(&inside), out);
	json_end_object(&w);
	buf_free(&inside);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

static bool read_count(const json_val *usage, const char *name, int64_t *out)
{
	return json_as_i64(json_get(usage, name), out) && *out >= 0;
}

enum db_err client_receipt_check(struct str json, const struct client_secret *secret, const struct client_choice *choice,
                                 const struct blind_transcript *transcript, struct chat_usage *usage, struct error *error)
{
	char digest[SHA256_HEX_SIZE];
	struct str signature;
	struct json_doc *doc = json_parse(json, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL, *counts = json_get(root, "usage");
	struct blind_usage said = {.consumer_key = str_of(secret->public_b64), .model = str_of(choice->model)};
	enum db_err err = DB_OK;
	blind_transcript_end(transcript, digest);
	said.transcript = str_of(digest);
	if (!json_as_str(json_get(root, "request_id"), &said.request_id) ||
	    !json_as_str(json_get(root, "usage_signature"), &signature) ||
	    !read_count(counts, "prompt_tokens", &said.prompt_tokens) ||
	    !read_count(counts, "completion_tokens", &said.completion_tokens) ||
	    !read_count(counts, "reasoning_tokens", &said.reasoning_tokens))
		err = fail(error, DB_E_INVALID, "The receipt cannot be read.");
	else if (blind_usage_verify(&said, str_of(choice->se_public_key), signature))
		err = fail(error, DB_E_CRYPTO, "The provider's signature does not cover what came: something was left out or changed.");
	else if (said.prompt_tokens > choice->max_prompt_tokens || said.completion_tokens > choice->max_tokens)
		err = fail(error, DB_E_RANGE, "The provider counts more tokens than were declared.");
	*usage = (struct chat_usage){.prompt_tokens = (uint64_t)said.prompt_tokens,
	                             .completion_tokens = (uint64_t)said.completion_tokens,
	                             .reasoning_tokens = (uint64_t)said.reasoning_tokens};
	json_free(doc);
	return err;
}
