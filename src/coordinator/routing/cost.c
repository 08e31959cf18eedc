/* The cost of serving a request on a node (routing 7), with the corrections of design 7: output is what is expected and not
 * what is allowed, the coordinator's own reservations count at once, and rates are measured ones where there are any. */
#include <math.h>

#include "coordinator/routing/routing_internal.h"

#define QUEUE_MS           3000.0
#define PENDING_MS         750.0
#define COLD_MS            30000.0
#define IDLE_SHUTDOWN_MS   20000.0
#define PREFILL_PER_DECODE 12.0
#define PREFILL_MAX_TPS    5000.0
#define PRESSURE_MS        4000.0
#define CPU_MS             1500.0
#define GPU_MEMORY_MS      5000.0
#define THERMAL_FAIR_MS    2000.0
#define THERMAL_SERIOUS_MS 8000.0

uint64_t route_expected(const struct route_request *request)
{
	if (request->expected_tokens)
		return request->expected_tokens;
	if (!request->max_tokens)
		return ROUTE_DEFAULT_OUTPUT;
	return request->max_tokens < ROUTE_DEFAULT_OUTPUT ? request->max_tokens : ROUTE_DEFAULT_OUTPUT;
}

double route_static_decode(const struct route_node_facts *facts)
{
	if (facts->static_decode_tps > 0)
		return facts->static_decode_tps;
	return facts->bandwidth_gbs > 0 ? sqrt(facts->bandwidth_gbs) : 1;
}

static double effective_decode(const struct route_entry *entry)
{
	if (entry->slot.decode_tps > 0)
		return entry->slot.decode_tps;
	double median = route_rates_median(entry->model, entry->node->family);
	if (median > 0)
		return median;
	double tps = route_static_decode(&entry->node->facts) / (1 + ROUTE_BATCH_SLOWDOWN * entry->slot.running);
	return tps < 1 ? 1 : tps;
}

static double prefill(const struct route_entry *entry)
{
	const struct route_node_facts *facts = &entry->node->facts;
	double tps = entry->slot.prefill_tps;
	if (tps <= 0)
		tps = facts->static_prefill_tps > 0 ? facts->static_prefill_tps : route_static_decode(facts) * PREFILL_PER_DECODE;
	return tps > PREFILL_MAX_TPS ? PREFILL_MAX_TPS : tps;
}

static double projected_decode(const struct route_entry *entry)
{
	double running = entry->slot.running > entry->pending ? entry->slot.running : entry->pending;
	double solo = entry->slot.decode_tps > 0 ? entry->slot.decode_tps * (1 + ROUTE_BATCH_SLOWDOWN * entry->slot.running)
	                                         : route_static_decode(&entry->node->facts);
	return solo / (1 + ROUTE_BATCH_SLOWDOWN * (running + 1));
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

static double health_ms(const struct route_node_facts *facts)
{
	static const double thermal[] = {0, THERMAL_FAIR_MS, THERMAL_SERIOUS_MS, THERMAL_SERIOUS_MS};
	double gpu = facts->total_memory_gb > 0 ? facts->gpu_active_gb / facts->total_memory_gb : 0;
	return PRESSURE_MS * facts->memory_pressure + CPU_MS * facts->cpu_usage + GPU_MEMORY_MS * (gpu > 1 ? 1 : gpu) +
	       thermal[facts->thermal < 0 || facts->thermal > 3 ? 0 : facts->thermal];
}

/* Tokens that the node works on: those of others as it reported them, ours as we expect them to be. */
static double backlog_tokens(const struct route_entry *entry)
{
	uint64_t reported = entry->slot.budget_max ? route_live_used(entry) : route_live_potential(entry);
	uint64_t others = reported > entry->pending_tokens ? reported - entry->pending_tokens : 0;
	return (double)others + (double)entry->pending_expected;
}

/* Requests that wait in the node's engine without a token budget to show for it: each counts as long as this one. */
static double unbudgeted_waiting(const struct route_entry *entry)
{
	return entry->slot.budget_max ? 0 : entry->slot.waiting;
}

static struct route_cost terms(const struct route_entry *entry)
{
	return (struct route_cost){
	    .state = state_ms(entry),
	    .queue = QUEUE_MS * entry->queue,
	    .pending = PENDING_MS * entry->node->pending,
	    .backlog = 1000 * backlog_tokens(entry) / entry->decode_tps,
	    .health = health_ms(&entry->node->facts),
	};
}

void route_entry_measure(struct route_entry *entry)
{
	entry->decode_tps = effective_decode(entry);
	double prompt_ms = 1000 / prefill(entry);
	double output_ms = 1000 / entry->decode_tps * (1 + unbudgeted_waiting(entry));
	if (prompt_ms != entry->prompt_ms || output_ms != entry->output_ms)
		entry->bucket = route_bucket(prompt_ms, output_ms);
	entry->prompt_ms = prompt_ms;
	entry->output_ms = output_ms;
	entry->cold = !route_resident(entry);
}

void route_entry_price(struct route_entry *entry)
{
	uint32_t load = route_live_load(entry);
	entry->queue = load > entry->pending ? load : entry->pending;
	struct route_cost cost = terms(entry);
	entry->base_ms = cost.state + cost.queue + cost.pending + cost.backlog + cost.health;
	entry->slow = projected_decode(entry) < ROUTE_DECODE_FLOOR;
}

double route_entry_ttft(const struct route_entry *entry, const struct route_request *request)
{
	if (!entry->node->facts.has_capacity)
		return -1;
	uint32_t seen = entry->slot.running + entry->slot.waiting;
	double ahead = entry->slot.waiting + (entry->pending > seen ? entry->pending - seen : 0);
	double read_ms = (double)request->prompt_tokens * entry->prompt_ms;
	return state_ms(entry) + ahead * read_ms + read_ms + 1000 / entry->decode_tps;
}

bool route_cost_of(const struct route_fleet *fleet, const struct route_node *node, const struct route_request *request,
                   struct route_cost *out)
{
	const struct route_model *model = route_model_find(fleet, request->model);
	const struct route_entry *entry = model ? route_node_entry(node, model) : NULL;
	if (!entry)
		return false;
	*out = terms(entry);
	double expected = (double)route_expected(request);
	double waiting_ms = 1000 * unbudgeted_waiting(entry) * expected / entry->decode_tps;
	out->backlog += waiting_ms;
	out->own = (double)request->prompt_tokens * entry->prompt_ms + 1000 * expected / entry->decode_tps;
	out->total = out->state + out->queue + out->pending + out->backlog + out->own + out->health;
	out->ttft_ms = route_entry_ttft(entry, request);
	out->projected_tps = projected_decode(entry);
	return true;
}
