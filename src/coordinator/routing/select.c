/* Choosing a node and reserving on it. */
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

#define RESERVED_MAX   (UINT32_MAX / 1024) /* tokens of one reservation: many of them still have a sum */
#define HEAD_GAIN_MS   1.0
#define FETCH_ENTRIES  8    /* of a node */
#define TYPICAL_WEIGHT 0.01 /* of the newest request in what is typical of a model */

static uint64_t random_next(struct route_fleet *fleet)
{
	uint64_t z = fleet->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* --- candidates: entries that passed every gate --- */

/* Soft filters, the one that matters most first: a candidate that fails one is taken only where all do. */
enum grade { GRADE_SLOW = 1, GRADE_AVOIDED = 2, GRADE_NOT_OWNED = 4, GRADE_NONE = 8 };

struct search {
	struct route_fleet *fleet;
	const struct route_request *request;
	struct route_decision *decision;
	double prompt, output; /* tokens */
	uint16_t avoided;      /* version, or 0 */
	size_t count;          /* of fleet->candidates */
	bool bypass;           /* of the breakers of nodes */
	uint32_t grade;        /* the lowest so far */
	double best;           /* lowest cost of that grade */
};

static double entry_cost(const struct search *s, const struct route_entry *entry)
{
	return (double)entry->base_ms + s->prompt * (double)entry->prompt_ms + s->output * (double)entry->output_ms;
}

static bool is_avoided(const struct search *s, const struct route_entry *entry)
{
	return s->avoided && entry->node->facts.version == s->avoided;
}

static uint32_t grade_of(const struct search *s, const struct route_entry *entry)
{
	uint32_t grade = entry->slow ? GRADE_SLOW : 0;
	if (is_avoided(s, entry))
		grade |= GRADE_AVOIDED;
	if (s->request->prefer_own && !route_is_own(entry->node, s->request))
		grade |= GRADE_NOT_OWNED;
	return grade;
}

static void consider(struct search *s, struct route_entry *entry)
{
	struct route_candidate candidate = {.entry = entry, .cost = entry_cost(s, entry), .grade = grade_of(s, entry)};
	candidate.cached = route_cached_tokens(entry, s->request);
	candidate.cost -= (double)candidate.cached * (double)entry->prompt_ms;
	if (candidate.grade < s->grade || (candidate.grade == s->grade && candidate.cost < s->best)) {
		s->grade = candidate.grade;
		s->best = candidate.cost;
	}
	s->fleet->candidates[s->count++] = candidate;
}

static void probe(struct search *s, struct route_entry *entry)
{
	enum route_gate gate = route_request_gate(entry, s->request);
	if (gate == ROUTE_OK)
		consider(s, entry);
	else
		s->decision->by_gate[gate]++;
}

/* Costs this close are alike. */
static double tie_ms(const struct search *s)
{
	return s->request->urgent ? 0 : ROUTE_TIE_MS;
}

/* Of those alike one that keeps a prefix of the prompt is taken, but only where it is no busier than the others or would be the
 * cheapest all the same: a popular prefix does not overload its node (routing 7, selection 6). */
static const struct route_candidate *prefer_holder(const struct search *s, const struct route_candidate *best)
{
	const struct route_candidate *holder = best;
	for (size_t i = 0; s->request->prefix_count && best && i < s->count; i++) {
		const struct route_candidate *candidate = &s->fleet->candidates[i];
		if (candidate->grade != s->grade || candidate->cost > s->best + tie_ms(s) || candidate->cached <= holder->cached)
			continue;
		if (candidate->entry->queue <= best->entry->queue || candidate->cost <= s->best)
			holder = candidate;
	}
	return holder;
}

/* Routing 7, selection: the cheapest; of those alike the least busy; of those equally busy any. */
static const struct route_candidate *choose(const struct search *s)
{
	const struct route_candidate *best = NULL;
	uint64_t ties = 0;
	for (size_t i = 0; i < s->count; i++) {
		const struct route_candidate *candidate = &s->fleet->candidates[i];
		const struct route_entry *entry = candidate->entry, *leader = best ? best->entry : NULL;
		if (candidate->grade != s->grade || candidate->cost > s->best + tie_ms(s) || entry == leader)
			continue;
		int order = -1;
		if (leader)
			order = (entry->queue > leader->queue) - (entry->queue < leader->queue);
		if (leader && !order)
			order = (entry->node_pending > leader->node_pending) - (entry->node_pending < leader->node_pending);
		if (order < 0)
			ties = 0;
		if (order < 0 || (order == 0 && random_next(s->fleet) % (ties + 1) == 0))
			best = candidate;
		if (order <= 0)
			ties++;
	}
	return prefer_holder(s, best);
}

static double runner_up(const struct search *s, const struct route_entry *chosen)
{
	double best = -1;
	for (size_t i = 0; i < s->count; i++) {
		const struct route_candidate *candidate = &s->fleet->candidates[i];
		if (candidate->entry != chosen && candidate->grade == s->grade && (best < 0 || candidate->cost < best))
			best = candidate->cost;
	}
	return best;
}

/* --- walking the classes of a model --- */

struct place {
	double at_least; /* no entry at or below this place of the heap costs less */
	struct route_class *class;
	uint32_t rank;
};

#define FRONTIER_MAX 512 /* classes of a model and what ROUTE_PROBES steps add */

struct frontier {
	size_t count;
	struct place at[FRONTIER_MAX];
};

static double slope_ms(const struct search *s, const struct route_class *class)
{
	return s->prompt * (double)class->prompt_ms + s->output * (double)class->output_ms;
}

static void frontier_add(struct frontier *frontier, const struct search *s, struct route_class *class, uint32_t rank)
{
	if (rank >= class->len || frontier->count == FRONTIER_MAX)
		return;
	frontier->at[frontier->count++] =
	    (struct place){(double)(rank ? class->heap[rank].key : class->head) + slope_ms(s, class), class, rank};
}

static size_t frontier_best(const struct frontier *frontier)
{
	size_t best = 0;
	for (size_t i = 1; i < frontier->count; i++)
		if (frontier->at[i].at_least < frontier->at[best].at_least)
			best = i;
	return best;
}

/* Any entry of the class whose cost may be within `limit`: a random place, or the nearest above it that is. All alike, all are
 * drawn alike. */
static struct route_entry *draw(struct search *s, const struct route_class *class, uint32_t rank, double limit)
{
	while (rank && (double)class->heap[rank].key + slope_ms(s, class) > limit)
		rank = (rank - 1) / ROUTE_ARITY;
	return class->heap[rank].entry;
}

/* The fleet is larger than any cache: what will be looked at is fetched at once, and not one after the other. */
static void fetch(const void *line)
{
	__builtin_prefetch(line);
}

/* Below `bound`, which is not 0. */
static uint32_t random_below(struct route_fleet *fleet, uint32_t bound)
{
	return (uint32_t)(((random_next(fleet) >> 32) * bound) >> 32);
}

/* Those of the heads that are within `limit`, and how many entries their classes have. */
static uint32_t within(const struct frontier *heads, double limit, struct frontier *out)
{
	uint32_t entries = 0;
	out->count = 0;
	for (size_t i = 0; i < heads->count; i++) {
		if (heads->at[i].at_least > limit)
			continue;
		out->at[out->count++] = heads->at[i];
		entries += heads->at[i].class->len;
	}
	return entries;
}

/* The heads of the classes that may be cheapest. */
static size_t cheapest_heads(const struct frontier *heads, struct route_entry *out[ROUTE_HEADS])
{
	double at_least[ROUTE_HEADS];
	size_t count = 0;
	for (size_t i = 0; i < heads->count; i++) {
		const struct place *place = &heads->at[i];
		if (count == ROUTE_HEADS && place->at_least >= at_least[ROUTE_HEADS - 1])
			continue;
		size_t at = count < ROUTE_HEADS ? count++ : ROUTE_HEADS - 1;
		for (; at && at_least[at - 1] > place->at_least; at--) {
			at_least[at] = at_least[at - 1];
			out[at] = out[at - 1];
		}
		at_least[at] = place->at_least;
		out[at] = place->class->first;
	}
	return count;
}

/* What a reservation will touch of it. */
static void fetch_node(const struct route_entry *entry)
{
	const char *node = (const char *)entry->node;
	fetch(node);
	fetch(node + ROUTE_LINE);
}

static void fetch_entry(const struct route_entry *entry)
{
	fetch(entry);
	fetch((const char *)entry + ROUTE_LINE);
}

/* Most nodes have a few models, and their entries lie together: those on both sides are fetched before it is known which of
 * them are the node's. */
static void fetch_beside(const struct route_entry *entry)
{
	uintptr_t at = (uintptr_t)entry; /* what lies there may be another object, or none */
	fetch((const void *)(at - 2 * ROUTE_LINE));
	fetch((const void *)(at - ROUTE_LINE));
	fetch((const void *)(at + 2 * ROUTE_LINE));
	fetch((const void *)(at + 3 * ROUTE_LINE));
}

static void fetch_classes(const struct route_model *model)
{
	const char *at = (const char *)model->classes, *end = (const char *)(model->classes + model->class_count);
	for (; at < end; at += ROUTE_LINE)
		fetch(at);
}

/* Looks at some of those that are about as cheap as the cheapest may be, and at those that look cheapest. `heads` are the heads
 * of the classes. */
static void search_ties(struct search *s, const struct frontier *heads)
{
	struct frontier near;
	double limit = heads->at[frontier_best(heads)].at_least + ROUTE_TIE_MS;
	uint32_t tied = within(heads, limit, &near);
	uint32_t ranks[ROUTE_LOOK];
	const struct route_class *classes[ROUTE_LOOK];
	struct route_entry *drawn[ROUTE_LOOK], *first[ROUTE_HEADS];
	for (int look = 0; look < ROUTE_LOOK; look++) {
		uint32_t pick = random_below(s->fleet, tied);
		size_t i = 0;
		for (; pick >= near.at[i].class->len; i++)
			pick -= near.at[i].class->len;
		classes[look] = near.at[i].class;
		ranks[look] = pick;
		fetch(&classes[look]->heap[pick]);
	}
	size_t head_count = cheapest_heads(&near, first);
	for (size_t i = 0; i < head_count; i++)
		fetch_entry(first[i]);
	for (int look = 0; look < ROUTE_LOOK; look++) {
		drawn[look] = draw(s, classes[look], ranks[look], limit);
		fetch_entry(drawn[look]);
	}
	for (int look = 0; look < ROUTE_LOOK; look++) {
		fetch_node(drawn[look]);
		fetch_beside(drawn[look]);
	}
	for (int look = 0; look < ROUTE_LOOK; look++)
		probe(s, drawn[look]);
	double gain_ms = s->request->urgent ? 0 : HEAD_GAIN_MS;
	/* Only one that is cheaper than all that were drawn, so that of those alike every one has its turn. */
	for (size_t i = 0; i < head_count; i++)
		if (s->grade == GRADE_NONE || entry_cost(s, first[i]) < s->best - gain_ms)
			probe(s, first[i]);
}

/* Looks at the cheapest first, as far as ROUTE_PROBES, until one is as welcome as any of the pass can be. */
static void search_ranked(struct search *s, struct frontier *frontier, uint32_t aim)
{
	for (int probes = 0; probes < ROUTE_PROBES && frontier->count && s->grade > aim; probes++) {
		size_t best = frontier_best(frontier);
		struct place place = frontier->at[best];
		frontier->at[best] = frontier->at[--frontier->count];
		probe(s, place.class->heap[place.rank].entry);
		for (uint32_t i = 1; i <= ROUTE_ARITY; i++)
			frontier_add(frontier, s, place.class, place.rank * ROUTE_ARITY + i);
	}
}

static bool in_pass(const struct search *s, const struct route_class *class, bool slow)
{
	return class->slow == slow && class->trust >= (uint8_t)s->request->min_trust;
}

/* Nothing among the best would do (a rare shape, a very long prompt): looks at more of them in no order. */
static void search_any(struct search *s, struct route_model *model, bool slow)
{
	uint32_t left = ROUTE_SCAN;
	for (uint32_t i = ROUTE_CLASS_FIRST; i < model->class_count; i++) {
		const struct route_class *class = &model->classes[i];
		for (uint32_t rank = 0; in_pass(s, class, slow) && rank < class->len && left; rank++, left--)
			probe(s, class->heap[rank].entry);
	}
}

/* One pass over the classes that are fast enough for a newcomer, or over those that are not. */
static void search_pass(struct search *s, struct route_model *model, bool slow)
{
	struct frontier frontier;
	struct search before = *s;
	uint32_t gates_before[ROUTE_GATES];
	uint32_t aim = (slow ? GRADE_SLOW : 0) | (s->request->prefer_own ? GRADE_NOT_OWNED : 0);
	frontier.count = 0;
	for (uint32_t i = ROUTE_CLASS_FIRST; i < model->class_count; i++)
		if (in_pass(s, &model->classes[i], slow))
			frontier_add(&frontier, s, &model->classes[i], 0);
	if (!frontier.count)
		return;
	memcpy(gates_before, s->decision->by_gate, sizeof gates_before);
	search_ties(s, &frontier);
	if (s->grade > aim)
		search_ranked(s, &frontier, aim);
	if (s->grade < GRADE_NONE)
		return;
	memcpy(s->decision->by_gate, gates_before, sizeof gates_before); /* those seen so far are seen again */
	*s = before;
	search_any(s, model, slow);
}

static void search_regions(struct search *s, struct route_model *model);

/* Those that a breaker keeps from being offered: its other shape may be sound, or nobody else is left. */
static void search_sick(struct search *s, const struct route_model *model)
{
	const struct route_class *sick = &model->classes[ROUTE_CLASS_SICK];
	for (uint32_t rank = 0; rank < sick->len && rank < ROUTE_SCAN; rank++) {
		struct route_entry *entry = sick->heap[rank].entry;
		enum route_gate gate = route_check_entry(s->fleet, entry, s->request, s->bypass);
		if (gate == ROUTE_OK)
			consider(s, entry);
		else if (entry->gate == ROUTE_OK || entry->gate == ROUTE_CONCURRENCY) /* others are counted by their model */
			s->decision->by_gate[gate]++;
	}
}

/* Nodes that keep a prefix of the prompt, those with the longest first. */
static void search_holders(struct search *s, const struct route_model *model)
{
	struct route_entry *holders[ROUTE_HOLDERS];
	size_t left = ROUTE_HOLDERS;
	for (size_t i = 0; i < s->request->prefix_count && left; i++) {
		size_t count = route_holders_of(s->fleet, model, s->request->prefixes[i].digest, holders, left);
		for (size_t j = 0; j < count; j++)
			if (route_check_entry(s->fleet, holders[j], s->request, s->bypass) == ROUTE_OK)
				consider(s, holders[j]);
		left -= count;
	}
}

static void search_public(struct search *s, struct route_model *model)
{
	search_pass(s, model, false);
	if (s->grade == GRADE_NONE || s->grade & GRADE_AVOIDED)
		search_pass(s, model, true);
	if (s->grade == GRADE_NONE && s->request->regions)
		search_regions(s, model);
	if (s->grade == GRADE_NONE || s->request->tools)
		search_sick(s, model);
	if (s->grade != GRADE_NONE)
		search_holders(s, model);
}

/* --- nodes that are named by the request: by serial, by region, or as the caller's own --- */

static void check_node(struct search *s, struct route_node *node, struct route_model *model)
{
	struct route_entry *entry = route_node_entry(node, model);
	enum route_gate gate = entry ? route_check_entry(s->fleet, entry, s->request, s->bypass) : ROUTE_NOT_SERVING;
	if (gate == ROUTE_OK)
		consider(s, entry);
	else
		s->decision->by_gate[gate]++;
}

static void search_serials(struct search *s, struct route_model *model)
{
	for (size_t i = 0; i < s->request->serial_count && i < ROUTE_SCAN; i++) {
		struct route_node *node = map_get(&s->fleet->serials, s->request->serials[i]);
		if (node)
			check_node(s, node, model);
	}
}

/* In a region with few of many nodes a look at the best of all finds none. */
static void search_regions(struct search *s, struct route_model *model)
{
	uint32_t left = ROUTE_SCAN;
	for (size_t i = 0; i < s->request->region_count; i++) {
		struct route_group *region = map_get(&s->fleet->regions, s->request->regions[i]);
		if (!region)
			continue;
		LIST_EACH (link, &region->nodes) {
			if (!left--)
				return;
			check_node(s, LIST_OF(link, struct route_node, placed), model);
		}
	}
}

/* The caller's own nodes: all of them, or only those that the public cannot see. */
static void search_owned(struct search *s, struct route_model *model, bool all)
{
	struct route_group *owner = s->request->caller_account.len ? map_get(&s->fleet->owners, s->request->caller_account) : NULL;
	uint32_t left = ROUTE_SCAN;
	if (!owner)
		return;
	LIST_EACH (link, &owner->nodes) {
		struct route_node *node = LIST_OF(link, struct route_node, owned);
		const struct route_entry *entry = route_node_entry(node, model);
		if (!left--)
			return;
		if (all || (entry && entry->gate == ROUTE_PRIVATE_ONLY))
			check_node(s, node, model);
	}
}

static void search_all(struct search *s, struct route_model *model)
{
	const struct route_request *request = s->request;
	if (request->only) {
		check_node(s, request->only, model);
	} else if (request->serials) {
		search_serials(s, model);
	} else if (request->own_only) {
		search_owned(s, model, true);
	} else if (request->prefer_own) {
		search_owned(s, model, true);
		if (s->grade == GRADE_NONE)
			search_public(s, model);
	} else {
		search_public(s, model);
		search_owned(s, model, false);
	}
}

/* --- nothing found --- */

static bool some_full_node_would_do(struct search *s, const struct route_model *model)
{
	const struct route_class *full = &model->classes[ROUTE_CLASS_FULL];
	if (s->decision->by_gate[ROUTE_CONCURRENCY] && !full->len)
		return true; /* seen while looking at those that a breaker holds back */
	for (uint32_t rank = 0; rank < full->len && rank < ROUTE_SCAN; rank++) {
		enum route_gate gate = route_request_gate(full->heap[rank].entry, s->request);
		if (gate == ROUTE_OK || gate == ROUTE_BUDGET || gate == ROUTE_MEMORY)
			return true;
	}
	return false;
}

/* A request that is larger than a node's whole budget does not fit later either. */
static bool some_busy_node_would_do(struct search *s, const struct route_model *model)
{
	uint64_t need = route_need(s->request);
	uint32_t left = ROUTE_SCAN;
	for (uint32_t i = ROUTE_CLASS_FIRST; i < model->class_count; i++) {
		const struct route_class *class = &model->classes[i];
		for (uint32_t rank = 0; rank < class->len && left; rank++, left--) {
			const struct route_entry *entry = class->heap[rank].entry;
			enum route_gate gate = route_request_gate(entry, s->request);
			if ((gate == ROUTE_BUDGET || gate == ROUTE_MEMORY) && need <= route_ceiling(entry))
				return true;
		}
	}
	return false;
}

static bool names_nodes(const struct route_request *request)
{
	return request->only || request->serials || request->own_only;
}

static enum db_err explain_failure(struct search *s, const struct route_model *model)
{
	struct route_decision *decision = s->decision;
	if (names_nodes(s->request))
		return decision->by_gate[ROUTE_CONCURRENCY] || decision->by_gate[ROUTE_BUDGET] || decision->by_gate[ROUTE_MEMORY]
		           ? DB_E_AGAIN
		           : DB_E_NOT_FOUND;
	for (int gate = ROUTE_OK + 1; gate < ROUTE_GATES; gate++)
		decision->by_gate[gate] += model->by_gate[gate];
	/* Nodes that the policy trusts enough and the caller does not: their classes were not looked at. */
	for (enum route_trust trust = s->fleet->policy.min_trust; trust < s->request->min_trust; trust++)
		decision->by_gate[ROUTE_TRUST_FLOOR] += model->trust[trust];
	return some_full_node_would_do(s, model) || some_busy_node_would_do(s, model) ? DB_E_AGAIN : DB_E_NOT_FOUND;
}

/* Only breakers stand in the way (routing 11.3): better a node that may be sick than none. A healthy one that is
 * busy is better still, and waited for. */
static const struct route_candidate *fail_open(struct search *s, struct route_model *model)
{
	struct route_decision before = *s->decision;
	if (!s->decision->by_gate[ROUTE_NODE_BREAKER] && !s->decision->by_gate[ROUTE_SHAPE_BREAKER])
		return NULL;
	s->bypass = true;
	if (names_nodes(s->request))
		search_all(s, model);
	else
		search_sick(s, model);
	*s->decision = before;
	s->decision->bypassed_breaker = s->count > 0;
	return choose(s);
}

/* --- reservations --- */

static struct route_reservation *reservation_new(struct route_fleet *fleet)
{
	struct list_link *link = list_pop_front(&fleet->spare_reservations);
	if (link)
		return LIST_OF(link, struct route_reservation, link);
	return calloc(1, sizeof(struct route_reservation));
}

static void reserve(struct search *s, struct route_entry *entry, struct route_reservation *reservation)
{
	struct route_node *node = entry->node;
	struct route_model *model = entry->model;
	uint64_t need = route_need(s->request);
	*reservation = (struct route_reservation){
	    .node = node,
	    .entry = entry,
	    .tokens = need < RESERVED_MAX ? (uint32_t)need : RESERVED_MAX,
	    .unread_ms = (s->prompt - (double)s->decision->affinity_tokens) * (double)entry->prompt_ms,
	    .beat = node->beat,
	    .shape = (uint8_t)route_shape_of(s->request),
	};
	reservation->cold = entry->cold;
	reservation->made_us = s->fleet->now_us;
	reservation->predicted_ms = (float)route_entry_ttft(entry, s->request);
	reservation->read_ms = (float)reservation->unread_ms;
	s->decision->probe = route_probe_begin(s->fleet, reservation);
	list_push_back(&node->reservations, &reservation->link);
	entry->pending++;
	entry->pending_tokens += reservation->tokens;
	node->pending++;
	node->unread++;
	node->unread_ms += reservation->unread_ms;
	model->known.typical_prompt += TYPICAL_WEIGHT * (s->prompt - model->known.typical_prompt);
	model->known.typical_output += TYPICAL_WEIGHT * (s->output - model->known.typical_output);
	if (s->decision->probe)
		route_device_refresh(s->fleet, node->device);
	else
		route_node_reloaded(s->fleet, node);
}

static void read_prompt(struct route_node *node, struct route_reservation *reservation)
{
	if (reservation->read)
		return;
	reservation->read = true;
	node->unread--;
	node->unread_ms = node->unread ? node->unread_ms - reservation->unread_ms : 0; /* no rounding is left */
}

void route_prompt_read(struct route_fleet *fleet, struct route_reservation *reservation)
{
	if (!reservation->node || reservation->read)
		return;
	read_prompt(reservation->node, reservation);
	route_node_reloaded(fleet, reservation->node);
}

void route_release(struct route_fleet *fleet, struct route_reservation *reservation)
{
	if (!reservation)
		return;
	struct route_node *node = reservation->node;
	struct route_entry *entry = reservation->entry;
	bool probed = route_probe_end(reservation);
	if (entry) {
		entry->pending--;
		entry->pending_tokens -= reservation->tokens;
		if (reservation->beat != node->beat) {
			entry->released++;
			entry->released_tokens += reservation->tokens;
		}
	}
	if (node) {
		list_remove(&node->reservations, &reservation->link);
		node->pending--;
		read_prompt(node, reservation);
		if (probed)
			route_device_refresh(fleet, node->device);
		else
			route_node_reloaded(fleet, node);
	}
	reservation->node = NULL;
	reservation->entry = NULL;
	list_push_front(&fleet->spare_reservations, &reservation->link);
}

struct route_node *route_reservation_node(const struct route_reservation *reservation)
{
	return reservation->node;
}

static uint32_t fetched_entries(const struct route_node *node)
{
	return node->entry_count < FETCH_ENTRIES ? node->entry_count : FETCH_ENTRIES;
}

static void fetch_entries(const struct route_node *node)
{
	const char *at = (const char *)node->entries;
	for (uint32_t i = 0; i < fetched_entries(node); i++) {
		fetch(at + i * sizeof(struct route_entry));
		fetch(at + i * sizeof(struct route_entry) + ROUTE_LINE);
	}
}

static void describe_cost(const struct search *s, const struct route_candidate *chosen)
{
	struct route_decision *decision = s->decision;
	const struct route_entry *entry = chosen->entry;
	decision->node = entry->node;
	decision->cost_ms = chosen->cost;
	decision->cold = entry->cold;
	decision->affinity_tokens = chosen->cached;
	decision->owned = route_is_own(entry->node, s->request);
	decision->expected_tokens = route_expected(s->request);
	route_entry_cost(entry, s->request, &decision->terms);
}

static void describe_times(const struct search *s, const struct route_entry *entry)
{
	struct route_decision *decision = s->decision;
	double predicted_ms = route_entry_ttft(entry, s->request);
	decision->ttft_ms = predicted_ms < 0 ? predicted_ms : predicted_ms * route_ttft_factor(entry->model);
	decision->tail_ms = route_tail_ms(entry->model, predicted_ms);
}

/* What the reservation will change is fetched step by step meanwhile. */
static void describe(const struct search *s, const struct route_candidate *chosen)
{
	const struct route_node *node = chosen->entry->node;
	uint32_t count = fetched_entries(node);
	fetch_entries(node);
	s->decision->runner_up_ms = runner_up(s, chosen->entry);
	route_index_fetch_models(node->entries, count);
	describe_cost(s, chosen);
	route_index_fetch_classes(node->entries, count);
	describe_times(s, chosen->entry);
	route_index_fetch_places(node->entries, count);
}

enum db_err route_select(struct route_fleet *fleet, const struct route_request *request, uint64_t now_us,
                         struct route_decision *decision, struct route_reservation **reservation)
{
	*decision = (struct route_decision){.ttft_ms = -1, .tail_ms = -1, .runner_up_ms = -1};
	*reservation = NULL;
	route_advance(fleet, now_us);
	struct route_model *model = route_model_find(fleet, request->model);
	if (!model)
		return DB_E_NOT_FOUND;
	struct search s = {
	    .fleet = fleet,
	    .request = request,
	    .decision = decision,
	    .prompt = (double)request->prompt_tokens,
	    .output = (double)route_expected(request),
	    .grade = GRADE_NONE,
	    .avoided = route_name_find(&fleet->versions, request->avoid_version),
	};
	fetch_classes(model);
	decision->considered = model->entries;
	search_all(&s, model);
	const struct route_candidate *chosen = choose(&s);
	if (!chosen) {
		enum db_err why = explain_failure(&s, model);
		chosen = why == DB_E_NOT_FOUND ? fail_open(&s, model) : NULL;
		if (!chosen)
			return why;
	}
	fetch_node(chosen->entry);
	struct route_reservation *made = reservation_new(fleet);
	if (!made)
		return DB_E_NOMEM;
	describe(&s, chosen);
	reserve(&s, chosen->entry, made);
	*reservation = made;
	return DB_OK;
}
