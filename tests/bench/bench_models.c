/* What GET /v1/models costs with 500 models: from what was kept, with the copy that an answer makes of it. */
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/models.h"
#include "core/clock.h"
#include "wire/register.h"

#define MODELS 500
#define ROUNDS 2000

static char names[MODELS][ROUTE_MODEL_SIZE];

static uint64_t version(void *user)
{
	return *(const uint64_t *)user;
}

static size_t views(void *user, struct route_model_view *out, size_t max)
{
	(void)user;
	for (size_t i = 0; i < MODELS && i < max; i++)
		out[i] = (struct route_model_view){.id = str_of(names[i]),
		                                   .nodes = 20,
		                                   .routable = 18,
		                                   .warm = 9,
		                                   .attested = 20,
		                                   .best_trust = ROUTE_TRUST_HARDWARE,
		                                   .quantization = STR("4bit"),
		                                   .context_tokens = 131072,
		                                   .can = WIRE_CAN_CHAT | WIRE_CAN_TOOLS | WIRE_CAN_JSON | WIRE_CAN_SCHEMA};
	return MODELS;
}

static struct price price(void *user, struct str model)
{
	(void)user;
	(void)model;
	return (struct price){50000, 200000, 0};
}

int main(void)
{
	uint64_t number = 1;
	struct models_source source = {
	    .version = version, .views = views, .price = price, .user = &number, .created_s = 1767000000};
	struct models *models = models_new(&source);
	for (size_t i = 0; i < MODELS; i++)
		(void)snprintf(names[i], sizeof names[i], "organisation/a-model-with-a-usual-name-%03zu-4bit", i);
	struct str list = models ? models_list(models) : STR_NONE;
	char *copy = malloc(list.len + 1);
	if (!copy || list.len < MODELS * 100)
		return 1;
	uint64_t begun = clock_mono_us();
	for (size_t i = 0; i < ROUNDS; i++) {
		list = models_list(models);
		memcpy(copy, list.at, list.len);
		__asm__ volatile("" : : "r"(copy) : "memory"); /* so that the copy is made */
	}
	printf("bench models_list_us %.2f us\n", (double)(clock_mono_us() - begun) / ROUNDS);
	begun = clock_mono_us();
	for (size_t i = 0; i < ROUNDS / 10; i++) {
		models_free(models);
		models = models_new(&source);
		if (!models || !models_list(models).len)
			return 1;
	}
	printf("bench models_list_rebuild_us %.1f us\n", (double)(clock_mono_us() - begun) / (ROUNDS / 10.0));
	printf("bench models_list_bytes %zu bytes\n", list.len);
	models_free(models);
	free(copy);
	return 0;
}
