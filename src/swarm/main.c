/* darkbloom-swarm: simulated providers and consumers that speak the real wire, for tests and benchmarks. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "core/cli.h"
#include "core/json.h"
#include "core/log.h"
#include "core/version.h"
#include "crypto/secret.h"
#include "swarm/fleet.h"
#include "swarm/load.h"
#include "swarm/simulate.h"

#define FLEET_OPTIONS                                                                                                          \
	{.name = "providers", .value = "N", .help = "simulated providers (default 1)"},                                            \
	    {.name = "connect-rate", .value = "N", .help = "new sessions a second (default 2000)"},                                \
	    {.name = "addresses", .value = "N", .help = "loopback addresses they come from (default: one for 20000)"},             \
	    {.name = "first-index", .value = "N", .help = "number of the first provider, for several swarms at once"},             \
	    {.name = "think-us", .value = "US", .help = "wait before the first chunk"},                                            \
	    {.name = "pace-us", .value = "US", .help = "wait between chunks; 0 = as fast as possible (default)"},                  \
	    {.name = "chunks", .value = "N", .help = "content chunks of an answer (default 8)"},                                   \
	    {.name = "chunk-bytes", .value = "N", .help = "text of each chunk (default 16)"},                                      \
	    {.name = "ca", .value = "FILE", .help = "speak TLS (wss) and trust this certificate authority"},                       \
	    {.name = "heartbeat-ms", .value = "MS", .help = "interval of heartbeats (default 5000)"},                              \
	    {.name = "concurrency", .value = "N", .help = "reported concurrency of each provider (default 24)"},                   \
	    {.name = "churn", .value = "N", .help = "sessions that end each second, to connect again (default 0)"},                \
	    {.name = "reconnect-ms", .value = "MS", .help = "mean wait before that, with jitter (default 1000)"},                  \
	    {.name = "no-credit", .help = "do not understand flow credit"},                                                        \
	    {.name = "ignore-cancel", .help = "go on after a cancel, as the older generation does"},                               \
	    {.name = "old-generation", .help = "speak like a provider of version 0.4.7"},                                          \
	    {.name = "faults",                                                                                                     \
	     .value = "LIST",                                                                                                      \
	     .help = "error, busy, hang, silent, drop, early-drop, break, garbage, plaintext, "                                    \
	             "foreign, replay, oversize, lie; as name:probability,..."},                                                   \
	{                                                                                                                          \
		.name = "seed", .value = "N", .help = "of the random faults (default 1)"                                               \
	}

#define LOAD_OPTIONS                                                                                                           \
	{.name = "key", .value = "KEY", .help = "API key (or DARKBLOOM_API_KEY)"},                                                 \
	    {.name = "clients", .letter = 'c', .value = "N", .help = "consumers, each with one request at a time (default 1)"},    \
	    {.name = "requests", .letter = 'n', .value = "N", .help = "stop after so many"},                                       \
	    {.name = "seconds",                                                                                                    \
	     .letter = 't',                                                                                                        \
	     .value = "S",                                                                                                         \
	     .help = "stop after so long (default 5 when --requests is not given)"},                                               \
	    {.name = "warmup", .value = "S", .help = "seconds at the start that do not count"},                                    \
	    {.name = "client-think-us", .value = "US", .help = "wait between an answer and the next request"},                     \
	    {.name = "dialect", .value = "NAME", .help = "chat (default), responses, completions, messages or mixed"},             \
	    {.name = "stream", .help = "ask for streams"},                                                                         \
	    {.name = "prompt-bytes", .value = "N", .help = "length of the prompt (default 200)"},                                  \
	    {.name = "max-tokens", .value = "N", .help = "max_tokens of each request"},                                            \
	{                                                                                                                          \
		.name = "stall-ms", .value = "MS", .help = "stop reading for so long after the first byte of each stream"              \
	}

#define SHARED_OPTIONS                                                                                                         \
	{.name = "host", .value = "ADDR", .help = "the coordinator's address (default 127.0.0.1)"},                                \
	    {.name = "port", .value = "N", .help = "the coordinator's port (default 8080)"},                                       \
	    {.name = "model", .value = "ID", .help = "build id (default swarm-model)"},                                            \
	    {.name = "models", .value = "N", .help = "spread over N builds ID-0 ... (default 1)"},                                 \
	    {.name = "log-level", .value = "LEVEL", .help = "debug, info, warn or error (default error)"},                         \
	{                                                                                                                          \
		.name = NULL                                                                                                           \
	}

static const struct cli_option run_options[] = {FLEET_OPTIONS, LOAD_OPTIONS, SHARED_OPTIONS};
static const struct cli_option providers_options[] = {FLEET_OPTIONS, SHARED_OPTIONS};
static const struct cli_option load_options[] = {LOAD_OPTIONS, SHARED_OPTIONS};

struct swarm {
	struct net_loop *loop;
	struct swarm_fleet *fleet;
	struct swarm_load *load;
	struct swarm_load_options load_options;
	struct net_timer settle;
	bool failed;
};

/* --- results, one JSON object on standard output --- */

