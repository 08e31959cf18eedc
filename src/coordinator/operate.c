#include "coordinator/operate.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/version.h"

#include <stdlib.h>

#define CAPACITY_US     2000000ull
#define STATS_US        60000000ull
#define KEPT_TIMES      10 /* what took long to make is kept for so many times as long */
#define MAX_MODELS      4096
#define SHOWN_MAX       1000 /* providers listed one by one; all are counted */
#define SERIES          30   /* minutes */
#define QUEUE_LIMIT     10   /* http-api 2.1 */
#define LISTING_MAX     (64u << 20)
#define DOWNLOAD        "/dl/darkbloom-bundle-linux-x86_64.tar.gz"
#define MINUTE_US       60000000ull
#define LITTLE_REQUESTS 5 /* fewer from one place are not shown */

struct listing {
	struct buf text;
	uint64_t until_us; /* 0 = never made */
};

/* What happened in one minute. */
struct minute {
	int64_t starts_s;
	struct gateway_totals totals;
};

struct operate {
	struct server *server;
	struct listing capacity, stats;
	struct route_capacity *models;
	struct net_timer tick;
	struct gateway_totals last;
	struct minute series[SERIES];
	size_t minutes; /* counted since the start; the newest is at (minutes - 1) % SERIES */
};

/* --- per minute --- */

static void on_minute(struct net_timer *timer)
{
	struct operate *operate = LIST_OF(timer, struct operate, tick);
	struct gateway_totals now;
	gateway_totals(server_rooms(operate->server)->gateway, &now);
	operate->series[operate->minutes++ % SERIES] = (struct minute){
	    .starts_s = (clock_wall_us() - (int64_t)MINUTE_US) / 1000000,
	    .totals = {.requests = now.requests - operate->last.requests,
	               .prompt_tokens = now.prompt_tokens - operate->last.prompt_tokens,
	               .completion_tokens = now.completion_tokens - operate->last.completion_tokens},
	};
	operate->last = now;
}

struct operate *operate_new(struct server *server)
{
	struct operate *operate = calloc(1, sizeof *operate);
	if (!operate)
		return NULL;
	operate->server = server;
	operate->models = calloc(MAX_MODELS, sizeof *operate->models);
	buf_init(&operate->capacity.text, LISTING_MAX);
	buf_init(&operate->stats.text, LISTING_MAX);
	if (!operate->models) {
		operate_free(operate);
		return NULL;
	}
	net_timer_start(server_rooms(server)->loop, &operate->tick, MINUTE_US / 1000, (uint32_t)(MINUTE_US / 1000), on_minute);
	return operate;
}

void operate_free(struct operate *operate)
{
	if (!operate)
		return;
	net_timer_stop(&operate->tick);
	buf_free(&operate->capacity.text);
	buf_free(&operate->stats.text);
	free(operate->models);
	free(operate);
}

/* --- lists that are kept for a while --- */

static uint64_t loop_now(const struct operate *operate)
{
	return net_now_us(server_rooms(operate->server)->loop);
}

static void answer_listing(struct operate *operate, struct exchange *exchange, struct listing *listing, uint64_t keep_us,
                           void (*make)(struct operate *operate, struct json_writer *w))
{
	if (listing->until_us <= loop_now(operate)) {
		struct json_writer w;
		uint64_t began = clock_mono_us();
		buf_clear(&listing->text);
		json_writer_init(&w, &listing->text);
		make(operate, &w);
		uint64_t took = KEPT_TIMES * (clock_mono_us() - began);
		listing->until_us = loop_now(operate) + (took > keep_us ? took : keep_us);
	}
	if (!listing->text.failed) {
		exchange_json(exchange, 200, buf_str(&listing->text));
		return;
	}
	struct api_error error;
	listing->until_us = 0;
	api_fail(&error, 500, "internal_error", NULL, NULL, "The list is too long to be made.");
	exchange_error(exchange, &error);
}

/* --- GET /v1/models/capacity --- */

static size_t capacities(struct operate *operate)
{
	size_t count = fleet_capacities(server_rooms(operate->server)->fleet, operate->models, MAX_MODELS);
	return count < MAX_MODELS ? count : MAX_MODELS;
}

static void put_capacity(struct json_writer *w, const struct operate *operate, const struct route_capacity *model)
{
	size_t queued = fleet_waiting(server_rooms(operate->server)->fleet, model->id);
	json_begin_object(w);
	json_put_str(w, "id", model->id);
	json_put_bool(w, "ready", model->routable > 0);
	json_put_bool(w, "can_accept", model->can_accept || (model->routable > 0 && queued < QUEUE_LIMIT));
	json_put_i64(w, "routable_providers", model->routable);
	json_put_i64(w, "warm_providers", model->warm);
	json_put_i64(w, "running_providers", model->running);
	json_put_i64(w, "cold_providers", model->cold);
	json_put_i64(w, "active_requests", (int64_t)model->active);
	json_put_i64(w, "queued_requests", (int64_t)queued);
	json_put_i64(w, "queue_limit", QUEUE_LIMIT);
	json_put_double(w, "aggregate_tps", model->aggregate_tps);
	json_put_double(w, "estimated_ttft_ms", model->ttft_ms < 0 ? 0 : model->ttft_ms);
	json_put_i64(w, "token_budget_remaining", (int64_t)model->free_tokens);
	json_put_i64(w, "token_budget_total", (int64_t)model->budget_tokens);
	json_end_object(w);
}

