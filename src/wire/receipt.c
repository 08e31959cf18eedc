#include "wire/receipt.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/encode.h"
#include "core/json.h"
#include "crypto/hash.h"
#include "wire/blind.h"
#include "wire/response_hash.h"

#define TEXT_MAX   256
#define ANSWER_MAX (256u << 20)

/* --- fields --- */

enum field_kind { FIELD_TEXT, FIELD_COUNT, FIELD_MONEY, FIELD_BOOL };

/* In the order of their names, which is the order of the canonical form. */
static const struct field {
	const char *name;
	enum field_kind kind;
	size_t at;
	uint64_t since; /* version; 0 = always */
} fields[] = {
    {"account_id", FIELD_TEXT, offsetof(struct receipt, account_id), 0},
    {"cached_price", FIELD_MONEY, offsetof(struct receipt, price.cached), 0},
    {"cached_tokens", FIELD_COUNT, offsetof(struct receipt, tokens.cached), 0},
    {"completion_tokens", FIELD_COUNT, offsetof(struct receipt, tokens.completion), 0},
    {"consumer_key", FIELD_TEXT, offsetof(struct receipt, consumer_key), 2},
    {"cost_micro_usd", FIELD_MONEY, offsetof(struct receipt, cost_uusd), 0},
    {"created_us", FIELD_MONEY, offsetof(struct receipt, created_us), 0},
    {"fee_micro_usd", FIELD_MONEY, offsetof(struct receipt, fee_uusd), 0},
    {"hold_micro_usd", FIELD_MONEY, offsetof(struct receipt, hold_uusd), 0},
    {"input_price", FIELD_MONEY, offsetof(struct receipt, price.input), 0},
    {"job_id", FIELD_TEXT, offsetof(struct receipt, job_id), 0},
    {"key_id", FIELD_TEXT, offsetof(struct receipt, key_id), 0},
    {"model", FIELD_TEXT, offsetof(struct receipt, model), 0},
    {"outcome", FIELD_TEXT, offsetof(struct receipt, outcome), 0},
    {"output_price", FIELD_MONEY, offsetof(struct receipt, price.output), 0},
    {"payout_micro_usd", FIELD_MONEY, offsetof(struct receipt, payout_uusd), 0},
    {"prompt_tokens", FIELD_COUNT, offsetof(struct receipt, tokens.prompt), 0},
    {"provider_id", FIELD_TEXT, offsetof(struct receipt, provider_id), 0},
    {"provider_public_key", FIELD_TEXT, offsetof(struct receipt, provider_key), 0},
    {"provider_signature", FIELD_TEXT, offsetof(struct receipt, provider_signature), 0},
    {"public_model", FIELD_TEXT, offsetof(struct receipt, public_model), 0},
    {"reasoning_tokens", FIELD_COUNT, offsetof(struct receipt, reasoning_tokens), 0},
    {"reported_completion_tokens", FIELD_COUNT, offsetof(struct receipt, reported_tokens), 0},
    {"reported_prompt_tokens", FIELD_COUNT, offsetof(struct receipt, reported_prompt_tokens), 2},
    {"reported_reasoning_tokens", FIELD_COUNT, offsetof(struct receipt, reported_reasoning_tokens), 2},
    {"request_id", FIELD_TEXT, offsetof(struct receipt, request_id), 0},
    {"response_hash", FIELD_TEXT, offsetof(struct receipt, response_hash), 0},
    {"service_account", FIELD_BOOL, offsetof(struct receipt, service), 0},
    {"version", FIELD_COUNT, offsetof(struct receipt, version), 0},
};
#define FIELD_TOTAL (sizeof fields / sizeof *fields)

static const void *field_of(const struct receipt *receipt, const struct field *field)
{
	return (const char *)receipt + field->at;
}

static enum db_err write_field(struct json_writer *w, const struct receipt *receipt, const struct field *field)
{
	switch (field->kind) {
	case FIELD_TEXT: {
		const struct str *text = field_of(receipt, field);
		json_put_str(w, field->name, *text);
		return text->len > TEXT_MAX ? DB_E_INVALID : DB_OK;
	}
	case FIELD_COUNT: {
		const uint64_t *count = field_of(receipt, field);
		json_put_i64(w, field->name, *count > INT64_MAX ? -1 : (int64_t)*count);
		return *count > INT64_MAX ? DB_E_RANGE : DB_OK;
	}
	case FIELD_MONEY: {
		const int64_t *money = field_of(receipt, field);
		json_put_i64(w, field->name, *money);
		return *money < 0 ? DB_E_RANGE : DB_OK;
	}
	case FIELD_BOOL:
		break;
	}
	json_put_bool(w, field->name, *(const bool *)field_of(receipt, field));
	return DB_OK;
}

