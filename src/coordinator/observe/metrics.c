#include "coordinator/observe/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/list.h"

#define BUCKETS 27 /* upper bounds 2^0 .. 2^26 */

enum kind { COUNTER, GAUGE, HISTOGRAM };

struct metric {
	struct list_link link; /* in its family */
	struct family *family;
	_Atomic uint64_t count; /* of a counter, or observations */
	double gauge;
	double sum, scale;
	uint64_t *buckets; /* observations by bucket, the last one above all bounds; histograms only */
	char labels[];
};

struct family {
	struct list_link link;
	struct list series;
	enum kind kind;
	char *name, *help;
};

struct refresher {
	void (*refresh)(void *arg);
	void *arg;
};

struct metrics {
	struct list families;
	struct refresher *refreshers;
	size_t refresher_count;
};

struct metrics *metrics_new(void)
{
	struct metrics *metrics = calloc(1, sizeof *metrics);
	if (metrics)
		list_init(&metrics->families);
	return metrics;
}

static void family_free(struct family *family)
{
	for (struct list_link *link; (link = list_pop_front(&family->series));) {
		struct metric *metric = LIST_OF(link, struct metric, link);
		free(metric->buckets);
		free(metric);
	}
	free(family->name);
	free(family->help);
	free(family);
}

void metrics_free(struct metrics *metrics)
{
	if (!metrics)
		return;
	for (struct list_link *link; (link = list_pop_front(&metrics->families));)
		family_free(LIST_OF(link, struct family, link));
	free(metrics->refreshers);
	free(metrics);
}

/* --- registration --- */

static struct family *family_get(struct metrics *metrics, const char *name, const char *help, enum kind kind)
{
	LIST_EACH (link, &metrics->families) {
		struct family *family = LIST_OF(link, struct family, link);
		if (strcmp(family->name, name) == 0)
			return family->kind == kind ? family : NULL;
	}
	struct family *family = calloc(1, sizeof *family);
	if (!family)
		return NULL;
	list_init(&family->series);
	family->kind = kind;
	family->name = strdup(name);
	family->help = strdup(help ? help : "");
	if (!family->name || !family->help) {
		family_free(family);
		return NULL;
	}
	list_push_back(&metrics->families, &family->link);
	return family;
}

static struct metric *series_get(struct metrics *metrics, const char *name, const char *labels, const char *help,
                                 enum kind kind)
{
	struct family *family = metrics ? family_get(metrics, name, help, kind) : NULL;
	if (!family)
		return NULL;
	labels = labels ? labels : "";
	LIST_EACH (link, &family->series) {
		struct metric *metric = LIST_OF(link, struct metric, link);
		if (strcmp(metric->labels, labels) == 0)
			return metric;
	}
	struct metric *metric = calloc(1, sizeof *metric + strlen(labels) + 1);
	if (!metric)
		return NULL;
	memcpy(metric->labels, labels, strlen(labels));
	metric->family = family;
	metric->scale = 1;
	if (kind == HISTOGRAM)
		metric->buckets = calloc(BUCKETS + 1, sizeof *metric->buckets);
	if (kind == HISTOGRAM && !metric->buckets) {
		free(metric);
		return NULL;
	}
	list_push_back(&family->series, &metric->link);
	return metric;
}

struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *labels, const char *help)
{
	return series_get(metrics, name, labels, help, COUNTER);
}

struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *labels, const char *help)
{
	return series_get(metrics, name, labels, help, GAUGE);
}

struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *labels, const char *help, double scale)
{
	struct metric *metric = series_get(metrics, name, labels, help, HISTOGRAM);
	if (metric && scale > 0)
		metric->scale = scale;
	return metric;
}

void metrics_on_write(struct metrics *metrics, void (*refresh)(void *arg), void *arg)
{
	struct refresher *grown = realloc(metrics->refreshers, (metrics->refresher_count + 1) * sizeof *grown);
	if (!grown)
		return;
	metrics->refreshers = grown;
	grown[metrics->refresher_count++] = (struct refresher){refresh, arg};
}

/* --- recording: one thread writes, so a plain read and a store do --- */

