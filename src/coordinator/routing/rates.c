#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

static struct route_rates *find(const struct route_model *model, uint16_t family)
{
	for (uint32_t i = 0; i < model->known.rate_count; i++)
		if (model->known.rates[i]->family == family)
			return model->known.rates[i];
	return NULL;
}

static struct route_rates *make(struct route_rates ***all, uint32_t *count, uint16_t family)
{
	struct route_rates **grown = realloc(*all, (*count + 1) * sizeof *grown);
	if (!grown)
		return NULL;
	*all = grown;
	struct route_rates *rates = calloc(1, sizeof *rates);
	if (!rates)
		return NULL;
	rates->family = family;
	grown[(*count)++] = rates;
	return rates;
}

void route_rates_free(struct route_rates **rates, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		free(rates[i]);
	free(rates);
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

static void add(struct route_rates *rates, float tps)
{
	if (rates->count == ROUTE_RATE_SAMPLES)
		sorted_remove(rates, rates->ring[rates->next]);
	rates->ring[rates->next] = tps;
	rates->next = (uint8_t)((rates->next + 1) % ROUTE_RATE_SAMPLES);
	sorted_insert(rates, tps);
}

void route_rates_add(struct route_model *model, uint16_t family, double tps)
{
	struct route_rates *rates = find(model, family);
	if (!rates)
		rates = make(&model->known.rates, &model->known.rate_count, family);
	if (rates) /* else out of memory: the median stays as it was */
		add(rates, (float)tps);
}

enum db_err route_rates_put(struct route_past_model *past, uint16_t family, const float *samples, size_t count)
{
	struct route_rates *rates = make(&past->known.rates, &past->known.rate_count, family);
	for (size_t i = 0; rates && i < count; i++)
		add(rates, samples[i]);
	return rates ? DB_OK : DB_E_NOMEM;
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
