#include "swarm/sim/report.h"

#include <stdio.h>

#include "core/json.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct row {
	const char *name, *unit;
	size_t offset;
	double scale;
	int digits;
};

#define ROW(name, unit, member, scale, digits)                                                                                 \
	{                                                                                                                          \
		name, unit, offsetof(struct sim_summary, member), scale, digits                                                        \
	}

static const struct row rows[] = {
    ROW("utilisation", "%", utilisation, 100, 1),
    ROW("TTFT p50", "s", ttft_p50, 0.001, 2),
    ROW("TTFT p90", "s", ttft_p90, 0.001, 2),
    ROW("TTFT p99", "s", ttft_p99, 0.001, 2),
    ROW("TTFT p99.9", "s", ttft_p999, 0.001, 2),
    ROW("token gap p50", "ms", gap_p50, 1, 0),
    ROW("token gap p99", "ms", gap_p99, 1, 0),
    ROW("slowest 1 %", "tok/s", rate_p1, 1, 1),
    ROW("goodput", "req/s", goodput_rps, 1, 2),
    ROW("good tokens", "tok/s", goodput_tps, 1, 0),
    ROW("fairness", "Jain", fairness, 1, 4),
    ROW("cold requests", "%", cold_share, 100, 2),
    ROW("loads", "", loads, 1, 0),
    ROW("wasted tokens", "%", wasted_share, 100, 2),
    ROW("cached prompt", "%", cached_share, 100, 1),
    ROW("queue p99", "s", queue_p99_ms, 0.001, 2),
    ROW("hedges", "", hedges, 1, 0),
    ROW("  extra tokens", "%", extra_share, 100, 2),
    ROW("resumed", "", resumed, 1, 0),
    ROW("timeouts", "", timeouts, 1, 0),
    ROW("faults", "", faults, 1, 0),
    ROW("recovery", "s", recovery_s, 1, 0),
};

static double value_of(const struct sim_summary *run, const struct row *row)
{
	return *(const double *)(const void *)((const char *)run + row->offset) * row->scale;
}

/* A value below zero is one that this run does not have, such as the recovery from a loss that never came. */
static void put_value(double value, int digits, struct buf *out)
{
	if (value < 0)
		(void)buf_printf(out, " %12s", "-");
	else
		(void)buf_printf(out, " %12.*f", digits, value);
}

static void put_counts(const struct sim_summary *runs, size_t count, struct buf *out)
{
	static const struct {
		const char *name;
		enum sim_outcome outcome;
	} outcomes[] = {{"answered", SIM_OK}, {"refused", SIM_REFUSED}, {"broken off", SIM_PARTIAL}, {"client left", SIM_LEFT}};
	for (size_t i = 0; i < COUNT(outcomes); i++) {
		(void)buf_printf(out, "%-16s %-6s", outcomes[i].name, "");
		for (size_t run = 0; run < count; run++)
			(void)buf_printf(out, " %12llu", (unsigned long long)runs[run].by_outcome[outcomes[i].outcome]);
		(void)buf_append_byte(out, '\n');
	}
	(void)buf_printf(out, "%-16s %-6s", "late", "");
	for (size_t run = 0; run < count; run++)
		(void)buf_printf(out, " %12llu", (unsigned long long)runs[run].late);
	(void)buf_append_byte(out, '\n');
}

