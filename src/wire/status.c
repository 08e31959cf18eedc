#include "wire/status.h"

#include "core/encode.h"
#include "core/id.h"
#include "wire/codec.h"

#include <stdlib.h>

#define CANONICAL_MAX WIRE_MAX_TO_COORDINATOR

void status_challenge_new(struct status_challenge *challenge, int64_t wall_us)
{
	uint8_t random[32];
	id_random(random, sizeof random);
	challenge->nonce[base64_encode(random, sizeof random, challenge->nonce)] = '\0';
	clock_format_rfc3339(wall_us, challenge->timestamp);
}

struct wire_challenge status_challenge_message(const struct status_challenge *challenge)
{
	return (struct wire_challenge){.nonce = str_of(challenge->nonce), .timestamp = str_of(challenge->timestamp)};
}

/* --- canonical bytes --- */

static int compare_pairs(const void *a, const void *b)
{
	const struct wire_pair *x = *(const struct wire_pair *const *)a, *y = *(const struct wire_pair *const *)b;
	int order = wire_order(x->key, y->key);
	return order ? order : (x > y) - (x < y);
}

/* Sorted by byte order; of equal keys the last given wins. */
static void put_sorted(struct json_writer *w, const char *key, const struct wire_pairs *pairs)
{
	if (pairs->count == 0)
		return;
	const struct wire_pair **sorted = calloc(pairs->count, sizeof *sorted);
	if (!sorted) {
		w->out->failed = true;
		return;
	}
	for (size_t i = 0; i < pairs->count; i++)
		sorted[i] = &pairs->at[i];
	qsort(sorted, pairs->count, sizeof *sorted, compare_pairs);
	json_key(w, key);
	json_begin_object(w);
	for (size_t i = 0; i < pairs->count; i++) {
		if (i + 1 < pairs->count && str_eq(sorted[i]->key, sorted[i + 1]->key))
			continue;
		json_key_str(w, sorted[i]->key);
		json_str(w, sorted[i]->value);
	}
	json_end_object(w);
	free(sorted);
}

