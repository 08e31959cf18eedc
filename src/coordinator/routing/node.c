/* What the fleet tells about its nodes, and how that reaches the index. */
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

struct route_fleet *route_fleet_new(const struct route_policy *policy)
{
	struct route_fleet *fleet = calloc(1, sizeof *fleet);
	if (!fleet)
		return NULL;
	fleet->policy = *policy;
	if (!fleet->policy.challenge_max_age_us)
		fleet->policy.challenge_max_age_us = ROUTE_CHALLENGE_US;
	fleet->random = policy->seed;
	map_init(&fleet->models);
	map_init(&fleet->owners);
	map_init(&fleet->regions);
	map_init(&fleet->serials);
	list_init(&fleet->fresh);
	map_init(&fleet->devices);
	list_init(&fleet->departed);
	list_init(&fleet->all_nodes);
	list_init(&fleet->spare_reservations);
	return fleet;
}

void route_fleet_free(struct route_fleet *fleet)
{
	if (!fleet)
		return;
	for (struct list_link *link; (link = list_first(&fleet->all_nodes));)
		route_node_remove(fleet, LIST_OF(link, struct route_node, all));
	for (struct list_link *link; (link = list_pop_front(&fleet->spare_reservations));)
		free(LIST_OF(link, struct route_reservation, link));
	route_devices_free(fleet);
	route_names_free(&fleet->families);
	route_names_free(&fleet->versions);
	free(fleet->sorted);
	map_free(&fleet->models);
	map_free(&fleet->owners);
	map_free(&fleet->regions);
	map_free(&fleet->serials);
	free(fleet);
}

/* --- an entry changed --- */

static void count(struct route_model *model, const struct route_shown *shown, int sign)
{
	if (!shown->counted)
		return;
	uint32_t one = sign > 0 ? 1 : UINT32_MAX; /* adding UINT32_MAX takes one away */
	model->by_gate[shown->gate] += one;
	if (!shown->shown)
		return;
	model->shown += one;
	model->trust[shown->trust] += one;
	model->routable += shown->routable ? one : 0;
	model->warm += shown->warm ? one : 0;
	model->active = sign > 0 ? model->active + shown->active : model->active - shown->active;
}

static struct route_shown contribution(const struct route_entry *entry)
{
	const struct route_node_facts *facts = &entry->node->facts;
	return (struct route_shown){
	    .counted = true,
	    .shown = facts->connected_ok && !facts->untrusted && !facts->private_only,
	    .routable = !entry->sick && (entry->gate == ROUTE_OK || entry->gate == ROUTE_CONCURRENCY),
	    .warm = route_resident(entry),
	    .trust = (uint8_t)facts->trust,
	    .gate = entry->gate,
	    .active = entry->queue,
	};
}

/* In a view: how many requests run is not in one. */
static bool looks_different(const struct route_shown *a, const struct route_shown *b)
{
	return a->shown != b->shown || a->routable != b->routable || a->warm != b->warm || a->trust != b->trust;
}

/* Breakers hold an entry back from being offered, but it is found when nobody else can serve (routing 11.3). */
static void judge(const struct route_fleet *fleet, struct route_entry *entry)
{
	enum route_gate gate = route_standing_gate(fleet, entry, false);
	enum route_gate otherwise = gate == ROUTE_NODE_BREAKER ? route_standing_gate(fleet, entry, true) : gate;
	entry->gate = (uint8_t)gate;
	entry->shut_shapes = route_shapes_shut(entry->record, fleet->now_us);
	bool shut = gate == ROUTE_NODE_BREAKER || entry->shut_shapes & 1u << ROUTE_SHAPE_BASE;
	entry->sick = shut && (otherwise == ROUTE_OK || otherwise == ROUTE_CONCURRENCY);
}

void route_entry_refresh(struct route_fleet *fleet, struct route_entry *entry)
{
	count(entry->model, &entry->counted, -1);
	route_entry_price(entry);
	route_entry_admit(entry);
	entry->trust = (uint8_t)entry->node->facts.trust;
	entry->tools_ok = entry->node->facts.tools_ok;
	entry->plain_prompts_ok = entry->node->facts.plain_prompts_ok;
	entry->blind_ok = entry->node->facts.blind_ok;
	judge(fleet, entry);
	struct route_shown before = entry->counted;
	entry->counted = contribution(entry);
	count(entry->model, &entry->counted, 1);
	fleet->views_version += looks_different(&before, &entry->counted);
	route_index_place(entry);
}

void route_node_reloaded(struct route_fleet *fleet, struct route_node *node)
{
	for (uint32_t i = 0; i < node->entry_count; i++)
		route_entry_refresh(fleet, node->entries[i]);
}

