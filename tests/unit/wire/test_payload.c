/* EncryptedPayload and the chunk's fast path, against the specification's vectors and PyNaCl's. */
#include "wire_support.h"

#include "crypto/hash.h"
#include "wire/payload.h"

#define K_PUB STR("e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=")
#define E_PUB STR("D6poTtKIZ7l/Smot7l34zpdOdrcBjj8iocTPJnhXDyA=")

static struct box_keypair provider, request;
static struct box_shared shared;

static void make_keys(void)
{
	uint8_t secret[BOX_KEY_BYTES];
	memset(secret, 0x11, sizeof secret);
	box_keypair_from_secret(&provider, secret);
	memset(secret, 0x22, sizeof secret);
	box_keypair_from_secret(&request, secret);
	assert_int_equal(box_shared_derive(&shared, provider.public_key, request.secret_key), DB_OK);
}

static void keys_have_the_texts_of_the_specification(void **state)
{
	(void)state;
	make_keys();
	char text[WIRE_KEY_B64_LEN + 1];
	wire_key_encode(provider.public_key, text);
	assert_str(str_of(text), K_PUB);
	wire_key_encode(request.public_key, text);
	assert_str(str_of(text), E_PUB);
	uint8_t key[BOX_KEY_BYTES];
	assert_int_equal(wire_key_decode(K_PUB, key), DB_OK);
	assert_memory_equal(key, provider.public_key, sizeof key);
	assert_int_equal(wire_key_decode(STR("AAAA"), key), DB_E_INVALID);
	assert_int_equal(wire_key_decode(STR("e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxN="), key), DB_E_INVALID);
}

/* V2. */
static void the_boxes_of_the_specification_open(void **state)
{
	(void)state;
	make_keys();
	struct str body = STR("QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX/niXU58aRpfpFB3bzAhcazCU3dqE1ZeLkoYRWjmHsfWTxrMTIzBDYcsn+H/"
	                      "jajwCuKpdXvldWPtYJZPG8p9xchCqF6Xe/obmSexiAWGaNLKUi6BNx/JwiJtqSMU=");
	assert_int_equal(wire_payload_open(&shared, body, &out), DB_OK);
	assert_str(buf_str(&out),
	           STR("{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}],\"stream\":true}"));
	buf_clear(&out);
	struct str chunk = STR("YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ37yeWmCTtb84VY+tBjGHifHxQr81CLLA8O3cCyMPysoy/"
	                       "6vOHBi+kvr7lqlLRd930Z+Agqyx/8MmD5chrARfqD1Mq");
	assert_int_equal(wire_payload_open(&shared, chunk, &out), DB_OK);
	assert_str(buf_str(&out), STR("data: {\"choices\":[{\"delta\":{\"content\":\"pong\"}}]}\n\n"));
}

static struct str decoded(struct str base64)
{
	uint8_t *bytes = arena_alloc(arena, base64.len + 4);
	size_t len;
	assert_int_equal(base64_decode(base64, bytes, &len), DB_OK);
	return (struct str){(char *)bytes, len};
}

static void boxes_equal_those_of_pynacl(void **state)
{
	(void)state;
	make_keys();
	const json_val *golden = golden_json("boxes.json");
	struct json_iter it = json_iter(json_get(golden, "cases"));
	for (json_val *box; (box = json_next(&it, NULL));) {
		struct str plain = decoded(text_of(box, "plain")), nonce = decoded(text_of(box, "nonce"));
		struct str ciphertext = text_of(box, "ciphertext");
		uint8_t *sealed = arena_alloc(arena, plain.len + BOX_OVERHEAD);
		box_seal_with_nonce(&shared, (const uint8_t *)nonce.at, plain.at, plain.len, sealed);
		buf_clear(&out);
		wire_encode_chunk(STR("id"), K_PUB, sealed, plain.len + BOX_OVERHEAD, &out);
		struct wire_chunk chunk;
		assert_true(wire_chunk_peek(buf_str(&out), &chunk));
		assert_str(chunk.encrypted_data.ciphertext, ciphertext);
		buf_clear(&out);
		assert_int_equal(wire_payload_open(&shared, ciphertext, &out), DB_OK);
		assert_str(buf_str(&out), plain);
	}
}

