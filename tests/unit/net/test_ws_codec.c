/* RFC 6455 frames: what is accepted, what is refused with which close code, however the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/ws_codec.h"

static const uint8_t test_mask[4] = {0x37, 0xfa, 0x21, 0x3d};

/* One frame built by hand, so that wrong ones can be made too. */
struct frame {
	uint8_t first; /* FIN, RSV and opcode */
	struct str payload;
};

static void put_frame(struct buf *out, uint8_t first, struct str payload, bool masked)
{
	uint8_t header[WS_HEADER_MAX];
	size_t len = ws_frame_header(WS_OP_TEXT, payload.len, masked ? test_mask : NULL, header);
	header[0] = first;
	buf_append(out, header, len);
	buf_append_str(out, payload);
	if (masked)
		ws_mask(out->at + out->len - payload.len, payload.len, test_mask, 0);
}

/* Feeds `wire` in pieces of `step` bytes and writes what came of it: "T5:hello P0: C1000:bye !1002". */
static void decode(enum ws_role role, size_t max, struct str wire, size_t step, struct buf *out)
{
	struct ws_decoder *decoder = ws_decoder_new(role, max);
	int close_code = 0;
	for (size_t from = 0; from < wire.len; from += step) {
		size_t piece_len = wire.len - from < step ? wire.len - from : step;
		char *piece = malloc(piece_len), *at = piece; /* of its own, so that ASan sees every stray access */
		memcpy(piece, wire.at + from, piece_len);
		struct ws_event event;
		int rc;
		while ((rc = ws_decoder_next(decoder, &at, &piece_len, &event, &close_code)) == 1) {
			static const char names[] = "?TB?????CPp";
			buf_printf(out, "%c", names[event.opcode]);
			if (event.opcode == WS_OP_CLOSE)
				buf_printf(out, "%d:", event.close_code);
			else
				buf_printf(out, "%zu:", event.len);
			buf_append(out, event.data, event.len < 40 ? event.len : 40);
			buf_append_byte(out, ' ');
		}
		if (rc == 0)
			assert_int_equal(piece_len, 0);
		free(piece);
		if (rc < 0) {
			buf_printf(out, "!%d", close_code);
			break;
		}
	}
	ws_decoder_free(decoder);
}

static void expect_max(enum ws_role role, size_t max, const struct buf *wire, const char *expected)
{
	static const size_t steps[] = {1, 2, 3, 7, 64, 1 << 24};
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		struct buf out;
		buf_init(&out, 1 << 20);
		decode(role, max, buf_str(wire), steps[i], &out);
		buf_append_byte(&out, '\0');
		assert_string_equal(out.at, expected);
		buf_free(&out);
	}
}

/* The frames as a client sends them to a server and, unmasked, as a server sends them to a client. */
static void expect_frames(const struct frame *frames, size_t count, const char *expected)
{
	for (int role = WS_SERVER; role <= WS_CLIENT; role++) {
		struct buf wire;
		buf_init(&wire, 1 << 24);
		for (size_t i = 0; i < count; i++)
			put_frame(&wire, frames[i].first, frames[i].payload, role == WS_SERVER);
		expect_max((enum ws_role)role, 1 << 20, &wire, expected);
		buf_free(&wire);
	}
}
#define EXPECT(expected, ...)                                                                                                  \
	expect_frames((const struct frame[]){__VA_ARGS__}, sizeof((const struct frame[]){__VA_ARGS__}) / sizeof(struct frame),     \
	              expected)

static void test_whole_messages_and_control_frames(void **state)
{
	(void)state;
	EXPECT("T5:hello ", {0x81, STR("hello")});
	EXPECT("B3:abc T0: B0: ", {0x82, STR("abc")}, {0x81, STR_NONE}, {0x82, STR_NONE});
	EXPECT("P0: p4:pong P3:abc ", {0x89, STR_NONE}, {0x8a, STR("pong")}, {0x89, STR("abc")});
	EXPECT("C1000:bye ", {0x88, STR("\x03\xe8"
	                                "bye")});
	EXPECT("C1005: ", {0x88, STR_NONE});
}

static void test_fragments_are_joined_with_control_frames_between(void **state)
{
	(void)state;
	EXPECT("T11:hello world ", {0x01, STR("hello")}, {0x00, STR(" wor")}, {0x80, STR("ld")});
	EXPECT("P2:hi T6:abcdef P0: B2:xy ", {0x01, STR("abc")}, {0x89, STR("hi")}, {0x00, STR_NONE}, {0x80, STR("def")},
	       {0x89, STR_NONE}, {0x02, STR_NONE}, {0x80, STR("xy")});
	EXPECT("T0: ", {0x01, STR_NONE}, {0x00, STR_NONE}, {0x80, STR_NONE});
}

static void test_nothing_is_read_after_a_close_frame(void **state)
{
	(void)state;
	EXPECT("C1001: ", {0x88, STR("\x03\xe9")}, {0x81, STR("late")}, {0xff, STR("garbage")});
}

