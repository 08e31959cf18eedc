/* Who may serve a request (routing 6) and how much more a node can take (routing 8). */
#include <math.h>

#include "coordinator/routing/routing_internal.h"

#define KV_BYTES_PER_TOKEN 400000.0
#define KV_MAX_TOKENS      (1u << 24)
#define GIB                1073741824.0
#define LOAD_PADDING       1.1176 /* 20 % more than the file, and from decimal to binary gigabytes (8.2) */
#define COLD_HEADROOM_GB   4.0
#define TOO_LARGE_FACTOR   2.0 /* of the size of a model whose needs nobody knows (gate 21) */
#define LEGACY_PLACES      4
#define BUDGET_PLACES      24
#define QUALITY_OVERCOMMIT 2.0

const char *route_trust_name(enum route_trust trust)
{
	static const char *const names[] = {"none", "self_signed", "hardware"};
	return trust <= ROUTE_TRUST_HARDWARE ? names[trust] : "none";
}

const char *route_gate_name(enum route_gate gate)
{
	static const char *const names[ROUTE_GATES] = {
	    [ROUTE_OK] = "ok",
	    [ROUTE_NOT_OWNED] = "not_owned",
	    [ROUTE_SERIAL] = "serial_not_allowed",
	    [ROUTE_REGION] = "region_not_allowed",
	    [ROUTE_EXCLUDED] = "excluded",
	    [ROUTE_NOT_SERVING] = "not_serving_catalog",
	    [ROUTE_DEDICATED] = "dedicated_excluded",
	    [ROUTE_COOLING] = "load_cooldown",
	    [ROUTE_SHAPE_BREAKER] = "shape_breaker",
	    [ROUTE_NODE_BREAKER] = "node_breaker",
	    [ROUTE_OFFLINE] = "offline",
	    [ROUTE_UNTRUSTED] = "untrusted",
	    [ROUTE_PRIVATE_ONLY] = "private_only",
	    [ROUTE_TRUST_FLOOR] = "trust_below_floor",
	    [ROUTE_RUNTIME] = "runtime_unverified",
	    [ROUTE_PRIVATE_TEXT] = "private_text",
	    [ROUTE_STALE_CHALLENGE] = "stale_challenge",
	    [ROUTE_TEMPLATE] = "template_broken",
	    [ROUTE_VERSION_FLOOR] = "below_version_floor",
	    [ROUTE_VISION] = "vision_unsupported",
	    [ROUTE_CAPABILITY] = "capability_missing",
	    [ROUTE_NOT_BLIND] = "blind_unsupported",
	    [ROUTE_SLOT_DOWN] = "slot_down",
	    [ROUTE_CONCURRENCY] = "concurrency_full",
	    [ROUTE_THERMAL] = "thermal_critical",
	    [ROUTE_TOO_LARGE] = "model_too_large",
	    [ROUTE_BUDGET] = "token_budget",
	    [ROUTE_MEMORY] = "memory",
	};
	return gate < ROUTE_GATES ? names[gate] : "unknown";
}

/* --- what the node has to do, as of now: its last report less what ended since --- */

uint32_t route_live_load(const struct route_entry *entry)
{
	uint32_t reported = entry->slot.running + entry->slot.waiting;
	return reported > entry->released ? reported - entry->released : 0;
}

static uint64_t less(uint64_t reported, uint64_t ended)
{
	return reported > ended ? reported - ended : 0;
}

uint64_t route_live_used(const struct route_entry *entry)
{
	return less((uint64_t)entry->slot.budget_used + entry->slot.budget_queued, entry->released_tokens);
}

uint64_t route_live_potential(const struct route_entry *entry)
{
	return less(entry->slot.potential, entry->released_tokens);
}

/* --- concurrency (8.3) --- */

static double total_memory(const struct route_kept_facts *facts)
{
	return (double)(facts->total_memory_gb > 0 ? facts->total_memory_gb : facts->memory_gb);
}

