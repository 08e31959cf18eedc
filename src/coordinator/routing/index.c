/* Models, and the order of their entries. A class's heap is 4-ary: its children lie in one cache line or two, and an entry that
 * gets dearer sinks in few steps. */
#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "coordinator/routing/routing_internal.h"

/* --- models --- */

struct route_model *route_model_find(const struct route_fleet *fleet, struct str id)
{
	return map_get(&fleet->models, id);
}

static struct str model_id(const struct route_model *model)
{
	return (struct str){model->id, model->id_len};
}

static int compare_ids(struct str a, struct str b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = memcmp(a.at, b.at, shorter);
	return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* First position in fleet->sorted whose id is not below `id`. */
static size_t sorted_place(const struct route_fleet *fleet, struct str id)
{
	size_t low = 0, high = fleet->model_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_ids(model_id(fleet->sorted[middle]), id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool sorted_insert(struct route_fleet *fleet, struct route_model *model)
{
	if (fleet->model_count == fleet->model_cap) {
		size_t cap = fleet->model_cap ? fleet->model_cap * 2 : 64;
		struct route_model **grown = realloc(fleet->sorted, cap * sizeof *grown);
		if (!grown)
			return false;
		fleet->sorted = grown;
		fleet->model_cap = cap;
	}
	size_t at = sorted_place(fleet, model_id(model));
	memmove(&fleet->sorted[at + 1], &fleet->sorted[at], (fleet->model_count - at) * sizeof *fleet->sorted);
	fleet->sorted[at] = model;
	fleet->model_count++;
	return true;
}

static void model_free(struct route_model *model)
{
	for (uint32_t i = 0; i < model->class_count; i++)
		free(model->classes[i].heap);
	route_rates_free(model->known.rates, model->known.rate_count);
	free(model->classes);
	free(model->files);
	free(model);
}

static bool has_part(struct str id, const char *part)
{
	size_t len = strlen(part);
	for (size_t at = 0; len && at + len <= id.len; at++)
		if (strncasecmp(id.at + at, part, len) == 0)
			return true;
	return false;
}

static uint8_t family_of(const struct route_policy *policy, struct str id)
{
	for (size_t i = 0; i < policy->dedicated_count && i < UINT8_MAX; i++)
		if (has_part(id, policy->dedicated[i]))
			return (uint8_t)(i + 1);
	return 0;
}

struct route_model *route_model_get(struct route_fleet *fleet, struct str id)
{
	struct route_model *model = route_model_find(fleet, id);
	if (model)
		return model;
	model = calloc(1, sizeof *model + id.len);
	if (!model)
		return NULL;
	memcpy(model->id, id.at, id.len);
	model->id_len = id.len;
	model->family = family_of(&fleet->policy, id);
	model->classes = calloc(ROUTE_CLASS_FIRST, sizeof *model->classes);
	if (!model->classes || map_put(&fleet->models, model_id(model), model, NULL)) {
		model_free(model);
		return NULL;
	}
	model->class_count = model->class_cap = ROUTE_CLASS_FIRST;
	model->known.typical_prompt = ROUTE_TYPICAL_PROMPT;
	model->known.typical_output = ROUTE_DEFAULT_OUTPUT;
	if (!sorted_insert(fleet, model)) {
		map_remove(&fleet->models, id);
		model_free(model);
		return NULL;
	}
	route_files_pinned(fleet, model);
	route_past_recall(fleet, model);
	return model;
}

void route_model_unref(struct route_fleet *fleet, struct route_model *model)
{
	if (--model->entries)
		return;
	size_t at = sorted_place(fleet, model_id(model));
	fleet->model_count--;
	memmove(&fleet->sorted[at], &fleet->sorted[at + 1], (fleet->model_count - at) * sizeof *fleet->sorted);
	map_remove(&fleet->models, model_id(model));
	route_past_keep(fleet, model);
	model_free(model);
}

/* --- classes --- */

#define OUTPUT_STEP 1.25 /* slopes of one class differ at most by these factors */
#define PROMPT_STEP 2.0

static int step_of(double slope, double step)
{
	double at = floor(log(slope) / log(step));
	return at < -64 ? -64 : at > 63 ? 63 : (int)at;
}

uint16_t route_bucket(double prompt_ms, double output_ms)
{
	return (uint16_t)((step_of(output_ms, OUTPUT_STEP) + 64) << 8 | (step_of(prompt_ms, PROMPT_STEP) + 64));
}

/* What selection tells apart without looking at entries. */
static uint16_t full_bucket(const struct route_entry *entry)
{
	unsigned hardware = entry->trust == ROUTE_TRUST_HARDWARE ? ROUTE_BUCKET_HARDWARE : 0;
	return (uint16_t)(entry->bucket | (entry->slow ? ROUTE_BUCKET_SLOW : 0) | hardware);
}

/* Grows the classes when the entry's is new. ROUTE_CLASS_FULL on lack of memory. */
static uint16_t class_of(struct route_model *model, const struct route_entry *entry)
{
	uint16_t bucket = full_bucket(entry);
	if (entry->rank != ROUTE_UNRANKED && entry->class >= ROUTE_CLASS_FIRST && model->classes[entry->class].bucket == bucket)
		return entry->class;
	for (uint32_t i = ROUTE_CLASS_FIRST; i < model->class_count; i++)
		if (model->classes[i].bucket == bucket)
			return (uint16_t)i;
	if (model->class_count == model->class_cap) {
		uint32_t cap = model->class_cap + 4;
		struct route_class *grown = realloc(model->classes, cap * sizeof *grown);
		if (!grown)
			return ROUTE_CLASS_FULL;
		model->classes = grown;
		model->class_cap = cap;
	}
	model->classes[model->class_count] = (struct route_class){
	    .bucket = bucket,
	    .slow = entry->slow,
	    .trust = bucket & ROUTE_BUCKET_HARDWARE ? ROUTE_TRUST_HARDWARE : ROUTE_TRUST_SELF_SIGNED,
	    .prompt_ms = (float)pow(PROMPT_STEP, (entry->bucket & 0x7f) - 64),
	    .output_ms = (float)pow(OUTPUT_STEP, (entry->bucket >> 8) - 64),
	};
	return (uint16_t)model->class_count++;
}

/* --- heaps --- */

static void put(struct route_class *class, uint32_t at, struct route_rank rank)
{
	class->heap[at] = rank;
	rank.entry->rank = at;
	if (at)
		return;
	class->head = rank.key;
	class->first = rank.entry;
}

static void sift_up(struct route_class *class, uint32_t at)
{
	struct route_rank moving = class->heap[at];
	while (at > 0) {
		uint32_t parent = (at - 1) / ROUTE_ARITY;
		if (class->heap[parent].key <= moving.key)
			break;
		put(class, at, class->heap[parent]);
		at = parent;
	}
	put(class, at, moving);
}

static void sift_down(struct route_class *class, uint32_t at)
{
	struct route_rank moving = class->heap[at];
	for (;;) {
		uint32_t first = at * ROUTE_ARITY + 1, end = first + ROUTE_ARITY < class->len ? first + ROUTE_ARITY : class->len,
		         best = first;
		if (first >= class->len)
			break;
		for (uint32_t child = first + 1; child < end; child++)
			if (class->heap[child].key < class->heap[best].key)
				best = child;
		if (class->heap[best].key >= moving.key)
			break;
		put(class, at, class->heap[best]);
		at = best;
	}
	put(class, at, moving);
}

void route_index_fetch_models(const struct route_entry *entries, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		__builtin_prefetch(entries[i].model, 1);
		__builtin_prefetch((const char *)entries[i].model + ROUTE_LINE, 1);
	}
}

void route_index_fetch_classes(const struct route_entry *entries, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].rank != ROUTE_UNRANKED)
			__builtin_prefetch(&entries[i].model->classes[entries[i].class]);
}

