/* What the fleet tells about its nodes, and how that reaches the index. */
#include <math.h>
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
	map_init(&fleet->holders);
	map_init(&fleet->past_models);
	list_init(&fleet->past_order);
	list_init(&fleet->fresh);
	map_init(&fleet->devices);
	list_init(&fleet->departed);
	list_init(&fleet->all_nodes);
	list_init(&fleet->spare_reservations);
	slab_init(&fleet->node_slab, sizeof(struct route_node));
	for (size_t i = 0; i < ROUTE_SLAB_ENTRIES; i++)
		slab_init(&fleet->entry_slabs[i], (i + 1) * sizeof(struct route_entry));
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
	for (struct list_link *link; (link = list_first(&fleet->past_order));)
		route_past_free(fleet, LIST_OF(link, struct route_past_model, link));
	map_free(&fleet->past_models);
	route_names_free(&fleet->families);
	route_names_free(&fleet->versions);
	slab_free(&fleet->node_slab);
	for (size_t i = 0; i < ROUTE_SLAB_ENTRIES; i++)
		slab_free(&fleet->entry_slabs[i]);
	free(fleet->sorted);
	map_free(&fleet->models);
	map_free(&fleet->owners);
	map_free(&fleet->regions);
	map_free(&fleet->serials);
	map_free(&fleet->holders);
	free(fleet);
}

/* --- an entry changed --- */

/* What an entry adds to its model's counts. */
struct shown {
	bool counted, shown, routable, warm;
	uint8_t trust, gate;
	uint16_t active;
};

static void count(struct route_model *model, const struct shown *shown, int sign)
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

static struct shown counted_of(const struct route_entry *entry)
{
	return (struct shown){.counted = entry->counted,
	                      .shown = entry->shown,
	                      .routable = entry->routable,
	                      .warm = entry->warm,
	                      .trust = entry->counted_trust,
	                      .gate = entry->gate,
	                      .active = entry->queue};
}

static void note_counted(struct route_entry *entry)
{
	const struct route_kept_facts *facts = &entry->node->facts;
	entry->counted = true;
	entry->shown = facts->connected_ok && !facts->untrusted && !facts->private_only && route_files_ok(entry);
	entry->routable = !entry->sick && (entry->gate == ROUTE_OK || entry->gate == ROUTE_CONCURRENCY);
	entry->warm = route_resident(entry);
	entry->counted_trust = facts->trust & 3u;
}

/* In a view: how many requests run is not in one. */
static bool looks_different(const struct shown *a, const struct shown *b)
{
	return a->shown != b->shown || a->routable != b->routable || a->warm != b->warm || a->trust != b->trust;
}

/* The model's counts are far away in memory: left alone when nothing of them changes. */
static bool counts_alike(const struct shown *a, const struct shown *b)
{
	return !looks_different(a, b) && a->gate == b->gate && a->active == b->active && a->counted == b->counted;
}

/* Breakers hold an entry back from being offered, but it is found when nobody else can serve (routing 11.3). */
static void judge(const struct route_fleet *fleet, struct route_entry *entry)
{
	enum route_gate gate = route_standing_gate(fleet, entry, false);
	enum route_gate otherwise = gate == ROUTE_NODE_BREAKER ? route_standing_gate(fleet, entry, true) : gate;
	entry->gate = (uint8_t)gate;
	entry->shut_shapes = route_shapes_shut(route_record_of(entry), fleet->now_us) & 3u;
	bool shut = gate == ROUTE_NODE_BREAKER || entry->shut_shapes & 1u << ROUTE_SHAPE_BASE;
	entry->sick = shut && (otherwise == ROUTE_OK || otherwise == ROUTE_CONCURRENCY);
}

void route_entry_refresh(struct route_fleet *fleet, struct route_entry *entry)
{
	struct shown before = counted_of(entry);
	route_entry_price(entry);
	route_entry_admit(entry);
	entry->trust = entry->node->facts.trust;
	entry->tools_ok = entry->node->facts.tools_ok;
	entry->plain_prompts_ok = entry->node->facts.plain_prompts_ok;
	entry->blind_ok = entry->node->facts.blind_ok;
	judge(fleet, entry);
	note_counted(entry);
	struct shown after = counted_of(entry);
	if (!counts_alike(&before, &after)) {
		count(entry->model, &before, -1);
		count(entry->model, &after, 1);
		fleet->views_version += looks_different(&before, &after);
	}
	route_index_place(entry);
}

