/* Runs the scenario files of tests/scenarios and asserts what holds for every policy and every scenario, whatever the timing
 * (routing 21): one end for each request, no reservation left, no token lost, one owner of what waits. */
#ifndef SIM_FIXTURE_H
#define SIM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "swarm/sim/world.h"

static struct sim_scenario scenario;
static struct sim_summary summary;

static void load(const char *name)
{
	char path[512];
	struct error error = {.code = DB_OK};
	snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/scenarios/%s.toml", name);
	if (sim_scenario_load(path, &scenario, &error))
		fail_msg("%s", error.text);
}

/* What holds for every policy. */
static const struct sim_summary *run(const struct sim_policy *policy)
{
	struct sim_trace trace;
	struct error error;
	uint64_t ended = 0, counted = 0;
	assert_int_equal(sim_trace_make(&scenario, &trace, &error), DB_OK);
	assert_int_equal(sim_run(&scenario, &trace, policy, &summary, &error), DB_OK);
	for (int outcome = SIM_OK; outcome < SIM_OUTCOMES; outcome++)
		ended += summary.by_outcome[outcome];
	for (size_t i = 0; i < trace.count; i++)
		counted += (double)trace.requests[i].at_us >= scenario.warmup_s * 1e6;
	assert_true(summary.finished);
	assert_int_equal(summary.requests, counted);
	assert_int_equal(ended, counted); /* each request has one end */
	assert_true(summary.good <= summary.by_outcome[SIM_OK]);
	assert_true(summary.extra_share <= 0.03 + 32768.0 / (1 + 1000.0 * (double)summary.by_outcome[SIM_OK]));
	assert_true(summary.utilisation <= 1.5); /* work that is done after the last arrival counts too */
	if (sim_broken_rule(&summary))
		fail_msg("%s, %s: %s", scenario.name, policy->name, sim_broken_rule(&summary));
	assert_int_equal(summary.barred, 0);        /* nobody was asked that may not serve the request */
	assert_int_equal(summary.still_pending, 0); /* each reservation was ended, once */
	assert_int_equal(summary.owned_twice, 0);   /* a waiting request is the queue's or its caller's, never both's */
	/* Every token that a machine worked off reached a client or was wasted. */
	if (summary.tokens_lost > 1 + 0.01 * (double)trace.count)
		fail_msg("%s: %g tokens are in no account", scenario.name, summary.tokens_lost);
	sim_trace_free(&trace);
	return &summary;
}

static const struct sim_summary *ours(const char *name)
{
	load(name);
	return run(&sim_policy_ours);
}

#endif
