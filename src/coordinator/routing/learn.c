#include "coordinator/routing/learn.h"

#include <stdlib.h>

#define WEIGHT      0.05 /* of the newest answer of a model */
#define PAIR_WEIGHT 0.2  /* of the newest of an account */
#define PAIR_TRUST  4.0  /* answers after which an account's own average counts as much as its model's */
#define PAIR_MOST   20   /* answers beyond which it counts no more */
#define NAME_MAX    512

struct learned {
	struct list_link recent; /* of a pair */
	double tokens;
	uint32_t answers;
	size_t name_len;
	char name[];
};

void learn_init(struct learn *learn)
{
	map_init(&learn->models);
	map_init(&learn->pairs);
	list_init(&learn->recent);
}

static void free_all(struct map *map)
{
	size_t cursor = 0;
	for (struct learned *learned; (learned = map_next(map, &cursor));)
		free(learned);
	map_free(map);
}

void learn_free(struct learn *learn)
{
	free_all(&learn->models);
	free_all(&learn->pairs);
}

static struct learned *add(struct map *map, struct str name, double tokens)
{
	struct learned *learned = calloc(1, sizeof *learned + name.len);
	if (!learned)
		return NULL;
	learned->tokens = tokens;
	learned->name_len = name.len;
	memcpy(learned->name, name.at, name.len);
	if (map_put(map, (struct str){learned->name, name.len}, learned, NULL)) {
		free(learned);
		return NULL;
	}
	return learned;
}

/* Empty when there is no account, or no room for the name. */
static struct str pair_name(struct str model, struct str account, char out[NAME_MAX])
{
	if (!account.len || account.len + 1 + model.len > NAME_MAX)
		return STR_NONE;
	memcpy(out, account.at, account.len);
	out[account.len] = '\0';
	memcpy(out + account.len + 1, model.at, model.len);
	return (struct str){out, account.len + 1 + model.len};
}

static void forget_oldest(struct learn *learn)
{
	struct learned *oldest = LIST_OF(list_pop_front(&learn->recent), struct learned, recent);
	map_remove(&learn->pairs, (struct str){oldest->name, oldest->name_len});
	free(oldest);
}

static void learn_pair(struct learn *learn, struct str name, double tokens)
{
	struct learned *pair = map_get(&learn->pairs, name);
	if (!pair && learn->pairs.count == LEARN_MAX_PAIRS)
		forget_oldest(learn);
	if (!pair)
		pair = add(&learn->pairs, name, tokens);
	if (!pair)
		return;
	pair->tokens += PAIR_WEIGHT * (tokens - pair->tokens);
	pair->answers += pair->answers < PAIR_MOST;
	list_remove(&learn->recent, &pair->recent);
	list_push_back(&learn->recent, &pair->recent);
}

void learn_output(struct learn *learn, struct str name, struct str account, uint64_t tokens)
{
	char space[NAME_MAX];
	struct str pair = pair_name(name, account, space);
	struct learned *model = map_get(&learn->models, name);
	if (!model && learn->models.count < LEARN_MAX_MODELS)
		model = add(&learn->models, name, LEARN_DEFAULT_TOKENS);
	if (model)
		model->tokens += WEIGHT * ((double)tokens - model->tokens);
	if (model && pair.len)
		learn_pair(learn, pair, (double)tokens);
}

uint64_t learn_expect(const struct learn *learn, struct str name, struct str account)
{
	char space[NAME_MAX];
	struct str pair_key = pair_name(name, account, space);
	const struct learned *model = map_get(&learn->models, name);
	const struct learned *pair = model && pair_key.len ? map_get(&learn->pairs, pair_key) : NULL;
	if (!model)
		return LEARN_DEFAULT_TOKENS;
	double tokens = model->tokens;
	if (pair)
		tokens += (pair->tokens - tokens) * pair->answers / (pair->answers + PAIR_TRUST);
	return tokens < 1 ? 1 : (uint64_t)tokens;
}

bool learn_knows(const struct learn *learn, struct str name)
{
	return map_get(&learn->models, name) != NULL;
}

bool learn_next(const struct learn *learn, bool pairs, size_t *cursor, struct learn_known *out)
{
	const struct learned *learned = map_next(pairs ? &learn->pairs : &learn->models, cursor);
	if (!learned)
		return false;
	*out = (struct learn_known){{learned->name, learned->name_len}, learned->tokens, learned->answers};
	return true;
}

void learn_put(struct learn *learn, bool pair, const struct learn_known *known)
{
	struct map *map = pair ? &learn->pairs : &learn->models;
	if (map_get(map, known->name) || map->count >= (pair ? LEARN_MAX_PAIRS : LEARN_MAX_MODELS))
		return;
	struct learned *learned = add(map, known->name, known->tokens);
	if (!learned)
		return;
	learned->answers = known->answers < PAIR_MOST ? known->answers : PAIR_MOST;
	if (pair)
		list_push_back(&learn->recent, &learned->recent);
}
