/* Demand by model, the number of nodes that it needs, and who is told to load (routing 12). */
#include "coordinator/routing/planner.h"

#include <math.h>
#include <stdlib.h>

#include "coordinator/routing/planner_internal.h"

#define FAST_SPAN_S     30.0
#define SLOW_SPAN_S     300.0
#define MEAN_SHARE      0.05 /* of one request in the means of sizes */
#define FIRST_PROMPT    512.0
#define FIRST_OUTPUT    256.0
#define SERVICE_MIN_S   0.5
#define SERVICE_MAX_S   120.0
#define EVENTS_KEPT_US  (60ull * 1000000)
#define HEDGES_MANY     2
#define SATURATED_SHARE 0.8
#define GROWING         1.3 /* the last half minute against the last five */
#define CHANCES         2.0 /* ... and beyond what chance explains */
#define FILLED          0.5 /* of what the warm nodes bear: from here on growth is prepared for */
#define GROWTH_MAX      2.0 /* what is predicted is at most so many times what is seen */
#define LOAD_DEFAULT_S  30.0
#define FREE_GB_SCORE   100.0
#define DECODE_SCORE    10.0
#define PRESSURE_SCORE  500.0
#define CPU_SCORE       100.0
#define FAIR_SCORE      250.0
#define SERIOUS_SCORE   1000.0
#define REACH_SCORE     1e9 /* above all of these together */

/* --- making --- */

static void fill_defaults(struct planner_options *o)
{
	o->decode_floor_tps = o->decode_floor_tps > 0 ? o->decode_floor_tps : ROUTE_DECODE_FLOOR;
	o->burst_buffer = o->burst_buffer ? o->burst_buffer : 1;
	o->fallback_places = o->fallback_places ? o->fallback_places : 4;
	o->loads_at_once = o->loads_at_once ? o->loads_at_once : 4;
	o->loads_open = o->loads_open ? o->loads_open : PLANNER_LOADS_MAX;
	o->ramp_fraction = o->ramp_fraction > 0 ? o->ramp_fraction : 0.5;
	o->dwell_us = o->dwell_us ? o->dwell_us : 300ull * 1000000;
	o->load_timeout_us = o->load_timeout_us ? o->load_timeout_us : 120ull * 1000000;
	o->retry_us = o->retry_us ? o->retry_us : 30ull * 1000000;
	o->device_loads = o->device_loads ? o->device_loads : 6;
	o->device_loads = o->device_loads < PLANNER_RECENT_LOADS ? o->device_loads : PLANNER_RECENT_LOADS;
	o->device_loads_span_us = o->device_loads_span_us ? o->device_loads_span_us : 600ull * 1000000;
}

struct planner *planner_new(struct route_fleet *fleet, const struct planner_options *options)
{
	struct planner *planner = calloc(1, sizeof *planner);
	if (!planner)
		return NULL;
	planner->fleet = fleet;
	if (options)
		planner->options = *options;
	fill_defaults(&planner->options);
	map_init(&planner->demands);
	map_init(&planner->devices);
	list_init(&planner->used);
	list_init(&planner->open);
	return planner;
}

void planner_free(struct planner *planner)
{
	if (!planner)
		return;
	size_t cursor = 0;
	for (struct planner_demand *demand; (demand = map_next(&planner->demands, &cursor));)
		free(demand);
	map_free(&planner->demands);
	planner_devices_free(planner);
	free(planner);
}

/* --- demand --- */

static double rate_now(const struct planner_rate *rate, double span_s, uint64_t now_us)
{
	double age_s = now_us > rate->at_us ? (double)(now_us - rate->at_us) / 1e6 : 0;
	return rate->per_s * exp(-age_s / span_s);
}

static void rate_add(struct planner_rate *rate, double span_s, uint64_t now_us)
{
	rate->per_s = rate_now(rate, span_s, now_us) + 1 / span_s;
	rate->at_us = now_us;
}