static void put_latency(struct json_writer *w, const char *name, const struct stats *stats)
{
	json_key(w, name);
	json_begin_object(w);
	json_put_i64(w, "count", (int64_t)stats->count);
	json_put_double(w, "mean", stats_mean(stats));
	json_put_double(w, "p50", stats_percentile(stats, 0.50));
	json_put_double(w, "p90", stats_percentile(stats, 0.90));
	json_put_double(w, "p99", stats_percentile(stats, 0.99));
	json_put_double(w, "max", (double)stats->max);
	json_end_object(w);
}

static void put_load(struct json_writer *w, const struct swarm_load_result *result)
{
	json_put_i64(w, "ok", (int64_t)result->ok);
	json_put_i64(w, "failed", (int64_t)result->failed);
	json_put_i64(w, "incomplete", (int64_t)result->incomplete);
	json_put_i64(w, "events", (int64_t)result->events);
	json_put_double(w, "seconds", result->seconds);
	json_put_double(w, "requests_per_s", result->seconds > 0 ? (double)result->ok / result->seconds : 0);
	json_put_double(w, "events_per_s", result->seconds > 0 ? (double)result->events / result->seconds : 0);
	json_key(w, "statuses");
	json_begin_array(w);
	for (size_t i = 0; i < 6; i++)
		json_i64(w, (int64_t)result->by_status[i]);
	json_end_array(w);
	put_latency(w, "latency_us", &result->latency_us);
	put_latency(w, "first_us", &result->first_us);
}

static void put_fleet(struct json_writer *w, const struct swarm_fleet *fleet)
{
	struct swarm_fleet_counts counts;
	swarm_fleet_counts(fleet, &counts);
	json_key(w, "fleet");
	json_begin_object(w);
	json_put_i64(w, "connected", (int64_t)counts.connected);
	json_put_i64(w, "challenged", (int64_t)counts.challenged);
	json_put_i64(w, "requests", (int64_t)counts.requests);
	json_put_i64(w, "chunks", (int64_t)counts.chunks);
	json_put_i64(w, "completed", (int64_t)counts.completed);
	json_put_i64(w, "cancelled", (int64_t)counts.cancelled);
	json_put_i64(w, "faults", (int64_t)counts.faults);
	json_put_i64(w, "sessions_lost", (int64_t)counts.sessions_lost);
	json_end_object(w);
}

static void print_result(const struct swarm *swarm)
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, 1 << 20);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	if (swarm->load)
		put_load(&w, swarm_load_result(swarm->load));
	if (swarm->fleet)
		put_fleet(&w, swarm->fleet);
	json_end_object(&w);
	printf("%.*s\n", STR_ARG(buf_str(&text)));
	fflush(stdout);
	buf_free(&text);
}

/* --- running --- */

static void on_load_done(void *user)
{
	net_loop_stop(((struct swarm *)user)->loop);
}

static uint64_t last_turnaround(void *user)
{
	return swarm_fleet_last_turnaround_us(((struct swarm *)user)->fleet);
}

static void start_load(struct swarm *swarm)
{
	struct error error;
	swarm->load_options.done = on_load_done;
	swarm->load_options.user = swarm;
	if (swarm->fleet && swarm->load_options.clients == 1)
		swarm->load_options.turnaround_us = last_turnaround;
	swarm->load = swarm_load_new(swarm->loop, &swarm->load_options, &error);
	if (swarm->load)
		return;
	fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
	swarm->failed = true;
	net_loop_stop(swarm->loop);
}

static void on_settled(struct net_timer *timer)
{
	start_load((struct swarm *)(void *)((char *)timer - offsetof(struct swarm, settle)));
}

/* The last challenge was answered; the coordinator still has to check it. */
static void on_fleet_ready(void *user)
{
	struct swarm *swarm = user;
	fprintf(stderr, "darkbloom-swarm: every provider has answered its challenge\n");
	if (swarm->load_options.clients)
		net_timer_start(swarm->loop, &swarm->settle, 500, 0, on_settled);
}

