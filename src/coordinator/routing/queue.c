#include "coordinator/routing/queue.h"

#include <math.h>
#include <stdlib.h>

#include "core/list.h"
#include "core/map.h"

#define TAG_UNIT          1024.0 /* of virtual time for one token at weight 1 */
#define UNKNOWN_MS        3000.0 /* between two hand-offs, while none was measured */
#define INTERVAL_WEIGHT   0.2    /* of the newest */
#define MODELS_KEPT       4096   /* whose pace is remembered while nobody waits */
#define RETRY_LEAST_S     1.0
#define RETRY_MOST_S      120.0
#define INTERACTIVE_SHARE 4.0 /* weights of priorities */
#define BATCH_SHARE       0.25

/* Waiters that the same node can run, as far as is known without one. */
struct queue_group {
	struct list_link link; /* in its model */
	uint64_t key;
	struct heap turns;
};

/* An account's part in the queue of a model. */
struct queue_share {
	uint64_t finish; /* virtual time at which what it asked for so far is done */
	uint32_t waiting;
	size_t name_len;
	char name[];
};

struct queue_model {
	struct list groups;
	struct map shares;
	uint32_t waiting;
	uint64_t now;       /* virtual: of the last that was taken */
	uint64_t since_us;  /* the last hand-off, or when the queue began to fill */
	double interval_ms; /* between hand-offs while somebody waits; 0 = not measured */
	size_t name_len;
	char name[];
};

struct queues {
	struct map models;
	struct heap deadlines;
	size_t total;
};

struct queues *queues_new(void)
{
	struct queues *queues = calloc(1, sizeof *queues);
	if (queues)
		map_init(&queues->models);
	return queues;
}

uint32_t queue_places(uint32_t nodes)
{
	uint64_t places = 2ull * nodes;
	return places < QUEUE_LEAST_PLACES ? QUEUE_LEAST_PLACES : places > QUEUE_MOST_PLACES ? QUEUE_MOST_PLACES : (uint32_t)places;
}

/* --- groups --- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

static uint64_t mix_text(uint64_t hash, struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		hash = mix(hash, (unsigned char)text.at[i]);
	return mix(hash, text.len);
}

static unsigned magnitude(uint64_t tokens)
{
	return tokens ? 64 - (unsigned)__builtin_clzll(tokens) : 0;
}

/* The same for requests that the same nodes can take: shape, size, and what the request names. Two that differ only share a
 * key by chance, and then the later is asked later. */
static uint64_t group_key(const struct route_request *r)
{
	uint64_t flags = (r->tools ? 1u : 0) | (r->vision ? 2u : 0) | (r->blind ? 4u : 0) | (r->plain_prompt ? 8u : 0) |
	                 (r->own_only ? 16u : 0) | (unsigned)r->min_trust << 6;
	uint64_t key = mix(mix(1, flags), (uint64_t)r->needs << 8 | magnitude(r->prompt_tokens + r->max_tokens));
	if (r->own_only)
		key = mix_text(key, r->caller_account);
	for (size_t i = 0; r->serials && i < r->serial_count; i++)
		key = mix_text(key, r->serials[i]);
	for (size_t i = 0; r->regions && i < r->region_count; i++)
		key = mix_text(mix(key, 'r'), r->regions[i]);
	return r->only ? mix(key, (uint64_t)(uintptr_t)r->only) : key;
}

static struct queue_group *group_get(struct queue_model *model, uint64_t key)
{
	LIST_EACH (link, &model->groups) {
		struct queue_group *group = LIST_OF(link, struct queue_group, link);
		if (group->key == key)
			return group;
	}
	struct queue_group *group = calloc(1, sizeof *group);
	if (!group)
		return NULL;
	group->key = key;
	list_push_back(&model->groups, &group->link);
	return group;
}

static void group_drop_if_empty(struct queue_model *model, struct queue_group *group)
{
	if (group->turns.len)
		return;
	list_remove(&model->groups, &group->link);
	heap_free(&group->turns);
	free(group);
}

/* --- shares --- */

static struct str share_name(const struct queue_share *share)
{
	return (struct str){share->name, share->name_len};
}

static struct queue_share *share_get(struct queue_model *model, struct str account)
{
	struct queue_share *share = map_get(&model->shares, account);
	if (share)
		return share;
	share = calloc(1, sizeof *share + account.len);
	if (!share)
		return NULL;
	if (account.len)
		memcpy(share->name, account.at, account.len);
	share->name_len = account.len;
	if (map_put(&model->shares, share_name(share), share, NULL)) {
		free(share);
		return NULL;
	}
	return share;
}

/* What it was served before lies in the past of the model's virtual time: nothing of it matters any more. */
static void share_drop_if_idle(struct queue_model *model, struct queue_share *share)
{
	if (share->waiting)
		return;
	map_remove(&model->shares, share_name(share));
	free(share);
}

