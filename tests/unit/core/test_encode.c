#include "../vectors.h"

#include "core/utf8.h"
#include "core/version.h"

static void test_agrees_with_python(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("core_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "encodings"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		struct str hex = vector_str(one, "hex"), base64 = vector_str(one, "base64"), url = vector_str(one, "base64url");
		size_t len = hex.len / 2, decoded_len;
		uint8_t data[1000], decoded[1002];
		char text[2048];
		vector_hex(one, "hex", data, len);
		hex_encode(data, len, text);
		assert_true(str_is(hex, text));
		assert_int_equal(base64_encode(data, len, text), BASE64_ENCODED_LEN(len));
		assert_true(str_eq(base64, (struct str){text, base64.len}));
		assert_true(str_eq(url, (struct str){text, base64url_encode(data, len, text)}));
		assert_int_equal(base64url_decode(url, decoded, &decoded_len), DB_OK);
		assert_int_equal(decoded_len, len);
		assert_memory_equal(decoded, data, len);
		assert_int_equal(base64_decode(base64, decoded, &decoded_len), DB_OK);
		assert_int_equal(decoded_len, len);
		assert_memory_equal(decoded, data, len);
		assert_int_equal(base64_decode_exact(base64, decoded, len), DB_OK);
		assert_int_equal(base64_decode_exact(base64, decoded, len + 1), DB_E_INVALID);
		if (len > 0)
			assert_int_equal(base64_decode_exact(base64, decoded, len - 1), DB_E_INVALID);
	}
	assert_true(count > 20);
	json_free(doc);
}

static void test_base64_refuses_what_is_not_canonical(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "A",    "AA",       "AAA",      "AAAAA",    "AA=",    "A===",      "====",    "=AAA", "AA=A",
	    "A=AA", "AAA=AAAA", "AA==AAAA", "AAAA====", "AB==",   "AAB=",      "AAF=",    "AP==", "AAA-",
	    "AA_A", " AAA",     "AAA ",     "AA\nA",    "AAAA\n", "AAAA\nAAA", "\377AAA", "A.AA", "!!!!",
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		uint8_t out[16];
		size_t len = 99;
		assert_int_equal(base64_decode(str_of(bad[i]), out, &len), DB_E_INVALID);
		assert_int_equal(len, 0);
	}
	uint8_t out[3];
	size_t len;
	assert_int_equal(base64_decode((struct str){"AA\0A", 4}, out, &len), DB_E_INVALID);
}

static void test_base64url_refuses_what_is_not_canonical(void **state)
{
	(void)state;
	static const char *const bad[] = {"A", "AAAAA", "AA==", "AAA=", "AB", "AAB", "AA+A", "AA/A", "A A", "AAAA\n", "\377AAA"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		uint8_t out[16];
		size_t len = 99;
		assert_int_equal(base64url_decode(str_of(bad[i]), out, &len), DB_E_INVALID);
	}
}

/* Of all four-character texts over a spread of bytes, exactly those that encode something decode, and to that. */
static void test_base64_accepts_only_its_own_output(void **state)
{
	(void)state;
	static const char letters[] = "AQgwBPf4z/+=-_ \x80";
	size_t accepted = 0, count = sizeof letters - 1;
	for (size_t n = 0; n < count * count * count * count; n++) {
		char text[4] = {letters[n % count], letters[n / count % count], letters[n / count / count % count],
		                letters[n / count / count / count]};
		char again[8];
		uint8_t out[3];
		size_t len;
		if (base64_decode((struct str){text, 4}, out, &len))
			continue;
		accepted++;
		assert_int_equal(base64_encode(out, len, again), 4);
		assert_memory_equal(again, text, 4);
	}
	/* 11 letters of the alphabet; with one '=', the third has 4 zero low bits; with two, the second has. */
	size_t two_zero = 0, four_zero = 0;
	for (const char *values = "AQgwBPf4z/+"; *values; values++) {
		const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
		size_t value = (size_t)(strchr(alphabet, *values) - alphabet);
		two_zero += value % 4 == 0;
		four_zero += value % 16 == 0;
	}
	assert_int_equal(accepted, 11 * 11 * 11 * 11 + 11 * 11 * two_zero + 11 * four_zero);
}