static void test_broken_frames_are_refused_with_1002(void **state)
{
	(void)state;
	for (unsigned rsv = 0x10; rsv <= 0x70; rsv += 0x10)
		EXPECT("!1002", {(uint8_t)(0x81 | rsv), STR("x")});
	for (unsigned opcode = 0; opcode < 16; opcode++)
		if ((opcode >= 3 && opcode <= 7) || opcode >= 11)
			EXPECT("T1:a !1002", {0x81, STR("a")}, {(uint8_t)(0x80 | opcode), STR_NONE});
	EXPECT("!1002", {0x09, STR("fragmented ping")});
	EXPECT("!1002", {0x08, STR_NONE});
	EXPECT("!1002", {0x80, STR("continues nothing")});
	EXPECT("!1002", {0x00, STR("continues nothing")});
	EXPECT("!1002", {0x01, STR("a")}, {0x81, STR("a new message inside another")});
	EXPECT("!1002", {0x02, STR("a")}, {0x02, STR("a new message inside another")});
	static const char long_ping[126] = {0};
	EXPECT("!1002", {0x89, {long_ping, 126}});
}

static void test_a_control_frame_may_have_125_bytes(void **state)
{
	(void)state;
	char payload[125], expected[64];
	memset(payload, 'q', sizeof payload);
	snprintf(expected, sizeof expected, "P125:%.40s ", payload);
	EXPECT(expected, {0x89, {payload, sizeof payload}});
}

static void test_clients_must_mask_and_servers_must_not(void **state)
{
	(void)state;
	struct buf wire;
	buf_init(&wire, 100);
	put_frame(&wire, 0x81, STR("x"), false);
	expect_max(WS_SERVER, 100, &wire, "!1002");
	buf_clear(&wire);
	put_frame(&wire, 0x81, STR("x"), true);
	expect_max(WS_CLIENT, 100, &wire, "!1002");
	buf_free(&wire);
}

