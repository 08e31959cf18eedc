/* Predicted against actual times to the first content, for each model: a decayed histogram of their ratio, from which later
 * predictions are corrected and the tail is known. Bounded: one histogram a model. */
#include <math.h>

#include "coordinator/routing/routing_internal.h"

#define LOWEST       (-4.0) /* log2 of the ratio at which the first bucket begins */
#define STEP         0.25   /* of log2 */
#define DECAY        0.99f  /* of what was seen, with each sample */
#define ENOUGH       8.0    /* samples before anything is corrected */
#define ENOUGH_TAIL  20.0   /* and before the tail is known */
#define TAIL         0.95
#define FACTOR_LEAST 0.25
#define FACTOR_MOST  4.0

static int bucket_of(double ratio)
{
	double at = (log2(ratio) - LOWEST) / STEP;
	return at < 0 ? 0 : at >= ROUTE_RATIO_BUCKETS ? ROUTE_RATIO_BUCKETS - 1 : (int)at;
}

void route_calibrate(struct route_model *model, double predicted_ms, double actual_ms)
{
	struct route_ratios *ratios = &model->known.ratios;
	if (!(predicted_ms > 0) || !(actual_ms > 0))
		return;
	for (int i = 0; i < ROUTE_RATIO_BUCKETS; i++)
		ratios->weight[i] *= DECAY;
	ratios->weight[bucket_of(actual_ms / predicted_ms)] += 1;
	ratios->total = ratios->total * DECAY + 1;
}

/* The ratio below which that share of the samples lies, at most a bucket too large. */
static double quantile(const struct route_ratios *ratios, double share)
{
	double left = share * (double)ratios->total;
	int i = 0;
	while (i < ROUTE_RATIO_BUCKETS - 1 && (left -= (double)ratios->weight[i]) > 0)
		i++;
	return exp2(LOWEST + STEP * (i + 1));
}

double route_ttft_factor(const struct route_model *model)
{
	if ((double)model->known.ratios.total < ENOUGH)
		return 1;
	double median = quantile(&model->known.ratios, 0.5) / exp2(STEP / 2);
	return median < FACTOR_LEAST ? FACTOR_LEAST : median > FACTOR_MOST ? FACTOR_MOST : median;
}

double route_tail_ms(const struct route_model *model, double predicted_ms)
{
	if (predicted_ms < 0 || (double)model->known.ratios.total < ENOUGH_TAIL)
		return -1;
	return predicted_ms * quantile(&model->known.ratios, TAIL);
}

double route_first_content(struct route_fleet *fleet, struct route_reservation *reservation, uint64_t now_us)
{
	double actual_ms = now_us > reservation->made_us ? (double)(now_us - reservation->made_us) / 1000 : 0;
	const struct route_node *node = reservation->node;
	if (!node || !reservation->entry)
		return actual_ms;
	route_prompt_read(fleet, reservation);
	route_calibrate(reservation->entry->model, (double)reservation->predicted_ms, actual_ms);
	if (node->device && !reservation->cold)
		reputation_latency(&node->device->reputation, actual_ms - (double)reservation->read_ms);
	return actual_ms;
}
