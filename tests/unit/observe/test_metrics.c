#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "coordinator/observe/metrics.h"

static void expect_text(struct metrics *metrics, const char *expected)
{
	struct buf out;
	buf_init(&out, 1 << 20);
	metrics_write(metrics, &out);
	assert_int_equal(buf_append_byte(&out, 0), DB_OK);
	assert_string_equal(out.at, expected);
	buf_free(&out);
}

static void counters_and_gauges_are_grouped_by_name(void **state)
{
	(void)state;
	struct metrics *metrics = metrics_new();
	struct metric *get = metrics_counter(metrics, "http_requests_total", "method=\"GET\"", "Requests.");
	struct metric *idle = metrics_gauge(metrics, "providers", NULL, "Connected\\now\nor so.");
	struct metric *post = metrics_counter(metrics, "http_requests_total", "method=\"POST\"", "ignored");
	metric_add(get, 2);
	metric_add(get, 1);
	metric_add(post, 18446744073709551614u);
	metric_set(idle, 0.25);
	expect_text(metrics, "# HELP http_requests_total Requests.\n"
	                     "# TYPE http_requests_total counter\n"
	                     "http_requests_total{method=\"GET\"} 3\n"
	                     "http_requests_total{method=\"POST\"} 18446744073709551614\n"
	                     "# HELP providers Connected\\\\now\\nor so.\n"
	                     "# TYPE providers gauge\n"
	                     "providers 0.25\n");
	assert_int_equal(metric_count(get), 3);
	metrics_free(metrics);
}

static void the_same_pair_is_the_same_series_and_a_name_has_one_kind(void **state)
{
	(void)state;
	struct metrics *metrics = metrics_new();
	struct metric *a = metrics_counter(metrics, "a_total", "x=\"1\"", "A.");
	assert_ptr_equal(metrics_counter(metrics, "a_total", "x=\"1\"", "A."), a);
	assert_ptr_not_equal(metrics_counter(metrics, "a_total", NULL, "A."), a);
	assert_null(metrics_gauge(metrics, "a_total", NULL, "A."));
	metric_add(NULL, 1);
	metric_set(NULL, 1);
	metric_observe(NULL, 1);
	assert_int_equal(metric_count(NULL), 0);
	metrics_free(metrics);
}

static void histograms_are_cumulative_and_scaled(void **state)
{
	(void)state;
	struct metrics *metrics = metrics_new();
	struct metric *us = metrics_histogram(metrics, "wait_seconds", "q=\"x\"", "Wait.", 1e6);
	static const uint64_t values[] = {0, 1, 2, 3, 1024, 1025, 67108864, 67108865};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		metric_observe(us, values[i]);
	struct buf out;
	buf_init(&out, 1 << 20);
	metrics_write(metrics, &out);
	assert_int_equal(buf_append_byte(&out, 0), DB_OK);
	static const char *const lines[] = {
	    "# TYPE wait_seconds histogram\n",
	    "wait_seconds_bucket{q=\"x\",le=\"1e-06\"} 2\n",
	    "wait_seconds_bucket{q=\"x\",le=\"2e-06\"} 3\n",
	    "wait_seconds_bucket{q=\"x\",le=\"4e-06\"} 4\n",
	    "wait_seconds_bucket{q=\"x\",le=\"0.000512\"} 4\n",
	    "wait_seconds_bucket{q=\"x\",le=\"0.001024\"} 5\n",
	    "wait_seconds_bucket{q=\"x\",le=\"0.002048\"} 6\n",
	    "wait_seconds_bucket{q=\"x\",le=\"67.108864\"} 7\n",
	    "wait_seconds_bucket{q=\"x\",le=\"+Inf\"} 8\n",
	    "wait_seconds_sum{q=\"x\"} 134.219784\n",
	    "wait_seconds_count{q=\"x\"} 8\n",
	};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		if (!strstr(out.at, lines[i]))
			fail_msg("missing %s in\n%s", lines[i], out.at);
	assert_int_equal(metric_count(us), 8);
	buf_free(&out);
	metrics_free(metrics);
}

static void count_calls(void *arg)
{
	metric_set(arg, INFINITY);
}

static void gauges_are_refreshed_just_before_writing(void **state)
{
	(void)state;
	struct metrics *metrics = metrics_new();
	metrics_on_write(metrics, count_calls, metrics_gauge(metrics, "g", NULL, "G."));
	expect_text(metrics, "# HELP g G.\n# TYPE g gauge\ng +Inf\n");
	metrics_free(metrics);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(counters_and_gauges_are_grouped_by_name),
	    cmocka_unit_test(the_same_pair_is_the_same_series_and_a_name_has_one_kind),
	    cmocka_unit_test(histograms_are_cumulative_and_scaled),
	    cmocka_unit_test(gauges_are_refreshed_just_before_writing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
