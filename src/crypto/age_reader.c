#include "crypto/age_internal.h"

#include "core/encode.h"
#include "crypto/secret.h"

#include <sodium.h>
#include <stdlib.h>

#define SEALED_MAX (AGE_CHUNK_BYTES + AGE_TAG_BYTES)
#define WRAPPED    (AGE_FILE_KEY_BYTES + AGE_TAG_BYTES)

struct age_reader {
	struct age_identity identity;
	struct age_recipient own;
	struct age_stream stream;
	bool in_body, failed;
	size_t header_len, held;
	uint8_t held_bytes[SEALED_MAX];
	uint8_t plain[AGE_CHUNK_BYTES];
	char header[AGE_HEADER_MAX];
};

struct age_reader *age_reader_new(const struct age_identity *identity)
{
	struct age_reader *reader = secret_alloc(sizeof *reader);
	if (!reader)
		return NULL;
	reader->identity = *identity;
	age_recipient_of(identity, &reader->own);
	return reader;
}

void age_reader_free(struct age_reader *reader)
{
	secret_free(reader);
}

/* --- the header --- */

/* Base64 without padding, canonical, of exactly so many bytes. */
static bool read_base64(struct str text, uint8_t *out, size_t len)
{
	char padded[BASE64_ENCODED_LEN(64) + 1];
	size_t whole = BASE64_ENCODED_LEN(len), missing = len % 3 ? 3 - len % 3 : 0;
	if (text.len + missing != whole || whole >= sizeof padded)
		return false;
	memcpy(padded, text.at, text.len);
	memset(padded + text.len, '=', missing);
	return base64_decode_exact((struct str){padded, whole}, out, len) == DB_OK;
}

static struct str next_line(struct str *rest)
{
	struct str line;
	*rest = str_cut(*rest, '\n', &line);
	return line;
}

/* Tries one stanza; true when it holds the file's key for us. */
static bool unwrap(const struct age_reader *reader, struct str share_text, struct str body,
                   uint8_t file_key[AGE_FILE_KEY_BYTES])
{
	static const uint8_t zero_nonce[crypto_aead_chacha20poly1305_IETF_NPUBBYTES];
	uint8_t share[AGE_KEY_BYTES], wrapped[WRAPPED], key[32];
	if (!read_base64(share_text, share, sizeof share) || !read_base64(body, wrapped, sizeof wrapped) ||
	    age_wrap_key(reader->identity.secret, share, share, reader->own.key, key))
		return false;
	bool opened =
	    crypto_aead_chacha20poly1305_ietf_decrypt(file_key, NULL, NULL, wrapped, sizeof wrapped, NULL, 0, zero_nonce, key) == 0;
	secret_wipe(key, sizeof key);
	return opened;
}

/* `rest` stands behind a stanza's first line: its body, which ends with a line shorter than 64 characters. */
static struct str read_stanza_body(struct str *rest)
{
	struct str body = next_line(rest);
	for (struct str line = body; line.len == 64;)
		line = next_line(rest);
	return body;
}

static enum db_err open_header(struct age_reader *reader, struct error *error)
{
	struct str header = {reader->header, reader->header_len}, rest = header, line = next_line(&rest);
	uint8_t file_key[AGE_FILE_KEY_BYTES], given[SHA256_BYTES], wanted[SHA256_BYTES];
	bool found = false;
	if (!str_is(line, AGE_FIRST_LINE))
		return error_set(error, DB_E_INVALID, "This is no age file.");
	for (line = next_line(&rest); str_starts(line, STR("-> ")); line = next_line(&rest)) {
		struct str body = read_stanza_body(&rest);
		if (!found && str_starts(line, STR(AGE_STANZA)))
			found = unwrap(reader, str_sub(line, strlen(AGE_STANZA), line.len), body, file_key);
	}
	if (!str_starts(line, STR("--- ")) || !read_base64(str_sub(line, 4, line.len), given, sizeof given) ||
	    rest.len != AGE_NONCE_BYTES) {
		secret_wipe(file_key, sizeof file_key);
		return error_set(error, DB_E_INVALID, "The head of the age file is damaged.");
	}
	if (!found)
		return error_set(error, DB_E_DENIED, "The file was made for another recipient: this identity does not open it.");
	age_header_mac(file_key, (struct str){header.at, (size_t)(line.at - header.at) + 3}, wanted);
	bool good = secret_equal(given, wanted, sizeof wanted);
	if (good)
		age_stream_begin(&reader->stream, file_key, (const uint8_t *)rest.at);
	secret_wipe(file_key, sizeof file_key);
	return good ? DB_OK : error_set(error, DB_E_CRYPTO, "The head of the age file was changed.");
}