void route_node_refresh(struct route_fleet *fleet, struct route_node *node)
{
	for (uint32_t i = 0; i < node->entry_count; i++)
		route_entry_measure(node->entries[i]);
	route_node_reloaded(fleet, node);
}

/* --- time --- */

static struct route_node *expired_node(struct route_fleet *fleet)
{
	struct list_link *link = list_first(&fleet->fresh);
	struct route_node *node = link ? LIST_OF(link, struct route_node, fresh) : NULL;
	return node && node->facts.last_challenge_us + fleet->policy.challenge_max_age_us < fleet->now_us ? node : NULL;
}

void route_advance(struct route_fleet *fleet, uint64_t now_us)
{
	if (now_us <= fleet->now_us)
		return;
	fleet->now_us = now_us;
	for (struct route_node *node; (node = expired_node(fleet));) {
		list_remove(&fleet->fresh, &node->fresh);
		route_node_refresh(fleet, node);
	}
	for (struct heap_item *due; (due = heap_first(&fleet->timers)) && due->key <= now_us;) {
		heap_remove(&fleet->timers, due);
		route_timer_fired(fleet, LIST_OF(due, struct route_timer, item));
	}
}

/* Keeps fleet->fresh in order of time; a new challenge is nearly always the latest. */
static void note_challenge(struct route_fleet *fleet, struct route_node *node)
{
	uint64_t at_us = node->facts.last_challenge_us;
	list_remove(&fleet->fresh, &node->fresh);
	if (!at_us || at_us + fleet->policy.challenge_max_age_us < fleet->now_us)
		return;
	struct list_link *before = &fleet->fresh.head;
	while (before->prev != &fleet->fresh.head &&
	       LIST_OF(before->prev, struct route_node, fresh)->facts.last_challenge_us > at_us)
		before = before->prev;
	list_insert_before(&fleet->fresh, before, &node->fresh);
}

/* --- nodes --- */

struct route_node *route_node_add(struct route_fleet *fleet, void *user)
{
	struct route_node *node = calloc(1, sizeof *node);
	if (!node)
		return NULL;
	node->user = user;
	node->facts.free_for_load_gb = -1;
	list_init(&node->reservations);
	list_push_back(&fleet->all_nodes, &node->all);
	return node;
}

void *route_node_user(const struct route_node *node)
{
	return node->user;
}

uint32_t route_node_pending(const struct route_node *node)
{
	return node->pending;
}

void route_node_facts(const struct route_node *node, struct route_node_facts *out)
{
	*out = node->facts;
}

enum db_err route_node_set_owner(struct route_fleet *fleet, struct route_node *node, struct str account)
{
	return route_group_move(&fleet->owners, &node->owner, &node->owned, account);
}

static void set_serial(struct route_fleet *fleet, struct route_node *node, struct str serial)
{
	if (node->serial && str_is(serial, node->serial))
		return;
	if (node->serial && map_get(&fleet->serials, str_of(node->serial)) == node)
		map_remove(&fleet->serials, str_of(node->serial));
	free(node->serial);
	node->serial = serial.len ? strndup(serial.at, serial.len) : NULL;
	if (node->serial)
		(void)map_put(&fleet->serials, str_of(node->serial), node, NULL); /* the newest of two is the one that stays */
}

/* The strings of `facts` are the caller's; those that are kept are ours. */
static void keep_texts(struct route_fleet *fleet, struct route_node *node, const struct route_node_facts *facts)
{
	if (!str_eq(facts->chip_family, route_name_at(&fleet->families, node->family)))
		node->family = route_name_get(&fleet->families, facts->chip_family, ROUTE_MAX_FAMILIES);
	if (!str_eq(facts->version, route_name_at(&fleet->versions, node->version)))
		node->version = route_name_get(&fleet->versions, facts->version, ROUTE_MAX_VERSIONS);
	(void)route_group_move(&fleet->regions, &node->region, &node->placed, facts->region);
	set_serial(fleet, node, facts->serial);
	route_device_join(fleet, node, facts->device);
}

void route_node_set_facts(struct route_fleet *fleet, struct route_node *node, const struct route_node_facts *facts)
{
	bool challenged = facts->last_challenge_us != node->facts.last_challenge_us;
	keep_texts(fleet, node, facts);
	node->facts = *facts;
	node->facts.chip_family = route_name_at(&fleet->families, node->family);
	node->facts.version = route_name_at(&fleet->versions, node->version);
	node->facts.region = route_group_name(node->region);
	node->facts.serial = str_of(node->serial);
	node->facts.device = node->device ? (struct str){node->device->id, node->device->id_len} : STR_NONE;
	if (challenged)
		note_challenge(fleet, node);
	route_node_refresh(fleet, node);
}

