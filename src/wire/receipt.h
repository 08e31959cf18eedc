/* The receipt of one request (billing 4; docs/reference/receipts.md): the usage row as the books hold it, with what the
 * provider signed about the text and what the coordinator signs about the money. Whoever has it can check both without asking
 * anyone.
 *
 *   {"receipt": {...}, "coordinator": {"kid", "algorithm": "ES256", "public_key", "signature"}}
 *
 * The coordinator signs the canonical bytes of "receipt": its members sorted by name, no white space. The provider's signature
 * is over response_hash (protocol-and-trust 4.4); of a blind request, which has a consumer_key, over the statement of
 * wire/blind.h, whose transcript is in response_hash. Version 1 had no blind ones, and none of the three members that they
 * need. Thread: any. */
#ifndef WIRE_RECEIPT_H
#define WIRE_RECEIPT_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"
#include "crypto/p256.h"
#include "wire/price.h"

#define RECEIPT_VERSION  2           /* the newest; older ones are read, too */
#define RECEIPT_MAX      (16u << 10) /* a whole one */
#define RECEIPT_KID_SIZE 17          /* the first 16 hex digits of SHA-256(public key), and NUL */

/* Texts are borrowed. */
struct receipt {
	uint64_t version; /* 1 or 2 */
	struct str request_id, account_id, key_id;
	struct str provider_id, model, public_model, outcome;
	struct price_tokens tokens;
	uint64_t reasoning_tokens;
	struct price price;
	bool service;
	int64_t hold_uusd, cost_uusd, fee_uusd, payout_uusd; /* payout + fee = cost */
	int64_t created_us;
	/* What the provider says; empty when it signed nothing. */
	struct str job_id, response_hash, provider_key, provider_signature;
	uint64_t reported_tokens; /* of the completion */
	struct str
	    consumer_key; /* of a blind request: base64 of the key it was sealed with; the rest is what the provider signed */
	uint64_t reported_prompt_tokens, reported_reasoning_tokens;
};

/* The bytes that are signed. DB_E_INVALID for a text that is too long or not UTF-8, DB_E_RANGE for a number below zero. */
enum db_err receipt_canonical(const struct receipt *receipt, struct buf *out);

void receipt_kid(const uint8_t public_key[P256_PUBLIC_BYTES], char out[RECEIPT_KID_SIZE]);
/* Appends the base64 of a signature. About 25 us. DB_E_RANGE when payout and fee do not make the cost. */
enum db_err receipt_sign(const struct receipt *receipt, const struct p256_key *key, struct buf *signature);
/* Appends the whole document with a signature made before. */
enum db_err receipt_put(const struct receipt *receipt, const uint8_t public_key[P256_PUBLIC_BYTES], struct str signature,
                        struct buf *out);
/* Both at once. */
enum db_err receipt_write(const struct receipt *receipt, const struct p256_key *key, struct buf *out);

enum receipt_part { RECEIPT_NOT_CHECKED, RECEIPT_GOOD, RECEIPT_BAD };

struct receipt_check {
	enum receipt_part coordinator; /* its signature, by the key in the receipt */
	enum receipt_part pinned;      /* that this key is the one that was expected */
	enum receipt_part provider;    /* its signature over response_hash */
	enum receipt_part text;        /* that response_hash is of this text */
	enum receipt_part money;       /* cost, fee and payout follow from tokens and prices */
	int64_t cost_uusd, created_us;
	uint64_t prompt_tokens, completion_tokens;
	char request_id[80], model[160], kid[RECEIPT_KID_SIZE];
	char why[160]; /* of the first part that is bad */
};
struct receipt_expect {
	struct str coordinator_key; /* base64 of X | Y; empty = whichever the receipt names */
	struct str text;            /* of the answer as the provider hashed it; at NULL = not given */
};
/* Reads and checks a document of at most RECEIPT_MAX bytes; white space and the order of members do not matter, unknown members
 * of "receipt" are refused: they would not be covered by what is checked. DB_OK when nothing is RECEIPT_BAD, DB_E_CRYPTO when a
 * part is, DB_E_INVALID (and the error) when it is no receipt. */
enum db_err receipt_verify(struct str document, const struct receipt_expect *expect, struct receipt_check *out,
                           struct error *error);

#endif
