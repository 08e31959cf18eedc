/* The prefix cache of a process: states of prompts' prefixes in memory and, encrypted, on disk (inference 10-12). An engine
 * asks it before it computes a prompt and gives it what it computed. The longest match over both tiers wins by cost: reading
 * more from disk is chosen when it is quicker than computing the difference.
 *
 * Every prefix belongs to a scope, the tenant; another scope's prefixes can neither be found nor, by their timing, noticed.
 * Threads: one writes, one reads; every function here may be called from any thread, and none waits for the disk but
 * kv_cache_open, kv_cache_close, kv_model_open and kv_cache_settle. */
#ifndef PROVIDER_KV_CACHE_H
#define PROVIDER_KV_CACHE_H

#include "provider/kvcache/kv_disk.h"

struct kv_cache;
struct kv_model; /* a model that is loaded */

struct kv_cache_options {
	const char *root;      /* NULL: no SSD tier */
	const uint8_t *secret; /* KV_SECRET_BYTES; NULL: no SSD tier */
	const char *kept;      /* what guards the secret, for who asks; static text, may be NULL */
	uint64_t ram_bytes;    /* 0 = no RAM tier */
	uint64_t disk_bytes;   /* 0 = kv_disk.h's default */
	int64_t ttl_us;        /* 0 = none */
	uint32_t min_persist_tokens;
	uint32_t max_writes;       /* snapshots that wait for the disk; more drop the oldest. 0 = 2 */
	uint32_t tick_ms;          /* 0 = 1,000; every 30th looks at quota and age, every one at requests to forget */
	uint32_t stats_interval_s; /* a line in the log; 0 = none */
	bool always_read;          /* also where computing would be quicker: for tests of what was read */
	uint64_t (*free_bytes)(const char *path, void *user); /* NULL: ask the system */
	void *user;
};
struct kv_cache *kv_cache_open(const struct kv_cache_options *options, struct error *error);
/* Writes what waits to be written (for two seconds at most) and ends the threads. Every model must be closed. */
void kv_cache_close(struct kv_cache *cache);

struct kv_model_options {
	const char *model_id;
	struct kv_shape shape;        /* without a model_hash the SSD tier is not used */
	const struct kv_codec *codec; /* NULL: states cannot be cut */
};
struct kv_model *kv_model_open(struct kv_cache *cache, const struct kv_model_options *options, struct error *error);
/* Ends what is read for it: its callbacks have come when this returns. Frees its memory; its files stay. */
void kv_model_close(struct kv_model *model);

/* --- one prompt --- */

/* What a prompt can be found by; secret. */
struct kv_prompt {
	struct kv_tag tag;
	struct kv_digest *points;
	size_t count; /* grid points that leave at least one token to compute */
};
/* `scope` is in every digest: prompts of different scopes have nothing in common. `tenant` (empty: the scope) says whose key
 * seals it and by whom it is erased; a tenant may have several scopes. DB_E_NOT_FOUND: it is too short to be kept. */
enum db_err kv_prompt_make(const struct kv_model *model, struct str tenant, struct str scope, const int32_t *tokens,
                           size_t count, struct kv_prompt *out);
void kv_prompt_free(struct kv_prompt *prompt); /* wipes */

/* What the engine has measured, for the choice between reading and computing. */
void kv_model_prefilled(struct kv_model *model, uint64_t tokens, uint64_t us);
void kv_model_uploaded(struct kv_model *model, uint64_t bytes, uint64_t us);
/* While it is true, writing to disk takes a small part of a processor only. */
void kv_model_busy(struct kv_model *model, bool busy);

struct kv_fetch; /* a read that is under way */
/* Starts to read the prefix from disk into memory when that pays; NULL otherwise. `done` is called once, on another thread,
 * unless kv_fetch_end came first. */
struct kv_fetch *kv_fetch_begin(struct kv_model *model, const struct kv_prompt *prompt, void (*done)(void *user), void *user);
bool kv_fetch_done(const struct kv_fetch *fetch);
/* Exactly once for each, after kv_take. After it returns `done` is not called and not running. */
void kv_fetch_end(struct kv_fetch *fetch);

/* A state that was found. */
struct kv_taken {
	struct kv_blob *state; /* the caller's; NULL: nothing was found */
	size_t tokens;         /* of the prompt */
	size_t state_tokens;   /* of the state, which can be cut when they differ */
	bool from_disk;
};
/* The longest prefix that is in memory or was fetched (`fetch` may be NULL). Counts the look-up: once for each prompt. */
void kv_take(struct kv_model *model, const struct kv_prompt *prompt, const struct kv_fetch *fetch, struct kv_taken *out);
/* What kv_take gave could not be used: it is removed from memory. */
void kv_reject(struct kv_model *model, const struct kv_prompt *prompt, const struct kv_taken *taken);
/* It was used; `us` went by until the sequence had it. */
void kv_restored(struct kv_model *model, const struct kv_taken *taken, uint64_t us);
/* Is it worth taking the state of this many tokens? */
bool kv_wants(struct kv_model *model, const struct kv_prompt *prompt, size_t tokens);
/* Keeps the state of the prompt's first `tokens` tokens. `parent_tokens`: the prefix that it was computed from, 0 = none.
 * `persist`: on disk too. The blob stays the caller's to release. */
void kv_store(struct kv_model *model, const struct kv_prompt *prompt, size_t tokens, size_t parent_tokens,
              struct kv_blob *state, bool persist);

/* --- names --- */

#define KV_NAMES      64 /* prompts of a model that names are known of */
#define KV_NAMES_EACH 8
/* Names that others know the prompt by, or what it begins with, the longest first. Opaque. */
void kv_model_name(struct kv_model *model, const struct kv_prompt *prompt, const uint64_t *names, size_t count);
/* Those of prompts that are in memory to their last boundary, the latest first and each once; returns how many. */
size_t kv_model_names(struct kv_model *model, uint64_t *out, size_t max);

/* --- the whole --- */

void kv_cache_erase(struct kv_cache *cache, struct str tenant); /* everything of one tenant, in both tiers */
/* Waits until nothing is left to write or read. */
void kv_cache_settle(struct kv_cache *cache);

struct kv_stats {
	uint64_t lookups, hits_ram, hits_ssd, misses, stores, write_drops;
	uint64_t tokens_asked, tokens_saved, restore_us;
	uint64_t hits_by_size[16]; /* [i]: prefixes of 2^i * KV_GRID tokens and more */
	struct kv_ram_use ram;
	struct kv_disk_stats disk; /* all 0 without an SSD tier */
	const char *kept;          /* kv_cache_options.kept; NULL without an SSD tier */
};
void kv_cache_stats(struct kv_cache *cache, struct kv_stats *out);

#endif
