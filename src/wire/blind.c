#include "wire/blind.h"

#include "core/encode.h"
#include "crypto/p256.h"

#define STATEMENT_HEAD "darkbloom-blind-usage-v1"
#define STATEMENT_MAX  4096
#define FRAME_END      "\n\n"

void blind_transcript_begin(struct blind_transcript *transcript)
{
	sha256_begin(&transcript->state);
}

void blind_transcript_add(struct blind_transcript *transcript, struct str ciphertext)
{
	sha256_update(&transcript->state, ciphertext.at, ciphertext.len);
	sha256_update(&transcript->state, "\n", 1);
}

void blind_transcript_end(const struct blind_transcript *transcript, char hex[SHA256_HEX_SIZE])
{
	struct sha256_state state = transcript->state;
	uint8_t digest[SHA256_BYTES];
	sha256_end(&state, digest);
	hex_encode(digest, sizeof digest, hex);
}

static bool is_one_line(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.at[i] < 0x20)
			return false;
	return text.len > 0;
}

enum db_err blind_usage_statement(const struct blind_usage *usage, struct buf *out)
{
	if (!is_one_line(usage->request_id) || !is_one_line(usage->consumer_key) || !is_one_line(usage->model) ||
	    !is_one_line(usage->transcript))
		return DB_E_INVALID;
	return buf_printf(out, STATEMENT_HEAD "\n%.*s\n%.*s\n%.*s\n%lld\n%lld\n%lld\n%.*s", STR_ARG(usage->request_id),
	                  STR_ARG(usage->consumer_key), STR_ARG(usage->model), (long long)usage->prompt_tokens,
	                  (long long)usage->completion_tokens, (long long)usage->reasoning_tokens, STR_ARG(usage->transcript));
}

enum db_err blind_usage_sign(const struct blind_usage *usage, const struct wire_signer *signer, struct buf *signature)
{
	struct buf statement;
	buf_init(&statement, STATEMENT_MAX);
	enum db_err err = blind_usage_statement(usage, &statement);
	if (!err)
		err = signer->sign(signer->context, buf_str(&statement), signature);
	buf_free(&statement);
	return err;
}

enum db_err blind_usage_verify(const struct blind_usage *usage, struct str public_key, struct str signature)
{
	struct buf statement;
	buf_init(&statement, STATEMENT_MAX);
	enum db_err err = blind_usage_statement(usage, &statement);
	if (!err)
		err = p256_verify_base64(public_key, buf_str(&statement), signature);
	buf_free(&statement);
	return err;
}

enum db_err blind_pad_frame(struct buf *out, size_t from)
{
	static const char spaces[BLIND_PAD_BYTES + 1] = "                                                                          "
	                                                "                                                      "
	                                                "                                                                          "
	                                                "                                                      ";
	size_t len = out->len - from, rest = len % BLIND_PAD_BYTES;
	if (out->failed || rest == 0 || !str_ends(buf_str(out), STR(FRAME_END)))
		return out->failed ? DB_E_LIMIT : DB_OK;
	out->len -= sizeof FRAME_END - 1;
	buf_append(out, spaces, BLIND_PAD_BYTES - rest);
	buf_append_str(out, STR(FRAME_END));
	return out->failed ? DB_E_LIMIT : DB_OK;
}
