/* The message that flows a hundred thousand times a second, read and written without a document in between. */
#include "wire/payload.h"
#include "core/encode.h"
#include "core/json.h"
#include "wire/codec.h"

#define CHUNK_HEAD   "{\"type\":\"inference_response_chunk\",\"request_id\":\""
#define CHUNK_SENDER "\",\"encrypted_data\":{\"ephemeral_public_key\":\""
#define CHUNK_CIPHER "\",\"ciphertext\":\""
#define CHUNK_TAIL   "\"}}"

#define EACH_BYTE(value) (0x0101010101010101u * (value))

/* Nonzero when any of the eight bytes is a control, a quote, a backslash or not ASCII. */
static uint64_t odd_bytes(uint64_t word)
{
	const uint64_t high = EACH_BYTE(0x80u);
	uint64_t quote = word ^ EACH_BYTE((uint64_t)'"'), backslash = word ^ EACH_BYTE((uint64_t)'\\');
	uint64_t below_space = (word - EACH_BYTE(0x20u)) & ~word;
	uint64_t is_quote = (quote - EACH_BYTE(1u)) & ~quote;
	uint64_t is_backslash = (backslash - EACH_BYTE(1u)) & ~backslash;
	return (word | below_space | is_quote | is_backslash) & high;
}

/* Whether the text can stand between quotes in JSON as it is. */
static bool is_plain(struct str text)
{
	uint64_t odd = 0, word;
	size_t i = 0;
	for (; i + sizeof word <= text.len; i += sizeof word) {
		memcpy(&word, text.at + i, sizeof word);
		odd |= odd_bytes(word);
	}
	word = EACH_BYTE((uint64_t)'a');
	if (i < text.len)
		memcpy(&word, text.at + i, text.len - i);
	return (odd | odd_bytes(word)) == 0;
}

/* Removes `literal` from the front. */
static bool take(struct str *text, struct str literal)
{
	if (!str_starts(*text, literal))
		return false;
	*text = (struct str){text->at + literal.len, text->len - literal.len};
	return true;
}

/* Removes everything before the next quote. */
static bool take_plain(struct str *text, struct str *out)
{
	const char *quote = text->len ? memchr(text->at, '"', text->len) : NULL;
	if (!quote)
		return false;
	*out = (struct str){text->at, (size_t)(quote - text->at)};
	*text = (struct str){quote, text->len - out->len};
	return is_plain(*out);
}

bool wire_chunk_peek(struct str text, struct wire_chunk *out)
{
	const struct str tail = STR(CHUNK_TAIL);
	struct wire_chunk chunk = {.has_encrypted_data = true};
	struct str rest = text;
	if (!take(&rest, STR(CHUNK_HEAD)) || !take_plain(&rest, &chunk.request_id))
		return false;
	if (!take(&rest, STR(CHUNK_SENDER)) || !take_plain(&rest, &chunk.encrypted_data.sender_key))
		return false;
	if (!take(&rest, STR(CHUNK_CIPHER)) || !str_ends(rest, tail))
		return false;
	chunk.encrypted_data.ciphertext = (struct str){rest.at, rest.len - tail.len};
	if (!is_plain(chunk.encrypted_data.ciphertext))
		return false;
	*out = chunk;
	return true;
}

void wire_key_encode(const uint8_t key[BOX_KEY_BYTES], char out[WIRE_KEY_B64_LEN + 1])
{
	out[base64_encode(key, BOX_KEY_BYTES, out)] = '\0';
}

enum db_err wire_key_decode(struct str text, uint8_t key[BOX_KEY_BYTES])
{
	return base64_decode_exact(text, key, BOX_KEY_BYTES);
}

static void append_base64(struct buf *out, const void *bytes, size_t len)
{
	size_t encoded = BASE64_ENCODED_LEN(len);
	if (out->failed || buf_reserve(out, encoded)) {
		out->failed = true;
		return;
	}
	out->len += base64_encode(bytes, len, out->at + out->len);
}

/* The box is made at the far end of the room for its own base64 and encoded from there slice by slice, so that a message never
 * needs more memory than it has bytes. The text grows towards the box but reaches its end only with the last slice. */
