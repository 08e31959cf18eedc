/* The cost of serving a request on a node (routing 7), with the corrections of design 7: output is what is expected and not
 * what is allowed, the coordinator's own reservations count at once, and rates are measured ones where there are any. */
#include <math.h>

#include "coordinator/routing/routing_internal.h"

#define COLD_MS            30000.0
#define IDLE_SHUTDOWN_MS   20000.0
#define PREFILL_PER_DECODE 12.0
#define PREFILL_MAX_TPS    5000.0
#define PRESSURE_MS        4000.0
#define CPU_MS             1500.0
#define GPU_MEMORY_MS      5000.0
#define THERMAL_FAIR_MS    2000.0
#define THERMAL_SERIOUS_MS 8000.0
#define PROMPT_SHARE       0.5 /* of the machine's time that a prompt takes from running streams */
#define LEARN_FASTER       0.3
#define LEARN_SLOWER       0.05
#define BELIEVE_FACTOR     2.0 /* times the median of its kind */
#define BELIEVE_AFTER      10  /* reports */

uint64_t route_expected(const struct route_request *request)
{
	if (request->expected_tokens)
		return request->expected_tokens;
	if (!request->max_tokens)
		return ROUTE_DEFAULT_OUTPUT;
	return request->max_tokens < ROUTE_DEFAULT_OUTPUT ? request->max_tokens : ROUTE_DEFAULT_OUTPUT;
}

double route_static_decode(const struct route_kept_facts *facts)
{
	if (facts->static_decode_tps > 0)
		return (double)facts->static_decode_tps;
	return facts->bandwidth_gbs > 0 ? sqrt((double)facts->bandwidth_gbs) : 1;
}

/* A report is an average over what ran lately, at whatever load that was; what a stream would get alone is that times the
 * slowdown of the load (routing 22). A figure that did not change says nothing new. Being slower than before is believed
 * slowly: prompts that are read in between slow streams down as well. No node is believed to be much faster than all others of
 * its kind.
 */
void route_entry_learn(struct route_entry *entry, double told)
{
	if (told <= 0 || (float)told == entry->reported_tps)
		return;
	entry->reported_tps = (float)told;
	double solo = told * (1 + ROUTE_BATCH_SLOWDOWN * (entry->slot.ran > 1 ? entry->slot.ran - 1 : 0));
	double median = route_rates_median(entry->model, entry->node->facts.family);
	bool believable =
	    route_rates_count(entry->model, entry->node->facts.family) < BELIEVE_AFTER || solo <= BELIEVE_FACTOR * median;
	route_rates_add(entry->model, entry->node->facts.family, solo);
	if (!believable)
		solo = BELIEVE_FACTOR * median;
	double before = (double)entry->solo_tps;
	double weight = solo > before ? LEARN_FASTER : LEARN_SLOWER;
	entry->solo_tps = (float)(before > 0 ? before + weight * (solo - before) : solo);
}

/* Of a stream alone. */
static double solo_decode(const struct route_entry *entry)
{
	if (entry->solo_tps > 0)
		return (double)entry->solo_tps;
	double median = route_rates_median(entry->model, entry->node->facts.family);
	return median > 0 ? median : route_static_decode(&entry->node->facts);
}

/* What is only guessed from the memory's bandwidth is no reason to be passed over: who is never asked is never measured. */
static bool rate_is_known(const struct route_entry *entry)
{
	return entry->solo_tps > 0 || entry->node->facts.static_decode_tps > 0 ||
	       route_rates_count(entry->model, entry->node->facts.family) > 0;
}

static double prefill(const struct route_entry *entry)
{
	const struct route_kept_facts *facts = &entry->node->facts;
	double tps = entry->slot.prefill_tenths / 10.0;
	if (tps <= 0)
		tps =
		    facts->static_prefill_tps > 0 ? (double)facts->static_prefill_tps : route_static_decode(facts) * PREFILL_PER_DECODE;
	return tps > PREFILL_MAX_TPS ? PREFILL_MAX_TPS : tps;
}

static double projected_decode(const struct route_entry *entry)
{
	double running = entry->slot.running > entry->pending ? entry->slot.running : entry->pending;
	return (double)entry->decode_tps / (1 + ROUTE_BATCH_SLOWDOWN * (running + 1));
}

static double state_ms(const struct route_entry *entry)
{
	switch (entry->slot.state) {
	case ROUTE_SLOT_IDLE:
	case ROUTE_SLOT_RUNNING:
		return 0;
	case ROUTE_SLOT_IDLE_SHUTDOWN:
		return IDLE_SHUTDOWN_MS;
	default:
		return entry->load_time_ms ? (double)entry->load_time_ms : COLD_MS;
	}
}