static uint32_t node_places(const struct route_node *node)
{
	if (!node->facts.has_capacity)
		return LEGACY_PLACES;
	if (node->budgets)
		return BUDGET_PLACES;
	double memory = total_memory(&node->facts);
	return memory <= 24 ? 2 : memory <= 48 ? 4 : memory <= 96 ? 6 : memory <= 128 ? 8 : 12;
}

/* So few at once that each still gets about ROUTE_DECODE_FLOOR; from the registered rate, as the observed one falls with load.
 */
static uint32_t quality_places(const struct route_kept_facts *facts, uint32_t base)
{
	if (facts->static_decode_tps <= 0)
		return base;
	double quality = 1, rate = (double)facts->static_decode_tps;
	if (rate > ROUTE_DECODE_FLOOR)
		quality = floor((rate / ROUTE_DECODE_FLOOR - 1) / ROUTE_BATCH_SLOWDOWN);
	quality = quality < 1 ? 1 : quality > base ? base : quality;
	double places = ceil(quality * QUALITY_OVERCOMMIT);
	return places < base ? (uint32_t)places : base;
}

static bool is_full(const struct route_entry *entry)
{
	const struct route_node *node = entry->node;
	uint32_t box = node_places(node);
	uint32_t reported = entry->slot.max_concurrency;
	uint32_t load = node->pending;
	if (reported) {
		load = route_live_load(entry);
		if (entry->pending > load)
			load = entry->pending;
	}
	return load >= quality_places(&node->facts, reported ? reported : box) || node->pending >= box;
}

/* --- tokens (8.1, 8.2) --- */

static void admit_budget(struct route_entry *entry)
{
	uint64_t used = route_live_used(entry), potential = route_live_potential(entry);
	uint64_t visible = used > potential ? used : potential;
	uint64_t taken = used + less(entry->pending_tokens, visible);
	entry->budgeted = true;
	entry->free_tokens = (uint32_t)less(entry->slot.budget_max, taken);
}

uint64_t route_ceiling(const struct route_entry *entry)
{
	return entry->slot.budget_max ? entry->slot.budget_max : ROUTE_UNLIMITED;
}

static uint32_t tokens_in(double room_gb, double kv_bytes)
{
	if (room_gb <= 0)
		return 0;
	double tokens = room_gb * GIB / kv_bytes;
	return tokens >= KV_MAX_TOKENS ? ROUTE_UNLIMITED : (uint32_t)tokens;
}

static void admit_memory(struct route_entry *entry)
{
	const struct route_kept_facts *facts = &entry->node->facts;
	double total = total_memory(facts), size = (double)entry->size_gb;
	double kv_bytes = entry->slot.kv_bytes_per_token > 0 ? (double)entry->slot.kv_bytes_per_token : KV_BYTES_PER_TOKEN;
	bool resident = route_resident(entry);
	entry->budgeted = false;
	entry->free_tokens = ROUTE_UNLIMITED;
	if (size <= 0 || total <= 0)
		return;
	if (!resident && !entry->node->pending) {
		if (facts->free_for_load_gb >= 0)
			entry->free_tokens = size * LOAD_PADDING <= (double)facts->free_for_load_gb ? ROUTE_UNLIMITED : 0;
		else
			entry->free_tokens = tokens_in(total - size - COLD_HEADROOM_GB, kv_bytes);
	} else {
		entry->free_tokens = tokens_in(total - (double)facts->gpu_active_gb - (resident ? 0 : size), kv_bytes);
	}
}

uint64_t route_need(const struct route_request *request)
{
	return request->prompt_tokens + (request->max_tokens ? request->max_tokens : ROUTE_DEFAULT_OUTPUT);
}

void route_entry_admit(struct route_entry *entry)
{
	if (entry->slot.budget_max)
		admit_budget(entry);
	else
		admit_memory(entry);
}