/* --- models of a node --- */

static struct route_entry *find_entry(struct route_entry *const *entries, size_t entry_count, const struct route_model *model)
{
	for (size_t i = 0; i < entry_count; i++)
		if (entries[i]->model == model)
			return entries[i];
	return NULL;
}

struct route_entry *route_node_entry(const struct route_node *node, const struct route_model *model)
{
	return find_entry(node->entries, node->entry_count, model);
}

size_t route_node_models(const struct route_node *node, struct str *out, size_t max)
{
	for (uint32_t i = 0; i < node->entry_count && i < max; i++)
		out[i] = (struct str){node->entries[i]->model->id, node->entries[i]->model->id_len};
	return node->entry_count;
}

bool route_node_slot(const struct route_node *node, size_t index, struct route_slot *out)
{
	if (index >= node->entry_count)
		return false;
	*out = node->entries[index]->slot;
	return true;
}

#define ENTRY_ALIGN 64 /* bytes of a cache line */
#define ENTRY_BYTES ((sizeof(struct route_entry) + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN)

static struct route_entry *entry_new(struct route_fleet *fleet, struct route_node *node, struct str id)
{
	struct route_model *model = route_model_get(fleet, id);
	struct route_entry *entry = model ? aligned_alloc(ENTRY_ALIGN, ENTRY_BYTES) : NULL;
	if (!entry) {
		if (model && !model->entries++)
			route_model_unref(fleet, model);
		return NULL;
	}
	memset(entry, 0, sizeof *entry);
	model->entries++;
	entry->model = model;
	entry->node = node;
	entry->rank = ROUTE_UNRANKED;
	entry->record = route_record_find(node->device, model);
	return entry;
}

static void entry_free(struct route_fleet *fleet, struct route_entry *entry)
{
	LIST_EACH (link, &entry->node->reservations) {
		struct route_reservation *reservation = LIST_OF(link, struct route_reservation, link);
		if (reservation->entry != entry)
			continue;
		(void)route_probe_end(reservation);
		reservation->entry = NULL;
	}
	count(entry->model, &entry->counted, -1);
	fleet->views_version++;
	route_index_remove(entry);
	route_model_unref(fleet, entry->model);
	free(entry);
}

static void describe_model(struct route_fleet *fleet, struct route_model *model, const struct route_model_facts *facts)
{
	model->size_bytes = facts->size_bytes;
	model->context_tokens = facts->context_tokens;
	model->can = facts->can;
	if (!str_copy(facts->quantization, model->quantization, sizeof model->quantization))
		model->quantization[0] = '\0';
	fleet->views_version++;
}

static void entry_describe(struct route_fleet *fleet, struct route_entry *entry, const struct route_model_facts *facts)
{
	entry->size_bytes = facts->size_bytes;
	entry->vision = facts->vision;
	entry->template_broken = facts->template_render_ok == 0;
	entry->can = (uint16_t)facts->can;
	describe_model(fleet, entry->model, facts);
}

enum db_err route_node_set_models(struct route_fleet *fleet, struct route_node *node, const struct route_model_facts *models,
                                  size_t model_count)
{
	if (model_count > ROUTE_MAX_NODE_MODELS)
		return DB_E_LIMIT;
	for (size_t i = 0; i < model_count; i++)
		if (!models[i].id.len || models[i].id.len >= ROUTE_MODEL_SIZE)
			return DB_E_LIMIT;
	struct route_entry **entries = model_count ? calloc(model_count, sizeof(struct route_entry *)) : NULL;
	if (model_count && !entries)
		return DB_E_NOMEM;
	uint32_t kept = 0;
	for (size_t i = 0; i < model_count; i++) {
		const struct route_model *model = route_model_find(fleet, models[i].id);
		struct route_entry *named_before = model ? find_entry(entries, kept, model) : NULL;
		struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
		if (!entry && !named_before)
			entry = entry_new(fleet, node, models[i].id);
		if (!entry || named_before)
			continue; /* without memory the node serves what there was room for */
		entry_describe(fleet, entry, &models[i]);
		entries[kept++] = entry;
	}
	for (uint32_t i = 0; i < node->entry_count; i++)
		if (!find_entry(entries, kept, node->entries[i]->model))
			entry_free(fleet, node->entries[i]);
	free(node->entries);
	node->entries = entries;
	node->entry_count = kept;
	route_node_refresh(fleet, node);
	if (node->device && node->device->nodes.count > 1)
		route_device_refresh(fleet, node->device); /* a probe of the other connection's may have gone */
	return DB_OK;
}

