#include "swarm/sim/measure.h"

#include <math.h>
#include <stdlib.h>

#define GAP_SAMPLE_TOKENS 16.0 /* one sample stands for so many */
#define RECOVERY_STEP_S   1.0
#define RECOVERY_STEADY   5 /* steps in a row */
#define RECOVERY_SLACK    0.02
#define LEAST_ASKED       10 /* requests of a tenant that count for fairness */

void sim_measure_gap(struct sim_measure *measure, double tokens, double rate_tps)
{
	measure->gap_carry += tokens / GAP_SAMPLE_TOKENS;
	while (measure->gap_carry >= 1 && rate_tps > 0) {
		stats_add(&measure->gaps_us, (uint64_t)(1e6 / rate_tps));
		measure->gap_carry -= 1;
	}
}

void sim_measure_sums(struct sim_measure *measure, size_t at)
{
	measure->loaded[at] = (double)measure->loads;
	measure->wasted[at] = measure->wasted_prompt + measure->wasted_output;
	measure->worked[at] = measure->tokens_in + measure->tokens_out;
}

/* --- percentiles --- */

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static double at_fraction(const float *sorted, size_t count, double fraction)
{
	if (!count)
		return 0;
	size_t at = (size_t)(fraction * (double)count);
	return (double)sorted[at < count ? at : count - 1];
}

/* --- good answers --- */

static bool is_good(const struct sim_scenario *scenario, const struct sim_request *request, const struct sim_result *result)
{
	double goal_ms = scenario->ttft_ms + scenario->ttft_token_ms * request->prompt;
	return result->outcome == SIM_OK && (double)result->ttft_ms <= goal_ms && (double)result->rate_tps >= scenario->decode_tps;
}

static bool counts(const struct sim_scenario *scenario, const struct sim_request *request)
{
	return (double)request->at_us >= scenario->warmup_s * 1e6;
}

/* --- fairness: Jain's index over the share of each tenant's requests that were answered well --- */

static void fairness(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_result *results,
                     struct sim_summary *out)
{
	uint32_t tenants = scenario->workload.tenants;
	size_t n = 0;
	double *asked = calloc(tenants, sizeof *asked), *good = calloc(tenants, sizeof *good), sum = 0, squares = 0;
	float *shares = calloc(tenants, sizeof *shares);
	for (size_t i = 0; asked && good && i < trace->count; i++) {
		if (!counts(scenario, &trace->requests[i]))
			continue;
		asked[trace->requests[i].tenant]++;
		good[trace->requests[i].tenant] += is_good(scenario, &trace->requests[i], &results[i]);
	}
	for (uint32_t t = 0; asked && good && shares && t < tenants; t++) {
		if (asked[t] < LEAST_ASKED)
			continue;
		double share = good[t] / asked[t];
		sum += share;
		squares += share * share;
		shares[n++] = (float)share;
	}
	if (shares)
		qsort(shares, n, sizeof *shares, ascending);
	for (int i = 0; shares && i <= 100; i++)
		out->tenant_curve[i] = at_fraction(shares, n, i / 100.0);
	out->fairness = squares > 0 ? sum * sum / ((double)n * squares) : 1;
	free(asked);
	free(good);
	free(shares);
}

/* --- recovery: from the first loss until the share of good answers is again what it was, and stays so --- */

static const struct sim_happening *first_loss(const struct sim_scenario *scenario)
{
	for (uint32_t i = 0; i < scenario->happening_count; i++)
		if (scenario->happenings[i].kind == SIM_LOSS || scenario->happenings[i].kind == SIM_FREEZE)
			return &scenario->happenings[i];
	return NULL;
}

static double recovery(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_result *results)
{
	const struct sim_happening *loss = first_loss(scenario);
	size_t steps = (size_t)(scenario->seconds / RECOVERY_STEP_S) + 1;
	double *asked = calloc(steps, sizeof *asked), *good = calloc(steps, sizeof *good), result = -1;
	if (!loss || !asked || !good)
		goto out;
	for (size_t i = 0; i < trace->count; i++) {
		size_t step = (size_t)((double)trace->requests[i].at_us / 1e6 / RECOVERY_STEP_S);
		if (step >= steps)
			continue;
		asked[step]++;
		good[step] += is_good(scenario, &trace->requests[i], &results[i]);
	}
	size_t from = (size_t)(loss->at_s / RECOVERY_STEP_S), steady = 0;
	double asked_before = 0, good_before = 0;
	for (size_t i = (size_t)(scenario->warmup_s / RECOVERY_STEP_S); i < from; i++) {
		asked_before += asked[i];
		good_before += good[i];
	}
	double usual = asked_before > 0 ? good_before / asked_before : 1;
	result = scenario->seconds - loss->at_s;
	for (size_t i = from; i < steps; i++) {
		steady = asked[i] * (usual - RECOVERY_SLACK) <= good[i] ? steady + 1 : 0;
		if (steady == RECOVERY_STEADY) {
			result = (double)(i + 1 - RECOVERY_STEADY - from) * RECOVERY_STEP_S;
			break;
		}
	}
out:
	free(asked);
	free(good);
	return result;
}

