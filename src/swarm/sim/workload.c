#include "swarm/sim/workload.h"

#include <math.h>
#include <stdlib.h>

#include "swarm/sim/random.h"

#define SAMPLES      4000 /* conversations from which the mean request is estimated */
#define READ_TPS     30.0 /* at which a person is thought to follow an answer */
#define FIRST_PROMPT 0.5  /* of the marginal median: the rest is history that later turns bring */
#define LATER_PROMPT 0.15
#define MAX_TURNS    64

enum { PURPOSE_ARRIVALS = 1, PURPOSE_SHAPES, PURPOSE_SAMPLE, PURPOSE_OFFERED };

/* --- shapes --- */

static uint32_t draw_tokens(struct sim_random *random, double median, double sigma, uint32_t max)
{
	double tokens = sim_random_lognormal(random, median, sigma);
	return tokens < 1 ? 1 : tokens > max ? max : (uint32_t)tokens;
}

static uint32_t draw_turns(struct sim_random *random, double mean)
{
	uint32_t turns = 1;
	while (turns < MAX_TURNS && mean > 1 && sim_random_unit(random) < 1 - 1 / mean)
		turns++;
	return turns;
}

static uint32_t draw_tenant(struct sim_random *random, const struct sim_workload *workload)
{
	/* The inverse of the continuous 1/rank^skew. */
	double tenants = workload->tenants, skew = workload->tenant_skew, unit = sim_random_unit(random);
	double rank =
	    fabs(skew - 1) < 1e-6 ? pow(tenants + 1, unit) : pow(unit * (pow(tenants + 1, 1 - skew) - 1) + 1, 1 / (1 - skew));
	uint32_t tenant = rank < 1 ? 0 : (uint32_t)(rank - 1);
	return tenant < workload->tenants ? tenant : workload->tenants - 1;
}

static uint32_t named_max(struct sim_random *random, const struct sim_workload *workload, uint32_t output)
{
	if (sim_random_unit(random) >= workload->names_max)
		return output > workload->default_max_tokens ? output : workload->default_max_tokens;
	double max = output * (1 + 2 * sim_random_unit(random));
	return (uint32_t)max + 1;
}

/* The turn that follows `last`, or the first when last is NULL. */
static struct sim_request draw_turn(struct sim_random *random, const struct sim_scenario *scenario, uint16_t model,
                                    const struct sim_request *last)
{
	const struct sim_workload *workload = &scenario->workload;
	struct sim_request turn = {.model = model};
	uint32_t room = scenario->models[model].context_tokens / 2;
	uint32_t most = workload->prompt_max < room ? workload->prompt_max : room;
	double part = workload->turns > 1 ? last ? LATER_PROMPT : FIRST_PROMPT : 1;
	uint32_t fresh = draw_tokens(random, workload->prompt_median * part, workload->prompt_sigma, most);
	turn.shared = last ? last->prompt + last->output : 0;
	turn.prompt = turn.shared + fresh;
	if (turn.prompt > most) { /* clients cut the beginning off */
		turn.prompt = most;
		turn.shared = 0;
	}
	for (int i = 0; turn.shared && i < SIM_KNOWN_TURNS; i++)
		turn.asked[i] = i ? last->asked[i - 1] : last->prompt;
	turn.output = draw_tokens(random, workload->output_median, workload->output_sigma,
	                          workload->output_max < room ? workload->output_max : room);
	turn.max_tokens = named_max(random, workload, turn.output);
	turn.tools = sim_random_unit(random) < workload->tools;
	turn.leaves = sim_random_unit(random) < workload->leave;
	turn.bad = workload->bad > 0 && sim_random_unit(random) < workload->bad;
	turn.vision = workload->vision > 0 && sim_random_unit(random) < workload->vision;
	double own = workload->self_route + workload->prefer_own > 0 ? sim_random_unit(random) : 1;
	turn.self_route = own < workload->self_route;
	turn.prefer_own = !turn.self_route && own < workload->self_route + workload->prefer_own;
	return turn;
}

/* --- models --- */

static bool asked_for(const struct sim_model *model, double at_s)
{
	return !(model->alternate_s > 0) || (fmod(at_s / model->alternate_s, 2) >= 1) == model->alternate_odd;
}

static uint16_t draw_model(struct sim_random *random, const struct sim_scenario *scenario, double at_s)
{
	double weights = 0;
	for (uint32_t i = 0; i < scenario->model_count; i++)
		weights += asked_for(&scenario->models[i], at_s) ? scenario->models[i].weight : 0;
	double pick = sim_random_unit(random) * weights;
	uint16_t last = 0;
	for (uint32_t i = 0; i < scenario->model_count; i++) {
		if (!asked_for(&scenario->models[i], at_s) || !(scenario->models[i].weight > 0))
			continue;
		last = (uint16_t)i;
		pick -= scenario->models[i].weight;
		if (pick < 0)
			break;
	}
	return last;
}

