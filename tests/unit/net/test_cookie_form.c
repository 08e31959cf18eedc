#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/cookie.h"
#include "net/form.h"

/* --- cookies --- */

static void test_a_cookie_is_found_among_others(void **state)
{
	(void)state;
	static const struct {
		const char *header, *value;
		size_t count;
	} cases[] = {
	    {"session=abc", "abc", 1},
	    {"a=b; session=abc; c=d", "abc", 1},
	    {"a=b;session=abc", "abc", 1},
	    {" session=abc ", "abc", 1},
	    {"session=\"abc\"", "abc", 1},
	    {"session=a=b", "a=b", 1},
	    {"session=", "", 1},
	    {"session=abc; session=abd", "abc", 2},
	    {"xsession=abc; sessionx=abc; Session=abc", "", 0},
	    {"session", "", 0},
	    {"session=a b", "", 0},
	    {"session=a,b", "", 0},
	    {"session=a\\b", "", 0},
	    {"session=\"a", "", 0},
	    {"=session; ;;; =", "", 0},
	    {"", "", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct str value;
		assert_int_equal(cookie_find(str_of(cases[i].header), STR("session"), &value), cases[i].count);
		assert_true(str_is(value, cases[i].value));
	}
}

static void test_a_set_cookie_says_where_the_cookie_may_go(void **state)
{
	(void)state;
	struct buf out;
	buf_init(&out, 1024);
	cookie_write(&out, &(struct cookie_options){
	                       .name = "__Host-session", .path = "/", .value = STR("abc"), .max_age_s = 60, .secure = true});
	assert_true(str_is(buf_str(&out), "__Host-session=abc; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60"));
	buf_clear(&out);
	cookie_write(&out, &(struct cookie_options){.name = "s", .path = "/", .value = STR_NONE, .max_age_s = 0, .strict = true});
	assert_true(str_is(buf_str(&out), "s=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"));
	buf_clear(&out);
	cookie_write(&out, &(struct cookie_options){.name = "s", .path = "/", .value = STR("v"), .max_age_s = -1});
	assert_true(str_is(buf_str(&out), "s=v; Path=/; HttpOnly; SameSite=Lax"));
	buf_free(&out);
}

/* --- forms --- */

static void test_a_field_is_decoded(void **state)
{
	(void)state;
	static const struct {
		const char *form, *value;
		enum db_err err;
	} cases[] = {
	    {"a=1&b=2", "2", DB_OK},
	    {"b=x+y%20z%2B", "x y z+", DB_OK},
	    {"b=%C3%A9", "\xc3\xa9", DB_OK},
	    {"%62=7", "7", DB_OK},
	    {"b=", "", DB_OK},
	    {"b", "", DB_OK},
	    {"a=%ZZ&b=1", "1", DB_OK},
	    {"b=1&b=2", "", DB_E_INVALID},
	    {"b=%", "", DB_E_INVALID},
	    {"b=%4", "", DB_E_INVALID},
	    {"b=%zz", "", DB_E_INVALID},
	    {"b=%00", "", DB_E_INVALID},
	    {"b=%1b", "", DB_E_INVALID},
	    {"b=%ff", "", DB_E_INVALID},
	    {"a=1", "", DB_E_NOT_FOUND},
	    {"", "", DB_E_NOT_FOUND},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena *arena = arena_new(0);
		struct str value;
		assert_int_equal(form_get(str_of(cases[i].form), "b", arena, &value), cases[i].err);
		if (!cases[i].err)
			assert_true(str_is(value, cases[i].value));
		arena_free(arena);
	}
}

static void test_what_is_put_comes_back(void **state)
{
	(void)state;
	char all[128];
	size_t len = 0;
	for (char c = 0x20; c < 0x7f; c++)
		all[len++] = c;
	struct buf form;
	struct arena *arena = arena_new(0);
	struct str value;
	buf_init(&form, 4096);
	form_put(&form, "first", STR("a&b=c"));
	form_put(&form, "second", (struct str){all, len});
	assert_int_equal(form_get(buf_str(&form), "second", arena, &value), DB_OK);
	assert_true(str_eq(value, (struct str){all, len}));
	assert_int_equal(form_get(buf_str(&form), "first", arena, &value), DB_OK);
	assert_true(str_is(value, "a&b=c"));
	buf_clear(&form);
	buf_append_c(&form, "https://id.example/auth?");
	form_put(&form, "a", STR("b"));
	form_put(&form, "c", STR("d"));
	assert_true(str_is(buf_str(&form), "https://id.example/auth?a=b&c=d"));
	buf_free(&form);
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_cookie_is_found_among_others),
	    cmocka_unit_test(test_a_set_cookie_says_where_the_cookie_may_go),
	    cmocka_unit_test(test_a_field_is_decoded),
	    cmocka_unit_test(test_what_is_put_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
