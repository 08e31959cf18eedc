#include "provider/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/log.h"
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

struct provider {
	struct net_loop *loop;
	struct node *node;
	struct node_model *models;
	size_t model_count;
	struct platform_signer *signer;
	const char *coordinator_url;
	char state_dir[1024];
	int64_t started_at_us;
	struct net_timer state_timer;
	bool stopping;
};

/* --- loading --- */

static bool show_load(float fraction, void *user)
{
	progress_show(user, (double)fraction);
	return true;
}

static bool load_model(struct provider *provider, const struct model_entry *entry, const struct cli_args *args)
{
	struct error error;
	int64_t threads, sequences, context;
	if (!cli_int(args, "threads", 0, 0, 512, &threads) || !cli_int(args, "max-sequences", 0, 0, 256, &sequences) ||
	    !cli_int(args, "context", 0, 0, 1 << 22, &context))
		return false;
	char label[256];
	struct progress progress;
	snprintf(label, sizeof label, "loading %s", entry->id);
	progress_begin(&progress, label);
	struct engine_llama_options options = {.model_path = entry->weights,
	                                       .threads = (uint32_t)threads,
	                                       .max_sequences = (uint32_t)sequences,
	                                       .context_tokens = (uint32_t)context,
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

static bool load_script(struct provider *provider, const char *path, const char *id)
{
	struct error error;
	struct engine_script script;
	struct buf text;
	bool ok = false;
	struct arena *arena = arena_new(0);
	buf_init(&text, 1 << 20);
	if (platform_read_file(path, 1 << 19, &text, &error) || engine_script_parse(buf_str(&text), arena, &script, &error))
		goto out;
	struct node_model *model = &provider->models[provider->model_count];
	model->engine = engine_scripted_new(&script, &error);
	if (!model->engine)
		goto out;
	provider->model_count++;
	str_copy(str_of(id ? id : "scripted"), model->id, sizeof model->id);
	str_copy(STR("scripted"), model->model_type, sizeof model->model_type);
	ok = true;
out:
	if (!ok)
		fprintf(stderr, "darkbloom start: the scripted engine could not be started: %s\n", error.text);
	buf_free(&text);
	arena_free(arena);
	return ok;
}

static bool load_named(struct provider *provider, const struct cli_args *args, const char *dir)
{
	const char *wanted[MAX_MODELS];
	size_t count = cli_values(args, "model", wanted, MAX_MODELS);
	for (size_t i = 0; i < count; i++) {
		struct error error;
		struct model_entry entry;
		if (models_find(dir, str_of(wanted[i]), &entry, &error)) {
			fprintf(stderr, "darkbloom start: %s\n", error.text);
			return false;
		}
		if (!load_model(provider, &entry, args))
			return false;
	}
	return true;
}

static bool load_all(struct provider *provider, const struct cli_args *args, const char *dir)
{
	struct error error;
	struct model_entry *entries;
	size_t count;
	if (models_scan(dir, &entries, &count, &error)) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		return false;
	}
	bool ok = true;
	for (size_t i = 0; ok && i < count && i < MAX_MODELS; i++)
		ok = load_model(provider, &entries[i], args);
	free(entries);
	if (ok && !provider->model_count) {
		fprintf(stderr, "darkbloom start: there is no model in %s: get one with `darkbloom models pull`\n", dir);
		ok = false;
	}
	return ok;
}

static bool load(struct provider *provider, const struct cli_args *args)
{
	char dir[MODEL_PATH_SIZE];
	provider->models = calloc(MAX_MODELS, sizeof *provider->models);
	if (!provider->models)
		return false;
	provider_models_dir(args, dir, sizeof dir);
	const char *script = cli_value(args, "scripted-engine");
	if (script)
		return load_script(provider, script, cli_value(args, "model"));
	return cli_value(args, "model") ? load_named(provider, args, dir) : load_all(provider, args, dir);
}

/* --- running --- */

static void write_state(struct provider *provider)
{
	struct error error;
	struct node_status status;
	node_status(provider->node, &status);
	if (state_write(provider->state_dir, &status, provider->coordinator_url, provider->models, provider->model_count,
	                provider->started_at_us, &error))
		log_warn("start.state", "why=\"%s\"", error.text);
}

static void on_state_timer(struct net_timer *timer)
{
	write_state((struct provider *)(void *)((char *)timer - offsetof(struct provider, state_timer)));
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

static int serve(struct provider *provider, const struct cli_args *args)
{
	struct error error;
	int64_t heartbeat_ms;
	int exit_status = CLI_FAILED;
	struct buf token;
	buf_init(&token, 64 << 10);
	const char *token_file = cli_value(args, "token-file");
	if (!cli_int(args, "heartbeat-ms", 5000, 20, 600000, &heartbeat_ms))
		return CLI_USAGE;
	if (token_file && (platform_read_file(token_file, 4096, &token, &error) || buf_append_byte(&token, '\0'))) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		goto out;
	}
	if (token_file)
		for (size_t i = 0; i < token.len; i++)
			if (token.at[i] == '\n' || token.at[i] == '\r')
				token.at[i] = '\0';
	struct node_options options = {.coordinator_url = provider->coordinator_url,
	                               .ca_path = cli_value(args, "ca"),
	                               .auth_token = token_file ? token.at : NULL,
	                               .private_only = cli_flag(args, "private-only"),
	                               .heartbeat_ms = (uint32_t)heartbeat_ms,
	                               .signer = provider->signer,
	                               .models = provider->models,
	                               .model_count = provider->model_count};
	provider->node = node_new(provider->loop, &options, &error);
	if (!provider->node) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		goto out;
	}
	fprintf(stderr, "darkbloom: serving %zu model%s to %s\n", provider->model_count, provider->model_count == 1 ? "" : "s",
	        provider->coordinator_url);
	net_on_terminate(provider->loop, on_terminate, provider);
	net_timer_start(provider->loop, &provider->state_timer, 0, STATE_INTERVAL_MS, on_state_timer);
	net_loop_run(provider->loop);
	net_timer_stop(&provider->state_timer);
	state_remove(provider->state_dir);
	node_free(provider->node);
	exit_status = CLI_OK;
out:
	buf_free(&token);
	return exit_status;
}

