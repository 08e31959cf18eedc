#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"
#include "core/utf8.h"

/* --- errors --- */

static void test_error_set_returns_the_code_and_fills_the_sentence(void **state)
{
	(void)state;
	struct error error;
	assert_int_equal(error_set(&error, DB_E_RANGE, "Port %d is too large.", 70000), DB_E_RANGE);
	assert_int_equal(error.code, DB_E_RANGE);
	assert_string_equal(error.text, "Port 70000 is too large.");
	assert_int_equal(error_set(NULL, DB_E_IO, "nobody asks"), DB_E_IO);
}

static void test_a_long_sentence_is_cut_between_characters(void **state)
{
	(void)state;
	static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
	for (size_t i = 0; i < 4; i++)
		for (size_t shift = 0; shift < 4; shift++) {
			char text[1000];
			size_t len = shift;
			memset(text, 'a', len);
			for (; len < 900; len += strlen(characters[i]))
				memcpy(text + len, characters[i], strlen(characters[i]) + 1);
			struct error error;
			error_set(&error, DB_E_INVALID, "%s", text);
			size_t kept = strlen(error.text);
			assert_true(kept <= sizeof error.text - 1 && kept >= sizeof error.text - 4);
			assert_memory_equal(error.text, text, kept);
			assert_true(utf8_valid(str_of(error.text)));
		}
}

static void test_names_are_distinct_and_stable(void **state)
{
	(void)state;
	for (enum db_err a = DB_OK; a <= DB_E_INTERNAL; a++) {
		assert_true(strlen(error_name(a)) > 1);
		for (enum db_err b = DB_OK; b < a; b++)
			assert_string_not_equal(error_name(a), error_name(b));
	}
	assert_string_equal(error_name(DB_E_NOT_FOUND), "not_found");
	assert_string_equal(error_name((enum db_err)999), "unknown");
}

/* --- logging: standard error is sent into a pipe or file while a test runs --- */

static int real_stderr;
static FILE *sink;

static void capture(void)
{
	sink = tmpfile();
	assert_non_null(sink);
	real_stderr = dup(STDERR_FILENO);
	assert_true(dup2(fileno(sink), STDERR_FILENO) >= 0);
}

/* What was logged since capture(). */
static size_t captured(char *out, size_t size)
{
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	rewind(sink);
	size_t len = fread(out, 1, size - 1, sink);
	out[len] = '\0';
	fclose(sink);
	return len;
}

static void test_a_line_has_time_level_event_and_fields(void **state)
{
	(void)state;
	char line[512];
	capture();
	log_info("provider.registered", "id=%s models=%d", "p1", 2);
	captured(line, sizeof line);
	assert_string_equal(line + 24, " info provider.registered id=p1 models=2\n");
	int64_t us;
	assert_int_equal(clock_parse_rfc3339((struct str){line, 24}, &us), DB_OK);
	assert_true(us > clock_wall_us() - 60 * 1000000 && us <= clock_wall_us());
	assert_int_equal(line[19], '.');
}

static void test_lines_below_the_level_are_not_written(void **state)
{
	(void)state;
	static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF};
	char text[2048];
	for (size_t i = 0; i < 5; i++) {
		capture();
		log_set_level(levels[i]);
		log_debug("e", NULL);
		log_info("e", NULL);
		log_warn("e", NULL);
		log_error("e", NULL);
		log_write(LOG_OFF, "e", NULL);
		captured(text, sizeof text);
		log_set_level(LOG_INFO);
		size_t lines = 0;
		for (const char *at = text; (at = strchr(at, '\n')); at++)
			lines++;
		assert_int_equal(lines, 4 - i);
	}
}

static void test_control_characters_cannot_forge_a_line(void **state)
{
	(void)state;
	char text[512];
	capture();
	log_warn("user\nname", "value=%s", "a\nb\r\x1b[31m\x7f\tc \xc3\xa9");
	size_t len = captured(text, sizeof text);
	assert_ptr_equal(strchr(text, '\n'), text + len - 1);
	assert_non_null(strstr(text, "user\\x0aname value=a\\x0ab\\x0d\\x1b[31m\\x7f\\x09c \xc3\xa9\n"));
}

static void test_a_huge_line_is_cut_but_ends(void **state)
{
	(void)state;
	static char text[20000], long_text[10000];
	memset(long_text, 'x', sizeof long_text - 1);
	capture();
	log_warn("big", "text=%s", long_text);
	memset(long_text, '\n', sizeof long_text - 1); /* escapes make it four times as long */
	log_warn("big", "text=%s", long_text);
	size_t len = captured(text, sizeof text);
	assert_int_equal(len, 2 * 4096);
	assert_int_equal(text[4095], '\n');
	assert_int_equal(text[8191], '\n');
}

static void test_logging_keeps_errno(void **state)
{
	(void)state;
	char text[256];
	capture();
	errno = EBADF;
	log_warn("e", "x=%d", 1);
	assert_int_equal(errno, EBADF);
	captured(text, sizeof text);
}

static void *log_many(void *letter)
{
	char field[200];
	memset(field, *(const char *)letter, sizeof field - 1);
	field[sizeof field - 1] = '\0';
	for (int i = 0; i < 300; i++)
		log_info("thread", "%s", field);
	return NULL;
}

static void test_lines_of_threads_never_mix(void **state)
{
	(void)state;
	static char text[1u << 20];
	static const char letters[] = "abcd";
	pthread_t threads[4];
	capture();
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, log_many, (void *)(uintptr_t)&letters[i]), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	captured(text, sizeof text);
	size_t lines = 0;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
		const char *field = end - 199;
		assert_true(field > line && field[-1] == ' ');
		for (size_t i = 0; i < 199; i++)
			assert_int_equal(field[i], field[0]);
	}
	assert_int_equal(lines, 1200);
}

static void test_level_names(void **state)
{
	(void)state;
	enum log_level level = LOG_OFF;
	assert_true(log_level_parse("debug", &level) && level == LOG_DEBUG);
	assert_true(log_level_parse("off", &level) && level == LOG_OFF);
	assert_false(log_level_parse("Debug", &level));
	assert_false(log_level_parse("", &level));
	assert_false(log_level_parse(NULL, &level));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_error_set_returns_the_code_and_fills_the_sentence),
	    cmocka_unit_test(test_a_long_sentence_is_cut_between_characters),
	    cmocka_unit_test(test_names_are_distinct_and_stable),
	    cmocka_unit_test(test_a_line_has_time_level_event_and_fields),
	    cmocka_unit_test(test_lines_below_the_level_are_not_written),
	    cmocka_unit_test(test_control_characters_cannot_forge_a_line),
	    cmocka_unit_test(test_a_huge_line_is_cut_but_ends),
	    cmocka_unit_test(test_logging_keeps_errno),
	    cmocka_unit_test(test_lines_of_threads_never_mix),
	    cmocka_unit_test(test_level_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