static double health_ms(const struct route_kept_facts *facts)
{
	static const double thermal[] = {0, THERMAL_FAIR_MS, THERMAL_SERIOUS_MS, THERMAL_SERIOUS_MS};
	double gpu = facts->total_memory_gb > 0 ? (double)(facts->gpu_active_gb / facts->total_memory_gb) : 0;
	return PRESSURE_MS * (double)facts->memory_pressure + CPU_MS * (double)facts->cpu_usage +
	       GPU_MEMORY_MS * (gpu > 1 ? 1 : gpu) + thermal[facts->thermal & 3];
}

/* The way there and back is waited for once, before the first content. */
static double network_ms(const struct route_kept_facts *facts)
{
	return facts->network_ms > 0 ? (double)facts->network_ms : 0;
}

/* What one request that runs costs another of typical size, and the other way round: each slows the other's output down, and
 * while the new one's prompt is read the running one gets half. */
static double meeting_ms(const struct route_entry *entry)
{
	const struct route_model *model = entry->model;
	return 2 * ROUTE_BATCH_SLOWDOWN * model->known.typical_output * 1000 / (double)entry->decode_tps +
	       PROMPT_SHARE * (double)entry->read_ms;
}

/* Requests that wait in the node's engine without a token budget to show for it: each counts as long as this one. */
static double unbudgeted_waiting(const struct route_entry *entry)
{
	return entry->slot.budget_max ? 0 : entry->slot.waiting;
}

static struct route_cost terms(const struct route_entry *entry)
{
	const struct route_node *node = entry->node;
	uint32_t elsewhere = (uint32_t)(node->pending - entry->pending); /* in other models of the node: the same machine */
	uint32_t strange = entry->slot.waiting > entry->pending ? (uint32_t)(entry->slot.waiting - entry->pending) : 0;
	return (struct route_cost){
	    .state = state_ms(entry),
	    .queue = (double)entry->meeting_ms * entry->queue,
	    .pending = (double)entry->meeting_ms * elsewhere,
	    .backlog = node->unread_ms + strange * (double)entry->read_ms,
	    .health = health_ms(&node->facts),
	    .network = network_ms(&node->facts),
	};
}

void route_entry_measure(struct route_entry *entry)
{
	entry->decode_tps = (float)solo_decode(entry);
	float prompt_ms = (float)(1000 / prefill(entry));
	float output_ms = (float)(1000 / (double)entry->decode_tps * (1 + unbudgeted_waiting(entry)));
	if (prompt_ms != entry->prompt_ms || output_ms != entry->output_ms)
		entry->bucket = route_bucket((double)prompt_ms, (double)output_ms);
	entry->prompt_ms = prompt_ms;
	entry->output_ms = output_ms;
	entry->read_ms = (float)(entry->model->known.typical_prompt * (double)prompt_ms);
	entry->meeting_ms = (float)meeting_ms(entry);
	entry->cold = !route_resident(entry);
	entry->measured = rate_is_known(entry);
}

void route_entry_price(struct route_entry *entry)
{
	uint32_t load = route_live_load(entry);
	entry->node_pending = entry->node->pending;
	entry->queue = (uint16_t)(load > entry->pending ? load : entry->pending);
	struct route_cost cost = terms(entry);
	entry->base_ms = (float)(cost.state + cost.queue + cost.pending + cost.backlog + cost.health + cost.network);
	entry->slow = entry->measured && projected_decode(entry) < ROUTE_DECODE_FLOOR;
}

double route_entry_ttft(const struct route_entry *entry, const struct route_request *request)
{
	if (!entry->node->facts.has_capacity)
		return -1;
	const struct route_node *node = entry->node;
	double own_read_ms = (double)(request->prompt_tokens - route_cached_tokens(entry, request)) * (double)entry->prompt_ms;
	double strange = entry->slot.waiting > entry->pending ? entry->slot.waiting - entry->pending : 0;
	return state_ms(entry) + node->unread_ms + (strange + 1) * own_read_ms + 1000 / (double)entry->decode_tps +
	       network_ms(&node->facts);
}

void route_entry_cost(const struct route_entry *entry, const struct route_request *request, struct route_cost *out)
{
	*out = terms(entry);
	double expected = (double)route_expected(request);
	double waiting_ms = 1000 * unbudgeted_waiting(entry) * expected / (double)entry->decode_tps;
	out->backlog += waiting_ms;
	out->own = (double)request->prompt_tokens * (double)entry->prompt_ms + 1000 * expected / (double)entry->decode_tps;
	out->prefix = -(double)route_cached_tokens(entry, request) * (double)entry->prompt_ms;
	out->total = out->state + out->queue + out->pending + out->backlog + out->own + out->health + out->network + out->prefix;
	out->ttft_ms = route_entry_ttft(entry, request);
	out->projected_tps = projected_decode(entry);
	out->slow = entry->slow;
}

bool route_cost_of(const struct route_fleet *fleet, const struct route_node *node, const struct route_request *request,
                   struct route_cost *out)
{
	const struct route_model *model = route_model_find(fleet, request->model);
	const struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
	if (entry)
		route_entry_cost(entry, request, out);
	return entry != NULL;
}
