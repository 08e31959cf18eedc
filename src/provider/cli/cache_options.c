#include "provider/cli/cache_options.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/config.h"
#include "core/log.h"
#include "provider/platform/platform.h"

#define GIB ((double)(UINT64_C(1) << 30))

struct settings {
	int enabled, ephemeral; /* index into `switches` */
	int secret;             /* enum platform_secret_choice */
	const char *ram_gb, *disk_gb, *dir, *scope, *tpm;
	int64_t ttl_s, min_persist_tokens, max_inflight, stats_s;
};

static const char *const switches[] = {"off", "on", "0", "1", "false", "true", "no", "yes", NULL};
#define IS_ON(index) (((index)&1) == 1)
static const char *const secret_choices[] = {"auto", "secure", "secure_enclave", "tpm", "file", "memory", NULL};

static const struct config_field fields[] = {
    {.name = "cache.enabled",
     .env = "DARKBLOOM_PREFIX_CACHE",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct settings, enabled),
     .fallback = "on",
     .choices = switches,
     .help = "Keep the states of prompts' beginnings, so that conversations go on without being computed anew."},
    {.name = "cache.ram_gb",
     .env = "DARKBLOOM_PREFIX_CACHE_MAX_GB",
     .type = CONFIG_STRING,
     .offset = offsetof(struct settings, ram_gb),
     .help = "Memory for kept states in GiB, fractions allowed; empty is an eighth of the machine's."},
    {.name = "cache.disk_gb",
     .env = "DARKBLOOM_PREFIX_CACHE_DISK_GB",
     .type = CONFIG_STRING,
     .offset = offsetof(struct settings, disk_gb),
     .help =
         "Disk for encrypted states in GiB, of all providers on this machine together; empty is 10 or half of what is free, "
         "`0` keeps nothing on disk."},
    {.name = "cache.dir",
     .env = "DARKBLOOM_PREFIX_CACHE_DIR",
     .type = CONFIG_STRING,
     .offset = offsetof(struct settings, dir),
     .help = "Folder of the encrypted states; empty is `$XDG_CACHE_HOME/darkbloom/kv`, or `~/.cache/darkbloom/kv`."},
    {.name = "cache.ttl_s",
     .env = "DARKBLOOM_PREFIX_CACHE_TTL_SECONDS",
     .type = CONFIG_INT,
     .offset = offsetof(struct settings, ttl_s),
     .fallback = "86400",
     .min = 0,
     .max = 31536000,
     .help = "Seconds after its last use that a state is kept on disk; 0 keeps it until the quota needs its place."},
    {.name = "cache.min_persist_tokens",
     .env = "DARKBLOOM_PREFIX_CACHE_MIN_PERSIST_TOKENS",
     .type = CONFIG_INT,
     .offset = offsetof(struct settings, min_persist_tokens),
     .fallback = "256",
     .min = 0,
     .max = 1 << 22,
     .help = "Shorter prefixes are kept in memory only."},
    {.name = "cache.max_inflight",
     .env = "DARKBLOOM_KV_CAPTURE_MAX_INFLIGHT",
     .type = CONFIG_INT,
     .offset = offsetof(struct settings, max_inflight),
     .fallback = "2",
     .min = 1,
     .max = 64,
     .help = "States that may wait to be written to disk; one more drops the oldest of them."},
    {.name = "cache.scope",
     .env = "DARKBLOOM_PREFIX_CACHE_SCOPE",
     .type = CONFIG_STRING,
     .offset = offsetof(struct settings, scope),
     .help = "One scope for every request, for a machine whose users all trust each other; empty keeps tenants apart."},
    {.name = "cache.secret",
     .env = "DARKBLOOM_PREFIX_CACHE_SECRET",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct settings, secret),
     .fallback = "auto",
     .choices = secret_choices,
     .help =
         "What guards the secret that the files on disk are sealed under. `auto`: the Secure Enclave or the TPM, and a file "
         "of mode 0600 where there is none; `secure`: one of the two, or the provider does not start; `secure_enclave`, "
         "`tpm`, `file`: that one; `memory`: none, files are of no use after a restart."},
    {.name = "cache.tpm",
     .env = "DARKBLOOM_PREFIX_CACHE_TPM",
     .type = CONFIG_STRING,
     .offset = offsetof(struct settings, tpm),
     .help = "The way to the TPM in the words of tpm2-tss; empty is `device:/dev/tpmrm0`."},
    {.name = "cache.allow_ephemeral",
     .env = "DARKBLOOM_PREFIX_CACHE_ALLOW_EPHEMERAL",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct settings, ephemeral),
     .fallback = "off",
     .choices = switches,
     .help = "Use the disk even where this device keeps no secret; its files are then of no use after a restart (tests)."},
    {.name = "cache.stats_interval_s",
     .env = "DARKBLOOM_PREFIX_CACHE_STATS_INTERVAL_SECS",
     .type = CONFIG_INT,
     .offset = offsetof(struct settings, stats_s),
     .fallback = "120",
     .min = 0,
     .max = 86400,
     .help = "Seconds between lines in the log that say how the cache does; 0 for none."},
};
#define FIELD_COUNT (sizeof fields / sizeof *fields)

void cache_options_document(struct buf *out)
{
	config_document(fields, FIELD_COUNT, out);
}

static bool read_gb(const char *text, uint64_t fallback, uint64_t *bytes)
{
	double gb;
	*bytes = fallback;
	if (!text || !text[0])
		return true;
	if (!str_to_double(str_of(text), &gb) || gb < 0 || gb > 1e6)
		return false;
	*bytes = (uint64_t)(gb * GIB);
	return true;
}

