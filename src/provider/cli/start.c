#include "provider/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "provider/cli/account.h"
#include "provider/cli/cache_options.h"
#include "provider/cli/offer.h"
#include "provider/cli/state.h"
#include "provider/models/models.h"
#include "provider/node/node.h"
#include "wire/region.h"

#define DRAIN_LIMIT_MS         20000 /* launchd and systemd wait about this long before they kill (provider-node 12) */
#define SECOND_SIGNAL_LIMIT_MS 500
#define STATE_INTERVAL_MS      2500
#define MIN_KV_GB              0.001
#define MAX_KV_GB              4096

const struct cli_option start_options[] = {
    {.name = "foreground", .help = "serve in this terminal until stopped (required: there is no background service yet)"},
    {.name = "coordinator-url", .value = "URL", .help = "the coordinator to join (or DARKBLOOM_COORDINATOR_URL)"},
    {.name = "model", .letter = 'm', .value = "ID", .repeat = true, .help = "serve this model; default: every model on disk"},
    {.name = "models-dir", .value = "DIR", .help = "where the models are (or DARKBLOOM_MODELS_DIR)"},
    {.name = "models-from",
     .value = "URL",
     .help = "let the coordinator have builds downloaded from below this address; without it nothing is (or "
             "DARKBLOOM_MODELS_FROM)"},
    {.name = "keep-free-gb",
     .value = "GB",
     .help = "disk that such downloads leave free (default: 5, or a twentieth if that is more)"},
    {.name = "state-dir", .value = "DIR", .help = "where the signing key and the state are kept (default ~/.darkbloom)"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority for wss://"},
    {.name = "token-file", .value = "FILE", .help = "account token of the owner (default: the one of darkbloom login)"},
    {.name = "private-only", .help = "serve only requests of the owner's account"},
    {.name = "region",
     .value = "REGION",
     .help = "where this machine stands: DE, US-CA. Consumers may ask for regions; without it such requests pass it by"},
    {.name = "threads", .value = "N", .help = "threads for each model (default: all cores)"},
    {.name = "max-loaded", .value = "N", .help = "models in memory at once; others are loaded when asked for (default 3)"},
    {.name = "pin", .value = "ID", .repeat = true, .help = "load this model at start and never unload it"},
    {.name = "on-demand", .help = "load a model only when somebody asks for it"},
    {.name = "idle-timeout", .value = "MIN", .help = "unload a model nobody asked for so long; 0 = never (default 60)"},
    {.name = "hang-timeout",
     .value = "S",
     .help = "load a model anew that has work and gives nothing for so many seconds (default 120)"},
    {.name = "memory-reserve-gb", .value = "GB", .help = "memory kept for everything else on this machine (default: up to 4)"},
    {.name = "kv-memory-gb",
     .value = "GB",
     .help = "memory for the contexts of all models together (default: what weights leave)"},
    {.name = "max-sequences", .value = "N", .help = "requests answered at once by each model (default 8)"},
    {.name = "config", .value = "FILE", .help = "TOML file with a [cache] section"},
    {.name = "context", .value = "TOKENS", .help = "tokens kept for all sequences of a model (default 8192)"},
    {.name = "embeddings", .help = "offer embeddings with every model too, not only with models made for them"},
    {.name = "no-speculation", .help = "never run tokens that are only guessed, not even where it was measured to be faster"},
    {.name = "heartbeat-ms", .value = "MS", .help = "interval of reports to the coordinator (default 5000)"},
    {.name = "scripted-engine",
     .value = "FILE",
     .help = "answer from a script instead of models, under the ids given by --model (tests)"},
    {.name = "log-level", .value = "LEVEL", .help = "debug, info, warn or error (default info)"},
    {.name = NULL},
};

/* The command line, checked. */
struct start {
	const char *coordinator_url, *ca_path, *token_file, *script_path, *models_from;
	const char *names[RESIDENCY_MAX_MODELS], *pins[RESIDENCY_MAX_MODELS]; /* of --model, of --pin */
	size_t name_count, pin_count;
	int64_t threads, sequences, context, heartbeat_ms, max_loaded, idle_minutes, hang_s, reserve_gb, keep_free_gb;
	double kv_gb;
	char region[REGION_SIZE]; /* empty = not said */
	bool private_only, on_demand, embeddings, no_speculation;
	char models_dir[MODEL_PATH_SIZE], state_dir[1024];
};

struct provider {
	struct start start;
	struct net_loop *loop;
	struct node *node;
	struct offer_options offering;
	struct offer *offer;
	struct builds_options builds;
	struct platform_signer *signer;
	struct arena *arena; /* of the settings */
	struct cache_options cache_options;
	struct kv_cache *cache; /* NULL: off */
	char *auth_token;       /* secret memory, or NULL */
	int64_t started_at_us;
	struct net_timer state_timer;
	bool stopping;
};

/* --- the command line --- */

/* The model ids that an option was given, each once. */
static bool read_ids(const struct cli_args *args, const char *option, const char *out[RESIDENCY_MAX_MODELS], size_t *count)
{
	const char *given[RESIDENCY_MAX_MODELS + 1];
	size_t given_count = cli_values(args, option, given, RESIDENCY_MAX_MODELS + 1);
	if (given_count > RESIDENCY_MAX_MODELS) {
		fprintf(stderr, "darkbloom start: --%s can be given %d times at most\n", option, RESIDENCY_MAX_MODELS);
		return false;
	}
	for (size_t i = 0; i < given_count; i++) {
		if (!given[i][0] || strlen(given[i]) >= RESIDENCY_MODEL_SIZE) {
			fprintf(stderr, "darkbloom start: \"%s\" is not a model id\n", given[i]);
			return false;
		}
		for (size_t j = 0; j < i; j++)
			if (strcmp(given[i], given[j]) == 0) {
				fprintf(stderr, "darkbloom start: --%s %s is given twice\n", option, given[i]);
				return false;
			}
		out[(*count)++] = given[i];
	}
	return true;
}

static bool read_gb(const struct cli_args *args, const char *option, double *out)
{
	const char *text = cli_value(args, option);
	*out = 0;
	if (!text || (str_to_double(str_of(text), out) && *out >= MIN_KV_GB && *out <= MAX_KV_GB))
		return true;
	fprintf(stderr, "darkbloom start: --%s takes a number of GB from %g to %d\n", option, MIN_KV_GB, MAX_KV_GB);
	return false;
}

static bool read_coordinator(struct start *start, const struct cli_args *args)
{
	char url[512];
	struct error error = {0};
	start->coordinator_url = cli_value(args, "coordinator-url");
	if (!start->coordinator_url)
		start->coordinator_url = getenv("DARKBLOOM_COORDINATOR_URL");
	if (start->coordinator_url && !node_websocket_url(start->coordinator_url, url, sizeof url, &error))
		return true;
	fprintf(stderr, "darkbloom start: %s\n",
	        start->coordinator_url ? error.text : "which coordinator? give --coordinator-url URL");
	return false;
}

static bool read_start(struct start *start, const struct cli_args *args)
{
	enum log_level level;
	const char *level_name = cli_value(args, "log-level");
	if (level_name && !log_level_parse(level_name, &level)) {
		fprintf(stderr, "darkbloom start: \"%s\" is not a log level: use debug, info, warn or error\n", level_name);
		return false;
	}
	if (level_name)
		log_set_level(level);
	if (!cli_flag(args, "foreground")) {
		fprintf(stderr, "darkbloom start: add --foreground; running as a background service is not part of this version\n");
		return false;
	}
	start->ca_path = cli_value(args, "ca");
	start->token_file = cli_value(args, "token-file");
	start->script_path = cli_value(args, "scripted-engine");
	start->private_only = cli_flag(args, "private-only");
	if (cli_value(args, "region") && region_read(str_of(cli_value(args, "region")), start->region)) {
		fprintf(stderr, "darkbloom start: --region must be a country or a part of one as ISO 3166 names it: DE or US-CA\n");
		return false;
	}
	start->models_from = cli_value(args, "models-from");
	if (!start->models_from)
		start->models_from = getenv("DARKBLOOM_MODELS_FROM");
	start->on_demand = cli_flag(args, "on-demand");
	start->embeddings = cli_flag(args, "embeddings");
	start->no_speculation = cli_flag(args, "no-speculation");
	provider_models_dir(args, start->models_dir, sizeof start->models_dir);
	provider_state_dir(args, start->state_dir, sizeof start->state_dir);
	if (!start->models_dir[0] || !start->state_dir[0]) {
		fprintf(stderr, "darkbloom start: the path of the models or the state folder is too long\n");
		return false;
	}
	return cli_int(args, "threads", 0, 0, 512, &start->threads) &&
	       cli_int(args, "max-sequences", 0, 0, 256, &start->sequences) &&
	       cli_int(args, "context", 0, 0, 1 << 22, &start->context) &&
	       cli_int(args, "heartbeat-ms", 5000, 20, 600000, &start->heartbeat_ms) &&
	       cli_int(args, "max-loaded", 0, 1, RESIDENCY_MAX_MODELS, &start->max_loaded) &&
	       cli_int(args, "idle-timeout", 60, 0, 525600, &start->idle_minutes) &&
	       cli_int(args, "hang-timeout", 120, 1, 86400, &start->hang_s) &&
	       cli_int(args, "memory-reserve-gb", -1, 0, 4096, &start->reserve_gb) &&
	       cli_int(args, "keep-free-gb", -1, 0, 1 << 20, &start->keep_free_gb) &&
	       read_gb(args, "kv-memory-gb", &start->kv_gb) && read_ids(args, "model", start->names, &start->name_count) &&
	       read_ids(args, "pin", start->pins, &start->pin_count) && read_coordinator(start, args);
}

/* The token of `darkbloom login`, when it is from this coordinator: no other must see it. */
static bool read_login(struct provider *provider, const struct cli_args *args)
{
	char path[ACCOUNT_PATH_SIZE], home[ACCOUNT_URL_SIZE], here[ACCOUNT_URL_SIZE];
	struct error error;
	account_token_path(args, path, sizeof path);
	enum db_err err = account_token_read(path, &provider->auth_token, &error);
	if (err == DB_E_NOT_FOUND)
		return true;
	if (err) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		return false;
	}
	if (account_base_url(provider->start.coordinator_url, here, NULL) || !account_token_home(path, home) ||
	    strcmp(home, here) != 0) {
		fprintf(stderr, "darkbloom start: you are logged in to another coordinator: this provider earns for no account\n");
		secret_free(provider->auth_token);
		provider->auth_token = NULL;
	}
	return true;
}

