/* What every test of the wire needs: an arena and buffers per test, golden files, and the keys the golden files were made with.
 */
#ifndef TESTS_WIRE_SUPPORT_H
#define TESTS_WIRE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/encode.h"
#include "core/json.h"
#include "crypto/p256.h"
#include "crypto/secret.h"
#include "wire/message.h"

static struct arena *arena;
static struct buf out;

static inline int setup(void **state)
{
	(void)state;
	if (crypto_init())
		return -1;
	arena = arena_new(0);
	buf_init(&out, 64u << 20);
	return arena ? 0 : -1;
}

static inline int teardown(void **state)
{
	(void)state;
	arena_free(arena);
	buf_free(&out);
	return 0;
}

#define WIRE_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* A file of tests/interop/wire/, in the arena. */
static inline struct str golden_text(const char *name)
{
	char *path = arena_printf(arena, "%s/tests/interop/wire/%s", TEST_SOURCE_DIR, name);
	FILE *file = fopen(path, "rb");
	if (!file)
		fail_msg("cannot open %s", path);
	size_t room = 1u << 20;
	char *bytes = arena_alloc(arena, room);
	size_t len = fread(bytes, 1, room, file);
	fclose(file);
	assert_true(len > 0 && len < room);
	return (struct str){bytes, len};
}

static inline const json_val *golden_json(const char *name)
{
	struct error error;
	struct json_doc *doc = json_parse(golden_text(name), arena, &error);
	if (!doc)
		fail_msg("%s: %s", name, error.text);
	return json_root(doc);
}

static inline struct str text_of(const json_val *object, const char *key)
{
	struct str text;
	if (!json_as_str(json_get(object, key), &text))
		fail_msg("golden file lacks %s", key);
	return text;
}

static inline void assert_str(struct str got, struct str expected)
{
	if (!str_eq(got, expected))
		fail_msg("got      %.*s\nexpected %.*s", STR_ARG(got), STR_ARG(expected));
}

static inline struct p256_key *golden_signing_key(void)
{
	uint8_t scalar[P256_SCALAR_BYTES];
	struct str hex = STR("82734bfa2193d794ab7db7978df137700b0ed287a751338aaf4c64351821c21b");
	assert_int_equal(hex_decode(hex, scalar, sizeof scalar), DB_OK);
	struct p256_key *key = p256_from_scalar(scalar);
	assert_non_null(key);
	return key;
}

/* Replaces the first occurrence of a piece of text. */
static inline struct str replaced(struct str text, const char *from, const char *to)
{
	char *terminated = arena_cstr(arena, text), *at = strstr(terminated, from);
	if (!at)
		fail_msg("no \"%s\" to replace", from);
	*at = '\0';
	return str_of(arena_printf(arena, "%s%s%s", terminated, to, at + strlen(from)));
}

#endif