static void on_terminate(int signal_number, void *arg)
{
	(void)signal_number;
	net_loop_stop(((struct swarm *)arg)->loop);
}

static bool number(const struct cli_args *args, const char *name, uint32_t fallback, uint32_t max, uint32_t *out)
{
	int64_t value;
	if (!cli_int(args, name, fallback, 0, max, &value))
		return false;
	*out = (uint32_t)value;
	return true;
}

static bool read_fleet(const struct cli_args *args, struct swarm_fleet_options *out)
{
	struct error error;
	uint32_t seed;
	const char *faults = cli_value(args, "faults");
	bool ok =
	    number(args, "providers", 1, 1000000, &out->count) && number(args, "connect-rate", 0, 1000000, &out->connect_rate) &&
	    number(args, "addresses", 0, 65000, &out->addresses) && number(args, "first-index", 0, 99999999, &out->first_index) &&
	    number(args, "think-us", 0, 600000000, &out->think_us) && number(args, "pace-us", 0, 600000000, &out->pace_us) &&
	    number(args, "chunks", 8, 100000000, &out->chunks) && number(args, "chunk-bytes", 16, 1 << 20, &out->chunk_bytes) &&
	    number(args, "heartbeat-ms", 0, 3600000, &out->heartbeat_ms) && number(args, "concurrency", 0, 24, &out->concurrency) &&
	    number(args, "churn", 0, 100000, &out->churn) && number(args, "reconnect-ms", 0, 600000, &out->reconnect_ms) &&
	    number(args, "seed", 1, UINT32_MAX, &seed) && number(args, "models", 1, 100000, &out->models);
	out->credit = !cli_flag(args, "no-credit");
	out->ignore_cancel = cli_flag(args, "ignore-cancel");
	out->old_generation = cli_flag(args, "old-generation");
	out->seed = ok ? seed : 0;
	out->model = cli_value(args, "model") ? cli_value(args, "model") : "swarm-model";
	if (ok && faults && swarm_faults_parse(str_of(faults), out->faults, &error)) {
		fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
		ok = false;
	}
	return ok;
}

static bool read_load(const struct cli_args *args, uint32_t port, struct swarm_load_options *out)
{
	uint32_t requests;
	out->key = cli_value(args, "key") ? cli_value(args, "key") : getenv("DARKBLOOM_API_KEY");
	out->host = cli_value(args, "host") ? cli_value(args, "host") : "127.0.0.1";
	out->port = (uint16_t)port;
	const char *dialect = cli_value(args, "dialect");
	out->model = cli_value(args, "model") ? cli_value(args, "model") : "swarm-model";
	out->stream = cli_flag(args, "stream");
	bool ok = number(args, "clients", 1, 1000000, &out->clients) && number(args, "requests", 0, UINT32_MAX, &requests) &&
	          number(args, "seconds", 0, 86400, &out->seconds) && number(args, "warmup", 0, 3600, &out->warmup_seconds) &&
	          number(args, "client-think-us", 0, 600000000, &out->think_us) &&
	          number(args, "prompt-bytes", 200, 16 << 20, &out->prompt_bytes) &&
	          number(args, "max-tokens", 0, 1 << 24, &out->max_tokens) && number(args, "stall-ms", 0, 600000, &out->stall_ms) &&
	          number(args, "models", 1, 100000, &out->models);
	out->requests = ok ? requests : 0;
	out->dialect = SWARM_CHAT;
	if (ok && dialect && !swarm_dialect_named(str_of(dialect), &out->dialect)) {
		fprintf(stderr, "darkbloom-swarm: --dialect must be chat, responses, completions, messages or mixed\n");
		ok = false;
	}
	if (ok && !out->requests && !out->seconds)
		out->seconds = 5;
	if (ok && !out->key) {
		fprintf(stderr, "darkbloom-swarm: an API key is needed: give --key or set DARKBLOOM_API_KEY\n");
		ok = false;
	}
	return ok;
}

