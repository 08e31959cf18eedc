#include "wire/envelope.h"

#include "core/encode.h"
#include "core/id.h"
#include "core/json.h"
#include "wire/payload.h"

#define MARK_BYTES 8
#define TIME_BYTES 8

static enum db_err refuse(struct error *error, const char *what)
{
	return error_set(error, DB_E_INVALID, "The sealed envelope %s.", what);
}

enum db_err envelope_read(struct str text, struct arena *arena, struct envelope *out, struct error *error)
{
	*out = (struct envelope){0};
	struct json_doc *doc = json_parse(text, arena, NULL);
	const json_val *root = doc ? json_root(doc) : NULL, *kid = json_get_some(root, "kid");
	if (json_type(root) != JSON_OBJECT)
		return refuse(error, "is not a JSON object");
	if (kid && !json_as_str(kid, &out->kid))
		return refuse(error, "has a kid that is no text");
	if (!json_as_str(json_get(root, "ephemeral_public_key"), &out->sender_b64) || wire_key_decode(out->sender_b64, out->sender))
		return refuse(error, "needs ephemeral_public_key: base64 of 32 bytes");
	if (!json_as_str(json_get(root, "ciphertext"), &out->ciphertext) || !out->ciphertext.len)
		return refuse(error, "needs ciphertext: base64 of a nonce and a box");
	return DB_OK;
}

enum db_err envelope_decode(struct str ciphertext, struct arena *arena, struct sealed_box *out)
{
	*out = (struct sealed_box){.at = arena_alloc(arena, BASE64_DECODED_MAX(ciphertext.len) + 1)};
	if (!out->at)
		return DB_E_NOMEM;
	return base64_decode(ciphertext, out->at, &out->len) || out->len < BOX_NONCE_BYTES ? DB_E_INVALID : DB_OK;
}

struct str envelope_id(const struct sealed_box *box)
{
	return (struct str){(const char *)box->at, box->len < ENVELOPE_ID_BYTES ? box->len : ENVELOPE_ID_BYTES};
}

bool envelope_time_ms(const struct sealed_box *box, int64_t *unix_ms)
{
	if (box->len < BOX_NONCE_BYTES || memcmp(box->at, ENVELOPE_MARK, MARK_BYTES) != 0)
		return false;
	uint64_t value = 0;
	for (size_t i = 0; i < TIME_BYTES; i++)
		value = value << 8 | box->at[MARK_BYTES + i];
	*unix_ms = value > INT64_MAX ? INT64_MAX : (int64_t)value;
	return true;
}

/* Behind nonce and tag, so that what names the box stays where it is. */
enum db_err envelope_open(const struct sealed_box *box, const struct box_shared *shared, struct str *plain)
{
	size_t len;
	if (box->len < BOX_OVERHEAD)
		return DB_E_CRYPTO;
	uint8_t *to = box->at + BOX_OVERHEAD;
	enum db_err err = box_open(shared, box->at, box->len, to, &len);
	*plain = err ? STR_NONE : (struct str){(const char *)to, len};
	return err;
}

enum db_err envelope_seal(const struct box_shared *shared, int64_t unix_ms, struct str plain, struct buf *out)
{
	uint8_t nonce[BOX_NONCE_BYTES];
	memcpy(nonce, ENVELOPE_MARK, MARK_BYTES);
	for (size_t i = 0; i < TIME_BYTES; i++)
		nonce[MARK_BYTES + i] = (uint8_t)((uint64_t)unix_ms >> (8 * (TIME_BYTES - 1 - i)));
	id_random(nonce + MARK_BYTES + TIME_BYTES, BOX_NONCE_BYTES - MARK_BYTES - TIME_BYTES);
	return wire_append_sealed_with_nonce(shared, nonce, plain, out);
}