/* The account token, without the line end of its file. */
static bool read_token(struct provider *provider, const struct cli_args *args)
{
	struct error error;
	struct buf text;
	bool ok = true;
	if (!provider->start.token_file)
		return read_login(provider, args);
	buf_init(&text, 64 << 10);
	enum db_err err = platform_read_file(provider->start.token_file, 4096, &text, &error);
	struct str token = str_trim(buf_str(&text));
	provider->auth_token = err ? NULL : secret_alloc(token.len + 1);
	if (err || !token.len || !provider->auth_token || memchr(token.at, '\0', token.len)) {
		fprintf(stderr, "darkbloom start: %s\n", err ? error.text : "the token file does not hold a token");
		ok = false;
	} else {
		str_copy(token, provider->auth_token, token.len + 1);
	}
	buf_free(&text);
	return ok;
}

/* --- running --- */

static void write_state(struct provider *provider)
{
	struct error error;
	struct node_status status;
	node_status(provider->node, &status);
	struct build_view builds[BUILDS_MAX];
	struct node_queued queued[NODE_QUEUE_MAX];
	struct state_queue queue = {queued, node_queue(provider->node, queued, NODE_QUEUE_MAX)};
	struct state_builds wanted = {builds, node_builds(provider->node, builds, BUILDS_MAX)};
	if (state_write(provider->start.state_dir, &status, provider->start.coordinator_url, offer_residency(provider->offer),
	                &wanted, &queue, offer_budget(provider->offer), provider->cache, provider->started_at_us, &error))
		log_warn("start.state", "why=\"%s\"", error.text);
}

