#include "coordinator/gateway/record_sum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/gateway/record.h"

#define BUCKETS_TO_DOUBLE 4
#define FADE_AT           2000.0 /* samples: then all counts are halved */

struct entry {
	char model[ROUTE_MODEL_SIZE];
	struct record_model_sum sum;
};

void record_sum_init(struct record_sum *sum)
{
	*sum = (struct record_sum){0};
	map_init(&sum->by_model);
}

void record_sum_free(struct record_sum *sum)
{
	struct entry *entry;
	for (size_t cursor = 0; (entry = map_next(&sum->by_model, &cursor));)
		free(entry);
	map_free(&sum->by_model);
}

static struct record_model_sum *of_model(struct record_sum *sum, const char *model)
{
	struct entry *entry = map_get(&sum->by_model, str_of(model));
	if (!entry && sum->by_model.count < RECORD_SUM_MODELS && (entry = calloc(1, sizeof *entry))) {
		(void)str_copy(str_of(model), entry->model, sizeof entry->model);
		if (map_put(&sum->by_model, str_of(entry->model), entry, NULL)) {
			free(entry);
			entry = NULL;
		}
	}
	return entry ? &entry->sum : &sum->other;
}

const struct record_model_sum *record_sum_of(const struct record_sum *sum, struct str model)
{
	const struct entry *entry = map_get(&sum->by_model, model);
	return entry ? &entry->sum : NULL;
}

static void fade(struct record_ratios *ratios)
{
	ratios->seen /= 2;
	ratios->over /= 2;
	for (size_t i = 0; i < RECORD_SUM_BUCKETS; i++)
		ratios->buckets[i] /= 2;
}

static void add(struct record_ratios *ratios, double predicted, double actual)
{
	if (predicted <= 0 || actual <= 0)
		return;
	double place = round(log2(actual / predicted) * BUCKETS_TO_DOUBLE) + (RECORD_SUM_BUCKETS - 1) / 2.0;
	place = place < 0 ? 0 : place >= RECORD_SUM_BUCKETS ? RECORD_SUM_BUCKETS - 1 : place;
	ratios->buckets[(size_t)place] += 1;
	ratios->seen += 1;
	ratios->over += actual > predicted;
	if (ratios->seen >= FADE_AT)
		fade(ratios);
}

void record_sum_add(struct record_sum *sum, const struct record *record)
{
	if (!record->chosen || record->ttft_ms < 0)
		return;
	struct record_model_sum *model = of_model(sum, record->model);
	add(&model->ttft, record->predicted_ttft_ms, record->ttft_ms);
	if (strcmp(record->outcome, "success") == 0)
		add(&model->tokens, (double)record->expected_tokens, (double)record->completion_tokens);
	if (record->tail_ms <= 0)
		return;
	model->tail_seen += 1;
	model->tail_held += record->ttft_ms <= record->tail_ms;
	if (model->tail_seen >= FADE_AT) {
		model->tail_seen /= 2;
		model->tail_held /= 2;
	}
}

double record_ratios_quantile(const struct record_ratios *ratios, double part)
{
	double below = 0, wanted = part * ratios->seen;
	for (size_t i = 0; i < RECORD_SUM_BUCKETS; i++) {
		below += ratios->buckets[i];
		if (below > 0 && below >= wanted)
			return exp2(((double)i - (RECORD_SUM_BUCKETS - 1) / 2.0) / BUCKETS_TO_DOUBLE);
	}
	return 0;
}

static void put_ratios(struct json_writer *w, const char *name, const struct record_ratios *ratios)
{
	static const struct {
		const char *name;
		double part;
	} parts[] = {{"p10", 0.1}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}};
	json_key(w, name);
	json_begin_object(w);
	json_put_double(w, "samples", ratios->seen);
	json_put_double(w, "over_share", ratios->seen > 0 ? ratios->over / ratios->seen : 0);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		json_put_double(w, parts[i].name, record_ratios_quantile(ratios, parts[i].part));
	json_end_object(w);
}

static void put_model(struct json_writer *w, const char *name, const struct record_model_sum *sum)
{
	json_key(w, name);
	json_begin_object(w);
	put_ratios(w, "ttft_actual_to_predicted", &sum->ttft);
	put_ratios(w, "tokens_actual_to_expected", &sum->tokens);
	json_put_double(w, "within_predicted_tail_share", sum->tail_seen > 0 ? sum->tail_held / sum->tail_seen : 0);
	json_end_object(w);
}

void record_sum_write(const struct record_sum *sum, struct json_writer *w)
{
	const struct entry *entry;
	json_begin_object(w);
	for (size_t cursor = 0; sum && (entry = map_next(&sum->by_model, &cursor));)
		put_model(w, entry->model, &entry->sum);
	if (sum && sum->other.ttft.seen + sum->other.tokens.seen > 0)
		put_model(w, "*", &sum->other);
	json_end_object(w);
}
