/* What a scenario file may say, and that a mistake in it is named with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "swarm/sim/workload.h"

#define SMALLEST "[[model]]\nid = \"m\"\n[[group]]\ncount = 3\n[workload]\nrps = 1\n"

static struct sim_scenario scenario;
static struct error error;

static enum db_err parse(const char *text)
{
	return sim_scenario_parse(str_of(text), &scenario, &error);
}

static void the_smallest_scenario_gets_defaults(void **state)
{
	(void)state;
	assert_int_equal(parse(SMALLEST), DB_OK);
	assert_int_equal(sim_scenario_boxes(&scenario), 3);
	assert_int_equal(scenario.model_count, 1);
	assert_true(scenario.heartbeat_s == 5 && scenario.batch_slowdown == 0.27 && scenario.hedge);
}

static void a_mistake_is_named_with_its_line(void **state)
{
	(void)state;
	static const struct {
		const char *text, *says;
	} cases[] = {
	    {SMALLEST "speed = 1\n", "line 7: there is no key speed here"},
	    {SMALLEST "load = -1\n", "line 7: load must be from 0 to 20"},
	    {SMALLEST "tenants = 1.5\n", "line 7: tenants must be a whole number"},
	    {SMALLEST "[[happening]]\nkind = \"meteor\"\n", "line 8: kind must be loss, freeze"},
	    {SMALLEST "[fleet]\nheartbeat_s = \"5\"\n", "line 8: heartbeat_s must be a number"},
	    {SMALLEST "[[group]]\nmodels_named = \"m, other\"\n", "no model is called 'other'"},
	    {SMALLEST "[[group]]\ncount = 200000\n", "a fleet has at most 200000 machines"},
	    {"[[model]]\nid = \"m\"\n[[group]]\n", "[workload] needs load, rps or burst"},
	    {"[workload]\nrps = 1\n", "a scenario needs at least one [[model]]"},
	    {"seconds = 10\nwarmup_s = 10\n" SMALLEST, "warmup_s must be shorter"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_not_equal(parse(cases[i].text), DB_OK);
		if (strncmp(error.text, cases[i].says, strlen(cases[i].says)))
			fail_msg("'%s' in place of '%s'", error.text, cases[i].says);
	}
}

static void the_same_seed_gives_the_same_requests(void **state)
{
	(void)state;
	struct sim_trace a, b, c;
	assert_int_equal(parse("seconds = 50\n" SMALLEST "turns = 3\nburstiness = 2\ntenants = 5\n"), DB_OK);
	assert_int_equal(sim_trace_make(&scenario, &a, &error), DB_OK);
	assert_int_equal(sim_trace_make(&scenario, &b, &error), DB_OK);
	scenario.seed++;
	assert_int_equal(sim_trace_make(&scenario, &c, &error), DB_OK);
	assert_true(a.count > 10 && a.count == b.count);
	assert_memory_equal(a.requests, b.requests, a.count * sizeof *a.requests);
	assert_true(a.count != c.count || memcmp(a.requests, c.requests, a.count * sizeof *a.requests));
	sim_trace_free(&a);
	sim_trace_free(&b);
	sim_trace_free(&c);
}

static double mean_of(const struct sim_trace *trace, bool output)
{
	double sum = 0;
	for (size_t i = 0; i < trace->count; i++)
		sum += output ? trace->requests[i].output : trace->requests[i].prompt;
	return sum / (double)trace->count;
}

/* Azure LLM inference trace 2023, conversations: means of 1,155 and 211 tokens at medians of 1,020 and 129. */
static void the_requests_have_the_published_shape(void **state)
{
	(void)state;
	struct sim_trace trace;
	assert_int_equal(parse("seconds = 20000\n" SMALLEST), DB_OK);
	assert_int_equal(sim_trace_make(&scenario, &trace, &error), DB_OK);
	assert_in_range(trace.count, 19000, 21000);
	assert_in_range((uint64_t)mean_of(&trace, false), 1115, 1195);
	assert_in_range((uint64_t)mean_of(&trace, true), 195, 227);
	sim_trace_free(&trace);
}

static void a_turn_contains_the_conversation_before_it(void **state)
{
	(void)state;
	struct sim_trace trace;
	uint32_t *said = calloc(100000, sizeof *said);
	size_t later = 0;
	assert_non_null(said);
	assert_int_equal(parse("seconds = 2000\n" SMALLEST "turns = 4\nthink_s = 5\n"), DB_OK);
	assert_int_equal(sim_trace_make(&scenario, &trace, &error), DB_OK);
	for (size_t i = 0; i < trace.count; i++) {
		const struct sim_request *request = &trace.requests[i];
		if (said[request->conversation] && request->shared) {
			assert_int_equal(request->shared, said[request->conversation]);
			assert_true(request->prompt > request->shared);
			later++;
		}
		said[request->conversation] = request->prompt + request->output;
		assert_true(i == 0 || request->at_us >= trace.requests[i - 1].at_us);
	}
	assert_true(later > 500);
	sim_trace_free(&trace);
	free(said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_smallest_scenario_gets_defaults),        cmocka_unit_test(a_mistake_is_named_with_its_line),
	    cmocka_unit_test(the_same_seed_gives_the_same_requests),      cmocka_unit_test(the_requests_have_the_published_shape),
	    cmocka_unit_test(a_turn_contains_the_conversation_before_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
