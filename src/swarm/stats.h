/* Latency samples and their percentiles. Thread: one at a time. */
#ifndef SWARM_STATS_H
#define SWARM_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Logarithmic buckets, 64 to the octave: an error below 1.1 %. */
#define STATS_SUB_BITS 6
#define STATS_BUCKETS  ((64 - STATS_SUB_BITS + 1) << STATS_SUB_BITS)

struct stats {
	uint64_t count, sum, max;
	uint64_t buckets[STATS_BUCKETS];
};

void stats_add(struct stats *stats, uint64_t value);
/* The value below which `fraction` of the samples lie; 0 without samples. */
double stats_percentile(const struct stats *stats, double fraction);
double stats_mean(const struct stats *stats);

#endif