enum db_err receipt_canonical(const struct receipt *receipt, struct buf *out)
{
	struct json_writer w;
	enum db_err err = DB_OK;
	if (receipt->version < 1 || receipt->version > RECEIPT_VERSION)
		return DB_E_UNSUPPORTED;
	json_writer_init(&w, out);
	json_begin_object(&w);
	for (size_t i = 0; i < FIELD_TOTAL && !err; i++)
		if (fields[i].since <= receipt->version)
			err = write_field(&w, receipt, &fields[i]);
	json_end_object(&w);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

/* --- writing --- */

void receipt_kid(const uint8_t public_key[P256_PUBLIC_BYTES], char out[RECEIPT_KID_SIZE])
{
	char hex[SHA256_HEX_SIZE];
	sha256_hex(public_key, P256_PUBLIC_BYTES, hex);
	memcpy(out, hex, RECEIPT_KID_SIZE - 1);
	out[RECEIPT_KID_SIZE - 1] = '\0';
}

static void write_document(struct buf *out, struct str canonical, const uint8_t public_key[P256_PUBLIC_BYTES],
                           struct str signature)
{
	char kid[RECEIPT_KID_SIZE], key_text[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)];
	struct json_writer w;
	receipt_kid(public_key, kid);
	size_t key_len = base64_encode(public_key, P256_PUBLIC_BYTES, key_text);
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_key(&w, "receipt");
	json_raw(&w, canonical);
	json_key(&w, "coordinator");
	json_begin_object(&w);
	json_put_cstr(&w, "kid", kid);
	json_put_cstr(&w, "algorithm", "ES256");
	json_put_str(&w, "public_key", (struct str){key_text, key_len});
	json_put_str(&w, "signature", signature);
	json_end_object(&w);
	json_end_object(&w);
}

enum db_err receipt_sign(const struct receipt *receipt, const struct p256_key *key, struct buf *signature)
{
	struct buf canonical;
	bool adds_up = receipt->fee_uusd <= receipt->cost_uusd && receipt->payout_uusd == receipt->cost_uusd - receipt->fee_uusd;
	buf_init(&canonical, RECEIPT_MAX);
	enum db_err err = adds_up ? receipt_canonical(receipt, &canonical) : DB_E_RANGE;
	if (!err)
		err = p256_sign_base64(key, buf_str(&canonical), signature);
	buf_free(&canonical);
	return err;
}