static void on_models_changed(void *user)
{
	struct provider *provider = user;
	node_models_changed(provider->node);
	write_state(provider);
}

static void on_state_timer(struct net_timer *timer)
{
	write_state(LIST_OF(timer, struct provider, state_timer));
}

static void on_drained(void *arg)
{
	net_loop_stop(((struct provider *)arg)->loop);
}

static void on_terminate(int signal, void *arg)
{
	struct provider *provider = arg;
	(void)signal;
	if (!provider->stopping)
		fprintf(stderr, "darkbloom: finishing the running answers (again to cancel them)\n");
	node_drain(provider->node, provider->stopping ? SECOND_SIGNAL_LIMIT_MS : DRAIN_LIMIT_MS, on_drained, provider);
	provider->stopping = true;
}

/* 5 GB, or a twentieth of the disk if that is more (registry 4). */
static uint64_t usual_free_bytes(const char *dir)
{
	struct statvfs disk;
	uint64_t least = 5ull << 30, share = statvfs(dir, &disk) == 0 ? (uint64_t)disk.f_blocks * disk.f_frsize / 20 : 0;
	return share > least ? share : least;
}

static void prepare_builds(struct provider *provider)
{
	const struct start *start = &provider->start;
	provider->builds = (struct builds_options){
	    .source = start->models_from && start->models_from[0] ? start->models_from : NULL,
	    .models_dir = start->models_dir,
	    .ca_path = start->ca_path,
	    .keep_free_bytes = start->keep_free_gb < 0 ? usual_free_bytes(start->models_dir) : (uint64_t)start->keep_free_gb << 30,
	    .add = offer_add,
	    .context = provider->offer};
}