static void make_capacity(struct operate *operate, struct json_writer *w)
{
	size_t count = capacities(operate);
	json_begin_object(w);
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < count; i++)
		put_capacity(w, operate, &operate->models[i]);
	json_end_array(w);
	json_end_object(w);
}

void handle_capacity(struct server *server, struct exchange *exchange)
{
	struct operate *operate = server_operate(server);
	if (server_draining(server))
		exchange_json(exchange, 200, STR("{\"models\":[],\"draining\":true}"));
	else
		answer_listing(operate, exchange, &operate->capacity, CAPACITY_US, make_capacity);
}

/* --- GET /v1/stats: metadata of the fleet and sums, nothing of any request --- */

struct sums {
	struct json_writer *w; /* of the providers' list */
	size_t shown, active, attested;
	int64_t gpu_cores;
	double memory_gb, bandwidth_gbs;
};

static void put_provider(struct json_writer *w, const struct fleet_provider_view *p)
{
	json_begin_object(w);
	json_put_str(w, "id", p->id);
	json_put_str(w, "chip", p->chip_name);
	json_put_str(w, "chip_family", p->chip_family);
	json_put_str(w, "machine_model", p->machine_model);
	json_put_double(w, "memory_gb", p->memory_gb);
	json_put_i64(w, "gpu_cores", p->gpu_cores);
	json_put_double(w, "memory_bandwidth_gbs", p->bandwidth_gbs);
	json_put_cstr(w, "status", p->status);
	json_put_cstr(w, "trust_level", route_trust_name(p->trust));
	json_put_double(w, "decode_tps", p->decode_tps);
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < p->model_count; i++)
		json_str(w, p->models[i]);
	json_end_array(w);
	json_put_bool(w, "attested", p->attested);
	json_put_bool(w, "mda_verified", p->mda_verified);
	json_put_bool(w, "acme_verified", false);
	json_end_object(w);
}

static void add_provider(const struct fleet_provider_view *p, void *user)
{
	struct sums *sums = user;
	if (p->private_only)
		return;
	sums->active++;
	sums->attested += p->attested;
	sums->gpu_cores += p->gpu_cores;
	sums->memory_gb += p->memory_gb;
	sums->bandwidth_gbs += p->bandwidth_gbs;
	if (sums->shown < SHOWN_MAX) {
		sums->shown++;
		put_provider(sums->w, p);
	}
}

static double share(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

static void put_utilization(struct operate *operate, struct json_writer *w, size_t count, double tps)
{
	uint64_t active = 0, queued = 0, budget = 0, free_tokens = 0, routable = 0, warm = 0;
	for (size_t i = 0; i < count; i++) {
		const struct route_capacity *model = &operate->models[i];
		active += model->active;
		queued += fleet_waiting(server_rooms(operate->server)->fleet, model->id);
		budget += model->budget_tokens;
		free_tokens += model->free_tokens;
		routable += model->routable;
		warm += model->warm;
	}
	double tokens = share((double)budget - (double)free_tokens, (double)budget);
	json_key(w, "network_utilization");
	json_begin_object(w);
	json_put_double(w, "utilization", tokens);
	json_put_double(w, "warm_utilization", share((double)warm, (double)routable));
	json_put_double(w, "token_budget_utilization", tokens);
	json_put_double(w, "bottleneck_utilization", tokens);
	json_put_double(w, "capacity_tps", tps);
	json_put_i64(w, "active_requests", (int64_t)active);
	json_put_i64(w, "queued_requests", (int64_t)queued);
	json_end_object(w);
}

static void put_counts(struct json_writer *w, const struct gateway_totals *totals, bool total)
{
	json_put_i64(w, total ? "total_requests" : "requests", (int64_t)totals->requests);
	json_put_i64(w, total ? "total_prompt_tokens" : "prompt_tokens", (int64_t)totals->prompt_tokens);
	json_put_i64(w, total ? "total_completion_tokens" : "completion_tokens", (int64_t)totals->completion_tokens);
	json_put_i64(w, "total_tokens", (int64_t)(totals->prompt_tokens + totals->completion_tokens));
}

static void put_series(struct json_writer *w, const struct operate *operate)
{
	size_t count = operate->minutes < SERIES ? operate->minutes : SERIES;
	json_key(w, "time_series");
	json_begin_array(w);
	for (size_t i = operate->minutes - count; i < operate->minutes; i++) {
		const struct minute *minute = &operate->series[i % SERIES];
		char at[CLOCK_RFC3339_SIZE];
		clock_format_rfc3339(minute->starts_s * 1000000, at);
		json_begin_object(w);
		json_put_cstr(w, "timestamp", at);
		put_counts(w, &minute->totals, false);
		json_end_object(w);
	}
	json_end_array(w);
}

static void put_models(struct operate *operate, struct json_writer *w, size_t count)
{
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(w);
		json_put_str(w, "id", operate->models[i].id);
		json_put_i64(w, "providers", operate->models[i].routable);
		json_end_object(w);
	}
	json_end_array(w);
}

