#include "net/ws_codec.h"

#include <stdlib.h>

#include <openssl/sha.h>

#include "core/encode.h"
#include "core/utf8.h"

enum {
	CLOSE_PROTOCOL_ERROR = 1002,
	CLOSE_NO_STATUS = 1005,
	CLOSE_BAD_TEXT = 1007,
	CLOSE_TOO_BIG = 1009,
	CLOSE_INTERNAL = 1011
};

#define CONTROL_MAX 125

struct ws_decoder {
	size_t max_message_bytes;
	struct buf message;  /* fragments and partial frames of the data message being received */
	size_t valid_len;    /* of message: this much is known to be good UTF-8 */
	struct buf control;  /* payload of a control frame that a read cut */
	uint64_t frame_done; /* payload bytes of the current frame taken so far */
	uint64_t frame_len;
	uint8_t header[WS_HEADER_MAX];
	uint8_t header_len;
	uint8_t mask_at;        /* offset of the mask in header */
	uint8_t message_opcode; /* WS_OP_TEXT or WS_OP_BINARY while a message is being received, else 0 */
	uint16_t failed_with;   /* close code after an error: nothing more is decoded */
	bool in_payload : 1, client : 1, closed : 1;
	bool delivered_message : 1, delivered_control : 1; /* what the last event lent out */
};

struct ws_decoder *ws_decoder_new(enum ws_role role, size_t max_message_bytes)
{
	struct ws_decoder *decoder = calloc(1, sizeof *decoder);
	if (!decoder)
		return NULL;
	decoder->client = role == WS_CLIENT;
	decoder->max_message_bytes = max_message_bytes;
	buf_init(&decoder->message, max_message_bytes);
	buf_init(&decoder->control, CONTROL_MAX);
	return decoder;
}

static void release_delivered(struct ws_decoder *decoder)
{
	if (decoder->delivered_message)
		buf_free(&decoder->message);
	if (decoder->delivered_control)
		buf_free(&decoder->control);
	decoder->delivered_message = decoder->delivered_control = false;
}

void ws_decoder_free(struct ws_decoder *decoder)
{
	if (!decoder)
		return;
	buf_free(&decoder->message);
	buf_free(&decoder->control);
	free(decoder);
}

bool ws_decoder_idle(const struct ws_decoder *decoder)
{
	return !decoder->header_len && !decoder->message_opcode && !decoder->message.at && !decoder->control.at;
}

void ws_mask(char *data, size_t len, const uint8_t mask[4], size_t offset)
{
	uint8_t key[8];
	for (size_t i = 0; i < sizeof key; i++)
		key[i] = mask[(offset + i) & 3];
	uint64_t key_word, word;
	memcpy(&key_word, key, sizeof key_word);
	size_t i = 0;
	for (; i + sizeof word <= len; i += sizeof word) {
		memcpy(&word, data + i, sizeof word);
		word ^= key_word;
		memcpy(data + i, &word, sizeof word);
	}
	for (; i < len; i++)
		data[i] = (char)((uint8_t)data[i] ^ key[i & 7]);
}

/* --- frame headers --- */

static bool is_control(uint8_t opcode)
{
	return opcode & 8;
}

static uint8_t frame_opcode(const struct ws_decoder *decoder)
{
	return decoder->header[0] & 0x0f;
}

static bool frame_final(const struct ws_decoder *decoder)
{
	return decoder->header[0] & 0x80;
}

/* How long a header is, as far as the bytes at hand tell. */
static size_t header_needs(const uint8_t *header, size_t have)
{
	if (have < 2)
		return 2;
	uint8_t len7 = header[1] & 0x7f;
	return 2u + (len7 == 127 ? 8 : len7 == 126 ? 2 : 0) + (header[1] & 0x80 ? 4 : 0);
}

static bool take_header(struct ws_decoder *decoder, char **data, size_t *len)
{
	size_t need;
	while (decoder->header_len < (need = header_needs(decoder->header, decoder->header_len))) {
		size_t take = need - decoder->header_len;
		if (take > *len)
			take = *len;
		if (!take)
			return false;
		memcpy(decoder->header + decoder->header_len, *data, take);
		decoder->header_len = (uint8_t)(decoder->header_len + take);
		*data += take;
		*len -= take;
	}
	return true;
}