struct planner_demand *planner_demand_find(const struct planner *planner, struct str model)
{
	return map_get(&planner->demands, model);
}

/* NULL without memory, and for more models than there can be: their names come from strangers. */
static struct planner_demand *demand_get(struct planner *planner, struct str model)
{
	struct planner_demand *demand = planner_demand_find(planner, model);
	if (demand || !model.len || model.len >= ROUTE_MODEL_SIZE || planner->demands.count >= PLANNER_MODELS_MAX)
		return demand;
	demand = calloc(1, sizeof *demand + model.len + 1);
	if (!demand)
		return NULL;
	memcpy(demand->id, model.at, model.len);
	demand->view.model = (struct str){demand->id, model.len};
	demand->prompt_tokens = FIRST_PROMPT;
	demand->output_tokens = FIRST_OUTPUT;
	if (map_put(&planner->demands, demand->view.model, demand, NULL)) {
		free(demand);
		return NULL;
	}
	return demand;
}

/* Of a model that some node advertises. */
static struct planner_demand *demand_known(struct planner *planner, struct str model)
{
	return route_model_find(planner->fleet, model) ? demand_get(planner, model) : planner_demand_find(planner, model);
}

void planner_arrival(struct planner *planner, const struct route_request *request, uint64_t now_us)
{
	struct planner_demand *demand = demand_known(planner, request->model);
	if (!demand)
		return;
	rate_add(&demand->fast, FAST_SPAN_S, now_us);
	rate_add(&demand->slow, SLOW_SPAN_S, now_us);
	demand->prompt_tokens += MEAN_SHARE * ((double)request->prompt_tokens - demand->prompt_tokens);
	demand->output_tokens += MEAN_SHARE * ((double)route_expected(request) - demand->output_tokens);
}

void planner_note(struct planner *planner, struct str model, enum planner_event event, uint64_t now_us)
{
	struct planner_demand *demand = demand_known(planner, model);
	if (!demand || event >= PLANNER_EVENTS)
		return;
	demand->events[event]++;
	demand->last_event_us = now_us;
	if (event == PLANNER_CAPACITY_REJECT || event == PLANNER_TTFT_MISS || event == PLANNER_COLD_DISPATCH)
		rate_add(&demand->spill, FAST_SPAN_S, now_us);
}

void planner_queue(struct planner *planner, struct str model, const struct queue_demand *queue, uint64_t now_us)
{
	struct planner_demand *demand = demand_known(planner, model);
	if (!demand)
		return;
	if (queue->waiting > demand->queue)
		demand->last_event_us = now_us;
	demand->queue = queue->waiting;
	demand->tools = queue->tools;
	demand->vision = queue->vision;
	demand->some_tools = queue->some_tools;
	demand->some_vision = queue->some_vision;
}

enum db_err planner_keep_warm(struct planner *planner, struct str model, uint32_t nodes)
{
	if (!model.len || model.len >= ROUTE_MODEL_SIZE || planner->demands.count >= PLANNER_MODELS_MAX)
		return DB_E_LIMIT;
	struct planner_demand *demand = demand_get(planner, model);
	if (!demand)
		return DB_E_NOMEM;
	demand->min_warm = nodes;
	return DB_OK;
}

/* --- what the nodes of a model look like --- */

struct survey {
	uint32_t looked, warm, busy, cold; /* cold: that may load it now */
	double decode_tps, prefill_tps;    /* sums over the warm */
	uint32_t places;
	double scale; /* of what was looked at to all */
	struct route_entry *best[PLANNER_LOADS_MAX];
	double score[PLANNER_LOADS_MAX];
	uint32_t best_count;
};

