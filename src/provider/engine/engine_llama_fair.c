/* Whose turn it is among the waiting calls. */
#include "provider/engine/engine_llama.h"

#include <stdlib.h>

static struct llama_tenant *find(struct llama_engine *engine, struct str name)
{
	LIST_EACH (link, &engine->tenants) {
		struct llama_tenant *tenant = LIST_OF(link, struct llama_tenant, link);
		if (str_eq(tenant->name, name))
			return tenant;
	}
	return NULL;
}

/* Whoever comes anew starts level with the one that was given the least, so that absence earns no credit. */
static double level(const struct llama_engine *engine)
{
	double least = -1;
	LIST_EACH (link, &engine->tenants) {
		const struct llama_tenant *tenant = LIST_OF(link, struct llama_tenant, link);
		if (least < 0 || tenant->served < least)
			least = tenant->served;
	}
	return least > 0 ? least : 0;
}

static struct llama_tenant *add(struct llama_engine *engine, struct str name)
{
	struct llama_tenant *tenant = calloc(1, sizeof *tenant + name.len);
	if (!tenant)
		return NULL;
	char *copy = (char *)(tenant + 1);
	if (name.len)
		memcpy(copy, name.at, name.len);
	tenant->name = (struct str){copy, name.len};
	tenant->served = level(engine);
	list_push_back(&engine->tenants, &tenant->link);
	return tenant;
}

void llama_fair_join(struct llama_engine *engine, struct llama_call *call)
{
	struct str name = call->root->tenant;
	call->turn = find(engine, name);
	if (!call->turn)
		call->turn = add(engine, name); /* without memory for it the call is in nobody's turn, and goes first */
	if (call->turn)
		call->turn->calls++;
}

void llama_fair_leave(struct llama_engine *engine, struct llama_call *call)
{
	struct llama_tenant *tenant = call->turn;
	call->turn = NULL;
	if (!tenant || --tenant->calls)
		return;
	list_remove(&engine->tenants, &tenant->link);
	free(tenant);
}

/* --- order --- */

struct place {
	struct llama_call *call;
	bool resumes; /* it ran before and was put back: it goes first */
	uint32_t rank;
	double served;
	size_t arrival;
};

static int compare(const void *left, const void *right)
{
	const struct place *a = left, *b = right;
	if (a->resumes != b->resumes)
		return a->resumes ? -1 : 1;
	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	if (a->served < b->served || b->served < a->served)
		return a->served < b->served ? -1 : 1;
	return a->arrival < b->arrival ? -1 : a->arrival > b->arrival;
}

static void start_ranks(struct llama_engine *engine)
{
	LIST_EACH (link, &engine->tenants) {
		struct llama_tenant *tenant = LIST_OF(link, struct llama_tenant, link);
		tenant->rank = tenant->running;
	}
}

/* The rank is how many of its tenant's calls run or come before it. */
static struct place place_of(struct llama_call *call, size_t arrival)
{
	struct llama_tenant *tenant = call->turn;
	return (struct place){.call = call,
	                      .resumes = call->started,
	                      .rank = tenant ? tenant->rank++ : 0,
	                      .served = tenant ? tenant->served : 0,
	                      .arrival = arrival};
}

static bool may_run(struct llama_engine *engine, const struct llama_call *call)
{
	const struct llama_call *root = call->root;
	return !atomic_load(&root->paused) && (call == root || root->group.forked) && llama_cache_ready(engine, call);
}

struct llama_call *llama_fair_next(struct llama_engine *engine)
{
	struct place best = {.call = NULL};
	size_t arrival = 0;
	start_ranks(engine);
	LIST_EACH (link, &engine->waiting) {
		struct llama_call *call = LIST_OF(link, struct llama_call, link);
		if (!may_run(engine, call))
			continue;
		struct place place = place_of(call, arrival++);
		if (!best.call || compare(&place, &best) < 0)
			best = place;
	}
	return best.call;
}

void llama_fair_number(struct llama_engine *engine)
{
	struct place places[ENGINE_MAX_WAITING * 2];
	size_t count = 0;
	start_ranks(engine);
	LIST_EACH (link, &engine->waiting) {
		struct llama_call *call = LIST_OF(link, struct llama_call, link);
		if (call == call->root && count < sizeof places / sizeof *places) {
			places[count] = place_of(call, count);
			count++;
		}
	}
	qsort(places, count, sizeof *places, compare);
	for (size_t i = 0; i < count; i++)
		atomic_store(&places[i].call->position, (unsigned)i + 1);
}