static uint64_t virtual_cost(const struct queue_waiter *waiter)
{
	static const double shares[ROUTE_PRIORITIES] = {
	    [ROUTE_PRIORITY_NORMAL] = 1, [ROUTE_PRIORITY_INTERACTIVE] = INTERACTIVE_SHARE, [ROUTE_PRIORITY_BATCH] = BATCH_SHARE};
	double tokens = 1 + (double)waiter->request.prompt_tokens + (double)waiter->request.expected_tokens;
	double weight = (waiter->weight > 0 ? waiter->weight : 1) * shares[waiter->priority];
	double cost = TAG_UNIT * (tokens < 1e9 ? tokens : 1e9) / weight;
	return cost < 1 ? 1 : (uint64_t)cost;
}

/* --- models --- */

static struct str model_name(const struct queue_model *model)
{
	return (struct str){model->name, model->name_len};
}

static struct queue_model *model_get(struct queues *queues, struct str name)
{
	struct queue_model *model = map_get(&queues->models, name);
	if (model)
		return model;
	model = calloc(1, sizeof *model + name.len);
	if (!model)
		return NULL;
	list_init(&model->groups);
	map_init(&model->shares);
	memcpy(model->name, name.at, name.len);
	model->name_len = name.len;
	if (map_put(&queues->models, model_name(model), model, NULL)) {
		free(model);
		return NULL;
	}
	return model;
}

static void model_free(struct queue_model *model)
{
	size_t cursor = 0;
	for (struct queue_share *share; (share = map_next(&model->shares, &cursor));)
		free(share);
	map_free(&model->shares);
	for (struct list_link *link; (link = list_pop_front(&model->groups));) {
		struct queue_group *group = LIST_OF(link, struct queue_group, link);
		for (uint32_t i = 0; i < group->turns.len; i++) {
			struct queue_waiter *waiter = LIST_OF(group->turns.at[i], struct queue_waiter, turn);
			waiter->turn.place = waiter->end.place = 0;
			waiter->model = NULL;
		}
		heap_free(&group->turns);
		free(group);
	}
	free(model);
}

static void model_drop_if_empty(struct queues *queues, struct queue_model *model)
{
	if (model->waiting || queues->models.count <= MODELS_KEPT)
		return;
	map_remove(&queues->models, model_name(model));
	model_free(model);
}

void queues_free(struct queues *queues)
{
	size_t cursor = 0;
	if (!queues)
		return;
	for (struct queue_model *model; (model = map_next(&queues->models, &cursor));)
		model_free(model);
	map_free(&queues->models);
	heap_free(&queues->deadlines);
	free(queues);
}

/* --- in and out --- */

/* With its tag. On failure nothing is left of it. */
static enum db_err stand(struct queues *queues, struct queue_model *model, struct queue_waiter *waiter,
                         struct queue_share *share, uint64_t key)
{
	struct queue_group *group = group_get(model, key);
	if (!group)
		return DB_E_NOMEM;
	bool stands = heap_put(&group->turns, &waiter->turn, waiter->tag) &&
	              (!waiter->deadline_us || heap_put(&queues->deadlines, &waiter->end, waiter->deadline_us));
	if (!stands) {
		heap_remove(&group->turns, &waiter->turn);
		group_drop_if_empty(model, group);
		return DB_E_NOMEM;
	}
	waiter->model = model;
	waiter->group = group;
	waiter->share = share;
	if (waiter->tag > share->finish)
		share->finish = waiter->tag;
	share->waiting++;
	model->waiting++;
	queues->total++;
	return DB_OK;
}

/* Does not end its model: the caller does. */
static struct queue_model *take_out(struct queues *queues, struct queue_waiter *waiter)
{
	struct queue_model *model = waiter->model;
	heap_remove(&waiter->group->turns, &waiter->turn);
	heap_remove(&queues->deadlines, &waiter->end);
	group_drop_if_empty(model, waiter->group);
	waiter->share->waiting--;
	share_drop_if_idle(model, waiter->share);
	waiter->model = NULL;
	waiter->group = NULL;
	waiter->share = NULL;
	model->waiting--;
	queues->total--;
	return model;
}

enum db_err queue_enter(struct queues *queues, struct queue_waiter *waiter, uint32_t places, uint64_t now_us)
{
	struct queue_model *model = model_get(queues, waiter->request.model);
	struct queue_share *share = model ? share_get(model, waiter->request.caller_account) : NULL;
	enum db_err err = DB_E_NOMEM;
	waiter->turn.place = waiter->end.place = 0;
	waiter->model = NULL;
	if (share) {
		uint64_t start = share->finish > model->now ? share->finish : model->now;
		waiter->entered_us = now_us;
		waiter->tag = start + virtual_cost(waiter);
		bool full = model->waiting >= (share->waiting ? places : 2 * places);
		err = full ? DB_E_LIMIT : stand(queues, model, waiter, share, group_key(&waiter->request));
	}
	if (!err) {
		if (model->waiting == 1)
			model->since_us = now_us;
		return DB_OK;
	}
	if (share)
		share_drop_if_idle(model, share);
	if (model)
		model_drop_if_empty(queues, model);
	return err;
}