static uint16_t model_at(const struct sim_scenario *scenario, double point)
{
	double weights = 0;
	for (uint32_t i = 0; i < scenario->model_count; i++)
		weights += scenario->models[i].weight;
	point *= weights;
	for (uint32_t i = 0; i + 1 < scenario->model_count; i++) {
		point -= scenario->models[i].weight;
		if (point < 0)
			return (uint16_t)i;
	}
	return (uint16_t)(scenario->model_count - 1);
}

uint32_t sim_offered(const struct sim_scenario *scenario, const struct sim_group *group, uint32_t nth,
                     uint16_t out[SIM_MAX_BOX_MODELS])
{
	uint32_t count = 0;
	struct str rest = str_of(group->models_named), id;
	while (rest.len && count < SIM_MAX_BOX_MODELS) {
		rest = str_cut(rest, ',', &id);
		out[count++] = sim_scenario_model(scenario, str_trim(id));
	}
	if (count) { /* named: each machine begins with another one */
		uint16_t first = out[nth % count];
		out[nth % count] = out[0];
		out[0] = first;
		return count;
	}
	struct sim_random random = sim_random_for(scenario->seed + nth, PURPOSE_OFFERED);
	uint32_t wanted = group->models < scenario->model_count ? group->models : scenario->model_count;
	for (uint32_t tries = 0; count < wanted && tries < 1000; tries++) {
		/* The first follows the weights evenly (a low-discrepancy sequence), the others by chance. */
		double point = tries ? sim_random_unit(&random) : fmod(0.5 + nth * 0.6180339887498949, 1);
		uint16_t model = model_at(scenario, point);
		bool known = false;
		for (uint32_t i = 0; i < count; i++)
			known |= out[i] == model;
		if (!known)
			out[count++] = model;
	}
	return count;
}

/* --- how much the fleet can do --- */

struct means {
	double prompt, output, turns;
};

static struct means estimate(const struct sim_scenario *scenario)
{
	struct sim_random random = sim_random_for(scenario->seed, PURPOSE_SAMPLE);
	double prompt = 0, output = 0, requests = 0;
	for (int i = 0; i < SAMPLES; i++) {
		uint32_t turns = draw_turns(&random, scenario->workload.turns);
		struct sim_request turn;
		for (uint32_t n = 0; n < turns; n++) {
			turn = draw_turn(&random, scenario, draw_model(&random, scenario, 0), n ? &turn : NULL);
			prompt += turn.prompt;
			output += turn.output;
			requests++;
		}
	}
	return (struct means){prompt / requests, output / requests, requests / SAMPLES};
}

/* Requests a second of a machine that runs as many streams as still get the goal's rate. Prompts are read at full speed while
 * nothing decodes and at `prefill_share` otherwise, so how much of the time something decodes is a fixed point. */
static double box_rps(const struct sim_scenario *scenario, const struct sim_group *group, const struct sim_model *model,
                      const struct means *means)
{
	double solo = group->decode_tps * model->speed, slowdown = scenario->batch_slowdown, share = scenario->prefill_share;
	double batch =
	    scenario->decode_tps > 0 && slowdown > 0 ? floor((solo / scenario->decode_tps - 1) / slowdown) + 1 : group->concurrency;
	batch = batch < 1 ? 1 : batch > group->concurrency ? group->concurrency : batch;
	double throughput = batch * solo / (1 + slowdown * (batch - 1)),
	       read_s = means->prompt / (group->prefill_tps * model->speed);
	double by_work = 1 / (means->output / throughput + read_s), rps = by_work;
	for (int i = 0; i < 32; i++) {
		double decoding = fmin(1, rps * means->output / ((1 - share) * solo));
		double by_prompts = (1 - (1 - share) * decoding) / read_s;
		rps = (rps + fmin(by_work, by_prompts)) / 2;
	}
	return rps;
}

static double capacity_rps(const struct sim_scenario *scenario, const struct means *means)
{
	double rps = 0;
	for (uint32_t g = 0; g < scenario->group_count; g++) {
		const struct sim_group *group = &scenario->groups[g];
		for (uint32_t nth = 0; nth < group->count; nth++) {
			uint16_t offered[SIM_MAX_BOX_MODELS];
			(void)sim_offered(scenario, group, nth, offered);
			rps += box_rps(scenario, group, &scenario->models[offered[0]], means);
		}
	}
	return rps;
}