static bool find_root(const char *dir, char out[KV_PATH_SIZE])
{
	const char *cache = getenv("XDG_CACHE_HOME");
	if (dir && dir[0])
		return str_copy(str_of(dir), out, KV_PATH_SIZE);
	if (cache && cache[0] == '/') {
		int n = snprintf(out, KV_PATH_SIZE, "%s/darkbloom/kv", cache);
		return n > 0 && n < KV_PATH_SIZE;
	}
	platform_home_path(".cache/darkbloom/kv", out, KV_PATH_SIZE);
	return out[0] != '\0';
}

enum db_err cache_options_load(const char *path, struct arena *arena, struct cache_options *out, struct error *error)
{
	struct settings settings = {0};
	struct platform_hardware hardware;
	uint64_t ram, disk;
	*out = (struct cache_options){.enabled = false};
	enum db_err err = config_load(fields, FIELD_COUNT, &settings, path, arena, error);
	if (err)
		return err;
	platform_hardware(&hardware);
	if (!read_gb(settings.ram_gb, (uint64_t)hardware.memory_gb * (UINT64_C(1) << 30) / 8, &ram))
		return error_set(error, DB_E_INVALID, "cache.ram_gb (DARKBLOOM_PREFIX_CACHE_MAX_GB) must be a number of GiB");
	if (!read_gb(settings.disk_gb, 0, &disk))
		return error_set(error, DB_E_INVALID, "cache.disk_gb (DARKBLOOM_PREFIX_CACHE_DISK_GB) must be a number of GiB");
	if (!find_root(settings.dir, out->root))
		return error_set(error, DB_E_LIMIT, "the path of the cache folder is too long");
	out->enabled = IS_ON(settings.enabled);
	out->disk = disk > 0 || !settings.disk_gb || !settings.disk_gb[0];
	out->ephemeral = IS_ON(settings.ephemeral);
	out->secret = (enum platform_secret_choice)settings.secret;
	out->tpm = settings.tpm && settings.tpm[0] ? settings.tpm : NULL;
	out->scope = settings.scope && settings.scope[0] ? settings.scope : NULL;
	out->cache = (struct kv_cache_options){.ram_bytes = ram,
	                                       .disk_bytes = disk,
	                                       .ttl_us = settings.ttl_s * 1000000,
	                                       .min_persist_tokens = (uint32_t)settings.min_persist_tokens,
	                                       .max_writes = (uint32_t)settings.max_inflight,
	                                       .stats_interval_s = (uint32_t)settings.stats_s};
	return DB_OK;
}

struct platform_secret *cache_options_secret(const struct cache_options *options, const char *state_dir, struct error *error)
{
	struct platform_secret_options wanted = {
	    .state_dir = state_dir, .name = CACHE_SECRET_NAME, .choice = options->secret, .tpm = options->tpm};
	struct error why = {0};
	struct platform_secret *secret = platform_secret_open(&wanted, &why);
	if (!secret)
		error_set(error, why.code, "the prefix cache's secret (cache.secret = \"%s\"): %s", secret_choices[options->secret],
		          why.text);
	return secret;
}

/* Only `auto` and what needs no hardware go on without. */
static bool demands_hardware(const struct cache_options *options)
{
	return options->secret == PLATFORM_SECRET_SECURE || options->secret == PLATFORM_SECRET_SECURE_ENCLAVE ||
	       options->secret == PLATFORM_SECRET_TPM;
}

static void say(const struct platform_secret *secret)
{
	static const char *const origins[] = {"found", "made", "adopted", "renewed"};
	const char *kept = platform_keeper_name(secret->kept);
	if (!platform_keeper_is_secure(secret->kept)) {
		log_info("cache.secret", "kept=%s secure=false why=\"%s\"", kept, secret->why);
		return;
	}
	if (secret->why[0])
		log_warn("cache.secret_lost", "why=\"%s\" files=\"what is on disk is of no use, and is computed anew\"", secret->why);
	log_info("cache.secret", "kept=%s secure=true origin=%s", kept, origins[secret->origin]);
}

static struct platform_secret *find_secret(const struct cache_options *options, const char *state_dir, struct error *error)
{
	struct cache_options ephemeral = *options;
	ephemeral.secret = PLATFORM_SECRET_MEMORY;
	struct platform_secret *secret = cache_options_secret(options, state_dir, error);
	if (!secret && !demands_hardware(options)) {
		log_warn("cache.no_secret", "why=\"%s\" ephemeral=%d", error->text, options->ephemeral);
		if (options->ephemeral)
			secret = cache_options_secret(&ephemeral, state_dir, error);
	} else if (secret) {
		say(secret);
	}
	return secret;
}

enum db_err cache_options_open(const struct cache_options *options, const char *state_dir, struct kv_cache **cache,
                               struct error *error)
{
	struct platform_secret *secret = NULL;
	struct error why = {0};
	*cache = NULL;
	if (!options->enabled)
		return DB_OK;
	struct kv_cache_options open = options->cache;
	if (options->disk) {
		secret = find_secret(options, state_dir, &why);
		if (!secret && demands_hardware(options))
			return error_set(error, DB_E_UNSUPPORTED, "%s", why.text);
	}
	if (secret) {
		open.root = options->root;
		open.secret = secret->bytes;
		open.kept = platform_keeper_name(secret->kept);
	}
	*cache = kv_cache_open(&open, error);
	platform_secret_free(secret);
	return *cache ? DB_OK : error && error->code != DB_E_UNSUPPORTED ? error->code : DB_E_IO;
}