static uint64_t big_endian(const uint8_t *bytes, size_t count)
{
	uint64_t value = 0;
	for (size_t i = 0; i < count; i++)
		value = value << 8 | bytes[i];
	return value;
}

/* The length in its shortest form only (RFC 6455 5.2). */
static bool parse_length(const uint8_t *header, uint64_t *out)
{
	*out = header[1] & 0x7f;
	if (*out == 126) {
		*out = big_endian(header + 2, 2);
		return *out > 125;
	}
	if (*out == 127) {
		*out = big_endian(header + 2, 8);
		return *out > 0xffff && *out <= INT64_MAX;
	}
	return true;
}

/* 0, or the close code for what is wrong with the header. */
static int start_frame(struct ws_decoder *decoder)
{
	uint8_t opcode = frame_opcode(decoder);
	bool masked = decoder->header[1] & 0x80;
	if (decoder->header[0] & 0x70 || masked == decoder->client || !parse_length(decoder->header, &decoder->frame_len))
		return CLOSE_PROTOCOL_ERROR;
	decoder->frame_done = 0;
	decoder->mask_at = (uint8_t)(decoder->header_len - 4);
	decoder->in_payload = true;

	if (is_control(opcode))
		return opcode > WS_OP_PONG || !frame_final(decoder) || decoder->frame_len > CONTROL_MAX ? CLOSE_PROTOCOL_ERROR : 0;
	if (opcode > WS_OP_BINARY || (opcode == WS_OP_CONTINUATION) != (decoder->message_opcode != 0))
		return CLOSE_PROTOCOL_ERROR;
	if (opcode != WS_OP_CONTINUATION) {
		decoder->message_opcode = opcode;
		decoder->valid_len = 0;
	}
	return decoder->frame_len > decoder->max_message_bytes - decoder->message.len ? CLOSE_TOO_BIG : 0;
}

static void end_frame(struct ws_decoder *decoder)
{
	decoder->in_payload = false;
	decoder->header_len = 0;
}

/* --- payloads --- */

/* Takes what is there of the frame's payload, unmasked in place. */
static struct str take_payload(struct ws_decoder *decoder, char **data, size_t *len)
{
	uint64_t missing = decoder->frame_len - decoder->frame_done;
	size_t take = missing < *len ? (size_t)missing : *len;
	char *payload = *data;
	if (!decoder->client)
		ws_mask(payload, take, decoder->header + decoder->mask_at, (size_t)(decoder->frame_done & 3));
	decoder->frame_done += take;
	*data += take;
	*len -= take;
	return (struct str){payload, take};
}