static double score_of(const struct route_entry *entry)
{
	const struct route_kept_facts *facts = &entry->node->facts;
	double free_gb =
	    (double)(facts->free_for_load_gb >= 0 ? facts->free_for_load_gb : facts->total_memory_gb - facts->gpu_active_gb);
	double heat = facts->thermal >= 2 ? SERIOUS_SCORE : facts->thermal == 1 ? FAIR_SCORE : 0;
	return FREE_GB_SCORE * free_gb + DECODE_SCORE * route_static_decode(facts) -
	       PRESSURE_SCORE * (double)facts->memory_pressure - CPU_SCORE * (double)facts->cpu_usage - heat;
}

/* One that can serve all who wait comes before any that can serve a part. */
static double reach_score(const struct planner_demand *demand, const struct route_entry *entry)
{
	bool all = (!demand->some_tools || entry->tools_ok) && (!demand->some_vision || entry->vision);
	return all ? REACH_SCORE : 0;
}

static void keep_best(struct survey *survey, const struct planner_demand *demand, struct route_entry *entry)
{
	double score = score_of(entry) + reach_score(demand, entry);
	uint32_t at = survey->best_count < PLANNER_LOADS_MAX ? survey->best_count++ : PLANNER_LOADS_MAX - 1;
	if (survey->best[at] && survey->score[at] >= score)
		return;
	for (; at > 0 && survey->score[at - 1] < score; at--) {
		survey->best[at] = survey->best[at - 1];
		survey->score[at] = survey->score[at - 1];
	}
	survey->best[at] = entry;
	survey->score[at] = score;
}

static bool may_load(const struct planner *planner, const struct planner_demand *demand, const struct route_entry *entry,
                     uint64_t now_us)
{
	return entry->cold && entry->gate == ROUTE_OK && route_files_ok(entry) && entry->free_tokens > 0 &&
	       (!demand->tools || entry->tools_ok) && (!demand->vision || entry->vision) &&
	       planner_device_free(planner, entry->node, now_us);
}

static void look_at(const struct planner *planner, const struct planner_demand *demand, struct route_entry *entry,
                    struct survey *survey, uint64_t now_us)
{
	survey->looked++;
	if (!entry->cold) {
		survey->warm++;
		survey->busy += entry->gate == ROUTE_CONCURRENCY || entry->queue > 0;
		survey->decode_tps += fmax(route_static_decode(&entry->node->facts), (double)entry->decode_tps);
		survey->prefill_tps += 1000 / (double)entry->prompt_ms;
		survey->places += entry->slot.max_concurrency;
	} else if (may_load(planner, demand, entry, now_us)) {
		survey->cold++;
		keep_best(survey, demand, entry);
	}
}

/* At most PLANNER_LOOK of the model's entries that may get requests, spread evenly over all of them. */
static struct survey survey_model(const struct planner *planner, const struct planner_demand *demand,
                                  const struct route_model *model, uint64_t now_us)
{
	struct survey survey = {.scale = 1};
	uint64_t total = 0, at = 0;
	for (uint32_t i = 0; i < model->class_count; i++)
		total += model->classes[i].len;
	uint64_t step = total > PLANNER_LOOK ? (total + PLANNER_LOOK - 1) / PLANNER_LOOK : 1;
	at = planner->turn % step;
	for (uint32_t i = 0; i < model->class_count; i++) {
		const struct route_class *class = &model->classes[i];
		for (; at < class->len; at += step)
			look_at(planner, demand, class->heap[at].entry, &survey, now_us);
		at -= class->len;
	}
	if (survey.looked)
		survey.scale = (double)total / survey.looked;
	return survey;
}

/* --- the target --- */

static void measure(const struct planner *planner, struct planner_demand *demand, const struct survey *survey)
{
	struct planner_view *view = &demand->view;
	double decode = survey->warm ? survey->decode_tps / survey->warm : planner->options.decode_floor_tps * 2;
	double prefill = survey->warm ? survey->prefill_tps / survey->warm : decode * 12;
	double service = demand->prompt_tokens / (prefill > 1 ? prefill : 1) + demand->output_tokens / (decode > 1 ? decode : 1);
	double base = survey->warm && survey->places ? (double)survey->places / survey->warm : planner->options.fallback_places;
	double good = floor((decode / planner->options.decode_floor_tps - 1) / ROUTE_BATCH_SLOWDOWN);
	view->service_s = service < SERVICE_MIN_S ? SERVICE_MIN_S : service > SERVICE_MAX_S ? SERVICE_MAX_S : service;
	view->node_places = good < 1 ? 1 : good > base ? (uint32_t)(base < 1 ? 1 : base) : (uint32_t)good;
	view->warm = (uint32_t)lround(survey->warm * survey->scale);
	view->eligible_cold = (uint32_t)lround(survey->cold * survey->scale);
}

