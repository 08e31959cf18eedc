/* Counters, gauges and histograms, shown at /metrics in the Prometheus text format. Registered at start, then plain writes to
 * memory. Thread: the loop's, except that counters may be read at any time. */
#ifndef COORDINATOR_METRICS_H
#define COORDINATOR_METRICS_H

#include "core/buf.h"
#include "core/error.h"

struct metrics;
struct metric; /* one time series: a name with fixed labels */

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/* name: [a-z_:]+; labels: `method="GET",path="/health"` or NULL; the same pair gives the same series. NULL when out of memory
 * (all functions below accept NULL). */
struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *labels, const char *help);
struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *labels, const char *help);
/* Buckets: powers of two from 1 to 2^26, shown divided by `scale` (1e6 to show microseconds as seconds). */
struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *labels, const char *help, double scale);

void metric_add(struct metric *metric, uint64_t n);
void metric_set(struct metric *metric, double value);
void metric_observe(struct metric *metric, uint64_t value);
uint64_t metric_count(const struct metric *metric); /* of a counter, or observations of a histogram */

/* Called by metrics_write just before it writes, to set gauges from live state. */
void metrics_on_write(struct metrics *metrics, void (*refresh)(void *arg), void *arg);
void metrics_write(struct metrics *metrics, struct buf *out);

#endif
