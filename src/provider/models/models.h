/* Models on this machine's disk: found, described, added, downloaded, verified (provider-node 8.4, 8.5, for GGUF files).
 *
 * One folder holds them, one sub-folder for each model, named by the id with '/' written as "--". A model folder holds its
 * files and manifest.json, which names every file with its size and SHA-256:
 *   {"schema_version":1,"model_id","version","aggregate_sha256","total_size_bytes","file_count",
 *    "files":[{"path","size_bytes","sha256","role"}],"created_at"}
 * aggregate_sha256, also called the weight hash, is SHA-256 over the raw SHA-256 digests of the files in ascending path order.
 * Functions without a loop argument block: start-up, commands and worker threads. */
#ifndef PROVIDER_MODELS_H
#define PROVIDER_MODELS_H

#include "core/error.h"
#include "core/str.h"
#include "net/http_client.h"
#include "net/loop.h"

#define MODEL_ID_SIZE   160
#define MODEL_PATH_SIZE 1024

struct model_entry {
	char id[MODEL_ID_SIZE];
	char folder[MODEL_PATH_SIZE];
	char weights[MODEL_PATH_SIZE];        /* the GGUF file */
	char chat_template[MODEL_PATH_SIZE];  /* instead of the GGUF's own: the file of role "template"; "" = none */
	char draft[MODEL_PATH_SIZE];          /* the GGUF file of role "draft"; "" = none */
	char public_prompts[MODEL_PATH_SIZE]; /* the file of role "public_prompts"; "" = none */
	char weight_hash[65];                 /* aggregate_sha256 of the manifest */
	char quantization[32];                /* from the file's name: "Q4_1"; "" = unknown */
	uint64_t size_bytes;                  /* of all files, the draft's too */
};

/* $DARKBLOOM_MODELS_DIR, else <home>/.local/share/darkbloom/models. */
void models_default_dir(char *out, size_t size);

/* Every readable model, by id. *list is one allocation: free(*list). Folders that cannot be read are skipped with a warning. */
enum db_err models_scan(const char *dir, struct model_entry **list, size_t *count, struct error *error);
enum db_err models_find(const char *dir, struct str id, struct model_entry *out, struct error *error);

/* Called while bytes are hashed or fetched; return false to stop. */
typedef bool (*models_progress)(uint64_t done_bytes, uint64_t total_bytes, void *user);

/* What a model may have beside its weights; NULL = has not. */
struct models_extras {
	const char *chat_template;  /* FILE.jinja, instead of the weights' own */
	const char *draft;          /* FILE.gguf, a smaller model with the same vocabulary */
	const char *public_prompts; /* FILE.json, an array of system prompts that are nobody's secret */
};
/* Puts a GGUF file that is on this machine under the id: links to it and to the extras (NULL = none), and a manifest; nothing
 * is copied. */
enum db_err models_add_file(const char *dir, struct str id, const char *gguf_path, const struct models_extras *extras,
                            models_progress progress, void *user, struct model_entry *out, struct error *error);
/* Hashes every file again. DB_E_INVALID with a sentence naming the file that differs. */
enum db_err models_verify(const struct model_entry *entry, models_progress progress, void *user, struct error *error);

/* Downloads what a manifest names from beside it: staged, resumed, verified, then published in one rename. What was staged of
 * a pull that failed or was cancelled is kept: the next pull of the same manifest goes on from there. */
struct models_pull;

/* What a manifest names. Texts are borrowed for the call. */
struct models_offered {
	struct str id;
	const char *weight_hash;
	uint64_t total_bytes;
};
struct models_pull_options {
	const char *dir;
	const char *manifest_url; /* http(s)://.../manifest.json */
	const char *ca_path;
	uint32_t retry_ms;        /* before the second try of a file, twice that before the third; 0 = 1,000 */
	uint32_t stall_ms;        /* a transfer without a byte for so long is broken off and resumed; 0 = 60,000 */
	uint64_t keep_free_bytes; /* of the disk, besides what is downloaded */
	models_progress progress; /* may be NULL */
	/* The manifest is known and nothing else was fetched: whether to go on. False with a sentence: `done` follows with it. May
	 * be NULL. */
	bool (*accepts)(const struct models_offered *offered, void *user, struct error *error);
	void (*on_check)(void *user); /* a file came whole and is hashed now; may be NULL */
	/* Once; entry is NULL on failure, and then error->code is DB_E_NOT_FOUND: the server lacks a file or cannot be reached;
	 * DB_E_INVALID: the manifest is wrong, or a file stays different from it; DB_E_IO: this machine's disk; DB_E_CLOSED:
	 * `progress` said stop. The client must not be freed inside it. */
	void (*done)(const struct model_entry *entry, const struct error *error, void *user);
	void *user;
};
struct models_pull *models_pull_start(struct net_loop *loop, struct http_client *client,
                                      const struct models_pull_options *options, struct error *error);
/* Where a server keeps the manifest of a model: <base>/<the folder's name>/manifest.json, so that a models folder served as it
 * is will do. DB_E_INVALID, DB_E_LIMIT. */
enum db_err models_manifest_url(const char *base, struct str id, char *out, size_t size, struct error *error);
void models_pull_cancel(struct models_pull *pull); /* done is not called */

#endif
