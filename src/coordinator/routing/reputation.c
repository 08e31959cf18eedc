#include "coordinator/routing/reputation.h"

#include <stddef.h>

#define DAY_S          86400u
#define GAP_US         (120ull * 1000000) /* a longer silence is time away */
#define LATENCY_WEIGHT 0.2f
#define LATENCY_GOOD   1000.0
#define LATENCY_BAD    10000.0
#define UNKNOWN        0.5

void reputation_job(struct reputation *reputation, bool ok)
{
	uint32_t *count = ok ? &reputation->jobs_ok : &reputation->jobs_failed;
	*count += *count < UINT32_MAX;
}

void reputation_challenge(struct reputation *reputation, bool passed)
{
	uint32_t *count = passed ? &reputation->challenges_passed : &reputation->challenges_failed;
	*count += *count < UINT32_MAX;
}

void reputation_seen(struct reputation *reputation, uint64_t now_us)
{
	uint64_t gap_us = reputation->seen_us && now_us > reputation->seen_us ? now_us - reputation->seen_us : 0;
	uint64_t gap_s = gap_us / 1000000;
	if (reputation->seen_us && gap_s == 0)
		return; /* until a whole second has passed */
	reputation->seen_us = now_us;
	if (gap_us > GAP_US)
		reputation->uptime_s -= gap_s < reputation->uptime_s ? (uint32_t)gap_s : reputation->uptime_s;
	else
		reputation->uptime_s += gap_s < DAY_S - reputation->uptime_s ? (uint32_t)gap_s : DAY_S - reputation->uptime_s;
}

void reputation_latency(struct reputation *reputation, double ms)
{
	if (!(ms > 0))
		return;
	float sample = (float)ms;
	reputation->latency_ms += reputation->latency_ms > 0 ? LATENCY_WEIGHT * (sample - reputation->latency_ms) : sample;
}

static double share(uint32_t good, uint32_t bad)
{
	return good || bad ? good / ((double)good + bad) : UNKNOWN;
}

static double clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

double reputation_score(const struct reputation *r)
{
	if (!r->jobs_ok && !r->jobs_failed && !r->challenges_passed && !r->challenges_failed)
		return UNKNOWN;
	double latency = UNKNOWN;
	if (r->latency_ms > 0)
		latency = clamp((LATENCY_BAD - (double)r->latency_ms) / (LATENCY_BAD - LATENCY_GOOD), 0, 1);
	double score = 0.4 * share(r->jobs_ok, r->jobs_failed) + 0.3 * clamp(r->uptime_s / (double)DAY_S, 0.5, 1) +
	               0.2 * share(r->challenges_passed, r->challenges_failed) + 0.1 * latency;
	return clamp(score, 0, 1);
}