/* --- curves over time --- */

static void series(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_result *results,
                   const struct sim_measure *measure, float *scratch, struct sim_summary *out)
{
	double step_s = scenario->seconds / SIM_SERIES, boxes = sim_scenario_boxes(scenario), busy_before = 0;
	size_t i = 0;
	for (size_t at = 0; at < SIM_SERIES; at++) {
		double end_us = (double)(at + 1) * step_s * 1e6;
		size_t with_content = 0, asked = 0, good = 0;
		for (; i < trace->count && (double)trace->requests[i].at_us < end_us; i++) {
			asked++;
			good += is_good(scenario, &trace->requests[i], &results[i]);
			if (results[i].content)
				scratch[with_content++] = results[i].ttft_ms;
		}
		qsort(scratch, with_content, sizeof *scratch, ascending);
		out->ttft_p50_series[at] = at_fraction(scratch, with_content, 0.5);
		out->ttft_p99_series[at] = at_fraction(scratch, with_content, 0.99);
		out->asked_series[at] = (double)asked / step_s;
		out->good_series[at] = (double)good / step_s;
		double busy = measure->busy[at] > 0 ? measure->busy[at] : busy_before;
		out->busy_series[at] = (busy - busy_before) / (boxes * step_s);
		busy_before = busy;
		out->queue_series[at] = measure->queued[at];
		out->loads_series[at] = measure->loaded[at];
		out->wasted_series[at] = measure->worked[at] > 0 ? measure->wasted[at] / measure->worked[at] : 0;
		out->connected_series[at] = measure->connected[at];
	}
}

struct tally {
	float *ttft, *rates, *queues;
	size_t with_content, whole, asked, cold;
	double ttft_sum, queue_sum, good_tokens, made_tokens;
};

static void tally_one(const struct sim_scenario *scenario, const struct sim_request *request, const struct sim_result *result,
                      struct tally *tally, struct sim_summary *out)
{
	out->by_outcome[result->outcome]++;
	if (result->tries > out->most_tries)
		out->most_tries = result->tries;
	if (result->outcome == SIM_OK && request->prompt > out->longest_answered)
		out->longest_answered = request->prompt;
	if (result->outcome == SIM_REFUSED && request->prompt < out->shortest_refused)
		out->shortest_refused = request->prompt;
	out->late += result->late;
	tally->queues[tally->asked++] = result->queue_ms;
	tally->queue_sum += (double)result->queue_ms;
	tally->cold += result->cold;
	tally->made_tokens += result->made;
	if (result->content) {
		tally->ttft[tally->with_content++] = result->ttft_ms;
		tally->ttft_sum += (double)result->ttft_ms;
	}
	if (result->outcome == SIM_OK)
		tally->rates[tally->whole++] = result->rate_tps;
	if (is_good(scenario, request, result)) {
		out->good++;
		tally->good_tokens += result->made;
	}
}

static void first_tenants(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_result *results,
                          struct sim_summary *out)
{
	double asked[SIM_FIRST_TENANTS] = {0};
	for (size_t i = 0; i < trace->count; i++) {
		uint32_t tenant = trace->requests[i].tenant;
		if (tenant >= SIM_FIRST_TENANTS || !counts(scenario, &trace->requests[i]))
			continue;
		asked[tenant]++;
		out->answered_of[tenant] += results[i].outcome == SIM_OK;
		out->queue_of_ms[tenant] += (double)results[i].queue_ms;
	}
	for (uint32_t tenant = 0; tenant < SIM_FIRST_TENANTS; tenant++) {
		out->answered_of[tenant] /= asked[tenant] > 0 ? asked[tenant] : 1;
		out->queue_of_ms[tenant] /= asked[tenant] > 0 ? asked[tenant] : 1;
	}
}

static void percentiles(struct tally *tally, struct sim_summary *out)
{
	size_t n = tally->with_content;
	qsort(tally->ttft, n, sizeof(float), ascending);
	qsort(tally->rates, tally->whole, sizeof(float), ascending);
	qsort(tally->queues, tally->asked, sizeof(float), ascending);
	out->ttft_p50 = at_fraction(tally->ttft, n, 0.5);
	out->ttft_p90 = at_fraction(tally->ttft, n, 0.9);
	out->ttft_p95 = at_fraction(tally->ttft, n, 0.95);
	out->ttft_p99 = at_fraction(tally->ttft, n, 0.99);
	out->ttft_p999 = at_fraction(tally->ttft, n, 0.999);
	out->ttft_mean = n ? tally->ttft_sum / (double)n : 0;
	for (int i = 0; i <= 100; i++)
		out->ttft_curve[i] = at_fraction(tally->ttft, n, i / 100.0);
	out->rate_p1 = at_fraction(tally->rates, tally->whole, 0.01);
	out->rate_p50 = at_fraction(tally->rates, tally->whole, 0.5);
	out->queue_p99_ms = at_fraction(tally->queues, tally->asked, 0.99);
	out->queue_mean_ms = tally->asked ? tally->queue_sum / (double)tally->asked : 0;
	out->queue_max = at_fraction(tally->queues, tally->asked, 1);
}

