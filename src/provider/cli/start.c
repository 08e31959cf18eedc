#include "provider/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "provider/cli/state.h"
#include "provider/models/models.h"
#include "provider/node/node.h"

#define DRAIN_LIMIT_MS         20000 /* launchd and systemd wait about this long before they kill (provider-node 12) */
#define SECOND_SIGNAL_LIMIT_MS 500
#define STATE_INTERVAL_MS      2500
#define MAX_MODELS             16

const struct cli_option start_options[] = {
    {.name = "foreground", .help = "serve in this terminal until stopped (required: there is no background service yet)"},
    {.name = "coordinator-url", .value = "URL", .help = "the coordinator to join (or DARKBLOOM_COORDINATOR_URL)"},
    {.name = "model", .letter = 'm', .value = "ID", .repeat = true, .help = "serve this model; default: every model on disk"},
    {.name = "models-dir", .value = "DIR", .help = "where the models are (or DARKBLOOM_MODELS_DIR)"},
    {.name = "state-dir", .value = "DIR", .help = "where the signing key and the state are kept (default ~/.darkbloom)"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority for wss://"},
    {.name = "token-file", .value = "FILE", .help = "account token that links this provider to its owner"},
    {.name = "private-only", .help = "serve only requests of the owner's account"},
    {.name = "threads", .value = "N", .help = "threads for each model (default: all cores)"},
    {.name = "max-sequences", .value = "N", .help = "requests answered at once by each model (default 8)"},
    {.name = "context", .value = "TOKENS", .help = "tokens kept for all sequences of a model (default 8192)"},
    {.name = "heartbeat-ms", .value = "MS", .help = "interval of reports to the coordinator (default 5000)"},
    {.name = "scripted-engine",
     .value = "FILE",
     .help = "answer from a script instead of a model, under the id given by --model (tests)"},
    {.name = "log-level", .value = "LEVEL", .help = "debug, info, warn or error (default info)"},
    {.name = NULL},
};

/* The command line, checked. */
struct start {
	const char *coordinator_url, *ca_path, *token_file, *script_path;
	const char *names[MAX_MODELS]; /* of --model */
	size_t name_count;
	int64_t threads, sequences, context, heartbeat_ms;
	bool private_only;
	char models_dir[MODEL_PATH_SIZE], state_dir[1024];
};

struct provider {
	struct start start;
	struct net_loop *loop;
	struct node *node;
	struct node_model models[MAX_MODELS];
	size_t model_count;
	struct platform_signer *signer;
	char *auth_token; /* secret memory, or NULL */
	int64_t started_at_us;
	struct net_timer state_timer;
	bool stopping;
};

/* --- the command line --- */

static bool read_names(struct start *start, const struct cli_args *args)
{
	const char *names[MAX_MODELS + 1];
	size_t count = cli_values(args, "model", names, MAX_MODELS + 1);
	if (count > MAX_MODELS || (start->script_path && count > 1)) {
		fprintf(stderr, "darkbloom start: --model can be given %s\n",
		        start->script_path ? "once with --scripted-engine" : "16 times at most");
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (!names[i][0] || strlen(names[i]) >= NODE_MODEL_SIZE) {
			fprintf(stderr, "darkbloom start: \"%s\" is not a model id\n", names[i]);
			return false;
		}
		for (size_t j = 0; j < i; j++)
			if (strcmp(names[i], names[j]) == 0) {
				fprintf(stderr, "darkbloom start: --model %s is given twice\n", names[i]);
				return false;
			}
		start->names[start->name_count++] = names[i];
	}
	return true;
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
	provider_models_dir(args, start->models_dir, sizeof start->models_dir);
	provider_state_dir(args, start->state_dir, sizeof start->state_dir);
	if (!start->models_dir[0] || !start->state_dir[0]) {
		fprintf(stderr, "darkbloom start: the path of the models or the state folder is too long\n");
		return false;
	}
	return cli_int(args, "threads", 0, 0, 512, &start->threads) &&
	       cli_int(args, "max-sequences", 0, 0, 256, &start->sequences) &&
	       cli_int(args, "context", 0, 0, 1 << 22, &start->context) &&
	       cli_int(args, "heartbeat-ms", 5000, 20, 600000, &start->heartbeat_ms) && read_names(start, args) &&
	       read_coordinator(start, args);
}

/* --- loading --- */

static bool show_load(float fraction, void *user)
{
	progress_show(user, (double)fraction);
	return true;
}

static bool load_model(struct provider *provider, const struct model_entry *entry)
{
	struct error error;
	char label[256];
	struct progress progress;
	snprintf(label, sizeof label, "loading %s", entry->id);
	progress_begin(&progress, label);
	struct engine_llama_options options = {.model_path = entry->weights,
	                                       .threads = (uint32_t)provider->start.threads,
	                                       .max_sequences = (uint32_t)provider->start.sequences,
	                                       .context_tokens = (uint32_t)provider->start.context,
	                                       .on_progress = show_load,
	                                       .user = &progress};
	struct engine *engine = engine_llama_new(&options, &error);
	if (!engine) {
		fprintf(stderr, "\ndarkbloom start: %s could not be loaded: %s\n", entry->id, error.text);
		return false;
	}
	progress_end(&progress);
	struct node_model *model = &provider->models[provider->model_count++];
	struct engine_info info;
	engine_info(engine, &info);
	model->engine = engine;
	model->size_bytes = entry->size_bytes;
	str_copy(str_of(entry->id), model->id, sizeof model->id);
	str_copy(str_of(entry->weight_hash), model->weight_hash, sizeof model->weight_hash);
	str_copy(str_of(info.quantization), model->quantization, sizeof model->quantization);
	str_copy(str_of(info.architecture), model->model_type, sizeof model->model_type);
	return true;
}

static bool load_script(struct provider *provider)
{
	struct error error;
	struct engine_script script;
	struct buf text;
	bool ok = false;
	struct arena *arena = arena_new(0);
	buf_init(&text, 1 << 20);
	if (!arena || platform_read_file(provider->start.script_path, 1 << 19, &text, &error) ||
	    engine_script_parse(buf_str(&text), arena, &script, &error))
		goto out;
	struct node_model *model = &provider->models[0];
	model->engine = engine_scripted_new(&script, &error);
	if (!model->engine)
		goto out;
	provider->model_count = 1;
	str_copy(str_of(provider->start.name_count ? provider->start.names[0] : "scripted"), model->id, sizeof model->id);
	str_copy(STR("scripted"), model->model_type, sizeof model->model_type);
	ok = true;
out:
	if (!ok)
		fprintf(stderr, "darkbloom start: the scripted engine could not be started: %s\n",
		        arena ? error.text : "out of memory");
	buf_free(&text);
	arena_free(arena);
	return ok;
}

static bool load_named(struct provider *provider)
{
	for (size_t i = 0; i < provider->start.name_count; i++) {
		struct error error;
		struct model_entry entry;
		if (models_find(provider->start.models_dir, str_of(provider->start.names[i]), &entry, &error)) {
			fprintf(stderr, "darkbloom start: %s\n", error.text);
			return false;
		}
		if (!load_model(provider, &entry))
			return false;
	}
	return true;
}

static bool load_all(struct provider *provider)
{
	struct error error;
	struct model_entry *entries;
	size_t count;
	if (models_scan(provider->start.models_dir, &entries, &count, &error)) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		return false;
	}
	bool ok = count > 0 && count <= MAX_MODELS;
	if (!count)
		fprintf(stderr, "darkbloom start: there is no model in %s: get one with `darkbloom models pull`\n",
		        provider->start.models_dir);
	else if (!ok)
		fprintf(stderr, "darkbloom start: there are %zu models in %s: choose up to %d with --model\n", count,
		        provider->start.models_dir, MAX_MODELS);
	for (size_t i = 0; ok && i < count; i++)
		ok = load_model(provider, &entries[i]);
	free(entries);
	return ok;
}

