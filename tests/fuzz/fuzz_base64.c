/* Any bytes as base64 and hex text: what decodes encodes to the same text. Any bytes encode to what decodes to them. */
#include <stdlib.h>

#include "core/encode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_decoding(struct str text)
{
	uint8_t *bytes = malloc(BASE64_DECODED_MAX(text.len) + 1), *exact = malloc(BASE64_DECODED_MAX(text.len) + 1);
	char *again = malloc(text.len + 4);
	size_t len;
	if (base64_decode(text, bytes, &len) == DB_OK) {
		check(base64_encode(bytes, len, again) == text.len && str_eq(text, (struct str){again, text.len}));
		check(base64_decode_exact(text, exact, len) == DB_OK && memcmp(exact, bytes, len) == 0);
	} else {
		for (size_t pad = 0; pad < 3; pad++)
			check(text.len / 4 * 3 < pad || base64_decode_exact(text, exact, text.len / 4 * 3 - pad) != DB_OK);
	}
	if (hex_decode(text, bytes, text.len / 2) == DB_OK)
		check(text.len % 2 == 0);
	free(bytes);
	free(exact);
	free(again);
}

static void check_encoding(const uint8_t *data, size_t size)
{
	char *text = malloc(BASE64_ENCODED_LEN(size) + 2 * size + 1);
	uint8_t *back = malloc(BASE64_DECODED_MAX(BASE64_ENCODED_LEN(size)) + 1);
	size_t len, text_len = base64_encode(data, size, text);
	check(text_len == BASE64_ENCODED_LEN(size));
	check(base64_decode((struct str){text, text_len}, back, &len) == DB_OK && len == size && memcmp(back, data, size) == 0);
	hex_encode(data, size, text);
	check(hex_decode(str_of(text), back, size) == DB_OK && memcmp(back, data, size) == 0);
	free(text);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t none = 0;
	check_decoding((struct str){(const char *)data, size});
	check_encoding(size ? data : &none, size);
	return 0;
}