enum db_err queue_return(struct queues *queues, struct queue_waiter *waiter)
{
	struct queue_model *model = model_get(queues, waiter->request.model);
	struct queue_share *share = model ? share_get(model, waiter->request.caller_account) : NULL;
	/* Where its shape could start, it could not: from now on it is asked by itself and stands in nobody's way. */
	uint64_t alone = mix(group_key(&waiter->request), (uint64_t)(uintptr_t)waiter);
	enum db_err err = share ? stand(queues, model, waiter, share, alone) : DB_E_NOMEM;
	if (err && share)
		share_drop_if_idle(model, share);
	if (err && model)
		model_drop_if_empty(queues, model);
	return err;
}

bool queue_leave(struct queues *queues, struct queue_waiter *waiter)
{
	if (!waiter->model)
		return false;
	if (waiter->share->finish == waiter->tag) /* the last of its account: what it did not get is not held against it */
		waiter->share->finish -= virtual_cost(waiter);
	model_drop_if_empty(queues, take_out(queues, waiter));
	return true;
}

struct queue_waiter *queue_expired(struct queues *queues, uint64_t now_us)
{
	struct heap_item *first = heap_first(&queues->deadlines);
	if (!first || first->key > now_us)
		return NULL;
	struct queue_waiter *waiter = LIST_OF(first, struct queue_waiter, end);
	(void)queue_leave(queues, waiter);
	return waiter;
}

/* --- hand-offs --- */

static void measure(struct queue_model *model, uint64_t now_us)
{
	double ms = now_us > model->since_us ? (double)(now_us - model->since_us) / 1000 : 0.001;
	model->interval_ms += model->interval_ms > 0 ? INTERVAL_WEIGHT * (ms - model->interval_ms) : ms;
	model->since_us = now_us;
}

struct queue_waiter *queue_take(struct queues *queues, struct str name,
                                bool (*can_run)(const struct queue_waiter *waiter, void *user), void *user, uint64_t now_us)
{
	struct queue_model *model = map_get(&queues->models, name);
	struct queue_waiter *best = NULL;
	if (!model)
		return NULL;
	LIST_EACH (link, &model->groups) {
		struct heap_item *first = heap_first(&LIST_OF(link, struct queue_group, link)->turns);
		struct queue_waiter *waiter = LIST_OF(first, struct queue_waiter, turn);
		bool earlier = !best || waiter->tag < best->tag || (waiter->tag == best->tag && waiter->entered_us < best->entered_us);
		if (earlier && can_run(waiter, user))
			best = waiter;
	}
	if (!best)
		return NULL;
	model->now = best->tag > model->now ? best->tag : model->now;
	measure(model, now_us);
	model_drop_if_empty(queues, take_out(queues, best));
	return best;
}

/* --- views --- */

uint32_t queue_length(const struct queues *queues, struct str name)
{
	const struct queue_model *model = map_get(&queues->models, name);
	return model ? model->waiting : 0;
}

struct queue_demand queue_demand(const struct queues *queues, struct str name)
{
	struct queue_model *model = map_get(&queues->models, name);
	struct queue_demand demand = {.tools = true, .vision = true};
	if (!model)
		return (struct queue_demand){0};
	LIST_EACH (link, &model->groups) {
		const struct queue_group *group = LIST_OF(link, struct queue_group, link);
		const struct queue_waiter *first = LIST_OF(group->turns.at[0], struct queue_waiter, turn);
		const struct route_request *request = &first->request;
		if (request->only || request->serials || request->own_only)
			continue;
		demand.waiting += group->turns.len;
		demand.tools &= request->tools;
		demand.vision &= request->vision;
		demand.some_tools |= request->tools;
		demand.some_vision |= request->vision;
	}
	demand.tools &= demand.waiting > 0;
	demand.vision &= demand.waiting > 0;
	return demand;
}

size_t queue_total(const struct queues *queues)
{
	return queues->total;
}

uint32_t queue_retry_after_s(const struct queues *queues, struct str name, uint64_t now_us)
{
	const struct queue_model *model = map_get(&queues->models, name);
	double waiting = model ? model->waiting : 0;
	double interval_ms = model && model->interval_ms > 0 ? model->interval_ms : UNKNOWN_MS;
	/* Nothing has moved for longer than usual: it will not be quicker for the next. */
	double still_ms = waiting > 0 && now_us > model->since_us ? (double)(now_us - model->since_us) / 1000 : 0;
	if (still_ms > interval_ms)
		interval_ms = still_ms;
	double seconds = ceil((waiting + 1) * interval_ms / 1000);
	return (uint32_t)(seconds < RETRY_LEAST_S ? RETRY_LEAST_S : seconds > RETRY_MOST_S ? RETRY_MOST_S : seconds);
}
