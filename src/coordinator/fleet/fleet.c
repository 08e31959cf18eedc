#include "coordinator/fleet/fleet.h"

#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"

#define MESSAGE_ARENA_BYTES (64u << 20)
#define SEND_QUEUE_BYTES    (WIRE_MAX_TO_PROVIDER)

static const char *const default_backends[] = {"mlx-swift", "inprocess-mlx", "llama.cpp"};

/* --- making and ending --- */

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

static bool copy_backends(struct fleet *fleet)
{
	struct fleet_options *options = &fleet->options;
	if (!options->backend_count) {
		options->backends = default_backends;
		options->backend_count = sizeof default_backends / sizeof *default_backends;
	}
	fleet->backends = calloc(options->backend_count, sizeof *fleet->backends);
	for (size_t i = 0; fleet->backends && i < options->backend_count; i++)
		if (!(fleet->backends[i] = strdup(options->backends[i])))
			return false;
	options->backends = (const char *const *)fleet->backends;
	return fleet->backends != NULL;
}

static void refresh_gauges(void *arg)
{
	struct fleet *fleet = arg;
	metric_set(fleet->metrics.providers, (double)fleet->registered);
	metric_set(fleet->metrics.waiting, (double)queue_total(fleet->queues));
	metric_set(fleet->metrics.jobs_open, (double)fleet->jobs.count);
	metric_set(fleet->metrics.prefixes, (double)route_prefix_count(fleet->routes));
}

static void make_metrics(struct fleet *fleet, struct metrics *metrics)
{
	struct fleet_metrics *m = &fleet->metrics;
	if (!metrics)
		return;
	m->providers = metrics_gauge(metrics, "darkbloom_providers", NULL, "Registered providers.");
	m->waiting = metrics_gauge(metrics, "darkbloom_requests_waiting", NULL, "Requests that wait for a provider.");
	m->jobs_open = metrics_gauge(metrics, "darkbloom_jobs_open", NULL, "Dispatch attempts in flight.");
	m->prefixes = metrics_gauge(metrics, "darkbloom_prefixes", NULL, "Prefixes of prompts that some provider keeps.");
	m->prefix_hits = metrics_counter(metrics, "darkbloom_prefix_jobs_total", NULL,
	                                 "Dispatch attempts sent to a provider for a prefix that it keeps.");
	m->registered = metrics_counter(metrics, "darkbloom_registrations_total", NULL, "Registrations accepted.");
	m->rejected_messages = metrics_counter(metrics, "darkbloom_provider_messages_rejected_total", NULL,
	                                       "Provider messages that could not be read.");
	m->chunks = metrics_counter(metrics, "darkbloom_chunks_total", NULL, "Sealed chunks opened.");
	m->chunk_bytes = metrics_counter(metrics, "darkbloom_chunk_bytes_total", NULL, "Bytes of opened chunks.");
	m->jobs = metrics_counter(metrics, "darkbloom_jobs_total", NULL, "Dispatch attempts started.");
	m->job_errors = metrics_counter(metrics, "darkbloom_job_errors_total", NULL, "Dispatch attempts that ended in an error.");
	m->violations =
	    metrics_counter(metrics, "darkbloom_protocol_violations_total", NULL, "Providers untrusted for a violation.");
	m->strays = metrics_counter(metrics, "darkbloom_stray_chunks_total", NULL, "Chunks for requests that nobody waits for.");
	m->challenges_passed = metrics_counter(metrics, "darkbloom_challenges_total", "result=\"passed\"", "Liveness challenges.");
	m->challenges_failed = metrics_counter(metrics, "darkbloom_challenges_total", "result=\"failed\"", "Liveness challenges.");
	m->keys_ready = metrics_counter(metrics, "darkbloom_request_keys_total", "made=\"ahead\"", "Request keys used.");
	m->keys_inline_us = metrics_counter(metrics, "darkbloom_request_keys_inline_microseconds_total", NULL,
	                                    "CPU time of the loop's thread for request keys that were not made ahead.");
	m->keys_inline = metrics_counter(metrics, "darkbloom_request_keys_total", "made=\"inline\"", "Request keys used.");
	m->loads_asked = metrics_counter(metrics, "darkbloom_model_loads_total", "result=\"asked\"", "Load commands to providers.");
	m->loads_done = metrics_counter(metrics, "darkbloom_model_loads_total", "result=\"done\"", "Load commands to providers.");
	m->loads_failed =
	    metrics_counter(metrics, "darkbloom_model_loads_total", "result=\"failed\"", "Load commands to providers.");
	metrics_on_write(metrics, refresh_gauges, fleet);
}

static void on_sweep(struct net_timer *timer);