const char *sim_broken_rule(const struct sim_summary *run)
{
	if (!run->finished)
		return "requests are left without an end";
	if (run->still_pending)
		return "reservations outlived every request";
	if (run->owned_twice)
		return "a request was in a queue and in somebody's hand at once";
	if (run->overstayed)
		return "a request waited past its deadline";
	if (run->barred)
		return "a machine was asked that may not serve the request";
	/* Sums of many fractions: what is below a token for each hundred attempts is rounding. */
	return run->tokens_lost > 1 + 0.01 * run->attempts ? "tokens are in no account" : NULL;
}

void sim_summarise(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_result *results,
                   const struct sim_measure *measure, const char *policy, struct sim_summary *out)
{
	float *scratch = calloc(3 * trace->count + 1, sizeof *scratch);
	*out = (struct sim_summary){.recovery_s = -1, .fairness = 1, .shortest_refused = UINT32_MAX};
	(void)str_copy(str_of(policy), out->policy, sizeof out->policy);
	if (!scratch)
		return;
	struct tally tally = {.ttft = scratch, .rates = scratch + trace->count, .queues = scratch + 2 * trace->count};
	for (size_t i = 0; i < trace->count; i++)
		if (counts(scenario, &trace->requests[i]))
			tally_one(scenario, &trace->requests[i], &results[i], &tally, out);
	percentiles(&tally, out);
	double attempts = measure->attempts ? (double)measure->attempts : 1;
	double worked = measure->tokens_in + measure->tokens_out, asked = tally.asked ? (double)tally.asked : 1, busy = 0;
	out->requests = tally.asked;
	out->seconds = scenario->seconds - scenario->warmup_s;
	out->goodput_rps = (double)out->good / out->seconds;
	out->goodput_tps = tally.good_tokens / out->seconds;
	out->served_tps = tally.made_tokens / out->seconds;
	out->gap_p50 = stats_percentile(&measure->gaps_us, 0.5) / 1000;
	out->gap_p99 = stats_percentile(&measure->gaps_us, 0.99) / 1000;
	for (int i = 0; i <= 100; i++)
		out->gap_curve[i] = stats_percentile(&measure->gaps_us, i == 100 ? 0.999 : i / 100.0) / 1000;
	out->cold_share = (double)tally.cold / asked;
	out->loads = (double)measure->loads;
	out->load_failures = (double)measure->load_failures;
	out->evictions = (double)measure->evictions;
	out->wasted_share = worked > 0 ? (measure->wasted_prompt + measure->wasted_output) / worked : 0;
	out->extra_share = measure->answered_tokens > 0 ? measure->extra_tokens / measure->answered_tokens : 0;
	out->cached_share = worked > 0 ? (double)measure->cached_tokens / ((double)measure->cached_tokens + measure->tokens_in) : 0;
	out->hedges = (double)measure->hedges;
	out->hedges_won = (double)measure->hedges_won;
	out->resumed = (double)measure->resumed;
	out->timeouts = (double)measure->timeouts;
	out->faults = (double)measure->faults;
	for (size_t at = 0; at < SIM_SERIES; at++)
		busy = measure->busy[at] > busy ? measure->busy[at] : busy;
	out->utilisation = busy / (sim_scenario_boxes(scenario) * scenario->seconds);
	out->busiest_share = (double)measure->most_of_one / attempts;
	out->liars_share = (double)measure->to_liars / attempts;
	out->over_scan_share = measure->scan_ms > 0 ? measure->chosen_ms / measure->scan_ms - 1 : 0;
	out->over_cheapest_share = measure->cheapest_ms > 0 ? measure->chosen_ms / measure->cheapest_ms - 1 : 0;
	out->over_ties_share = measure->cheapest_ms > 0 ? measure->beyond_ms / measure->cheapest_ms : 0;
	out->tokens_lost = fabs(measure->tokens_in - measure->used_prompt - measure->wasted_prompt) +
	                   fabs(measure->tokens_out - measure->used_output - measure->wasted_output);
	out->still_pending = measure->still_pending;
	out->barred = measure->barred;
	out->bad_hashes = (double)measure->bad_hashes;
	out->attempts = (double)measure->attempts;
	out->refused_draining = (double)measure->refused_draining;
	out->drained_s = measure->drained_us ? (double)(measure->drained_us - measure->drain_us) / 1e6 : -1;
	for (uint32_t i = 0; i < scenario->model_count; i++)
		out->to_model[i] = (double)measure->to_model[i] / attempts;
	out->alias_share = -1;
	out->owned_twice = measure->owned_twice;
	out->overstayed = measure->overstayed;
	fairness(scenario, trace, results, out);
	first_tenants(scenario, trace, results, out);
	out->recovery_s = recovery(scenario, trace, results);
	series(scenario, trace, results, measure, scratch, out);
	free(scratch);
}
