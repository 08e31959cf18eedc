#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/arena.h"
#include "core/buf.h"

/* --- buffers --- */

static void test_appends_in_order(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, 1000);
	assert_int_equal(buf_append_c(&buf, "one "), DB_OK);
	assert_int_equal(buf_append_str(&buf, STR("two ")), DB_OK);
	assert_int_equal(buf_append_byte(&buf, '3'), DB_OK);
	assert_int_equal(buf_printf(&buf, " %d %s", 4, "five"), DB_OK);
	assert_int_equal(buf_append_str(&buf, STR_NONE), DB_OK);
	assert_true(str_is(buf_str(&buf), "one two 3 4 five"));
	assert_false(buf.failed);
	buf_free(&buf);
}

static void test_maximum_is_exact_and_failure_is_sticky(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, 5);
	assert_int_equal(buf_append_c(&buf, "12345"), DB_OK);
	assert_int_equal(buf_append_byte(&buf, '6'), DB_E_LIMIT);
	assert_true(buf.failed);
	buf_consume(&buf, 3);
	assert_int_equal(buf_append_byte(&buf, '6'), DB_E_LIMIT); /* nothing goes in behind a hole */
	assert_true(str_is(buf_str(&buf), "45"));
	buf_clear(&buf);
	assert_false(buf.failed);
	assert_int_equal(buf_append_c(&buf, "12345"), DB_OK);
	buf_clear(&buf);
	assert_int_equal(buf_append(&buf, "", SIZE_MAX), DB_E_LIMIT);
	buf_free(&buf);
}

static void test_printf_fits_to_the_last_byte(void **state)
{
	(void)state;
	for (size_t max = 0; max < 12; max++) {
		struct buf buf;
		buf_init(&buf, max);
		enum db_err err = buf_printf(&buf, "%s", "0123456789");
		assert_int_equal(err, max >= 10 ? DB_OK : DB_E_LIMIT);
		assert_int_equal(buf.failed, max < 10);
		assert_true(str_is(buf_str(&buf), max >= 10 ? "0123456789" : ""));
		buf_free(&buf);
	}
}

static void test_reserve_does_not_fail_the_buffer(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, 10);
	assert_int_equal(buf_reserve(&buf, 11), DB_E_LIMIT);
	assert_false(buf.failed);
	assert_int_equal(buf_reserve(&buf, 10), DB_OK);
	assert_true(buf.cap >= 10);
	buf_free(&buf);
}

static void test_grows_to_a_large_content(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, SIZE_MAX);
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(buf_append(&buf, &i, sizeof i), DB_OK);
	for (uint32_t i = 0, seen; i < 100000; i++) {
		memcpy(&seen, buf.at + i * sizeof i, sizeof seen);
		assert_int_equal(seen, i);
	}
	buf_free(&buf);
}

static void test_consume_moves_the_rest_down(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, 100);
	buf_append_c(&buf, "headtail");
	buf_consume(&buf, 4);
	assert_true(str_is(buf_str(&buf), "tail"));
	buf_consume(&buf, 0);
	assert_true(str_is(buf_str(&buf), "tail"));
	buf_consume(&buf, 4);
	assert_int_equal(buf.len, 0);
	buf_free(&buf);
}

static void test_free_leaves_a_usable_buffer(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, 8);
	buf_append_c(&buf, "12345678");
	buf_append_c(&buf, "9");
	buf_free(&buf);
	assert_int_equal(buf.max, 8);
	assert_false(buf.failed);
	assert_int_equal(buf_append_c(&buf, "abc"), DB_OK);
	buf_free(&buf);
	buf_free(&buf);
}

static void test_clear_wipes_the_content(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, 100);
	buf_append_c(&buf, "secret");
	const char *at = buf.at;
	buf_clear(&buf);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(at[i], 0);
	buf_free(&buf);
}

/* --- arenas --- */

