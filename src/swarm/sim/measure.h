/* What is counted while a simulation runs, and what is made of it. Thread: one at a time. */
#ifndef SWARM_SIM_MEASURE_H
#define SWARM_SIM_MEASURE_H

#include "core/buf.h"
#include "swarm/sim/workload.h"
#include "swarm/stats.h"

#define SIM_FIRST_TENANTS 8
#define SIM_SERIES        240 /* points of the curves over time */

enum sim_outcome {
	SIM_OPEN,    /* still under way when the simulation ended: never, it runs until all have ended */
	SIM_OK,      /* the whole answer */
	SIM_REFUSED, /* no content, an honest error */
	SIM_PARTIAL, /* an error in the middle */
	SIM_LEFT,    /* the client went away */
	SIM_OUTCOMES
};

struct sim_result { /* of one request */
	float ttft_ms;  /* of those with content */
	float done_ms;
	float queue_ms;
	float rate_tps; /* mean, of the output */
	uint32_t made;  /* tokens of output that the client got */
	uint8_t outcome, tries;
	bool content, cold, hedged, resumed, late; /* late: neither content nor an error by the deadline */
};

struct sim_measure {
	struct stats gaps_us; /* between tokens of a stream, one sample for each so many tokens */
	double gap_carry;
	double tokens_in, tokens_out;         /* worked off by machines */
	double used_prompt, used_output;      /* of those: by attempts with content, and what reached clients */
	double wasted_prompt, wasted_output;  /* ... by attempts without, and what reached nobody */
	double extra_tokens, answered_tokens; /* of hedges' losers, and of whole answers with their prompts */
	uint64_t hedges, hedges_won, hedges_over;
	uint64_t loads, load_failures, evictions;
	uint64_t cached_tokens;
	uint64_t attempts, faults, timeouts, resumed;
	double busy[SIM_SERIES], queued[SIM_SERIES], connected[SIM_SERIES]; /* by time */
	double loaded[SIM_SERIES], wasted[SIM_SERIES], worked[SIM_SERIES];  /* sums until then: loads, tokens */
	uint64_t decisions, refused_later, to_liars;
	uint64_t refused_draining, drain_us, drained_us; /* drained: the first moment without a request since then */
	uint64_t barred;                                 /* attempts at machines that may not serve the request: none */
	uint64_t bad_hashes;
	uint64_t to_model[SIM_MAX_MODELS]; /* attempts */
	uint64_t most_of_one;              /* attempts at one machine */
	uint64_t still_pending;            /* reservations when all have ended: none */
	uint64_t overstayed;               /* that waited past their deadline, or events before their time: never */
	uint64_t owned_twice;              /* requests that were in a queue and in somebody's hand at once: never */
	/* When every decision is compared with a look at every machine. */
	uint64_t scans;
	double chosen_ms, scan_ms, cheapest_ms; /* costs of what was chosen, of what a scan would choose, of the cheapest */
	double beyond_ms;                       /* above the cheapest, of choices that were not near-ties of it */
};

/* A stream made `tokens` at so many a second. */
void sim_measure_gap(struct sim_measure *measure, double tokens, double rate_tps);

void sim_measure_sums(struct sim_measure *measure, size_t at); /* of a point of the curves */

struct sim_summary {
	char policy[32];
	uint64_t requests, by_outcome[SIM_OUTCOMES], good, late;
	double seconds;
	double utilisation; /* share of the machines' time in which they worked */
	double ttft_p50, ttft_p90, ttft_p95, ttft_p99, ttft_p999, ttft_mean;
	double gap_p50, gap_p99, rate_p1, rate_p50;  /* ms; tokens a second of whole answers */
	double goodput_rps, goodput_tps, served_tps; /* good: content in time, at the goal's rate, whole */
	double fairness;                             /* Jain's index over tenants' share of good answers */
	double cold_share, loads, load_failures, evictions;
	double wasted_share, extra_share; /* of the tokens worked off; of answered ones, for hedges */
	double queue_mean_ms, queue_p99_ms, queue_max;
	double hedges, hedges_won, resumed, timeouts, faults, cached_share;
	double ttft_p99_series[SIM_SERIES], ttft_p50_series[SIM_SERIES], good_series[SIM_SERIES], asked_series[SIM_SERIES];
	double busy_series[SIM_SERIES], queue_series[SIM_SERIES], connected_series[SIM_SERIES];
	double loads_series[SIM_SERIES], wasted_series[SIM_SERIES]; /* loads so far; share of the tokens worked off by then */
	double gap_curve[101];                                      /* percentiles 0 .. 100, ms */
	double tenant_curve[101];          /* share of good answers, of the tenant that fares worst to the one that fares best */
	double ttft_curve[101];            /* percentiles 0 .. 100, ms */
	double busiest_share, liars_share; /* of the attempts: those at one machine, at machines that lied */
	double recovery_s; /* after the first loss; -1: there was none; as long as the run when it never recovered */
	double over_scan_share, over_cheapest_share; /* what decisions cost above a scan's, and above the cheapest */
	double over_ties_share;                      /* likewise, where what is near to the cheapest counts as it */
	double refused_draining, drained_s; /* refused for it; until nothing was under way, -1: never, or it was not asked */
	double bad_hashes, attempts;
	double to_model[SIM_MAX_MODELS]; /* share of the attempts */
	double alias_share;              /* of the first alias: percent that its desired build gets in the end; -1: none */
	bool rolled_back;                /* ... because it failed or was slow */
	uint32_t most_tries;             /* of one request */
	uint32_t longest_answered, shortest_refused; /* prompts, tokens; 0 and the largest number when there are none */
	uint64_t barred;
	uint64_t overstayed;                   /* never */
	uint64_t owned_twice, still_pending;   /* never: see sim_measure; reservations that outlived every request */
	double answered_of[SIM_FIRST_TENANTS]; /* share of the requests of the first tenants */
	double queue_of_ms[SIM_FIRST_TENANTS]; /* how long they waited, mean */
	double tokens_lost;                    /* worked off by machines and in neither account: none, but for rounding */
	bool finished;                         /* every request ended */
};

/* NULL, or which rule that holds in every run (routing 21) this one broke. */
const char *sim_broken_rule(const struct sim_summary *run);

void sim_summarise(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_result *results,
                   const struct sim_measure *measure, const char *policy, struct sim_summary *out);

#endif
