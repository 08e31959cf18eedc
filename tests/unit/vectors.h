/* Golden vectors for tests: JSON files under tests/interop/, written by the scripts beside them. */
#ifndef TESTS_UNIT_VECTORS_H
#define TESTS_UNIT_VECTORS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/encode.h"
#include "core/json.h"

/* The parsed file; every vector file is an object or an array. Free with json_free. */
static inline struct json_doc *vectors_load(const char *name)
{
	char path[512];
	(void)snprintf(path, sizeof path, "%s/tests/interop/%s", TEST_SOURCE_DIR, name);
	FILE *file = fopen(path, "rb");
	if (!file)
		fail_msg("cannot open %s", path);
	struct buf text;
	buf_init(&text, 64u << 20);
	size_t got;
	do {
		assert_int_equal(buf_reserve(&text, 65536), DB_OK);
		got = fread(text.at + text.len, 1, 65536, file);
		text.len += got;
	} while (got > 0);
	fclose(file);
	struct error error = {0};
	struct json_doc *doc = json_parse(buf_str(&text), NULL, &error);
	if (!doc)
		fail_msg("%s: %s", path, error.text);
	buf_free(&text);
	return doc;
}

static inline struct str vector_str(const json_val *vector, const char *key)
{
	struct str text = STR_NONE;
	if (!json_as_str(json_get(vector, key), &text))
		fail_msg("a vector has no text `%s`", key);
	return text;
}

/* A member in hex, of exactly `len` bytes. */
static inline void vector_hex(const json_val *vector, const char *key, void *out, size_t len)
{
	if (hex_decode(vector_str(vector, key), out, len))
		fail_msg("`%s` of a vector is not %zu bytes of hex", key, len);
}

/* A member in base64; free() the result. Never NULL. */
static inline uint8_t *vector_base64(const json_val *vector, const char *key, size_t *len)
{
	struct str text = vector_str(vector, key);
	uint8_t *bytes = malloc(BASE64_DECODED_MAX(text.len) + 1);
	assert_non_null(bytes);
	if (base64_decode(text, bytes, len))
		fail_msg("`%s` of a vector is not base64", key);
	return bytes;
}

#endif