static bool is_pressed(const struct planner_demand *demand, const struct survey *survey)
{
	const uint32_t *events = demand->events;
	if (events[PLANNER_CAPACITY_REJECT] || events[PLANNER_TTFT_MISS] || events[PLANNER_COLD_DISPATCH] ||
	    events[PLANNER_HEDGE_STARTED] >= HEDGES_MANY || events[PLANNER_HEDGE_WON] || demand->queue)
		return true;
	return events[PLANNER_HEDGE_STARTED] && survey->busy >= SATURATED_SHARE * survey->warm;
}

/* Answers at once that are to be expected when a load that begins now is done. */
static double predicted_load(const struct planner_demand *demand, uint64_t now_us)
{
	double fast = rate_now(&demand->fast, FAST_SPAN_S, now_us), slow = rate_now(&demand->slow, SLOW_SPAN_S, now_us);
	double chance = sqrt(slow / (2 * FAST_SPAN_S)); /* spread of `fast` when nothing changes */
	if (fast < GROWING * slow || fast < slow + CHANCES * chance)
		return 0;
	double rate = fast + (fast - slow) * LOAD_DEFAULT_S / FAST_SPAN_S;
	return (rate < GROWTH_MAX * fast ? rate : GROWTH_MAX * fast) * demand->view.service_s;
}

static uint32_t nodes_for(const struct planner *planner, const struct planner_view *view, double load)
{
	return (uint32_t)ceil(load / view->node_places) + planner->options.burst_buffer;
}

static uint32_t wanted(const struct planner *planner, const struct planner_demand *demand, uint64_t now_us)
{
	const struct planner_view *view = &demand->view;
	uint32_t want = view->warm;
	if (view->pressure) {
		uint32_t need = nodes_for(planner, view, view->load);
		want = need > view->warm + 1 ? need : view->warm + 1;
	}
	double ahead = predicted_load(demand, now_us);
	if (ahead > FILLED * view->warm * view->node_places) {
		uint32_t need = nodes_for(planner, view, ahead);
		want = need > want ? need : want;
	}
	want = want > demand->min_warm ? want : demand->min_warm;
	uint32_t most = view->warm + view->loading + view->eligible_cold;
	return want < most ? want : most;
}

/* A target that was raised stays for a while: loads go on after the moment of pressure, and the next one finds them done. */
static void set_target(const struct planner *planner, struct planner_demand *demand, uint64_t now_us)
{
	uint32_t want = wanted(planner, demand, now_us);
	bool settled = demand->target_since_us + planner->options.dwell_us <= now_us || !demand->target_since_us;
	if (want < demand->view.target && !settled)
		return;
	if (want != demand->view.target)
		demand->target_since_us = now_us;
	demand->view.target = want;
}

static void assess(struct planner *planner, struct planner_demand *demand, const struct route_model *model,
                   const struct survey *survey, uint64_t now_us)
{
	struct planner_view *view = &demand->view;
	if (demand->last_event_us + EVENTS_KEPT_US <= now_us)
		memset(demand->events, 0, sizeof demand->events);
	measure(planner, demand, survey);
	view->loading = planner_loading(planner, view->model);
	view->queue = demand->queue;
	view->min_warm = demand->min_warm;
	view->arrivals_per_s = rate_now(&demand->fast, FAST_SPAN_S, now_us);
	view->pressure = is_pressed(demand, survey);
	view->load = (double)model->active + demand->queue + rate_now(&demand->spill, FAST_SPAN_S, now_us) * view->service_s;
	set_target(planner, demand, now_us);
}

