#include "../vectors.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/id.h"

/* --- time --- */

static void test_agrees_with_datetime(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("core_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "times"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		struct str text = vector_str(one, "text");
		int64_t us, parsed;
		char formatted[CLOCK_RFC3339_SIZE];
		assert_true(json_as_i64(json_get(one, "us"), &us));
		assert_int_equal(clock_parse_rfc3339(text, &parsed), DB_OK);
		assert_true(parsed == us);
		if (json_get(one, "parse_only"))
			continue;
		clock_format_rfc3339(us, formatted);
		assert_true(str_is(text, formatted));
		clock_format_rfc3339(us + 999999, formatted); /* truncated, also before 1970 */
		assert_true(str_is(text, formatted));
	}
	assert_true(count > 50);
	json_free(doc);
}

static void test_fractions_are_read_to_the_microsecond(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t us;
	} cases[] = {
	    {"1970-01-01T00:00:00.5Z", 500000},  {"1970-01-01T00:00:00.000001Z", 1},
	    {"1970-01-01T00:00:00.0000019Z", 1}, {"1970-01-01T00:00:01.123456789123Z", 1123456},
	    {"1970-01-01T01:00:00+01:00", 0},    {"1969-12-31T23:59:59.25-00:00", -750000},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t us = 7;
		assert_int_equal(clock_parse_rfc3339(str_of(cases[i].text), &us), DB_OK);
		assert_true(us == cases[i].us);
	}
}

static void test_other_texts_are_no_time(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "",
	    "2026-01-02",
	    "2026-01-02T03:04:05",
	    "2026-01-02 03:04:05Z",
	    "2026-01-02t03:04:05Z",
	    "2026-01-02T03:04:05z",
	    "2026-1-02T03:04:05Z",
	    "2026-00-02T03:04:05Z",
	    "2026-13-02T03:04:05Z",
	    "2026-01-00T03:04:05Z",
	    "2026-01-32T03:04:05Z",
	    "2026-04-31T03:04:05Z",
	    "2026-02-29T03:04:05Z",
	    "1900-02-29T03:04:05Z",
	    "2026-01-02T24:00:00Z",
	    "2026-01-02T03:60:05Z",
	    "2026-01-02T03:04:60Z",
	    "2026-01-02T03:04:05.Z",
	    "2026-01-02T03:04:05,5Z",
	    "2026-01-02T03:04:05+0100",
	    "2026-01-02T03:04:05+01",
	    "2026-01-02T03:04:05+24:00",
	    "2026-01-02T03:04:05+01:60",
	    "2026-01-02T03:04:05ZZ",
	    "2026-01-02T03:04:05Z ",
	    " 2026-01-02T03:04:05Z",
	    "+026-01-02T03:04:05Z",
	    "2026-01-02T-3:04:05Z",
	    "20260102T030405Z",
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		int64_t us = 7;
		assert_int_equal(clock_parse_rfc3339(str_of(bad[i]), &us), DB_E_INVALID);
		assert_true(us == 7);
	}
}

static void test_times_outside_four_digit_years_are_clamped(void **state)
{
	(void)state;
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
	clock_format_rfc3339(INT64_MIN, text);
	assert_string_equal(text, "0000-01-01T00:00:00Z");
}

static void test_clocks_run_forward(void **state)
{
	(void)state;
	uint64_t before = clock_mono_us();
	int64_t wall = clock_wall_us();
	for (int i = 0; i < 1000; i++) {
		uint64_t now = clock_mono_us();
		assert_true(now >= before);
		before = now;
	}
	int64_t this_code_was_written;
	assert_int_equal(clock_parse_rfc3339(STR("2025-01-01T00:00:00Z"), &this_code_was_written), DB_OK);
	assert_true(wall > this_code_was_written);
}

/* --- identifiers --- */

