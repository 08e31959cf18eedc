#include "provider/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/types.h>

#include "core/clock.h"
#include "core/json.h"
#include "provider/cli/state.h"

const struct cli_option status_options[] = {
    {.name = "state-dir", .value = "DIR", .help = "where the provider keeps its state (default ~/.darkbloom)"},
    {.name = "json", .help = "print JSON"},
    {.name = NULL},
};

enum liveness { NOT_RUNNING, RUNNING, STALE };

static enum liveness liveness_of(const struct state *state)
{
	if (state->pid <= 0 || (kill((pid_t)state->pid, 0) != 0 && errno != EPERM))
		return NOT_RUNNING;
	return clock_wall_us() - state->written_at_us > STATE_STALE_US ? STALE : RUNNING;
}

static const char *liveness_text(enum liveness liveness)
{
	static const char *const texts[] = {"not running", "running", "running, but silent for more than 90 s: possibly wedged"};
	return texts[liveness];
}

static void print_json(const struct state *state, enum liveness liveness)
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, 1 << 20);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_cstr(&w, "state", liveness_text(liveness));
	json_put_bool(&w, "running", liveness != NOT_RUNNING);
	json_put_i64(&w, "pid", state->pid);
	json_put_str(&w, "coordinator_url", state->coordinator_url);
	json_put_str(&w, "connection", state->connection);
	json_put_str(&w, "trust_level", state->trust_level);
	json_put_str(&w, "trust_status", state->trust_status);
	json_key(&w, "models");
	json_begin_array(&w);
	for (size_t i = 0; i < state->model_count; i++) {
		const struct state_model *model = &state->models[i];
		json_begin_object(&w);
		json_put_str(&w, "id", model->id);
		json_put_str(&w, "state", model->state);
		json_put_double(&w, "progress", model->progress);
		json_put_i64(&w, "requests", model->uses);
		json_put_i64(&w, "waiting", model->waiting);
		json_put_i64(&w, "tokens_guessed", model->tokens_guessed);
		json_put_i64(&w, "guesses_right", model->guesses_right);
		json_put_str(&w, "failure", model->failure);
		json_put_str(&w, "template_fault", model->template_fault);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_key(&w, "desired_builds");
	json_begin_array(&w);
	for (size_t i = 0; i < state->build_count; i++) {
		const struct state_build *build = &state->builds[i];
		json_begin_object(&w);
		json_put_str(&w, "id", build->id);
		json_put_str(&w, "state", build->state);
		json_put_double(&w, "progress", build->progress);
		json_put_str(&w, "why", build->why);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_key(&w, "queue");
	json_begin_array(&w);
	for (size_t i = 0; i < state->queue_count; i++) {
		const struct state_queued *one = &state->queue[i];
		json_begin_object(&w);
		json_put_str(&w, "model", one->model);
		json_put_str(&w, "request_id", one->request_id);
		json_put_i64(&w, "position", one->position);
		json_put_i64(&w, "waited_ms", one->waited_ms);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_put_i64(&w, "kv_limit_bytes", state->kv_limit_bytes);
	json_put_i64(&w, "kv_reserved_bytes", state->kv_reserved_bytes);
	json_put_i64(&w, "kv_peak_bytes", state->kv_peak_bytes);
	state_write_cache(&w, &state->cache);
	json_put_i64(&w, "requests_active", state->requests_active);
	json_put_i64(&w, "requests_served", state->requests_served);
	json_put_i64(&w, "tokens_generated", state->tokens_generated);
	json_put_str(&w, "last_error", state->last_error);
	json_end_object(&w);
	printf("%.*s\n", STR_ARG(buf_str(&text)));
	buf_free(&text);
}

static const char *trust_advice(const struct state *state)
{
	if (str_is(state->trust_status, "untrusted"))
		return "the coordinator refuses this provider; restart it, and report the reason if it stays";
	if (str_is(state->trust_level, "hardware"))
		return "proven by the hardware";
	if (str_is(state->trust_level, "self_signed"))
		return "signed by this machine's own key; coordinators that ask for hardware trust send no work";
	return "not yet attested";
}

static void print_model(const struct state_model *model, const char *label)
{
	printf("%-12s %.*s, %.*s", label, STR_ARG(model->id), STR_ARG(model->state));
	if (str_is(model->state, "loading"))
		printf(" %.0f %%", model->progress * 100);
	if (model->uses > model->waiting)
		printf(", %lld running", (long long)(model->uses - model->waiting));
	if (model->waiting)
		printf(", %lld waiting, for %.1f s at most so far", (long long)model->waiting, (double)model->longest_wait_ms / 1000);
	if (model->tokens_guessed)
		printf(", %lld of %lld guessed tokens were right", (long long)model->guesses_right, (long long)model->tokens_guessed);
	if (model->failure.len)
		printf(", last load failed: %.*s", STR_ARG(model->failure));
	if (model->template_fault.len)
		printf(", its chat template fails the check: %.*s", STR_ARG(model->template_fault));
	printf("\n");
}

static void print_build(const struct state_build *build, const char *label)
{
	printf("%-12s %.*s, %.*s", label, STR_ARG(build->id), STR_ARG(build->state));
	if (str_is(build->state, "downloading"))
		printf(" %.0f %%", build->progress * 100);
	if (build->why.len)
		printf(": %.*s", STR_ARG(build->why));
	printf("\n");
}

static double gigabytes(int64_t bytes)
{
	return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

static const char *guard_text(struct str secret)
{
	if (str_is(secret, "tpm"))
		return "sealed under a secret that this machine's TPM guards";
	if (str_is(secret, "secure_enclave"))
		return "sealed under a secret that the Secure Enclave guards";
	if (str_is(secret, "memory"))
		return "sealed under a secret that goes with this process";
	return "sealed under a secret in a file: who can read this user's files can read them";
}

static void print_cache(const struct state_cache *cache)
{
	if (!cache->on) {
		printf("prefix cache off\n");
		return;
	}
	double share = cache->tokens_asked ? 100.0 * (double)cache->tokens_saved / (double)cache->tokens_asked : 0;
	printf("prefix cache %lld of %lld prompts found (%lld in memory, %lld on disk), %.0f %% of their tokens saved\n",
	       (long long)(cache->hits_ram + cache->hits_ssd), (long long)cache->lookups, (long long)cache->hits_ram,
	       (long long)cache->hits_ssd, share);
	printf("             %.2f GB in memory, %.2f of %.2f GB on disk\n", gigabytes(cache->ram_bytes),
	       gigabytes(cache->disk_bytes), gigabytes(cache->disk_quota_bytes));
	if (cache->secret.len)
		printf("             files %s\n", guard_text(cache->secret));
}

static void print_text(const struct state *state, enum liveness liveness)
{
	char since[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(state->started_at_us, since);
	printf("provider     %s (pid %lld, since %s)\n", liveness_text(liveness), (long long)state->pid, since);
	printf("coordinator  %.*s, %.*s\n", STR_ARG(state->coordinator_url), STR_ARG(state->connection));
	printf("trust        %.*s: %s\n", STR_ARG(state->trust_level.len ? state->trust_level : STR("none")), trust_advice(state));
	if (state->trust_reason.len)
		printf("             %.*s\n", STR_ARG(state->trust_reason));
	for (size_t i = 0; i < state->model_count; i++)
		print_model(&state->models[i], i ? "" : "models");
	if (!state->model_count)
		printf("models       none\n");
	for (size_t i = 0; i < state->build_count; i++)
		print_build(&state->builds[i], i ? "" : "wanted here");
	printf("contexts     %.2f of %.2f GB reserved, %.2f at most so far\n", gigabytes(state->kv_reserved_bytes),
	       gigabytes(state->kv_limit_bytes), gigabytes(state->kv_peak_bytes));
	print_cache(&state->cache);
	printf("requests     %lld running, %lld served\n", (long long)state->requests_active, (long long)state->requests_served);
	printf("tokens       %lld generated\n", (long long)state->tokens_generated);
	if (state->last_error.len)
		printf("last error   %.*s\n", STR_ARG(state->last_error));
}

int run_status(const struct cli_args *args)
{
	char dir[1024];
	struct error error = {.text = "out of memory"};
	struct state state = {0};
	int exit_status = CLI_OK;
	provider_state_dir(args, dir, sizeof dir);
	struct arena *arena = arena_new(0);
	enum db_err err = arena ? state_read(dir, arena, &state, &error) : DB_E_NOMEM;
	if (err == DB_E_NOT_FOUND) {
		if (cli_flag(args, "json"))
			printf("{\"state\":\"not running\",\"running\":false}\n");
		else
			printf("provider     not running (start it with: darkbloom start --foreground --coordinator-url URL)\n");
	} else if (err) {
		fprintf(stderr, "darkbloom status: %s\n", error.text);
		exit_status = CLI_FAILED;
	} else {
		(cli_flag(args, "json") ? print_json : print_text)(&state, liveness_of(&state));
	}
	arena_free(arena);
	return exit_status;
}
