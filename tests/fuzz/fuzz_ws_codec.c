/* The frame decoder in both roles. Two properties on any bytes:
 * - how the bytes are cut into reads changes neither the events nor the verdict;
 * - messages that are encoded, in fragments with pings between, come out of a decoder as they were.
 * The first byte chooses the role and the property, the second seeds the cuts. */
#include <stdlib.h>

#include "net/ws_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_MESSAGE 4096

static void check(bool good)
{
	if (!good)
		abort();
}

static uint32_t cut_state;
static size_t next_cut(size_t bound)
{
	cut_state = cut_state * 1664525u + 1013904223u;
	return 1 + (cut_state >> 16) % bound;
}

/* Everything that came of `wire`, as bytes that can be compared. */
static void decode(enum ws_role role, struct str wire, size_t largest_cut, struct buf *out)
{
	struct ws_decoder *decoder = ws_decoder_new(role, MAX_MESSAGE);
	check(decoder != NULL);
	int rc = 0, close_code = 0;
	for (size_t from = 0; from < wire.len && rc >= 0;) {
		size_t cut = next_cut(largest_cut), len = cut < wire.len - from ? cut : wire.len - from;
		char *piece = malloc(len), *at = piece;
		check(piece != NULL);
		memcpy(piece, wire.at + from, len);
		from += len;
		struct ws_event event;
		while ((rc = ws_decoder_next(decoder, &at, &len, &event, &close_code)) == 1) {
			check(event.opcode != WS_OP_CONTINUATION && event.len <= MAX_MESSAGE);
			buf_printf(out, "%d %zu %d ", event.opcode, event.len, event.opcode == WS_OP_CLOSE ? event.close_code : 0);
			buf_append(out, event.data, event.len);
		}
		check(rc < 0 || len == 0);
		free(piece);
	}
	if (rc < 0) {
		check(close_code == 1002 || close_code == 1007 || close_code == 1009);
		buf_printf(out, "!%d", close_code);
	}
	ws_decoder_free(decoder);
}

static void compare_cuts(enum ws_role role, struct str wire)
{
	struct buf whole, pieces;
	buf_init(&whole, SIZE_MAX / 4);
	buf_init(&pieces, SIZE_MAX / 4);
	decode(role, wire, 1 << 20, &whole);
	size_t whole_len = wire.len;
	cut_state ^= (uint32_t)whole_len;
	decode(role, wire, 9, &pieces);
	check(str_eq(buf_str(&whole), buf_str(&pieces)));
	buf_free(&whole);
	buf_free(&pieces);
}

static void put_frame(struct buf *out, uint8_t first, struct str payload, const uint8_t *mask)
{
	uint8_t header[WS_HEADER_MAX];
	size_t len = ws_frame_header((enum ws_opcode)(first & 15), payload.len, mask, header);
	header[0] = first;
	buf_append(out, header, len);
	buf_append_str(out, payload);
	if (mask)
		ws_mask(out->at + out->len - payload.len, payload.len, mask, 0);
}

/* Sends `input` as one binary message in up to five fragments, a ping before each. */
static void round_trip(enum ws_role role, struct str input)
{
	struct buf wire, expected, seen;
	buf_init(&wire, SIZE_MAX / 4);
	buf_init(&expected, SIZE_MAX / 4);
	buf_init(&seen, SIZE_MAX / 4);
	uint8_t mask[4] = {(uint8_t)cut_state, (uint8_t)(cut_state >> 8), (uint8_t)(cut_state >> 16), (uint8_t)(cut_state >> 24)};
	const uint8_t *mask_or_null = role == WS_SERVER ? mask : NULL;
	size_t at = 0;
	for (int fragment = 0; fragment < 5; fragment++) {
		bool last = fragment == 4 || at == input.len;
		size_t len = last ? input.len - at : next_cut(input.len - at);
		put_frame(&wire, 0x89, STR("ping"), mask_or_null);
		buf_printf(&expected, "9 4 0 ping");
		put_frame(&wire, (uint8_t)((last ? 0x80 : 0) | (fragment ? 0 : WS_OP_BINARY)), str_sub(input, at, len), mask_or_null);
		at += len;
		if (last)
			break;
	}
	buf_printf(&expected, "2 %zu 0 ", input.len);
	buf_append_str(&expected, input);
	decode(role, buf_str(&wire), 50, &seen);
	check(str_eq(buf_str(&seen), buf_str(&expected)));
	buf_free(&wire);
	buf_free(&expected);
	buf_free(&seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	cut_state = data[1];
	struct str input = {(const char *)data + 2, size - 2};
	enum ws_role role = data[0] & 1 ? WS_CLIENT : WS_SERVER;
	if (data[0] & 2)
		compare_cuts(role, input);
	else if (input.len <= MAX_MESSAGE)
		round_trip(role, input);
	return 0;
}