static enum db_err add_model(struct route_fleet *fleet, struct route_node *node, const struct route_model_facts *facts)
{
	if (node->entry_count == ROUTE_MAX_NODE_MODELS || !facts->id.len || facts->id.len >= ROUTE_MODEL_SIZE)
		return DB_E_LIMIT;
	struct route_entry **grown = realloc(node->entries, (node->entry_count + 1) * sizeof(struct route_entry *));
	if (!grown)
		return DB_E_NOMEM;
	node->entries = grown;
	struct route_entry *entry = entry_new(fleet, node, facts->id);
	if (!entry)
		return DB_E_NOMEM;
	entry_describe(fleet, entry, facts);
	node->entries[node->entry_count++] = entry;
	return DB_OK;
}

enum db_err route_node_update_models(struct route_fleet *fleet, struct route_node *node, const struct route_model_facts *models,
                                     size_t model_count)
{
	enum db_err result = DB_OK;
	for (size_t i = 0; i < model_count; i++) {
		const struct route_model *model = route_model_find(fleet, models[i].id);
		struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
		enum db_err err = DB_OK;
		if (entry)
			entry_describe(fleet, entry, &models[i]);
		else
			err = add_model(fleet, node, &models[i]);
		if (err)
			result = err;
	}
	route_node_refresh(fleet, node);
	return result;
}

/* --- heartbeats --- */

enum db_err route_node_set_slot(struct route_fleet *fleet, struct route_node *node, struct str model_id,
                                const struct route_slot *slot)
{
	struct route_model *model = route_model_find(fleet, model_id);
	struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
	if (!entry)
		return DB_E_NOT_FOUND;
	entry->slot = *slot;
	entry->beat = node->beat + 1;
	if (slot->load_time_ms)
		entry->load_time_ms = slot->load_time_ms;
	route_entry_learn(entry);
	return DB_OK;
}

void route_node_heartbeat_done(struct route_fleet *fleet, struct route_node *node)
{
	node->beat++;
	node->budgets = false;
	for (uint32_t i = 0; i < node->entry_count; i++) {
		struct route_entry *entry = node->entries[i];
		if (entry->beat != node->beat)
			entry->slot = (struct route_slot){.state = ROUTE_SLOT_COLD};
		entry->released = 0;
		entry->released_tokens = 0;
		node->budgets |= entry->slot.budget_max > 0;
	}
	route_node_refresh(fleet, node);
}

void route_node_loaded(struct route_fleet *fleet, struct route_node *node, struct str model_id)
{
	struct route_model *model = route_model_find(fleet, model_id);
	struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
	if (!entry || route_resident(entry))
		return;
	entry->slot.state = ROUTE_SLOT_IDLE;
	route_entry_measure(entry);
	route_entry_refresh(fleet, entry);
}

/* --- cool-downs --- */

static void cool(struct route_fleet *fleet, struct route_node *node, struct route_entry *entry, uint64_t until_us)
{
	struct route_record *record = until_us > fleet->now_us ? route_record_get(fleet, node, entry) : entry->record;
	if (record && record->cool_until_us != until_us)
		route_record_cool(fleet, record, until_us);
}

void route_node_cool(struct route_fleet *fleet, struct route_node *node, struct str model_or_empty, uint64_t until_us)
{
	for (uint32_t i = 0; i < node->entry_count; i++) {
		struct route_entry *entry = node->entries[i];
		if (!model_or_empty.len || str_eq((struct str){entry->model->id, entry->model->id_len}, model_or_empty))
			cool(fleet, node, entry, until_us);
	}
}

void route_node_remove(struct route_fleet *fleet, struct route_node *node)
{
	for (struct list_link *link; (link = list_pop_front(&node->reservations));) {
		struct route_reservation *reservation = LIST_OF(link, struct route_reservation, link);
		(void)route_probe_end(reservation);
		reservation->node = NULL;
		reservation->entry = NULL;
	}
	route_device_leave(fleet, node);
	for (uint32_t i = 0; i < node->entry_count; i++)
		entry_free(fleet, node->entries[i]);
	free(node->entries);
	list_remove(&fleet->fresh, &node->fresh);
	list_remove(&fleet->all_nodes, &node->all);
	(void)route_group_move(&fleet->owners, &node->owner, &node->owned, STR_NONE);
	(void)route_group_move(&fleet->regions, &node->region, &node->placed, STR_NONE);
	set_serial(fleet, node, STR_NONE);
	free(node);
}