static void count_more(struct metric *metric, uint64_t n)
{
	uint64_t count = atomic_load_explicit(&metric->count, memory_order_relaxed);
	atomic_store_explicit(&metric->count, count + n, memory_order_relaxed);
}

void metric_add(struct metric *metric, uint64_t n)
{
	if (metric)
		count_more(metric, n);
}

void metric_set(struct metric *metric, double value)
{
	if (metric)
		metric->gauge = value;
}

static unsigned bucket_of(uint64_t value)
{
	unsigned bucket = 0;
	while (bucket < BUCKETS && value > UINT64_C(1) << bucket)
		bucket++;
	return bucket;
}

void metric_observe(struct metric *metric, uint64_t value)
{
	if (!metric || !metric->buckets)
		return;
	metric->buckets[bucket_of(value)]++;
	metric->sum += (double)value;
	count_more(metric, 1);
}

uint64_t metric_count(const struct metric *metric)
{
	return metric ? atomic_load_explicit(&metric->count, memory_order_relaxed) : 0;
}

/* --- the text format --- */

static void write_value(struct buf *out, double value)
{
	if (isnan(value))
		(void)buf_append_c(out, "NaN");
	else if (isinf(value))
		(void)buf_append_c(out, value > 0 ? "+Inf" : "-Inf");
	else
		(void)buf_printf(out, "%.12g", value);
}

/* `name{labels,extra} ` with whatever of both there is. */
static void write_name(struct buf *out, const char *name, const char *suffix, const char *labels, const char *extra)
{
	bool both = *labels && *extra, any = *labels || *extra;
	(void)buf_printf(out, "%s%s%s%s%s%s%s ", name, suffix, any ? "{" : "", labels, both ? "," : "", extra, any ? "}" : "");
}

static void write_histogram(struct buf *out, const struct metric *metric)
{
	const char *name = metric->family->name;
	char bound[64];
	uint64_t below = 0;
	for (unsigned i = 0; i < BUCKETS; i++) {
		below += metric->buckets[i];
		snprintf(bound, sizeof bound, "le=\"%.12g\"", (double)(UINT64_C(1) << i) / metric->scale);
		write_name(out, name, "_bucket", metric->labels, bound);
		(void)buf_printf(out, "%" PRIu64 "\n", below);
	}
	write_name(out, name, "_bucket", metric->labels, "le=\"+Inf\"");
	(void)buf_printf(out, "%" PRIu64 "\n", metric_count(metric));
	write_name(out, name, "_sum", metric->labels, "");
	write_value(out, metric->sum / metric->scale);
	(void)buf_append_byte(out, '\n');
	write_name(out, name, "_count", metric->labels, "");
	(void)buf_printf(out, "%" PRIu64 "\n", metric_count(metric));
}

static void write_series(struct buf *out, const struct metric *metric)
{
	if (metric->buckets) {
		write_histogram(out, metric);
		return;
	}
	write_name(out, metric->family->name, "", metric->labels, "");
	if (metric->family->kind == GAUGE)
		write_value(out, metric->gauge);
	else
		(void)buf_printf(out, "%" PRIu64, metric_count(metric));
	(void)buf_append_byte(out, '\n');
}

static void write_help(struct buf *out, const struct family *family)
{
	(void)buf_printf(out, "# HELP %s ", family->name);
	for (const char *c = family->help; *c; c++) {
		if (*c == '\n' || *c == '\\')
			(void)buf_append_c(out, *c == '\n' ? "\\n" : "\\\\");
		else
			(void)buf_append_byte(out, *c);
	}
	(void)buf_append_byte(out, '\n');
}

void metrics_write(struct metrics *metrics, struct buf *out)
{
	static const char *const kinds[] = {"counter", "gauge", "histogram"};
	for (size_t i = 0; i < metrics->refresher_count; i++)
		metrics->refreshers[i].refresh(metrics->refreshers[i].arg);
	LIST_EACH (link, &metrics->families) {
		const struct family *family = LIST_OF(link, struct family, link);
		write_help(out, family);
		(void)buf_printf(out, "# TYPE %s %s\n", family->name, kinds[family->kind]);
		LIST_EACH (at, &family->series)
			write_series(out, LIST_OF(at, struct metric, link));
	}
}