static void test_arena_memory_is_zeroed_and_aligned(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	for (size_t round = 0; round < 3; round++) {
		for (size_t size = 0; size < 2000; size += 37) {
			unsigned char *at = arena_alloc(arena, size);
			assert_non_null(at);
			assert_int_equal((uintptr_t)at % _Alignof(max_align_t), 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(at[i], 0);
			memset(at, 0xAA, size);
		}
		arena_reset(arena);
		assert_int_equal(arena_used(arena), 0);
	}
	arena_free(arena);
	arena_free(NULL);
}

static void test_arena_grants_do_not_overlap(void **state)
{
	(void)state;
	enum { COUNT = 500 };
	struct arena *arena = arena_new(0);
	unsigned char *at[COUNT];
	for (size_t i = 0; i < COUNT; i++) {
		at[i] = arena_alloc(arena, i * 13 % 900 + 1);
		memset(at[i], (int)(i % 251), i * 13 % 900 + 1);
	}
	for (size_t i = 0; i < COUNT; i++)
		for (size_t j = 0; j < i * 13 % 900 + 1; j++)
			assert_int_equal(at[i][j], i % 251);
	arena_free(arena);
}

static void test_arena_limit(void **state)
{
	(void)state;
	struct arena *arena = arena_new(1024);
	assert_null(arena_alloc(arena, 1025));
	assert_non_null(arena_alloc(arena, 1000));
	assert_null(arena_alloc(arena, 100));
	assert_non_null(arena_alloc(arena, 16));
	assert_null(arena_alloc(arena, 1));
	assert_null(arena_alloc(arena, SIZE_MAX));
	assert_true(arena_used(arena) <= 1024);
	arena_reset(arena);
	assert_non_null(arena_alloc(arena, 1024));
	arena_free(arena);
}

static void test_arena_copies(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct str copy = arena_str(arena, (struct str){"a\0b", 3});
	assert_int_equal(copy.len, 3);
	assert_memory_equal(copy.at, "a\0b", 4);
	struct str empty = arena_str(arena, STR_NONE);
	assert_non_null(empty.at);
	assert_int_equal(empty.len, 0);
	assert_string_equal(arena_cstr(arena, STR("text")), "text");
	assert_string_equal(arena_printf(arena, "%05d|%s", 42, "x"), "00042|x");
	arena_free(arena);
	struct arena *small = arena_new(16);
	assert_null(arena_str(small, STR("more than sixteen bytes")).at);
	assert_null(arena_cstr(small, STR("more than sixteen bytes")));
	assert_null(arena_printf(small, "%s", "more than sixteen bytes"));
	arena_free(small);
}

static void test_arena_reset_wipes_and_reuses_the_first_block(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	char *first = arena_cstr(arena, STR("prompt text"));
	for (size_t i = 0; i < 10; i++)
		memset(arena_alloc(arena, 100000), 1, 100000);
	arena_reset(arena);
	for (size_t i = 0; i < sizeof "prompt text"; i++)
		assert_int_equal(first[i], 0);
	assert_ptr_equal(arena_alloc(arena, 8), first);
	arena_free(arena);
}

/* Sanitizers end the program instead of refusing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REFUSES_HUGE_BLOCKS false
#else
#define REFUSES_HUGE_BLOCKS true
#endif

static void test_memory_that_cannot_be_had(void **state)
{
	(void)state;
	if (!REFUSES_HUGE_BLOCKS)
		skip();
	struct buf buf;
	buf_init(&buf, SIZE_MAX);
	buf_append_c(&buf, "kept");
	assert_int_equal(buf_reserve(&buf, SIZE_MAX / 4), DB_E_NOMEM);
	assert_false(buf.failed);
	assert_true(str_is(buf_str(&buf), "kept"));
	assert_int_equal(buf_append(&buf, "x", SIZE_MAX / 4), DB_E_NOMEM);
	assert_true(buf.failed);
	buf_free(&buf);
	struct arena *arena = arena_new(0);
	assert_null(arena_alloc(arena, SIZE_MAX / 4));
	assert_non_null(arena_alloc(arena, 100));
	arena_free(arena);
}

static void test_reset_gives_back_a_huge_first_block(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	memset(arena_alloc(arena, 8u << 20), 1, 8u << 20);
	arena_reset(arena);
	char *at = arena_alloc(arena, 64);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(at[i], 0);
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_appends_in_order),
	    cmocka_unit_test(test_maximum_is_exact_and_failure_is_sticky),
	    cmocka_unit_test(test_printf_fits_to_the_last_byte),
	    cmocka_unit_test(test_reserve_does_not_fail_the_buffer),
	    cmocka_unit_test(test_grows_to_a_large_content),
	    cmocka_unit_test(test_consume_moves_the_rest_down),
	    cmocka_unit_test(test_free_leaves_a_usable_buffer),
	    cmocka_unit_test(test_clear_wipes_the_content),
	    cmocka_unit_test(test_arena_memory_is_zeroed_and_aligned),
	    cmocka_unit_test(test_arena_grants_do_not_overlap),
	    cmocka_unit_test(test_arena_limit),
	    cmocka_unit_test(test_arena_copies),
	    cmocka_unit_test(test_arena_reset_wipes_and_reuses_the_first_block),
	    cmocka_unit_test(test_memory_that_cannot_be_had),
	    cmocka_unit_test(test_reset_gives_back_a_huge_first_block),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