void route_node_reloaded(struct route_fleet *fleet, struct route_node *node)
{
	for (uint32_t i = 0; i < node->entry_count; i++)
		route_entry_refresh(fleet, &node->entries[i]);
}

static uint8_t common_family(const struct route_node *node)
{
	uint8_t family = 0;
	bool any = false;
	for (uint32_t i = 0; i < node->entry_count; i++) {
		const struct route_entry *entry = &node->entries[i];
		if (!route_files_ok(entry))
			continue;
		if (any && entry->model->family != family)
			return 0;
		family = entry->model->family;
		any = true;
	}
	return family;
}

void route_node_refresh(struct route_fleet *fleet, struct route_node *node)
{
	node->family = common_family(node);
	for (uint32_t i = 0; i < node->entry_count; i++)
		route_entry_measure(&node->entries[i]);
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
	struct route_node *node = slab_take(&fleet->node_slab);
	if (!node)
		return NULL;
	memset(node, 0, sizeof *node);
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

/* What was told in decimals is told again so, though it is kept in fewer bits. */
static double told(float value)
{
	return round((double)value * 10000) / 10000;
}

void route_node_facts(const struct route_fleet *fleet, const struct route_node *node, struct route_node_facts *out)
{
	const struct route_kept_facts *facts = &node->facts;
	*out = (struct route_node_facts){
	    .connected_ok = facts->connected_ok,
	    .untrusted = facts->untrusted,
	    .private_only = facts->private_only,
	    .private_text = facts->private_text,
	    .posture_verified = facts->posture_verified,
	    .runtime_verified = facts->runtime_verified,
	    .trust = (enum route_trust)facts->trust,
	    .last_challenge_us = facts->last_challenge_us,
	    .chip_family = route_name_at(&fleet->families, facts->family),
	    .serial = str_of(node->serial),
	    .device = node->device ? (struct str){node->device->id, node->device->id_len} : STR_NONE,
	    .version = route_name_at(&fleet->versions, facts->version),
	    .region = route_group_name(node->region),
	    .network_ms = told(facts->network_ms),
	    .plain_prompts_ok = facts->plain_prompts_ok,
	    .tools_ok = facts->tools_ok,
	    .blind_ok = facts->blind_ok,
	    .static_decode_tps = told(facts->static_decode_tps),
	    .static_prefill_tps = told(facts->static_prefill_tps),
	    .bandwidth_gbs = told(facts->bandwidth_gbs),
	    .memory_gb = told(facts->memory_gb),
	    .memory_pressure = told(facts->memory_pressure),
	    .cpu_usage = told(facts->cpu_usage),
	    .thermal = facts->thermal,
	    .has_capacity = facts->has_capacity,
	    .gpu_active_gb = told(facts->gpu_active_gb),
	    .total_memory_gb = told(facts->total_memory_gb),
	    .free_for_load_gb = told(facts->free_for_load_gb),
	};
}

static struct route_kept_facts kept_facts(const struct route_node_facts *facts, uint16_t family, uint16_t version)
{
	return (struct route_kept_facts){
	    .connected_ok = facts->connected_ok,
	    .untrusted = facts->untrusted,
	    .private_only = facts->private_only,
	    .private_text = facts->private_text,
	    .posture_verified = facts->posture_verified,
	    .runtime_verified = facts->runtime_verified,
	    .trust = (uint8_t)facts->trust,
	    .last_challenge_us = facts->last_challenge_us,
	    .family = family,
	    .version = version,
	    .network_ms = (float)facts->network_ms,
	    .plain_prompts_ok = facts->plain_prompts_ok,
	    .tools_ok = facts->tools_ok,
	    .blind_ok = facts->blind_ok,
	    .static_decode_tps = (float)facts->static_decode_tps,
	    .static_prefill_tps = (float)facts->static_prefill_tps,
	    .bandwidth_gbs = (float)facts->bandwidth_gbs,
	    .memory_gb = (float)facts->memory_gb,
	    .memory_pressure = (float)facts->memory_pressure,
	    .cpu_usage = (float)facts->cpu_usage,
	    .thermal = (uint8_t)(facts->thermal < 0 || facts->thermal > 3 ? 0 : facts->thermal),
	    .has_capacity = facts->has_capacity,
	    .gpu_active_gb = (float)facts->gpu_active_gb,
	    .total_memory_gb = (float)facts->total_memory_gb,
	    .free_for_load_gb = (float)facts->free_for_load_gb,
	};
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
	char *old = node->serial;
	node->serial = NULL;
	if (serial.len && str_copy(serial, node->short_serial, sizeof node->short_serial))
		node->serial = node->short_serial;
	else if (serial.len)
		node->serial = strndup(serial.at, serial.len);
	if (old != node->short_serial)
		free(old);
	if (node->serial)
		(void)map_put(&fleet->serials, str_of(node->serial), node, NULL); /* the newest of two is the one that stays */
}

/* The strings of `facts` are the caller's; those that are kept are ours. */
static void keep(struct route_fleet *fleet, struct route_node *node, const struct route_node_facts *facts)
{
	uint16_t family = node->facts.family, version = node->facts.version;
	if (!str_eq(facts->chip_family, route_name_at(&fleet->families, family)))
		family = route_name_get(&fleet->families, facts->chip_family, ROUTE_MAX_FAMILIES);
	if (!str_eq(facts->version, route_name_at(&fleet->versions, version)))
		version = route_name_get(&fleet->versions, facts->version, ROUTE_MAX_VERSIONS);
	(void)route_group_move(&fleet->regions, &node->region, &node->placed, facts->region);
	set_serial(fleet, node, facts->serial);
	route_device_join(fleet, node, facts->device);
	node->facts = kept_facts(facts, family, version);
	if (!(node->facts.network_ms > 0) && node->device)
		node->facts.network_ms = node->device->network_ms;
}

void route_node_set_facts(struct route_fleet *fleet, struct route_node *node, const struct route_node_facts *facts)
{
	bool challenged = facts->last_challenge_us != node->facts.last_challenge_us;
	keep(fleet, node, facts);
	if (challenged)
		note_challenge(fleet, node);
	route_node_refresh(fleet, node);
}

/* --- models of a node --- */

static struct route_entry *find_entry(struct route_entry *entries, size_t entry_count, const struct route_model *model)
{
	for (size_t i = 0; i < entry_count; i++)
		if (entries[i].model == model)
			return &entries[i];
	return NULL;
}

struct route_entry *route_node_entry(const struct route_node *node, const struct route_model *model)
{
	return find_entry(node->entries, node->entry_count, model);
}

size_t route_node_models(const struct route_node *node, struct str *out, size_t max)
{
	size_t count = 0;
	for (uint32_t i = 0; i < node->entry_count; i++) {
		const struct route_model *model = node->entries[i].model;
		if (!route_files_ok(&node->entries[i]))
			continue;
		if (count < max)
			out[count] = (struct str){model->id, model->id_len};
		count++;
	}
	return count;
}

bool route_node_advertises(const struct route_fleet *fleet, const struct route_node *node, struct str model)
{
	const struct route_model *found = route_model_find(fleet, model);
	return found && route_node_entry(node, found);
}

/* As route_node_models counts them. */
static const struct route_entry *served_entry(const struct route_node *node, size_t index)
{
	for (uint32_t i = 0; i < node->entry_count; i++)
		if (route_files_ok(&node->entries[i]) && index-- == 0)
			return &node->entries[i];
	return NULL;
}

bool route_node_slot(const struct route_node *node, size_t index, struct route_slot *out)
{
	const struct route_entry *entry = served_entry(node, index);
	if (!entry)
		return false;
	const struct route_kept_slot *slot = &entry->slot;
	*out = (struct route_slot){
	    .state = (enum route_slot_state)slot->state,
	    .running = slot->running,
	    .waiting = slot->waiting,
	    .max_concurrency = slot->max_concurrency,
	    .active_tokens = slot->active_tokens,
	    .max_tokens_potential = slot->potential,
	    .budget_used = slot->budget_used,
	    .budget_max = slot->budget_max,
	    .budget_queued = slot->budget_queued,
	    .decode_tps = told(entry->reported_tps),
	    .prefill_tps = (double)slot->prefill_tenths / 10,
	    .kv_bytes_per_token = (double)slot->kv_bytes_per_token,
	    .load_time_ms = entry->load_time_ms,
	};
	return true;
}

_Static_assert(sizeof(struct route_entry) == 2 * ROUTE_LINE, "an entry is two cache lines");
_Static_assert(sizeof(struct route_node) == 4 * ROUTE_LINE, "a node begins on a line, as the one before does");

static struct route_entry *entries_new(struct route_fleet *fleet, size_t count)
{
	if (!count)
		return NULL;
	if (count <= ROUTE_SLAB_ENTRIES)
		return slab_take(&fleet->entry_slabs[count - 1]);
	return aligned_alloc(ROUTE_LINE, count * sizeof(struct route_entry));
}

static void entries_free(struct route_fleet *fleet, struct route_entry *entries, size_t count)
{
	if (count && count <= ROUTE_SLAB_ENTRIES)
		slab_give(&fleet->entry_slabs[count - 1], entries);
	else
		free(entries);
}

static enum db_err entry_init(struct route_fleet *fleet, struct route_entry *entry, struct route_node *node, struct str id)
{
	struct route_model *model = route_model_get(fleet, id);
	if (!model)
		return DB_E_NOMEM;
	model->entries++;
	memset(entry, 0, sizeof *entry);
	entry->model = model;
	entry->node = node;
	entry->rank = ROUTE_UNRANKED;
	entry->recorded = route_record_find(node->device, model) != NULL;
	route_learnt_apply(entry);
	return DB_OK;
}

/* Whoever points at the entry points at its new place. */
static void entry_move(struct route_entry *to, const struct route_entry *from)
{
	*to = *from;
	route_index_moved(to);
	LIST_EACH (link, &to->node->reservations) {
		struct route_reservation *reservation = LIST_OF(link, struct route_reservation, link);
		if (reservation->entry == from)
			reservation->entry = to;
	}
}

static void entry_end(struct route_fleet *fleet, struct route_entry *entry)
{
	LIST_EACH (link, &entry->node->reservations) {
		struct route_reservation *reservation = LIST_OF(link, struct route_reservation, link);
		if (reservation->entry != entry)
			continue;
		(void)route_probe_end(reservation);
		reservation->entry = NULL;
	}
	struct shown shown = counted_of(entry);
	count(entry->model, &shown, -1);
	fleet->views_version++;
	route_holdings_drop(fleet, entry);
	route_index_remove(entry);
	route_files_forget(entry);
	route_model_unref(fleet, entry->model);
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
	entry->size_gb = (float)((double)facts->size_bytes / 1e9);
	entry->vision = facts->vision;
	entry->template_broken = facts->template_render_ok == 0;
	entry->can = (uint16_t)facts->can;
	route_files_say(entry, facts->weight_hash);
	bool good = route_files_ok(entry);
	if (good || !entry->model->described) /* a pin may change later */
		describe_model(fleet, entry->model, facts);
	entry->model->described |= good;
}

enum db_err route_node_set_models(struct route_fleet *fleet, struct route_node *node, const struct route_model_facts *models,
                                  size_t model_count)
{
	if (model_count > ROUTE_MAX_NODE_MODELS)
		return DB_E_LIMIT;
	for (size_t i = 0; i < model_count; i++)
		if (!models[i].id.len || models[i].id.len >= ROUTE_MODEL_SIZE)
			return DB_E_LIMIT;
	struct route_entry *entries = entries_new(fleet, model_count);
	if (model_count && !entries)
		return DB_E_NOMEM;
	uint16_t kept = 0;
	for (size_t i = 0; i < model_count; i++) {
		const struct route_model *model = route_model_find(fleet, models[i].id);
		struct route_entry *before = model ? route_node_entry(node, model) : NULL;
		if (model && find_entry(entries, kept, model))
			continue; /* named before */
		if (before)
			entry_move(&entries[kept], before);
		else if (entry_init(fleet, &entries[kept], node, models[i].id))
			continue; /* without memory the node serves what there was room for */
		entry_describe(fleet, &entries[kept++], &models[i]);
	}
	for (uint32_t i = 0; i < node->entry_count; i++)
		if (!find_entry(entries, kept, node->entries[i].model))
			entry_end(fleet, &node->entries[i]);
	entries_free(fleet, node->entries, node->entry_room);
	node->entries = entries;
	node->entry_count = kept;
	node->entry_room = (uint16_t)model_count;
	route_node_refresh(fleet, node);
	if (node->device && node->device->nodes->same_device)
		route_device_refresh(fleet, node->device); /* a probe of the other connection's may have gone */
	return DB_OK;
}

static enum db_err add_model(struct route_fleet *fleet, struct route_node *node, const struct route_model_facts *facts)
{
	if (node->entry_count == ROUTE_MAX_NODE_MODELS || !facts->id.len || facts->id.len >= ROUTE_MODEL_SIZE)
		return DB_E_LIMIT;
	struct route_entry *grown = entries_new(fleet, (size_t)node->entry_count + 1);
	if (!grown || entry_init(fleet, &grown[node->entry_count], node, facts->id)) {
		entries_free(fleet, grown, (size_t)node->entry_count + 1);
		return DB_E_NOMEM;
	}
	for (uint32_t i = 0; i < node->entry_count; i++)
		entry_move(&grown[i], &node->entries[i]);
	entries_free(fleet, node->entries, node->entry_room);
	node->entries = grown;
	entry_describe(fleet, &grown[node->entry_count++], facts);
	node->entry_room = node->entry_count;
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

#define KEPT_PREFILL 6553.0 /* tokens/s: more than cost.c believes */

static uint32_t kept_count(uint64_t count)
{
	return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

static uint16_t kept_few(uint32_t count)
{
	return count < UINT16_MAX ? (uint16_t)count : UINT16_MAX;
}

static struct route_kept_slot kept_slot(const struct route_slot *slot, uint16_t ran, uint16_t beat)
{
	return (struct route_kept_slot){
	    .state = (uint8_t)slot->state,
	    .running = kept_few(slot->running),
	    .waiting = kept_few(slot->waiting),
	    .ran = slot->running ? kept_few(slot->running) : ran,
	    .beat = beat,
	    .max_concurrency = (uint8_t)(slot->max_concurrency < UINT8_MAX ? slot->max_concurrency : UINT8_MAX),
	    .potential = kept_count(slot->max_tokens_potential),
	    .budget_used = kept_count(slot->budget_used),
	    .budget_queued = kept_count(slot->budget_queued),
	    .active_tokens = kept_count(slot->active_tokens),
	    .budget_max = kept_count(slot->budget_max),
	    .prefill_tenths = kept_few(slot->prefill_tps > 0 ? (uint32_t)(fmin(slot->prefill_tps, KEPT_PREFILL) * 10) : 0),
	    .kv_bytes_per_token = (float)slot->kv_bytes_per_token,
	};
}

enum db_err route_node_set_slot(struct route_fleet *fleet, struct route_node *node, struct str model_id,
                                const struct route_slot *slot)
{
	struct route_model *model = route_model_find(fleet, model_id);
	struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
	if (!entry || !route_files_ok(entry))
		return DB_E_NOT_FOUND; /* what other files do tells nothing of the model */
	entry->slot = kept_slot(slot, entry->slot.ran, (uint16_t)(node->beat + 1));
	if (slot->load_time_ms)
		entry->load_time_ms = kept_count(slot->load_time_ms);
	route_entry_learn(entry, slot->decode_tps);
	return DB_OK;
}

void route_node_heartbeat_done(struct route_fleet *fleet, struct route_node *node)
{
	node->beat++;
	node->budgets = false;
	for (uint32_t i = 0; i < node->entry_count; i++) {
		struct route_entry *entry = &node->entries[i];
		if (entry->slot.beat != node->beat)
			entry->slot = (struct route_kept_slot){.state = ROUTE_SLOT_COLD, .ran = entry->slot.ran};
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
	struct route_record *record = until_us > fleet->now_us ? route_record_get(fleet, node, entry) : route_record_of(entry);
	if (record && record->cool_until_us != until_us)
		route_record_cool(fleet, record, until_us);
}

void route_node_cool(struct route_fleet *fleet, struct route_node *node, struct str model_or_empty, uint64_t until_us)
{
	for (uint32_t i = 0; i < node->entry_count; i++) {
		struct route_entry *entry = &node->entries[i];
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
		entry_end(fleet, &node->entries[i]);
	entries_free(fleet, node->entries, node->entry_room);
	list_remove(&fleet->fresh, &node->fresh);
	list_remove(&fleet->all_nodes, &node->all);
	(void)route_group_move(&fleet->owners, &node->owner, &node->owned, STR_NONE);
	(void)route_group_move(&fleet->regions, &node->region, &node->placed, STR_NONE);
	set_serial(fleet, node, STR_NONE);
	slab_give(&fleet->node_slab, node);
}