static bool too_large(const struct route_entry *entry)
{
	double total = total_memory(&entry->node->facts);
	if (route_resident(entry) || entry->size_gb <= 0 || total <= 0)
		return false;
	return TOO_LARGE_FACTOR * (double)entry->size_gb > total;
}

/* --- the predicate: the gates that do not depend on the request, then those that do --- */

/* Trust is not asked of the caller's own machine when it asks for it (gate 11). What it runs is, always. */
struct caller {
	bool own, relaxed;
	bool bypass; /* of the node's breaker */
};

static struct caller caller_of(const struct route_node *node, const struct route_request *request, bool bypass)
{
	bool own = route_is_own(node, request);
	return (struct caller){.own = own, .relaxed = own && (request->own_only || request->prefer_own), .bypass = bypass};
}

static enum route_gate trust_gate(const struct route_policy *policy, const struct route_entry *entry, struct caller caller,
                                  uint64_t now_us)
{
	const struct route_kept_facts *facts = &entry->node->facts;
	if (!route_files_ok(entry))
		return ROUTE_NOT_SERVING;
	if (entry->model->family != entry->node->family && entry->model->family && !caller.relaxed)
		return ROUTE_DEDICATED;
	if (route_is_cooling(entry, now_us))
		return ROUTE_COOLING;
	if (!caller.bypass && route_node_shut(entry->node, now_us))
		return ROUTE_NODE_BREAKER;
	if (!facts->connected_ok)
		return ROUTE_OFFLINE;
	if (facts->untrusted)
		return ROUTE_UNTRUSTED;
	if (facts->private_only && !caller.own)
		return ROUTE_PRIVATE_ONLY;
	if (facts->trust < (uint8_t)policy->min_trust && !caller.relaxed)
		return ROUTE_TRUST_FLOOR;
	if (!facts->runtime_verified)
		return ROUTE_RUNTIME;
	if (!facts->private_text || !facts->posture_verified)
		return ROUTE_PRIVATE_TEXT;
	if (!facts->last_challenge_us || facts->last_challenge_us + policy->challenge_max_age_us < now_us)
		return ROUTE_STALE_CHALLENGE;
	if (entry->template_broken)
		return ROUTE_TEMPLATE;
	return ROUTE_OK;
}

static enum route_gate shape_gate(const struct route_entry *entry, const struct route_request *request)
{
	if (entry->trust < (uint8_t)request->min_trust)
		return ROUTE_TRUST_FLOOR;
	if ((request->tools && !entry->tools_ok) || (request->plain_prompt && !entry->plain_prompts_ok))
		return ROUTE_VERSION_FLOOR;
	if (request->vision && !entry->vision)
		return ROUTE_VISION;
	if (request->needs & ~(uint32_t)entry->can)
		return ROUTE_CAPABILITY;
	if (request->blind && !entry->blind_ok)
		return ROUTE_NOT_BLIND;
	return ROUTE_OK;
}

static enum route_gate load_gate(const struct route_entry *entry)
{
	if (entry->slot.state == ROUTE_SLOT_CRASHED || entry->slot.state == ROUTE_SLOT_RELOADING)
		return ROUTE_SLOT_DOWN;
	if (is_full(entry))
		return ROUTE_CONCURRENCY;
	if (entry->node->facts.thermal >= 3)
		return ROUTE_THERMAL;
	if (too_large(entry))
		return ROUTE_TOO_LARGE;
	return ROUTE_OK;
}

static enum route_gate size_gate(const struct route_entry *entry, const struct route_request *request)
{
	if (entry->free_tokens == ROUTE_UNLIMITED || route_need(request) <= entry->free_tokens)
		return ROUTE_OK;
	return entry->budgeted ? ROUTE_BUDGET : ROUTE_MEMORY;
}