enum db_err status_canonical(const struct wire_attestation_response *reply, struct str nonce, struct str timestamp,
                             struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	wire_put_str(&w, "active_model_hash", reply->active_model_hash);
	wire_put_str(&w, "binary_hash", reply->binary_hash);
	wire_put_tri(&w, "hypervisor_active", reply->hypervisor_active);
	put_sorted(&w, "model_hashes", &reply->model_hashes);
	json_put_str(&w, "nonce", nonce);
	wire_put_str(&w, "python_hash", reply->python_hash);
	wire_put_tri(&w, "rdma_disabled", reply->rdma_disabled);
	wire_put_str(&w, "runtime_hash", reply->runtime_hash);
	wire_put_tri(&w, "secure_boot_enabled", reply->secure_boot_enabled);
	wire_put_tri(&w, "sip_enabled", reply->sip_enabled);
	put_sorted(&w, "template_hashes", &reply->template_hashes);
	json_put_str(&w, "timestamp", timestamp);
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

/* --- the provider's side --- */

/* The text to be signed comes from the peer. Nothing but base64 of 32 bytes is signed, so that nobody has this key sign an
 * attestation, a status or a response hash of his own making. */
static bool is_nonce(struct str nonce)
{
	uint8_t bytes[32];
	return base64_decode_exact(nonce, bytes, sizeof bytes) == DB_OK;
}

static enum db_err sign_into(const struct wire_signer *signer, struct str message, struct arena *arena, struct str *out)
{
	struct buf signature;
	buf_init(&signature, BASE64_ENCODED_LEN(P256_DER_MAX));
	enum db_err err = signer->sign(signer->context, message, &signature);
	if (!err) {
		*out = arena_str(arena, buf_str(&signature));
		err = out->at ? DB_OK : DB_E_NOMEM;
	}
	buf_free(&signature);
	return err;
}

enum db_err status_sign(struct wire_attestation_response *reply, const struct wire_challenge *challenge,
                        const struct wire_signer *signer, struct arena *arena)
{
	int64_t wall_us;
	struct buf message;
	if (!is_nonce(challenge->nonce) || clock_parse_rfc3339(challenge->timestamp, &wall_us))
		return DB_E_INVALID;
	buf_init(&message, CANONICAL_MAX);
	buf_append_str(&message, challenge->nonce);
	enum db_err err = buf_append_str(&message, challenge->timestamp);
	if (!err)
		err = sign_into(signer, buf_str(&message), arena, &reply->signature);
	if (err)
		goto out;
	buf_clear(&message);
	err = status_canonical(reply, challenge->nonce, challenge->timestamp, &message);
	if (!err)
		err = sign_into(signer, buf_str(&message), arena, &reply->status_signature);
	reply->nonce = challenge->nonce;
out:
	buf_free(&message);
	return err;
}

enum db_err status_sign_code(struct wire_code_attestation_response *reply, struct str nonce, const struct wire_signer *signer,
                             struct arena *arena)
{
	if (!is_nonce(nonce))
		return DB_E_INVALID;
	reply->nonce = nonce;
	return sign_into(signer, nonce, arena, &reply->signature);
}

/* --- the coordinator's side --- */

static bool stop(struct status_result *result, enum status_verdict verdict, int step, const char *sentence)
{
	result->verdict = verdict;
	result->step = step;
	error_set(&result->why, DB_E_DENIED, "challenge: %s", sentence);
	return false;
}

static bool verifies(const uint8_t *key, struct str message, struct str signature)
{
	uint8_t der[BASE64_DECODED_MAX(BASE64_ENCODED_LEN(P256_DER_MAX))];
	size_t len;
	if (signature.len > BASE64_ENCODED_LEN(P256_DER_MAX) || base64_decode(signature, der, &len))
		return false;
	return p256_verify(key, P256_PUBLIC_BYTES, message.at, message.len, der, len) == DB_OK;
}

/* Steps 4 and 5, over the bytes that the coordinator rebuilds itself. */
static bool check_crypto(const struct wire_attestation_response *reply, const struct status_policy *policy,
                         struct status_result *result)
{
	bool good = false;
	struct buf message;
	buf_init(&message, CANONICAL_MAX);
	buf_append_str(&message, policy->nonce);
	if (buf_append_str(&message, policy->timestamp) || !verifies(policy->signing_key, buf_str(&message), reply->signature)) {
		stop(result, STATUS_FAIL, 4, "signature does not verify");
		goto out;
	}
	good = reply->status_signature.len == 0;
	if (good)
		goto out;
	buf_clear(&message);
	good = status_canonical(reply, policy->nonce, policy->timestamp, &message) == DB_OK &&
	       verifies(policy->signing_key, buf_str(&message), reply->status_signature);
	result->status_signed = good;
	if (!good)
		stop(result, STATUS_FAIL, 5, "status_signature does not verify");
out:
	buf_free(&message);
	return good;
}

static bool check_identity(const struct wire_attestation_response *reply, const struct status_policy *policy,
                           struct status_result *result)
{
	if (!str_eq(reply->nonce, policy->nonce))
		return stop(result, STATUS_FAIL, 1, "the nonce is not the one that was sent");
	if (policy->registered_key.len && !str_eq(reply->public_key, policy->registered_key))
		return stop(result, STATUS_FAIL, 2, "public_key is not the registered one");
	if (reply->signature.len == 0)
		return stop(result, STATUS_FAIL, 3, "signature is missing");
	return !policy->signing_key || check_crypto(reply, policy, result);
}

static bool check_posture(const struct wire_attestation_response *reply, const struct status_policy *policy,
                          struct status_result *result)
{
	if (reply->sip_enabled == WIRE_UNKNOWN)
		return stop(result, STATUS_FAIL, 6, "sip_enabled is missing");
	if (reply->sip_enabled == WIRE_FALSE && !policy->is_linux)
		return stop(result, STATUS_HARD_UNTRUST, 7, "System Integrity Protection is off");
	if (reply->secure_boot_enabled == WIRE_FALSE && !policy->is_linux)
		return stop(result, STATUS_HARD_UNTRUST, 8, "Secure Boot is off");
	if (reply->rdma_disabled == WIRE_UNKNOWN)
		return stop(result, STATUS_FAIL, 9, "rdma_disabled is missing");
	return true;
}

static bool check_binary(const struct wire_attestation_response *reply, const struct status_policy *policy,
                         struct status_result *result)
{
	if (!policy->enforce_binary)
		return true;
	if (!policy->signing_key)
		return stop(result, STATUS_HARD_UNTRUST, 10, "there is no valid attestation to compare the binary with");
	if (reply->binary_hash.len == 0)
		return stop(result, STATUS_HARD_UNTRUST, 10, "binary_hash is missing");
	if (!policy->binary_known || !policy->binary_known(policy->context, reply->binary_hash))
		return stop(result, STATUS_HARD_UNTRUST, 10, "binary_hash is not that of a known release");
	if (!str_eq_nocase(reply->binary_hash, policy->attested_binary))
		return stop(result, STATUS_HARD_UNTRUST, 10, "binary_hash is not the attested one");
	return true;
}

static struct str catalogue_hash(const struct status_policy *policy, struct str model)
{
	return policy->catalogue_hash ? policy->catalogue_hash(policy->context, model) : STR_NONE;
}

static bool check_model_hashes(const struct wire_attestation_response *reply, const struct status_policy *policy,
                               struct status_result *result)
{
	for (size_t i = 0; i < reply->model_hashes.count; i++) {
		const struct wire_pair *model = &reply->model_hashes.at[i];
		struct str expected = catalogue_hash(policy, model->key);
		if (model->value.len && expected.len && !str_eq_nocase(model->value, expected))
			return stop(result, STATUS_HARD_UNTRUST, 11, "a model's weights are not those of the catalogue");
	}
	return true;
}

/* A retired build may stay resident for a while after its alias moved on. */
static bool is_retired_active(const struct wire_attestation_response *reply, const struct status_policy *policy)
{
	for (size_t i = 0; i < reply->model_hashes.count; i++) {
		const struct wire_pair *model = &reply->model_hashes.at[i];
		if (str_eq_nocase(model->value, reply->active_model_hash) && policy->is_retired &&
		    policy->is_retired(policy->context, model->key) && str_eq_nocase(catalogue_hash(policy, model->key), model->value))
			return true;
	}
	return false;
}

static bool check_active_model(const struct wire_attestation_response *reply, const struct status_policy *policy,
                               struct status_result *result)
{
	if (reply->active_model_hash.len == 0 || policy->advertised_count == 0)
		return true;
	bool expected_one = false;
	for (size_t i = 0; i < policy->advertised_count; i++) {
		struct str expected = catalogue_hash(policy, policy->advertised[i]);
		if (expected.len == 0)
			return true;
		expected_one = expected_one || str_eq_nocase(expected, reply->active_model_hash);
	}
	if (expected_one || is_retired_active(reply, policy))
		return true;
	return stop(result, STATUS_HARD_UNTRUST, 12, "active_model_hash is not that of an advertised model");
}

static bool check_runtime(const struct status_policy *policy, struct status_result *result)
{
	if (!policy->runtime_accepted)
		return stop(result, STATUS_SILENT_STOP, 13, "the runtime is not that of the manifest");
	if (!policy->version_accepted)
		return stop(result, STATUS_SILENT_STOP, 14, "the version is below the floor");
	return true;
}

void status_verify(const struct wire_attestation_response *reply, const struct status_policy *policy,
                   struct status_result *result)
{
	*result = (struct status_result){.verdict = STATUS_PASS, .step = 15};
	(void)(check_identity(reply, policy, result) && check_posture(reply, policy, result) &&
	       check_binary(reply, policy, result) && check_model_hashes(reply, policy, result) &&
	       check_active_model(reply, policy, result) && check_runtime(policy, result));
}