/* --- the trace --- */

struct maker {
	const struct sim_scenario *scenario;
	struct sim_random shapes;
	struct sim_request *requests;
	size_t count, cap;
	uint32_t conversations;
};

static bool add(struct maker *maker, const struct sim_request *request)
{
	if (maker->count == maker->cap) {
		size_t cap = maker->cap ? maker->cap * 2 : 1024;
		struct sim_request *grown = cap <= 2 * (size_t)SIM_MAX_REQUESTS ? realloc(maker->requests, cap * sizeof *grown) : NULL;
		if (!grown)
			return false;
		maker->requests = grown;
		maker->cap = cap;
	}
	maker->requests[maker->count++] = *request;
	return true;
}

static bool add_conversation(struct maker *maker, double at_s)
{
	const struct sim_workload *workload = &maker->scenario->workload;
	uint32_t turns = draw_turns(&maker->shapes, workload->turns), conversation = maker->conversations++;
	uint32_t tenant = draw_tenant(&maker->shapes, workload);
	uint16_t model = draw_model(&maker->shapes, maker->scenario, at_s);
	struct sim_request turn;
	for (uint32_t n = 0; n < turns && at_s < maker->scenario->seconds; n++) {
		turn = draw_turn(&maker->shapes, maker->scenario, model, n ? &turn : NULL);
		turn.conversation = conversation;
		turn.tenant = tenant;
		turn.turn = n;
		if (at_s >= 0) {
			turn.at_us = (uint64_t)(at_s * 1e6);
			if (!add(maker, &turn))
				return false;
		}
		at_s += turn.output / READ_TPS + sim_random_exponential(&maker->shapes, workload->think_s + 0.001);
	}
	return true;
}

static double rate_at(const struct sim_scenario *scenario, double at_s)
{
	const struct sim_workload *workload = &scenario->workload;
	double rate = 1 + workload->swing * sin(6.283185307179586 * at_s / workload->swing_s);
	for (uint32_t i = 0; i < scenario->happening_count; i++) {
		const struct sim_happening *happening = &scenario->happenings[i];
		bool now = at_s >= happening->at_s && (!(happening->for_s > 0) || at_s < happening->at_s + happening->for_s);
		if (happening->kind == SIM_RATE && now)
			rate *= happening->factor;
	}
	return rate < 1e-3 ? 1e-3 : rate;
}

static int by_time(const void *a, const void *b)
{
	const struct sim_request *x = a, *y = b;
	if (x->at_us != y->at_us)
		return x->at_us < y->at_us ? -1 : 1;
	if (x->conversation != y->conversation)
		return x->conversation < y->conversation ? -1 : 1;
	return x->turn < y->turn ? -1 : x->turn > y->turn;
}

enum db_err sim_trace_make(const struct sim_scenario *scenario, struct sim_trace *out, struct error *error)
{
	const struct sim_workload *workload = &scenario->workload;
	struct means means = estimate(scenario);
	struct sim_random arrivals = sim_random_for(scenario->seed, PURPOSE_ARRIVALS);
	struct maker maker = {.scenario = scenario, .shapes = sim_random_for(scenario->seed, PURPOSE_SHAPES)};
	*out = (struct sim_trace){.capacity_rps = capacity_rps(scenario, &means)};
	out->rps = workload->load > 0 ? workload->load * out->capacity_rps : workload->rps;
	if (out->rps * scenario->seconds > SIM_MAX_REQUESTS)
		return error_set(error, DB_E_LIMIT, "that would be %.3g requests: shorten it or ask for less",
		                 out->rps * scenario->seconds);
	bool ok = true;
	for (uint32_t i = 0; i < workload->burst && ok; i++)
		ok = add_conversation(&maker, 0);
	double starts = out->rps / means.turns, shape = 1 / (workload->burstiness * workload->burstiness);
	/* Conversations that began before the start are under way. */
	double at_s = -(means.turns - 1) * (workload->think_s + means.output / READ_TPS);
	while (ok && starts > 0) {
		at_s += sim_random_gamma(&arrivals, shape) / shape / (starts * rate_at(scenario, at_s));
		if (at_s >= scenario->seconds)
			break;
		ok = add_conversation(&maker, at_s);
	}
	if (!ok) {
		free(maker.requests);
		return error_set(error, DB_E_NOMEM, "out of memory for the requests");
	}
	if (maker.count)
		qsort(maker.requests, maker.count, sizeof *maker.requests, by_time);
	out->requests = maker.requests;
	out->count = maker.count;
	return DB_OK;
}

void sim_trace_free(struct sim_trace *trace)
{
	free(trace->requests);
	*trace = (struct sim_trace){0};
}