struct fleet *fleet_new(struct net_loop *loop, struct accounts *accounts, struct metrics *metrics,
                        const struct fleet_options *options)
{
	struct fleet *fleet = calloc(1, sizeof *fleet);
	struct route_policy policy = {
	    .min_trust = options->min_trust, .dedicated = options->dedicated, .dedicated_count = options->dedicated_count};
	if (!fleet)
		return NULL;
	id_random(&policy.seed, sizeof policy.seed);
	fleet->loop = loop;
	fleet->accounts = accounts;
	fleet->options = *options;
	static const uint8_t none[FLEET_TENANT_KEY_BYTES];
	if (memcmp(options->tenant_key, none, sizeof none) == 0)
		id_random(fleet->options.tenant_key, sizeof fleet->options.tenant_key);
	fleet->options.challenge_interval_ms = or_default(options->challenge_interval_ms, 300000);
	fleet->options.challenge_timeout_ms = or_default(options->challenge_timeout_ms, 30000);
	fleet->options.heartbeat_timeout_ms = or_default(options->heartbeat_timeout_ms, 90000);
	fleet->options.max_providers = or_default(options->max_providers, 100000);
	list_init(&fleet->sessions);
	list_init(&fleet->live);
	list_init(&fleet->stale);
	list_init(&fleet->pools);
	list_init(&fleet->hungry);
	list_init(&fleet->sealing);
	list_init(&fleet->stray_order);
	map_init(&fleet->by_serial);
	map_init(&fleet->jobs);
	map_init(&fleet->blind);
	map_init(&fleet->strays);
	map_init(&fleet->build_counts);
	buf_init(&fleet->out, WIRE_MAX_TO_PROVIDER);
	buf_init(&fleet->plain, WIRE_MAX_TO_COORDINATOR);
	fleet->routes = route_fleet_new(&policy);
	fleet->planner = fleet->routes ? planner_new(fleet->routes, &options->planner) : NULL;
	fleet->aliases = fleet->routes ? alias_table_new(fleet->routes) : NULL;
	fleet->arena = arena_new(MESSAGE_ARENA_BYTES);
	if (!waiting_init(fleet) || !fleet->planner || !fleet->aliases || !fleet->arena || !copy_backends(fleet)) {
		fleet_free(fleet);
		return NULL;
	}
	make_metrics(fleet, metrics);
	uint32_t sweep_ms = fleet->options.heartbeat_timeout_ms / FLEET_SWEEPS + 1;
	net_timer_start(loop, &fleet->sweep, sweep_ms, sweep_ms, on_sweep);
	warm_start(fleet);
	return fleet;
}

static void forget_session(struct session *session)
{
	struct ws *ws = session->ws;
	session->closing = true;
	session_free(session);
	if (ws) {
		ws_set_user(ws, NULL); /* its on_close finds nobody */
		ws_abort(ws);
	}
}

void fleet_on_node_gone(struct fleet *fleet, void (*fn)(const struct route_node *node, void *user), void *user)
{
	fleet->on_node_gone = fn;
	fleet->node_user = user;
}

struct route_fleet *fleet_routes(const struct fleet *fleet)
{
	return fleet->routes;
}

void fleet_free(struct fleet *fleet)
{
	if (!fleet)
		return;
	net_timer_stop(&fleet->sweep);
	warm_stop(fleet);
	for (struct list_link *link; (link = list_first(&fleet->sessions));)
		forget_session(LIST_OF(link, struct session, link));
	keys_stop(fleet);
	seal_stop(fleet);
	waiting_free(fleet);
	strays_free(fleet);
	planner_free(fleet->planner);
	alias_table_free(fleet->aliases);
	route_fleet_free(fleet->routes);
	arena_free(fleet->arena);
	buf_free(&fleet->out);
	buf_free(&fleet->plain);
	map_free(&fleet->by_serial);
	builds_counts_free(fleet);
	map_free(&fleet->jobs);
	map_free(&fleet->blind);
	for (size_t i = 0; fleet->backends && i < fleet->options.backend_count; i++)
		free(fleet->backends[i]);
	free(fleet->backends);
	free(fleet);
}

/* --- connections --- */

void fleet_accept(struct fleet *fleet, struct http_request *request)
{
	struct ws_limits limits = {.max_message_bytes = WIRE_MAX_TO_COORDINATOR, .max_queued_bytes = SEND_QUEUE_BYTES};
	if (fleet->draining) {
		http_respond(request, 503, "application/json", STR("{\"error\":\"draining\"}\n"));
		return;
	}
	struct session *session = session_new(fleet);
	if (!session) {
		http_respond(request, 503, NULL, STR_NONE);
		return;
	}
	session->ws = ws_accept(request, &fleet_ws_handler, &limits, session);
	if (!session->ws)
		session_free(session);
}

void fleet_drain(struct fleet *fleet)
{
	fleet->draining = true;
}

/* --- liveness (protocol-and-trust 1.3): a provider that is silent over two sweeps goes. The lists are in order of time, so a
 * sweep touches only those that it moves. --- */

static void on_sweep(struct net_timer *timer)
{
	struct fleet *fleet = LIST_OF(timer, struct fleet, sweep);
	uint64_t now_us = net_now_us(fleet->loop), timeout_us = fleet->options.heartbeat_timeout_ms * 1000ull;
	for (size_t left = fleet->stale.count; left && fleet->stale.count; left--) {
		struct session *session = LIST_OF(list_first(&fleet->stale), struct session, beat);
		list_remove(&fleet->stale, &session->beat);
		log_warn("provider.evicted", "provider=%s silent_s=%llu", session->id,
		         (unsigned long long)((now_us - session->last_beat_us) / 1000000));
		session_drop(session);
	}
	for (struct list_link *link; (link = list_first(&fleet->live));) {
		struct session *session = LIST_OF(link, struct session, beat);
		if (session->last_beat_us + timeout_us > now_us)
			break;
		list_remove(&fleet->live, link);
		list_push_back(&fleet->stale, link);
		session->late = true;
	}
	keys_sweep(fleet);
}