/* An entry that gets dearer sinks below its children and theirs, which lie together. */
static void fetch_below(const struct route_class *class, uint32_t at)
{
	uint32_t first = at * ROUTE_ARITY + 1, end = first + ROUTE_ARITY;
	for (int level = 0; level < 2; level++) {
		for (uint32_t child = first; child < end && child < class->len; child += ROUTE_LINE / sizeof *class->heap)
			__builtin_prefetch(&class->heap[child], 1);
		if (end <= class->len) /* they may begin within a line */
			__builtin_prefetch(&class->heap[end - 1], 1);
		first = first * ROUTE_ARITY + 1;
		end = end * ROUTE_ARITY + 1;
	}
}

void route_index_fetch_places(const struct route_entry *entries, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct route_class *class = &entries[i].model->classes[entries[i].class];
		if (entries[i].rank == ROUTE_UNRANKED)
			continue;
		__builtin_prefetch(&class->heap[entries[i].rank], 1);
		fetch_below(class, entries[i].rank);
	}
}

void route_index_moved(struct route_entry *entry)
{
	if (entry->rank == ROUTE_UNRANKED)
		return;
	struct route_class *class = &entry->model->classes[entry->class];
	class->heap[entry->rank].entry = entry;
	if (!entry->rank)
		class->first = entry;
}

void route_index_remove(struct route_entry *entry)
{
	if (entry->rank == ROUTE_UNRANKED)
		return;
	struct route_class *class = &entry->model->classes[entry->class];
	uint32_t at = entry->rank;
	entry->rank = ROUTE_UNRANKED;
	class->len--;
	if (at == class->len)
		return;
	put(class, at, class->heap[class->len]);
	sift_up(class, at);
	sift_down(class, class->heap[at].entry->rank);
}

static bool reserve(struct route_class *class)
{
	if (class->len < class->cap)
		return true;
	uint32_t cap = class->cap + class->cap / 4 + 4;
	struct route_rank *grown = realloc(class->heap, cap * sizeof *grown);
	if (!grown)
		return false;
	class->heap = grown;
	class->cap = cap;
	return true;
}

/* Lack of memory leaves the entry out: it is not offered until it changes again. */
static void insert(struct route_entry *entry, uint16_t class_index, float key)
{
	struct route_class *class = &entry->model->classes[class_index];
	if (!reserve(class))
		return;
	entry->class = class_index;
	class->heap[class->len] = (struct route_rank){key, entry};
	sift_up(class, class->len++);
}

void route_index_place(struct route_entry *entry)
{
	bool offered = entry->gate == ROUTE_OK || entry->gate == ROUTE_CONCURRENCY;
	if (!offered && !entry->sick) {
		route_index_remove(entry);
		return;
	}
	uint16_t class_index = ROUTE_CLASS_FULL;
	if (entry->sick)
		class_index = ROUTE_CLASS_SICK;
	else if (entry->gate == ROUTE_OK)
		class_index = class_of(entry->model, entry);
	float key = entry->base_ms;
	if (entry->rank == ROUTE_UNRANKED || entry->class != class_index) {
		route_index_remove(entry);
		insert(entry, class_index, key);
		return;
	}
	struct route_class *class = &entry->model->classes[class_index];
	float before = class->heap[entry->rank].key;
	class->heap[entry->rank].key = key;
	if (key < before)
		sift_up(class, entry->rank);
	else
		sift_down(class, entry->rank);
}