/* One descriptor for each provider: as many as the system lets us have. */
static void raise_limits(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int run(const struct cli_args *args, bool with_fleet, bool with_load)
{
	struct swarm swarm = {0};
	struct swarm_fleet_options fleet = {.ready = on_fleet_ready, .user = &swarm};
	struct error error;
	enum log_level level = LOG_ERROR;
	uint32_t port;
	char url[256];
	if (cli_value(args, "log-level") && !log_level_parse(cli_value(args, "log-level"), &level)) {
		fprintf(stderr, "darkbloom-swarm: --log-level must be debug, info, warn or error\n");
		return CLI_USAGE;
	}
	log_set_level(level);
	raise_limits();
	if (!number(args, "port", 8080, 65535, &port) || (with_fleet && !read_fleet(args, &fleet)) ||
	    (with_load && !read_load(args, port, &swarm.load_options)))
		return CLI_USAGE;
	const char *ca = with_fleet ? cli_value(args, "ca") : NULL;
	if (ca && !(fleet.tls = tls_client_new(ca, &error))) {
		fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
		return CLI_CONFIG;
	}
	snprintf(url, sizeof url, "%s://%s:%u/ws/provider", ca ? "wss" : "ws",
	         cli_value(args, "host") ? cli_value(args, "host") : "127.0.0.1", port);
	fleet.url = url;
	swarm.loop = net_loop_new(&error);
	if (!swarm.loop) {
		fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
		return CLI_FAILED;
	}
	net_on_terminate(swarm.loop, on_terminate, &swarm);
	if (with_fleet) {
		swarm.fleet = swarm_fleet_new(swarm.loop, &fleet, &error);
		if (!swarm.fleet) {
			fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
			return CLI_FAILED;
		}
	} else {
		start_load(&swarm);
	}
	net_loop_run(swarm.loop);
	const struct error *unreached = swarm.load ? swarm_load_unreached(swarm.load) : NULL;
	if (unreached) {
		fprintf(stderr, "darkbloom-swarm: there is no coordinator at %s:%u: %s Start it, or give --host and --port.\n",
		        swarm.load_options.host, port, unreached->text);
		_Exit(CLI_NETWORK); /* connections that are still being tried end with the process */
	}
	print_result(&swarm);
	/* Sessions and connections end with the process. */
	return swarm.failed ? CLI_FAILED : CLI_OK;
}

static int run_both(const struct cli_args *args)
{
	return run(args, true, true);
}

static int run_providers(const struct cli_args *args)
{
	return run(args, true, false);
}

static int run_load(const struct cli_args *args)
{
	return run(args, false, true);
}

static const struct cli_command commands[] = {
    {.name = "run",
     .summary = "Simulated providers and, once they are ready, consumers; then a result as JSON.",
     .details =
         "With one client the reported latency is what the coordinator and the network add: the provider's own turn-around "
         "is taken off.",
     .example = "darkbloom-swarm run --port 8080 --providers 1000 --clients 64 --seconds 10\n"
                "darkbloom-swarm run --port 8080 --stream --chunks 2000 --clients 512 --providers 64",
     .options = run_options,
     .run = run_both},
    {.name = "providers",
     .summary = "Simulated providers only, until they are stopped.",
     .example = "darkbloom-swarm providers --port 8080 --providers 40000 --churn 50 --reconnect-ms 5000\n"
                "darkbloom-swarm providers --port 8080 --faults drop:0.1,garbage:0.05",
     .options = providers_options,
     .run = run_providers},
    {.name = "load",
     .summary = "Simulated consumers only; then a result as JSON.",
     .example = "darkbloom-swarm load --port 8080 --model smollm2-135m --clients 8 --requests 100 --stream",
     .options = load_options,
     .run = run_load},
    {.name = "simulate",
     .arguments = "SCENARIO",
     .summary = "Routing in virtual time: the server's own routing code on a fleet and a workload that a file describes.",
     .details =
         "Runs the same requests under every policy and compares them: time to the first token, gaps between tokens, goodput, "
         "fairness, cold loads, wasted tokens. Nothing is connected and nothing waits: an hour takes seconds. The keys of a "
         "scenario are described in docs/developer/simulator.md.",
     .example = "darkbloom-swarm simulate tests/scenarios/steady.toml --plot plots\n"
                "darkbloom-swarm simulate tests/scenarios/sick.toml --policies chapter,ours --json",
     .options = swarm_simulate_options,
     .run = swarm_simulate},
    {.run = NULL},
};

int main(int argc, char **argv)
{
	static const struct cli_program program = {.name = "darkbloom-swarm",
	                                           .summary = "Simulated providers and consumers for tests and benchmarks.",
	                                           .version = DARKBLOOM_VERSION,
	                                           .commands = commands};
	if (crypto_init())
		return CLI_FAILED;
	return cli_main(&program, argc, argv);
}
