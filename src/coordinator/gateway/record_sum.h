/* What was predicted against what came, for each model: how far the time to the first content and the number of tokens are off,
 * as routing knew them when it decided. Counts fade, so that what was learnt since shows. Bounded: models beyond
 * RECORD_SUM_MODELS are counted as one. Thread: the loop's. */
#ifndef COORDINATOR_GATEWAY_RECORD_SUM_H
#define COORDINATOR_GATEWAY_RECORD_SUM_H

#include <stdint.h>

#include "core/json.h"
#include "core/map.h"

#define RECORD_SUM_MODELS  256
#define RECORD_SUM_BUCKETS 41 /* of ratios from 1/32 to 32, four to a doubling */

struct record;

struct record_ratios {
	double seen, over; /* over: more came than was predicted */
	double buckets[RECORD_SUM_BUCKETS];
};

struct record_model_sum {
	struct record_ratios ttft, tokens;
	double tail_seen, tail_held; /* a tail was predicted; the content came within it */
};

struct record_sum {
	struct map by_model;           /* struct record_model_sum */
	struct record_model_sum other; /* of models that had no room */
};

void record_sum_init(struct record_sum *sum);
void record_sum_free(struct record_sum *sum);
void record_sum_add(struct record_sum *sum, const struct record *record);
/* actual / predicted below which this part of them was; 0 when there is none. */
double record_ratios_quantile(const struct record_ratios *ratios, double part);
const struct record_model_sum *record_sum_of(const struct record_sum *sum, struct str model); /* NULL: none seen */
/* An object with a member for each model. */
void record_sum_write(const struct record_sum *sum, struct json_writer *w);

#endif