/* Nobody's place is looked up (http-api 8.29): the members are there, and empty. */
static void put_places(struct json_writer *w, size_t providers, uint64_t requests)
{
	static const char *const lists[] = {"provider_locations", "provider_regions", "request_locations", "request_regions",
	                                    "request_flows"};
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		json_key(w, lists[i]);
		json_raw(w, STR("[]"));
	}
	json_put_i64(w, "unknown_location_providers", (int64_t)providers);
	json_put_i64(w, "suppressed_city_location_providers", 0);
	json_put_i64(w, "location_privacy_min_providers", 2);
	json_put_i64(w, "unknown_request_location_requests", (int64_t)requests);
	json_put_i64(w, "suppressed_request_city_requests", 0);
	json_put_i64(w, "request_location_privacy_min_requests", LITTLE_REQUESTS);
}

static void make_stats(struct operate *operate, struct json_writer *w)
{
	struct gateway_totals totals;
	struct sums sums = {.w = w};
	size_t count = capacities(operate);
	double tps = 0;
	for (size_t i = 0; i < count; i++)
		tps += operate->models[i].aggregate_tps;
	gateway_totals(server_rooms(operate->server)->gateway, &totals);
	json_begin_object(w);
	put_counts(w, &totals, true);
	json_put_double(w, "avg_tokens_per_request",
	                share((double)(totals.prompt_tokens + totals.completion_tokens), (double)totals.requests));
	json_key(w, "providers");
	json_begin_array(w);
	fleet_each(server_rooms(operate->server)->fleet, add_provider, &sums);
	json_end_array(w);
	json_put_i64(w, "active_providers", (int64_t)sums.active);
	json_put_i64(w, "code_attested_providers", 0);
	json_put_bool(w, "code_attestation_enforced", false);
	json_put_i64(w, "total_gpu_cores", sums.gpu_cores);
	json_put_double(w, "total_memory_gb", sums.memory_gb);
	json_put_double(w, "total_bandwidth_gbs", sums.bandwidth_gbs);
	json_put_double(w, "network_capacity_tps", tps);
	put_utilization(operate, w, count, tps);
	put_models(operate, w, count);
	put_series(w, operate);
	put_places(w, sums.active, totals.requests);
	json_end_object(w);
}

void handle_stats(struct server *server, struct exchange *exchange)
{
	struct operate *operate = server_operate(server);
	answer_listing(operate, exchange, &operate->stats, STATS_US, make_stats);
}

/* --- GET /api/version --- */

void handle_version(struct server *server, struct exchange *exchange)
{
	struct buf body, url;
	struct json_writer w;
	struct str host = http_header_get(exchange->http, "host"), proto = http_header_get(exchange->http, "x-forwarded-proto");
	bool secure = proto.len > 0 ? str_is(proto, "https") : server_is_tls(server);
	buf_init(&url, 1024);
	buf_init(&body, 4096);
	buf_printf(&url, "%s://%.*s" DOWNLOAD, secure ? "https" : "http", STR_ARG(host));
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "version", DARKBLOOM_VERSION);
	json_put_str(&w, "download_url", url.failed ? STR_NONE : buf_str(&url));
	json_end_object(&w);
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
	buf_free(&url);
}

/* --- POST /v1/admin/drain --- */

/* An empty body shuts the gate. False with *error when the body says something else than it may. */
static bool wanted_gate(struct exchange *exchange, bool *shut, struct api_error *error)
{
	struct str body = str_trim(exchange_body(exchange));
	*shut = true;
	if (body.len == 0)
		return true;
	struct json_doc *doc = json_parse(body, http_arena(exchange->http), NULL);
	const json_val *root = doc ? json_root(doc) : NULL, *wanted = json_get_some(root, "draining");
	if (json_type(root) != JSON_OBJECT || (wanted && !json_as_bool(wanted, shut)))
		return api_fail(error, 400, "invalid_request_error", NULL, wanted ? "draining" : NULL,
		                "The body must be empty or {\"draining\":true|false}.");
	return true;
}

void handle_drain(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	struct api_error error;
	bool shut;
	if (!wanted_gate(exchange, &shut, &error)) {
		exchange_error(exchange, &error);
		return;
	}
	server_set_gate(server, shut);
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_bool(&w, "draining", server_draining(server));
	json_put_i64(&w, "inflight", (int64_t)server_inflight(server));
	json_end_object(&w);
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}