/* How long the header with its nonce is, as far as that can be told; 0 = not yet. */
static size_t header_end(struct str text)
{
	for (size_t at = 0; at + 4 < text.len; at++) {
		if (memcmp(text.at + at, "\n---", 4) != 0)
			continue;
		const char *end = memchr(text.at + at + 4, '\n', text.len - at - 4);
		return end ? (size_t)(end - text.at) + 1 + AGE_NONCE_BYTES : 0;
	}
	return 0;
}

/* Takes of `bytes` what belongs to the header. */
static enum db_err take_header(struct age_reader *reader, struct str *bytes, struct error *error)
{
	size_t had = reader->header_len, room = AGE_HEADER_MAX - had, n = bytes->len < room ? bytes->len : room;
	memcpy(reader->header + had, bytes->at, n);
	size_t end = header_end((struct str){reader->header, had + n}), first = strlen(AGE_FIRST_LINE);
	reader->header_len = had + n;
	if (reader->header_len > first && memcmp(reader->header, AGE_FIRST_LINE "\n", first + 1) != 0)
		return error_set(error, DB_E_INVALID, "This is no age file.");
	if (end == 0 || end > reader->header_len) {
		*bytes = str_sub(*bytes, n, bytes->len - n);
		return reader->header_len < AGE_HEADER_MAX ? DB_OK
		                                           : error_set(error, DB_E_INVALID, "The head of the age file is too long.");
	}
	reader->header_len = end;
	*bytes = str_sub(*bytes, end - had, bytes->len - (end - had));
	reader->in_body = true;
	return open_header(reader, error);
}

/* --- the body --- */

static enum db_err open_chunk(struct age_reader *reader, bool is_last, struct buf *plain, struct error *error)
{
	uint8_t nonce[12];
	unsigned long long len = 0;
	bool first = reader->stream.chunk == 0;
	age_stream_nonce(&reader->stream, is_last, nonce);
	bool good = reader->held >= AGE_TAG_BYTES &&
	            crypto_aead_chacha20poly1305_ietf_decrypt(reader->plain, &len, NULL, reader->held_bytes, reader->held, NULL, 0,
	                                                      nonce, reader->stream.key) == 0;
	/* An empty last chunk exists only of an empty file. */
	if (!good || (is_last && len == 0 && !first))
		return error_set(error, DB_E_CRYPTO,
		                 is_last ? "The file was cut off or changed: its last part is not what was written."
		                         : "The file was changed: a part of it is not what was written.");
	reader->held = 0;
	enum db_err err = buf_append(plain, reader->plain, (size_t)len);
	return err ? error_set(error, err, "There is no memory for the file.") : DB_OK;
}

enum db_err age_read(struct age_reader *reader, struct str bytes, struct buf *plain, struct error *error)
{
	enum db_err err = reader->failed ? error_set(error, DB_E_CLOSED, "The file could not be read.") : DB_OK;
	while (!err && bytes.len > 0 && !reader->in_body)
		err = take_header(reader, &bytes, error);
	while (!err && bytes.len > 0) {
		if (reader->held == SEALED_MAX)
			err = open_chunk(reader, false, plain, error);
		size_t room = SEALED_MAX - reader->held, n = bytes.len < room ? bytes.len : room;
		memcpy(reader->held_bytes + reader->held, bytes.at, n);
		reader->held += n;
		bytes = str_sub(bytes, n, bytes.len - n);
	}
	reader->failed |= err != DB_OK;
	return err;
}

enum db_err age_read_end(struct age_reader *reader, struct buf *plain, struct error *error)
{
	if (reader->failed)
		return error_set(error, DB_E_CLOSED, "The file could not be read.");
	reader->failed = true; /* nothing comes behind the end */
	if (!reader->in_body)
		return error_set(error, DB_E_INVALID, "This is no age file, or only its first bytes.");
	return open_chunk(reader, true, plain, error);
}