static int serve(struct provider *provider)
{
	struct error error;
	const struct start *start = &provider->start;
	struct node_options options = {.coordinator_url = start->coordinator_url,
	                               .ca_path = start->ca_path,
	                               .auth_token = provider->auth_token,
	                               .private_only = start->private_only,
	                               .region = start->region[0] ? start->region : NULL,
	                               .heartbeat_ms = (uint32_t)start->heartbeat_ms,
	                               .cache_scope = provider->cache_options.scope,
	                               .signer = provider->signer,
	                               .builds = &provider->builds,
	                               .residency = offer_residency(provider->offer)};
	prepare_builds(provider);
	provider->node = node_new(provider->loop, &options, &error);
	if (!provider->node) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		return CLI_FAILED;
	}
	size_t models = residency_count(options.residency);
	fprintf(stderr, "darkbloom: serving %zu model%s to %s\n", models, models == 1 ? "" : "s", start->coordinator_url);
	residency_on_change(options.residency, on_models_changed, provider);
	net_on_terminate(provider->loop, on_terminate, provider);
	net_timer_start(provider->loop, &provider->state_timer, 0, STATE_INTERVAL_MS, on_state_timer);
	net_loop_run(provider->loop);
	net_timer_stop(&provider->state_timer);
	residency_on_change(options.residency, NULL, NULL);
	state_remove(start->state_dir);
	node_free(provider->node);
	return CLI_OK;
}

/* Without System Integrity Protection root could read this process, and a provider makes no promise it cannot keep. */
static bool machine_is_closed(void)
{
	struct platform_posture posture;
	platform_posture(&posture);
	if (!str_is(STR("macos"), posture.platform) || posture.sip_enabled)
		return true;
	fprintf(stderr,
	        "darkbloom start: System Integrity Protection is off or weakened: turn it on in Recovery (csrutil enable)\n");
	return false;
}

static bool open_cache(struct provider *provider, const char *config)
{
	struct error error = {.text = "out of memory"};
	provider->arena = arena_new(0);
	if (!provider->arena || cache_options_load(config, provider->arena, &provider->cache_options, &error)) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		return false;
	}
	if (provider->start.script_path)
		return true;
	enum db_err err = cache_options_open(&provider->cache_options, provider->start.state_dir, &provider->cache, &error);
	if (err == DB_E_UNSUPPORTED)
		fprintf(stderr, "darkbloom start: %s\n", error.text);
	else if (err) /* without a cache everything works, only slower */
		log_warn("cache.off", "why=\"%s\"", error.text);
	return err != DB_E_UNSUPPORTED;
}

/* What the command line names is opened before the models are loaded, which can take minutes. */
static bool prepare(struct provider *provider, const struct cli_args *args)
{
	struct error error;
	if (!read_token(provider, args) || !open_cache(provider, cli_value(args, "config")))
		return false;
	provider->signer = platform_signer_open(provider->start.state_dir, &error); /* makes the folder too */
	if (provider->signer && !state_lock(provider->start.state_dir, &error))
		provider->loop = net_loop_new(&error);
	if (!provider->loop)
		fprintf(stderr, "darkbloom start: %s\n", error.text);
	return provider->loop != NULL;
}

static bool load(struct provider *provider)
{
	const struct start *start = &provider->start;
	provider->offering = (struct offer_options){.models_dir = start->models_dir,
	                                            .script_path = start->script_path,
	                                            .names = start->names,
	                                            .name_count = start->name_count,
	                                            .pins = start->pins,
	                                            .pin_count = start->pin_count,
	                                            .threads = (uint32_t)start->threads,
	                                            .sequences = (uint32_t)start->sequences,
	                                            .context = (uint32_t)start->context,
	                                            .max_loaded = (uint32_t)start->max_loaded,
	                                            .idle_unload_ms = (uint64_t)start->idle_minutes * 60000,
	                                            .hang_ms = (uint32_t)start->hang_s * 1000,
	                                            .reserve_gb = (double)start->reserve_gb,
	                                            .kv_gb = start->kv_gb,
	                                            .cache = provider->cache,
	                                            .embeddings = start->embeddings,
	                                            .no_speculation = start->no_speculation,
	                                            .on_demand = start->on_demand};
	provider->offer = offer_open(provider->loop, &provider->offering);
	return provider->offer != NULL;
}

int run_start(const struct cli_args *args)
{
	struct provider provider = {.started_at_us = clock_wall_us()};
	int exit_status = CLI_FAILED;
	if (!read_start(&provider.start, args))
		return CLI_USAGE;
	if (!machine_is_closed()) {
		exit_status = CLI_HARDWARE;
	} else if (!prepare(&provider, args)) {
		exit_status = CLI_CONFIG;
	} else if (load(&provider)) {
		platform_prevent_sleep();
		exit_status = serve(&provider);
	}
	offer_close(provider.offer);
	if (provider.loop)
		net_loop_free(provider.loop);
	offer_free(provider.offer);
	kv_cache_close(provider.cache);
	arena_free(provider.arena);
	secret_free(provider.auth_token);
	platform_signer_free(provider.signer);
	return exit_status;
}