static bool in_serials(struct str serial, const struct route_request *request)
{
	for (size_t i = 0; serial.len && i < request->serial_count; i++)
		if (str_eq(request->serials[i], serial))
			return true;
	return false;
}

/* "US" is "US-CA" too. */
static bool in_regions(struct str region, const struct route_request *request)
{
	for (size_t i = 0; region.len && i < request->region_count; i++) {
		struct str wanted = request->regions[i];
		if (str_starts(region, wanted) && (region.len == wanted.len || region.at[wanted.len] == '-'))
			return true;
	}
	return false;
}

static enum route_gate caller_gate(const struct route_node *node, const struct route_request *request, bool own)
{
	if (request->own_only && !own)
		return ROUTE_NOT_OWNED;
	if (request->serials && !in_serials(node->serial ? str_of(node->serial) : STR_NONE, request))
		return ROUTE_SERIAL;
	if (request->regions && !in_regions(route_group_name(node->region), request))
		return ROUTE_REGION;
	for (size_t i = 0; i < request->excluded_count; i++)
		if (request->excluded[i] == node)
			return ROUTE_EXCLUDED;
	return ROUTE_OK;
}

enum route_gate route_standing_gate(const struct route_fleet *fleet, const struct route_entry *entry, bool bypass)
{
	enum route_gate gate = trust_gate(&fleet->policy, entry, (struct caller){.bypass = bypass}, fleet->now_us);
	return gate ? gate : load_gate(entry);
}

enum route_gate route_request_gate(const struct route_entry *entry, const struct route_request *request)
{
	enum route_gate gate = caller_gate(entry->node, request, false);
	if (!gate && !route_files_ok(entry)) /* pinned since it was ranked */
		gate = ROUTE_NOT_SERVING;
	if (!gate && entry->shut_shapes >> route_shape_of(request) & 1)
		gate = ROUTE_SHAPE_BREAKER;
	if (!gate)
		gate = shape_gate(entry, request);
	return gate ? gate : size_gate(entry, request);
}

/* A shut base shape is passed over like the node's breaker when nobody else is left. Tools stay shut: that keeps plain
 * conversations on the same machine from a template that breaks it. */
static bool is_shape_shut(const struct route_entry *entry, const struct route_request *request, bool bypass, uint64_t now_us)
{
	enum route_shape shape = route_shape_of(request);
	return !(bypass && shape == ROUTE_SHAPE_BASE) && route_shapes_shut(route_record_of(entry), now_us) >> shape & 1;
}

static enum route_gate check(const struct route_fleet *fleet, const struct route_entry *entry,
                             const struct route_request *request, struct caller caller, uint64_t now_us)
{
	enum route_gate gate = trust_gate(&fleet->policy, entry, caller, now_us);
	bool earlier = gate && gate < ROUTE_SHAPE_BREAKER;
	if (!earlier && is_shape_shut(entry, request, caller.bypass, now_us))
		gate = ROUTE_SHAPE_BREAKER;
	if (!gate)
		gate = shape_gate(entry, request);
	if (!gate)
		gate = load_gate(entry);
	return gate ? gate : size_gate(entry, request);
}

enum route_gate route_check_entry(const struct route_fleet *fleet, const struct route_entry *entry,
                                  const struct route_request *request, bool bypass)
{
	struct caller caller = caller_of(entry->node, request, bypass);
	enum route_gate gate = caller_gate(entry->node, request, caller.own);
	return gate ? gate : check(fleet, entry, request, caller, fleet->now_us);
}

enum route_gate route_check(const struct route_fleet *fleet, const struct route_node *node, const struct route_request *request,
                            uint64_t now_us)
{
	struct caller caller = caller_of(node, request, false);
	enum route_gate gate = caller_gate(node, request, caller.own);
	if (gate)
		return gate;
	const struct route_model *model = route_model_find(fleet, request->model);
	const struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
	return entry ? check(fleet, entry, request, caller, now_us) : ROUTE_NOT_SERVING;
}