void sim_report_table(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_summary *runs,
                      size_t count, struct buf *out)
{
	(void)buf_printf(out, "%s: %s\n%u machines, %.0f s, ", scenario->name, scenario->about, sim_scenario_boxes(scenario),
	                 scenario->seconds);
	if (scenario->workload.burst)
		(void)buf_printf(out, "%u requests at once%s", scenario->workload.burst, trace->rps > 0 ? ", then " : "");
	if (trace->rps > 0)
		(void)buf_printf(out, "%.2f requests/s asked for (%.0f %% of what the fleet can do)", trace->rps,
		                 trace->capacity_rps > 0 ? 100 * trace->rps / trace->capacity_rps : 0);
	(void)buf_append_c(out, "\n\n");
	(void)buf_printf(out, "%-16s %-6s", "", "");
	for (size_t run = 0; run < count; run++)
		(void)buf_printf(out, " %12s", runs[run].policy);
	(void)buf_append_byte(out, '\n');
	put_counts(runs, count, out);
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)buf_printf(out, "%-16s %-6s", rows[i].name, rows[i].unit);
		for (size_t run = 0; run < count; run++)
			put_value(value_of(&runs[run], &rows[i]), rows[i].digits, out);
		(void)buf_append_byte(out, '\n');
	}
	for (size_t run = 0; run < count; run++)
		if (sim_broken_rule(&runs[run]))
			(void)buf_printf(out, "%s broke a rule: %s\n", runs[run].policy, sim_broken_rule(&runs[run]));
}

/* --- JSON --- */

static const struct {
	const char *key;
	size_t offset;
} members[] = {
#define MEMBER(name)                                                                                                           \
	{                                                                                                                          \
#name, offsetof(struct sim_summary, name)                                                                              \
	}
    MEMBER(utilisation),     MEMBER(ttft_p50),      MEMBER(ttft_p90),      MEMBER(ttft_p95),        MEMBER(ttft_p99),
    MEMBER(ttft_p999),       MEMBER(ttft_mean),     MEMBER(gap_p50),       MEMBER(gap_p99),         MEMBER(rate_p1),
    MEMBER(rate_p50),        MEMBER(goodput_rps),   MEMBER(goodput_tps),   MEMBER(served_tps),      MEMBER(fairness),
    MEMBER(cold_share),      MEMBER(loads),         MEMBER(load_failures), MEMBER(evictions),       MEMBER(wasted_share),
    MEMBER(extra_share),     MEMBER(cached_share),  MEMBER(queue_mean_ms), MEMBER(queue_p99_ms),    MEMBER(queue_max),
    MEMBER(hedges),          MEMBER(hedges_won),    MEMBER(resumed),       MEMBER(timeouts),        MEMBER(faults),
    MEMBER(recovery_s),      MEMBER(busiest_share), MEMBER(liars_share),   MEMBER(over_scan_share), MEMBER(over_cheapest_share),
    MEMBER(over_ties_share), MEMBER(tokens_lost),
};

static void put_run(struct json_writer *w, const struct sim_summary *run)
{
	static const char *const outcomes[SIM_OUTCOMES] = {"open", "answered", "refused", "broken_off", "left"};
	json_begin_object(w);
	json_put_cstr(w, "policy", run->policy);
	json_put_bool(w, "finished", run->finished);
	json_put_i64(w, "requests", (int64_t)run->requests);
	for (size_t i = 0; i < SIM_OUTCOMES; i++)
		json_put_i64(w, outcomes[i], (int64_t)run->by_outcome[i]);
	json_put_i64(w, "good", (int64_t)run->good);
	json_put_i64(w, "late", (int64_t)run->late);
	for (size_t i = 0; i < COUNT(members); i++)
		json_put_double(w, members[i].key, *(const double *)(const void *)((const char *)run + members[i].offset));
	json_end_object(w);
}

void sim_report_json(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_summary *runs,
                     size_t count, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "scenario", scenario->name);
	json_put_i64(&w, "seed", (int64_t)scenario->seed);
	json_put_i64(&w, "machines", sim_scenario_boxes(scenario));
	json_put_double(&w, "seconds", scenario->seconds);
	json_put_double(&w, "rps", trace->rps);
	json_put_double(&w, "capacity_rps", trace->capacity_rps);
	json_key(&w, "policies");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		put_run(&w, &runs[i]);
	json_end_array(&w);
	json_end_object(&w);
	(void)buf_append_byte(out, '\n');
}
