#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

static struct route_rates *find(const struct route_model *model, uint16_t family)
{
	for (uint32_t i = 0; i < model->rate_count; i++)
		if (model->rates[i]->family == family)
			return model->rates[i];
	return NULL;
}

static struct route_rates *make(struct route_model *model, uint16_t family)
{
	struct route_rates **grown = realloc(model->rates, (model->rate_count + 1) * sizeof *grown);
	if (!grown)
		return NULL;
	model->rates = grown;
	struct route_rates *rates = calloc(1, sizeof *rates);
	if (!rates)
		return NULL;
	rates->family = family;
	model->rates[model->rate_count++] = rates;
	return rates;
}

static void sorted_remove(struct route_rates *rates, float value)
{
	uint8_t at = 0;
	while (rates->sorted[at] < value)
		at++;
	memmove(&rates->sorted[at], &rates->sorted[at + 1], (size_t)(rates->count - at - 1) * sizeof(float));
	rates->count--;
}

static void sorted_insert(struct route_rates *rates, float value)
{
	uint8_t at = rates->count;
	while (at > 0 && rates->sorted[at - 1] > value) {
		rates->sorted[at] = rates->sorted[at - 1];
		at--;
	}
	rates->sorted[at] = value;
	rates->count++;
}

void route_rates_add(struct route_model *model, uint16_t family, double tps)
{
	struct route_rates *rates = find(model, family);
	if (!rates)
		rates = make(model, family);
	if (!rates)
		return; /* out of memory: the median stays as it was */
	if (rates->count == ROUTE_RATE_SAMPLES)
		sorted_remove(rates, rates->ring[rates->next]);
	rates->ring[rates->next] = (float)tps;
	rates->next = (uint8_t)((rates->next + 1) % ROUTE_RATE_SAMPLES);
	sorted_insert(rates, (float)tps);
}

double route_rates_median(const struct route_model *model, uint16_t family)
{
	const struct route_rates *rates = find(model, family);
	if (!rates)
		return 0;
	unsigned middle = rates->count / 2;
	if (rates->count % 2)
		return (double)rates->sorted[middle];
	return ((double)rates->sorted[middle - 1] + (double)rates->sorted[middle]) / 2;
}

uint32_t route_rates_count(const struct route_model *model, uint16_t family)
{
	const struct route_rates *rates = find(model, family);
	return rates ? rates->count : 0;
}