static void append_boxed(struct buf *out, const struct box_shared *shared, const uint8_t *nonce, struct str plain)
{
	uint8_t slice[768];
	size_t sealed_len = plain.len + BOX_OVERHEAD, encoded = BASE64_ENCODED_LEN(sealed_len);
	if (out->failed || buf_reserve(out, encoded)) {
		out->failed = true;
		return;
	}
	uint8_t *sealed = (uint8_t *)out->at + out->len + encoded - sealed_len;
	if (nonce)
		box_seal_with_nonce(shared, nonce, plain.at, plain.len, sealed);
	else
		box_seal(shared, plain.at, plain.len, sealed);
	for (size_t done = 0, n; done < sealed_len; done += n) {
		n = sealed_len - done < sizeof slice ? sealed_len - done : sizeof slice;
		memcpy(slice, sealed + done, n);
		out->len += base64_encode(slice, n, out->at + out->len);
	}
}

static void append_sealed(struct buf *out, const struct box_shared *shared, struct str plain)
{
	append_boxed(out, shared, NULL, plain);
}

static enum db_err outcome(const struct buf *out)
{
	return out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err wire_append_sealed(const struct box_shared *shared, struct str plain, struct buf *out)
{
	append_sealed(out, shared, plain);
	return outcome(out);
}

enum db_err wire_append_sealed_with_nonce(const struct box_shared *shared, const uint8_t nonce[BOX_NONCE_BYTES],
                                          struct str plain, struct buf *out)
{
	append_boxed(out, shared, nonce, plain);
	return outcome(out);
}

/* Ids and keys come from the peer: they may need escapes. */
static void append_json(struct buf *out, struct str text)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_str(&w, text);
}

static void begin_payload(struct buf *out, struct str sender_key)
{
	buf_append_str(out, STR("{\"ephemeral_public_key\":"));
	append_json(out, sender_key);
	buf_append_str(out, STR(",\"ciphertext\":\""));
}

static void begin_chunk(struct buf *out, struct str request_id, struct str sender_key)
{
	buf_append_str(out, STR("{\"type\":\"inference_response_chunk\",\"request_id\":"));
	append_json(out, request_id);
	buf_append_str(out, STR(",\"encrypted_data\":"));
	begin_payload(out, sender_key);
}

enum db_err wire_payload_seal(const struct box_shared *shared, struct str sender_key, struct str plain, struct buf *out)
{
	begin_payload(out, sender_key);
	append_sealed(out, shared, plain);
	buf_append_str(out, STR("\"}"));
	return outcome(out);
}

enum db_err wire_encode_chunk(struct str request_id, struct str sender_key, const uint8_t *sealed, size_t sealed_len,
                              struct buf *out)
{
	begin_chunk(out, request_id, sender_key);
	append_base64(out, sealed, sealed_len);
	buf_append_str(out, STR(CHUNK_TAIL));
	return outcome(out);
}

enum db_err wire_seal_chunk(const struct box_shared *shared, struct str request_id, struct str sender_key, struct str frame,
                            struct buf *out)
{
	begin_chunk(out, request_id, sender_key);
	append_sealed(out, shared, frame);
	buf_append_str(out, STR(CHUNK_TAIL));
	return outcome(out);
}

enum db_err wire_seal_request(const struct box_shared *shared, const struct wire_request *request, struct str sender_key,
                              struct str body, struct buf *out)
{
	struct wire_request head = *request;
	struct json_writer w;
	head.has_encrypted_body = false;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "type", wire_type_name(WIRE_REQUEST));
	wire_write_request(&w, &head);
	json_key(&w, "encrypted_body");
	begin_payload(out, sender_key);
	append_sealed(out, shared, body);
	buf_append_str(out, STR(CHUNK_TAIL));
	return outcome(out);
}

enum db_err wire_payload_open(const struct box_shared *shared, struct str ciphertext, struct buf *out)
{
	size_t sealed_len, plain_len;
	if (ciphertext.len == 0) /* there may be no memory yet to open it in */
		return DB_E_CRYPTO;
	if (ciphertext.len < 4) /* not one group of base64 */
		return DB_E_INVALID;
	if (buf_reserve(out, BASE64_DECODED_MAX(ciphertext.len)))
		return DB_E_LIMIT;
	uint8_t *sealed = (uint8_t *)out->at + out->len;
	if (base64_decode(ciphertext, sealed, &sealed_len))
		return DB_E_INVALID;
	if (box_open(shared, sealed, sealed_len, sealed, &plain_len))
		return DB_E_CRYPTO;
	out->len += plain_len;
	return DB_OK;
}