static bool load(struct provider *provider)
{
	if (provider->start.script_path)
		return load_script(provider);
	return provider->start.name_count ? load_named(provider) : load_all(provider);
}

/* The account token, without the line end of its file. */
static bool read_token(struct provider *provider)
{
	struct error error;
	struct buf text;
	bool ok = true;
	if (!provider->start.token_file)
		return true;
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
	if (state_write(provider->start.state_dir, &status, provider->start.coordinator_url, provider->models,
	                provider->model_count, provider->started_at_us, &error))
		log_warn("start.state", "why=\"%s\"", error.text);
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

static int serve(struct provider *provider)
{
	struct error error;
	const struct start *start = &provider->start;
	struct node_options options = {.coordinator_url = start->coordinator_url,
	                               .ca_path = start->ca_path,
	                               .auth_token = provider->auth_token,
	                               .private_only = start->private_only,
	                               .heartbeat_ms = (uint32_t)start->heartbeat_ms,
	                               .signer = provider->signer,
	                               .models = provider->models,
	                               .model_count = provider->model_count};
	provider->node = node_new(provider->loop, &options, &error);
	if (!provider->node) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		return CLI_FAILED;
	}
	fprintf(stderr, "darkbloom: serving %zu model%s to %s\n", provider->model_count, provider->model_count == 1 ? "" : "s",
	        start->coordinator_url);
	net_on_terminate(provider->loop, on_terminate, provider);
	net_timer_start(provider->loop, &provider->state_timer, 0, STATE_INTERVAL_MS, on_state_timer);
	net_loop_run(provider->loop);
	net_timer_stop(&provider->state_timer);
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

/* What the command line names is opened before the models are loaded, which can take minutes. */
static bool prepare(struct provider *provider)
{
	struct error error;
	if (!read_token(provider))
		return false;
	provider->signer = platform_signer_open(provider->start.state_dir, &error);
	provider->loop = provider->signer ? net_loop_new(&error) : NULL;
	if (!provider->loop)
		fprintf(stderr, "darkbloom start: %s\n", error.text);
	return provider->loop != NULL;
}

int run_start(const struct cli_args *args)
{
	struct provider provider = {.started_at_us = clock_wall_us()};
	int exit_status = CLI_FAILED;
	if (!read_start(&provider.start, args))
		return CLI_USAGE;
	if (!machine_is_closed()) {
		exit_status = CLI_HARDWARE;
	} else if (!prepare(&provider)) {
		exit_status = CLI_CONFIG;
	} else if (load(&provider)) {
		platform_prevent_sleep();
		exit_status = serve(&provider);
	}
	for (size_t i = 0; i < provider.model_count; i++)
		engine_free(provider.models[i].engine);
	if (provider.loop)
		net_loop_free(provider.loop);
	secret_free(provider.auth_token);
	platform_signer_free(provider.signer);
	return exit_status;
}