/* --- commands --- */

static uint32_t loads_now(const struct planner *planner, const struct planner_view *view)
{
	uint32_t there = view->warm + view->loading;
	uint32_t gap = view->target > there ? view->target - there : 0;
	uint32_t ramp = (uint32_t)ceil(planner->options.ramp_fraction * gap);
	ramp = ramp > planner->options.loads_at_once ? ramp : planner->options.loads_at_once;
	return gap < ramp ? gap : ramp;
}

static size_t command(struct planner *planner, struct planner_demand *demand, const struct survey *survey, uint64_t now_us,
                      struct planner_load *out, size_t room)
{
	size_t count = 0, open = planner->open.count;
	size_t want = loads_now(planner, &demand->view);
	size_t allowed = planner->options.loads_open > open ? planner->options.loads_open - open : 0;
	want = want < room ? want : room;
	want = want < allowed ? want : allowed;
	for (uint32_t i = 0; i < survey->best_count && count < want; i++) {
		struct route_entry *entry = survey->best[i];
		if (!planner_device_begin(planner, entry, now_us))
			continue;
		out[count++] = (struct planner_load){entry->node, demand->view.model};
	}
	demand->view.loading += (uint32_t)count;
	return count;
}

/* Those that hurt come first, then by name: nobody depends on the order of a table. */
static int compare_demands(const void *a, const void *b)
{
	const struct planner_demand *const *one = a, *const *two = b;
	if ((*one)->queue != (*two)->queue)
		return (*one)->queue < (*two)->queue ? 1 : -1;
	bool first = (*one)->view.pressure, second = (*two)->view.pressure;
	return first != second ? (first ? -1 : 1) : strcmp((*one)->id, (*two)->id);
}

/* A model that nobody asked for in a long time needs no thought. */
static bool is_asleep(const struct planner_demand *demand, uint64_t now_us)
{
	return !demand->min_warm && !demand->queue && demand->last_event_us + EVENTS_KEPT_US <= now_us &&
	       rate_now(&demand->slow, SLOW_SPAN_S, now_us) < 1e-4;
}

static size_t awake(struct planner *planner, uint64_t now_us, struct planner_demand **out)
{
	size_t count = 0, cursor = 0;
	for (struct planner_demand *demand; (demand = map_next(&planner->demands, &cursor));)
		if (!is_asleep(demand, now_us) && route_model_find(planner->fleet, demand->view.model))
			out[count++] = demand;
	return count;
}

size_t planner_tick(struct planner *planner, uint64_t now_us, struct planner_load out[PLANNER_LOADS_MAX])
{
	size_t given = 0;
	struct planner_demand **demands = calloc(planner->demands.count + 1, sizeof(struct planner_demand *));
	if (!demands)
		return 0; /* the next tick is soon enough */
	route_advance(planner->fleet, now_us);
	planner_devices_expire(planner, now_us);
	planner->turn++;
	size_t count = awake(planner, now_us, demands);
	qsort(demands, count, sizeof(struct planner_demand *), compare_demands);
	for (size_t i = 0; i < count; i++) {
		const struct route_model *model = route_model_find(planner->fleet, demands[i]->view.model);
		struct survey survey = survey_model(planner, demands[i], model, now_us);
		assess(planner, demands[i], model, &survey, now_us);
		given += command(planner, demands[i], &survey, now_us, out + given, PLANNER_LOADS_MAX - given);
	}
	free(demands);
	return given;
}

size_t planner_views(const struct planner *planner, struct planner_view *out, size_t max)
{
	size_t cursor = 0, count = 0;
	for (const struct planner_demand *demand; (demand = map_next(&planner->demands, &cursor)); count++)
		if (count < max)
			out[count] = demand->view;
	return count;
}
