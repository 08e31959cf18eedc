#include "swarm/stats.h"

static size_t bucket_of(uint64_t value)
{
	if (value < (1u << STATS_SUB_BITS))
		return (size_t)value;
	int octave = 63 - __builtin_clzll(value);
	size_t sub = (size_t)(value >> (octave - STATS_SUB_BITS)) & ((1u << STATS_SUB_BITS) - 1);
	return ((size_t)(octave - STATS_SUB_BITS + 1) << STATS_SUB_BITS) + sub;
}

/* The middle of a bucket. */
static double value_of(size_t bucket)
{
	if (bucket < (1u << STATS_SUB_BITS))
		return (double)bucket;
	int octave = (int)(bucket >> STATS_SUB_BITS) + STATS_SUB_BITS - 1;
	double sub = (double)(bucket & ((1u << STATS_SUB_BITS) - 1)) + 0.5;
	return (double)(1ull << octave) * (1.0 + sub / (double)(1u << STATS_SUB_BITS));
}

void stats_add(struct stats *stats, uint64_t value)
{
	stats->buckets[bucket_of(value)]++;
	stats->count++;
	stats->sum += value;
	if (value > stats->max)
		stats->max = value;
}

double stats_percentile(const struct stats *stats, double fraction)
{
	uint64_t rank = (uint64_t)(fraction * (double)stats->count), seen = 0;
	for (size_t i = 0; i < STATS_BUCKETS; i++) {
		seen += stats->buckets[i];
		if (seen > rank)
			return value_of(i);
	}
	return (double)stats->max;
}

double stats_mean(const struct stats *stats)
{
	return stats->count ? (double)stats->sum / (double)stats->count : 0;
}