static void a_large_box_equals_that_of_pynacl_and_opens(void **state)
{
	(void)state;
	make_keys();
	const json_val *large = json_get(golden_json("boxes.json"), "large");
	int64_t size;
	assert_true(json_as_i64(json_get(large, "size"), &size));
	uint8_t *plain = arena_alloc(arena, (size_t)size), *sealed = arena_alloc(arena, (size_t)size + BOX_OVERHEAD);
	for (size_t i = 0; i < (size_t)size; i++)
		plain[i] = (uint8_t)(i * 31 % 251);
	struct str nonce = decoded(text_of(large, "nonce"));
	box_seal_with_nonce(&shared, (const uint8_t *)nonce.at, plain, (size_t)size, sealed);
	assert_int_equal(wire_encode_chunk(STR("id"), K_PUB, sealed, (size_t)size + BOX_OVERHEAD, &out), DB_OK);
	struct wire_chunk chunk;
	assert_true(wire_chunk_peek(buf_str(&out), &chunk));
	char hex[SHA256_HEX_SIZE];
	sha256_hex(chunk.encrypted_data.ciphertext.at, chunk.encrypted_data.ciphertext.len, hex);
	assert_str(str_of(hex), text_of(large, "ciphertext_sha256"));
	struct buf opened;
	buf_init(&opened, (size_t)size + BOX_OVERHEAD + 2); /* base64 may round up by two */
	assert_int_equal(wire_payload_open(&shared, chunk.encrypted_data.ciphertext, &opened), DB_OK);
	assert_str(buf_str(&opened), ((struct str){(char *)plain, (size_t)size}));
	buf_free(&opened);
}

/* Every length around the slices in which a box is encoded. */
static void what_is_sealed_opens_at_every_length(void **state)
{
	(void)state;
	make_keys();
	char plain[2400];
	for (size_t i = 0; i < sizeof plain; i++)
		plain[i] = (char)(i * 7);
	for (size_t len = 0; len < sizeof plain; len += len < 1000 ? 1 : 37) {
		struct wire_chunk chunk;
		struct arena *messages = arena_new(0);
		struct wire_message message;
		buf_clear(&out);
		assert_int_equal(wire_seal_chunk(&shared, STR("req-1"), K_PUB, (struct str){plain, len}, &out), DB_OK);
		assert_true(wire_chunk_peek(buf_str(&out), &chunk));
		assert_int_equal(wire_decode(buf_str(&out), messages, &message, NULL), DB_OK);
		assert_int_equal(arena_used(messages), 0);
		struct buf opened;
		buf_init(&opened, 1u << 20);
		assert_int_equal(wire_payload_open(&shared, message.as.chunk.encrypted_data.ciphertext, &opened), DB_OK);
		assert_str(buf_str(&opened), (struct str){plain, len});
		buf_free(&opened);
		arena_free(messages);
	}
}

static void two_boxes_of_one_text_differ(void **state)
{
	(void)state;
	make_keys();
	wire_payload_seal(&shared, E_PUB, STR("same"), &out);
	struct str first = arena_str(arena, buf_str(&out));
	buf_clear(&out);
	wire_payload_seal(&shared, E_PUB, STR("same"), &out);
	assert_int_equal(out.len, first.len);
	assert_memory_not_equal(out.at, first.at, first.len);
}

static void any_flipped_bit_keeps_a_box_shut(void **state)
{
	(void)state;
	make_keys();
	struct str plain = STR("data: {}\n\n");
	uint8_t sealed[10 + BOX_OVERHEAD];
	box_seal(&shared, plain.at, plain.len, sealed);
	for (size_t bit = 0; bit < 8 * sizeof sealed; bit++) {
		char text[BASE64_ENCODED_LEN(sizeof sealed)];
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
		size_t len = base64_encode(sealed, sizeof sealed, text);
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(wire_payload_open(&shared, (struct str){text, len}, &out), DB_E_CRYPTO);
		assert_int_equal(out.len, 0);
	}
}

static void short_and_malformed_ciphertexts_are_refused(void **state)
{
	(void)state;
	make_keys();
	uint8_t zeros[BOX_OVERHEAD] = {0};
	for (size_t len = 0; len <= sizeof zeros; len++) {
		char text[BASE64_ENCODED_LEN(sizeof zeros)];
		struct str ciphertext = {text, base64_encode(zeros, len, text)};
		assert_int_equal(wire_payload_open(&shared, ciphertext, &out), DB_E_CRYPTO);
	}
	assert_int_equal(wire_payload_open(&shared, STR("AAA"), &out), DB_E_INVALID);
	struct buf untouched; /* has no memory yet: nothing may be computed from its address */
	buf_init(&untouched, 100);
	assert_int_equal(wire_payload_open(&shared, STR("AAA"), &untouched), DB_E_INVALID);
	assert_int_equal(wire_payload_open(&shared, STR("AAA*"), &out), DB_E_INVALID);
	assert_int_equal(out.len, 0);
	buf_append_c(&out, "kept");
	assert_int_equal(wire_payload_open(&shared, STR("AAAA"), &out), DB_E_CRYPTO);
	assert_str(buf_str(&out), STR("kept"));
}