static void test_shapes(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		char uuid[ID_UUID_SIZE], request[ID_REQUEST_SIZE], hex[41];
		id_uuid4(uuid);
		assert_int_equal(strlen(uuid), 36);
		for (size_t at = 0; at < 36; at++) {
			bool dash = at == 8 || at == 13 || at == 18 || at == 23;
			assert_non_null(strchr(dash ? "-" : "0123456789abcdef", uuid[at]));
		}
		assert_int_equal(uuid[14], '4');
		assert_non_null(strchr("89ab", uuid[19]));
		id_request(request);
		assert_int_equal(strlen(request), 12);
		assert_int_equal(strspn(request, "0123456789abcdefghijklmnopqrstuv"), 12);
		id_hex(hex, 20);
		assert_int_equal(strspn(hex, "0123456789abcdef"), 40);
		assert_int_equal(hex[40], 0);
	}
	char large[2 * 5000 + 1];
	id_hex(large, 5000);
	assert_int_equal(strspn(large, "0123456789abcdef"), 10000);
	id_hex(large, 0);
	assert_string_equal(large, "");
}

static void test_uuid7_orders_by_time(void **state)
{
	(void)state;
	char earlier[ID_UUID_SIZE], later[ID_UUID_SIZE];
	int64_t before_ms = clock_wall_us() / 1000;
	id_uuid7(earlier);
	while (clock_wall_us() / 1000 <= before_ms + 1)
		;
	id_uuid7(later);
	assert_int_equal(strlen(later), 36);
	assert_int_equal(later[14], '7');
	assert_non_null(strchr("89ab", later[19]));
	assert_true(strcmp(earlier, later) < 0);

	char time_text[14] = {0};
	memcpy(time_text, earlier, 8);
	memcpy(time_text + 8, earlier + 9, 4);
	long long made_ms = strtoll(time_text, NULL, 16);
	assert_true(made_ms >= before_ms && made_ms <= before_ms + 60000);
	id_uuid7(earlier);
	assert_string_not_equal(earlier + 15, later + 15);
}

static int compare_words(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(uint64_t));
}

/* Draws of every size, across refills: no 64-bit word comes twice, and each bit is set about half the time. */
static void test_random_bytes_never_repeat(void **state)
{
	(void)state;
	enum { WORDS = 20000 };
	static uint64_t words[WORDS];
	size_t filled = 0, size = 1;
	uint8_t *at = (uint8_t *)words;
	for (; filled < sizeof words; size = size % 5000 + 37) {
		size_t part = sizeof words - filled < size ? sizeof words - filled : size;
		id_random(at + filled, part);
		filled += part;
	}
	uint32_t ones[64] = {0};
	for (size_t i = 0; i < WORDS; i++)
		for (size_t bit = 0; bit < 64; bit++)
			ones[bit] += (uint32_t)(words[i] >> bit & 1);
	for (size_t bit = 0; bit < 64; bit++)
		assert_in_range(ones[bit], WORDS / 2 - 800, WORDS / 2 + 800); /* eleven standard deviations */
	qsort(words, WORDS, sizeof words[0], compare_words);
	for (size_t i = 1; i < WORDS; i++)
		assert_true(words[i] != words[i - 1]);
}

static void test_a_forked_child_draws_other_bytes(void **state)
{
	(void)state;
	uint8_t ours[32], theirs[32];
	int ends[2];
	id_random(ours, sizeof ours); /* the pool is filled before the fork */
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		id_random(theirs, sizeof theirs);
		_exit(write(ends[1], theirs, sizeof theirs) == (ssize_t)sizeof theirs ? 0 : 1);
	}
	id_random(ours, sizeof ours);
	assert_int_equal(read(ends[0], theirs, sizeof theirs), sizeof theirs);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_memory_not_equal(ours, theirs, sizeof ours);
	close(ends[0]);
	close(ends[1]);
}

static void *draw(void *out)
{
	for (int i = 0; i < 1000; i++)
		id_random(out, 32);
	return NULL;
}

static void test_threads_draw_different_bytes(void **state)
{
	(void)state;
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	uint8_t last[THREADS][32];
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, draw, last[i]), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < THREADS; i++)
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(last[i], last[j], 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_agrees_with_datetime),
	    cmocka_unit_test(test_fractions_are_read_to_the_microsecond),
	    cmocka_unit_test(test_other_texts_are_no_time),
	    cmocka_unit_test(test_times_outside_four_digit_years_are_clamped),
	    cmocka_unit_test(test_clocks_run_forward),
	    cmocka_unit_test(test_shapes),
	    cmocka_unit_test(test_uuid7_orders_by_time),
	    cmocka_unit_test(test_random_bytes_never_repeat),
	    cmocka_unit_test(test_a_forked_child_draws_other_bytes),
	    cmocka_unit_test(test_threads_draw_different_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
