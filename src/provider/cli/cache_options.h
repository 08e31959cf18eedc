/* The prefix cache's settings: a TOML file's [cache] section and the environment (inference 10). Thread: start-up. */
#ifndef PROVIDER_CACHE_OPTIONS_H
#define PROVIDER_CACHE_OPTIONS_H

#include "core/arena.h"
#include "provider/kvcache/kv_cache.h"
#include "provider/kvcache/kv_folder.h"
#include "provider/platform/platform.h"

#define CACHE_SECRET_NAME "kv_secret"

struct cache_options {
	bool enabled, disk, ephemeral;
	enum platform_secret_choice secret;
	const char *tpm; /* the way to the TPM; NULL = the kernel's; lives in the arena */
	char root[KV_PATH_SIZE];
	const char *scope; /* instead of every request's own; NULL = none; lives in the arena */
	struct kv_cache_options cache;
};

/* `path` may be NULL. DB_E_INVALID with a sentence that names the setting. */
enum db_err cache_options_load(const char *path, struct arena *arena, struct cache_options *out, struct error *error);
/* The reference in Markdown, for the documents. */
void cache_options_document(struct buf *out);

/* The secret that the settings ask for. NULL with a sentence that names the setting. */
struct platform_secret *cache_options_secret(const struct cache_options *options, const char *state_dir, struct error *error);
/* Opens the cache of these settings; *cache stays NULL when they turn it off. Where the device keeps no secret, the SSD tier is
 * left out with a warning, unless the settings allow a secret that lasts as long as this process. DB_E_UNSUPPORTED: they ask
 * for a guard of the secret that cannot be had, and nothing must go on without it. */
enum db_err cache_options_open(const struct cache_options *options, const char *state_dir, struct kv_cache **cache,
                               struct error *error);

#endif
