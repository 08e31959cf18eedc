#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "swarm/fleet.h"
#include "swarm/stats.h"

#define SAMPLES 20000

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static int by_value(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

static void percentiles_agree_with_a_sorted_list(void **state)
{
	static const double fractions[] = {0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999};
	static struct stats stats;
	static uint64_t values[SAMPLES];
	uint64_t seed = 42;
	(void)state;
	for (unsigned bits = 3; bits <= 40; bits++) { /* from ten microseconds to days */
		double sum = 0;
		stats = (struct stats){0};
		for (size_t i = 0; i < SAMPLES; i++) {
			values[i] = next_random(&seed) >> (64 - 1 - next_random(&seed) % bits);
			stats_add(&stats, values[i]);
			sum += (double)values[i];
		}
		qsort(values, SAMPLES, sizeof *values, by_value);
		for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
			double exact = (double)values[(size_t)(fractions[f] * SAMPLES)], found = stats_percentile(&stats, fractions[f]);
			double allowed = exact * 0.011 + 0.5;
			if (found < exact - allowed || found > exact + allowed)
				fail_msg("%u bits, fraction %g: %g instead of %g", bits, fractions[f], found, exact);
		}
		assert_int_equal(stats.count, SAMPLES);
		assert_int_equal(stats.max, values[SAMPLES - 1]);
		assert_true(stats_mean(&stats) > sum / SAMPLES * 0.999999 && stats_mean(&stats) < sum / SAMPLES * 1.000001 + 1e-9);
	}
}

static void no_samples_and_one(void **state)
{
	static struct stats stats;
	(void)state;
	assert_true(stats_percentile(&stats, 0.5) == 0);
	assert_true(stats_mean(&stats) == 0);
	stats_add(&stats, 33);
	assert_true(stats_percentile(&stats, 0) == 33);
	assert_true(stats_percentile(&stats, 0.99) == 33);
	assert_true(stats_percentile(&stats, 1) == 33);
	stats_add(&stats, UINT64_MAX);
	assert_int_equal(stats.max, UINT64_MAX);
	assert_true(stats_percentile(&stats, 0.99) > 1e17);
}

static void reads_lists_of_faults(void **state)
{
	double faults[SWARM_FAULTS] = {0};
	struct error error;
	char text[64];
	(void)state;
	assert_int_equal(swarm_faults_parse(STR("drop:0.25,error:1,hang:0"), faults, &error), DB_OK);
	assert_true(faults[SWARM_FAULT_DROP] == 0.25);
	assert_true(faults[SWARM_FAULT_ERROR] == 1);
	assert_true(faults[SWARM_FAULT_HANG] == 0);
	assert_int_equal(swarm_faults_parse(STR("garbage"), faults, &error), DB_OK); /* always */
	assert_true(faults[SWARM_FAULT_GARBAGE] == 1);
	assert_int_equal(swarm_faults_parse(STR(""), faults, &error), DB_OK);
	for (int i = 0; i < SWARM_FAULTS; i++) {
		snprintf(text, sizeof text, "%s:0.5", swarm_fault_name((enum swarm_fault)i));
		assert_int_equal(swarm_faults_parse(str_of(text), faults, &error), DB_OK);
		assert_true(faults[i] == 0.5);
	}
}

static void refuses_what_is_no_list_of_faults(void **state)
{
	static const char *const bad[] = {"dropp:0.1",    "drop:2", "drop:-0.1",  "drop:x", "drop:nan",
	                                  "drop:0.1:0.2", ",",      "drop,,hang", ":1",     " drop:1"};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		double faults[SWARM_FAULTS] = {0};
		struct error error = {0};
		if (swarm_faults_parse(str_of(bad[i]), faults, &error) != DB_E_INVALID)
			fail_msg("accepted %s", bad[i]);
		assert_true(error.text[0] != '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(percentiles_agree_with_a_sorted_list),
	    cmocka_unit_test(no_samples_and_one),
	    cmocka_unit_test(reads_lists_of_faults),
	    cmocka_unit_test(refuses_what_is_no_list_of_faults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
