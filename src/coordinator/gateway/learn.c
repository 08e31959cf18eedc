#include "coordinator/gateway/learn.h"

#include <stdlib.h>

#define WEIGHT 0.05 /* of the newest answer */

struct learned {
	double tokens;
	size_t name_len;
	char name[];
};

void learn_init(struct learn *learn)
{
	map_init(&learn->models);
}

void learn_free(struct learn *learn)
{
	size_t cursor = 0;
	for (struct learned *model; (model = map_next(&learn->models, &cursor));)
		free(model);
	map_free(&learn->models);
}

static struct learned *add(struct learn *learn, struct str name)
{
	struct learned *model = learn->models.count < LEARN_MAX_MODELS ? malloc(sizeof *model + name.len) : NULL;
	if (!model)
		return NULL;
	model->tokens = LEARN_DEFAULT_TOKENS;
	model->name_len = name.len;
	memcpy(model->name, name.at, name.len);
	if (map_put(&learn->models, (struct str){model->name, name.len}, model, NULL)) {
		free(model);
		return NULL;
	}
	return model;
}

void learn_output(struct learn *learn, struct str name, uint64_t tokens)
{
	struct learned *model = map_get(&learn->models, name);
	if (!model)
		model = add(learn, name);
	if (model)
		model->tokens += WEIGHT * ((double)tokens - model->tokens);
}

uint64_t learn_expect(const struct learn *learn, struct str name)
{
	const struct learned *model = map_get(&learn->models, name);
	if (!model)
		return LEARN_DEFAULT_TOKENS;
	return model->tokens < 1 ? 1 : (uint64_t)model->tokens;
}

bool learn_knows(const struct learn *learn, struct str name)
{
	return map_get(&learn->models, name) != NULL;
}
