#include "provider/cli/cli.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/json.h"
#include "provider/cli/cache_options.h"
#include "provider/kvcache/kv_disk.h"
#include "provider/platform/platform.h"

const struct cli_option cache_status_options[] = {
    {.name = "config", .value = "FILE", .help = "TOML file with a [cache] section"},
    {.name = "state-dir", .value = "DIR", .help = "where the device's secret is kept (default ~/.darkbloom)"},
    {.name = "json", .help = "print JSON"},
    {.name = NULL},
};
const struct cli_option cache_erase_options[] = {
    {.name = "config", .value = "FILE", .help = "TOML file with a [cache] section"},
    {.name = "state-dir", .value = "DIR", .help = "where the device's secret is kept (default ~/.darkbloom)"},
    {.name = "tenant",
     .value = "TENANT",
     .help = "only what this tenant left: the cache_tenant of its requests, or its prompt_cache_key"},
    {.name = NULL},
};

const struct cli_option cache_settings_options[] = {{.name = NULL}};

int run_cache_settings(const struct cli_args *args)
{
	struct buf text;
	(void)args;
	buf_init(&text, 1 << 16);
	cache_options_document(&text);
	printf("%.*s", STR_ARG(buf_str(&text)));
	buf_free(&text);
	return CLI_OK;
}

static bool load(const struct cli_args *args, const char *command, struct arena *arena, struct cache_options *out)
{
	struct error error = {.text = "out of memory"};
	if (arena && !cache_options_load(cli_value(args, "config"), arena, out, &error))
		return true;
	fprintf(stderr, "darkbloom cache %s: %s\n", command, error.text);
	return false;
}

static void print_json(const struct cache_options *options, const struct kv_disk_usage *slots, size_t count)
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, 1 << 16);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_bool(&w, "enabled", options->enabled);
	json_put_bool(&w, "disk", options->enabled && options->disk);
	json_put_cstr(&w, "folder", options->root);
	json_key(&w, "slots");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(&w);
		json_put_i64(&w, "files", (int64_t)slots[i].files);
		json_put_i64(&w, "bytes", (int64_t)slots[i].bytes);
		json_put_bool(&w, "in_use", slots[i].in_use);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	printf("%.*s\n", STR_ARG(buf_str(&text)));
	buf_free(&text);
}

static void print_text(const struct cache_options *options, const struct kv_disk_usage *slots, size_t count)
{
	printf("prefix cache %s\n", !options->enabled ? "off" : options->disk ? "on, in memory and on disk" : "on, in memory only");
	printf("memory       %.1f GiB at most\n", (double)options->cache.ram_bytes / (double)(UINT64_C(1) << 30));
	printf("folder       %s\n", options->root);
	for (size_t i = 0; i < count; i++)
		printf("             %llu files, %.1f MiB%s\n", (unsigned long long)slots[i].files, (double)slots[i].bytes / (1 << 20),
		       slots[i].in_use ? ", a provider uses them" : "");
	if (!count)
		printf("             empty\n");
}

int run_cache_status(const struct cli_args *args)
{
	struct cache_options options;
	struct kv_disk_usage slots[KV_DISK_SLOTS];
	struct arena *arena = arena_new(0);
	int exit_status = CLI_CONFIG;
	if (load(args, "status", arena, &options)) {
		size_t count = kv_disk_usage(options.root, slots);
		(cli_flag(args, "json") ? print_json : print_text)(&options, slots, count);
		exit_status = CLI_OK;
	}
	arena_free(arena);
	return exit_status;
}

static bool tag_of(const struct cli_args *args, const struct cache_options *options, const char *tenant, struct kv_tag *tag)
{
	char state_dir[1024];
	struct error error;
	if (options->secret == PLATFORM_SECRET_MEMORY) {
		fprintf(stderr, "darkbloom cache erase: only the running provider knows its secret (cache.secret = \"memory\"): erase "
		                "everything, without --tenant\n");
		return false;
	}
	provider_state_dir(args, state_dir, sizeof state_dir);
	struct platform_secret *secret = cache_options_secret(options, state_dir, &error);
	if (!secret) {
		fprintf(stderr, "darkbloom cache erase: %s\n", error.text);
		return false;
	}
	struct kv_keys *keys = kv_keys_new(secret->bytes);
	platform_secret_free(secret);
	if (keys)
		kv_keys_tag(keys, str_of(tenant), tag);
	kv_keys_free(keys);
	return keys != NULL;
}

int run_cache_erase(const struct cli_args *args)
{
	struct cache_options options;
	struct kv_tag tag = KV_EVERYBODY;
	const char *tenant = cli_value(args, "tenant");
	struct arena *arena = arena_new(0);
	int exit_status = CLI_CONFIG;
	if (tenant && !tenant[0]) {
		fprintf(stderr, "darkbloom cache erase: --tenant needs a name\n");
		exit_status = CLI_USAGE;
	} else if (load(args, "erase", arena, &options) && (!tenant || tag_of(args, &options, tenant, &tag))) {
		kv_disk_erase_root(options.root, &tag);
		printf("erased; a running provider forgets what it holds in memory within a second or two\n");
		exit_status = CLI_OK;
	}
	arena_free(arena);
	return exit_status;
}
