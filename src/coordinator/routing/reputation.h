/* A provider's reputation (routing 14): shown to people, and used by nothing. */
#ifndef COORDINATOR_REPUTATION_H
#define COORDINATOR_REPUTATION_H

#include <stdbool.h>
#include <stdint.h>

struct reputation {
	uint32_t jobs_ok, jobs_failed, challenges_passed, challenges_failed;
	uint32_t uptime_s; /* of the last day: time away is taken off again */
	float latency_ms;  /* decayed mean of the time to the first content beyond reading the prompt; 0 = no sample */
	uint64_t seen_us;  /* 0 = never */
};

void reputation_job(struct reputation *reputation, bool ok);
void reputation_challenge(struct reputation *reputation, bool passed);
void reputation_seen(struct reputation *reputation, uint64_t now_us); /* a heartbeat */
void reputation_latency(struct reputation *reputation, double ms);    /* <= 0 is ignored */
double reputation_score(const struct reputation *reputation);         /* 0 .. 1 */

#endif
