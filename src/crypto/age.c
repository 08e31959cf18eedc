#include "crypto/age.h"

#include "core/encode.h"
#include "core/id.h"
#include "crypto/aead.h"
#include "crypto/age_internal.h"
#include "crypto/bech32.h"
#include "crypto/box.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#include <sodium.h>
#include <stdlib.h>

#define RECIPIENT_PREFIX "age"
#define IDENTITY_PREFIX  "age-secret-key-"

_Static_assert(AGE_TAG_BYTES == crypto_aead_chacha20poly1305_IETF_ABYTES, "ChaCha20-Poly1305");

/* --- keys --- */

void age_identity_new(struct age_identity *identity)
{
	id_random(identity->secret, sizeof identity->secret);
}

void age_recipient_of(const struct age_identity *identity, struct age_recipient *out)
{
	(void)crypto_scalarmult_base(out->key, identity->secret);
}

enum db_err age_identity_parse(struct str text, struct age_identity *out)
{
	/* Only in capitals: so that nobody takes it for a recipient. */
	return str_starts(text, STR("AGE-SECRET-KEY-1")) ? bech32_decode(text, IDENTITY_PREFIX, out->secret, AGE_KEY_BYTES)
	                                                 : DB_E_INVALID;
}

enum db_err age_recipient_parse(struct str text, struct age_recipient *out)
{
	return str_starts(text, STR("age1")) ? bech32_decode(text, RECIPIENT_PREFIX, out->key, AGE_KEY_BYTES) : DB_E_INVALID;
}

void age_recipient_write(const struct age_recipient *recipient, char out[AGE_KEY_SIZE])
{
	char text[BECH32_SIZE];
	bech32_encode(RECIPIENT_PREFIX, recipient->key, AGE_KEY_BYTES, text);
	(void)str_copy(str_of(text), out, AGE_KEY_SIZE);
}

void age_identity_write(const struct age_identity *identity, char out[AGE_KEY_SIZE])
{
	char text[BECH32_SIZE];
	bech32_encode(IDENTITY_PREFIX, identity->secret, AGE_KEY_BYTES, text);
	(void)str_copy(str_of(text), out, AGE_KEY_SIZE);
	for (char *at = out; *at; at++)
		*at = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
	secret_wipe(text, sizeof text);
}

/* --- what both directions derive --- */

enum db_err age_wrap_key(const uint8_t secret[AGE_KEY_BYTES], const uint8_t peer[AGE_KEY_BYTES],
                         const uint8_t share[AGE_KEY_BYTES], const uint8_t recipient[AGE_KEY_BYTES], uint8_t out[32])
{
	uint8_t shared[crypto_scalarmult_BYTES], salt[2 * AGE_KEY_BYTES];
	if (crypto_scalarmult(shared, secret, peer) != 0) /* of low order: everybody would know the key */
		return DB_E_CRYPTO;
	memcpy(salt, share, AGE_KEY_BYTES);
	memcpy(salt + AGE_KEY_BYTES, recipient, AGE_KEY_BYTES);
	age_derive((struct str){(const char *)salt, sizeof salt}, (struct str){(const char *)shared, sizeof shared},
	           STR("age-encryption.org/v1/X25519"), out);
	secret_wipe(shared, sizeof shared);
	return DB_OK;
}

void age_derive(struct str salt, struct str secret, struct str info, uint8_t out[32])
{
	uint8_t prk[HKDF_PRK_BYTES];
	hkdf_extract(salt, secret, prk);
	(void)hkdf_expand(prk, info, out, 32);
	secret_wipe(prk, sizeof prk);
}

void age_header_mac(const uint8_t file_key[AGE_FILE_KEY_BYTES], struct str header, uint8_t out[SHA256_BYTES])
{
	uint8_t key[32];
	age_derive(STR_NONE, (struct str){(const char *)file_key, AGE_FILE_KEY_BYTES}, STR("header"), key);
	hmac_sha256(key, sizeof key, header.at, header.len, out);
	secret_wipe(key, sizeof key);
}

void age_stream_begin(struct age_stream *stream, const uint8_t file_key[AGE_FILE_KEY_BYTES],
                      const uint8_t nonce[AGE_NONCE_BYTES])
{
	stream->chunk = 0;
	age_derive((struct str){(const char *)nonce, AGE_NONCE_BYTES}, (struct str){(const char *)file_key, AGE_FILE_KEY_BYTES},
	           STR("payload"), stream->key);
}

