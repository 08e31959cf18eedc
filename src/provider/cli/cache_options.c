#include "provider/cli/cache_options.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/config.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "provider/platform/platform.h"

#define GIB ((double)(UINT64_C(1) << 30))

struct settings {
	int enabled, ephemeral; /* index into `switches` */
	const char *ram_gb, *disk_gb, *dir, *scope;
	int64_t ttl_s, min_persist_tokens, max_inflight, stats_s;
};

static const char *const switches[] = {"off", "on", "0", "1", "false", "true", "no", "yes", NULL};
#define IS_ON(index) (((index)&1) == 1)

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
	out->scope = settings.scope && settings.scope[0] ? settings.scope : NULL;
	out->cache = (struct kv_cache_options){.ram_bytes = ram,
	                                       .disk_bytes = disk,
	                                       .ttl_us = settings.ttl_s * 1000000,
	                                       .min_persist_tokens = (uint32_t)settings.min_persist_tokens,
	                                       .max_writes = (uint32_t)settings.max_inflight,
	                                       .stats_interval_s = (uint32_t)settings.stats_s};
	return DB_OK;
}

enum db_err cache_options_open(const struct cache_options *options, const char *state_dir, struct kv_cache **cache,
                               struct error *error)
{
	uint8_t secret[PLATFORM_SECRET_BYTES];
	bool sealed = false;
	*cache = NULL;
	if (!options->enabled)
		return DB_OK;
	struct kv_cache_options open = options->cache;
	if (options->disk) {
		struct error why;
		enum db_err err = platform_secret_open(state_dir, CACHE_SECRET_NAME, secret, &sealed, &why);
		if (err && options->ephemeral)
			id_random(secret, sizeof secret);
		if (!err || options->ephemeral) {
			open.root = options->root;
			open.secret = secret;
		}
		if (err)
			log_warn("cache.no_secret", "why=\"%s\" ephemeral=%d", why.text, options->ephemeral);
		else if (!sealed)
			log_info("cache.secret", "kept=file secure=false");
	}
	*cache = kv_cache_open(&open, error);
	secret_wipe(secret, sizeof secret);
	return *cache ? DB_OK : error ? error->code : DB_E_IO;
}