static void a_foreign_sender_does_not_open(void **state)
{
	(void)state;
	make_keys();
	struct box_keypair stranger;
	struct box_shared foreign;
	box_keypair_new(&stranger);
	assert_int_equal(box_shared_derive(&foreign, request.public_key, stranger.secret_key), DB_OK);
	wire_seal_chunk(&foreign, STR("req-1"), K_PUB, STR("data: x\n\n"), &out);
	struct wire_chunk chunk;
	assert_true(wire_chunk_peek(buf_str(&out), &chunk));
	struct buf opened;
	buf_init(&opened, 4096);
	assert_int_equal(wire_payload_open(&shared, chunk.encrypted_data.ciphertext, &opened), DB_E_CRYPTO);
	buf_free(&opened);
}

static void a_full_buffer_is_an_error_and_nothing_is_cut_off(void **state)
{
	(void)state;
	make_keys();
	for (size_t max = 0; max < 300; max += 7) {
		struct buf small;
		buf_init(&small, max);
		enum db_err err = wire_seal_chunk(&shared, STR("req-1"), K_PUB, STR("data: {\"a\":1}\n\n"), &small);
		struct wire_chunk chunk;
		assert_int_equal(err == DB_OK, wire_chunk_peek(buf_str(&small), &chunk));
		buf_free(&small);
	}
	wire_payload_seal(&shared, E_PUB, STR("0123456789"), &out);
	struct buf tiny;
	buf_init(&tiny, 20);
	assert_int_equal(wire_payload_open(&shared, STR("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), &tiny), DB_E_LIMIT);
	buf_free(&tiny);
}

static void a_sealed_request_carries_its_extensions(void **state)
{
	(void)state;
	make_keys();
	struct wire_request head = {.request_id = STR("3f0e"), .has_credit = true, .credit = 0, .estimated_prompt_tokens = 7};
	struct wire_message message;
	assert_int_equal(wire_seal_request(&shared, &head, E_PUB, STR("{\"model\":\"demo\"}"), &out), DB_OK);
	struct str text = arena_str(arena, buf_str(&out));
	assert_int_equal(wire_decode(text, arena, &message, NULL), DB_OK);
	assert_int_equal(message.type, WIRE_REQUEST);
	const struct wire_request *request_read = &message.as.request;
	assert_str(request_read->request_id, STR("3f0e"));
	assert_true(request_read->has_credit && request_read->credit == 0);
	assert_int_equal(request_read->estimated_prompt_tokens, 7);
	assert_false(request_read->has_plain_body);
	assert_str(request_read->encrypted_body.sender_key, E_PUB);
	buf_clear(&out);
	assert_int_equal(wire_payload_open(&shared, request_read->encrypted_body.ciphertext, &out), DB_OK);
	assert_str(buf_str(&out), STR("{\"model\":\"demo\"}"));
}

static void an_unextended_request_is_the_reference_message(void **state)
{
	(void)state;
	make_keys();
	struct wire_request head = {.request_id = STR("3f0e")};
	wire_seal_request(&shared, &head, E_PUB, STR("{}"), &out);
	assert_true(str_starts(buf_str(&out), STR("{\"type\":\"inference_request\",\"request_id\":\"3f0e\",\"encrypted_body\":{"
	                                          "\"ephemeral_public_key\":\"D6poTtKIZ7l/Smot7l34zpdOdrcBjj8iocTPJnhXDyA=\","
	                                          "\"ciphertext\":\"")));
}

static void ids_from_the_peer_cannot_break_out_of_their_string(void **state)
{
	(void)state;
	make_keys();
	struct wire_message message;
	struct str id = STR("a\",\"data\":\"x\\\n");
	wire_seal_chunk(&shared, id, K_PUB, STR("data: x\n\n"), &out);
	struct wire_chunk chunk;
	assert_false(wire_chunk_peek(buf_str(&out), &chunk));
	assert_int_equal(wire_decode(buf_str(&out), arena, &message, NULL), DB_OK);
	assert_str(message.as.chunk.request_id, id);
	assert_int_equal(message.as.chunk.data.len, 0);
}

static void the_fast_path_takes_the_exact_form_only(void **state)
{
	(void)state;
	static const char *const others[] = {
	    "{\"type\":\"inference_response_chunk\",\"request_id\":\"r\",\"encrypted_data\":{\"ciphertext\":\"QQ==\","
	    "\"ephemeral_public_key\":\"k\"}}",
	    "{\"request_id\":\"r\",\"type\":\"inference_response_chunk\",\"encrypted_data\":{\"ephemeral_public_key\":\"k\","
	    "\"ciphertext\":\"QQ==\"}}",
	    "{ \"type\":\"inference_response_chunk\",\"request_id\":\"r\",\"encrypted_data\":{\"ephemeral_public_key\":\"k\","
	    "\"ciphertext\":\"QQ==\"}}",
	    "{\"type\":\"inference_response_chunk\",\"request_id\":\"r\",\"encrypted_data\":{\"ephemeral_public_key\":\"k\","
	    "\"ciphertext\":\"QQ==\"}} ",
	    "{\"type\":\"inference_response_chunk\",\"request_id\":\"r\",\"encrypted_data\":{\"ephemeral_public_key\":\"k\","
	    "\"ciphertext\":\"QQ==\",\"more\":\"x\"}}",
	    "{\"type\":\"inference_response_chunk\",\"request_id\":\"\\u0072\",\"encrypted_data\":{\"ephemeral_public_key\":\"k\","
	    "\"ciphertext\":\"QQ==\"}}",
	    "{\"type\":\"inference_response_chunk\",\"request_id\":\"r\",\"data\":\"\",\"encrypted_data\":{"
	    "\"ephemeral_public_key\":\"k\",\"ciphertext\":\"QQ==\"}}",
	};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		struct wire_chunk chunk;
		struct wire_message message;
		assert_false(wire_chunk_peek(str_of(others[i]), &chunk));
		assert_int_equal(wire_decode(str_of(others[i]), arena, &message, NULL), DB_OK);
		assert_int_equal(message.type, WIRE_CHUNK);
		assert_str(message.as.chunk.request_id, STR("r"));
		assert_str(message.as.chunk.encrypted_data.sender_key, STR("k"));
		assert_str(message.as.chunk.encrypted_data.ciphertext, STR("QQ=="));
	}
}

/* A byte that may not stand in a JSON string as it is must send every position of every field to the general path. */
static void the_fast_path_leaves_odd_bytes_to_the_general_one(void **state)
{
	(void)state;
	static const unsigned char odd[] = {0x00, 0x1f, '\n', '"', '\\', 0x80, 0xc3, 0xff};
	struct str good = STR("{\"type\":\"inference_response_chunk\",\"request_id\":\"0123456789abcdef01\",\"encrypted_data\":{"
	                      "\"ephemeral_public_key\":\"0123456789abcdef012\",\"ciphertext\":\"0123456789abcdef0123\"}}");
	struct wire_chunk chunk;
	assert_true(wire_chunk_peek(good, &chunk));
	for (size_t at = 0; at < good.len; at++) {
		for (size_t i = 0; i < sizeof odd; i++) {
			char *text = arena_cstr(arena, good);
			if (text[at] == (char)odd[i])
				continue;
			text[at] = (char)odd[i];
			assert_false(wire_chunk_peek((struct str){text, good.len}, &chunk));
		}
	}
	for (size_t len = 0; len < good.len; len++)
		assert_false(wire_chunk_peek(str_sub(good, 0, len), &chunk));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIRE_TEST(keys_have_the_texts_of_the_specification),
	    WIRE_TEST(the_boxes_of_the_specification_open),
	    WIRE_TEST(boxes_equal_those_of_pynacl),
	    WIRE_TEST(a_large_box_equals_that_of_pynacl_and_opens),
	    WIRE_TEST(what_is_sealed_opens_at_every_length),
	    WIRE_TEST(two_boxes_of_one_text_differ),
	    WIRE_TEST(any_flipped_bit_keeps_a_box_shut),
	    WIRE_TEST(short_and_malformed_ciphertexts_are_refused),
	    WIRE_TEST(a_foreign_sender_does_not_open),
	    WIRE_TEST(a_full_buffer_is_an_error_and_nothing_is_cut_off),
	    WIRE_TEST(a_sealed_request_carries_its_extensions),
	    WIRE_TEST(an_unextended_request_is_the_reference_message),
	    WIRE_TEST(ids_from_the_peer_cannot_break_out_of_their_string),
	    WIRE_TEST(the_fast_path_takes_the_exact_form_only),
	    WIRE_TEST(the_fast_path_leaves_odd_bytes_to_the_general_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