/* Eleven bytes of the chunk's number and one that says whether it is the last. */
void age_stream_nonce(struct age_stream *stream, bool is_last, uint8_t out[12])
{
	memset(out, 0, 12);
	for (size_t i = 0; i < 8; i++)
		out[10 - i] = (uint8_t)(stream->chunk >> 8 * i);
	out[11] = is_last;
	stream->chunk++;
}

/* --- writing --- */

struct age_writer {
	struct age_stream stream;
	size_t held; /* of the chunk that is not full */
	uint8_t chunk[AGE_CHUNK_BYTES];
	uint8_t sealed[AGE_CHUNK_BYTES + AGE_TAG_BYTES];
};

static void append_base64(struct buf *out, const void *bytes, size_t len)
{
	char text[BASE64_ENCODED_LEN(64)];
	size_t n = base64_encode(bytes, len, text);
	while (n > 0 && text[n - 1] == '=')
		n--;
	(void)buf_append(out, text, n);
}

static enum db_err write_header(const struct age_recipient *recipient, const struct age_random *random, struct buf *out)
{
	static const uint8_t zero_nonce[crypto_aead_chacha20poly1305_IETF_NPUBBYTES];
	uint8_t share[AGE_KEY_BYTES], key[32], wrapped[AGE_FILE_KEY_BYTES + AGE_TAG_BYTES], mac[SHA256_BYTES];
	size_t began = out->len;
	(void)crypto_scalarmult_base(share, random->ephemeral);
	enum db_err err = age_wrap_key(random->ephemeral, recipient->key, share, recipient->key, key);
	if (err)
		return err;
	(void)crypto_aead_chacha20poly1305_ietf_encrypt(wrapped, NULL, random->file_key, AGE_FILE_KEY_BYTES, NULL, 0, NULL,
	                                                zero_nonce, key);
	(void)buf_append_c(out, AGE_FIRST_LINE "\n" AGE_STANZA);
	append_base64(out, share, sizeof share);
	(void)buf_append_byte(out, '\n');
	append_base64(out, wrapped, sizeof wrapped);
	(void)buf_append_c(out, "\n---");
	if (!out->failed)
		age_header_mac(random->file_key, str_sub(buf_str(out), began, out->len - began), mac);
	(void)buf_append_byte(out, ' ');
	append_base64(out, mac, sizeof mac);
	(void)buf_append_byte(out, '\n');
	secret_wipe(key, sizeof key);
	return buf_append(out, random->nonce, sizeof random->nonce);
}

struct age_writer *age_writer_new(const struct age_recipient *recipient, const struct age_random *random, struct buf *out)
{
	struct age_random made;
	struct age_writer *writer = secret_alloc(sizeof *writer);
	if (!writer)
		return NULL;
	if (!random)
		id_random(&made, sizeof made);
	const struct age_random *used = random ? random : &made;
	enum db_err err = write_header(recipient, used, out);
	age_stream_begin(&writer->stream, used->file_key, used->nonce);
	secret_wipe(&made, sizeof made);
	if (!err)
		return writer;
	secret_free(writer);
	return NULL;
}

static enum db_err write_chunk(struct age_writer *writer, bool is_last, struct buf *out)
{
	uint8_t nonce[12];
	age_stream_nonce(&writer->stream, is_last, nonce);
	(void)crypto_aead_chacha20poly1305_ietf_encrypt(writer->sealed, NULL, writer->chunk, writer->held, NULL, 0, NULL, nonce,
	                                                writer->stream.key);
	enum db_err err = buf_append(out, writer->sealed, writer->held + AGE_TAG_BYTES);
	writer->held = 0;
	return err;
}

/* A full chunk waits for more: only then is it known not to be the last. */
enum db_err age_write(struct age_writer *writer, struct str plain, struct buf *out)
{
	enum db_err err = DB_OK;
	while (!err && plain.len > 0) {
		if (writer->held == AGE_CHUNK_BYTES)
			err = write_chunk(writer, false, out);
		size_t room = AGE_CHUNK_BYTES - writer->held, n = plain.len < room ? plain.len : room;
		memcpy(writer->chunk + writer->held, plain.at, n);
		writer->held += n;
		plain = str_sub(plain, n, plain.len - n);
	}
	return err;
}

enum db_err age_write_end(struct age_writer *writer, struct buf *out)
{
	return write_chunk(writer, true, out);
}

void age_writer_free(struct age_writer *writer)
{
	secret_free(writer);
}