static void test_hex(void **state)
{
	(void)state;
	uint8_t out[2] = {1, 2};
	assert_int_equal(hex_decode(STR("aBcD"), out, 2), DB_OK);
	assert_int_equal(out[0], 0xab);
	assert_int_equal(out[1], 0xcd);
	static const char *const bad[] = {"", "abc", "abcde", "abcdef", "abcg", "ab d", "0xab", "ab\377d"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(hex_decode(str_of(bad[i]), out, 2), DB_E_INVALID);
	assert_int_equal(hex_decode(STR(""), out, 0), DB_OK);
	assert_int_equal(hex_decode(STR("ab"), out, SIZE_MAX), DB_E_INVALID);
}

/* --- UTF-8 --- */

static size_t put_code(uint32_t code, char out[4])
{
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	for (size_t i = len - 1; i > 0; i--, code >>= 6)
		out[i] = (char)(0x80 | (code & 0x3f));
	out[0] = (char)((0xf00u >> len & 0xff) | code);
	return len;
}

static void test_every_character_is_valid_utf8(void **state)
{
	(void)state;
	char text[4];
	for (uint32_t code = 0; code < 0x120000; code++) {
		size_t len = put_code(code, text);
		bool character = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
		assert_int_equal(utf8_valid((struct str){text, len}), character);
		assert_int_equal(utf8_next((struct str){text, len}), character ? len : 0);
		for (size_t cut = 1; character && cut < len; cut++) {
			assert_false(utf8_valid((struct str){text, cut}));
			assert_int_equal(utf8_incomplete_tail((struct str){text, cut}), cut);
		}
		if (character)
			assert_int_equal(utf8_incomplete_tail((struct str){text, len}), 0);
	}
}

static void test_utf8_refuses_malformed_text(void **state)
{
	(void)state;
	static const char *const bad[] = {"\x80",
	                                  "\xbf",
	                                  "\xc0\x80",
	                                  "\xc1\xbf",
	                                  "\xe0\x80\x80",
	                                  "\xe0\x9f\xbf",
	                                  "\xf0\x80\x80\x80",
	                                  "\xf0\x8f\xbf\xbf",
	                                  "\xed\xa0\x80",
	                                  "\xf4\x90\x80\x80",
	                                  "\xf5\x80\x80\x80",
	                                  "\xff",
	                                  "\xfe",
	                                  "\xc3(",
	                                  "\xe2\x82(",
	                                  "plain text then \xe9 latin",
	                                  "12345678\xf8\x88\x80\x80\x80"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(utf8_valid(str_of(bad[i])));
	assert_true(utf8_valid(STR_NONE));
	assert_true(utf8_valid(STR("0123456789abcdef \xc3\xa9 0123456789abcdef \xe2\x82\xac")));
	assert_int_equal(utf8_next(STR_NONE), 0);
}

static void test_incomplete_tail_counts_only_an_unfinished_character(void **state)
{
	(void)state;
	assert_int_equal(utf8_incomplete_tail(STR_NONE), 0);
	assert_int_equal(utf8_incomplete_tail(STR("abc")), 0);
	assert_int_equal(utf8_incomplete_tail(STR("abc\xf0\x9f\x98")), 3);
	assert_int_equal(utf8_incomplete_tail(STR("abc\xf0\x9f\x98\x80")), 0);
	assert_int_equal(utf8_incomplete_tail(STR("\x80\x80\x80\x80")), 0);
	assert_int_equal(utf8_incomplete_tail(STR("\xc3\xa9\xa9")), 0);
}

/* --- versions --- */

static int sign(int n)
{
	return (n > 0) - (n < 0);
}

static void test_version_order(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		int order;
	} cases[] = {
	    {"0.6.17", "0.6.17", 0},
	    {"0.6.9", "0.6.17", -1},
	    {"0.10.0", "0.9.9", 1},
	    {"1", "1.0.0", 0},
	    {"1.0.1", "1", 1},
	    {"0.6.17-dev", "0.6.17", 0},
	    {"0.6.x", "0.6.0", 0},
	    {"0.6.1x9", "0.6.1", 0},
	    {"", "0", -1},
	    {"", "", 0},
	    {"0", "", 1},
	    {"v1", "0", 0},
	    {"1..2", "1.0.2", 0},
	    {"2.", "2", 0},
	    {"99999999999999999999999", "18446744073709551614", 1},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(sign(version_compare(str_of(cases[i].a), str_of(cases[i].b))), cases[i].order);
		assert_int_equal(sign(version_compare(str_of(cases[i].b), str_of(cases[i].a))), -cases[i].order);
	}
	assert_int_equal(version_compare(STR_NONE, STR("")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_agrees_with_python),
	    cmocka_unit_test(test_base64_refuses_what_is_not_canonical),
	    cmocka_unit_test(test_base64url_refuses_what_is_not_canonical),
	    cmocka_unit_test(test_base64_accepts_only_its_own_output),
	    cmocka_unit_test(test_hex),
	    cmocka_unit_test(test_every_character_is_valid_utf8),
	    cmocka_unit_test(test_utf8_refuses_malformed_text),
	    cmocka_unit_test(test_incomplete_tail_counts_only_an_unfinished_character),
	    cmocka_unit_test(test_version_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