static bool known_close_code(int code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static int check_close(struct ws_decoder *decoder, struct ws_event *event)
{
	decoder->closed = true;
	event->close_code = CLOSE_NO_STATUS;
	if (!event->len)
		return 0;
	if (event->len == 1)
		return CLOSE_PROTOCOL_ERROR;
	event->close_code = (int)big_endian((const uint8_t *)event->data, 2);
	event->data += 2;
	event->len -= 2;
	if (!known_close_code(event->close_code))
		return CLOSE_PROTOCOL_ERROR;
	return utf8_valid((struct str){event->data, event->len}) ? 0 : CLOSE_BAD_TEXT;
}

/* Sets *whole when *event is ready. The result is 0 or a close code, here and in take_data. */
static int take_control(struct ws_decoder *decoder, char **data, size_t *len, struct ws_event *event, bool *whole)
{
	bool cut_before = decoder->frame_done > 0;
	char *payload = *data;
	struct str part = take_payload(decoder, data, len);
	bool ends = decoder->frame_done == decoder->frame_len;
	if (cut_before || !ends) {
		if (buf_append_str(&decoder->control, part) != DB_OK)
			return CLOSE_INTERNAL;
		payload = decoder->control.at;
		decoder->delivered_control = ends;
	}
	if (!ends)
		return 0;
	*whole = true;
	*event = (struct ws_event){.opcode = frame_opcode(decoder), .data = payload, .len = (size_t)decoder->frame_len};
	end_frame(decoder);
	return event->opcode == WS_OP_CLOSE ? check_close(decoder, event) : 0;
}

/* Checks the text collected so far up to a character that is cut, or all of it when it is complete. */
static bool text_stays_valid(struct ws_decoder *decoder, bool complete)
{
	if (decoder->message_opcode != WS_OP_TEXT || !decoder->message.len)
		return true;
	struct str fresh = {decoder->message.at + decoder->valid_len, decoder->message.len - decoder->valid_len};
	if (!complete)
		fresh.len -= utf8_incomplete_tail(fresh);
	decoder->valid_len += fresh.len;
	return utf8_valid(fresh);
}

static int take_data(struct ws_decoder *decoder, char **data, size_t *len, struct ws_event *event, bool *whole)
{
	bool starts = !decoder->message.len && !decoder->frame_done;
	char *payload = *data;
	struct str part = take_payload(decoder, data, len);
	bool frame_ends = decoder->frame_done == decoder->frame_len;
	bool message_ends = frame_ends && frame_final(decoder);

	*event = (struct ws_event){.opcode = decoder->message_opcode, .data = payload, .len = part.len};
	if (!(starts && message_ends)) {
		if (buf_append(&decoder->message, part.at, part.len) != DB_OK)
			return CLOSE_INTERNAL;
		if (!text_stays_valid(decoder, message_ends))
			return CLOSE_BAD_TEXT;
		event->data = decoder->message.at;
		event->len = decoder->message.len;
		decoder->delivered_message = message_ends;
	} else if (decoder->message_opcode == WS_OP_TEXT && !utf8_valid(part)) {
		return CLOSE_BAD_TEXT;
	}
	if (frame_ends)
		end_frame(decoder);
	if (message_ends)
		decoder->message_opcode = 0;
	*whole = message_ends;
	return 0;
}

int ws_decoder_next(struct ws_decoder *decoder, char **data, size_t *len, struct ws_event *event, int *close_code)
{
	release_delivered(decoder);
	int wrong = decoder->failed_with;
	bool whole = false;
	while (!wrong && !whole && !decoder->closed) {
		if (!decoder->in_payload) {
			if (!take_header(decoder, data, len))
				break;
			wrong = start_frame(decoder);
		} else if (is_control(frame_opcode(decoder))) {
			wrong = take_control(decoder, data, len, event, &whole);
		} else {
			wrong = take_data(decoder, data, len, event, &whole);
		}
		if (decoder->in_payload && !*len && decoder->frame_done < decoder->frame_len)
			break;
	}
	if (wrong) {
		decoder->failed_with = (uint16_t)wrong;
		*close_code = wrong;
		return -1;
	}
	if (whole)
		return 1;
	if (decoder->closed) { /* nothing counts after a close frame */
		*data += *len;
		*len = 0;
	}
	return 0;
}

/* --- writing --- */

size_t ws_frame_header(enum ws_opcode opcode, size_t len, const uint8_t *mask_or_null, uint8_t out[WS_HEADER_MAX])
{
	size_t at = 2;
	size_t len_bytes = len <= 125 ? 0 : len <= 0xffff ? 2 : 8;
	out[0] = (uint8_t)(0x80 | opcode);
	out[1] = (uint8_t)(len_bytes == 0 ? len : len_bytes == 2 ? 126 : 127);
	for (size_t i = len_bytes; i-- > 0;)
		out[at++] = (uint8_t)((uint64_t)len >> (8 * i));
	if (mask_or_null) {
		out[1] |= 0x80;
		memcpy(out + at, mask_or_null, 4);
		at += 4;
	}
	return at;
}

void ws_accept_key(struct str key, char out[29])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[128];
	uint8_t digest[SHA_DIGEST_LENGTH];
	size_t key_len = key.len <= sizeof text - sizeof guid ? key.len : sizeof text - sizeof guid;
	memcpy(text, key.at, key_len);
	memcpy(text + key_len, guid, sizeof guid - 1);
	SHA1((const unsigned char *)text, key_len + sizeof guid - 1, digest);
	out[base64_encode(digest, sizeof digest, out)] = '\0';
}