enum db_err receipt_put(const struct receipt *receipt, const uint8_t public_key[P256_PUBLIC_BYTES], struct str signature,
                        struct buf *out)
{
	struct buf canonical;
	buf_init(&canonical, RECEIPT_MAX);
	enum db_err err = receipt_canonical(receipt, &canonical);
	if (!err)
		write_document(out, buf_str(&canonical), public_key, signature);
	buf_free(&canonical);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err receipt_write(const struct receipt *receipt, const struct p256_key *key, struct buf *out)
{
	struct buf signature;
	uint8_t public_key[P256_PUBLIC_BYTES];
	buf_init(&signature, 128);
	enum db_err err = receipt_sign(receipt, key, &signature);
	if (!err) {
		p256_public(key, public_key);
		err = receipt_put(receipt, public_key, buf_str(&signature), out);
	}
	buf_free(&signature);
	return err;
}

/* --- reading --- */

static bool read_number(const json_val *value, int64_t *out)
{
	return json_as_i64(value, out) && *out >= 0;
}

static bool read_field(const json_val *value, const struct field *field, struct receipt *receipt)
{
	char *at = (char *)receipt + field->at;
	struct str text;
	int64_t number;
	switch (field->kind) {
	case FIELD_TEXT:
		if (!json_as_str(value, &text) || text.len > TEXT_MAX)
			return false;
		memcpy(at, &text, sizeof text);
		return true;
	case FIELD_COUNT:
	case FIELD_MONEY: /* the same 64 bits once they are known to be positive */
		if (!read_number(value, &number))
			return false;
		memcpy(at, &number, sizeof number);
		return true;
	case FIELD_BOOL:
		break;
	}
	return json_as_bool(value, (bool *)at);
}

static enum db_err read_receipt(const json_val *object, struct receipt *receipt, struct error *error)
{
	int64_t version = 0;
	size_t known = 0;
	*receipt = (struct receipt){0};
	if (json_type(object) != JSON_OBJECT)
		return error_set(error, DB_E_INVALID, "This is no receipt: it has no object \"receipt\".");
	if (!read_number(json_get(object, "version"), &version) || version < 1 || version > RECEIPT_VERSION)
		return error_set(error, DB_E_INVALID, "The receipt has no version from 1 to %d: a newer program may know it.",
		                 RECEIPT_VERSION);
	for (size_t i = 0; i < FIELD_TOTAL; i++) {
		if (fields[i].since > (uint64_t)version)
			continue;
		known++;
		if (!read_field(json_get(object, fields[i].name), &fields[i], receipt))
			return error_set(error, DB_E_INVALID, "The receipt's member \"%s\" is missing or has a value that none can have.",
			                 fields[i].name);
	}
	if (json_len(object) != known)
		return error_set(error, DB_E_INVALID, "The receipt has members that version %d does not know.", (int)version);
	return DB_OK;
}

/* --- checking --- */

static enum receipt_part verdict(struct receipt_check *check, bool good, const char *why)
{
	if (good)
		return RECEIPT_GOOD;
	if (!check->why[0])
		snprintf(check->why, sizeof check->why, "%s", why);
	return RECEIPT_BAD;
}

static bool coordinator_signed(const struct receipt *receipt, const json_val *coordinator, struct str *key,
                               char kid[RECEIPT_KID_SIZE])
{
	struct str algorithm, named, signature;
	struct buf canonical;
	uint8_t public_key[P256_PUBLIC_BYTES];
	if (!json_as_str(json_get(coordinator, "algorithm"), &algorithm) || !str_is(algorithm, "ES256") ||
	    !json_as_str(json_get(coordinator, "kid"), &named) || !json_as_str(json_get(coordinator, "public_key"), key) ||
	    !json_as_str(json_get(coordinator, "signature"), &signature) ||
	    base64_decode_exact(*key, public_key, sizeof public_key))
		return false;
	receipt_kid(public_key, kid);
	buf_init(&canonical, RECEIPT_MAX);
	bool good = str_is(named, kid) && !receipt_canonical(receipt, &canonical) &&
	            !p256_verify_base64(*key, buf_str(&canonical), signature);
	buf_free(&canonical);
	return good;
}

static bool provider_signed(const struct receipt *receipt)
{
	struct blind_usage blind = {.request_id = receipt->job_id,
	                            .consumer_key = receipt->consumer_key,
	                            .model = receipt->model,
	                            .prompt_tokens = (int64_t)receipt->reported_prompt_tokens,
	                            .completion_tokens = (int64_t)receipt->reported_tokens,
	                            .reasoning_tokens = (int64_t)receipt->reported_reasoning_tokens,
	                            .transcript = receipt->response_hash};
	if (receipt->consumer_key.len)
		return !blind_usage_verify(&blind, receipt->provider_key, receipt->provider_signature);
	return !p256_verify_base64(receipt->provider_key, receipt->response_hash, receipt->provider_signature);
}

static bool text_matches(const struct receipt *receipt, struct str text)
{
	struct response_hash hash;
	char hex[SHA256_HEX_SIZE];
	response_hash_init(&hash, ANSWER_MAX);
	response_hash_add(&hash, text, STR_NONE);
	bool good = !response_hash_final(&hash, receipt->job_id, (int64_t)receipt->reported_tokens, hex) &&
	            str_is(receipt->response_hash, hex);
	response_hash_free(&hash);
	return good;
}

/* What was charged is the cost, or less where the hold was reached (billing 4.4): never more than twice the hold. */
static bool money_follows(const struct receipt *receipt)
{
	int64_t cost = price_cost(receipt->price, receipt->tokens, receipt->service);
	bool charged_right = receipt->cost_uusd == cost || (receipt->cost_uusd < cost && receipt->cost_uusd >= receipt->hold_uusd);
	return charged_right && receipt->cost_uusd - receipt->hold_uusd <= receipt->hold_uusd &&
	       receipt->fee_uusd <= receipt->cost_uusd && receipt->payout_uusd == receipt->cost_uusd - receipt->fee_uusd &&
	       receipt->tokens.cached <= receipt->tokens.prompt;
}

static void fill(struct receipt_check *out, const struct receipt *receipt)
{
	out->cost_uusd = receipt->cost_uusd;
	out->created_us = receipt->created_us;
	out->prompt_tokens = receipt->tokens.prompt;
	out->completion_tokens = receipt->tokens.completion;
	str_copy(str_sub(receipt->request_id, 0, sizeof out->request_id - 1), out->request_id, sizeof out->request_id);
	str_copy(str_sub(receipt->model, 0, sizeof out->model - 1), out->model, sizeof out->model);
}

enum db_err receipt_verify(struct str document, const struct receipt_expect *expect, struct receipt_check *out,
                           struct error *error)
{
	struct receipt receipt;
	struct str key = STR_NONE;
	memset(out, 0, sizeof *out);
	if (document.len > RECEIPT_MAX)
		return error_set(error, DB_E_INVALID, "This is larger than any receipt.");
	struct json_doc *doc = json_parse(document, NULL, error);
	if (!doc)
		return DB_E_INVALID;
	enum db_err err = read_receipt(json_get(json_root(doc), "receipt"), &receipt, error);
	if (!err) {
		fill(out, &receipt);
		out->coordinator = verdict(out, coordinator_signed(&receipt, json_get(json_root(doc), "coordinator"), &key, out->kid),
		                           "The coordinator's signature is not of this receipt.");
		if (expect->coordinator_key.len)
			out->pinned = verdict(out, str_eq(expect->coordinator_key, key), "Another coordinator's key signed this receipt.");
		if (receipt.provider_signature.len)
			out->provider = verdict(out, provider_signed(&receipt), "The provider's signature is not of this answer.");
		if (expect->text.at)
			out->text = verdict(out, text_matches(&receipt, expect->text),
			                    receipt.consumer_key.len ? "A blind request's receipt is about sealed chunks, not about text."
			                                             : "The response hash is not of this text.");
		out->money = verdict(out, money_follows(&receipt), "The amounts do not follow from the tokens and prices.");
		err = out->why[0] ? DB_E_CRYPTO : DB_OK;
	}
	json_free(doc);
	return err;
}
