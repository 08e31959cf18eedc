#include "provider/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/json.h"
#include "provider/models/models.h"

#define MODELS_DIR_OPTION                                                                                                      \
	{                                                                                                                          \
		.name = "models-dir", .value = "DIR", .help = "where the models are (or DARKBLOOM_MODELS_DIR)"                         \
	}

const struct cli_option models_list_options[] = {MODELS_DIR_OPTION, {.name = "json", .help = "print JSON"}, {.name = NULL}};
const struct cli_option models_verify_options[] = {MODELS_DIR_OPTION, {.name = NULL}};
const struct cli_option models_pull_options[] = {
    MODELS_DIR_OPTION,
    {.name = "id", .value = "ID", .help = "id for a local GGUF file"},
    {.name = "chat-template", .value = "FILE", .help = "with a local GGUF file: a Jinja template instead of its own"},
    {.name = "draft", .value = "FILE", .help = "with a local GGUF file: a smaller GGUF of the same vocabulary, to guess ahead"},
    {.name = "public-prompts",
     .value = "FILE",
     .help = "with a local GGUF file: a JSON array of system prompts that all tenants may share in the cache"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority for https://"},
    {.name = NULL},
};

static bool show_progress(uint64_t done_bytes, uint64_t total_bytes, void *user)
{
	progress_show(user, total_bytes ? (double)done_bytes / (double)total_bytes : 0);
	return true;
}

static int fail(const char *command, const struct error *error)
{
	fprintf(stderr, "darkbloom models %s: %s\n", command, error->text);
	return CLI_FAILED;
}

/* --- list --- */

static void list_json(const char *dir, const struct model_entry *entries, size_t count)
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, 16 << 20);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_cstr(&w, "models_dir", dir);
	json_key(&w, "models");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(&w);
		json_put_cstr(&w, "id", entries[i].id);
		json_put_cstr(&w, "quantization", entries[i].quantization);
		json_put_i64(&w, "size_bytes", (int64_t)entries[i].size_bytes);
		json_put_cstr(&w, "weight_hash", entries[i].weight_hash);
		json_put_cstr(&w, "weights", entries[i].weights);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	printf("%.*s\n", STR_ARG(buf_str(&text)));
	buf_free(&text);
}

int run_models_list(const struct cli_args *args)
{
	char dir[MODEL_PATH_SIZE];
	struct error error;
	struct model_entry *entries;
	size_t count;
	provider_models_dir(args, dir, sizeof dir);
	if (models_scan(dir, &entries, &count, &error))
		return fail("list", &error);
	if (cli_flag(args, "json")) {
		list_json(dir, entries, count);
	} else if (!count) {
		printf("no models in %s: get one with `darkbloom models pull`\n", dir);
	} else {
		printf("%-40s %-8s %10s  %s\n", "ID", "QUANT", "SIZE", "WEIGHT HASH");
		for (size_t i = 0; i < count; i++)
			printf("%-40s %-8s %7.1f MB  %.16s\n", entries[i].id, entries[i].quantization[0] ? entries[i].quantization : "-",
			       (double)entries[i].size_bytes / 1e6, entries[i].weight_hash);
	}
	free(entries);
	return CLI_OK;
}

/* --- verify --- */

static bool verify(const struct model_entry *entry)
{
	struct progress progress;
	struct error error;
	char label[256];
	snprintf(label, sizeof label, "hashing %s", entry->id);
	progress_prepare(&progress, label);
	if (models_verify(entry, show_progress, &progress, &error)) {
		progress_abandon(&progress);
		fail("verify", &error);
		return false;
	}
	progress_end(&progress);
	printf("%s is whole: %s\n", entry->id, entry->weight_hash);
	return true;
}

int run_models_verify(const struct cli_args *args)
{
	char dir[MODEL_PATH_SIZE];
	struct error error;
	provider_models_dir(args, dir, sizeof dir);
	if (cli_arg(args, 0)) {
		struct model_entry entry;
		if (models_find(dir, str_of(cli_arg(args, 0)), &entry, &error))
			return fail("verify", &error);
		return verify(&entry) ? CLI_OK : CLI_FAILED;
	}
	struct model_entry *entries;
	size_t count, bad = 0;
	if (models_scan(dir, &entries, &count, &error))
		return fail("verify", &error);
	for (size_t i = 0; i < count; i++)
		bad += !verify(&entries[i]);
	if (!count)
		printf("no models in %s\n", dir);
	free(entries);
	return bad ? CLI_FAILED : CLI_OK;
}

/* --- pull --- */

struct download {
	struct net_loop *loop;
	struct progress progress;
	int exit_status;
};

static bool show_download(uint64_t done_bytes, uint64_t total_bytes, void *user)
{
	return show_progress(done_bytes, total_bytes, &((struct download *)user)->progress);
}

static void on_pulled(const struct model_entry *entry, const struct error *error, void *user)
{
	struct download *download = user;
	if (entry) {
		progress_end(&download->progress);
		printf("%s is in %s\n", entry->id, entry->folder);
		download->exit_status = CLI_OK;
	} else {
		progress_abandon(&download->progress);
		fail("pull", error);
		fprintf(stderr, "What was downloaded is kept: the same command goes on from there.\n");
		download->exit_status = error->code == DB_E_NOT_FOUND ? CLI_NETWORK : CLI_FAILED;
	}
	net_loop_stop(download->loop);
}

static int pull_url(const char *url, const char *dir, const char *ca_path)
{
	struct error error;
	struct download download = {.loop = net_loop_new(&error), .exit_status = CLI_FAILED};
	struct http_client *client = download.loop ? http_client_new(download.loop, &error) : NULL;
	struct models_pull_options options = {
	    .dir = dir, .manifest_url = url, .ca_path = ca_path, .progress = show_download, .done = on_pulled, .user = &download};
	if (!client || !models_pull_start(download.loop, client, &options, &error)) {
		fail("pull", &error);
	} else {
		progress_prepare(&download.progress, "downloading");
		net_loop_run(download.loop);
	}
	if (client)
		http_client_free(client);
	if (download.loop)
		net_loop_free(download.loop);
	return download.exit_status;
}

static int add_file(const char *path, const struct models_extras *extras, const char *id, const char *dir)
{
	struct model_entry entry;
	struct progress progress;
	struct error error;
	progress_prepare(&progress, "hashing");
	if (models_add_file(dir, str_of(id), path, extras, show_progress, &progress, &entry, &error)) {
		progress_abandon(&progress);
		return fail("pull", &error);
	}
	progress_end(&progress);
	printf("%s is in %s\n", entry.id, entry.folder);
	return CLI_OK;
}

int run_models_pull(const struct cli_args *args)
{
	char dir[MODEL_PATH_SIZE];
	const char *source = cli_arg(args, 0), *id = cli_value(args, "id");
	provider_models_dir(args, dir, sizeof dir);
	if (!source) {
		fprintf(stderr, "darkbloom models pull: what? give a manifest's URL or a GGUF file (see --help)\n");
		return CLI_USAGE;
	}
	if (str_starts(str_of(source), STR("http://")) || str_starts(str_of(source), STR("https://")))
		return pull_url(source, dir, cli_value(args, "ca"));
	if (!id) {
		fprintf(stderr, "darkbloom models pull: a local file needs an id: add --id ID\n");
		return CLI_USAGE;
	}
	struct models_extras extras = {.chat_template = cli_value(args, "chat-template"),
	                               .draft = cli_value(args, "draft"),
	                               .public_prompts = cli_value(args, "public-prompts")};
	return add_file(source, &extras, id, dir);
}
