/* The hash over an answer and its signature: the specification's vector, and answers hashed by another implementation. */
#include "wire_support.h"

#include "wire/response_hash.h"

static struct response_hash hash;

/* V7. */
static void the_vector_of_the_specification(void **state)
{
	(void)state;
	char hex[SHA256_HEX_SIZE];
	response_hash_init(&hash, 1024);
	response_hash_add(&hash, STR("po"), STR_NONE);
	response_hash_add(&hash, STR("ng"), STR_NONE);
	assert_int_equal(response_hash_final(&hash, STR("req-1"), 1, hex), DB_OK);
	assert_string_equal(hex, "33f3681f95dc7ea53cbffbc7a95db996a5d73410ad5654445c2eadb01273d153");
	struct str key = STR("T7g1knoCJ58EkK789sD5UpJ+WLd7dhotr1VeAKwwxxw2Es+WyENUMCSJdvf50aFtbc2OEUnT0yu301DKr3iisA==");
	struct str given = STR("MEQCIHeAxTgwDNmKEqsG1Va5mplgdyn3UFbTj4wQt7KIjdk7AiAjwt9rTrJM/hrvNCCkd3HUE+6sSIWO5PKKrvjj9QWrNw==");
	assert_int_equal(p256_verify_base64(key, str_of(hex), given), DB_OK);

	struct p256_key *signing_key = golden_signing_key();
	struct wire_signer signer = wire_signer_of(signing_key);
	assert_int_equal(response_hash_sign(hex, &signer, &out), DB_OK);
	assert_int_equal(p256_verify_base64(key, str_of(hex), buf_str(&out)), DB_OK);
	assert_int_not_equal(p256_verify_base64(key, STR("other"), buf_str(&out)), DB_OK);
	p256_free(signing_key);
	response_hash_free(&hash);
}

static void frames_hash_as_the_other_implementation_does(void **state)
{
	(void)state;
	const json_val *golden = golden_json("response_hashes.json");
	struct str key = text_of(golden, "signing_key");
	struct json_iter it = json_iter(json_get(golden, "cases"));
	for (json_val *answer; (answer = json_next(&it, NULL));) {
		char hex[SHA256_HEX_SIZE];
		int64_t tokens;
		response_hash_init(&hash, 4096);
		struct json_iter frames = json_iter(json_get(answer, "frames"));
		for (json_val *frame; (frame = json_next(&frames, NULL));) {
			struct str text;
			assert_true(json_as_str(frame, &text));
			response_hash_add_frame(&hash, json_root(json_parse(text, arena, NULL)));
		}
		assert_true(json_as_i64(json_get(answer, "completion_tokens"), &tokens));
		assert_int_equal(response_hash_final(&hash, text_of(answer, "request_id"), tokens, hex), DB_OK);
		assert_str(str_of(hex), text_of(answer, "hash"));
		assert_int_equal(p256_verify_base64(key, str_of(hex), text_of(answer, "signature")), DB_OK);
		response_hash_free(&hash);
	}
}

static void a_tool_call_is_sorted_and_keeps_its_slashes(void **state)
{
	(void)state;
	response_hash_init(&hash, 4096);
	assert_int_equal(response_hash_add_tool_call(&hash, STR("{ \"b\": [ {\"y\":1,\"x\":\"a\\/b\"} ], \"a\": null }")), DB_OK);
	assert_str(buf_str(&hash.text), STR("\x1ftool_call:{\"a\":null,\"b\":[{\"x\":\"a/b\",\"y\":1}]}\x1f"));
	assert_int_equal(response_hash_add_tool_call(&hash, STR("{\"a\":")), DB_E_INVALID);
	response_hash_free(&hash);
	response_hash_init(&hash, 4096);
	assert_int_equal(response_hash_add_tool_call(&hash, STR("{\"a\":1,\"b\":2,\"a\":3}")), DB_OK);
	assert_str(buf_str(&hash.text), STR("\x1ftool_call:{\"a\":3,\"b\":2}\x1f"));
	response_hash_free(&hash);
}

static void pieces_and_frames_give_the_same_text(void **state)
{
	(void)state;
	struct response_hash frames;
	response_hash_init(&hash, 4096);
	response_hash_init(&frames, 4096);
	response_hash_add(&hash, STR("say"), STR("think"));
	response_hash_add_tool_call(&hash, STR("{\"id\":\"c\"}"));
	struct str frame = STR("{\"choices\":[{\"delta\":{\"reasoning_content\":\"think\",\"tool_calls\":[{\"id\":\"c\"}],"
	                       "\"content\":\"say\"}}]}");
	response_hash_add_frame(&frames, json_root(json_parse(frame, arena, NULL)));
	assert_str(buf_str(&hash.text), buf_str(&frames.text));
	response_hash_free(&hash);
	response_hash_free(&frames);
}

static void an_answer_past_the_bound_has_no_hash(void **state)
{
	(void)state;
	char hex[SHA256_HEX_SIZE];
	response_hash_init(&hash, 4);
	response_hash_add(&hash, STR("12345"), STR_NONE);
	assert_int_equal(response_hash_final(&hash, STR("r"), 1, hex), DB_E_LIMIT);
	response_hash_free(&hash);
}

static void frames_of_other_shapes_add_nothing(void **state)
{
	(void)state;
	static const char *const frames[] = {"[]", "{}", "{\"choices\":{}}", "{\"choices\":[1,null,{\"delta\":[]}]}",
	                                     "{\"choices\":[{\"delta\":{\"content\":1,\"tool_calls\":\"x\"}}]}"};
	response_hash_init(&hash, 4096);
	for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
		response_hash_add_frame(&hash, json_root(json_parse(str_of(frames[i]), arena, NULL)));
	assert_int_equal(hash.text.len, 0);
	response_hash_free(&hash);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIRE_TEST(the_vector_of_the_specification),
	    WIRE_TEST(frames_hash_as_the_other_implementation_does),
	    WIRE_TEST(a_tool_call_is_sorted_and_keeps_its_slashes),
	    WIRE_TEST(pieces_and_frames_give_the_same_text),
	    WIRE_TEST(an_answer_past_the_bound_has_no_hash),
	    WIRE_TEST(frames_of_other_shapes_add_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
