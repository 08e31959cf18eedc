#include "wire/receipt.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/encode.h"
#include "core/json.h"
#include "crypto/hash.h"
#include "wire/response_hash.h"

#define TEXT_MAX   256
#define ANSWER_MAX (256u << 20)

/* --- fields --- */

enum field_kind { FIELD_TEXT, FIELD_COUNT, FIELD_MONEY, FIELD_BOOL, FIELD_VERSION };

/* In the order of their names, which is the order of the canonical form. */
static const struct field {
	const char *name;
	enum field_kind kind;
	size_t at;
} fields[] = {
    {"account_id", FIELD_TEXT, offsetof(struct receipt, account_id)},
    {"cached_price", FIELD_MONEY, offsetof(struct receipt, price.cached)},
    {"cached_tokens", FIELD_COUNT, offsetof(struct receipt, tokens.cached)},
    {"completion_tokens", FIELD_COUNT, offsetof(struct receipt, tokens.completion)},
    {"cost_micro_usd", FIELD_MONEY, offsetof(struct receipt, cost_uusd)},
    {"created_us", FIELD_MONEY, offsetof(struct receipt, created_us)},
    {"fee_micro_usd", FIELD_MONEY, offsetof(struct receipt, fee_uusd)},
    {"hold_micro_usd", FIELD_MONEY, offsetof(struct receipt, hold_uusd)},
    {"input_price", FIELD_MONEY, offsetof(struct receipt, price.input)},
    {"job_id", FIELD_TEXT, offsetof(struct receipt, job_id)},
    {"key_id", FIELD_TEXT, offsetof(struct receipt, key_id)},
    {"model", FIELD_TEXT, offsetof(struct receipt, model)},
    {"outcome", FIELD_TEXT, offsetof(struct receipt, outcome)},
    {"output_price", FIELD_MONEY, offsetof(struct receipt, price.output)},
    {"payout_micro_usd", FIELD_MONEY, offsetof(struct receipt, payout_uusd)},
    {"prompt_tokens", FIELD_COUNT, offsetof(struct receipt, tokens.prompt)},
    {"provider_id", FIELD_TEXT, offsetof(struct receipt, provider_id)},
    {"provider_public_key", FIELD_TEXT, offsetof(struct receipt, provider_key)},
    {"provider_signature", FIELD_TEXT, offsetof(struct receipt, provider_signature)},
    {"public_model", FIELD_TEXT, offsetof(struct receipt, public_model)},
    {"reasoning_tokens", FIELD_COUNT, offsetof(struct receipt, reasoning_tokens)},
    {"reported_completion_tokens", FIELD_COUNT, offsetof(struct receipt, reported_tokens)},
    {"request_id", FIELD_TEXT, offsetof(struct receipt, request_id)},
    {"response_hash", FIELD_TEXT, offsetof(struct receipt, response_hash)},
    {"service_account", FIELD_BOOL, offsetof(struct receipt, service)},
    {"version", FIELD_VERSION, 0},
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
		json_put_bool(w, field->name, *(const bool *)field_of(receipt, field));
		return DB_OK;
	case FIELD_VERSION:
		break;
	}
	json_put_i64(w, field->name, RECEIPT_VERSION);
	return DB_OK;
}

enum db_err receipt_canonical(const struct receipt *receipt, struct buf *out)
{
	struct json_writer w;
	enum db_err err = DB_OK;
	json_writer_init(&w, out);
	json_begin_object(&w);
	for (size_t i = 0; i < FIELD_TOTAL && !err; i++)
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

enum db_err receipt_write(const struct receipt *receipt, const struct p256_key *key, struct buf *out)
{
	struct buf canonical, signature;
	uint8_t public_key[P256_PUBLIC_BYTES];
	buf_init(&canonical, RECEIPT_MAX);
	buf_init(&signature, 128);
	bool adds_up = receipt->fee_uusd <= receipt->cost_uusd && receipt->payout_uusd == receipt->cost_uusd - receipt->fee_uusd;
	enum db_err err = adds_up ? receipt_canonical(receipt, &canonical) : DB_E_RANGE;
	if (!err)
		err = p256_sign_base64(key, buf_str(&canonical), &signature);
	if (!err) {
		p256_public(key, public_key);
		write_document(out, buf_str(&canonical), public_key, buf_str(&signature));
		err = out->failed ? DB_E_LIMIT : DB_OK;
	}
	buf_free(&signature);
	buf_free(&canonical);
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
	case FIELD_BOOL:
		return json_as_bool(value, (bool *)at);
	case FIELD_COUNT:
	case FIELD_MONEY: /* the same 64 bits once they are known to be positive */
		if (!read_number(value, &number))
			return false;
		memcpy(at, &number, sizeof number);
		return true;
	case FIELD_VERSION:
		break;
	}
	return read_number(value, &number) && number == RECEIPT_VERSION;
}

static enum db_err read_receipt(const json_val *object, struct receipt *receipt, struct error *error)
{
	*receipt = (struct receipt){0};
	if (json_type(object) != JSON_OBJECT)
		return error_set(error, DB_E_INVALID, "This is no receipt: it has no object \"receipt\".");
	for (size_t i = 0; i < FIELD_TOTAL; i++)
		if (!read_field(json_get(object, fields[i].name), &fields[i], receipt))
			return error_set(error, DB_E_INVALID, "The receipt's member \"%s\" is missing or has a value that none can have.",
			                 fields[i].name);
	if (json_len(object) != FIELD_TOTAL)
		return error_set(error, DB_E_INVALID, "The receipt has members that version %d does not know: use a newer program.",
		                 RECEIPT_VERSION);
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
			out->provider =
			    verdict(out, !p256_verify_base64(receipt.provider_key, receipt.response_hash, receipt.provider_signature),
			            "The provider's signature is not of this response hash.");
		if (expect->text.at)
			out->text = verdict(out, text_matches(&receipt, expect->text), "The response hash is not of this text.");
		out->money = verdict(out, money_follows(&receipt), "The amounts do not follow from the tokens and prices.");
		err = out->why[0] ? DB_E_CRYPTO : DB_OK;
	}
	json_free(doc);
	return err;
}