int run_start(const struct cli_args *args)
{
	struct provider provider = {.started_at_us = clock_wall_us()};
	struct error error = {0};
	enum log_level level;
	int exit_status = CLI_FAILED;
	const char *level_name = cli_value(args, "log-level");
	if (level_name && !log_level_parse(level_name, &level)) {
		fprintf(stderr, "darkbloom start: \"%s\" is not a log level: use debug, info, warn or error\n", level_name);
		return CLI_USAGE;
	}
	if (level_name)
		log_set_level(level);
	if (!cli_flag(args, "foreground")) {
		fprintf(stderr, "darkbloom start: add --foreground; running as a background service is not part of this version\n");
		return CLI_USAGE;
	}
	provider.coordinator_url = cli_value(args, "coordinator-url");
	if (!provider.coordinator_url)
		provider.coordinator_url = getenv("DARKBLOOM_COORDINATOR_URL");
	char url[512];
	if (!provider.coordinator_url || node_websocket_url(provider.coordinator_url, url, sizeof url, &error)) {
		fprintf(stderr, "darkbloom start: %s\n",
		        provider.coordinator_url ? error.text : "which coordinator? give --coordinator-url URL");
		return CLI_USAGE;
	}
	provider_state_dir(args, provider.state_dir, sizeof provider.state_dir);
	provider.signer = platform_signer_open(provider.state_dir, &error);
	provider.loop = provider.signer ? net_loop_new(&error) : NULL;
	if (!provider.loop) {
		fprintf(stderr, "darkbloom start: %s\n", error.text);
		goto out;
	}
	if (load(&provider, args)) {
		platform_prevent_sleep();
		exit_status = serve(&provider, args);
	}
out:
	for (size_t i = 0; i < provider.model_count; i++)
		engine_free(provider.models[i].engine);
	if (provider.loop)
		net_loop_free(provider.loop);
	free(provider.models);
	platform_signer_free(provider.signer);
	return exit_status;
}