static void test_lengths_must_be_in_their_shortest_form_and_below_2_to_63(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {{"\x82\x7e\x00\x7d", 4},
	           {"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 10},
	           {"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x01", 10}};
	for (size_t i = 0; i < 3; i++) {
		struct buf wire;
		buf_init(&wire, 1000);
		buf_append(&wire, bad[i].bytes, bad[i].len);
		expect_max(WS_CLIENT, SIZE_MAX / 4, &wire, "!1002");
		buf_free(&wire);
	}
}

static void test_close_codes(void **state)
{
	(void)state;
	static const int good[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
	static const int bad[] = {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		char payload[2] = {(char)(good[i] >> 8), (char)good[i]}, expected[16];
		snprintf(expected, sizeof expected, "C%d: ", good[i]);
		EXPECT(expected, {0x88, {payload, 2}});
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char payload[2] = {(char)(bad[i] >> 8), (char)bad[i]};
		EXPECT("!1002", {0x88, {payload, 2}});
	}
	EXPECT("!1002", {0x88, STR("\x03")});
	EXPECT("!1007", {0x88, STR("\x03\xe8\xce\xba\xff")});
}

static void test_text_must_be_utf8_across_fragments(void **state)
{
	(void)state;
	EXPECT("T11:\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5 ", {0x81, STR("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5")});
	EXPECT("T5:a\xf0\x9f\x98\x80 ", {0x01, STR("a\xf0")}, {0x00, STR("\x9f")}, {0x00, STR("\x98")}, {0x80, STR("\x80")});
	EXPECT("!1007", {0x81, STR("\xce\xba\xed\xa0\x80")});           /* a surrogate */
	EXPECT("!1007", {0x81, STR("\xc0\xaf")});                       /* overlong */
	EXPECT("!1007", {0x81, STR("\xf4\x90\x80\x80")});               /* above U+10FFFF */
	EXPECT("!1007", {0x81, STR("cut \xe2\x82")});                   /* ends inside a character */
	EXPECT("!1007", {0x01, STR("cut \xe2\x82")}, {0x80, STR_NONE}); /* the same, seen at the last fragment */
	EXPECT("!1007", {0x01, STR("ok")}, {0x00, STR("\x80")}, {0x80, STR("never read")}); /* found before the end */
	EXPECT("B2:\xff\xfe ", {0x82, STR("\xff\xfe")});
}

static void test_messages_above_the_maximum_are_refused_with_1009_before_they_arrive(void **state)
{
	(void)state;
	struct buf wire;
	buf_init(&wire, 1000);
	put_frame(&wire, 0x81, STR("0123456789"), false);
	expect_max(WS_CLIENT, 10, &wire, "T10:0123456789 ");
	expect_max(WS_CLIENT, 9, &wire, "!1009");
	buf_clear(&wire);
	put_frame(&wire, 0x01, STR("01234"), false);
	put_frame(&wire, 0x89, STR("a ping does not count"), false);
	put_frame(&wire, 0x80, STR("56789"), false);
	expect_max(WS_CLIENT, 10, &wire, "P21:a ping does not count T10:0123456789 ");
	expect_max(WS_CLIENT, 9, &wire, "P21:a ping does not count !1009");
	buf_clear(&wire);
	buf_append(&wire, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10);
	expect_max(WS_CLIENT, 1 << 20, &wire, "!1009");
	buf_free(&wire);
}

static void test_sizes_at_the_edges_of_the_length_forms_pass_both_ways(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 124, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *payload = malloc(sizes[i] + 1);
		for (size_t j = 0; j < sizes[i]; j++)
			payload[j] = (char)('a' + j % 26);
		char expected[64];
		snprintf(expected, sizeof expected, "B%zu:%.*s ", sizes[i], (int)(sizes[i] < 40 ? sizes[i] : 40), payload);
		EXPECT(expected, {0x82, {payload, sizes[i]}});
		free(payload);
	}
}

static void test_a_whole_message_is_lent_from_the_bytes_given(void **state)
{
	(void)state;
	struct buf wire;
	buf_init(&wire, 1000);
	put_frame(&wire, 0x81, STR("first"), true);
	put_frame(&wire, 0x81, STR("second"), true);
	struct ws_decoder *decoder = ws_decoder_new(WS_SERVER, 100);
	char *at = wire.at;
	size_t len = wire.len;
	struct ws_event event;
	int code;
	assert_int_equal(ws_decoder_next(decoder, &at, &len, &event, &code), 1);
	assert_ptr_equal(event.data, wire.at + 6);
	assert_memory_equal(event.data, "first", 5);
	assert_true(ws_decoder_idle(decoder));
	assert_int_equal(ws_decoder_next(decoder, &at, &len, &event, &code), 1);
	assert_memory_equal(event.data, "second", 6);
	assert_int_equal(ws_decoder_next(decoder, &at, &len, &event, &code), 0);
	ws_decoder_free(decoder);
	buf_free(&wire);
}

static void test_a_decoder_holds_memory_only_while_something_is_incomplete(void **state)
{
	(void)state;
	struct buf wire;
	buf_init(&wire, 1000);
	put_frame(&wire, 0x81, STR("a message"), true);
	put_frame(&wire, 0x89, STR("a ping"), true);
	struct ws_decoder *decoder = ws_decoder_new(WS_SERVER, 100);
	struct ws_event event;
	int code, events = 0;
	for (size_t i = 0; i < wire.len; i++) {
		char *at = wire.at + i;
		size_t len = 1;
		while (ws_decoder_next(decoder, &at, &len, &event, &code) == 1)
			events++;
		assert_int_equal(ws_decoder_idle(decoder), i == 6 + 9 - 1 || i == wire.len - 1);
	}
	assert_int_equal(events, 2);
	ws_decoder_free(decoder);
	buf_free(&wire);
}

static void test_masking_from_any_offset_equals_masking_byte_by_byte(void **state)
{
	(void)state;
	for (size_t offset = 0; offset < 9; offset++)
		for (size_t len = 0; len < 40; len++) {
			char fast[40], slow[40];
			for (size_t i = 0; i < len; i++) {
				fast[i] = slow[i] = (char)(i * 7 + len);
				slow[i] = (char)((uint8_t)slow[i] ^ test_mask[(offset + i) % 4]);
			}
			ws_mask(fast, len, test_mask, offset);
			assert_memory_equal(fast, slow, len);
		}
}

static void test_the_accept_key_of_the_rfc_example(void **state)
{
	(void)state;
	char out[29];
	ws_accept_key(STR("dGhlIHNhbXBsZSBub25jZQ=="), out);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole_messages_and_control_frames),
	    cmocka_unit_test(test_fragments_are_joined_with_control_frames_between),
	    cmocka_unit_test(test_nothing_is_read_after_a_close_frame),
	    cmocka_unit_test(test_broken_frames_are_refused_with_1002),
	    cmocka_unit_test(test_a_control_frame_may_have_125_bytes),
	    cmocka_unit_test(test_clients_must_mask_and_servers_must_not),
	    cmocka_unit_test(test_lengths_must_be_in_their_shortest_form_and_below_2_to_63),
	    cmocka_unit_test(test_close_codes),
	    cmocka_unit_test(test_text_must_be_utf8_across_fragments),
	    cmocka_unit_test(test_messages_above_the_maximum_are_refused_with_1009_before_they_arrive),
	    cmocka_unit_test(test_sizes_at_the_edges_of_the_length_forms_pass_both_ways),
	    cmocka_unit_test(test_a_whole_message_is_lent_from_the_bytes_given),
	    cmocka_unit_test(test_a_decoder_holds_memory_only_while_something_is_incomplete),
	    cmocka_unit_test(test_masking_from_any_offset_equals_masking_byte_by_byte),
	    cmocka_unit_test(test_the_accept_key_of_the_rfc_example),
	};
	return cmocka_run_group_tests_name("ws_codec", tests, NULL, NULL);
}
